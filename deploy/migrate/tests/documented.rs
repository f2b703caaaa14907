//! What docs/migration.md tells people to type can be typed, and what the manifests run can be run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use datastore_migrate::cli::Cli;
use serde_json::Value;
use workflows_sink::config::Config;

const PAGE: &str = include_str!("../../../docs/migration.md");

/// The lines of the page that begin with the tool's name, their continuations included.
fn lines() -> Vec<String> {
    let page = PAGE.replace("\\\n", " ");
    let typed = page.lines().filter_map(|line| line.strip_prefix("    "));
    let typed = typed.map(|line| line.split(" > ").next().unwrap_or(line).trim().to_owned());
    typed
        .filter(|line| line.starts_with("datastore-migrate "))
        .collect()
}

#[test]
fn every_line_of_the_page_is_one_that_the_tool_takes() {
    let lines = lines();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in &lines {
        if let Err(wrong) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{line}: {wrong}");
        }
    }
}

/// An option that does nothing is none: who gives it waits for a file that never comes.
#[test]
fn a_step_without_a_report_refuses_to_write_one() {
    let plans = [
        "objects plan --remap r --from gs://a --to gs://b --listing l",
        "delete-old plan --remap r --project p --from gs://a",
        "mapping",
    ];
    for plan in plans {
        let line = format!("datastore-migrate {plan} --report file");
        let refused = Cli::try_parse_from(line.split(' ')).expect_err("refused");
        let refused = refused.to_string();
        assert!(
            refused.contains("unexpected argument '--report'"),
            "{refused}"
        );
    }
    for unheld in [
        "ids e --out r --seed s",
        "accounts e --remap r",
        "objects plan --remap r --from gs://a --to gs://b --listing l",
    ] {
        let line = format!("datastore-migrate {unheld} --new-mapping");
        let refused = Cli::try_parse_from(line.split(' ')).expect_err("refused");
        let refused = refused.to_string();
        assert!(
            refused.contains("unexpected argument '--new-mapping'"),
            "{refused}"
        );
    }
}

#[test]
fn every_step_is_on_the_page() {
    for step in [
        "ids export",
        "entities export",
        "accounts export",
        "verify export",
        "objects plan",
        "objects verify",
        "delete-old plan",
    ] {
        let step = format!("datastore-migrate {step}");
        assert!(lines().iter().any(|line| line.starts_with(&step)), "{step}");
    }
}

fn manifest(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/migration");
    let text = fs::read_to_string(folder.join(name)).expect("a manifest");
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn the_steps_in_the_cluster_are_ones_that_the_tool_takes() {
    for step in ["ids", "dry-run", "entities", "accounts", "verify"] {
        let kustomization = manifest(&format!("{step}/kustomization.yaml"));
        let patch = kustomization["patches"][0]["patch"]
            .as_str()
            .expect("a patch");
        let patch: Value = serde_saphyr::from_str(patch).expect("YAML");
        let arguments = patch[0]["value"].as_array().expect("arguments").iter();
        let arguments = arguments.map(|argument| argument.as_str().expect("a text"));
        let line: Vec<&str> = ["datastore-migrate"].into_iter().chain(arguments).collect();
        assert!(line[1] == step || step == "dry-run", "{line:?}");
        if let Err(wrong) = Cli::try_parse_from(&line) {
            panic!("{line:?}: {wrong}");
        }
    }
}

/// The settings of a CronJob, or of a patch of one.
fn settings_of(job: &Value) -> BTreeMap<String, String> {
    let container = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0];
    let settings = container["env"].as_array().expect("settings").iter();
    let settings = settings.map(|setting| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let value = text(&setting["value"]).unwrap_or_else(|| "a-secret".to_owned());
        (text(&setting["name"]).expect("a name"), value)
    });
    settings.collect()
}

#[test]
fn the_settings_in_the_cluster_are_ones_of_the_service() {
    let plain = settings_of(&manifest("step/job.yaml"));
    let config = Config::from_vars(plain.clone().into_iter()).expect("the service's settings");
    assert_eq!(config.mongodb.database, "workflows");
    let password = tempfile::NamedTempFile::new().expect("a file");
    fs::write(password.path(), "a-secret").expect("written");
    for (component, port) in [("tls", "9093"), ("scram", "9094")] {
        let component = manifest(&format!("components/{component}/kustomization.yaml"));
        let patch = component["patches"][0]["patch"].as_str().expect("a patch");
        let mut settings = plain.clone();
        settings.extend(settings_of(&serde_saphyr::from_str(patch).expect("YAML")));
        assert!(settings["DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS"].ends_with(port));
        settings.retain(|name, _| !name.contains("LOCATION"));
        if let Some(file) = settings.get_mut("DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE") {
            *file = password.path().to_str().expect("UTF-8").to_owned();
        }
        Config::from_vars(settings.into_iter()).expect("the service's settings");
    }
}
