//! What docs/kubernetes.md tells people to do, done.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::shipped::{Shipped, cluster};

/// A page of `docs/`.
pub fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.md"));
    fs::read_to_string(path).expect("a page")
}

/// Fails unless docs/kubernetes.md has this file of an overlay, wherever the overlay is.
pub fn is_documented(file: &str) {
    is_on_page("kubernetes", file);
}

/// Fails unless a page of `docs/` has this file of an overlay.
pub fn is_on_page(name: &str, file: &str) {
    let lines = |text: &str| {
        let text = text.replace("../../../deploy", "DEPLOY");
        let text = text.replace("../../deploy", "DEPLOY");
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.join("\n")
    };
    let (page, file) = (lines(&page(name)), lines(file));
    assert!(page.contains(file.trim()), "the page has not:\n{file}");
}

/// An overlay with a mapping of its own, as the page describes it.
const OVERLAY: &str = "\
resources: [DEPLOY/kubernetes/overlays/dyff]
configMapGenerator:
- name: workflows-sink
  namespace: default
  behavior: merge
  literals: [DYFF_WORKFLOWS_SINK__MAPPING_FILE=/etc/workflows-sink/mapping.toml]
- name: workflows-sink-mapping
  namespace: default
  files: [mapping.toml]
patches:
- target: {kind: Deployment, name: workflows-sink}
  patch: |
    - op: add
      path: /spec/template/spec/volumes/-
      value: {name: mapping, configMap: {name: workflows-sink-mapping}}
    - op: add
      path: /spec/template/spec/containers/0/volumeMounts/-
      value: {name: mapping, mountPath: /etc/workflows-sink, readOnly: true}
- target: {kind: CronJob, name: workflows-sink-tools}
  patch: |
    - op: add
      path: /spec/jobTemplate/spec/template/spec/volumes/-
      value: {name: mapping, configMap: {name: workflows-sink-mapping}}
    - op: add
      path: /spec/jobTemplate/spec/template/spec/containers/0/volumeMounts/-
      value: {name: mapping, mountPath: /etc/workflows-sink, readOnly: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn another_command_is_run_by_other_arguments() {
    let kubernetes = cluster().await;
    let shipped = Shipped::render(&kubernetes).await;
    kubernetes.apply(&shipped.list()).await.expect("applied");
    let from = [
        "create",
        "job",
        "explain-1",
        "--from=cronjob/workflows-sink-tools",
    ];
    let from = [&from[..], &["--dry-run=client", "--output", "yaml"]].concat();
    let job = kubernetes.kubectl(&from, None).await.expect("a Job");
    let patch = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["explain", "KEY"]}]"#;
    assert!(
        page("kubernetes").contains(patch),
        "the page has another patch"
    );
    let patch = [
        "patch",
        "--local",
        "--filename",
        "-",
        "--type",
        "json",
        "--output",
        "yaml",
        "--patch",
        patch,
    ];
    let job = kubernetes
        .kubectl(&patch, Some(&job))
        .await
        .expect("patched");
    let create = ["create", "--filename", "-"];
    kubernetes
        .kubectl(&create, Some(&job))
        .await
        .expect("created");
    let get = ["get", "job", "explain-1", "--output", "json"];
    let job = kubernetes.kubectl(&get, None).await.expect("the Job");
    let job: Value = serde_json::from_str(&job).expect("JSON");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"], json!(["explain", "KEY"]));
    assert_eq!(pod["serviceAccountName"], "workflows-sink-tools");
}

/// The mapping that the first container of a pod reads.
fn mapping_of(shipped: &Shipped, pod: &Value) -> String {
    let container = &pod["containers"][0];
    let settings = container["envFrom"][0]["configMapRef"]["name"]
        .as_str()
        .expect("a name");
    let settings = shipped.object("ConfigMap", settings);
    let file = settings["data"]["DYFF_WORKFLOWS_SINK__MAPPING_FILE"]
        .as_str()
        .expect("a path");
    let (folder, name) = file.rsplit_once('/').expect("a folder");
    let named = |list: &Value, field: &str, wanted: &str| {
        let mut all = list.as_array().expect("a list").iter();
        all.find(|one| one[field] == wanted)
            .unwrap_or_else(|| panic!("no {wanted}"))
            .clone()
    };
    let mount = named(&container["volumeMounts"], "mountPath", folder);
    let volume = named(
        &pod["volumes"],
        "name",
        mount["name"].as_str().expect("a name"),
    );
    let mounted = volume["configMap"]["name"].as_str().expect("a name");
    let mounted = shipped.object("ConfigMap", mounted);
    mounted["data"][name].as_str().expect("a file").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mapping_rolls_the_pods() {
    let kubernetes = cluster().await;
    let mapping = include_str!("../../config/mapping.toml");
    let mut templates = Vec::new();
    for text in [
        mapping.to_owned(),
        mapping.replace("\"evaluations\"", "\"evals\""),
    ] {
        let (_, own) = OVERLAY.split_once('\n').expect("lines");
        is_documented(own);
        let files = [("kustomization.yaml", OVERLAY), ("mapping.toml", &text)];
        let shipped = Shipped::of_overlay(&kubernetes, &files).await;
        kubernetes.apply(&shipped.list()).await.expect("applied");
        let mounted = shipped.object("ConfigMap", "workflows-sink-mapping");
        assert_eq!(mounted["data"]["mapping.toml"], text);
        // Commands by another mapping would write elsewhere than the service.
        let tools = shipped.object("CronJob", "workflows-sink-tools");
        let tools = &tools["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        for pod in [&shipped.pod()["spec"], tools] {
            assert_eq!(mapping_of(&shipped, pod), text);
        }
        templates.push(shipped.pod().clone());
    }
    assert_ne!(
        templates[0], templates[1],
        "the same pods would go on with the old mapping"
    );
}
