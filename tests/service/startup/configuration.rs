//! Faults of the configuration, before a socket opens.

use std::collections::BTreeMap;

use serde_json::Value;
use test_support::scene::CONNECTION_STRING;
use test_support::wait::DEADLINE;
use test_support::worker::{binary, run};

async fn refused(vars: &[(&str, &str)]) -> String {
    let vars: BTreeMap<String, String> = (vars.iter())
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let (code, out, err) = run(&vars, &["run"]).await;
    assert_eq!(code, Some(78), "{err}");
    assert_eq!(out, "");
    err
}

#[tokio::test]
async fn every_fault_is_reported_at_once_with_its_variable_and_an_example() {
    let err = refused(&[
        ("DYFF_WORKFLOWS_SINK__START", "now"),
        ("DYFF_WORKFLOWS_SINK__LANES_MAX", "0"),
        ("DYFF_WORKFLOWS_SINK__TOPICZ", "a"),
        ("DYFF_KAFKA__CONFIG__ENABLE_AUTO_COMMIT", "true"),
        ("DYFF_KAFKA__CONFIG__NO_SUCH", "1"),
    ])
    .await;
    for line in [
        "error: WS-001: the configuration has 6 fault(s):",
        "  DYFF_WORKFLOWS_SINK__START: \"now\" is not one of earliest, latest (example: DYFF_WORKFLOWS_SINK__START=earliest)",
        "  DYFF_WORKFLOWS_SINK__LANES_MAX: \"0\" is not a whole number from 1 to 128 (example: DYFF_WORKFLOWS_SINK__LANES_MAX=4)",
        "  DYFF_WORKFLOWS_SINK__TOPICZ: there is no such setting; did you mean DYFF_WORKFLOWS_SINK__TOPICS?",
    ] {
        assert!(err.lines().any(|found| found == line), "{line}\n{err}");
    }
    for name in [
        "MONGODB__CONNECTION_STRING: is missing",
        "ENABLE_AUTO_COMMIT",
        "NO_SUCH",
    ] {
        assert!(err.contains(name), "{name}\n{err}");
    }
}

#[tokio::test]
async fn a_log_of_json_has_a_line_for_each_fault() {
    let err = refused(&[
        (CONNECTION_STRING, "mongodb://127.0.0.1:9/?replicaSet=rs0"),
        ("DYFF_WORKFLOWS_SINK__LOG_FORMAT", "json"),
        ("DYFF_WORKFLOWS_SINK__START", "now"),
        ("DYFF_WORKFLOWS_SINK_GROUP", "mine"),
    ])
    .await;
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let lines: Vec<Value> = err.lines().map(line).collect();
    let of = |variable: &str| lines.iter().find(|line| line["variable"] == variable);
    let start = of("DYFF_WORKFLOWS_SINK__START").expect("a line");
    assert_eq!(start["example"], "earliest", "{err}");
    let group = of("DYFF_WORKFLOWS_SINK_GROUP").expect("a line");
    let message = group["message"].as_str().expect("text");
    assert!(
        message.contains("did you mean DYFF_WORKFLOWS_SINK__GROUP?"),
        "{err}"
    );
}

#[tokio::test]
async fn no_fault_shows_a_secret() {
    let err = refused(&[
        (
            CONNECTION_STRING,
            "mongodb://workflows-sink:pa/hunter2@localhost/",
        ),
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "hunter2"),
        (
            "DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE",
            "/run/secrets/sasl",
        ),
        (
            "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE",
            "mongodb://workflows-sink:hunter2@localhost/",
        ),
    ])
    .await;
    assert!(err.contains("percent-encoded"), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[tokio::test]
async fn no_fault_shows_a_secret_that_is_in_the_wrong_variable() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "hunter2\n").expect("written");
    let password_file = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_FILE";
    let err = refused(&[
        (CONNECTION_STRING, "mongodb://u@127.0.0.1:9/?replicaSet=rs0"),
        (password_file, "hunter2"),
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE", "hunter2"),
        (
            "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS",
            "mongodb://u:hunter,2@h/",
        ),
        (
            "DYFF_WORKFLOWS_SINK__MAPPING_FILE",
            file.path().to_str().expect("a path"),
        ),
    ])
    .await;
    for part in [
        password_file,
        "SASL_PASSWORD_FILE",
        "MAPPING_FILE",
        "line 1",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(!err.contains("hunter") && !err.contains("2@h"), "{err}");
}

