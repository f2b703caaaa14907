//! What the shipped ServiceAccounts may do, asked of a real API server: what is granted suffices,
//! the rest is refused.

use std::path::PathBuf;

use local_stack::Kubernetes;
use serde_json::json;
use tempfile::TempDir;

use crate::shipped::{NAMESPACE, Shipped, cluster};

/// Somebody who speaks to the API server with a ServiceAccount's token.
struct Account<'a> {
    kubernetes: &'a Kubernetes,
    kubeconfig: PathBuf,
    _directory: TempDir,
}

impl<'a> Account<'a> {
    /// Of the ServiceAccount `name` in `namespace`.
    async fn of(kubernetes: &'a Kubernetes, namespace: &str, name: &str) -> Account<'a> {
        let token = kubernetes
            .service_account_token(namespace, name)
            .await
            .expect("a token");
        let directory = TempDir::new().expect("a directory");
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubernetes.kubeconfig(&token, namespace)).expect("written");
        Account {
            kubernetes,
            kubeconfig,
            _directory: directory,
        }
    }

    async fn run(&self, arguments: &[&str], input: Option<&str>) -> (bool, String) {
        let output = self
            .kubernetes
            .kubectl_as(&self.kubeconfig, arguments, input)
            .await
            .expect("kubectl");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    }

    async fn granted(&self, arguments: &[&str], input: Option<&str>) {
        let (done, said) = self.run(arguments, input).await;
        assert!(done, "{arguments:?}: {said}");
    }

    async fn refused(&self, arguments: &[&str], input: Option<&str>) {
        let (done, said) = self.run(arguments, input).await;
        assert!(
            !done && said.to_lowercase().contains("forbidden"),
            "{arguments:?}: {said}"
        );
    }
}

const APPLY: [&str; 5] = ["apply", "--server-side", "--validate=false", "-f", "-"];
const POST: [&str; 4] = ["create", "--validate=false", "-f", "-"];
const PUT: [&str; 4] = ["replace", "--validate=false", "-f", "-"];

fn secret(namespace: &str, name: &str) -> String {
    let metadata = json!({ "name": name, "namespace": namespace });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": { "KEY": "dg==" } })
        .to_string()
}

