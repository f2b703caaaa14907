//! A Secret as the API server describes it.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use secrecy::{SecretSlice, zeroize::Zeroizing};
use serde::Deserialize;
use serde_json::Value;

use super::{CHANGED_AT, MANAGER};
use crate::admin::Failure;
use crate::admin::secrets::{Data, Held, Version};

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    immutable: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    fields_v1: Value,
}

/// The Secret in the body of an answer.
///
/// # Errors
/// [`Failure::Transient`] where there is none; the message repeats nothing of the body.
pub(super) fn held(body: &str) -> Result<Held, Failure> {
    let invalid = || Failure::Transient("the API server does not answer with a Secret".to_owned());
    let object: Object = serde_json::from_str(body).map_err(|_| invalid())?;
    let mut data = Data::new();
    for (key, value) in object.data {
        let value = STANDARD
            .decode(&*Zeroizing::new(value))
            .map_err(|_| invalid())?;
        data.insert(key, SecretSlice::from(value));
    }
    let metadata = object.metadata;
    let changed_at = metadata.annotations.get(CHANGED_AT);
    Ok(Held {
        data,
        changed_at: changed_at.and_then(|at| at.parse().ok()),
        created_at: metadata.creation_timestamp,
        immutable: object.immutable,
        owned: owned(&metadata.managed_fields),
        version: Version {
            uid: metadata.uid,
            resource: metadata.resource_version,
        },
    })
}

/// The keys of `data` that this program has applied.
fn owned(fields: &[ManagedFields]) -> BTreeSet<String> {
    (fields.iter())
        .filter(|entry| entry.manager == MANAGER && entry.operation == "Apply")
        .filter_map(|entry| entry.fields_v1.get("f:data")?.as_object())
        .flat_map(|data| data.keys())
        .filter_map(|key| key.strip_prefix("f:").map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_read_with_who_wrote_which_key() {
        let wrote = |manager: &str, operation: &str, keys: Value| {
            let fields = json!({ "f:data": keys });
            json!({ "manager": manager, "operation": operation, "fieldsV1": fields })
        };
        let body = json!({
            "kind": "Secret", "apiVersion": "v1", "immutable": true,
            "metadata": {
                "name": "s", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-01-31T12:00:00Z",
                "annotations": { CHANGED_AT: "2026-02-01T00:00:00Z" },
                "managedFields": [
                    wrote(MANAGER, "Apply", json!({ ".": {}, "f:A": {} })),
                    wrote("kubectl-edit", "Update", json!({ "f:B": {} })),
                    wrote(MANAGER, "Update", json!({ "f:C": {} })),
                ],
            },
            "data": { "A": "aHVudGVyMg==", "B": "" },
        });
        let held = held(&body.to_string()).unwrap();
        assert_eq!(held.text("A").unwrap().expose_secret(), "hunter2");
        assert!(held.text("B").is_none() && held.text("C").is_none());
        assert_eq!(held.owned, BTreeSet::from(["A".to_owned()]));
        assert_eq!(
            held.password_since().unwrap().to_string(),
            "2026-02-01T00:00:00Z"
        );
        assert!(held.immutable && held.version.resource == "7");
        assert!(!format!("{held:?}").contains("hunter2"));
    }

    #[test]
    fn an_answer_that_is_no_secret_is_not_repeated() {
        for body in [
            r#"{"data":{"A":"hunter2""#,
            r#"{"metadata":{"uid":"u","resourceVersion":"1"},"data":{"A":"!hunter2"}}"#,
        ] {
            let failure = held(body).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure}");
        }
    }
}
