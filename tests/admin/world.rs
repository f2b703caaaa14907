//! The servers that the tests share, with what the operator of MongoDB makes there.

use std::collections::BTreeMap;
use std::path::Path;

use bson::doc;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use local_stack::kubernetes::{Kubernetes, KubernetesOptions};
use local_stack::{Mongo, MongoOptions};
use serde_json::json;
use test_support::datastore::{SYSTEM_SECRET, create_system_users, publish_system_secret};
use tokio::sync::OnceCell;

use crate::scene::SINK_SECRET;

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
            let cluster_passwords = create_system_users(&mongo).await;
            publish_system_secret(&kubernetes, &cluster_passwords).await;
            World {
                kubernetes,
                mongo,
                cluster_passwords,
            }
        })
        .await
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

/// A namespace, and a ServiceAccount that may do in it what docs/admin.md says; its token.
pub async fn permit(kubernetes: &Kubernetes, namespace: &str) -> String {
    let names = [SINK_SECRET, "query-backend-mongodb", "auth-backend-mongodb"];
    let metadata = |name: &str| json!({ "name": name, "namespace": namespace });
    let subject = json!([{ "kind": "ServiceAccount", "name": "admin", "namespace": namespace }]);
    let (operator_namespace, operator) = SYSTEM_SECRET;
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

/// Whether somebody is authenticated.
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
