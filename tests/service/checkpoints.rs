//! Somebody else's hand on the checkpoint of a running worker: the result is right, and it never
//! just stops.

use bson::{Document, Uuid, doc};
use test_support::look::number;
use test_support::operator::{
    set_checkpoint, state, states, until_at, until_committed, until_statuses,
};
use test_support::scene::Scene;
use test_support::wait::until_is;
use test_support::worker::{Worker, run};

/// A worker that has applied entities 0 to 9, and stands at 10.
async fn settled_worker(scene: &Scene) -> Worker {
    scene.produce(&states(0..10, "first", 0));
    let worker = scene.worker(&[]);
    until_at(scene, 0, 10).await;
    until_committed(scene, 0, 10).await;
    worker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_checkpoint_is_recreated_and_loses_nothing() {
    let scene = Scene::new("deleted", 1).await;
    let worker = settled_worker(&scene).await;
    let filter = doc! { "_id": scene.checkpoint_id(0) };
    let deleted = scene.checkpoint_collection().delete_one(filter).await;
    assert_eq!(deleted.expect("deleted").deleted_count, 1);

    scene.produce(&states(0..10, "second", 0));
    until_at(&scene, 0, 20).await;
    until_statuses(&scene, (0..10).map(|n| (n, "second"))).await;
    worker.logs("the checkpoint was moved or restored").await;
    worker.ready().await;
}

/// Applies more, and puts the database back to where it was before; `owner` is the backup's, or the
/// worker's own.
async fn restore(scene: &Scene, owner: Option<Uuid>) {
    let mut backup = scene.checkpoint(0).await.unwrap();
    let documents = scene.all("datasets").await;
    scene.produce(&[states(0..5, "second", 0), states(10..15, "second", 0)].concat());
    until_at(scene, 0, 20).await;
    until_committed(scene, 0, 20).await;

    if let Some(owner) = owner {
        backup.insert("owner", owner);
    }
    let entities = scene.database.collection::<Document>("datasets");
    entities.delete_many(doc! {}).await.expect("emptied");
    entities.insert_many(&documents).await.expect("restored");
    let filter = doc! { "_id": scene.checkpoint_id(0) };
    let restored = scene
        .checkpoint_collection()
        .replace_one(filter, &backup)
        .await;
    assert_eq!(restored.expect("restored").matched_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_under_a_worker_gets_everything_since_the_backup_again() {
    for (name, owner, warning) in [
        ("restored", None, "the checkpoint was moved or restored"),
        (
            "restored_older",
            Some(Uuid::new()),
            "another claim holds the checkpoint",
        ),
    ] {
        let scene = Scene::new(name, 1).await;
        let worker = settled_worker(&scene).await;
        restore(&scene, owner).await;
        scene.produce(&[state(0, "third", 0)]);
        until_at(&scene, 0, 21).await;
        let second = (1..5).chain(10..15).map(|n| (n, "second"));
        let expected = (5..10)
            .map(|n| (n, "first"))
            .chain(second)
            .chain([(0, "third")]);
        until_statuses(&scene, expected).await;
        worker.logs(warning).await;
        worker
            .logs("committed offset is ahead of the checkpoint")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_under_an_idle_worker_does_not_wait_for_the_next_record() {
    let scene = Scene::new("restored_idle", 1).await;
    let worker = settled_worker(&scene).await;
    restore(&scene, None).await;
    let second = (0..5).chain(10..15).map(|n| (n, "second"));
    until_statuses(&scene, (5..10).map(|n| (n, "first")).chain(second)).await;
    until_at(&scene, 0, 20).await;
    worker.logs("the checkpoint was moved or restored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_claim_of_another_does_not_end_a_worker_that_is_still_assigned() {
    let scene = Scene::new("late_claim", 2).await;
    let worker = settled_worker(&scene).await;
    for (round, status) in (1..).zip(["second", "third"]) {
        let before = scene.checkpoint(0).await.unwrap();
        set_checkpoint(
            &scene,
            0,
            doc! { "owner": Uuid::new(), "session": Uuid::new() },
        )
        .await;
        scene.produce(&[states(0..10, status, 0), states(20..30, status, 1)].concat());
        until_at(&scene, 0, 10 + 10 * round).await;
        let after = scene.checkpoint(0).await.unwrap();
        assert_ne!(after.get("owner"), before.get("owner"));
        assert!(
            number(after.get("epoch")) > number(before.get("epoch")),
            "{after}"
        );
    }
    until_statuses(&scene, (0..10).chain(20..30).map(|n| (n, "third"))).await;
    worker.logs("another claim holds the checkpoint").await;
    assert!(worker.metric("workflows_sink_fenced_total", "").unwrap() >= 2.0);
    // The other partition was never bothered.
    assert_eq!(number(scene.checkpoint(1).await.unwrap().get("epoch")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_read_stops_its_partition_and_no_other() {
    let scene = Scene::new("unreadable", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let broken = doc! { "_id": scene.checkpoint_id(0), "next_offset": "three" };
    scene
        .checkpoint_collection()
        .insert_one(broken)
        .await
        .expect("inserted");
    let mut worker = scene.worker(&[]);
    worker
        .logs("offsets reset --topic unreadable.state --partition 0 --to")
        .await;
    until_at(&scene, 1, 10).await;
    let stopped = worker.lines_with("this partition has stopped");
    assert_eq!(stopped.len(), 1, "{}", worker.log());
    assert_eq!(stopped[0]["partition"], "unreadable.state[0]");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let reset = [
        "offsets",
        "reset",
        "--topic",
        &scene.topic,
        "--partition",
        "0",
        "--to",
        "3",
        "--yes",
    ];
    let (code, _, err) = run(&scene.environment(), &reset).await;
    assert_eq!(code, Some(0), "{err}");
    let _worker = scene.worker(&[]);
    until_at(&scene, 0, 10).await;
    until_statuses(&scene, (3..10).chain(20..30).map(|n| (n, "first"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_after_a_reset_writes_nothing_under_its_old_claim() {
    let scene = Scene::new("zombie", 1).await;
    let mut worker = settled_worker(&scene).await;
    let claimed = scene.checkpoint(0).await.unwrap();
    worker.server().freeze().expect("frozen");

    // The group forgets it after the session timeout, and only then lets an operator in who names
    // no partition.
    let reset = ["offsets", "reset", "--to", "4", "--yes"];
    until_is("the reset", Some(0), || async {
        run(&scene.environment(), &reset).await.0
    })
    .await;
    let moved = scene.checkpoint(0).await.unwrap();
    assert_ne!(moved.get("owner"), claimed.get("owner"));
    assert_eq!(number(moved.get("next_offset")), 4);
    assert_eq!(scene.committed().await, [(0, 4)].into());

    scene.produce(&[state(11, "second", 0)]);
    worker.server().thaw().expect("thawed");
    until_at(&scene, 0, 11).await;
    // Whatever it had in hand, it renewed its claim before it wrote: everything since 4 came once
    // more.
    let claims: Vec<i64> = worker
        .lines_with("claimed")
        .iter()
        .filter(|line| line["message"] == "claimed")
        .filter_map(|line| line["next_offset"].as_i64())
        .collect();
    assert_eq!(claims, [0, 4], "{}", worker.log());
    let expected = (0..10).map(|n| (n, "first")).chain([(11, "second")]);
    until_statuses(&scene, expected).await;
}
