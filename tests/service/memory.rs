//! The byte budget holds, whatever records come.

use std::time::Duration;

use bson::{Document, doc};
use local_stack::random::Random;
use local_stack::{Message, MongoOptions};
use rdkafka::producer::Producer as _;
use test_support::entities::Entities;
use test_support::look::number;
use test_support::scene::{Scene, world};
use test_support::wait::{DEADLINE, until};
use test_support::worker::Worker;

use crate::drain::caught_up;

pub const MIB: u64 = 1024 * 1024;

/// Random letters: nothing for a compression to gain.
fn letters(bytes: usize) -> String {
    let mut random = Random::new(16);
    let mut letters = Vec::with_capacity(bytes + 8);
    while letters.len() < bytes {
        letters.extend(random.bits().to_le_bytes().map(|byte| b'a' + byte % 26));
    }
    letters.truncate(bytes);
    String::from_utf8(letters).expect("ASCII")
}

/// A record of nearly 16 MiB, in JSON and in BSON.
fn large(n: u32, text: &str) -> Message {
    let id = format!("{n:032x}");
    Message::new(
        id.clone(),
        format!(r#"{{"id":"{id}","kind":"Report","text":"{text}"}}"#),
    )
}

/// A record of 2.5 MB in JSON and nearly 16 MiB in BSON.
fn inflating(n: u32) -> Message {
    let (id, list) = (format!("{n:032x}"), "7,".repeat(1_200_000));
    Message::new(
        id.clone(),
        format!(r#"{{"id":"{id}","kind":"Report","list":[{list}7]}}"#),
    )
}

fn in_turn(record: Message, n: u32, partitions: i32) -> Message {
    Message {
        partition: Some(n as i32 % partitions),
        ..record
    }
}

/// A line of `/proc/PID/status`, in bytes.
pub fn status(worker: &mut Worker, name: &str) -> u64 {
    let pid = worker.server().pid().expect("a running worker");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("the line");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("kB");
    kib * 1024
}

/// The case that is measured: each partition's next record is a large one, which no fetch leaves
/// out.
struct Case {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    budget_bytes: u64,
    partitions: i32,
    large: u32,
}

const CASES: [Case; 2] = [
    Case {
        name: "memory",
        settings: &[],
        budget_bytes: 384 * MIB,
        partitions: 12,
        large: 36,
    },
    Case {
        name: "little_memory",
        settings: &[
            ("DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX", "160MiB"),
            ("DYFF_WORKFLOWS_SINK__LANES_MAX", "2"),
            ("DYFF_WORKFLOWS_SINK__FLUSH_BYTES_MAX", "1MiB"),
        ],
        budget_bytes: 160 * MIB,
        partitions: 2,
        large: 9,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_under_the_budget_with_16_mb_records_among_small_ones() {
    let text = letters(16_500_000);
    for case in CASES {
        let (budget, name) = (case.budget_bytes, case.name);
        // The broker compresses: a producer of this build, at 16 MB a record, would take a minute.
        let config = [
            ("max.message.bytes", "20000000"),
            ("compression.type", "zstd"),
        ];
        let (scene, mongo) =
            Scene::apart_with(name, case.partitions, MongoOptions::default(), &config).await;
        let mut worker = scene.worker(case.settings);
        caught_up(&worker, case.partitions as usize).await;
        let baseline = status(&mut worker, "VmHWM");

        // MongoDB takes nothing meanwhile, so that whatever may pile up does.
        mongo.freeze(0).expect("frozen");
        let mut entities = Entities::new(16, 2_000);
        let producer = scene.producer(&[("compression.type", "none")]);
        let mut small = 0;
        for n in 1..=case.large {
            let states = entities.states(300);
            small += states.len();
            for state in &states {
                scene.send(&producer, state);
            }
            let record = match n % 3 {
                0 => inflating(n),
                _ => large(n, &text),
            };
            scene.send(&producer, &in_turn(record, n, case.partitions));
        }
        producer.flush(DEADLINE).expect("all acknowledged");
        mongo.thaw(0).expect("thawed");
        let mut buffered = 0;
        let watching = async {
            loop {
                let now = worker
                    .metric("workflows_sink_buffered_bytes", "")
                    .unwrap_or(0.0);
                buffered = buffered.max(now as u64);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = watching => {}
            // 600 MB, a record after the other.
            () = scene.settled_within(3 * DEADLINE) => {}
        }
        let peak = status(&mut worker, "VmHWM") - baseline;
        assert!(buffered > 0 && buffered <= budget, "{buffered} of {budget}");
        assert!(
            peak <= budget,
            "peak {} MiB of {} MiB",
            peak / MIB,
            budget / MIB
        );
        until("all is counted", || async {
            worker.metric("workflows_sink_records_settled_total", "")
                == Some((small + case.large as usize) as f64)
        })
        .await;
        assert!(scene.dead_letters().await.is_empty());
        assert_eq!(
            worker.metric("workflows_sink_records_settled_total", "\"rejected\""),
            Some(0.0)
        );

        let sizes = doc! { "$project": { "text": { "$strLenBytes": { "$ifNull": ["$text", ""] } }, "list": { "$size": { "$ifNull": ["$list", []] } } } };
        let reports = scene.database.collection::<Document>("reports");
        let whole = doc! { "$match": { "$or": [{ "text": { "$gte": 16_500_000 } }, { "list": 1_200_001 }] } };
        let mut cursor = reports
            .aggregate([sizes, whole, doc! { "$count": "count" }])
            .await
            .expect("a cursor");
        assert!(cursor.advance().await.expect("an answer"));
        let count = Document::try_from(cursor.current()).expect("a count");
        assert_eq!(
            number(count.get("count")),
            i64::from(case.large),
            "each large one has arrived whole"
        );
        assert!(
            !worker.log().contains("exceed the memory budget"),
            "no warning where the budget holds: {}",
            worker.log()
        );
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_too_small_for_the_partitions_is_logged_at_start_and_when_some_are_added() {
    let scene = Scene::new("short_budget", 4).await;
    let mut worker = scene.worker(&[
        ("DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX", "96MiB"),
        (
            "DYFF_KAFKA__CONFIG__TOPIC_METADATA_REFRESH_INTERVAL_MS",
            "500",
        ),
    ]);
    worker
        .logs("set DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX to 108MiB")
        .await;
    caught_up(&worker, 4).await;
    let topics = world().await.kafka.topics().expect("an admin client");
    let added = topics.add_partitions(&scene.topic, 5).await;
    added.expect("added");
    worker
        .logs("set DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX to 134MiB")
        .await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// What the batches of a load held: a copy of the records and one of the documents, of 2 MiB each,
/// for each of `LANES_MAX`.
const OF_BATCHES_BYTES: u64 = 4 * 2 * 2 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_has_ended_leaves_no_memory_behind() {
    let scene = Scene::new("memory_after", 12).await;
    let mut worker = scene.worker(&[]);
    caught_up(&worker, 12).await;
    let at_rest = status(&mut worker, "VmRSS");
    let producer = scene.producer(&[]);
    let text = letters(2_000);
    for n in 0..24_000 {
        let id = format!("{n:032x}");
        let json = format!(r#"{{"id":"{id}","kind":"Report","text":"{text}"}}"#);
        let record = in_turn(Message::new(id, json), n, 12);
        scene.send(&producer, &record);
    }
    producer.flush(DEADLINE).expect("produced");
    scene.settled().await;
    until("what the batches held is given back", || {
        let now = status(&mut worker, "VmRSS");
        async move { now < at_rest + OF_BATCHES_BYTES }
    })
    .await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_decompressed_once() {
    let scene = Scene::new("decompressed", 1).await;
    // In one batch, which does not name its size, and is several times what it is compressed to.
    let producer = scene.producer(&[("linger.ms", "1000")]);
    let states = Entities::new(7, 100).states(300);
    for state in &states {
        scene.send(&producer, state);
    }
    producer.flush(DEADLINE).expect("produced");
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    until("the statistics show it", || async {
        worker.metric("workflows_sink_consumer_lag_records", "") == Some(0.0)
    })
    .await;
    let again = worker.metric("workflows_sink_decompressed_again_total", "");
    assert_eq!(again, Some(0.0));
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
