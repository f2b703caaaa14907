//! Secrets in a cluster: read by name, written by server-side apply, watched by name. A Role with
//! `resourceNames` allows all of that.
//!
//! Facts that this rests on, each seen on an API server: an apply with a stale `resourceVersion` is
//! refused with 409 even when forced; with a `resourceVersion` alone an absent object is created,
//! with `uid` too it is not; an apply removes the keys that its manager wrote before and now leaves
//! out, unless another manager wrote them too.

mod object;

use std::{env, fmt, pin::pin, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client, Config, Error,
    api::{GetParams, Patch, PatchParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, KubeconfigError},
    core::Request,
};
use secrecy::{ExposeSecret as _, SecretSlice, zeroize::Zeroizing};
use serde_json::{Value, json};

use self::object::held;
use super::{Change, Data, Held, Version};
use crate::admin::table::SecretName;
use crate::admin::{ANSWER_DEADLINE, CONNECT_DEADLINE, Failure};

/// The field manager, and who Events are from.
pub const MANAGER: &str = "workflows-sink-admin";

/// When this program last changed the password.
const CHANGED_AT: &str = "workflows-sink-admin/password-changed-at";

/// No object ever has it: with it an apply creates an object, or is refused.
const VERSION_OF_NOTHING: &str = "1";

/// Values that are not text.
const NO_TEXT: &[u8] = &[0xff];
const NO_TEXT_EITHER: &[u8] = &[0xfe];

/// The API server takes notes of 1024 bytes; what is noted is ASCII but for a name here and there.
const NOTE_CHARS_MAX: usize = 900;

/// How long a watch lasts before the next begins, in seconds.
const WATCH_SECONDS: u32 = 240;
/// The status for a watch from a version that the server no longer knows: after its restart, that
/// of each object that was not written since.
const GONE: u16 = 410;
/// A watch from it begins with what there is.
const ANY_VERSION: &str = "0";
/// Between a watch that failed and the next.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The API server, and the namespace of Secrets that name none.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    namespace: String,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Kubernetes({})", self.namespace)
    }
}

fn version(held: &Option<Held>) -> Option<&str> {
    held.as_ref().map(|held| held.version.resource.as_str())
}

/// What is wrong with a kubeconfig. What parses it quotes the lines around a fault, and these may
/// hold a token.
fn without_excerpt(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let line = error.location().map_or(0, |location| location.line());
            format!("the kubeconfig is not the YAML that is expected, at line {line}")
        }
        KubeconfigError::ReadConfig(error, path) => {
            format!("the kubeconfig {} cannot be read: {error}", path.display())
        }
        other => other.to_string(),
    }
}

