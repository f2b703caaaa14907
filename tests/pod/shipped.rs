//! The manifests of `deploy/kubernetes`, rendered, and an API server that they are applied to.

use std::path::Path;

use local_stack::kubernetes::{Kubernetes, KubernetesOptions};
use serde_json::{Value, json};

/// An API server whose namespaces are as the manifests expect them, with `default` under restricted
/// Pod Security.
pub async fn cluster() -> Kubernetes {
    let kubernetes = Kubernetes::start(KubernetesOptions::default())
        .await
        .expect("an API server");
    let mongodb = "apiVersion: v1\nkind: Namespace\nmetadata: {name: mongodb}\n";
    kubernetes.apply(mongodb).await.expect("a namespace");
    let labels = [
        "label",
        "namespace",
        "default",
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/warn=restricted",
    ];
    kubernetes.kubectl(&labels, None).await.expect("labelled");
    kubernetes
}

/// The objects, as kustomize renders them.
pub struct Shipped {
    pub objects: Vec<Value>,
}

impl Shipped {
    pub async fn render(kubernetes: &Kubernetes) -> Shipped {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
        Shipped::render_from(kubernetes, &base).await
    }

    /// Those of another folder.
    pub async fn render_from(kubernetes: &Kubernetes, folder: &Path) -> Shipped {
        let folder = folder.to_str().expect("UTF-8");
        let yaml = kubernetes
            .kubectl(&["kustomize", folder], None)
            .await
            .expect("rendered");
        let to_json = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
        let text = kubernetes
            .kubectl(&to_json, Some(&yaml))
            .await
            .expect("objects");
        let objects = serde_json::Deserializer::from_str(&text).into_iter();
        Shipped {
            objects: objects.collect::<Result<_, _>>().expect("JSON"),
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
