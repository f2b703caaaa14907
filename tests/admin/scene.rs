//! What one test has to itself on the shared servers: a namespace, a ServiceAccount that may do
//! what docs/admin.md says, an authentication database and a table of users. All that the binary
//! prints in it is kept, and searched for secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bson::{Document, doc};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use local_stack::Mongo;
use local_stack::kubernetes::Kubernetes;
use serde_json::{Value, json};
pub use test_support::credentials::{PASSWORD, PASSWORD_NEXT as NEXT};
pub use test_support::scene::CONNECTION_STRING as URI;
use test_support::wait::DEADLINE;
use test_support::worker::binary;
use tokio::io::AsyncWriteExt as _;

use crate::world::{hosts, kubernetes_admin, login, permit, world};

pub const DATABASE: &str = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";
pub const SINK: &str = "workflows-sink";
pub const SINK_SECRET: &str = "workflows-sink-mongodb";
/// The command that rotates the sink's password.
pub const ROTATE: [&str; 3] = ["rotate", "--user", SINK];

/// What one test has to itself.
pub struct Scene {
    pub directory: tempfile::TempDir,
    pub namespace: String,
    pub auth_database: String,
    pub database: String,
    pub environment: BTreeMap<String, String>,
    pub mongo_admin: mongodb::Client,
    /// Hosts and options, without a user.
    pub mongo_uri: String,
    pub secrets: Api<Secret>,
    pub events: Api<Event>,
    /// What the binary printed, and the values that must not be in there.
    printed: Mutex<String>,
    values: Mutex<BTreeSet<String>>,
}

impl Scene {
    /// On the shared servers.
    pub async fn new(name: &str) -> Scene {
        let world = world().await;
        let scene = Scene::on(name, &world.kubernetes, &world.mongo).await;
        scene.hide(world.cluster_passwords.values().cloned());
        scene
    }

    /// On servers of the test's own, whose operator's Secret is there.
    pub async fn on(name: &str, kubernetes: &Kubernetes, mongo: &Mongo) -> Scene {
        let namespace = format!("test-{}", name.replace('_', "-"));
        let token = permit(kubernetes, &namespace).await;
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = directory.path().join("kubeconfig");
        let text = kubernetes.kubeconfig(&token, &namespace);
        std::fs::write(&kubeconfig, text).expect("a kubeconfig");
        let admin = kubernetes_admin(kubernetes).await;
        let scene = Scene {
            namespace: namespace.clone(),
            auth_database: format!("users_{name}"),
            database: format!("workflows_{name}"),
            environment: BTreeMap::new(),
            mongo_admin: mongo.admin().await.expect("an admin"),
            mongo_uri: hosts(mongo),
            secrets: Api::namespaced(admin.clone(), &namespace),
            events: Api::namespaced(admin, &namespace),
            printed: Mutex::default(),
            values: Mutex::default(),
            directory,
        };
        scene.hide([token]);
        let users_file = scene.directory.path().join("users.toml");
        std::fs::write(&users_file, scene.table()).expect("a table");
        scene.with(&[
            ("KUBECONFIG", &kubeconfig.to_string_lossy()),
            (
                "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
                &hosts(mongo),
            ),
            (
                "DYFF_WORKFLOWS_SINK_ADMIN__USERS_FILE",
                &users_file.to_string_lossy(),
            ),
            ("DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS", "127.0.0.1:0"),
            ("DYFF_WORKFLOWS_SINK__LOG_FORMAT", "json"),
            ("DYFF_WORKFLOWS_SINK__LOG_FILTER", "debug"),
        ])
    }

    /// The shipped table, in databases of this scene's own.
    fn table(&self) -> String {
        let shipped = include_str!("../../config/users.toml");
        let own = shipped
            .replace("\"users\"", &format!("{:?}", self.auth_database))
            .replace("db = \"workflows\"", &format!("db = {:?}", self.database))
            .replace(
                "db = \"accounts\"",
                &format!("db = \"{}_accounts\"", self.database),
            );
        assert_ne!(own, shipped);
        own
    }

