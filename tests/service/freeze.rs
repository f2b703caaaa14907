//! A worker that wakes up after its partitions have moved does no harm.

use bson::{Document, Uuid, doc};
use local_stack::{Message, MongoOptions};
use test_support::entities::Entities;
use test_support::fail_point::FailPoint;
use test_support::history::History;
use test_support::scene::{CONNECTION_STRING, SHORT_SESSION, Scene};
use test_support::wait::until;
use test_support::worker::share;

use crate::drain::{caught_up, expected};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_past_its_session_writes_nothing_once_others_have_taken_over() {
    let (scene, mongo) = Scene::apart("freeze", 12, MongoOptions::default()).await;
    let mut entities = Entities::new(5, 300);
    let mut records: Vec<Message> = Vec::new();
    let mut produce = |count| {
        let states = entities.states(count);
        scene.produce(&states);
        records.extend(states);
    };
    let history = History::watch(&scene).await;
    let mut slow = FailPoint::of(&mongo.admin().await.expect("a client"));
    slow.block(&["commitTransaction"], "sleeper", 1_000).await;

    let uri = scene.uri_of("sleeper");
    let small = [
        (CONNECTION_STRING, uri.as_str()),
        ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", "20"),
    ];
    let mut sleeper = scene.worker(&[&SHORT_SESSION[..], &small].concat());
    produce(2_000);
    // Some batches have been written, some are about to be committed, and more wait behind them.
    slow.met(4).await;
    sleeper.server().freeze().expect("frozen");
    slow.off().await;
    let mut awake = scene.worker(&SHORT_SESSION);
    share(&[&awake], 12).await;
    produce(500);
    scene.settled().await;

    sleeper.server().thaw().expect("thawed");
    share(&[&sleeper, &awake], 12).await;
    produce(500);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    let proof = history.prove(&scene).await;
    assert!(proof.moves_of.len() > 12, "both have written: {proof:?}");
    assert_eq!(
        sleeper.count("WARN", "partitions revoked as lost"),
        1,
        "{}",
        sleeper.log()
    );
    for worker in [&mut sleeper, &mut awake] {
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_know_yet_that_it_was_replaced_writes_nothing() {
    let scene = Scene::new("twins", 6).await;
    let history = History::watch(&scene).await;
    let mut entities = Entities::new(20, 100);
    let mut records = entities.states(300);
    scene.produce(&records);
    // A second member of the same name takes over at once; the first one learns of it with its next
    // heartbeat, which comes only after the second one has started, however slow the machine is.
    let twin = [
        ("DYFF_WORKFLOWS_SINK__GROUP_INSTANCE_ID", "twin"),
        ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "120000"),
        ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "40000"),
    ];
    let mut replaced = scene.worker(&twin);
    scene.settled().await;
    caught_up(&replaced, 6).await;
    let mut second = scene.worker(&twin);
    caught_up(&second, 6).await;
    // Both fetch these, each for itself.
    let states = entities.states(300);
    scene.produce(&states);
    records.extend(states);
    replaced.logs("another claim holds the checkpoint").await;
    assert_eq!(replaced.exit().await, Some(1), "{}", replaced.log());
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    let proof = history.prove(&scene).await;
    assert_eq!(proof.moves_of.len(), 12, "each in its time: {proof:?}");
    assert_eq!(second.stop().await, Some(0), "{}", second.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_checkpoint_another_claim_took_goes_on_without_loss() {
    let scene = Scene::new("stolen", 1).await;
    let mut entities = Entities::new(6, 50);
    let mut records = entities.states(100);
    scene.produce(&records);
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    let thief = doc! { "$set": { "owner": Uuid::new() }, "$inc": { "epoch": 1_i64 } };
    let checkpoints = scene
        .database
        .collection::<Document>("workflows_sink_checkpoints");
    let stolen = checkpoints
        .update_many(doc! {}, thief)
        .await
        .expect("stolen");
    assert_eq!(stolen.modified_count, 1);
    let states = entities.states(100);
    scene.produce(&states);
    records.extend(states);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    until("the worker counts that it was fenced", || async {
        worker.metric("workflows_sink_fenced_total", "") == Some(1.0)
    })
    .await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
