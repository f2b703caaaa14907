//! Where a partition begins: as the service it takes over from left it, and never before it is
//! claimed.

use std::time::{Duration, Instant};

use bson::{Uuid, doc};
use local_stack::{MongoOptions, Topics};
use mongodb::ClientSession;
use test_support::fail_point::FailPoint;
use test_support::look::number;
use test_support::operator::{
    commit, put_checkpoint, state, states, until_at, until_committed, until_statuses,
};
use test_support::scene::{Scene, topics};
use test_support::wait::until_is;

const START: &str = "DYFF_WORKFLOWS_SINK__START";

/// Well below the minute that a server keeps a dead client's transaction.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_goes_on_from_the_offsets_that_the_group_committed() {
    let scene = Scene::new("takeover", 3).await;
    for partition in 0..3 {
        let n = 10 * partition as u32;
        scene.produce(&states(n..n + 10, "first", partition));
    }
    // The former service applied seven, all, and never reached the third partition.
    commit(&scene, &[(0, 7), (1, 10)]);
    let worker = scene.worker(&[]);
    scene.settled().await;
    until_statuses(&scene, (7..10).chain(20..30).map(|n| (n, "first"))).await;
    assert_eq!(
        scene.checkpoints().await,
        [(0, 10), (1, 10), (2, 10)].into()
    );
    for partition in 0..3 {
        until_committed(&scene, partition, 10).await;
    }
    assert_eq!(worker.lines_with("ahead of the checkpoint").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_that_starts_earliest_applies_everything() {
    let scene = Scene::new("earliest", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let _worker = scene.worker(&[(START, "earliest")]);
    scene.settled().await;
    until_statuses(&scene, (0..10).chain(20..30).map(|n| (n, "first"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_that_starts_latest_decides_once_where_that_is() {
    let scene = Scene::new("latest", 1).await;
    scene.produce(&states(0..10, "before", 0));
    let mut worker = scene.worker(&[(START, "latest")]);
    // A number at once, though no record has come yet.
    until_at(&scene, 0, 10).await;
    worker.server().kill().expect("killed");
    // If the next start resolved `latest` a second time, these would be lost.
    scene.produce(&states(10..15, "between", 0));
    let _worker = scene.worker(&[(START, "latest")]);
    until_at(&scene, 0, 15).await;
    until_statuses(&scene, (10..15).map(|n| (n, "between"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_at_the_latest_offsets_is_decided_for_all_partitions_or_none() {
    let (scene, mongo) = Scene::apart("latest_all", 3, MongoOptions::default()).await;
    for partition in 0..3 {
        scene.produce(&states(0..10, "before", partition));
    }
    // No claim succeeds: the worker dies before its first.
    let mut claims = FailPoint::of(&mongo.client().await.expect("a client"));
    let failing = doc! { "failCommands": ["findAndModify"], "errorCode": 11600 };
    claims.set("alwaysOn", failing).await;
    let mut worker = scene.worker(&[(START, "latest")]);
    for partition in 0..3 {
        until_at(&scene, partition, 10).await;
    }
    worker.server().kill().expect("killed");
    claims.off().await;

    for partition in 0..3 {
        scene.produce(&states(10..15, "between", partition));
    }
    let worker = scene.worker(&[(START, "latest")]);
    scene.settled().await;
    until_statuses(&scene, (10..15).map(|n| (n, "between"))).await;
    assert_eq!(
        worker.metric("workflows_sink_records_consumed_total", ""),
        Some(15.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_later_is_applied_from_its_beginning_whatever_the_start() {
    let scene = Scene::new("added", 1).await;
    scene.produce(&states(0..10, "before", 0));
    let refresh = "DYFF_KAFKA__CONFIG__TOPIC_METADATA_REFRESH_INTERVAL_MS";
    let mut worker = scene.worker(&[(START, "latest"), (refresh, "1000")]);
    until_at(&scene, 0, 10).await;

    // Under a worker,
    add_partition(&topics().await, &scene, 2).await;
    scene.produce(&states(20..30, "added", 1));
    until_at(&scene, 1, 10).await;
    until_statuses(&scene, (20..30).map(|n| (n, "added"))).await;

    // and while none runs.
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    add_partition(&topics().await, &scene, 3).await;
    scene.produce(&states(30..40, "added", 2));
    let _worker = scene.worker(&[(START, "latest")]);
    until_at(&scene, 2, 10).await;
    until_statuses(&scene, (20..40).map(|n| (n, "added"))).await;
}

async fn add_partition(topics: &Topics, scene: &Scene, total: i32) {
    let added = topics.add_partitions(&scene.topic, total).await;
    added.expect("added");
}

/// Opens a transaction that holds the checkpoint of partition 0, which stands at 3.
async fn hold(scene: &Scene, whose: Holder) -> ClientSession {
    let client = scene.database.client();
    let mut session = client.start_session().await.expect("a session");
    let id = session.id().get("id").cloned().expect("an id");
    let mut fields = doc! { "next_offset": 3_i64 };
    if let Holder::LastOwner = whose {
        fields.extend(doc! { "owner": Uuid::new(), "session": id });
    }
    put_checkpoint(scene, 0, fields).await;
    session.start_transaction().await.expect("a transaction");
    let held = scene
        .checkpoint_collection()
        .update_one(
            doc! { "_id": scene.checkpoint_id(0) },
            doc! { "$set": { "next_offset": 9_i64 } },
        )
        .session(&mut session)
        .await;
    assert_eq!(held.expect("held").matched_count, 1);
    session
}

/// Whose transaction holds a checkpoint.
enum Holder {
    /// The one's who claimed it last: its session stands there.
    LastOwner,
    /// Somebody's whom the checkpoint does not name, so that nobody can kill it.
    Nobody,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_before_the_partition_is_claimed() {
    let scene = Scene::new("unclaimed", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    // What librdkafka would fetch from, were it left to itself.
    commit(&scene, &[(0, 1), (1, 1)]);
    put_checkpoint(&scene, 1, doc! { "next_offset": 0_i64 }).await;
    let mut session = hold(&scene, Holder::Nobody).await;

    let worker = scene.worker(&[]);
    until_at(&scene, 1, 10).await;
    let partition = r#"partition="0""#;
    let consumed = || worker.metric("workflows_sink_records_consumed_total", partition);
    until_is("a claim tried over and over", true, || async {
        worker
            .metric("workflows_sink_retries_total", "")
            .unwrap_or(0.0)
            >= 4.0
    })
    .await;
    assert_eq!(consumed(), Some(0.0));
    assert_eq!(
        worker.metric("workflows_sink_buffered_bytes", ""),
        Some(0.0)
    );
    until_statuses(&scene, (20..30).map(|n| (n, "first"))).await;
    // It is a member all the same, and has both.
    assert_eq!(
        worker.metric("workflows_sink_assigned_partitions", ""),
        Some(2.0)
    );

    session.abort_transaction().await.expect("aborted");
    until_at(&scene, 0, 10).await;
    assert_eq!(consumed(), Some(7.0));
    until_statuses(&scene, (3..10).chain(20..30).map(|n| (n, "first"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_dead_worker_left_open_delays_nobody() {
    let scene = Scene::new("orphan", 1).await;
    scene.produce(&states(0..10, "first", 0));
    let mut session = hold(&scene, Holder::LastOwner).await;
    let began = Instant::now();
    let worker = scene.worker(&[]);
    until_at(&scene, 0, 10).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    until_statuses(&scene, (3..10).map(|n| (n, "first"))).await;
    worker.logs("killing the sessions of a dead owner").await;
    assert!(
        session.commit_transaction().await.is_err(),
        "it could still write"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_another_group_are_warned_of() {
    let scene = Scene::new("strangers", 1).await;
    scene.produce(&[state(1, "first", 0)]);
    let mut of_another = doc! { "next_offset": 0_i64, "epoch": 5_i64 };
    let id = doc! { "group": "another.group", "topic": &scene.topic, "partition": 0 };
    of_another.insert("_id", id.clone());
    scene
        .checkpoint_collection()
        .insert_one(&of_another)
        .await
        .expect("inserted");
    // Neither of these is: another topic, and our own.
    let elsewhere = doc! { "group": "elsewhere.group", "topic": "another.topic", "partition": 0 };
    let elsewhere = doc! { "_id": elsewhere, "next_offset": 0_i64 };
    scene
        .checkpoint_collection()
        .insert_one(elsewhere)
        .await
        .expect("inserted");

    let worker = scene.worker(&[]);
    until_at(&scene, 0, 1).await;
    let warnings = worker.lines_with("other groups keep checkpoints");
    assert_eq!(warnings.len(), 1, "{}", worker.log());
    assert_eq!(warnings[0]["level"], "WARN");
    assert_eq!(warnings[0]["groups"], "another.group");
    let found = scene
        .checkpoint_collection()
        .find_one(doc! { "_id": id })
        .await
        .expect("an answer");
    assert_eq!(found.as_ref(), Some(&of_another), "it is not ours to touch");
    assert_eq!(number(scene.checkpoint(0).await.unwrap().get("epoch")), 1);
}
