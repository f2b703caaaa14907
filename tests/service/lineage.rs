//! A topic that was deleted and recreated under its old name: none of the new one's records may be
//! lost, and the old one's offsets mean nothing.

use bson::{Bson, Uuid, doc};
use serde_json::Value;
use test_support::look::number;
use test_support::operator::{
    poison, put_checkpoint, recreate_topic, state, states, until_at, until_statuses,
};
use test_support::scene::{Scene, topics};
use test_support::wait::until_is;
use test_support::worker::{Worker, run};

const RECREATED: &str = "recreated";

/// Ten entities, and a poison record at offset 5; it ends at 11.
fn old_topic(scene: &Scene) {
    let mut records = states(0..5, "old", 0);
    records.push(poison(0));
    records.extend(states(5..10, "old", 0));
    scene.produce(&records);
}

async fn is_of_the_new_lineage(scene: &Scene, worker: &Worker, old: Uuid, end: i64) {
    let new = scene.topic_id().await;
    assert_ne!(old, new);
    let at_the_end = (Some(Bson::from(new)), end);
    until_is("topic id and offset", at_the_end, || async {
        let found = scene.checkpoint(0).await.unwrap();
        (
            found.get("topic_id").cloned(),
            number(found.get("next_offset")),
        )
    })
    .await;
    let warnings = worker.lines_with(RECREATED);
    assert!(!warnings.is_empty(), "{}", worker.log());
    assert_eq!(warnings[0]["level"], "WARN");
    // The same group, topic, partition and offset, and still a letter for each.
    let letters = scene.dead_letters().await;
    let of = |id: Uuid| {
        letters.iter().filter(move |letter| {
            let at = letter.get_document("_id").unwrap();
            at.get("topic_id") == Some(&Bson::from(id)) && number(at.get("offset")) == 5
        })
    };
    assert_eq!((of(old).count(), of(new).count()), (1, 1), "{letters:?}");
    // And a person is shown both.
    let show = ["dead-letters", "show", &scene.topic, "0", "5", "--json"];
    let (code, out, err) = run(&scene.environment(), &show).await;
    assert_eq!(code, Some(0), "{err}");
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown.as_array().map(Vec::len), Some(2), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_under_a_worker_loses_none_of_its_records_though_it_has_more() {
    let scene = Scene::new("anew_more", 1).await;
    old_topic(&scene);
    let mut worker = scene.worker(&[]);
    until_at(&scene, 0, 11).await;
    let old = scene.topic_id().await;

    // It must not see the topic missing or empty: then its offset still is one of the log, and
    // nothing else warns it.
    worker.server().freeze().expect("frozen");
    recreate_topic(&scene, 1).await;
    let mut records = states(100..105, "new", 0);
    records.push(poison(0));
    records.extend(states(0..30, "new", 0));
    scene.produce(&records);
    worker.server().thaw().expect("thawed");

    is_of_the_new_lineage(&scene, &worker, old, 36).await;
    until_statuses(&scene, (0..30).chain(100..105).map(|n| (n, "new"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_under_a_worker_loses_none_of_its_records_though_it_has_fewer() {
    let scene = Scene::new("anew_fewer", 1).await;
    old_topic(&scene);
    let worker = scene.worker(&[]);
    until_at(&scene, 0, 11).await;
    let old = scene.topic_id().await;

    recreate_topic(&scene, 1).await;
    let mut records = states(0..5, "new", 0);
    records.push(poison(0));
    scene.produce(&records);

    is_of_the_new_lineage(&scene, &worker, old, 6).await;
    let expected = (0..5)
        .map(|n| (n, "new"))
        .chain((5..10).map(|n| (n, "old")));
    until_statuses(&scene, expected).await;
    // And it goes on from there.
    scene.produce(&[state(7, "newest", 0)]);
    until_at(&scene, 0, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_recreated_while_no_worker_runs_is_applied_from_its_start() {
    let scene = Scene::new("anew_idle", 1).await;
    old_topic(&scene);
    let mut worker = scene.worker(&[]);
    until_at(&scene, 0, 11).await;
    let old = scene.topic_id().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    recreate_topic(&scene, 1).await;
    let mut records = states(0..5, "new", 0);
    records.push(poison(0));
    records.extend(states(0..30, "newer", 0));
    scene.produce(&records);

    let worker = scene.worker(&[]);
    is_of_the_new_lineage(&scene, &worker, old, 36).await;
    until_statuses(&scene, (0..30).map(|n| (n, "newer"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_topic_id_is_adopted_and_repeats_nothing() {
    let scene = Scene::new("adopted", 3).await;
    for partition in 0..3 {
        scene.produce(&states(0..5, "applied before", partition));
    }
    put_checkpoint(&scene, 0, doc! { "next_offset": 3_i64 }).await;
    put_checkpoint(
        &scene,
        1,
        doc! { "next_offset": 4_i64, "topic_id": Bson::Null },
    )
    .await;
    let zero = Uuid::from_bytes([0; 16]);
    put_checkpoint(&scene, 2, doc! { "next_offset": 5_i64, "topic_id": zero }).await;

    let worker = scene.worker(&[]);
    scene.settled().await;
    until_statuses(&scene, [(3, "applied before"), (4, "applied before")]).await;
    let id = Bson::from(scene.topic_id().await);
    for partition in 0..3 {
        let found = scene.checkpoint(partition).await.unwrap();
        assert_eq!(found.get("topic_id"), Some(&id), "{found}");
    }
    assert_eq!(
        worker.metric("workflows_sink_records_consumed_total", ""),
        Some(3.0)
    );
    assert_eq!(worker.lines_with(RECREATED), [] as [Value; 0]);
}

/// Recreates the topic once the worker has noticed that it is gone.
async fn is_found_again_after(name: &str, setting: &str, noticed: &str) {
    let scene = Scene::new(name, 1).await;
    old_topic(&scene);
    let worker = scene.worker(&[(setting, "1000")]);
    until_at(&scene, 0, 11).await;
    let old = scene.topic_id().await;

    let topics = topics().await;
    topics.delete(&scene.topic).await.expect("deleted");
    worker.logs(noticed).await;
    let created = topics.create(&scene.topic, 1, &[]).await;
    created.expect("recreated");
    let mut records = states(0..5, "new", 0);
    records.push(poison(0));
    scene.produce(&records);

    is_of_the_new_lineage(&scene, &worker, old, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_group_had_lost_is_found_again() {
    let setting = "DYFF_KAFKA__CONFIG__TOPIC_METADATA_REFRESH_INTERVAL_MS";
    is_found_again_after("anew_lost", setting, "partitions revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_unavailable_while_its_partitions_stayed_assigned_is_found_again() {
    let setting = "DYFF_KAFKA__CONFIG__TOPIC_METADATA_PROPAGATION_MAX_MS";
    is_found_again_after("anew_away", setting, "could not be read").await;
}
