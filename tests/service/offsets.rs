//! Offsets that do not fit: nothing is skipped in silence, and a fault of one partition does
//! not stop the others.

use bson::doc;
use test_support::operator::{
    commit, put_checkpoint, state, states, until_at, until_committed, until_statuses,
};
use test_support::scene::{Scene, topics};
use test_support::wait::until_is;
use test_support::worker::{Worker, run};

/// Waits until `partition` has stopped, for a reason that says `why` and what to type.
async fn has_stopped(scene: &Scene, worker: &Worker, partition: i32, why: &str) {
    worker.logs("this partition has stopped").await;
    let errors = worker.lines_with("this partition has stopped");
    let command = format!(
        "`workflows-sink offsets resolve --topic {} --partition {partition}`",
        scene.topic
    );
    for error in &errors {
        assert_eq!(error["level"], "ERROR");
        assert_eq!(error["partition"], format!("{}[{partition}]", scene.topic));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
        assert!(message.contains(&command), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_before_they_were_applied_stop_their_partition_and_no_other() {
    let scene = Scene::uncompacted("expired", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    scene.produce(&[states(0..10, "second", 0), states(20..30, "second", 1)].concat());
    let trimmed = topics().await.delete_records(&scene.topic, 0, 15).await;
    trimmed.expect("trimmed");

    let worker = scene.worker(&[]);
    has_stopped(
        &scene,
        &worker,
        0,
        "its checkpoint 10 is before the log's start 15",
    )
    .await;
    until_at(&scene, 1, 20).await;
    scene.produce(&states(20..30, "third", 1));
    until_at(&scene, 1, 30).await;
    let first = (0..10).map(|n| (n, "first"));
    until_statuses(&scene, first.chain((20..30).map(|n| (n, "third")))).await;
    assert_eq!(scene.checkpoints().await, [(0, 10), (1, 30)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_under_a_worker_stop_their_partition_and_no_other() {
    let scene = Scene::uncompacted("expired_live", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    worker.server().freeze().expect("frozen");
    // The first record answers a fetch that may be waiting; the others come too late for it.
    scene.produce(&[state(0, "second", 0)]);
    scene.produce(&states(0..10, "third", 0));
    let trimmed = topics().await.delete_records(&scene.topic, 0, 18).await;
    trimmed.expect("trimmed");
    worker.server().thaw().expect("thawed");

    has_stopped(&scene, &worker, 0, "is before the log's start 18").await;
    scene.produce(&states(20..30, "second", 1));
    until_at(&scene, 1, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_behind_the_end_of_the_log_stops_its_partition_and_no_other() {
    let scene = Scene::new("truncated", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let id = scene.topic_id().await;
    put_checkpoint(&scene, 0, doc! { "next_offset": 11_i64, "topic_id": id }).await;

    let mut worker = scene.worker(&[]);
    has_stopped(
        &scene,
        &worker,
        0,
        "its checkpoint 11 is past the log's end 10",
    )
    .await;
    until_at(&scene, 1, 10).await;
    until_statuses(&scene, (20..30).map(|n| (n, "first"))).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    // What now comes to stand below the checkpoint was never applied: the partition may not go on.
    scene.produce(&[states(0..10, "second", 0), states(20..30, "second", 1)].concat());
    let mut worker = scene.worker(&[]);
    has_stopped(
        &scene,
        &worker,
        0,
        "the log was truncated before its checkpoint 11, and has grown since",
    )
    .await;
    until_at(&scene, 1, 20).await;
    until_at(&scene, 0, 11).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let resolve = ["offsets", "resolve", "--partition", "0", "--yes"];
    let (code, _, err) = run(&scene.environment(), &resolve).await;
    assert_eq!(code, Some(0), "{err}");
    let _worker = scene.worker(&[]);
    until_at(&scene, 0, 20).await;
    until_statuses(&scene, (0..10).chain(20..30).map(|n| (n, "second"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_outside_the_log_stop_their_partitions_when_there_is_no_checkpoint() {
    let scene = Scene::uncompacted("committed_outside", 3).await;
    for partition in 0..3 {
        scene.produce(&states(0..10, "first", partition));
    }
    commit(&scene, &[(0, 3), (1, 11)]);
    let trimmed = topics().await.delete_records(&scene.topic, 0, 5).await;
    trimmed.expect("trimmed");

    let worker = scene.worker(&[]);
    until_is("stopped partitions", 2, || async {
        worker.lines_with("this partition has stopped").len()
    })
    .await;
    worker
        .logs("its committed offset 3 is before the log's start 5")
        .await;
    worker
        .logs("its checkpoint 11 is past the log's end 10")
        .await;
    until_at(&scene, 2, 10).await;
    let marked = scene
        .checkpoint(1)
        .await
        .expect("made, not to be forgotten");
    assert!(marked.get_bool("truncated").unwrap(), "{marked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_committed_ahead_of_the_checkpoint_skip_nothing() {
    let scene = Scene::new("moved_ahead", 1).await;
    scene.produce(&states(0..10, "first", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    scene.produce(&states(0..10, "second", 0));
    commit(&scene, &[(0, 18)]);
    let worker = scene.worker(&[]);
    scene.settled().await;
    until_statuses(&scene, (0..10).map(|n| (n, "second"))).await;

    let warnings = worker.lines_with("committed offset is ahead of the checkpoint");
    assert_eq!(warnings.len(), 1, "{}", worker.log());
    assert_eq!(
        (&warnings[0]["level"], &warnings[0]["committed"]),
        (&"WARN".into(), &18.into())
    );
    assert_eq!(warnings[0]["next_offset"], 10);
    let message = warnings[0]["message"].as_str().unwrap();
    for cause in [
        "moved by hand",
        "restored from a backup",
        "another sink",
        "--partition 0 --to OFFSET --yes",
    ] {
        assert!(message.contains(cause), "{message}");
    }
    until_committed(&scene, 0, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_committed_behind_the_checkpoint_repeat_nothing() {
    let scene = Scene::new("moved_behind", 1).await;
    scene.produce(&states(0..10, "first", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    commit(&scene, &[(0, 2)]);
    let worker = scene.worker(&[]);
    worker.logs("claimed").await;
    // The topic is idle, and still a person who looks at the group must see that nothing is left to
    // do.
    until_committed(&scene, 0, 10).await;
    scene.produce(&[state(11, "last", 0)]);
    scene.settled().await;
    assert_eq!(
        worker.metric("workflows_sink_records_consumed_total", ""),
        Some(1.0)
    );
    assert_eq!(worker.lines_with("ahead of the checkpoint").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoints_of_a_misspelt_group_go_by_a_command_and_no_others() {
    let scene = Scene::new("forgotten", 1).await;
    put_checkpoint(&scene, 0, doc! { "next_offset": 0_i64 }).await;
    let of = |group: &str, topic: &str, partition: i32| {
        let id = doc! { "group": group, "topic": topic, "partition": partition };
        doc! { "_id": id, "next_offset": 0_i64 }
    };
    // The second is of a partition that the topic does not have; the third of another topic.
    let others = [
        of("misspelt", &scene.topic, 0),
        of("misspelt", &scene.topic, 7),
        of("misspelt", "another.topic", 0),
    ];
    let checkpoints = scene.checkpoint_collection();
    checkpoints.insert_many(others).await.expect("inserted");
    let forget = async |group: &str, more: &[&str]| {
        let words = [&["offsets", "forget", "--group", group], more].concat();
        run(&scene.environment(), &words).await
    };
    let (code, out, _) = forget("misspelt", &[]).await;
    assert_eq!(code, Some(0));
    assert!(
        out.contains("would remove 2 checkpoint(s) of the group misspelt"),
        "{out}"
    );
    let (code, _, error) = forget(&scene.group, &["--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains("is the group of this configuration"),
        "{error}"
    );

    // A group with members keeps them: its worker continues from there.
    let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__GROUP", "misspelt")]);
    worker.logs("claimed").await;
    let (code, _, error) = forget("misspelt", &["--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("stop the service first"), "{error}");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let (code, out, _) = forget("misspelt", &["--yes"]).await;
    assert_eq!(
        (code, out.trim()),
        (Some(0), "removed 2 checkpoint(s) of the group misspelt")
    );
    let left = checkpoints
        .distinct("_id", doc! {})
        .await
        .expect("an answer");
    let left: Vec<_> = (left.iter().filter_map(|id| id.as_document()))
        .map(|id| (id.get_str("group").unwrap(), id.get_str("topic").unwrap()))
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&(&scene.group, &scene.topic)), "{left:?}");
    assert!(left.contains(&("misspelt", "another.topic")), "{left:?}");
}
