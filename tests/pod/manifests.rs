//! What a real API server says to the manifests, and whether what is written twice agrees.

use std::collections::BTreeMap;
use std::time::Duration;

use local_stack::Kubernetes;
use serde_json::{Value, json};
use test_support::credentials::{CREDENTIALS_DIR, Credentials, PASSWORD};
use workflows_sink::admin::config::Admin;
use workflows_sink::config::Config;
use workflows_sink::service::stop_max;

use crate::shipped::{NAMESPACE, Shipped, cluster};

const MIB: u64 = 1024 * 1024;
/// What a process needs beyond its budget (docs/operations.md).
const BESIDES_BYTES: u64 = 64 * MIB;

/// What a process takes to end when its work has ended, and its server of probes within that.
const PROCESS_ENDS_MAX: Duration = Duration::from_secs(1);
const SERVER_ENDS_MAX: Duration = Duration::from_secs(2);

const DRY_RUN: [&str; 6] = [
    "apply",
    "--server-side",
    "--dry-run=server",
    "--validate=strict",
    "-f",
    "-",
];

/// Whether the server would take it, and all that it says.
pub async fn dry_run(kubernetes: &Kubernetes, manifests: &str) -> (bool, String) {
    let admin = kubernetes.admin_kubeconfig();
    let output = kubernetes
        .kubectl_as(admin, &DRY_RUN, Some(manifests))
        .await
        .expect("kubectl");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// A pod made of a template.
pub fn pod_of(template: &Value, name: &str, namespace: &str) -> String {
    let metadata =
        json!({ "name": name, "namespace": namespace, "labels": template["metadata"]["labels"] });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_twice_agrees_and_what_is_wrong_is_refused() {
    let kubernetes = cluster().await;
    let shipped = Shipped::render(&kubernetes).await;
    kubernetes.apply(&shipped.list()).await.expect("applied");
    let again = kubernetes
        .apply(&shipped.list())
        .await
        .expect("applied again");
    assert_eq!(again.lines().count(), shipped.objects.len(), "{again}");
    let users = &shipped.object("Deployment", "workflows-sink-users")["spec"]["template"];
    let tools = &shipped.object("CronJob", "workflows-sink-tools")["spec"];
    assert_eq!(tools["suspend"], true, "it never runs by itself");
    let tools = &tools["jobTemplate"]["spec"]["template"];
    let templates = [("sink", shipped.pod()), ("users", users), ("tools", tools)];
    for (name, template) in templates {
        // What would be said if it were not as it should be; `overlays` has what is said as it is.
        let mut root = template.clone();
        root["spec"]["securityContext"]["runAsNonRoot"] = false.into();
        let (taken, said) = dry_run(&kubernetes, &pod_of(&root, name, NAMESPACE)).await;
        assert!(
            !taken && said.contains("violates PodSecurity"),
            "{name}: {said}"
        );
    }
    let mut misspelt = shipped.object("Deployment", "workflows-sink").clone();
    misspelt["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1.into();
    let (taken, said) = dry_run(&kubernetes, &misspelt.to_string()).await;
    assert!(
        !taken && said.contains("terminationGracePeriodSecond"),
        "{said}"
    );

    let local = Shipped::of(&kubernetes, "kubernetes/overlays/local").await;
    for shipped in [&shipped, &local] {
        limits_follow_the_settings(shipped);
        both_containers_take_their_environment(shipped);
        only_the_admin_container_has_a_token(shipped);
    }
}

/// A quantity of memory, in bytes.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().expect("a quantity");
    text.strip_suffix("Mi")
        .expect("Mi")
        .parse::<u64>()
        .expect("a number")
        * MIB
}

fn config(shipped: &Shipped) -> Config {
    config_of(environment(shipped, "sink"))
}

/// The sink's settings, beside what the sidecar publishes.
pub fn config_of(mut environment: BTreeMap<String, String>) -> Config {
    let uri = "mongodb://workflows-sink@localhost/";
    let files = Credentials::new(&[
        ("DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING", uri),
        (PASSWORD, "p"),
    ]);
    environment.insert(CREDENTIALS_DIR.to_owned(), files.path().to_owned());
    Config::from_vars(environment.into_iter()).expect("the sink's settings")
}

/// What a container's manifest says of its environment.
pub fn environment(shipped: &Shipped, container: &str) -> BTreeMap<String, String> {
    let container = shipped.container(container);
    let name = &container["envFrom"][0]["configMapRef"]["name"];
    let map = shipped.object("ConfigMap", "workflows-sink");
    assert_eq!(&map["metadata"]["name"], name);
    let data: BTreeMap<String, String> =
        serde_json::from_value(map["data"].clone()).expect("strings");
    let own = container["env"].as_array().into_iter().flatten();
    let own = own.map(|variable| {
        let text = |field: &str| variable[field].as_str().expect("a string").to_owned();
        (text("name"), text("value"))
    });
    data.into_iter().chain(own).collect()
}

fn limits_follow_the_settings(shipped: &Shipped) {
    let config = config(shipped);
    let limits = config.limits;
    let needed = limits.budget_bytes_max as u64 + BESIDES_BYTES;
    let resources = &shipped.container("sink")["resources"];
    assert_eq!(bytes(&resources["limits"]["memory"]), needed);
    assert_eq!(bytes(&resources["requests"]["memory"]), needed);
    let grace = shipped.pod()["spec"]["terminationGracePeriodSeconds"].as_u64();
    let grace = Duration::from_secs(grace.expect("seconds"));
    // The kubelet ends the sidecar after the sink, within the same period.
    let needed = stop_max(&config) + PROCESS_ENDS_MAX * 2 + SERVER_ENDS_MAX;
    assert!(grace > needed, "{grace:?} for a stop of up to {needed:?}");
    let start = |container: &str| {
        let probe = &shipped.container(container)["startupProbe"];
        let number = |name: &str| probe[name].as_u64().expect("a number");
        number("periodSeconds") * number("failureThreshold")
    };
    let progress = &shipped.object("Deployment", "workflows-sink")["spec"];
    let progress = progress["progressDeadlineSeconds"].as_u64();
    assert!(
        progress > Some(start("admin") + start("sink")),
        "a start that waits is said to have failed after {progress:?}"
    );
}

fn both_containers_take_their_environment(shipped: &Shipped) {
    let config = config(shipped);
    let port = |container: &str| &shipped.container(container)["ports"][0]["containerPort"];
    assert_eq!(port("sink"), config.listen_address.port());
    let admin =
        Admin::from_vars(environment(shipped, "admin").into_iter()).expect("admin's settings");
    assert_eq!(port("admin"), admin.listen_address.port());
    let dir = &shipped.container("sink")["env"][0]["value"];
    let args = shipped.container("admin")["args"]
        .as_array()
        .expect("arguments");
    assert_eq!(args.last(), Some(dir), "published where it is read");
}

fn only_the_admin_container_has_a_token(shipped: &Shipped) {
    let mounts = |container: &str| {
        let mounts = shipped.container(container)["volumeMounts"]
            .as_array()
            .expect("mounts");
        let names = mounts
            .iter()
            .map(|mount| mount["name"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(mounts("admin"), ["credentials", "api-token"]);
    assert_eq!(mounts("sink"), ["credentials"]);
    assert_eq!(shipped.pod()["spec"]["automountServiceAccountToken"], false);
}
