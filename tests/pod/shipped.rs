//! The manifests of `deploy/`, rendered, and an API server that they are applied to.

use std::fs;
use std::path::{Path, PathBuf};

use local_stack::kubernetes::{Kubernetes, KubernetesOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The namespace that the shipped overlays put the service into.
pub const NAMESPACE: &str = "default";

/// The overlay that the tests run.
pub const DYFF: &str = "kubernetes/overlays/dyff";

/// An API server whose namespaces are as the manifests expect them, under restricted Pod Security.
pub async fn cluster() -> Kubernetes {
    let kubernetes = Kubernetes::start(KubernetesOptions::default())
        .await
        .expect("an API server");
    for namespace in [NAMESPACE, "mongodb"] {
        restricted(&kubernetes, namespace).await;
    }
    kubernetes
}

/// A namespace whose pods must meet the restricted Pod Security Standard.
pub async fn restricted(kubernetes: &Kubernetes, name: &str) {
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    });
    let metadata = json!({ "name": name, "labels": labels });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    // Of a manager of its own: a manifest of the namespace without labels takes none away.
    let apply = ["apply", "--server-side", "--field-manager=tests", "-f", "-"];
    let applied = kubernetes
        .kubectl(&apply, Some(&namespace.to_string()))
        .await;
    applied.expect("a namespace");
}

/// The folder of all manifests.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// A folder with these files, in which `DEPLOY` stands for the way to `deploy/`: kustomize takes no
/// absolute one.
fn overlay(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path().canonicalize().expect("a path");
    let target = deploy().to_str().expect("UTF-8").to_owned();
    for (name, text) in files {
        let file = root.join(name);
        let parent = file.parent().expect("a folder");
        fs::create_dir_all(parent).expect("made");
        let up = "../".repeat(parent.components().count() - 1);
        let way = format!("{up}{}", target.trim_start_matches('/'));
        fs::write(&file, text.replace("DEPLOY", &way)).expect("written");
    }
    folder
}

/// The objects, as kustomize renders them.
pub struct Shipped {
    pub objects: Vec<Value>,
}

impl Shipped {
    /// Those of the overlay that the tests run.
    pub async fn render(kubernetes: &Kubernetes) -> Shipped {
        Shipped::of(kubernetes, DYFF).await
    }

    /// Those of a folder of `deploy/`.
    pub async fn of(kubernetes: &Kubernetes, folder: &str) -> Shipped {
        Shipped::render_from(kubernetes, &deploy().join(folder)).await
    }

    /// Those of an overlay of somebody's own: files by their names, in which `DEPLOY` stands for
    /// `deploy/`.
    pub async fn of_overlay(kubernetes: &Kubernetes, files: &[(&str, &str)]) -> Shipped {
        let folder = overlay(files);
        Shipped::render_from(kubernetes, &folder.path().canonicalize().expect("a path")).await
    }

    /// Those of another folder.
    pub async fn render_from(kubernetes: &Kubernetes, folder: &Path) -> Shipped {
        let folder = folder.to_str().expect("UTF-8");
        let yaml = kubernetes
            .kubectl(&["kustomize", folder], None)
            .await
            .expect("rendered");
        Shipped {
            objects: serde_saphyr::from_multiple(&yaml).expect("YAML"),
        }
    }

    /// Those of other kinds than this one.
    pub fn without(&self, kind: &str) -> Shipped {
        let others = self.objects.iter().filter(|object| object["kind"] != kind);
        Shipped {
            objects: others.cloned().collect(),
        }
    }

    /// All of them, for `kubectl apply`.
    pub fn list(&self) -> String {
        json!({ "apiVersion": "v1", "kind": "List", "items": self.objects }).to_string()
    }

    pub fn object(&self, kind: &str, name: &str) -> &Value {
        let found = self.objects.iter().find(|object| {
            let full = object["metadata"]["name"].as_str().unwrap_or_default();
            let generated = kind == "ConfigMap" && full.starts_with(&format!("{name}-"));
            object["kind"] == kind && (full == name || generated)
        });
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    pub fn object_mut(&mut self, kind: &str, name: &str) -> &mut Value {
        let wanted = self.object(kind, name)["metadata"]["name"].clone();
        let found = self.objects.iter_mut();
        let mut found = found.filter(|object| object["kind"] == kind);
        found
            .find(|object| object["metadata"]["name"] == wanted)
            .expect("an object")
    }

    /// The pod of the Deployment.
    pub fn pod(&self) -> &Value {
        &self.object("Deployment", "workflows-sink")["spec"]["template"]
    }

    /// A container of that pod.
    pub fn container(&self, name: &str) -> &Value {
        let spec = &self.pod()["spec"];
        let all = ["initContainers", "containers"].into_iter();
        let mut all = all.flat_map(|list| spec[list].as_array().into_iter().flatten());
        all.find(|container| container["name"] == name)
            .expect("a container")
    }

    /// A setting of both containers.
    pub fn setting(&self, name: &str) -> &str {
        let data = &self.object("ConfigMap", "workflows-sink")["data"];
        data[name]
            .as_str()
            .unwrap_or_else(|| panic!("no setting {name}"))
    }

    /// Changes settings, as an overlay does.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        let map = self.object_mut("ConfigMap", "workflows-sink");
        for (name, value) in settings {
            map["data"][*name] = (*value).into();
        }
    }
}
