//! `explain`, on real servers: why an entity looks as it does.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::doc;
use local_stack::{Message, MongoOptions};
use serde_json::{Value, json as value};
use tempfile::NamedTempFile;
use test_support::fail_point::FailPoint;
use test_support::operator::{state, states};
use test_support::scene::{CONNECTION_STRING, Scene, topics};
use test_support::worker::run;

use super::json;

const KEY: &str = "e0000000000000000000000000000001";
/// Codes of the server.
const UNAUTHORIZED: i32 = 13;
const SNAPSHOT_UNAVAILABLE: i32 = 246;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const MAPPING_FILE: &str = "DYFF_WORKFLOWS_SINK__MAPPING_FILE";

/// A mapping by which a new kind goes where another one went.
fn knowing_novelty() -> NamedTempFile {
    let mut mapping = NamedTempFile::new().expect("a file");
    let text = "id='id'\nkind='kind'\n[collections]\nDataset='datasets'\nNovelty='datasets'\n";
    mapping.write_all(text.as_bytes()).expect("written");
    mapping
}

/// A state of [`KEY`] of this kind, with more fields, where a Java client puts it.
fn of_key(kind: &str, fields: &str) -> Message {
    let json = format!(r#"{{"id":"{KEY}","kind":"{kind}"{fields}}}"#);
    Message::new(KEY, json)
}

/// Lets a worker consume what there is.
async fn consume(scene: &Scene) {
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// The partition in which a Java client puts [`KEY`], as the command says.
async fn home(scene: &Scene) -> i32 {
    let (_, explained) = json(scene, &["explain", KEY]).await;
    let home = &explained["partitions"][0];
    assert_eq!(home["is_by_murmur2"], true, "{explained}");
    home["partition"].as_i64().expect("a number") as i32
}

fn verdict(explained: &Value) -> &str {
    explained["verdict"].as_str().expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entity_is_told_from_one_that_is_up_to_date_and_from_one_that_was_altered() {
    let scene = Scene::new("explain", 3).await;
    let (code, unknown) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        verdict(&unknown),
        "no record of this key in the topics, and no document"
    );
    let home = home(&scene).await;
    let traced = Message {
        headers: vec![(
            "traceparent".to_owned(),
            Some(format!("00-{TRACE}-00f067aa0ba902b7-01").into_bytes()),
        )],
        ..of_key("Dataset", r#","status":"second""#)
    };
    scene.produce(&[of_key("Dataset", r#","status":"first","a":1"#), traced]);
    consume(&scene).await;
    let (code, fresh) = json(&scene, &["explain", KEY]).await;
    assert_eq!(
        (code, verdict(&fresh)),
        (Some(0), "up to date: the document is what the log says")
    );
    assert_eq!(fresh["partitions"][0]["partition"], home, "{fresh}");
    let found = fresh["states"].as_array().expect("a list");
    let outcomes: Vec<&Value> = found.iter().map(|state| &state["outcome"]).collect();
    assert_eq!(outcomes, ["applied", "applied"]);
    assert_eq!(found[0]["trace_id"], Value::Null);
    assert_eq!(found[1]["trace_id"], TRACE);
    let document = value!({ "kind": "Dataset", "status": "second", "a": 1 });
    for name in ["stored", "expected", "would_be"] {
        assert_eq!(fresh["document"][name], document, "{name}");
    }

    let committed = scene.committed().await;
    let checkpoints = scene.checkpoints().await;
    let mut waiting = states(100..141, "other", home);
    waiting.push(of_key("Dataset", r#","status":"third""#));
    scene.produce(&waiting);
    let (code, stale) = json(&scene, &["explain", KEY]).await;
    let behind = "behind: the checkpoint is 42 records before its newest state";
    assert_eq!((code, verdict(&stale)), (Some(1), behind));
    assert_eq!(stale["document"]["stored"]["status"], "second");
    assert_eq!(stale["document"]["would_be"]["status"], "third");
    assert_eq!(scene.committed().await, committed, "nothing is committed");
    assert_eq!(scene.checkpoints().await, checkpoints);

    consume(&scene).await;
    let (code, _) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0));
    let datasets = scene.database.collection::<bson::Document>("datasets");
    let altered = doc! { "$set": { "status": "by hand", "b": 1 }, "$unset": { "a": 1 } };
    let altered = datasets.update_one(doc! { "_id": KEY }, altered).await;
    assert_eq!(altered.expect("an answer").modified_count, 1);
    let (code, out, err) = run(&scene.environment(), &["explain", KEY]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let differs = "the document differs from the log in: a, b, status\n";
    assert!(out.starts_with(differs), "{out}");
    for line in [
        "\n-  \"b\": 1,",
        "\n+  \"a\": 1,",
        "\n-  \"status\": \"by hand\"",
        "\n+  \"status\": \"third\"",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_state_that_was_rejected_is_the_answer() {
    let scene = Scene::new("explain_rejected", 2).await;
    scene.produce(&[
        of_key("Dataset", r#","status":"first""#),
        of_key("Novelty", r#","status":"second""#),
    ]);
    consume(&scene).await;
    let (code, rejected) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(1));
    let was = "its newest state was rejected (unknown_kind Novelty), ";
    assert_eq!(
        verdict(&rejected),
        format!("{was}`dead-letters replay` once the cause is mended")
    );
    assert_eq!(rejected["states"][1]["letter"], "open");
    assert_eq!(rejected["letters"][0]["reason"], "unknown_kind");
    assert_eq!(rejected["document"]["stored"]["status"], "first");

    let mapping = knowing_novelty();
    let path = mapping.path().to_str().expect("UTF-8");
    let knowing = scene.environment_with(&[(MAPPING_FILE, path)]);
    let (code, out, err) = run(&knowing, &["explain", KEY]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let today = format!("{was}and would be accepted today: `dead-letters replay`\n");
    assert!(out.starts_with(&today), "{out}");
    let (code, _, err) = run(&knowing, &["dead-letters", "replay", "--key", KEY, "--yes"]).await;
    assert_eq!(code, Some(0), "{err}");
    let (code, out, _) = run(&knowing, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("applied, by a replay"), "{out}");

    scene.produce(&[of_key("Unheard", "")]);
    consume(&scene).await;
    let given_up = [
        "dead-letters",
        "discard",
        "--key",
        KEY,
        "--why",
        "a test",
        "--yes",
    ];
    let (code, _, err) = run(&scene.environment(), &given_up).await;
    assert_eq!(code, Some(0), "{err}");
    let (code, out, _) = run(&knowing, &["explain", KEY]).await;
    assert_eq!(code, Some(1), "{out}");
    let given_up = "its newest state was rejected (unknown_kind Unheard), and given up\n";
    assert!(out.starts_with(given_up), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_record_was_applied_since_is_told_from_one_that_was_not() {
    let scene = Scene::new("explain_since", 1).await;
    scene.produce(&[
        of_key("Dataset", r#","status":"first""#),
        of_key("Novelty", r#","status":"second","a":1"#),
        of_key("Dataset", r#","status":"third""#),
    ]);
    consume(&scene).await;
    let knowing = knowing_novelty();
    let path = knowing.path().to_str().expect("UTF-8");
    let settings = [(MAPPING_FILE, path)];
    let environment = scene.environment_with(&settings);
    let explain = async || run(&environment, &["explain", KEY]).await;
    let (code, out, err) = explain().await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let rejected = "1 state of it was rejected, and the letter is open\n";
    assert!(out.starts_with(rejected), "{out}");

    let reset = ["offsets", "reset", "--to", "earliest", "--yes"];
    let (code, _, err) = run(&environment, &reset).await;
    assert_eq!(code, Some(0), "{err}");
    let mut worker = scene.worker(&settings);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    let (code, out, _) = explain().await;
    assert_eq!(code, Some(1), "{out}");
    let since = "1 letter of it is open, though its record was applied since: \
                 `dead-letters replay` closes it, and changes nothing\n";
    assert!(out.starts_with(since), "{out}");
    let replay = ["dead-letters", "replay", "--key", KEY, "--yes"];
    let (code, out, err) = run(&environment, &replay).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "1 letter: 1 changed nothing\n");
    let (code, out, _) = explain().await;
    assert_eq!(code, Some(0), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_of_kind_and_a_shorter_log_leave_behind_is_no_difference() {
    let scene = Scene::uncompacted("explain_left", 1).await;
    scene.produce(&[
        of_key("Dataset", r#","old":1"#),
        of_key("Model", r#","a":1"#),
        of_key("Model", r#","b":1"#),
    ]);
    consume(&scene).await;
    let (code, moved) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{moved}");
    assert_eq!(moved["document"]["collection"], "models");
    let older = &moved["older_documents"][0];
    assert_eq!(older["collection"], "datasets");
    assert_eq!(
        (&older["kind"], &older["until_offset"]),
        (&value!("Dataset"), &value!(0))
    );
    let note = "an older document in `datasets`: its kind was Dataset until offset 0";
    assert_eq!(moved["notes"], value!([note]));

    let deleted = topics().await.delete_records(&scene.topic, 0, 2).await;
    deleted.expect("deleted");
    let (code, shorter) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{shorter}");
    assert_eq!(shorter["document"]["of_lost_states"], value!(["a"]));
    assert_eq!(shorter["document"]["would_be"]["a"], 1);
    assert_eq!(shorter["older_documents"][0]["until_offset"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_wherever_its_producer_put_it() {
    let scene = Scene::new("explain_elsewhere", 3).await;
    let home = home(&scene).await;
    let elsewhere = (home + 1) % 3;
    scene.produce(&[state(1, "first", elsewhere)]);
    consume(&scene).await;
    let (code, found) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(found["partitions"][0]["partition"], elsewhere);
    assert_eq!(found["partitions"][0]["is_by_murmur2"], false);
    let notes = found["notes"].to_string();
    assert!(
        notes.contains("the producer uses another partitioner"),
        "{notes}"
    );

    scene.produce(&[state(1, "second", home)]);
    consume(&scene).await;
    // The log of its own partition explains the document as it is now.
    let (code, found) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{found}");
    scene.produce(&[state(1, "third", elsewhere)]);
    consume(&scene).await;
    let (code, found) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(1), "{found}");
    assert_eq!(
        verdict(&found),
        "its states are in 2 partitions: their order is not defined"
    );
    assert_eq!(found["states"].as_array().map(Vec::len), Some(3), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_work_makes_no_document_look_altered() {
    let (scene, mongo) = Scene::apart("explain_at_work", 1, MongoOptions::default()).await;
    let mut worker = scene.worker(&[]);
    scene.produce(&[of_key("Dataset", "")]);
    scene.settled().await;
    // Between its look at the checkpoint and that at the document the service goes on.
    let client = mongo.client().await.expect("a client");
    let mut failing = FailPoint::of(&client);
    failing.block(&["find"], "explainer", 40).await;
    let uri = scene.uri_of("explainer");
    let environment = scene.environment_with(&[(CONNECTION_STRING, &uri)]);
    let done = AtomicBool::new(false);
    let produce = async {
        for n in 0.. {
            scene.produce(&[of_key("Dataset", &format!(r#","status":"{n}""#))]);
            if done.load(Ordering::Relaxed) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let explain = async {
        for _ in 0..5 {
            let (_, out, err) = run(&environment, &["explain", KEY, "--json"]).await;
            let explained: Value = serde_json::from_str(&out).expect(&err);
            for fault in explained["faults"].as_array().expect("a list") {
                let fault = fault.as_str().expect("a text");
                assert!(fault.starts_with("behind: "), "{explained}");
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(produce, explain);
    failing.off().await;
    scene.settled().await;
    let (code, explained) = json(&scene, &["explain", KEY]).await;
    assert_eq!(code, Some(0), "{explained}");

    // What passes by itself is tried again, and nothing else.
    for (error, ends) in [(SNAPSHOT_UNAVAILABLE, 0), (UNAUTHORIZED, 1)] {
        let fails = doc! { "failCommands": ["find"], "appName": "explainer", "errorCode": error };
        failing.set(doc! { "times": 1 }, fails).await;
        let (code, out, err) = run(&environment, &["explain", KEY]).await;
        assert_eq!(code, Some(ends), "{error}: {out}{err}");
        assert_eq!(err.contains("MongoDB was not read"), ends == 1, "{err}");
    }
    failing.off().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
