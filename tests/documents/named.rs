//! Whatever a rule, a panel or a page says of metrics is true: names, labels, and values of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::rules::rules;

const DASHBOARD: &str = "deploy/kubernetes/components/observability/dashboard.json";

/// Of kube-state-metrics, with those of their labels that are used.
const OF_KUBERNETES: [(&str, &[&str]); 5] = [
    ("kube_deployment_spec_replicas", &["deployment"]),
    ("kube_pod_status_ready", &["pod", "condition"]),
    ("kube_pod_status_phase", &["pod", "phase"]),
    (
        "kube_pod_container_status_restarts_total",
        &["pod", "container"],
    ),
    (
        "kube_pod_init_container_status_restarts_total",
        &["pod", "container"],
    ),
];

/// Given by whoever scrapes.
const OF_THE_TARGET: [&str; 4] = ["namespace", "pod", "container", "instance"];

/// What begins like a metric and is a collection.
const COLLECTIONS: [&str; 2] = ["workflows_sink_dead_letters", "workflows_sink_checkpoints"];

type Labels = BTreeSet<String>;

/// What there is.
struct Known {
    labels: BTreeMap<String, Labels>,
    values: BTreeMap<String, Labels>,
}

fn read(path: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> Labels {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

impl Known {
    /// By docs/metrics.md, which is made from the registries.
    fn read() -> Known {
        let page = read(Path::new("docs/metrics.md"));
        let (mut labels, mut values) = (BTreeMap::new(), BTreeMap::<String, Labels>::new());
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let name = cells[0].split('`').nth(1).unwrap().to_owned();
            match &cells[..] {
                [_, "histogram", of, ..] => {
                    let mut of = quoted(of);
                    for part in ["sum", "count"] {
                        labels.insert(format!("{name}_{part}"), of.clone());
                    }
                    of.insert("le".to_owned());
                    labels.insert(format!("{name}_bucket"), of.clone());
                    labels.insert(name, of);
                }
                [_, _, of, _] => {
                    labels.insert(name, quoted(of));
                }
                // Of a label that two metrics have, the values of both.
                [_, all] => values.entry(name).or_default().extend(quoted(all)),
                _ => panic!("{row}"),
            }
        }
        for (name, of) in OF_KUBERNETES {
            let of = of.iter().map(|label| (*label).to_owned()).collect();
            labels.insert(name.to_owned(), of);
        }
        assert!(labels.len() > 40 && values.len() == 3, "the page is read");
        Known { labels, values }
    }

    /// What is wrong with the metrics of an expression.
    fn faults(&self, expression: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, selector) in metrics(expression) {
            if COLLECTIONS.contains(&name.as_str()) {
                continue;
            }
            let Some(labels) = self.labels.get(&name) else {
                faults.push(format!("no metric {name}"));
                continue;
            };
            for (label, value) in matchers(&selector) {
                if !labels.contains(&label) && !OF_THE_TARGET.contains(&label.as_str()) {
                    faults.push(format!("{name} has no label {label}"));
                }
                let known = self.values.get(&label);
                let plain = value.split('|').filter(|value| !value.contains('$'));
                for value in plain {
                    if known.is_some_and(|known| !known.contains(value)) {
                        faults.push(format!("{name}: {label} is never {value}"));
                    }
                }
            }
        }
        faults
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Each metric that is named in a text, with what stands in braces behind it. Rules record names
/// with a colon, which are checked where they are used.
fn metrics(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_of_a_name) {
        let word = &rest[at..];
        let name = &word[..word.find(|c| !is_of_a_name(c)).unwrap_or(word.len())];
        rest = &word[name.len()..];
        let begins = ["workflows_sink_", "process_", "kube_"];
        if begins.iter().any(|begin| name.starts_with(begin)) && !name.ends_with('_') {
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let selector = selector.map_or("", |(selector, _)| selector);
            found.push((name.to_owned(), selector.to_owned()));
        }
    }
    found
}

/// The labels of a selector, and what they are held against.
fn matchers(selector: &str) -> Vec<(String, String)> {
    let parts = selector.split('"').collect::<Vec<_>>();
    let pairs = parts.chunks_exact(2).map(|pair| {
        let label = pair[0].trim_matches([',', ' ', '=', '!', '~']);
        (label.to_owned(), pair[1].to_owned())
    });
    pairs.collect()
}

/// The expressions of the panels, with what they are in.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(Path::new(DASHBOARD))).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            found.push((title.to_owned(), expression.to_owned()));
        }
    }
    assert!(found.len() > 15, "only {} expressions", found.len());
    found
}

/// Everything that Prometheus is asked, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let rules = rules().into_iter().map(|rule| {
        let name = ["alert", "record"]
            .iter()
            .find_map(|key| rule[key].as_str());
        let expression = rule["expr"].as_str().unwrap();
        (name.unwrap().to_owned(), expression.to_owned())
    });
    rules.chain(panels()).collect()
}

#[test]
fn every_metric_of_a_rule_or_a_panel_exists_with_its_labels() {
    let known = Known::read();
    let recorded: Vec<_> = rules();
    let recorded: Labels = (recorded.iter())
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned))
        .collect();
    let mut faults = Vec::new();
    for (place, expression) in expressions() {
        let of_it = known.faults(&expression).into_iter();
        faults.extend(of_it.map(|fault| format!("{place}: {fault}")));
        let words = expression.split(|c| !is_of_a_name(c));
        for word in words.filter(|word| word.starts_with("workflows_sink:")) {
            if !recorded.contains(word) {
                faults.push(format!("{place}: nothing records {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_metric_of_a_page_exists_with_its_labels() {
    let known = Known::read();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = fs::read_dir(folder)
        .unwrap()
        .map(|page| page.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|is| is == "md"));
    let mut faults = Vec::new();
    for page in pages.chain([Path::new("README.md").to_owned()]) {
        let text = read(&page);
        let mut of_page = known.faults(&text);
        // Without what all of them begin with.
        for short in quoted(&text) {
            let is_whole = short.contains("sink_") || short.starts_with("process_");
            if short.ends_with("_total") && !is_whole {
                of_page.extend(known.faults(&format!("workflows_sink_{short}")));
            }
        }
        let of_page = of_page.into_iter();
        faults.extend(of_page.map(|fault| format!("{}: {fault}", page.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_there_is_found() {
    let known = Known::read();
    let good = r#"sum(rate(workflows_sink_batch_bytes_bucket{le="1"}[5m])) / workflows_sink_retries_total{reason!~"network|timeout",pod="p"}"#;
    assert_eq!(known.faults(good), [""; 0]);
    for bad in [
        "workflows_sink_retry_total",
        r#"workflows_sink_retries_total{cause="network"}"#,
        r#"workflows_sink_partition_state{state="halted"}"#,
        "workflows_sink_fenced_total_bucket",
        r#"kube_pod_status_ready{ready="true"}"#,
    ] {
        assert_eq!(known.faults(bad).len(), 1, "{bad}");
    }
}
