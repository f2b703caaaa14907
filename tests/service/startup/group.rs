//! A worker that cannot get into its group says so, why, and what to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use test_support::operator::{states, until_statuses};
use test_support::scene::Scene;

/// A member of the scene's group as the former service is one, until it is told to leave.
fn former_service(scene: &Scene, leave: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &scene.bootstrap)
        .set("group.id", &scene.group)
        .set("client.id", "former-service")
        .set("partition.assignment.strategy", "range")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[&scene.topic]).expect("subscribed");
    std::thread::spawn(move || {
        while !leave.load(Ordering::Relaxed) {
            let _ = consumer.poll(Duration::from_millis(50));
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_join_its_group_says_why_and_what_to_do() {
    let scene = Scene::new("outside", 1).await;
    scene.produce(&states(0..5, "first", 0));
    let leave = Arc::new(AtomicBool::new(false));
    let former = former_service(&scene, Arc::clone(&leave));
    let mut refused = scene.worker(&[
        ("DYFF_WORKFLOWS_SINK__GROUP", "outside.hasty"),
        ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "300"),
        ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "100"),
    ]);
    let mut outside = scene.worker(&[]);
    for (worker, says) in [
        (
            &outside,
            [
                "protocol range",
                "former-service on",
                "stop the former service first",
            ],
        ),
        (
            &refused,
            [
                "nvalid session timeout",
                "SESSION_TIMEOUT_MS",
                "group.min.session.timeout.ms",
            ],
        ),
    ] {
        worker.logs("not in the consumer group:").await;
        let line = &worker.lines_with("not in the consumer group:")[0];
        let message = line["message"].as_str().expect("text").to_owned();
        let (code, ready) = worker.get("/readyz").expect("an answer");
        assert_eq!(code, 503);
        for part in says {
            assert!(
                message.contains(part) && ready.contains(part),
                "{part}: {message}; {ready}"
            );
        }
    }
    leave.store(true, Ordering::Relaxed);
    former.join().expect("left");
    outside.ready().await;
    outside.logs("in the consumer group again").await;
    scene.settled().await;
    until_statuses(&scene, (0..5).map(|n| (n, "first"))).await;
    assert_eq!(outside.stop().await, Some(0), "{}", outside.log());
    // Outside for all this time, it was told so once a reason.
    assert_eq!(refused.stop().await, Some(0), "{}", refused.log());
    for worker in [&outside, &refused] {
        let lines = worker.lines_with("not in the consumer group:");
        let told: BTreeSet<String> = lines.iter().map(|it| it["message"].to_string()).collect();
        assert_eq!(told.len(), lines.len(), "{}", worker.log());
    }
}
