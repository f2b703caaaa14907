//! Every overlay: what a real API server says to it, and whether it fits the clusters it is for.

use std::collections::BTreeMap;
use std::fs;

use local_stack::{Authority, Kubernetes};
use serde_json::{Value, json};
use tempfile::TempDir;
use workflows_sink::admin::config::Admin;

use crate::documented::is_documented;
use crate::manifests::{config_of, dry_run, environment, pod_of};
use crate::shipped::{DYFF, NAMESPACE, Shipped, cluster, restricted};

/// The service in a namespace of its own, with certificates, as docs/kubernetes.md says.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "kustomization.yaml",
        "\
resources: [sink, DEPLOY/kubernetes/access-mongodb]
patches:
- target: {kind: RoleBinding, name: workflows-sink-user-admin}
  patch: |
    - {op: replace, path: /subjects/0/namespace, value: sinks}
    - {op: replace, path: /subjects/1/namespace, value: sinks}
",
    ),
    (
        "sink/kustomization.yaml",
        "\
namespace: sinks
resources: [DEPLOY/kubernetes/base]
components: [DEPLOY/kubernetes/components/servers, DEPLOY/kubernetes/components/tls]
images:
- name: REGISTRY/workflows-sink
  newName: registry.example/dyff/workflows-sink
  newTag: 1.2.3
",
    ),
];

/// The service with components beside what is in another namespace, as docs/kubernetes.md says.
const WITH_COMPONENTS: [(&str, &str); 2] = [
    (
        "kustomization.yaml",
        "resources: [sink, DEPLOY/kubernetes/access-mongodb]\n",
    ),
    (
        "sink/kustomization.yaml",
        "\
namespace: default
resources: [DEPLOY/kubernetes/base]
components:
- DEPLOY/kubernetes/components/servers
- DEPLOY/kubernetes/components/gke
- DEPLOY/kubernetes/components/tls
- DEPLOY/kubernetes/components/autoscaling
- DEPLOY/kubernetes/components/observability
images:
- name: REGISTRY/workflows-sink
  newName: registry.example/dyff/workflows-sink
",
    ),
];

/// The template of the pods of an object, if it has one.
pub fn template(object: &Value) -> Option<&Value> {
    let spec = match object["kind"].as_str() {
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"],
        Some("Deployment") => &object["spec"],
        _ => return None,
    };
    Some(&spec["template"])
}

/// The containers of a template, those that start first included.
fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.flat_map(|list| template["spec"][list].as_array().into_iter().flatten())
}