impl Kubernetes {
    /// By `KUBECONFIG`, else as the pod's ServiceAccount, else by the kubeconfig of the home
    /// directory. Opens no connection.
    ///
    /// # Errors
    /// [`Failure::Permanent`] where none of them can be read.
    pub async fn new(namespace: Option<&str>) -> Result<Kubernetes, Failure> {
        let in_pod =
            env::var_os("KUBECONFIG").is_none() && env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let permanent = |why: String| Failure::Permanent(format!("no access to Kubernetes: {why}"));
        let mut config = match in_pod {
            true => Config::incluster().map_err(|error| permanent(error.to_string()))?,
            false => Config::from_kubeconfig(&KubeConfigOptions::default())
                .await
                .map_err(|error| {
                    let error = without_excerpt(&error);
                    permanent(format!(
                        "{error}; set KUBECONFIG, or work on files with --secrets-dir"
                    ))
                })?,
        };
        config.connect_timeout = Some(CONNECT_DEADLINE);
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config).map_err(|error| permanent(error.to_string()))?;
        Ok(Kubernetes { client, namespace })
    }

    /// The namespace of a Secret.
    pub fn namespace<'a>(&'a self, name: &'a SecretName) -> &'a str {
        name.namespace.as_deref().unwrap_or(&self.namespace)
    }

    pub(super) async fn get(&self, name: &SecretName) -> Result<Option<Held>, Failure> {
        let request = self.secrets(name).get(&name.name, &GetParams::default());
        match self.ask(request).await {
            Ok(body) => Ok(Some(held(&body)?)),
            Err(Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }

    pub(super) async fn apply(
        &self,
        name: &SecretName,
        held: Option<&Held>,
        change: Change,
    ) -> Result<(), Failure> {
        let mut data = Data::new();
        if let Some(held) = held {
            let ours = held
                .data
                .iter()
                .filter(|(key, _)| held.owned.contains(*key));
            data.extend(ours.map(|(key, value)| (key.clone(), value.clone())));
        }
        data.retain(|key, _| !change.remove.contains(key));
        data.extend(change.set);
        let at = (change.changed_at).or(held.and_then(|held| held.changed_at));
        let version = held.map(|held| &held.version);
        let after = self.send(name, &data, at, version).await?;

        // a key that another manager wrote too outlives this apply: another value makes it ours
        // alone
        let left: Vec<&String> = (change.remove.iter())
            .filter(|key| after.data.contains_key(*key))
            .collect();
        if !left.is_empty() {
            let mut emptied = data.clone();
            for key in left {
                let found = after.data[key].expose_secret();
                let other = if found == NO_TEXT {
                    NO_TEXT_EITHER
                } else {
                    NO_TEXT
                };
                emptied.insert(key.clone(), SecretSlice::from(other.to_vec()));
            }
            let after = self.send(name, &emptied, at, Some(&after.version)).await?;
            self.send(name, &data, at, Some(&after.version)).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        name: &SecretName,
        data: &Data,
        changed_at: Option<Timestamp>,
        version: Option<&Version>,
    ) -> Result<Held, Failure> {
        let values = (data.iter())
            .map(|(key, value)| (key.clone(), STANDARD.encode(value.expose_secret()).into()))
            .collect::<serde_json::Map<String, Value>>();
        let mut metadata = json!({
            "name": name.name,
            "namespace": self.namespace(name),
            "labels": { "app.kubernetes.io/managed-by": MANAGER },
            "resourceVersion": version.map_or(VERSION_OF_NOTHING, |version| &version.resource),
        });
        if let Some(version) = version {
            metadata["uid"] = version.uid.as_str().into();
        }
        if let Some(at) = changed_at {
            metadata["annotations"] = json!({ CHANGED_AT: at.to_string() });
        }
        let object =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": values });
        // forced: by the version, what is overwritten was seen
        let params = PatchParams::apply(MANAGER).force();
        let request = (self.secrets(name)).patch(&name.name, &params, &Patch::Apply(object));
        let body = self.ask(request).await.map_err(|error| failure(&error))?;
        held(&body)
    }

    pub(super) async fn changed(&self, name: &SecretName, seen: Option<&Version>) {
        let selector = format!("metadata.name={}", name.name);
        let params = WatchParams::default()
            .fields(&selector)
            .timeout(WATCH_SECONDS);
        let seen = seen.map(|version| version.resource.as_str());
        let mut from = seen.unwrap_or(ANY_VERSION);
        let namespace = self.namespace(name);
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(self.client.clone(), namespace);
        loop {
            match secrets.watch_metadata(&params, from).await {
                Ok(events) => {
                    let mut events = pin!(events);
                    while let Some(Ok(event)) = events.next().await {
                        match event {
                            WatchEvent::Bookmark(_) => {}
                            WatchEvent::Added(found) | WatchEvent::Modified(found)
                                if found.metadata.resource_version.as_deref() == seen => {}
                            WatchEvent::Error(status) => {
                                if status.code == GONE {
                                    from = ANY_VERSION;
                                }
                                break;
                            }
                            _ => return,
                        }
                    }
                }
                Err(Error::Api(status)) if status.code == GONE => from = ANY_VERSION,
                Err(error) => {
                    let why = failure(&error).to_string();
                    tracing::debug!(secret = %name, why, "the Secret cannot be watched; polling it instead");
                }
            }
            tokio::time::sleep(WATCH_AGAIN_AFTER).await;
            // A watch from any version tells nothing of a Secret that has gone.
            if from == ANY_VERSION
                && self
                    .get(name)
                    .await
                    .is_ok_and(|held| version(&held) != seen)
            {
                return;
            }
        }
    }

    /// Creates an Event about the Secret, for `kubectl events --for`.
    ///
    /// # Errors
    /// The API server's; nothing else depends on the Event.
    pub async fn event(
        &self,
        name: &SecretName,
        warning: bool,
        reason: &str,
        action: &str,
        note: &str,
    ) -> Result<(), Failure> {
        let namespace = self.namespace(name);
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "generateName": format!("{}-", name.name), "namespace": namespace },
            "eventTime": format!("{:.6}", Timestamp::now()),
            "reportingController": MANAGER,
            "reportingInstance": env::var("HOSTNAME").unwrap_or_else(|_| MANAGER.to_owned()),
            "type": if warning { "Warning" } else { "Normal" },
            "reason": reason,
            "action": action,
            "note": note.chars().take(NOTE_CHARS_MAX).collect::<String>(),
            "regarding": {
                "apiVersion": "v1", "kind": "Secret", "name": name.name, "namespace": namespace,
            },
        });
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let body = serde_json::to_vec(&event).expect("it is a JSON value");
        let request = Request::new(path).create(&Default::default(), body);
        (self.ask(request).await).map_or_else(|error| Err(failure(&error)), |_| Ok(()))
    }

    fn secrets(&self, name: &SecretName) -> Request {
        let namespace = self.namespace(name);
        Request::new(format!("/api/v1/namespaces/{namespace}/secrets"))
    }

    /// The body of the answer, as text: the client would log one that it cannot parse.
    async fn ask(
        &self,
        request: Result<axum::http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Zeroizing<String>, Error> {
        let request = request.map_err(Error::BuildRequest)?;
        match tokio::time::timeout(ANSWER_DEADLINE, self.client.request_text(request)).await {
            Ok(body) => body.map(Zeroizing::new),
            Err(_) => {
                let late = format!("no answer within {} s", ANSWER_DEADLINE.as_secs());
                Err(Error::Service(late.into()))
            }
        }
    }
}

/// What an error of the API means. The server's message quotes no value.
fn failure(error: &Error) -> Failure {
    let Error::Api(status) = error else {
        let why = match error {
            Error::SerdeError(_) => "its answer is invalid".to_owned(),
            other => chain(other),
        };
        return Failure::Transient(format!("the API server does not answer: {why}"));
    };
    let text = format!("the API server says: {}", status.message);
    match status.code {
        409 => Failure::Conflict,
        403 => Failure::Permanent(format!(
            "{text} (docs/admin.md has the Role that is needed)"
        )),
        400 | 404 | 405 | 413 | 415 | 422 => Failure::Permanent(text),
        _ => Failure::Transient(text),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
