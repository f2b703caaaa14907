//! `deploy/mongodb`: the operator at the pinned version, the cluster for it, and the scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use local_stack::{Kubernetes, cache, install};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::datastore;
use test_support::wait::until;

use crate::documented::is_documented;
use crate::overlays::is_taken;
use crate::shipped::{Shipped, cluster, deploy};

/// The overlay with the S3-compatible way of backups, and what an overlay has to name.
const WITH_KEY: [(&str, &str); 1] = [(
    "kustomization.yaml",
    "\
resources: [DEPLOY/mongodb/overlays/dyff]
components: [DEPLOY/mongodb/components/backup-s3]
patches:
- target: {kind: PerconaServerMongoDB, name: dyff-datastore}
  patch: |
    - {op: replace, path: /spec/backup/storages/gs-dyff-datastore/s3/bucket, value: a-bucket}
",
)];

/// What an overlay has to name, as docs/kubernetes.md says.
const OWN: [(&str, &str); 1] = [(
    "kustomization.yaml",
    "\
resources: [DEPLOY/mongodb/overlays/dyff]
images:
- name: REGISTRY/workflows-sink
  newName: registry.example/dyff/workflows-sink
patches:
- target: {kind: PerconaServerMongoDB, name: dyff-datastore}
  patch: |
    - {op: replace, path: /spec/backup/storages/gs-dyff-datastore/gcs/bucket, value: a-bucket}
- target: {kind: ServiceAccount, name: dyff-datastore}
  patch: |
    - op: replace
      path: /metadata/annotations/iam.gke.io~1gcp-service-account
      value: mongodb-backup@a-project.iam.gserviceaccount.com
- target: {kind: ServiceAccount, name: mongodb-admin}
  patch: |
    - op: replace
      path: /metadata/annotations/iam.gke.io~1gcp-service-account
      value: mongodb-admin@a-project.iam.gserviceaccount.com
",
)];

/// The operator's bundle, as `upstream.sh` fetches it; once for each pin.
fn bundle() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let made = || {
        let pinned = fs::read_to_string(deploy().join("mongodb/operator/pinned")).expect("a pin");
        let (version, sha256) = pinned.trim().split_once(' ').expect("version and checksum");
        let name = format!("mongodb-operator-{version}-{}", &sha256[..12]);
        let bundle = cache::entry(&name, |folder| {
            install::require(&["golang-go"])?;
            let work = TempDir::new()?;
            copy(&deploy().join("mongodb"), work.path());
            let (done, told) = upstream(work.path(), &["--module"]);
            anyhow::ensure!(done, "{told}");
            let fetched = work.path().join("operator/bundle.yaml");
            fs::copy(fetched, folder.join("bundle.yaml"))?;
            Ok(())
        });
        bundle.expect("the operator's bundle").join("bundle.yaml")
    };
    FILE.get_or_init(made).clone()
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    let from = format!("{}/.", from.display());
    let done = command.args(["-R", &from]).arg(to).status();
    assert!(done.expect("cp").success());
}

/// Runs `upstream.sh` of a copy of `deploy/mongodb`.
fn upstream(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("sh");
    command.arg(folder.join("upstream.sh")).args(arguments);
    said(&mut command)
}

fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// The operator's objects with our patches, as they are applied.
async fn rendered(kubernetes: &Kubernetes) -> Shipped {
    let folder = TempDir::new().expect("a folder");
    copy(&deploy().join("mongodb/operator"), folder.path());
    fs::copy(bundle(), folder.path().join("bundle.yaml")).expect("copied");
    Shipped::render_from(kubernetes, folder.path()).await
}

