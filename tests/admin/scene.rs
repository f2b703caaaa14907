//! What one test has to itself on the shared servers: a namespace, a ServiceAccount that may do what docs/admin.md says, an
//! authentication database and a table of users. All that the binary prints in it is kept, and searched for secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bson::{Document, doc};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use local_stack::kubernetes::{Kubernetes, KubernetesOptions};
use local_stack::{Mongo, MongoOptions, Server};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;

use crate::support::worker::{DEADLINE, binary, until};

pub const PASSWORD: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD";
pub const NEXT: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_NEXT";
pub const URI: &str = "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING";
pub const DATABASE: &str = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";
pub const SINK: &str = "workflows-sink";
pub const SINK_SECRET: &str = "workflows-sink-mongodb";
pub const OPERATOR: (&str, &str) = ("mongodb", "dyff-datastore-secrets");
/// As the operator spells them in its Secret, with the roles that it gives them.
pub const CLUSTER_USERS: [(&str, &str, &str); 5] = [
    ("BACKUP", "backup", "backup"),
    ("DATABASE_ADMIN", "databaseAdmin", "readWriteAnyDatabase"),
    ("CLUSTER_ADMIN", "clusterAdmin", "clusterAdmin"),
    ("CLUSTER_MONITOR", "clusterMonitor", "clusterMonitor"),
    ("USER_ADMIN", "userAdmin", "userAdminAnyDatabase"),
];

/// The servers that the tests share; they end with the process.
pub struct World {
    pub kubernetes: Kubernetes,
    pub mongo: Mongo,
    /// Of the operator's users.
    pub cluster_passwords: BTreeMap<String, String>,
}

static WORLD: OnceCell<World> = OnceCell::const_new();

/// The shared servers, started by the first test that asks.
pub async fn world() -> &'static World {
    WORLD
        .get_or_init(|| async {
            let auth = MongoOptions {
                auth: true,
                ..MongoOptions::default()
            };
            let (kubernetes, mongo) = tokio::join!(
                Kubernetes::start(KubernetesOptions::default()),
                Mongo::start(auth)
            );
            let (kubernetes, mongo) =
                (kubernetes.expect("an API server"), mongo.expect("a mongod"));
            let cluster_passwords = create_cluster_users(&mongo).await;
            publish_operator_secret(&kubernetes, &cluster_passwords).await;
            World {
                kubernetes,
                mongo,
                cluster_passwords,
            }
        })
        .await
}

/// Makes the operator's users in MongoDB, and returns their passwords by the operator's names.
pub async fn create_cluster_users(mongo: &Mongo) -> BTreeMap<String, String> {
    let admin = mongo.admin().await.expect("an admin").database("admin");
    let mut passwords = BTreeMap::new();
    for (key, name, role) in CLUSTER_USERS {
        let password = new_secret(name);
        let user = doc! { "createUser": name, "pwd": &password, "roles": [role] };
        admin.run_command(user).await.expect("a cluster user");
        passwords.insert(key.to_owned(), password);
    }
    passwords
}

/// Puts the operator's Secret there, as the operator would.
pub async fn publish_operator_secret(
    kubernetes: &Kubernetes,
    passwords: &BTreeMap<String, String>,
) {
    let (namespace, name) = OPERATOR;
    let mut data = serde_json::Map::new();
    for (key, user, _) in CLUSTER_USERS {
        data.insert(format!("MONGODB_{key}_USER"), user.into());
        data.insert(
            format!("MONGODB_{key}_PASSWORD"),
            passwords[key].as_str().into(),
        );
    }
    let documents = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "stringData": data }),
    ];
    for document in documents {
        kubernetes
            .apply(&document.to_string())
            .await
            .expect("the operator's Secret");
    }
}

fn new_secret(name: &str) -> String {
    format!("{name}-{:016x}", rand_u64())
}

fn rand_u64() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// A client who may do everything.
pub async fn kubernetes_admin(kubernetes: &Kubernetes) -> Client {
    client(kubernetes.admin_kubeconfig()).await
}

