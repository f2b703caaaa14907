//! A topic that is gone, or has fewer partitions than before.

use test_support::operator::{recreate_topic, state, states, until_at, until_statuses};
use test_support::scene::{Scene, topics};
use test_support::wait::{until, until_is};
use test_support::worker::Worker;

const PARTITIONS: &str = "workflows_sink_topic_partitions";

async fn until_counted(worker: &Worker, topic: &str, count: i64) {
    until_is("partitions", (count, Some(count as f64)), || async {
        (worker.assigned(), worker.metric(PARTITIONS, topic))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_is_told_and_one_that_comes_again_is_applied() {
    let scene = Scene::new("gone", 2).await;
    scene.produce(&states(0..5, "old", 0));
    let worker = scene.worker(&[]);
    until_at(&scene, 0, 5).await;
    worker.ready().await;

    topics().await.delete(&scene.topic).await.expect("deleted");
    worker.logs("the topic no longer exists").await;
    let line = &worker.lines_with("the topic no longer exists")[0];
    assert_eq!(
        (&line["level"], &line["code"]),
        (&"WARN".into(), &"WS-210".into())
    );
    assert_eq!(line["topic"], *scene.topic);
    until_counted(&worker, &scene.topic, 0).await;
    until("/readyz says so", || async {
        let (status, body) = worker.get("/readyz").unwrap_or_default();
        status == 503 && body.contains(&format!("the topic {} no longer exists", scene.topic))
    })
    .await;

    let created = topics().await.create(&scene.topic, 2, &[]).await;
    created.expect("recreated");
    scene.produce(&states(0..3, "new", 1));
    until_statuses(
        &scene,
        (0..3).map(|n| (n, "new")).chain([(3, "old"), (4, "old")]),
    )
    .await;
    worker.ready().await;
    until_counted(&worker, &scene.topic, 2).await;
    assert_eq!(worker.lines_with("the topic no longer exists").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_gone_is_not_assigned() {
    let scene = Scene::new("gone_half", 2).await;
    scene.produce(&states(0..5, "old", 1));
    let worker = scene.worker(&[]);
    until_at(&scene, 1, 5).await;

    recreate_topic(&scene, 1).await;
    scene.produce(&[state(0, "new", 0)]);
    until_counted(&worker, &scene.topic, 1).await;
    until_at(&scene, 0, 1).await;
    let line = &worker.lines_with("has fewer partitions")[0];
    assert_eq!(
        (line["was"].as_u64(), line["is"].as_u64()),
        (Some(2), Some(1)),
        "{line}"
    );
    scene.produce(&[state(1, "new", 0)]);
    until_at(&scene, 0, 2).await;
}
