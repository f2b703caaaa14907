//! Batches that do not get through: they hold up no partition that has nothing wrong, and say where
//! they stand and why.

use bson::doc;
use local_stack::{Message, MongoOptions};
use test_support::fail_point::FailPoint;
use test_support::scene::Scene;
use test_support::wait::{until, until_is};
use test_support::worker::Worker;

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

/// Five partitions, one more than may write at a time, have a record that one collection refuses.
async fn one_bad_collection(name: &str, text_bytes: usize) {
    let (scene, mongo) = Scene::apart(name, PARTITIONS, MongoOptions::default()).await;
    let mut refusing = FailPoint::of(&mongo.client().await.expect("a client"));
    let namespace = format!("{}.datasets", scene.database.name());
    let data = doc! { "failCommands": ["update"], "errorCode": 13, "namespace": namespace };
    refusing.set("alwaysOn", data).await;
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
    assert_eq!(named[0]["error"], "Unauthorized (code 13)");
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
