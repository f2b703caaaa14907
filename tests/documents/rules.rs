//! The shipped alerts: each is tested against a clock, has an entry in the runbook, and a row in its
//! table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::fresh::is_part_fresh;

/// Where the rules are.
const RULES: &str = "deploy/kubernetes/components/observability/rules.yaml";
/// Where promtool's tests of them are: one file a group of alerts.
const TESTS: &str = "tests/observability";
/// What stands before the anchor of an entry.
const RUNBOOK: &str = "https://RUNBOOK/docs/runbook.md#";
const SEVERITIES: [&str; 2] = ["page", "ticket"];

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What Prometheus reads of the rules.
pub fn spec() -> Value {
    let text = fs::read_to_string(path(RULES)).unwrap();
    let mut object: Value = serde_saphyr::from_str(&text).unwrap();
    object["spec"].take()
}

/// Every rule, in the order of the file.
pub fn rules() -> Vec<Value> {
    let spec = spec();
    let groups = spec["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.cloned().collect()
}

fn alerts() -> Vec<Value> {
    let mut alerts = rules();
    alerts.retain(|rule| rule.get("alert").is_some());
    assert!(alerts.len() > 20, "only {} alerts were found", alerts.len());
    alerts
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no {pointer}: {value}"))
}

fn promtool(arguments: &[&str], folder: &Path) {
    let mut promtool = Command::new(local_stack::install::promtool().unwrap());
    let done = promtool.current_dir(folder).args(arguments);
    let done = done.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {said}");
}

/// The names of promtool's tests, and what each file holds.
fn tests() -> BTreeMap<String, String> {
    let files = fs::read_dir(path(TESTS)).unwrap();
    let read = |file: std::io::Result<fs::DirEntry>| {
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        (file.file_name().into_string().unwrap(), text)
    };
    files.map(read).collect()
}

#[test]
fn the_rules_are_promql() {
    let folder = tempfile::TempDir::new().unwrap();
    // JSON is YAML.
    fs::write(folder.path().join("rules.yaml"), spec().to_string()).unwrap();
    promtool(&["check", "rules", "rules.yaml"], folder.path());
}

#[test]
fn each_alert_fires_and_ends_when_its_tests_say() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut spec = spec();
    // promtool compares annotations word by word; another test here reads them.
    for group in spec["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("annotations");
        }
    }
    fs::write(folder.path().join("rules.yaml"), spec.to_string()).unwrap();
    for (name, text) in tests() {
        let name = format!("test-{name}");
        fs::write(folder.path().join(&name), text).unwrap();
        promtool(&["test", "rules", &name], folder.path());
    }
}

