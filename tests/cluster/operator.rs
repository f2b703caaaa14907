//! The real MongoDB operator takes the cluster that `deploy/mongodb` ships, with its own rights, and
//! makes what the service relies on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_stack::{Kubernetes, KubernetesOptions, Mongo, MongoOptions, PerconaOperator, percona};
use mongodb::Client;
use mongodb::options::{ClientOptions, Credential};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::datastore::{
    self, SYSTEM_SECRET, SYSTEM_USERS, create_system_users_with, create_user_admin,
};
use test_support::worker::run;

const NAMESPACE: &str = "mongodb";
const OPERATOR: &str = "percona-server-mongodb-operator";
/// The one replica set, by the name that its objects have.
const SET: &str = "dyff-datastore-rs0";
const USER_ADMIN: &str = "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER";
const URI: &str = "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING";
const OPERATOR_SECRET: &str = "DYFF_WORKFLOWS_SINK_ADMIN__OPERATOR_SECRET";

fn deploy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"))
}

/// Applies a folder as docs/kubernetes.md says.
async fn apply(kubernetes: &Kubernetes, folder: &Path) {
    let folder = folder.to_str().expect("UTF-8");
    let apply = ["apply", "--server-side", "--force-conflicts", "-k", folder];
    kubernetes.kubectl(&apply, None).await.expect("applied");
}

/// The operator's kinds and rights, and a pod that it takes itself for: nothing runs Deployments.
async fn start_operator(kubernetes: &Kubernetes) -> PerconaOperator {
    let folder = TempDir::new().expect("a folder");
    for file in ["kustomization.yaml", "namespace.yaml"] {
        let from = deploy().join("mongodb/operator").join(file);
        fs::copy(from, folder.path().join(file)).expect("copied");
    }
    let bundle = tokio::task::spawn_blocking(percona::bundle).await;
    let bundle = bundle.expect("no panic").expect("the operator's bundle");
    fs::copy(bundle, folder.path().join("bundle.yaml")).expect("copied");
    apply(kubernetes, folder.path()).await;
    kubernetes.kinds_known().await.expect("known");
    let get = [
        "get",
        "--namespace",
        NAMESPACE,
        "--output",
        "json",
        "deployment",
        OPERATOR,
    ];
    let deployment = kubernetes.kubectl(&get, None).await.expect("applied");
    let deployment: Value = serde_json::from_str(&deployment).expect("JSON");
    let pod = pod_of(&deployment, OPERATOR);
    kubernetes.apply(&pod.to_string()).await.expect("a pod");
    let token = kubernetes.service_account_token(NAMESPACE, OPERATOR).await;
    let kubeconfig = kubernetes.kubeconfig(&token.expect("a token"), NAMESPACE);
    let operator = PerconaOperator::start(NAMESPACE, OPERATOR, &kubeconfig).await;
    operator.expect("the operator")
}

/// The pod that a Deployment or StatefulSet would make.
fn pod_of(owner: &Value, name: &str) -> Value {
    let template = &owner["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
        "spec": template["spec"],
    });
    let claims = owner["spec"]["volumeClaimTemplates"].as_array();
    let volumes = claims.into_iter().flatten().map(|claim| {
        let name = &claim["metadata"]["name"];
        json!({ "name": name, "persistentVolumeClaim": { "claimName": name } })
    });
    if let Some(own) = pod["spec"]["volumes"].as_array_mut() {
        own.extend(volumes);
    }
    pod
}

/// The members as they are shipped: under the restricted Pod Security Standard, with the cluster's
/// ServiceAccount, in reach of its policies.
async fn members_are_as_shipped(kubernetes: &Kubernetes, set: &Value) {
    let cluster = datastore::cluster();
    let shipped = &cluster["spec"]["replsets"][0];
    let spec = &set["spec"];
    assert_eq!(spec["replicas"], shipped["size"]);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], shipped["serviceAccountName"]);
    let volume = &spec["volumeClaimTemplates"][0]["spec"]["resources"];
    assert_eq!(
        volume,
        &shipped["volumeSpec"]["persistentVolumeClaim"]["resources"]
    );
    let containers = pod["containers"].as_array().expect("containers");
    let images: Vec<&Value> = containers.iter().map(|of| &of["image"]).collect();
    assert_eq!(
        images,
        [
            &cluster["spec"]["image"],
            &cluster["spec"]["backup"]["image"]
        ]
    );
    let arguments = containers[0]["args"].as_array().expect("arguments");
    assert!(arguments.contains(&json!("--tlsMode=preferTLS")));

    // Each policy and each rule of spreading that is to hold them selects them.
    let labels = &spec["template"]["metadata"]["labels"];
    let selects = |selector: &Value| {
        let wanted = selector["matchLabels"].as_object().expect("labels");
        wanted.iter().all(|(name, value)| labels[name] == *value)
    };
    assert!(selects(
        &pod["topologySpreadConstraints"][0]["labelSelector"]
    ));
    let policies = fs::read_to_string(deploy().join("mongodb/cluster/network.yaml"));
    let policies: Vec<Value> =
        serde_saphyr::from_multiple(&policies.expect("a file")).expect("YAML");
    assert!(selects(&policies[0]["spec"]["podSelector"]));

    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", NAMESPACE, enforce];
    kubernetes.kubectl(&label, None).await.expect("labelled");
    let create = ["create", "--dry-run=server", "--filename=-"];
    let member = pod_of(set, "member").to_string();
    let created = kubernetes.kubectl(&create, Some(&member)).await;
    created.expect("restricted pods");
}

