//! The byte budget holds for what batches of records unpack to, whatever they are on the wire.

use std::time::Duration;

use bson::{Document, doc};
use local_stack::{Message, MongoOptions, left_out};
use rdkafka::producer::Producer as _;
use test_support::cgroup::Cgroup;
use test_support::scene::Scene;
use test_support::wait::{DEADLINE, until, until_within};
use test_support::wire::{Expanding, WireBatch};
use test_support::worker::{Worker, command};

use crate::drain::caught_up;
use crate::memory::{MIB, status};

/// What the Deployment's container may hold.
const CONTAINER_BYTES_MAX: u64 = 448 * MIB;
const PARTITIONS: i32 = 12;
const BATCHES: i32 = 3;
const RECORDS: i32 = 50;
const TAIL: &str = r#""}"#;

/// 1.8 GB through one replica set, in a debug build.
const APPLIED_WITHIN: Duration = DEADLINE.saturating_mul(5);

/// The ids of one batch's records.
fn ids(partition: i32, batch: i32) -> impl Iterator<Item = String> {
    let first = (partition * BATCHES + batch) * RECORDS;
    // The id of nothing but zeros would be skipped.
    (first + 1..=first + RECORDS).map(|n| format!("{n:032x}"))
}

fn head(id: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"Report","text":""#)
}

/// Partitions and numbers of all batches, in the order in which they are sent.
fn batches(of_partition: i32) -> impl Iterator<Item = (i32, i32)> {
    (0..of_partition).flat_map(|batch| (0..PARTITIONS).map(move |partition| (partition, batch)))
}

/// By the wire, each in a few KB: nothing but runs of one letter.
async fn send_zstd(scene: &Scene, of_partition: i32) {
    for (partition, batch) in batches(of_partition) {
        let texts: Vec<(String, String)> =
            ids(partition, batch).map(|id| (head(&id), id)).collect();
        let records: Vec<Expanding<'_>> = texts
            .iter()
            .map(|(head, id)| Expanding {
                key: id.as_bytes(),
                head: head.as_bytes(),
                bytes: MIB as usize,
                tail: TAIL.as_bytes(),
            })
            .collect();
        let batch = WireBatch::all_expanding(&records);
        // A broker may not know yet that it leads a new partition.
        until("the broker takes it", || async {
            batch
                .send(&scene.bootstrap, &scene.topic, partition)
                .is_ok()
        })
        .await;
    }
}

/// As a usual client does, each in 55 KB.
fn send_gzip(scene: &Scene) {
    let text = "a".repeat(MIB as usize);
    let producer = scene.producer(&[
        ("compression.type", "gzip"),
        ("message.max.bytes", "100000000"),
        ("batch.size", "100000000"),
        ("batch.num.messages", "50"),
        ("linger.ms", "5000"),
    ]);
    for (partition, batch) in batches(BATCHES) {
        for id in ids(partition, batch) {
            let value = head(&id) + &text + TAIL;
            let record = Message {
                partition: Some(partition),
                ..Message::new(id, value)
            };
            scene.send(&producer, &record);
        }
        producer.flush(DEADLINE).expect("acknowledged");
    }
}

/// How often there was no room for a batch.
fn no_room(worker: &Worker) -> f64 {
    let count = worker.metric("workflows_sink_errors_total", "\"no_room\"");
    count.unwrap_or_default()
}

/// Waits until all is applied, by a worker that stayed within its container.
async fn all_is_applied(scene: &Scene, worker: &mut Worker, of_partition: i32) {
    let all = u64::from((PARTITIONS * of_partition * RECORDS).unsigned_abs());
    let reports = scene.database.collection::<Document>("reports");
    until_within(APPLIED_WITHIN, "all is applied", || async {
        reports.estimated_document_count().await.expect("a count") == all
    })
    .await;
    let whole = doc! { "$expr": { "$eq": [{ "$strLenBytes": "$text" }, MIB as i64] } };
    assert_eq!(reports.count_documents(whole).await.expect("a count"), all);
    scene.settled().await;
    let (peak, most) = (status(worker, "VmHWM"), CONTAINER_BYTES_MAX);
    assert!(peak < most, "{} MiB of {}", peak / MIB, most / MIB);
    assert!(scene.dead_letters().await.is_empty());
    assert!(no_room(worker) > 0.0, "nothing was refused");
    assert!(worker.lines_with("has stopped").is_empty());
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_unpacks_to_more_than_the_container_holds_is_applied() {
    let scene = Scene::as_produced("unpacked_zstd", PARTITIONS).await;
    send_zstd(&scene, BATCHES).await;
    // As the kernel counts it, where a container can be had.
    let container = Cgroup::with_memory_max(CONTAINER_BYTES_MAX);
    let mut worker = match &container {
        Some(container) => Worker::start_by(container.within(command()), scene.environment()),
        None => scene.worker(&[]),
    };
    all_is_applied(&scene, &mut worker, BATCHES).await;
    if let Some(container) = container {
        let most = CONTAINER_BYTES_MAX / MIB;
        match container.peak_bytes() {
            Some(peak) => {
                println!("{} MiB of {most}, as the kernel counts", peak / MIB);
                assert!(peak > MIB, "the worker was in it");
            }
            None => left_out(&format!(
                "this kernel does not say how much of {most} MiB was held"
            )),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_backlog_that_unpacks_to_more_than_the_container_holds_is_applied() {
    let scene = Scene::as_produced("unpacked_gzip", PARTITIONS).await;
    send_gzip(&scene);
    let mut worker = scene.worker(&[]);
    all_is_applied(&scene, &mut worker, BATCHES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_unpacks_to_more_than_the_container_holds_is_applied() {
    let scene = Scene::as_produced("unpacked_burst", PARTITIONS).await;
    let mut worker = scene.worker(&[]);
    caught_up(&worker, PARTITIONS as usize).await;
    send_zstd(&scene, BATCHES).await;
    all_is_applied(&scene, &mut worker, BATCHES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_unpacks_to_more_than_the_container_holds_waits_for_mongodb() {
    let config = [
        ("compression.type", "producer"),
        ("retention.ms", "-1"),
        ("max.message.bytes", "20000000"),
    ];
    let options = MongoOptions::default();
    let (scene, mongo) = Scene::apart_with("unpacked_outage", PARTITIONS, options, &config).await;
    let mut worker = scene.worker(&[]);
    caught_up(&worker, PARTITIONS as usize).await;
    mongo.freeze(0).expect("frozen");
    send_zstd(&scene, 1).await;
    until("there is no room", || async { no_room(&worker) > 0.0 }).await;
    mongo.thaw(0).expect("thawed");
    all_is_applied(&scene, &mut worker, 1).await;
}
