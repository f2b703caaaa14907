//! A batch of records that has changed on the broker's disk: its checksum tells.

use local_stack::Kafka;
use test_support::operator::{until_at, until_statuses};
use test_support::scene::Scene;
use test_support::wire::{WireBatch, WireRecord};

use crate::halts::{entity, has_halted, resolve};
use crate::truncated::on_a_broker_of_its_own;

/// Changes one letter of the status of entity `n` where it stands on the broker's disk.
async fn damage(kafka: &mut Kafka, scene: &Scene, n: u32) {
    kafka.stop().await.expect("stopped");
    let folder = kafka.server().directory().join("data");
    let log = folder.join(format!("{}-0/00000000000000000000.log", scene.topic));
    let mut bytes = std::fs::read(&log).expect("the partition's log");
    let WireRecord { value, .. } = entity(n);
    let value = value.expect("an entity");
    let found = bytes.windows(value.len()).position(|part| part == value);
    let at = found.expect("the entity, as it was sent") + value.len() - 3;
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    kafka.restart().await.expect("restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_damaged_on_the_brokers_disk_is_not_applied_and_stops_its_partition() {
    let (scene, mut kafka) = on_a_broker_of_its_own("damaged").await;
    // Of today: retention deletes what is old.
    let now_ms = bson::DateTime::now().timestamp_millis();
    for n in [0, 2, 4] {
        let batch = WireBatch::of(&[entity(n), entity(n + 1)], now_ms);
        let sent = batch.send(&scene.bootstrap, &scene.topic, 0);
        assert_eq!(sent, Ok(i64::from(n)));
    }
    damage(&mut kafka, &scene, 3).await;

    let worker = scene.worker(&[]);
    has_halted(&worker, "stopped").await;
    until_at(&scene, 0, 2).await;
    let [stop] = &worker.lines_with("this partition has stopped")[..] else {
        panic!("once: {}", worker.log());
    };
    let message = stop["message"].as_str().expect("a text");
    assert!(message.contains("offset 2"), "{message}");
    assert!(message.contains("it is damaged"), "{message}");
    let (code, text) = resolve(&scene, &["--continue", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("SKIPS 2"), "{text}");
    until_at(&scene, 0, 6).await;
    until_statuses(&scene, [0, 1, 4, 5].map(|n| (n, "read"))).await;
}
