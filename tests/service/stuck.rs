//! Batches that do not get through: they hold up no partition that has nothing wrong, and say where
//! they stand and why.

use bson::{Document, doc};
use local_stack::{Message, Mongo, MongoOptions};
use test_support::fail_point::FailPoint;
use test_support::scene::Scene;
use test_support::wait::{until, until_is};
use test_support::worker::{Worker, run};
use workflows_sink::checkpoint::COLLECTION as CHECKPOINTS;

const PARTITIONS: i32 = 12;

fn entity(n: u32, kind: &str, partition: i32, text_bytes: usize) -> Message {
    let (id, text) = (format!("{n:032x}"), "a".repeat(text_bytes));
    let json = format!(r#"{{"id":"{id}","kind":"{kind}","text":"{text}"}}"#);
    Message {
        partition: Some(partition),
        ..Message::new(id, json)
    }
}

fn in_state(worker: &Worker, state: &str) -> Option<f64> {
    let state = format!("state=\"{state}\"");
    worker.metric("workflows_sink_partition_state", &state)
}

async fn applied(scene: &Scene, partitions: std::ops::Range<i32>, end: i64) {
    until_is("the partitions with nothing wrong", true, || async {
        let checkpoints = scene.checkpoints().await;
        (partitions.clone()).all(|partition| checkpoints.get(&partition) == Some(&end))
    })
    .await;
}

/// One collection refuses every update, until that ends.
async fn refusing_datasets(scene: &Scene, mongo: &Mongo) -> FailPoint {
    let mut refusing = FailPoint::of(&mongo.client().await.expect("a client"));
    let namespace = format!("{}.datasets", scene.database.name());
    let data = doc! { "failCommands": ["update"], "errorCode": 13, "namespace": namespace };
    refusing.set("alwaysOn", data).await;
    refusing
}

/// Five partitions, one more than may write at a time, have a record that one collection refuses.
async fn one_bad_collection(name: &str, text_bytes: usize) {
    let (scene, mongo) = Scene::apart(name, PARTITIONS, MongoOptions::default()).await;
    let mut refusing = refusing_datasets(&scene, &mongo).await;
    let worker = scene.worker(&[]);
    worker.ready().await;

    let bad =
        (0..5).map(|partition| entity(1 + partition as u32, "Dataset", partition, text_bytes));
    scene.produce(&bad.collect::<Vec<_>>());
    until_is("stuck partitions", Some(5.0), || async {
        in_state(&worker, "stuck")
    })
    .await;
    for round in 1..4 {
        let good = (5..PARTITIONS).map(|partition| {
            let n = 100 * round + partition as u32;
            entity(n, "Model", partition, text_bytes)
        });
        scene.produce(&good.collect::<Vec<_>>());
        applied(&scene, 5..PARTITIONS, i64::from(round)).await;
    }

    // MongoDB is not down; what is wrong is named.
    let (status, text) = worker.get("/readyz").expect("an answer");
    assert_eq!(status, 200, "{text}");
    for partition in 0..5 {
        let line = format!(
            "{}[{partition}] stands still: its batch from offset 0",
            scene.topic
        );
        assert!(text.contains(&line), "{text}");
    }
    assert!(
        text.contains("does not get into datasets: Unauthorized (code 13)"),
        "{text}"
    );
    worker.logs("does not get into the collection").await;
    let named = worker.lines_with("does not get into the collection");
    assert_eq!(named[0]["collection"], "datasets");
    let error = named[0]["error"].as_str().expect("an error");
    assert!(error.starts_with("Unauthorized (code 13)"), "{error}");
    assert_eq!(worker.lines_with("does not accept writes").len(), 0);

    refusing.off().await;
    scene.settled().await;
    until("no partition is stuck", || async {
        in_state(&worker, "stuck") == Some(0.0)
            && in_state(&worker, "running") == Some(f64::from(PARTITIONS))
    })
    .await;
    let (_, text) = worker.get("/readyz").expect("an answer");
    assert!(!text.contains("stands still"), "{text}");
    assert_eq!(scene.entities().await.len(), 5 + 3 * 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_that_one_collection_refuses_hold_up_no_other_partition() {
    one_bad_collection("stuck_small", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_that_one_collection_refuses_hold_up_no_other_partition() {
    one_bad_collection("stuck_large", 300_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_another_transaction_holds_is_no_outage() {
    let scene = Scene::new("stuck_held", 1).await;
    let worker = scene.worker(&[]);
    scene.produce(&[entity(1, "Model", 0, 10)]);
    applied(&scene, 0..1, 1).await;
    let mut session = scene.database.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let checkpoints = scene.database.collection::<Document>(CHECKPOINTS);
    let held = checkpoints.update_one(doc! {}, doc! { "$set": { "held": true } });
    held.session(&mut session).await.expect("a hold");

    scene.produce(&[entity(2, "Model", 0, 10), entity(3, "Model", 0, 10)]);
    until_is("a stuck partition", Some(1.0), || async {
        in_state(&worker, "stuck")
    })
    .await;
    let (status, text) = worker.get("/readyz").expect("an answer");
    let why = "does not get into workflows_sink_checkpoints: WriteConflict (code 112)";
    assert!(text.contains(why) && !text.contains("--reject"), "{text}");
    assert_eq!(status, 200, "{text}");
    assert_eq!(worker.lines_with("does not accept writes").len(), 0);
    session.abort_transaction().await.expect("an end");
    scene.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_record_that_a_collection_refuses_is_found_in_its_batch() {
    let (scene, mongo) = Scene::apart("stuck_found", 1, MongoOptions::default()).await;
    let mut refusing = refusing_datasets(&scene, &mongo).await;
    let records = (1..=64).map(|n| {
        let kind = if n == 38 { "Dataset" } else { "Model" };
        entity(n, kind, 0, 10)
    });
    scene.produce(&records.collect::<Vec<_>>());
    let worker = scene.worker(&[]);
    applied(&scene, 0..1, 37).await;
    let resolve = format!("--topic {} --partition 0 --reject", scene.topic);
    until("the command that rejects it", || async {
        let (_, text) = worker.get("/readyz").expect("an answer");
        text.contains("from offset 37 on (1 record(s)") && text.contains(&resolve)
    })
    .await;
    refusing.off().await;
    scene.settled().await;
    assert_eq!(scene.entities().await.len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_get_through_becomes_a_dead_letter_by_a_persons_word() {
    let (scene, mongo) = Scene::apart("stuck_rejected", 1, MongoOptions::default()).await;
    let mut refusing = refusing_datasets(&scene, &mongo).await;
    let worker = scene.worker(&[]);
    let records = [
        entity(1, "Model", 0, 10),
        entity(2, "Dataset", 0, 10),
        entity(3, "Model", 0, 10),
        entity(4, "Dataset", 0, 10),
    ];
    scene.produce(&records[..1]);
    applied(&scene, 0..1, 1).await;
    scene.produce(&records[1..3]);
    until_is("a stuck partition", Some(1.0), || async {
        in_state(&worker, "stuck")
    })
    .await;

    let resolve = async |ways: &[&str]| {
        let resolve = ["offsets", "resolve", "--partition", "0"];
        run(&scene.environment(), &[&resolve, ways].concat()).await
    };
    let (code, shown, error) = resolve(&["--reject"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        shown.contains("the record at 1 becomes a DEAD LETTER"),
        "{shown}"
    );
    let (code, _, error) = resolve(&["--reject", "--yes"]).await;
    assert_eq!(code, Some(0), "{error}");
    applied(&scene, 0..1, 3).await;
    let letters = scene.dead_letters().await;
    let [letter] = &letters[..] else {
        panic!("one: {letters:?}");
    };
    assert_eq!(letter.get_str("reason").expect("a reason"), "write_error");
    let message = letter.get_document("error").expect("an error");
    assert!(
        message
            .get_str("message")
            .expect("a text")
            .contains("offsets resolve --reject")
    );
    let at = letter.get_document("_id").expect("an id");
    assert_eq!(at.get_i64("offset").expect("an offset"), 1);

    // It was about that one record.
    let (code, _, error) = resolve(&["--reject", "--yes"]).await;
    assert_eq!(code, Some(1), "caught up");
    assert!(
        error.contains("there is no next record to reject"),
        "{error}"
    );
    refusing.off().await;
    scene.produce(&records[3..]);
    scene.settled().await;
    assert_eq!(scene.dead_letters().await.len(), 1);
    assert_eq!(scene.entities().await.len(), 3);
}