/// The server takes all of it, strictly and without a warning, and each pod under restricted Pod
/// Security.
pub async fn is_taken(kubernetes: &Kubernetes, shipped: &Shipped) {
    let (taken, said) = dry_run(kubernetes, &shipped.list()).await;
    assert!(taken, "{said}");
    let count = shipped.objects.len();
    assert_eq!(said.lines().count(), count, "no warning: {said}");
    // A pod is refused without its account.
    kubernetes.apply(&shipped.list()).await.expect("applied");
    for object in &shipped.objects {
        let Some(template) = template(object) else {
            continue;
        };
        let text = |field: &str| object["metadata"][field].as_str().expect("a text");
        let (name, namespace) = (text("name"), text("namespace"));
        let (taken, said) = dry_run(kubernetes, &pod_of(template, name, namespace)).await;
        assert!(taken && !said.contains("Warning"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_overlay_passes_a_strict_dry_run() {
    let kubernetes = cluster().await;
    restricted(&kubernetes, "sinks").await;
    for folder in [DYFF, "kubernetes/overlays/local"] {
        is_taken(&kubernetes, &Shipped::of(&kubernetes, folder).await).await;
    }
    for (_, text) in ELSEWHERE {
        is_documented(text);
    }
    let elsewhere = Shipped::of_overlay(&kubernetes, &ELSEWHERE).await;
    is_taken(&kubernetes, &elsewhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlays_namespace_moves_the_service_and_not_what_is_mongodbs() {
    let kubernetes = cluster().await;
    let shipped = Shipped::of_overlay(&kubernetes, &ELSEWHERE).await;
    all_is_in(&shipped, "sinks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_components_add_is_where_the_service_is() {
    let kubernetes = cluster().await;
    for (_, file) in WITH_COMPONENTS {
        is_documented(file);
    }
    let shipped = Shipped::of_overlay(&kubernetes, &WITH_COMPONENTS).await;
    for kind in ["ScaledObject", "PodMonitor", "PrometheusRule"] {
        shipped.object(kind, "workflows-sink");
    }
    all_is_in(&shipped, "default");
}

/// The service is in this namespace, and what it may read of MongoDB's in that of MongoDB.
fn all_is_in(shipped: &Shipped, service: &str) {
    for object in &shipped.objects {
        let metadata = &object["metadata"];
        let of_mongodb = metadata["name"] == "workflows-sink-user-admin";
        let namespace = if of_mongodb { "mongodb" } else { service };
        assert_eq!(metadata["namespace"], namespace, "{object}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], service, "{object}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_image_is_looked_for_in_a_public_registry() {
    let kubernetes = cluster().await;
    let version = env!("CARGO_PKG_VERSION");
    let images = |shipped: &Shipped| {
        let templates = shipped.objects.iter().filter_map(template);
        let images = templates.flat_map(containers).map(|container| {
            let image = container["image"].as_str();
            image.expect("an image").to_owned()
        });
        images.collect::<Vec<_>>()
    };
    let dyff = images(&Shipped::render(&kubernetes).await);
    assert_eq!(dyff, vec![format!("REGISTRY/workflows-sink:{version}"); 5]);
    let named = images(&Shipped::of_overlay(&kubernetes, &ELSEWHERE).await);
    let wanted = "registry.example/dyff/workflows-sink:1.2.3";
    assert_eq!(named, vec![wanted; 5], "an overlay names the registry");
    // what is loaded by hand is never pulled
    let local = Shipped::of(&kubernetes, "kubernetes/overlays/local").await;
    for container in local
        .objects
        .iter()
        .filter_map(template)
        .flat_map(containers)
    {
        assert_eq!(container["imagePullPolicy"], "Never", "{container}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_every_program_takes_its_settings() {
    let kubernetes = cluster().await;
    let shipped = Shipped::of_overlay(&kubernetes, &ELSEWHERE).await;
    let authority = Authority::new().expect("an authority");
    let server = authority.server().expect("a certificate");
    // as Strimzi and the operator of MongoDB name them, where the volumes are mounted
    let root = TempDir::new().expect("a folder");
    for (volume, files) in [
        ("kafka-tls", &["ca.crt", "user.crt", "user.key"][..]),
        ("mongodb-ca", &["ca.crt"]),
    ] {
        let folder = root.path().join(volume);
        fs::create_dir(&folder).expect("made");
        for name in files {
            let from = match *name {
                "ca.crt" => &server.ca,
                _ => &server.key_and_certificate,
            };
            fs::copy(from, folder.join(name)).expect("copied");
        }
    }
    let mounted = root.path().to_str().expect("UTF-8");
    let environment = |container: &str| -> BTreeMap<String, String> {
        let names = environment(&shipped, container).into_iter();
        let there = |value: String| match value.contains("/run/workflows-sink/credentials") {
            true => value,
            false => value.replace("/run/workflows-sink", mounted),
        };
        names.map(|(name, value)| (name, there(value))).collect()
    };
    let config = config_of(environment("sink"));
    let properties = &config.kafka.properties;
    assert_eq!(properties.get("security.protocol"), Some("SSL"));
    assert_eq!(config.kafka.files.len(), 3, "followed when they change");
    let admin = Admin::from_vars(environment("admin").into_iter()).expect("admin's settings");
    assert!(admin.uri.contains("tls=true"), "{}", admin.uri);
    // each file that a setting names is in a volume that the container mounts
    for (container, volumes) in [
        ("sink", &["kafka-tls", "mongodb-ca"][..]),
        ("admin", &["mongodb-ca"]),
    ] {
        let mounts = shipped.container(container)["volumeMounts"].as_array();
        for volume in volumes {
            let path = format!("/run/workflows-sink/{volume}");
            let mounts = mounts.expect("mounts").iter();
            let found = mounts.filter(|mount| mount["mountPath"] == *path).count();
            assert_eq!(found, 1, "{container}: {path}");
        }
    }
}

/// What the policies of a set of objects let its pods reach on a port: the peers, as JSON.
fn peers(shipped: &Shipped, port: u16) -> Vec<Value> {
    let policies = shipped.objects.iter();
    let policies = policies.filter(|object| object["kind"] == "NetworkPolicy");
    let rules = policies.flat_map(|policy| policy["spec"]["egress"].as_array().into_iter());
    let rules = rules.flatten().filter(|rule| {
        let ports = rule["ports"].as_array().into_iter().flatten();
        ports.into_iter().any(|found| found["port"] == port)
    });
    let peers = rules.flat_map(|rule| rule["to"].as_array().into_iter().flatten());
    peers.cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_allow_what_the_settings_name() {
    let kubernetes = cluster().await;
    for folder in [DYFF, "mongodb/overlays/dyff"] {
        let shipped = Shipped::of(&kubernetes, folder).await;
        for address in ["169.254.20.10/32", "169.254.169.254/32"] {
            let peer = json!({ "ipBlock": { "cidr": address } });
            let policies = shipped.objects.iter();
            let policies = policies.filter(|object| object["kind"] == "NetworkPolicy");
            let of_names = peers(&shipped, 53);
            let found = of_names.iter().filter(|found| **found == peer).count();
            // one of two policies of the service has names; both of MongoDB's have
            let wanted = if folder == DYFF { 1 } else { policies.count() };
            assert_eq!(found, wanted, "{folder}: {address}: {of_names:?}");
        }
    }
    let shipped = Shipped::render(&kubernetes).await;
    let kafka = shipped.setting("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS");
    let mongodb = shipped.setting("DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING");
    for (address, port) in [(kafka, 9092), (kafka, 9093), (mongodb, 27017)] {
        let (before, _) = address.split_once(".svc.").expect("a Service's name");
        let (_, namespace) = before.rsplit_once('.').expect("its namespace");
        let label = "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
        let peers = peers(&shipped, port);
        let allowed = peers.iter().map(|peer| peer.pointer(label));
        let allowed: Vec<_> = allowed.collect();
        assert_eq!(allowed, [Some(&json!(namespace))], "{address}");
    }
}

/// Thousandths of a CPU, and MiB.
fn asked(container: &Value) -> (u64, u64) {
    let resources = &container["resources"];
    let limits = resources["limits"].as_object().expect("limits");
    for (name, limit) in limits {
        assert_eq!(
            &resources["requests"][name], limit,
            "Autopilot makes limits of requests"
        );
    }
    // The worker alone may burst: the others have next to nothing to do.
    let may_burst = !limits.contains_key("cpu");
    assert_eq!(may_burst, container["name"] == "sink", "{container}");
    let number = |name: &str, unit: &str| {
        let text = resources["requests"][name].as_str().expect("a quantity");
        let number = text.strip_suffix(unit).expect("its unit").parse::<u64>();
        number.expect("a number")
    };
    let storage = number("ephemeral-storage", "Mi");
    assert!((10..=1024).contains(&storage), "{container}");
    (number("cpu", "m"), number("memory", "Mi"))
}

#[tokio::test(flavor = "multi_thread")]
async fn autopilot_takes_the_pods_as_they_are() {
    let kubernetes = cluster().await;
    let shipped = Shipped::render(&kubernetes).await;
    for object in &shipped.objects {
        let Some(template) = template(object) else {
            continue;
        };
        let all = containers(template).map(asked);
        let (cpu, memory) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let name = &object["metadata"]["name"];
        // Its least size, and its steps where it cannot burst.
        assert!(cpu >= 50 && memory >= 52, "{name}: {cpu}m {memory}Mi");
        assert!(cpu < 250 || cpu % 250 == 0, "{name}: rounded up: {cpu}m");
        // A CPU goes with 1 to 6.5 GiB.
        let per_cpu = memory as f64 / 1024.0 / (cpu as f64 / 1000.0);
        assert!(
            (1.0..=6.5).contains(&per_cpu),
            "{name}: {per_cpu} GiB a CPU"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_other_services_are_kept_for_as_long_as_the_service_runs() {
    let kubernetes = cluster().await;
    let shipped = Shipped::render(&kubernetes).await;
    let jobs = shipped
        .objects
        .iter()
        .filter(|object| object["kind"] == "Job");
    assert_eq!(
        jobs.count(),
        0,
        "a Job fails on re-apply, and alerts nobody"
    );
    let users = shipped.object("Deployment", "workflows-sink-users");
    assert_eq!(users["metadata"]["namespace"], NAMESPACE);
    assert_eq!(users["spec"]["replicas"], 1);
    let container = &users["spec"]["template"]["spec"]["containers"][0];
    let args = [
        "admin",
        "serve",
        "--user",
        "query-backend",
        "--user",
        "auth-backend",
    ];
    assert_eq!(container["args"], json!(args));
    // its metrics are scraped as the sidecar's are
    let service = shipped.object("Service", "workflows-sink-users");
    let labels = &users["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
}