    /// `host:port` of the one mongod.
    pub fn host(&self) -> String {
        let (_, rest) = self.mongo_uri.split_once("://").expect("a URI");
        rest.split("/?").next().expect("a host").to_owned()
    }

    /// With these variables as well.
    pub fn with(mut self, changes: &[(&str, &str)]) -> Scene {
        let changes = changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment.extend(changes);
        self
    }

    /// Runs `admin …` to its end: exit code, standard output, standard error.
    pub async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let (code, out, error) = self.run_with(arguments, "").await;
        self.keep(&out);
        (code, out, error)
    }

    /// [`Scene::run`], for a command that shows a value on its standard output, and reads one from
    /// its standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = tokio::process::Command::new(binary())
            .arg("admin")
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the command starts");
        let mut stdin = child.stdin.take().expect("a standard input");
        // one that reads nothing may have closed it
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(2 * DEADLINE, child.wait_with_output()).await;
        let output = ended.expect("the command ends").expect("its output");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        self.keep(&error);
        self.hide_values().await;
        (output.status.code(), out, error)
    }

    /// [`Scene::run`] that must succeed; its standard output.
    pub async fn done(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {out}\n{error}");
        out
    }

    /// [`Scene::done`] with `--json`.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let out = self.done(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&out).expect("JSON")
    }

    /// The names of the steps that `admin provision` takes for the sink's user.
    pub async fn provision(&self) -> Vec<String> {
        names(&self.json(&["provision", "--user", SINK]).await[0])
    }

    /// A Secret, if it is there.
    pub async fn secret(&self, name: &str) -> Option<Secret> {
        self.secrets.get_opt(name).await.expect("an answer")
    }

    /// A value of the sink's Secret.
    pub async fn value(&self, key: &str) -> Option<String> {
        let secret = self.secret(SINK_SECRET).await?;
        let value = secret.data?.remove(key)?.0;
        Some(String::from_utf8(value).expect("a text"))
    }

    /// The sink's password.
    pub async fn password(&self) -> String {
        self.value(PASSWORD).await.expect("a password")
    }

    /// `resourceVersion` of the sink's Secret.
    pub async fn version(&self) -> String {
        let secret = self.secret(SINK_SECRET).await.expect("a Secret");
        secret.metadata.resource_version.expect("a version")
    }

    /// Changes the sink's Secret as a person does; null removes.
    pub async fn edit(&self, patch: Value) {
        let params = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        let patched = self
            .secrets
            .patch(SINK_SECRET, &params, &Patch::Merge(patch))
            .await;
        patched.expect("an edited Secret");
        self.hide_values().await;
    }

    /// Makes the sink's Secret as a person does.
    pub async fn create_secret(&self, data: &[(&str, &str)]) {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let secret = json!({ "metadata": { "name": SINK_SECRET }, "stringData": data });
        let secret = serde_json::from_value(secret).expect("a Secret");
        self.secrets
            .create(&Default::default(), &secret)
            .await
            .expect("created");
        self.hide_values().await;
    }

    /// Deletes the sink's Secret.
    pub async fn delete_secret(&self) {
        let deleted = self
            .secrets
            .delete(SINK_SECRET, &DeleteParams::default())
            .await;
        deleted.expect("deleted");
    }

    /// A command to the database of the users, as an administrator.
    pub async fn users(&self, command: Document) -> Document {
        let database = self.mongo_admin.database(&self.auth_database);
        database.run_command(command).await.expect("done")
    }

    /// What MongoDB knows of the sink's user: its roles, as texts, and its mechanisms.
    pub async fn account(&self) -> Option<(Vec<String>, Vec<String>)> {
        let answer = self.users(doc! { "usersInfo": SINK }).await;
        let user = answer
            .get_array("users")
            .expect("users")
            .first()?
            .as_document()?
            .clone();
        let roles = user.get_array("roles").expect("roles").iter().map(|role| {
            let role = role.as_document().expect("a role");
            format!(
                "{} on {}",
                role.get_str("role").unwrap(),
                role.get_str("db").unwrap()
            )
        });
        let mut roles: Vec<String> = roles.collect();
        roles.sort();
        let mechanisms = user.get_array("mechanisms").expect("mechanisms").iter();
        let mechanisms = mechanisms.map(|name| name.as_str().unwrap().to_owned());
        Some((roles, mechanisms.collect()))
    }

    /// Whether the sink's user is authenticated with this password.
    pub async fn authenticates(&self, password: &str) -> bool {
        login(&self.mongo_uri, &self.auth_database, SINK, password).await
    }

    /// The Events about the sink's Secret: type, reason, note.
    pub async fn events(&self) -> Vec<(String, String, String)> {
        let events = self
            .events
            .list(&ListParams::default())
            .await
            .expect("events");
        let shown = events.items.into_iter().map(|event| {
            let note = event.note.unwrap_or_default();
            (
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                note,
            )
        });
        let shown: Vec<_> = shown.collect();
        for (_, _, note) in &shown {
            self.keep(note);
        }
        shown
    }

    /// A rotation in its three steps, after which all is right.
    pub async fn rotate(&self) {
        let report = self.json(&ROTATE).await;
        let steps = report["steps"].as_array().expect("steps");
        assert_eq!(
            steps,
            &["PasswordStaged", "PasswordChanged", "PasswordPromoted"]
        );
        self.is_right().await;
    }

    /// Everything is as the table says: the one password is accepted, there is no next one, the
    /// roles are the table's, and the Secret holds what the service needs.
    pub async fn is_right(&self) {
        let secret = self.secret(SINK_SECRET).await.expect("a Secret");
        let data = secret.data.expect("data");
        let text = |key: &str| {
            data.get(key)
                .map(|value| String::from_utf8(value.0.clone()).unwrap())
        };
        assert!(!data.contains_key(NEXT), "a rotation was left");
        assert_eq!(text(DATABASE).as_deref(), Some(self.database.as_str()));
        let uri = text(URI).expect("a connection string");
        let (hosts, source) = (self.mongo_uri.clone(), &self.auth_database);
        let after = hosts
            .split_once("://")
            .unwrap()
            .1
            .replace("/?", &format!("/{}?", self.database));
        assert_eq!(uri, format!("mongodb://{SINK}@{after}&authSource={source}"));
        assert!(
            self.authenticates(&text(PASSWORD).expect("a password"))
                .await
        );
        let role = format!("readWrite on {}", self.database);
        let account = self.account().await.expect("a user");
        assert_eq!(account, (vec![role], vec!["SCRAM-SHA-256".to_owned()]));
    }

    /// What `text` says must hold no secret.
    pub fn keep(&self, text: &str) {
        self.printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(text);
    }

    /// These must not be printed.
    pub fn hide(&self, values: impl IntoIterator<Item = String>) {
        self.values
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(values);
    }

    /// What the Secrets hold now must not be printed.
    pub async fn hide_values(&self) {
        // unavailable in some tests
        let Ok(secrets) = self.secrets.list(&ListParams::default()).await else {
            return;
        };
        for secret in secrets {
            for (key, value) in secret.data.unwrap_or_default() {
                // neither is secret, and both are in arguments and names
                if key != DATABASE && key != URI {
                    self.hide(String::from_utf8(value.0));
                }
            }
        }
    }
}

impl Drop for Scene {
    /// No secret was printed, neither as it is nor in base64.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!values.is_empty());
        for value in values.iter().filter(|value| value.len() >= 8) {
            let forms = [
                value.clone(),
                STANDARD.encode(value),
                URL_SAFE.encode(value),
            ];
            for form in forms {
                assert!(!printed.contains(&form), "a secret was printed:\n{printed}");
            }
        }
    }
}

/// The names of the steps of one user's JSON.
pub fn names(user: &Value) -> Vec<String> {
    assert_eq!(user["failure"], Value::Null);
    let steps = user["steps"].as_array().expect("steps").iter();
    steps
        .map(|step| step["step"].as_str().expect("a name").to_owned())
        .collect()
}