/// A client of a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

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

    /// With these variables besides.
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

    /// [`Scene::run`], for a command that shows a value on its standard output, and reads one from its standard input.
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

    /// Whether the sink's user is let in with this password.
    pub async fn lets_in(&self, password: &str) -> bool {
        login(&self.mongo_uri, &self.auth_database, SINK, password).await
    }

    /// The Events about the sink's Secret: type, reason, note.
    pub async fn told(&self) -> Vec<(String, String, String)> {
        let events = self
            .events
            .list(&ListParams::default())
            .await
            .expect("events");
        let told = events.items.into_iter().map(|event| {
            let note = event.note.unwrap_or_default();
            (
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                note,
            )
        });
        let told: Vec<_> = told.collect();
        for (_, _, note) in &told {
            self.keep(note);
        }
        told
    }

    /// Everything is as the table says: the one password is let in, there is no next one, the roles are the table's, and the
    /// Secret holds what the service needs.
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
        assert!(self.lets_in(&text(PASSWORD).expect("a password")).await);
        let role = format!("readWrite on {}", self.database);
        let account = self.account().await.expect("a user");
        assert_eq!(account, (vec![role], vec!["SCRAM-SHA-256".to_owned()]));
    }

    /// Starts `admin serve` with these arguments besides, for the sink's user.
    pub fn sidecar(&self, arguments: &[&str]) -> Sidecar {
        let mut server = Server::new("admin").expect("a directory");
        let binary = binary();
        let own = [
            binary.to_str().expect("UTF-8"),
            "admin",
            "serve",
            "--user",
            SINK,
        ];
        server.command([own.as_slice(), arguments].concat());
        for (name, value) in &self.environment {
            server.env(name, value);
        }
        server.start().expect("a sidecar");
        Sidecar { server }
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
        // away in some tests
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

/// Whether somebody is let in.
pub async fn login(uri: &str, source: &str, user: &str, password: &str) -> bool {
    let mut options = mongodb::options::ClientOptions::parse(uri)
        .await
        .expect("options");
    let credential = mongodb::options::Credential::builder()
        .username(user.to_owned())
        .password(password.to_owned())
        .source(source.to_owned());
    options.credential = Some(credential.build());
    let client = mongodb::Client::with_options(options).expect("a client");
    let answer = client
        .database("admin")
        .run_command(doc! { "ping": 1 })
        .await;
    match answer {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("Authentication failed"), "{text}");
            false
        }
    }
}

/// Hosts and options of a MongoDB, without a user and a database.
pub fn hosts(mongo: &Mongo) -> String {
    let hosts: Vec<String> = (0..mongo.members())
        .map(|member| mongo.host(member))
        .collect();
    format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
}

/// A namespace, and a ServiceAccount that may do in it what docs/admin.md says; its token.
async fn permit(kubernetes: &Kubernetes, namespace: &str) -> String {
    let names = [SINK_SECRET, "query-backend-mongodb", "auth-backend-mongodb"];
    let metadata = |name: &str| json!({ "name": name, "namespace": namespace });
    let subject = json!([{ "kind": "ServiceAccount", "name": "admin", "namespace": namespace }]);
    let (operator_namespace, operator) = OPERATOR;
    let reads = format!("reads-{namespace}");
    let rbac = "rbac.authorization.k8s.io/v1";
    let documents = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("admin") }),
        json!({ "apiVersion": rbac, "kind": "Role", "metadata": metadata("admin"), "rules": [
            { "apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get", "patch", "create", "watch"] },
            { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"] },
        ] }),
        json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata("admin"), "subjects": subject,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "admin" } }),
        json!({ "apiVersion": rbac, "kind": "Role", "metadata": { "name": reads, "namespace": operator_namespace }, "rules": [
            { "apiGroups": [""], "resources": ["secrets"], "resourceNames": [operator], "verbs": ["get"] },
        ] }),
        json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": { "name": reads, "namespace": operator_namespace }, "subjects": subject,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": reads } }),
    ];
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": documents });
    kubernetes.apply(&list.to_string()).await.expect("a Role");
    kubernetes
        .service_account_token(namespace, "admin")
        .await
        .expect("a token")
}

/// `admin serve`.
pub struct Sidecar {
    server: Server,
}

impl Sidecar {
    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).unwrap_or_default()
    }

    /// Status and body of a GET; none while nothing listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        use std::io::Read as _;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("\"listening\""))?;
        let line: Value = serde_json::from_str(line).ok()?;
        let mut stream = std::net::TcpStream::connect(line["address"].as_str()?).ok()?;
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// A metric of the sink's user whose line holds `label`.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let start = format!("workflows_sink_admin_{name}{{");
        let line = body
            .lines()
            .find(|line| line.starts_with(&start) && line.contains(label))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until the startup probe says yes.
    pub async fn started(&self) {
        until("the sidecar has started", || async {
            self.get("/startupz")
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until its log holds `text` `times`.
    pub async fn logs(&self, text: &str, times: usize) {
        until(&format!("the sidecar logs {text:?}"), || async {
            self.log().matches(text).count() >= times
        })
        .await;
    }

    /// SIGTERM; its exit code, and all it has printed goes to the scene.
    pub async fn stop(mut self, scene: &Scene) -> Option<i32> {
        scene.hide_values().await;
        scene.keep(
            &self
                .get("/metrics")
                .map(|(_, body)| body)
                .unwrap_or_default(),
        );
        self.server
            .signal(rustix::process::Signal::TERM)
            .expect("it runs");
        let ended = self.server.wait(DEADLINE).await.expect("it ends");
        scene.keep(&self.log());
        ended.code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the sidecar's log ends:\n{}", self.server.log_tail());
        }
    }
}

/// What a directory shows, by key.
pub fn published(directory: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let visible = entries.filter_map(|entry| {
        let path: PathBuf = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.to_owned();
        (!name.starts_with('.')).then_some((name, std::fs::read_to_string(path).ok()?))
    });
    visible.collect()
}
