//! Whether the user may do what the service does, by `connectionStatus` with `showPrivileges`.
//! Pure.

use mongodb::bson::{Bson, Document};

/// What the service does to each collection; the built-in role `readWrite` allows all of it.
const ACTIONS: [&str; 5] = ["find", "insert", "update", "remove", "listIndexes"];

/// What it does to the database.
const DATABASE_ACTIONS: [&str; 2] = ["listCollections", "createCollection"];

/// What it does to the indexes of the dead letters; it works without.
const INDEX_ACTIONS: [&str; 2] = ["createIndex", "dropIndex"];

/// The most collections that a message names.
const NAMED_MAX: usize = 3;

/// What the authenticated user may not do, in words. `None` where it may do everything, and where
/// nobody is authenticated: a server without access control allows everything, and one with it will
/// refuse the next command.
pub(super) fn missing(status: &Document, database: &str, collections: &[&str]) -> Option<String> {
    let privileges = held(status)?;
    let may = |action: &str, collection: &str| may(&privileges, action, database, collection);
    let mut missing = Vec::new();
    for action in DATABASE_ACTIONS {
        if !may(action, "") {
            missing.push(format!("{action} on {database}"));
        }
    }
    for action in ACTIONS {
        let denied: Vec<&str> = collections
            .iter()
            .filter(|name| !may(action, name))
            .copied()
            .collect();
        if denied.len() > NAMED_MAX {
            missing.push(format!(
                "{action} on {} collections of {database}",
                denied.len()
            ));
        } else if !denied.is_empty() {
            missing.push(format!("{action} on {database}.{}", denied.join(", ")));
        }
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// As [`missing`], of the indexes of one collection, without which the service works.
pub(super) fn missing_for_indexes(
    status: &Document,
    database: &str,
    collection: &str,
) -> Option<String> {
    let privileges = held(status)?;
    let denied = |action: &&str| !may(&privileges, action, database, collection);
    let denied: Vec<&str> = INDEX_ACTIONS.into_iter().filter(denied).collect();
    (!denied.is_empty()).then(|| format!("{} on {database}.{collection}", denied.join(" and ")))
}

/// The privileges of the authenticated user; `None` where nobody is authenticated.
fn held(status: &Document) -> Option<Vec<&Document>> {
    let info = status.get_document("authInfo").ok()?;
    if info.get_array("authenticatedUsers").ok()?.is_empty() {
        return None;
    }
    let privileges = info.get_array("authenticatedUserPrivileges").ok()?;
    Some(privileges.iter().filter_map(Bson::as_document).collect())
}

fn may(privileges: &[&Document], action: &str, database: &str, collection: &str) -> bool {
    privileges
        .iter()
        .any(|privilege| covers(privilege, database, collection) && allows(privilege, action))
}

/// What the authenticated user may do besides what `readWrite` on `database` allows, in words; the
/// actions that every user has are left out.
pub(super) fn excess(status: &Document, database: &str) -> Vec<String> {
    const ADMINISTRATION: [&str; 7] = [
        "dropDatabase",
        "createUser",
        "grantRole",
        "changeOwnPassword",
        "enableProfiler",
        "bypassDocumentValidation",
        "anyAction",
    ];
    let info = status.get_document("authInfo").ok();
    let privileges = info.and_then(|info| info.get_array("authenticatedUserPrivileges").ok());
    let mut found: Vec<String> = Vec::new();
    for privilege in privileges
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
    {
        let Ok(resource) = privilege.get_document("resource") else {
            continue;
        };
        let writes = ["insert", "update", "remove"]
            .into_iter()
            .any(|action| allows(privilege, action));
        let place = match resource.get_str("db") {
            _ if resource.get_bool("anyResource").unwrap_or(false) => {
                Some("every resource".to_owned())
            }
            Ok("") => Some("every database".to_owned()),
            Ok(db) if db != database => Some(format!("the database {db}")),
            _ => None,
        };
        if let Some(place) = place.filter(|_| writes) {
            found.push(format!("write {place}"));
        }
        let may = ADMINISTRATION
            .into_iter()
            .filter(|action| allows(privilege, action));
        found.extend(may.map(str::to_owned));
    }
    found.sort();
    found.dedup();
    found
}

/// Whether a privilege's resource includes `collection`; "" stands for the database as a whole.
fn covers(privilege: &Document, database: &str, collection: &str) -> bool {
    let Ok(resource) = privilege.get_document("resource") else {
        return false;
    };
    if resource.get_bool("anyResource").unwrap_or(false) {
        return true;
    }
    match (resource.get_str("db"), resource.get_str("collection")) {
        (Ok(db), Ok(name)) => {
            (db.is_empty() || db == database) && (name.is_empty() || name == collection)
        }
        _ => false,
    }
}

/// Whether a privilege includes `action`.
fn allows(privilege: &Document, action: &str) -> bool {
    let actions = privilege.get_array("actions");
    actions.is_ok_and(|actions| {
        actions
            .iter()
            .any(|allowed| allowed.as_str() == Some(action))
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    const READ_WRITE: [&str; 8] = [
        "createCollection",
        "createIndex",
        "find",
        "insert",
        "listCollections",
        "listIndexes",
        "remove",
        "update",
    ];

    fn status(privileges: Vec<Document>) -> Document {
        doc! { "authInfo": {
            "authenticatedUsers": [{ "user": "workflows-sink", "db": "users" }],
            "authenticatedUserPrivileges": privileges,
        } }
    }

    #[test]
    fn read_write_is_enough() {
        for resource in [
            doc! { "db": "workflows", "collection": "" },
            doc! { "db": "", "collection": "" },
            doc! { "anyResource": true },
        ] {
            let status = status(vec![
                doc! { "resource": resource, "actions": READ_WRITE.to_vec() },
            ]);
            assert_eq!(missing(&status, "workflows", &["models"]), None);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let resource = doc! { "db": "workflows", "collection": "" };
        let read =
            doc! { "resource": &resource, "actions": ["find", "listCollections", "listIndexes"] };
        assert_eq!(
            missing(&status(vec![read.clone()]), "workflows", &["models"]).unwrap(),
            "createCollection on workflows; insert on workflows.models; \
             update on workflows.models; remove on workflows.models"
        );
        let models = doc! { "db": "workflows", "collection": "models" };
        let all = doc! { "resource": models, "actions": READ_WRITE.to_vec() };
        let create = doc! { "resource": &resource, "actions": ["createCollection"] };
        let text = missing(
            &status(vec![read, all, create]),
            "workflows",
            &["models", "a", "b", "c", "d"],
        )
        .unwrap();
        assert!(
            text.starts_with("insert on 4 collections of workflows; "),
            "{text}"
        );
        let other = doc! { "db": "other", "collection": "" };
        let elsewhere = doc! { "resource": other, "actions": READ_WRITE.to_vec() };
        assert!(missing(&status(vec![elsewhere]), "workflows", &["models"]).is_some());
        assert!(missing(&status(vec![]), "workflows", &["models"]).is_some());
    }

    #[test]
    fn indexes_that_may_not_be_made_are_no_reason_not_to_work() {
        let own = |actions: &[&str]| {
            let resource = doc! { "db": "workflows", "collection": "" };
            status(vec![
                doc! { "resource": resource, "actions": actions.to_vec() },
            ])
        };
        let without = own(&["find", "insert", "update", "remove", "createIndex"]);
        let told = missing_for_indexes(&without, "workflows", "letters");
        assert_eq!(told.as_deref(), Some("dropIndex on workflows.letters"));
        let both = own(&["createIndex", "dropIndex"]);
        assert_eq!(missing_for_indexes(&both, "workflows", "letters"), None);
    }

    #[test]
    fn what_is_more_than_read_write_is_named() {
        let own = doc! { "db": "workflows", "collection": "" };
        let other = doc! { "db": "accounts", "collection": "" };
        let of = |resource: Document, actions: &[&str]| {
            doc! { "resource": resource, "actions": actions.to_vec() }
        };
        let enough = status(vec![of(own.clone(), &READ_WRITE)]);
        assert_eq!(excess(&enough, "workflows"), [""; 0]);
        let more = status(vec![
            of(own, &["find", "dropDatabase"]),
            of(other, &["find", "insert"]),
            of(doc! { "anyResource": true }, &["anyAction", "update"]),
        ]);
        assert_eq!(
            excess(&more, "workflows"),
            [
                "anyAction",
                "dropDatabase",
                "write every resource",
                "write the database accounts"
            ]
        );
    }

    #[test]
    fn without_access_control_nothing_is_missing() {
        let status =
            doc! { "authInfo": { "authenticatedUsers": [], "authenticatedUserPrivileges": [] } };
        assert_eq!(missing(&status, "workflows", &["models"]), None);
    }
}
