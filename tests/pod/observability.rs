//! The components of observability: what a real API server says to them, that each port is one of a
//! container's, and that a pod fills the panels that no worker alone can fill.

use std::path::PathBuf;
use std::time::Duration;

use local_stack::board::panels;
use local_stack::kubernetes::definitions;
use local_stack::prometheus::shipped_rules;
use local_stack::{Kubernetes, Prometheus};
use serde_json::Value;
use test_support::wait::{until, until_within};

use crate::documented::is_documented;
use crate::kafka::teach;
use crate::overlays::{is_taken, template};
use crate::shipped::{Shipped, cluster};

/// The folder of the service, as docs/kubernetes.md says.
const OBSERVED: &str = "\
namespace: default
resources: [DEPLOY/kubernetes/base]
components:
- DEPLOY/kubernetes/components/servers
- DEPLOY/kubernetes/components/observability
replacements:
- sourceValue: git.example/dyff/workflows-sink/-/blob/main
  targets:
  - select: {kind: PrometheusRule, name: workflows-sink}
    fieldPaths: [spec.groups.*.rules.*.annotations.runbook_url]
    options: {delimiter: /, index: 2}
";

/// Teaches the server kinds that are fetched.
async fn define(kubernetes: &Kubernetes, kinds: fn() -> anyhow::Result<Vec<PathBuf>>) {
    let files = tokio::task::spawn_blocking(kinds).await;
    teach(kubernetes, &files.expect("no panic").expect("definitions")).await;
}

fn of_kind<'s>(shipped: &'s Shipped, kind: &str) -> Vec<&'s Value> {
    let objects = shipped.objects.iter();
    objects.filter(|object| object["kind"] == kind).collect()
}

/// The names of the ports of the pods that a monitor selects, those of init containers included.
fn ports(shipped: &Shipped, selector: &Value) -> Vec<String> {
    let templates = shipped.objects.iter().filter_map(template);
    let selected = templates.filter(|template| {
        let wanted = selector["matchLabels"].as_object().expect("labels");
        let labels = &template["metadata"]["labels"];
        wanted.iter().all(|(name, value)| labels[name] == *value)
    });
    let lists = selected.flat_map(|template| {
        let lists = ["initContainers", "containers"].into_iter();
        lists.filter_map(|list| template["spec"][list].as_array())
    });
    let ports = lists
        .flatten()
        .filter_map(|container| container["ports"].as_array());
    let name = |port: &Value| port["name"].as_str().expect("a name").to_owned();
    ports.flatten().map(name).collect()
}

/// Each port that a pod has is scraped, and no other is asked for.
fn all_ports_are_scraped(shipped: &Shipped, kind: &str, endpoints: &str) {
    let monitors = of_kind(shipped, kind);
    assert_eq!(monitors.len(), 2, "the service, and the users of others");
    for monitor in monitors {
        let spec = &monitor["spec"];
        let scraped = spec[endpoints].as_array().expect("endpoints").iter();
        let name = |endpoint: &Value| endpoint["port"].as_str().expect("a port").to_owned();
        let mut scraped: Vec<String> = scraped.map(name).collect();
        let mut there = ports(shipped, &spec["selector"]);
        scraped.sort();
        there.sort();
        assert_eq!(scraped, there, "{monitor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_component_passes_a_strict_dry_run_and_scrapes_every_port() {
    let kubernetes = cluster().await;
    define(&kubernetes, definitions::prometheus_operator).await;
    is_documented(OBSERVED);
    let files = [("kustomization.yaml", OBSERVED)];
    let shipped = Shipped::of_overlay(&kubernetes, &files).await;
    is_taken(&kubernetes, &shipped).await;
    all_ports_are_scraped(&shipped, "PodMonitor", "podMetricsEndpoints");
    let rules = &of_kind(&shipped, "PrometheusRule")[0]["spec"];
    let text = rules.to_string();
    assert!(!text.contains("RUNBOOK"), "an overlay names the place");
    let page = "https://git.example/dyff/workflows-sink/-/blob/main/docs/runbook.md#ws-";
    assert_eq!(
        text.matches(page).count(),
        text.matches("\"alert\"").count()
    );
    let dashboard = shipped.object("ConfigMap", "dashboard-workflows-sink");
    let metadata = &dashboard["metadata"];
    assert_eq!(
        metadata["name"], "dashboard-workflows-sink",
        "without a suffix"
    );
    assert_eq!(metadata["labels"]["grafana_dashboard"], "1");
    google_has_the_same(&kubernetes, rules).await;
}

/// With Google's component there is nothing of the operator's, a server with Google's kinds takes
/// it, and the rules are the same.
async fn google_has_the_same(kubernetes: &Kubernetes, rules: &Value) {
    let google = OBSERVED.replace("components/observability", "components/observability-gke");
    let google = google.replace("kind: PrometheusRule", "kind: Rules");
    let files = [("kustomization.yaml", google.as_str())];
    let shipped = Shipped::of_overlay(kubernetes, &files).await;
    for object in &shipped.objects {
        assert_ne!(object["apiVersion"], "monitoring.coreos.com/v1", "{object}");
    }
    define(kubernetes, definitions::google).await;
    is_taken(kubernetes, &shipped).await;
    all_ports_are_scraped(&shipped, "PodMonitoring", "endpoints");
    assert_eq!(&of_kind(&shipped, "Rules")[0]["spec"], rules);
}

/// Scrapes both containers of a pod until each panel has an answer, those of the users too.
pub async fn every_panel_has_an_answer(sink: &str, admin: &str) {
    let prometheus = Prometheus::start(&shipped_rules())
        .await
        .expect("a Prometheus");
    let labels = [("namespace", "default"), ("pod", "workflows-sink-0")];
    let targets: [(&str, &[(&str, &str)]); 2] = [(sink, &labels), (admin, &labels)];
    prometheus.scrape(&targets).expect("written");
    until("both are scraped", || async {
        let up = prometheus.query("up == 1").expect("an answer");
        up.len() == 2
    })
    .await;
    for panel in panels() {
        let what = format!("{} has an answer", panel.title);
        // A rate needs what happens meanwhile.
        until_within(Duration::from_secs(90), &what, || async {
            let asked = panel.queries.iter();
            let mut asked = asked.map(|query| {
                let found = prometheus.query(&query.expression("1m"));
                found.expect("an answer")
            });
            asked.all(|found| found.iter().any(|(_, value)| value.is_finite()))
        })
        .await;
    }
}
