//! `status` and `check`, on real servers.

use bson::doc;
use serde_json::Value;
use test_support::operator::{put_checkpoint, state, states};
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING, Scene};
use test_support::worker::{binary, run};

use super::json;

/// A screen without the names and numbers of a run, which `status` has, and without its columns'
/// widths, which follow from them.
fn without_what_varies(screen: &str, status: &Value) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text: String = screen.lines().map(|line| words(line) + "\n").collect();
    for (path, name) in [
        ("/group/members/0", "MEMBER"),
        ("/partitions/0/worker", "HOST"),
        ("/partitions/1/worker", "HOST"),
        ("/mongodb/primary", "PRIMARY"),
        ("/mongodb/version", "VERSION"),
        ("/mongodb/set", "SET"),
    ] {
        let value = status.pointer(path).and_then(Value::as_str);
        text = text.replace(value.unwrap_or_else(|| panic!("{path}: {status}")), name);
    }
    let (before, rest) = text.split_once("majority ").expect("how far it is behind");
    let (_, behind) = rest.split_once(" s behind").expect("seconds");
    format!("{before}majority SECONDS s behind{behind}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_works_is_healthy_and_one_that_nobody_runs_is_not() {
    let scene = Scene::new("status", 2).await;
    scene.produce(&[states(0..5, "first", 0), states(5..10, "first", 1)].concat());
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    let (code, status) = json(&scene, &["status"]).await;
    assert_eq!(
        (code, &status["healthy"]),
        (Some(0), &Value::Bool(true)),
        "{status}"
    );
    assert_eq!(status["verdict"], "healthy");
    assert_eq!(status["group"]["members"].as_array().unwrap().len(), 1);
    for partition in 0..2 {
        let row = &status["partitions"][partition];
        assert_eq!(
            (&row["state"], &row["lag"]),
            (&"caught up".into(), &0.into()),
            "{status}"
        );
        assert!(row["worker"].is_string(), "{status}");
    }
    let (code, out, err) = run(&scene.environment(), &["status"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    insta::assert_snapshot!("healthy", without_what_varies(&out, &status));
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    scene.produce(&[state(1, "second", 0)]);
    let (code, out, err) = run(&scene.environment(), &["status"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err, "", "the first line says it");
    assert!(
        out.starts_with("no worker is in the group (WS-604)\n"),
        "{out}"
    );
    assert!(
        out.contains("majority") && out.contains("catches up in"),
        "{out}"
    );

    // Whoever reads the first line alone gets the same exit code.
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = tokio::process::Command::new(binary())
        .arg("status")
        .env_clear()
        .envs(scene.environment())
        .stdout(closed)
        .status()
        .await;
    assert_eq!(status.expect("it ends").code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_each_server_is_shown_as_far_as_it_answers() {
    let scene = Scene::new("status-outage", 1).await;
    let kafka = (BOOTSTRAP_SERVERS, "127.0.0.1:1");
    let (before, options) = scene.uri.split_once("127.0.0.1:").expect("a host");
    let options = options.trim_start_matches(|c: char| c != '/');
    let uri = format!("{before}127.0.0.1:1{options}");
    let mongodb = (CONNECTION_STRING, uri.as_str());
    for (away, codes, says) in [
        (
            &[kafka] as &[_],
            &["WS-201"] as &[_],
            "Kafka does not answer: ",
        ),
        (&[mongodb], &["WS-101"], "MongoDB does not answer: "),
        (
            &[kafka, mongodb],
            &["WS-101", "WS-201"],
            "MongoDB does not answer: ",
        ),
    ] {
        let environment = scene.environment_with(away);
        let (code, out, err) = run(&environment, &["status", "--json"]).await;
        assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
        let status: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(status["codes"], serde_json::json!(codes), "{status}");
        let verdict = status["verdict"].as_str().expect("a verdict");
        assert!(verdict.contains(says), "{verdict}");
        let (mongodb, group) = (&status["mongodb"]["primary"], &status["group"]["state"]);
        assert_eq!(mongodb.is_null(), codes.contains(&"WS-101"), "{status}");
        assert_eq!(group.is_null(), codes.contains(&"WS-201"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_changes_nothing_and_finds_what_a_start_would_and_more() {
    let scene = Scene::new("check", 2).await;
    let mut strange = state(3, "first", 1);
    strange.value = strange.value.map(|value| {
        let text = String::from_utf8(value).expect("JSON");
        text.replace("Dataset", "Mystery").into_bytes()
    });
    scene.produce(&[state(0, "first", 0), state(1, "first", 1), strange]);
    let (code, found) = json(&scene, &["check", "--sample", "100"]).await;
    assert_eq!(
        (code, &found["healthy"]),
        (Some(0), &Value::Bool(true)),
        "{found}"
    );
    let whats: Vec<&str> = (found["findings"].as_array().unwrap().iter())
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    for part in [
        "every variable is valid",
        "the brokers accept this client",
        "1 of 1 are reached as they advertise",
        "has 2 partitions",
        "primary 127.0.0.1",
        "2 of 2 are not there yet",
        "3 records: 2 would be upserted into 1 collections",
        "1 would be rejected (unknown_kind, kind Mystery), such as check.state[1] offset 1",
    ] {
        assert!(
            whats.iter().any(|what| what.contains(part)),
            "{part}: {whats:#?}"
        );
    }
    let mut findings = found["findings"].as_array().unwrap().iter();
    let is_rejection = |finding: &&Value| finding["what"].as_str().unwrap().contains("rejected (");
    let rejected = findings.find(is_rejection).expect("a rejection");
    assert_eq!(rejected["code"], "WS-401", "{rejected}");
    assert_eq!(scene.checkpoints().await, [].into());
    assert_eq!(scene.entities().await, [].into());

    let (code, deserted) = json(&scene, &["status"]).await;
    let verdict = deserted["verdict"].as_str().expect("a verdict");
    assert_eq!(code, Some(1), "{verdict}");
    assert!(
        verdict.contains("no worker is in the group, and 3 records have never been read"),
        "{verdict}"
    );
    put_checkpoint(&scene, 1, doc! { "next_offset": 4_711_i64 }).await;
    let truncated = ("check.state[1] stands still: truncated", "WS-302");
    assert_eq!(faults(&scene, &[]).await, [pair(truncated)]);
    let (code, stopped) = json(&scene, &["status"]).await;
    assert_eq!(code, Some(1), "{stopped}");
    assert_eq!(stopped["partitions"][1]["code"], "WS-302", "{stopped}");
    let name = scene.database.name().to_uppercase();
    let other_case = faults(&scene, &[("DYFF_WORKFLOWS_SINK__MONGODB__DATABASE", &name)]).await;
    let [(what, code)] = &other_case[..] else {
        panic!("one fault: {other_case:?}")
    };
    assert!(what.contains("only in upper and lower case"), "{what}");
    assert_eq!(code, "WS-001");
    let elsewhere = [("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", "check.nowhere")];
    let unknown = faults(&scene, &elsewhere).await;
    let (what, code) = &unknown[0];
    assert!(
        what.starts_with("the topic check.nowhere does not exist"),
        "{unknown:?}"
    );
    // as a start says it, which waits
    assert_eq!(code, "WS-212");
    let environment = scene.environment_with(&elsewhere);
    let (code, out, _) = run(&environment, &["status"]).await;
    assert!(
        code == Some(1) && out.contains("(WS-212)") && out.contains("primary 127.0.0.1"),
        "{out}"
    );

    let (code, out, _) = run(&scene.environment(), &["check", "--offline"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("31 collections") && !out.contains("brokers"),
        "{out}"
    );
}

fn pair((what, code): (&str, &str)) -> (String, String) {
    (what.to_owned(), code.to_owned())
}

/// What `check` finds wrong with these changes to the environment, and the codes.
async fn faults(scene: &Scene, changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let environment = scene.environment_with(changes);
    let (code, out, err) = run(&environment, &["check", "--json"]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let found: Value = serde_json::from_str(&out).expect("JSON");
    let found = found["findings"].as_array().expect("a list").iter();
    let faults = found.filter(|finding| finding["mark"] == "fault");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    faults
        .map(|fault| (text(&fault["what"]), text(&fault["code"])))
        .collect()
}