fn event(namespace: &str) -> String {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "generateName": "a-", "namespace": namespace },
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a", "reportingInstance": "a",
        "type": "Normal", "reason": "A", "action": "A", "note": "a",
        "regarding": { "apiVersion": "v1", "kind": "Secret", "name": "a", "namespace": namespace },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_suffices_and_everything_beyond_is_refused() {
    let kubernetes = cluster().await;
    let shipped = Shipped::render(&kubernetes).await;
    kubernetes.apply(&shipped.list()).await.expect("applied");
    for (namespace, name) in [
        ("mongodb", "dyff-datastore-custom-user-secret"),
        ("mongodb", "dyff-datastore-secrets"),
        ("mongodb", "other"),
        ("default", "other"),
    ] {
        kubernetes
            .apply(&secret(namespace, name))
            .await
            .expect("a Secret");
    }
    let user_admin = [
        "get",
        "secret",
        "dyff-datastore-custom-user-secret",
        "--namespace",
        "mongodb",
    ];

    for (account, own, others) in [
        (
            "workflows-sink",
            &["workflows-sink-mongodb"][..],
            "query-backend-mongodb",
        ),
        (
            "workflows-sink-users",
            &["query-backend-mongodb", "auth-backend-mongodb"],
            "workflows-sink-mongodb",
        ),
    ] {
        let account = Account::of(&kubernetes, NAMESPACE, account).await;
        for name in own {
            account.refused(&POST, Some(&secret("default", name))).await;
            account
                .granted(&APPLY, Some(&secret("default", name)))
                .await;
            account.granted(&["get", "secret", name], None).await;
            account
                .granted(&APPLY, Some(&secret("default", name)))
                .await;
            account.refused(&PUT, Some(&secret("default", name))).await;
            account.refused(&["delete", "secret", name], None).await;
            account
                .refused(&APPLY, Some(&secret("mongodb", name)))
                .await;
            let path = format!(
                "/api/v1/namespaces/default/secrets?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{name}"
            );
            account.granted(&["get", "--raw", &path], None).await;
        }
        account.granted(&POST, Some(&event("default"))).await;
        account.granted(&user_admin, None).await;
        for name in [others, "other"] {
            account.refused(&["get", "secret", name], None).await;
            account
                .refused(&APPLY, Some(&secret("default", name)))
                .await;
            account.refused(&POST, Some(&secret("default", name))).await;
        }
        let all = "/api/v1/namespaces/default/secrets";
        account
            .refused(
                &["get", "--raw", &format!("{all}?watch=1&timeoutSeconds=1")],
                None,
            )
            .await;
        for refused in [
            &["get", "--raw", all][..],
            &["get", "secrets", "--all-namespaces"],
            &["get", "secrets", "--namespace", "mongodb"],
            &["get", "secret", "other", "--namespace", "mongodb"],
            // the passwords of all system users
            &[
                "get",
                "secret",
                "dyff-datastore-secrets",
                "--namespace",
                "mongodb",
            ],
            &[
                "delete",
                "secret",
                "dyff-datastore-custom-user-secret",
                "--namespace",
                "mongodb",
            ],
            &["delete", "secrets", "--all"],
            &["get", "pods"],
            &["get", "configmaps"],
            &["get", "events"],
            &["get", "namespaces"],
            &["create", "token", "workflows-sink"],
        ] {
            account.refused(refused, None).await;
        }
        account
            .refused(
                &APPLY,
                Some(&secret("mongodb", "dyff-datastore-custom-user-secret")),
            )
            .await;
        account.refused(&POST, Some(&event("mongodb"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_reads_what_is_named_and_changes_nothing() {
    let kubernetes = cluster().await;
    let service = Shipped::render(&kubernetes).await;
    // The operator's own kind is not known to this server.
    let datastore = Shipped::of(&kubernetes, "mongodb/overlays/dyff").await;
    let datastore = datastore.without("PerconaServerMongoDB");
    for shipped in [&service, &datastore] {
        kubernetes.apply(&shipped.list()).await.expect("applied");
    }
    let readable = [
        ("mongodb", "dyff-datastore-secrets"),
        ("mongodb", "dyff-datastore-custom-user-secret"),
        (NAMESPACE, "workflows-sink-mongodb"),
        (NAMESPACE, "query-backend-mongodb"),
        (NAMESPACE, "auth-backend-mongodb"),
    ];
    let others = [("mongodb", "other"), (NAMESPACE, "other")];
    for (namespace, name) in readable.iter().chain(&others) {
        let made = kubernetes.apply(&secret(namespace, name)).await;
        made.expect("a Secret");
    }
    let admin = Account::of(&kubernetes, "mongodb", "mongodb-admin").await;
    for (namespace, name) in readable {
        let of = |verb| [verb, "secret", name, "--namespace", namespace];
        admin.granted(&of("get"), None).await;
        admin.refused(&of("delete"), None).await;
        admin.refused(&APPLY, Some(&secret(namespace, name))).await;
    }
    let client = Account::of(&kubernetes, "mongodb", "mongodb-client").await;
    let tools = Account::of(&kubernetes, NAMESPACE, "workflows-sink-tools").await;
    let all = readable.iter().chain(&others);
    for (namespace, name) in all.copied() {
        let get = ["get", "secret", name, "--namespace", namespace];
        for account in [&client, &tools] {
            account.refused(&get, None).await;
        }
        if name == "other" {
            admin.refused(&get, None).await;
        }
        let list = ["get", "secrets", "--namespace", namespace];
        admin.refused(&list, None).await;
        admin
            .refused(&["get", "pods", "--namespace", namespace], None)
            .await;
    }
}
