//! The installation that runs before this one, and the commands by which this one takes its place.

use local_stack::Kubernetes;
use serde_json::{Value, json};

use crate::documented::page;
use crate::shipped::{NAMESPACE, Shipped, cluster};

const DEPLOYMENT: &str = "workflows-sink";

/// The former Deployment: same name, another selector, one replica, and Secrets made by hand.
fn former() -> String {
    let labels = json!({ "app": DEPLOYMENT });
    let restricted = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    let container = json!({
        "name": "sink", "image": "registry.example/workflows-sink-python:1", "securityContext": restricted,
        "envFrom": [{ "secretRef": { "name": "workflows-sink-mongodb" } }],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": DEPLOYMENT, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "workflows-sink-mongodb", "namespace": NAMESPACE },
        "stringData": { "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD": "made-by-hand" },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [deployment, secret] }).to_string()
}

/// Runs a command of the page, as a person types it.
async fn typed(kubernetes: &Kubernetes, line: &str) -> Result<String, String> {
    let page = page("kubernetes");
    assert!(page.contains(line), "the page has no {line:?}");
    let words = line.strip_prefix("kubectl ").expect("kubectl");
    let words: Vec<&str> = words.split_whitespace().collect();
    let ran = kubernetes.kubectl(&words, None).await;
    ran.map_err(|error| format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_installation_is_taken_over_by_the_documented_commands() {
    let kubernetes = cluster().await;
    let apply = ["apply", "-f", "-"];
    kubernetes
        .kubectl(&apply, Some(&former()))
        .await
        .expect("the former one runs");
    let shipped = Shipped::render(&kubernetes).await;
    let forced = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let refused = kubernetes.kubectl(&forced, Some(&shipped.list())).await;
    let refused = format!("{:#}", refused.expect_err("selectors are immutable"));
    for says in ["spec.selector", "field is immutable"] {
        assert!(refused.contains(says), "{refused}");
    }
    let diff = ["diff", "--server-side", "--force-conflicts", "-f", "-"];
    let told = kubernetes.kubectl(&diff, Some(&shipped.list())).await;
    let told = format!("{:#}", told.expect_err("they differ"));
    assert!(told.contains("field is immutable"), "{told}");
    assert_eq!(selector(&kubernetes).await, json!({ "app": DEPLOYMENT }));

    let scale = "kubectl scale deployment workflows-sink --replicas=0";
    typed(&kubernetes, scale).await.expect("stopped");
    let delete = "kubectl delete deployment workflows-sink";
    typed(&kubernetes, delete).await.expect("deleted");
    // without --force-conflicts: the Secret and the rest of the former one are not touched
    let diff = ["diff", "--server-side", "-f", "-"];
    let admin = kubernetes.admin_kubeconfig();
    let told = kubernetes
        .kubectl_as(admin, &diff, Some(&shipped.list()))
        .await;
    let told = told.expect("kubectl");
    let shown = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(
        shown.contains("+kind: Deployment") && !shown.contains("kind: Secret"),
        "{shown}"
    );
    kubernetes.apply(&shipped.list()).await.expect("applied");
    let ours = json!({ "app.kubernetes.io/name": DEPLOYMENT });
    assert_eq!(selector(&kubernetes).await, ours);
    let password = "jsonpath={.data.DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD}";
    let get = [
        "get",
        "secret",
        "workflows-sink-mongodb",
        "--output",
        password,
    ];
    let kept = kubernetes.kubectl(&get, None).await.expect("the Secret");
    assert_eq!(kept, "bWFkZS1ieS1oYW5k", "the Secret made by hand stays");

    // and back: the same two commands, then what was there
    typed(&kubernetes, scale).await.expect("stopped");
    typed(&kubernetes, delete).await.expect("deleted");
    kubernetes
        .kubectl(&apply, Some(&former()))
        .await
        .expect("the former one runs again");
    assert_eq!(selector(&kubernetes).await, json!({ "app": DEPLOYMENT }));
}

async fn selector(kubernetes: &Kubernetes) -> Value {
    let path = "jsonpath={.spec.selector.matchLabels}";
    let get = ["get", "deployment", DEPLOYMENT, "--output", path];
    let text = kubernetes.kubectl(&get, None).await.expect("a Deployment");
    serde_json::from_str(&text).expect("JSON")
}