/// The service's address is that of the cluster, by an SRV record of its headless Service.
async fn has_the_address_that_is_shipped(kubernetes: &Kubernetes, operator: &mut PerconaOperator) {
    let settings = settings();
    let host = settings[URI]
        .strip_prefix("mongodb+srv://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URI")
        .0;
    let wait = [
        "wait",
        &format!("--for=jsonpath={{.status.host}}={host}"),
        "--timeout=60s",
        "--namespace",
        NAMESPACE,
        "psmdb/dyff-datastore",
    ];
    let waited = kubernetes.kubectl(&wait, None).await;
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", operator.log_tail()));
    assert_eq!(host, format!("{SET}.{NAMESPACE}.svc.cluster.local"));
    let service = made(kubernetes, operator, &["service", SET]).await;
    assert_eq!(service["spec"]["clusterIP"], "None");
    let port = &service["spec"]["ports"][0];
    assert_eq!(
        (&port["name"], &port["port"]),
        (&json!("mongodb"), &json!(27017))
    );
}

/// The settings of the shipped component.
fn settings() -> BTreeMap<String, String> {
    let file = deploy().join("kubernetes/components/servers/settings.env");
    let text = fs::read_to_string(file).expect("settings");
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn made(kubernetes: &Kubernetes, operator: &mut PerconaOperator, what: &[&str]) -> Value {
    let what = [&["--namespace", NAMESPACE], what].concat();
    operator.made(kubernetes, &what).await.expect("made")
}

/// The values of a Secret.
fn values(secret: &Value) -> BTreeMap<String, String> {
    let data = secret["data"].as_object().expect("data").iter();
    data.map(|(key, value)| {
        let value = STANDARD.decode(value.as_str().expect("base64"));
        let value = String::from_utf8(value.expect("base64"));
        (key.clone(), value.expect("UTF-8"))
    })
    .collect()
}

/// A MongoDB whose system users have the passwords of the operator's Secret. The user admin among
/// them makes the small one, as the operator does once its pods run.
async fn mongodb(kubernetes: &Kubernetes, system: &BTreeMap<String, String>) -> Mongo {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.expect("a mongod");
    let passwords = SYSTEM_USERS.map(|(key, name, _)| {
        assert_eq!(system[&format!("MONGODB_{key}_USER")], name);
        let password = system[&format!("MONGODB_{key}_PASSWORD")].clone();
        (key.to_owned(), password)
    });
    create_system_users_with(&mongo, &passwords.into()).await;
    let mut options = ClientOptions::parse(hosts(&mongo)).await.expect("hosts");
    let user_admin = Credential::builder()
        .username(system["MONGODB_USER_ADMIN_USER"].clone())
        .password(system["MONGODB_USER_ADMIN_PASSWORD"].clone())
        .source("admin".to_owned());
    options.credential = Some(user_admin.build());
    let client = Client::with_options(options).expect("a client");
    let small = create_user_admin(&client, str::to_owned).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": small.secret, "namespace": NAMESPACE },
        "stringData": { small.key: small.password },
    });
    kubernetes
        .apply(&secret.to_string())
        .await
        .expect("a Secret");
    mongo
}

fn hosts(mongo: &Mongo) -> String {
    format!("mongodb://{}/?replicaSet=rs0", mongo.host(0))
}

/// The shipped sidecar's environment, with its ServiceAccount's rights.
async fn sidecar(
    kubernetes: &Kubernetes,
    mongo: &Mongo,
    folder: &Path,
) -> BTreeMap<String, String> {
    apply(kubernetes, &deploy().join("kubernetes/overlays/dyff")).await;
    let token = kubernetes.service_account_token("default", "workflows-sink");
    let kubeconfig = kubernetes.kubeconfig(&token.await.expect("a token"), "default");
    let file = folder.join("kubeconfig");
    fs::write(&file, kubeconfig).expect("written");
    let settings = settings();
    let mut environment: BTreeMap<String, String> = [USER_ADMIN, OPERATOR_SECRET]
        .map(|name| (name.to_owned(), settings[name].clone()))
        .into();
    environment.insert(URI.to_owned(), hosts(mongo));
    environment.insert("KUBECONFIG".to_owned(), file.to_string_lossy().into_owned());
    environment
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_operator_makes_what_the_service_relies_on() {
    let kubernetes = Kubernetes::start(KubernetesOptions::default()).await;
    let kubernetes = kubernetes.expect("an API server");
    let mut operator = start_operator(&kubernetes).await;
    apply(&kubernetes, &deploy().join("mongodb/overlays/dyff")).await;

    let set = made(&kubernetes, &mut operator, &["statefulset", SET]).await;
    members_are_as_shipped(&kubernetes, &set).await;
    has_the_address_that_is_shipped(&kubernetes, &mut operator).await;
    let budget = ["poddisruptionbudget", "dyff-datastore-mongod-rs0"];
    let budget = made(&kubernetes, &mut operator, &budget).await;
    assert_eq!(budget["spec"]["maxUnavailable"], 1);

    let (_, secret) = SYSTEM_SECRET;
    let secret = made(&kubernetes, &mut operator, &["secret", secret]).await;
    let mongo = mongodb(&kubernetes, &values(&secret)).await;
    let folder = TempDir::new().expect("a folder");
    let environment = sidecar(&kubernetes, &mongo, folder.path()).await;
    let sink = ["--user", "workflows-sink"];
    for (command, says) in [
        ("provision", "proven: reads workflows, writes workflows"),
        ("quick-check", "readWrite on workflows"),
    ] {
        let command = [&["admin", command], &sink[..]].concat();
        let (code, out, error) = run(&environment, &command).await;
        assert!(code == Some(0) && out.contains(says), "{out}{error}");
    }
}
