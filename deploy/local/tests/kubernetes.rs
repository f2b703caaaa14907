//! The real API server: what is granted is granted, and what can be done to it.

use std::fs;
use std::time::Duration;

use local_stack::{Kubernetes, KubernetesOptions, Toxiproxy};
use tempfile::NamedTempFile;

const READER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- {apiGroups: [''], resources: [configmaps], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hours, namespace: shop}
data: {open: '8'}
";

/// A kubeconfig of [`READER`]'s account, which is made.
async fn reader(kubernetes: &Kubernetes) -> NamedTempFile {
    kubernetes.apply(READER).await.unwrap();
    let token = kubernetes
        .service_account_token("shop", "reader")
        .await
        .unwrap();
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, kubernetes.kubeconfig(&token, "shop")).unwrap();
    file
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_grants_and_nothing_else() {
    let kubernetes = Kubernetes::start(KubernetesOptions::default())
        .await
        .unwrap();
    let reader = reader(&kubernetes).await;
    let run = async |arguments: &[&str]| {
        kubernetes
            .kubectl_as(reader.path(), arguments, None)
            .await
            .unwrap()
    };

    let granted = run(&["get", "configmap", "hours", "-o", "jsonpath={.data.open}"]).await;
    assert_eq!(String::from_utf8_lossy(&granted.stdout), "8", "{granted:?}");
    for beyond in [
        &["delete", "configmap", "hours"][..],
        &["get", "secrets"],
        &["get", "configmaps", "--namespace", "default"],
    ] {
        let refused = run(beyond).await;
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("Forbidden"),
            "{beyond:?}: {refused:?}"
        );
    }
    let unknown =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndaat: {}\n";
    let error = kubernetes.apply(unknown).await.unwrap_err().to_string();
    assert!(error.contains("daat"), "{error}");
}

#[tokio::test]
async fn an_api_server_that_was_frozen_cut_off_or_killed_comes_back_with_its_data() {
    let proxy = Toxiproxy::install().unwrap();
    let mut kubernetes = Kubernetes::start(KubernetesOptions { proxy: Some(proxy) })
        .await
        .unwrap();
    let reader = reader(&kubernetes).await;
    let answers_within = async |kubernetes: &Kubernetes, timeout: &str| {
        let get = ["get", "configmap", "hours", "--request-timeout", timeout];
        let ended = kubernetes
            .kubectl_as(reader.path(), &get, None)
            .await
            .unwrap();
        ended.status.success()
    };
    let answers = async |kubernetes: &Kubernetes| answers_within(kubernetes, "30s").await;
    let is_silent = async |kubernetes: &Kubernetes| !answers_within(kubernetes, "2s").await;
    assert!(answers(&kubernetes).await);

    kubernetes
        .proxy()
        .unwrap()
        .latency(Duration::from_secs(60), Duration::ZERO)
        .unwrap();
    assert!(is_silent(&kubernetes).await, "slow");
    kubernetes.proxy().unwrap().heal().unwrap();
    assert!(answers(&kubernetes).await);

    kubernetes.freeze().unwrap();
    assert!(is_silent(&kubernetes).await, "frozen");
    kubernetes.thaw().unwrap();
    assert!(answers(&kubernetes).await);

    kubernetes.kill().unwrap();
    assert!(is_silent(&kubernetes).await, "dead");
    kubernetes.restart().await.unwrap();
    assert!(answers(&kubernetes).await);
}
