//! `dead-letters`: the records that were rejected, as people and programs see them.

use local_stack::Message;
use serde_json::Value;
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::run;

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_are_listed_and_shown_with_everything_they_carried() {
    let scene = Scene::new("letters", 1).await;
    let unknown = Message {
        partition: Some(0),
        headers: vec![("trace".to_owned(), Some(b"abc\x1b[31m".to_vec()))],
        ..Message::new("k1", r#"{"id":"k1","kind":"Nothing"}"#)
    };
    let malformed = Message {
        partition: Some(0),
        ..Message::new("k2", vec![0xff, 0x00])
    };
    let good = Message {
        partition: Some(0),
        ..Message::new("k3", r#"{"id":"k3","kind":"Model"}"#)
    };
    scene.produce(&[unknown, malformed, good]);
    let mut worker = scene.worker(&[]);
    until("both are kept", || async {
        scene.dead_letters().await.len() == 2
    })
    .await;
    let command = async |arguments: &[&str]| {
        let (code, out, err) = run(
            &scene.environment(),
            &[&["dead-letters"], arguments].concat(),
        )
        .await;
        assert_eq!(code, Some(0), "{err}");
        out
    };

    let list = command(&["list"]).await;
    let reasons: Vec<&str> = list
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(3).unwrap())
        .collect();
    assert_eq!(reasons, ["malformed_value", "unknown_kind"], "{list}");
    let json: Value =
        serde_json::from_str(&command(&["list", "--reason", "unknown_kind", "--json"]).await)
            .unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["key"], "k1");
    assert_eq!(json[0]["value_bytes"], 28);
    assert!(
        command(&["list", "--limit", "1"])
            .await
            .contains("\n1 more; continue with --after ")
    );
    assert_eq!(
        command(&["list", "--partition", "5"]).await,
        "no dead letters match; the group letters.group has 2 open\n"
    );

    let kinds = command(&["list", "--by", "kind"]).await;
    assert!(
        kinds.contains(" Nothing        1 ") && kinds.ends_with("\n2 letters in all\n"),
        "{kinds}"
    );
    let first: Value =
        serde_json::from_str(&command(&["list", "--limit", "1", "--json"]).await).unwrap();
    let after = first[0]["cursor"].as_str().unwrap();
    let rest: Value =
        serde_json::from_str(&command(&["list", "--after", after, "--json"]).await).unwrap();
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_ne!(rest[0]["_id"], first[0]["_id"]);
    assert!(
        command(&["discard", "--all", "--why", "x"])
            .await
            .ends_with("do it with --yes\n")
    );
    let mut elsewhere = scene.environment();
    elsewhere.insert("DYFF_WORKFLOWS_SINK__GROUP".to_owned(), "other".to_owned());
    let (_, none, _) = run(&elsewhere, &["dead-letters", "list"]).await;
    assert_eq!(
        none,
        "no dead letters for group other; 2 open for group letters.group\n"
    );
    let all = ["dead-letters", "discard", "--why", "x", "--yes"];
    let (code, _, err) = run(&scene.environment(), &all).await;
    assert!(code == Some(2) && err.contains("--all"), "{err}");
    let indexes = scene
        .database
        .collection::<bson::Document>("workflows_sink_dead_letters");
    let indexes = indexes.list_index_names().await.unwrap();
    assert_eq!(indexes, ["_id_", "workflows_sink_by_state"]);
    until("the open letters are counted", || async {
        worker.metric("workflows_sink_dead_letters_open", "") == Some(2.0)
    })
    .await;

    let shown = command(&["show", &scene.topic, "0", "0"]).await;
    for text in [
        "unknown_kind",
        "header          trace = abc\\u{1b}[31m",
        r#"{"id":"k1","kind":"Nothing"}"#,
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&command(&["show", &scene.topic, "0", "1", "--json"]).await).unwrap();
    assert_eq!(json[0]["value"]["hex"], "ff00");
    let (code, _, err) = run(
        &scene.environment(),
        &["dead-letters", "show", &scene.topic, "0", "2"],
    )
    .await;
    assert_eq!(code, Some(1));
    assert!(
        err.contains("has no dead letter at letters.state[0] offset 2"),
        "{err}"
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
