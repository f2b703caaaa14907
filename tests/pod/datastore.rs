//! `deploy/mongodb`: the operator at the pinned version, and the cluster for it.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use local_stack::{Kubernetes, cache, install};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::datastore;

use crate::documented::{is_documented, is_on_page};
use crate::overlays::is_taken;
use crate::scripts::{copy, upstream};
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

/// The steps of a migration, as docs/migration.md says.
const MIGRATION: [(&str, &str); 1] = [(
    "kustomization.yaml",
    "\
resources: [DEPLOY/kubernetes/migration]
images:
- name: REGISTRY/workflows-sink-migrate
  newName: registry.example/dyff/workflows-sink-migrate
patches:
- target: {kind: CronJob, name: datastore-migrate-ids}
  patch: |
    - op: replace
      path: /spec/jobTemplate/spec/template/spec/containers/0/args
      value: [ids, export, --out, remap.json, --seed, a-project, --mapping, mapping.toml]
",
)];

/// An overlay with a component more.
async fn with_component(kubernetes: &Kubernetes, overlay: &str, component: &str) -> Shipped {
    let text = format!("{overlay}components: [DEPLOY/{component}]\n");
    Shipped::of_overlay(kubernetes, &[("kustomization.yaml", &text)]).await
}

/// The container of a CronJob asks MongoDB for TLS, by an authority that it mounts.
fn asks_for_tls(shipped: &Shipped, name: &str) {
    let job = shipped.object("CronJob", name);
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let environment = container["env"].as_array().expect("variables").iter();
    let uris: Vec<&str> = environment
        .filter_map(|variable| variable["value"].as_str())
        .filter(|value| value.starts_with("mongodb+srv://"))
        .collect();
    let [uri] = uris[..] else {
        panic!("{name}: {uris:?}")
    };
    assert!(!uri.contains("ssl=false"), "{name}: {uri}");
    let (_, file) = uri.split_once("&tls=true&tlsCAFile=").expect("TLS");
    let file = file.split('&').next().expect("a file");
    let mounts = container["volumeMounts"].as_array().expect("mounts").iter();
    let folder = file
        .strip_suffix("/ca.crt")
        .expect("a file of the ConfigMap's");
    let mut mounts = mounts.filter(|mount| mount["mountPath"] == folder);
    assert_eq!(
        mounts.next().expect("a mount")["name"],
        "mongodb-ca",
        "{name}"
    );
}

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
    kubernetes.kinds_known().await.expect("known");
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
    let with_tls = with_component(&kubernetes, OWN[0].1, "mongodb/components/tls").await;
    for shipped in [&with_identity, &with_key, &with_tls] {
        is_taken(&kubernetes, shipped).await;
    }
    asks_for_tls(&with_tls, "mongodb-admin");
    is_on_page("migration", MIGRATION[0].1);
    let volume = Shipped::of(&kubernetes, "kubernetes/migration/volume").await;
    let steps = Shipped::of_overlay(&kubernetes, &MIGRATION).await;
    let component = "kubernetes/migration/components/mongodb-tls";
    let with_tls = with_component(&kubernetes, MIGRATION[0].1, component).await;
    for shipped in [&volume, &steps, &with_tls] {
        is_taken(&kubernetes, shipped).await;
    }
    for step in ["ids", "dry-run", "entities", "accounts", "verify"] {
        asks_for_tls(&with_tls, &format!("datastore-migrate-{step}"));
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