/// Minutes since the beginning of a test.
fn minutes(time: &str) -> u64 {
    let (number, unit) = time.split_at(time.len() - 1);
    let factor = match unit {
        "m" => 1,
        "h" => 60,
        _ => panic!("minutes or hours: {time}"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// What one of promtool's tests says of one alert: whether it fires, by the minute.
fn looks(test: &Value, alert: &str) -> BTreeMap<u64, bool> {
    let looks = test["alert_rule_test"].as_array().into_iter().flatten();
    let looks = looks.filter(|look| look["alertname"] == alert);
    let fires = |look: &Value| !look["exp_alerts"].as_array().unwrap().is_empty();
    looks
        .map(|look| (minutes(text(look, "/eval_time")), fires(look)))
        .collect()
}

/// What is missing of: not firing at first, firing, still firing an hour later, not firing once it
/// is mended.
fn missing(looks: &BTreeMap<u64, bool>) -> Vec<&'static str> {
    let firing = || looks.iter().filter(|(_, fires)| **fires);
    let (Some((first, _)), Some((last, _))) = (firing().next(), firing().next_back()) else {
        return vec!["a case where it fires"];
    };
    let quiet = |minute: &u64| looks.get(minute) == Some(&false);
    let mut missing = Vec::new();
    if !looks.keys().any(|minute| minute < first && quiet(minute)) {
        missing.push("a case where it does not fire yet");
    }
    if last < &(first + 60) {
        missing.push("a case where it still fires an hour later");
    }
    if !looks.keys().any(|minute| minute > last && quiet(minute)) {
        missing.push("a case where it has ended");
    }
    missing
}

#[test]
fn every_alert_is_tested_firing_not_firing_and_still_firing_an_hour_later() {
    let mut tests_of_all = Vec::new();
    for text in tests().values() {
        let file: Value = serde_saphyr::from_str(text).unwrap();
        tests_of_all.extend(file["tests"].as_array().unwrap().clone());
    }
    let mut faults = Vec::new();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        let all = tests_of_all.iter().map(|test| missing(&looks(test, name)));
        let best = all.min_by_key(Vec::len).unwrap();
        if !best.is_empty() {
            faults.push(format!("{name} needs {}", best.join(", ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The labels of each alert, as promtool's tests expect them.
fn labels() -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<_, BTreeSet<String>>::new();
    for content in tests().values() {
        let file: Value = serde_saphyr::from_str(content).unwrap();
        let tests = file["tests"].as_array().unwrap().iter();
        let looks = tests.flat_map(|test| test["alert_rule_test"].as_array().into_iter());
        for look in looks.flatten() {
            let of = labels.entry(text(look, "/alertname").to_owned());
            let of = of.or_default();
            for alert in look["exp_alerts"].as_array().unwrap() {
                of.extend(alert["exp_labels"].as_object().unwrap().keys().cloned());
            }
        }
    }
    labels
}

#[test]
fn every_alert_says_where_and_whom_it_concerns() {
    let labels = labels();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        assert!(name.starts_with("WorkflowsSink"), "{name}");
        assert!(SEVERITIES.contains(&text(&alert, "/labels/severity")));
        let said = [
            text(&alert, "/annotations/summary"),
            text(&alert, "/annotations/description"),
        ]
        .join(" ");
        for label in &labels[name] {
            // What the rule itself sets, or selects one value of.
            if ["severity", "code", "condition"].contains(&label.as_str()) {
                continue;
            }
            let named = format!("$labels.{label} ");
            assert!(said.contains(&named), "{name} does not name {label}");
        }
    }
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The headings of the runbook's entries, by code.
fn headings() -> BTreeMap<String, String> {
    let text = fs::read_to_string(path("docs/runbook.md")).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let headings = headings.filter_map(|heading| {
        let (code, _) = heading.split_once(" · ")?;
        Some((code.to_owned(), heading.to_owned()))
    });
    headings.collect()
}

/// The codes that an alert names: its own first.
fn codes(alert: &Value) -> Vec<String> {
    let mut codes = vec![text(alert, "/labels/code").to_owned()];
    let description = text(alert, "/annotations/description");
    for (at, _) in description.match_indices("WS-") {
        let code = description[at..at + 6].to_owned();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

#[test]
fn every_alert_leads_to_its_entry_in_the_runbook() {
    let headings = headings();
    for alert in alerts() {
        let name = text(&alert, "/alert");
        for code in codes(&alert) {
            assert!(headings.contains_key(&code), "{name}: no entry {code}");
        }
        let heading = &headings[text(&alert, "/labels/code")];
        let url = text(&alert, "/annotations/runbook_url");
        assert_eq!(url, format!("{RUNBOOK}{}", anchor(heading)), "{name}");
    }
}

/// A summary as a person reads it before there is an alert: labels in capitals, and N for a value.
fn summary(alert: &Value) -> String {
    let mut out = String::new();
    let mut rest = text(alert, "/annotations/summary");
    while let Some((before, after)) = rest.split_once("{{") {
        let (field, behind) = after.split_once("}}").expect("closed");
        let word = field.split_whitespace().next().expect("a field");
        let shown = word.strip_prefix("$labels.").map(str::to_uppercase);
        out += before;
        out += &shown.unwrap_or_else(|| "N".to_owned());
        rest = behind;
    }
    out + rest
}

fn table() -> String {
    let mut out =
        String::from("| alert | severity | for | when | entry |\n|---|---|---|---|---|\n");
    for alert in alerts() {
        let lasts = alert["for"].as_str().unwrap_or("–");
        let row = [
            text(&alert, "/alert").to_owned(),
            text(&alert, "/labels/severity").to_owned(),
            lasts.to_owned(),
            summary(&alert),
            codes(&alert).join(", "),
        ];
        out += &format!("| {} |\n", row.join(" | "));
    }
    out
}

#[test]
fn the_runbooks_table_is_the_rules() {
    is_part_fresh("docs/runbook.md", RULES, &table());
}

#[test]
fn a_test_that_lacks_a_case_is_found() {
    let look = |minutes: &str, fires: bool| {
        let alerts = if fires { json!([{}]) } else { json!([]) };
        json!({ "alertname": "A", "eval_time": minutes, "exp_alerts": alerts })
    };
    let all = [
        look("1m", false),
        look("2m", true),
        look("62m", true),
        look("2h", false),
    ];
    let test = |looks: &[Value]| json!({ "alert_rule_test": looks });
    assert_eq!(missing(&looks(&test(&all), "A")), [""; 0]);
    for left_out in 0..all.len() {
        let mut some = all.to_vec();
        some.remove(left_out);
        assert_eq!(missing(&looks(&test(&some), "A")).len(), 1, "{left_out}");
    }
    assert_eq!(missing(&looks(&test(&all), "B")).len(), 1);
}