/// A server that took the operator, and has its kinds.
async fn with_operator() -> Kubernetes {
    let kubernetes = cluster().await;
    let operator = rendered(&kubernetes).await;
    is_taken(&kubernetes, &operator).await;
    let kinds = operator.objects.iter();
    let kinds = kinds.filter(|object| object["kind"] == "CustomResourceDefinition");
    for kind in kinds {
        let name = format!("crd/{}", kind["metadata"]["name"].as_str().expect("a name"));
        // One that has no status yet is an error of kubectl's.
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            &name,
        ];
        until("the kind is established", || async {
            kubernetes.kubectl(&wait, None).await.is_ok()
        })
        .await;
    }
    kubernetes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_the_cluster_and_its_backups_pass_a_strict_dry_run() {
    let kubernetes = with_operator().await;
    is_documented(OWN[0].1);
    let with_identity = Shipped::of_overlay(&kubernetes, &OWN).await;
    for placeholder in ["REGISTRY", "BUCKET", "PROJECT"] {
        assert!(
            !with_identity.list().contains(placeholder),
            "{placeholder} is left"
        );
    }
    let with_key = Shipped::of_overlay(&kubernetes, &WITH_KEY).await;
    for shipped in [&with_identity, &with_key] {
        is_taken(&kubernetes, shipped).await;
    }
    for name in ["backup", "restore", "restore-to-time"] {
        let file = deploy().join(format!("mongodb/backup/{name}.yaml"));
        let file = file.to_str().expect("UTF-8").to_owned();
        let create = [
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ];
        let said = kubernetes.kubectl(&create, None).await.expect(name);
        assert!(said.contains("created (server dry run)"), "{said}");
    }
    // What would be said of a field that this version of the operator does not know.
    let mut misspelt = with_identity
        .object("PerconaServerMongoDB", "dyff-datastore")
        .clone();
    misspelt["spec"]["backup"]["pitr"]["enable"] = true.into();
    let refused = kubernetes.apply(&misspelt.to_string()).await;
    let refused = format!("{:#}", refused.expect_err("refused"));
    assert!(refused.contains("pitr.enable"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_tells_nobody_that_it_runs() {
    let kubernetes = cluster().await;
    let operator = rendered(&kubernetes).await;
    let deployment = operator.object("Deployment", "percona-server-mongodb-operator");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let telemetry = json!({ "name": "DISABLE_TELEMETRY", "value": "true" });
    let variables = container["env"].as_array().expect("variables");
    assert!(variables.contains(&telemetry), "{variables:?}");
    let cluster = datastore::cluster();
    assert_eq!(cluster["spec"]["upgradeOptions"]["apply"], "disabled");
    // each patch says why
    let text = fs::read_to_string(deploy().join("mongodb/operator/kustomization.yaml"));
    let text = text.expect("a kustomization");
    let patches = text.matches("- target:").count();
    assert!(patches > 1);
    assert_eq!(text.matches("# [dyff] ").count(), patches);
}

#[test]
fn the_cluster_is_of_the_operators_version_and_makes_the_secrets_that_admin_reads() {
    let pinned = fs::read_to_string(deploy().join("mongodb/operator/pinned")).expect("a pin");
    let (version, _) = pinned.split_once(' ').expect("a version");
    let cluster = datastore::cluster();
    let spec = &cluster["spec"];
    assert_eq!(spec["crVersion"], version);
    assert_eq!(spec["secrets"]["users"], "dyff-datastore-secrets");
    assert_eq!(spec["sharding"]["enabled"], false);
    let settings = deploy().join("kubernetes/components/servers/settings.env");
    let settings = fs::read_to_string(settings).expect("settings");
    let (user, name) = (&spec["users"][0], cluster["metadata"]["name"].as_str());
    let secret = format!("{}-custom-user-secret", name.expect("a name"));
    // The operator makes a Secret of this name alone.
    assert_eq!(user["passwordSecretRef"]["name"], *secret);
    assert_eq!(
        user["passwordSecretRef"]["key"],
        "MONGODB_USER_ADMIN_PASSWORD"
    );
    for line in [
        format!("ADMIN__OPERATOR_SECRET=mongodb/{secret}\n"),
        format!(
            "ADMIN__MONGODB_USER_ADMIN_USER={}\n",
            user["name"].as_str().expect("a name")
        ),
    ] {
        assert!(settings.contains(&line), "{line}{settings}");
    }
    // The operator's users and those of the table are never the same.
    let table = include_str!("../../config/users.toml");
    assert!(!table.contains("[users.workflows-sink-admin]"));
}

#[test]
fn backups_are_kept_for_weeks_and_reach_the_storage_without_a_key() {
    let cluster = datastore::cluster();
    let backup = &cluster["spec"]["backup"];
    let storages = backup["storages"].as_object().expect("storages");
    let main: Vec<_> = storages
        .iter()
        .filter(|(_, of)| of["main"] == true)
        .collect();
    let [(name, storage)] = main[..] else {
        panic!("one main storage: {storages:?}")
    };
    assert_eq!(
        (name.as_str(), &storage["type"]),
        ("gs-dyff-datastore", &json!("gcs"))
    );
    assert!(storage["gcs"].get("credentialsSecret").is_none());
    let replset = &cluster["spec"]["replsets"][0];
    assert_eq!(replset["serviceAccountName"], "dyff-datastore");
    assert_eq!(backup["pitr"]["enabled"], true);
    let tasks = backup["tasks"].as_array().expect("tasks").iter();
    let tasks: Vec<(&Value, &Value)> = tasks
        .map(|task| {
            let retention = &task["retention"];
            assert_eq!(
                (&retention["type"], &retention["deleteFromStorage"]),
                (&json!("count"), &json!(true))
            );
            assert_eq!(task["storageName"], name.as_str());
            (&task["type"], &retention["count"])
        })
        .collect();
    let (logical, physical) = (json!("logical"), json!("physical"));
    assert_eq!(tasks, [(&logical, &json!(14)), (&physical, &json!(8))]);
}

#[test]
fn another_version_is_compared_with_the_pinned_one_and_no_patch_is_touched() {
    install::require(&["golang-go"]).expect("Go");
    let folder = TempDir::new().expect("a folder");
    copy(&deploy().join("mongodb"), folder.path());
    let patches = || fs::read_to_string(folder.path().join("operator/kustomization.yaml"));
    let before = patches().expect("patches");

    let (done, told) = upstream(folder.path(), &["--module", "1.22.0"]);
    assert!(done, "{told}");
    for says in [
        "--- 1.23.0",
        "+++ 1.22.0",
        "which is not pinned",
        "echo 1.22.0 ",
    ] {
        assert!(
            told.contains(says),
            "{says}: {}",
            &told[told.len().saturating_sub(2000)..]
        );
    }
    assert_eq!(patches().expect("patches"), before);

    let pin = folder.path().join("operator/pinned");
    fs::write(&pin, format!("1.23.0 {}\n", "0".repeat(64))).expect("written");
    fs::remove_file(folder.path().join("operator/bundle.yaml")).expect("removed");
    let (done, told) = upstream(folder.path(), &["--module"]);
    assert!(!done && told.contains("is pinned"), "{told}");
    assert!(
        !folder.path().join("operator/bundle.yaml").exists(),
        "what was changed is not used"
    );
}

#[test]
fn the_scripts_keep_the_rules_of_shell_scripts() {
    install::require(&["shellcheck"]).expect("shellcheck");
    for script in ["mongodb/upstream.sh", "mongodb/gcloud.sh", "image/split.sh"] {
        let (good, told) = said(Command::new("shellcheck").arg(deploy().join(script)));
        assert!(good && told.is_empty(), "{told}");
    }
}

#[test]
fn a_dry_run_shows_the_clouds_commands_and_runs_none() {
    let script = deploy().join("mongodb/gcloud.sh");
    let folder = TempDir::new().expect("a folder");
    // whoever calls the cloud is found out
    for name in ["gcloud", "kubectl"] {
        let called = folder.path().join(format!("{name}-was-called"));
        let program = folder.path().join(name);
        let text = format!("#!/bin/sh\ntouch '{}'\nexit 1\n", called.display());
        fs::write(&program, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("executable");
    }
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let run = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        said(command.arg(&script).args(arguments).env("PATH", &path))
    };
    let wanted = ["a-project", "a-bucket", "us-central1"];
    let (done, told) = run(&[&["--dry-run"], &wanted[..]].concat());
    assert!(done, "{told}");
    let cluster = datastore::cluster();
    let account = cluster["spec"]["replsets"][0]["serviceAccountName"].as_str();
    let member = format!(
        "a-project.svc.id.goog[mongodb/{}]",
        account.expect("an account")
    );
    for says in [
        "gcloud storage buckets create gs://a-bucket",
        "gcloud iam service-accounts create mongodb-backup",
        "gcloud iam service-accounts create mongodb-admin",
        "roles/iam.workloadIdentityUser",
        member.as_str(),
        "a-project.svc.id.goog[mongodb/mongodb-admin]",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(
        !told.contains("hmac"),
        "no key is made unless it is asked for: {told}"
    );
    let (done, told) = run(&[&["--dry-run", "--hmac"], &wanted[..]].concat());
    assert!(
        done && told.contains("gcloud storage hmac create"),
        "{told}"
    );
    assert!(told.contains("dyff-datastore-backup-s3"), "{told}");
    let files = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "nothing was called");
    let (done, told) = run(&["--dry-run"]);
    assert!(!done && told.contains("PROJECT BUCKET REGION"), "{told}");
}