/// A kubeconfig has tokens, and what parses it quotes the lines around a fault.
#[tokio::test]
async fn a_kubeconfig_that_is_no_yaml_is_named_without_its_contents() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "apiVersion: v1\nusers:\n- name: a\n  user:\n    token: hunter2\n   x: [\n";
    std::fs::write(file.path(), text).expect("written");
    for (path, says) in [
        (file.path().to_str().expect("a path"), "at line "),
        ("/nowhere", "the kubeconfig /nowhere cannot be read"),
    ] {
        let vars = BTreeMap::from([("KUBECONFIG".to_owned(), path.to_owned())]);
        let arguments = ["admin", "secret", "get", "--secret", "a", "--key", "k"];
        let (code, _, err) = run(&vars, &arguments).await;
        assert_eq!(code, Some(78), "{err}");
        assert!(err.contains(says) && err.contains("KUBECONFIG"), "{err}");
        assert!(!err.contains("hunter2"), "{err}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_no_process() {
    let full = || std::fs::File::options().write(true).open("/dev/full");
    for (format, arguments) in [
        ("json", &["run"][..]),
        ("human", &["run"]),
        ("json", &["config", "show"]),
    ] {
        let vars = [
            ("DYFF_WORKFLOWS_SINK__LOG_FORMAT", format),
            ("DYFF_WORKFLOWS_SINK__START", "now"),
        ];
        let command = tokio::process::Command::new(binary())
            .args(arguments)
            .env_clear()
            .envs(vars)
            .stderr(full().expect("a full device"))
            .status();
        let ended = tokio::time::timeout(DEADLINE, command).await;
        let code = ended.expect("an end").expect("it runs").code();
        assert_eq!(code, Some(78), "{format} {arguments:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let err = refused(&[
        (CONNECTION_STRING, "mongodb://127.0.0.1:9/?replicaSet=rs0"),
        ("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", &address),
    ])
    .await;
    assert!(
        err.contains("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS") && err.contains(&address),
        "{err}"
    );
}

#[tokio::test]
async fn what_is_in_effect_is_shown_with_where_it_comes_from_and_no_secret() {
    let vars = [
        (
            CONNECTION_STRING,
            "mongodb://u:hunter1@127.0.0.1:9/?replicaSet=rs0",
        ),
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "hunter2"),
        ("DYFF_KAFKA__CONFIG__SASL_USERNAME", "me"),
        ("DYFF_KAFKA__CONFIG__SASL_MECHANISM", "PLAIN"),
        ("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL", "sasl_plaintext"),
        ("DYFF_WORKFLOWS_SINK__LANES_MAX", "7"),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let vars = BTreeMap::from(vars);
    let (code, out, err) = run(&vars, &["config", "show"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("hunter"), "{out}");
    for line in [
        "DYFF_WORKFLOWS_SINK__LANES_MAX=7  # environment",
        "DYFF_WORKFLOWS_SINK__START=earliest  # default",
        "DYFF_WORKFLOWS_SINK__MAPPING_FILE=  # not set",
        "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING=(secret)  # environment",
        "DYFF_KAFKA__CONFIG__SASL_PASSWORD=(secret)  # environment",
        "DYFF_KAFKA__CONFIG__SASL_MECHANISMS=PLAIN  # environment",
        "DYFF_KAFKA__CONFIG__CLIENT_ID=workflows-sink  # default",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    let (_, out, _) = run(&vars, &["config", "show", "--json"]).await;
    let settings: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let lanes = settings.iter().find(|one| one["value"] == "7");
    let lanes = lanes.unwrap_or_else(|| panic!("{out}"));
    assert_eq!(lanes["from"], "environment");
    assert!(!out.contains("hunter"), "{out}");
}

#[tokio::test]
async fn a_mapping_is_printed_and_another_one_checked_without_a_configuration() {
    let none = BTreeMap::new();
    let (code, out, err) = run(&none, &["mapping", "print"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mapping.toml");
    let path = file.to_str().expect("UTF-8");
    std::fs::write(&file, out.replace("\"evaluations\"", "\"evals\"")).expect("written");
    let (code, out, err) = run(&none, &["mapping", "check", path]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("moves Evaluation from evaluations to evals"),
        "{out}"
    );
    std::fs::write(&file, "id = 1").expect("written");
    let (code, _, err) = run(&none, &["mapping", "check", path]).await;
    assert_eq!(code, Some(78));
    assert!(
        err.contains("WS-001") && err.contains("mapping.toml"),
        "{err}"
    );
}
