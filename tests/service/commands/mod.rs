//! The commands as a person types them, beside a running service and after it.

mod dead_letters;
mod explain;
mod offsets;
mod status;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING, Scene};
use test_support::worker::{binary, run};

/// What a command says to programs, with its exit code.
async fn json(scene: &Scene, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [arguments, &["--json"]].concat();
    let (code, out, err) = run(&scene.environment(), &arguments).await;
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, json)
}

/// What a command prints that needs neither server nor configuration.
async fn printed(arguments: &[&str]) -> String {
    let (code, out, err) = run(&BTreeMap::new(), arguments).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn help_version_manual_and_completions_need_no_configuration() {
    let help = printed(&["--help"]).await;
    for command in [
        "run",
        "explain",
        "offsets",
        "dead-letters",
        "completions",
        "man",
    ] {
        let listed = |line: &str| line.trim_start().starts_with(command);
        assert!(help.lines().any(listed), "{command}\n{help}");
    }
    assert!(help.contains("78  the configuration is invalid"), "{help}");
    let reset = printed(&["offsets", "reset", "--help"]).await;
    assert!(
        reset.contains("workflows-sink offsets reset --to earliest"),
        "{reset}"
    );

    let version = printed(&["--version"]).await;
    let name = format!("workflows-sink {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&name), "{version}");
    assert!(printed(&["man"]).await.starts_with(".ie"));
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]).await;
        assert!(script.contains("dead-letters"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_command_is_distinguished_from_an_invalid_configuration() {
    for (arguments, status, says) in [
        (&["ofsets", "show"][..], 2, "offsets"),
        (&["offsets", "reset", "--yes"], 2, "--to"),
        (
            &["offsets", "reset", "--to", "yesterday"],
            2,
            "2026-01-31T12:00:00Z",
        ),
        (&[], 2, "Usage"),
        (
            &["offsets", "show"],
            78,
            "MONGODB__CONNECTION_STRING: is missing",
        ),
        (&["explain"], 2, "KEY"),
        (
            &["explain", "k"],
            78,
            "MONGODB__CONNECTION_STRING: is missing",
        ),
        (
            &["dead-letters", "list"],
            78,
            "MONGODB__CONNECTION_STRING: is missing",
        ),
    ] {
        let (code, out, err) = run(&BTreeMap::new(), arguments).await;
        assert_eq!(code, Some(status), "{arguments:?}: {err}");
        assert!(out.is_empty() && err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut man = Command::new(binary());
    man.arg("man").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut man = man.spawn().expect("it runs");
    drop(man.stdout.take());
    let ended = man.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), &*err), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_which_server_does_not_answer_rather_than_wait_for_ever() {
    let scene = Scene::new("silent", 1).await;
    let mut environment = scene.environment();
    environment.insert(BOOTSTRAP_SERVERS.to_owned(), "127.0.0.1:9".to_owned());
    let without_kafka = run(&environment, &["offsets", "show"]);
    let mut environment = scene.environment();
    environment.insert(
        CONNECTION_STRING.to_owned(),
        "mongodb://127.0.0.1:9/?replicaSet=rs0".to_owned(),
    );
    let without_mongodb = run(&environment, &["dead-letters", "list"]);
    let (without_kafka, without_mongodb) = tokio::join!(without_kafka, without_mongodb);
    assert_eq!(without_kafka.0, Some(1), "{}", without_kafka.2);
    assert!(
        without_kafka.2.contains("Kafka does not answer"),
        "{}",
        without_kafka.2
    );
    assert_eq!(without_mongodb.0, Some(1), "{}", without_mongodb.2);
    assert!(
        without_mongodb.2.contains("Connection refused"),
        "{}",
        without_mongodb.2
    );
}
