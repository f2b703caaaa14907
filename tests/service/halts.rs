//! A partition that stops by itself, and what a person says then: no restart forgets the one or
//! needs the other.

use local_stack::Message;
use rdkafka::producer::Producer as _;
use serde_json::Value;
use test_support::operator::{poison, states, until_at, until_committed, until_statuses};
use test_support::scene::Scene;
use test_support::wait::{DEADLINE, until, until_is};
use test_support::wire::{WireBatch, WireRecord};
use test_support::worker::{Worker, run};

const REJECTIONS_MAX: &str = "DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX";
const LIMIT: i64 = 20;

/// More than librdkafka unpacks.
const TOO_LARGE_BYTES: usize = 110 * 1024 * 1024;

async fn shown_state(scene: &Scene) -> String {
    let (code, shown, error) = run(&scene.environment(), &["offsets", "show", "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["partitions"][0]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

pub async fn resolve(scene: &Scene, ways: &[&str]) -> (Option<i32>, String) {
    let resolve = ["offsets", "resolve", "--partition", "0"];
    let (code, out, error) = run(&scene.environment(), &[&resolve, ways].concat()).await;
    (code, out + &error)
}

pub async fn has_halted(worker: &Worker, state: &str) {
    let state = format!("state=\"{state}\"");
    until_is("the partition's state", Some(1.0), || async {
        worker.metric("workflows_sink_partition_state", &state)
    })
    .await;
    let (status, text) = worker.get("/readyz").expect("an answer");
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("stands still"), "{text}");
    assert_eq!(worker.lines_with("this partition has stopped").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_stop_at_their_limit_and_no_restart_pours_in_more() {
    let scene = Scene::new("halt_breaker", 1).await;
    let poisons: Vec<_> = (0..5 * LIMIT).map(|_| poison(0)).collect();
    scene.produce(&states(0..3, "before", 0));
    scene.produce(&poisons);
    let limit = LIMIT.to_string();
    let limits = [(REJECTIONS_MAX, limit.as_str())];
    let at = 3 + LIMIT;
    for start in 0..2 {
        let mut worker = scene.worker(&limits);
        has_halted(&worker, "breaker").await;
        let reasons = format!("(malformed_value {LIMIT})");
        assert_eq!(worker.lines_with(&reasons).len(), 1, "{}", worker.log());
        until_at(&scene, 0, at).await;
        until_committed(&scene, 0, at).await;
        let letters = scene.dead_letters().await.len() as i64;
        assert_eq!(letters, LIMIT, "after start {start}");
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
    assert_eq!(shown_state(&scene).await, "halted by rejections");

    let (code, text) = resolve(&scene, &["--yes"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("--retry") && text.contains("--continue"),
        "{text}"
    );
    let (code, text) = resolve(&scene, &["--retry"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("replays {LIMIT}")), "{text}");

    // Applied again, they are rejected again, and replace their letters.
    let (code, text) = resolve(&scene, &["--retry", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    until_at(&scene, 0, 3).await;
    let worker = scene.worker(&limits);
    has_halted(&worker, "breaker").await;
    until_at(&scene, 0, at).await;
    assert_eq!(scene.dead_letters().await.len() as i64, LIMIT);
    // Under a worker, which continues by itself.
    let (code, text) = resolve(&scene, &["--continue", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    until_at(&scene, 0, at + LIMIT).await;
    assert_eq!(scene.dead_letters().await.len() as i64, 2 * LIMIT);
    drop(worker);

    let (code, text) = resolve(&scene, &["--continue", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    let worker = scene.worker(&[(REJECTIONS_MAX, "0")]);
    scene.settled().await;
    assert_eq!(scene.dead_letters().await.len() as i64, 5 * LIMIT);
    assert_eq!(worker.metric("workflows_sink_breaker_open", ""), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_rejections_is_counted_on_by_the_next_worker() {
    let scene = Scene::new("halt_row", 1).await;
    let limit = LIMIT.to_string();
    let limits = [(REJECTIONS_MAX, limit.as_str())];
    let produce = |count: i64| scene.produce(&(0..count).map(|_| poison(0)).collect::<Vec<_>>());
    produce(LIMIT - 1);
    let mut worker = scene.worker(&limits);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    produce(LIMIT);
    let worker = scene.worker(&limits);
    has_halted(&worker, "breaker").await;
    until_at(&scene, 0, LIMIT).await;
    assert_eq!(scene.dead_letters().await.len() as i64, LIMIT);
}

pub fn entity(n: u32) -> WireRecord {
    let id = format!("e{n:031x}");
    let value = format!(r#"{{"id":"{id}","kind":"Dataset","status":"read"}}"#);
    WireRecord {
        key: Some(id.into_bytes()),
        value: Some(value.into_bytes()),
        ..WireRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_unpacked_stops_its_partition_once_behind_what_is_before_it() {
    let scene = Scene::as_produced("unpackable", 1).await;
    let send = |batch: WireBatch| {
        let sent = batch.send(&scene.bootstrap, &scene.topic, 0);
        sent.expect("taken")
    };
    send(WireBatch::of(&[entity(0), entity(1)], 0));
    let bad = WireBatch::expanding(b"e", b"{", TOO_LARGE_BYTES, b"}");
    assert_eq!(send(bad.clone()), 2);
    send(bad);
    send(WireBatch::of(&[entity(2), entity(3)], 0));

    let worker = scene.worker(&[]);
    has_halted(&worker, "stopped").await;
    until_at(&scene, 0, 2).await;
    until_statuses(&scene, (0..2).map(|n| (n, "read"))).await;
    let [stop] = &worker.lines_with("this partition has stopped")[..] else {
        panic!("once: {}", worker.log());
    };
    let message = stop["message"].as_str().expect("a text");
    assert!(message.contains("offset 2"), "{message}");
    assert!(message.contains("--continue --yes`"), "{message}");
    assert_eq!(shown_state(&scene).await, "halted: unreadable");

    let (code, text) = resolve(&scene, &["--continue"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("SKIPS 2"), "{text}");
    let (code, text) = resolve(&scene, &["--continue", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    until("the rest is applied", || async {
        scene.entities().await.len() == 4
    })
    .await;
    until_at(&scene, 0, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_batch_that_unpacks_to_more_than_100_mb_stops_its_partition() {
    let scene = Scene::as_produced("unreadable_gzip", 1).await;
    scene.produce(&states(0..3, "before", 0));
    let producer = scene.producer(&[
        ("compression.type", "gzip"),
        ("message.max.bytes", "200000000"),
        ("batch.size", "200000000"),
        ("batch.num.messages", "11"),
        ("linger.ms", "5000"),
    ]);
    let text = "a".repeat(TOO_LARGE_BYTES / 11);
    for n in 1..=11 {
        let id = format!("{n:032x}");
        let value = format!(r#"{{"id":"{id}","kind":"Report","text":"{text}"}}"#);
        scene.send(&producer, &Message::new(id, value));
    }
    producer.flush(DEADLINE).expect("acknowledged");

    let worker = scene.worker(&[]);
    has_halted(&worker, "stopped").await;
    until_at(&scene, 0, 3).await;
    let stop = worker.lines_with("this partition has stopped").remove(0);
    let message = stop["message"].as_str().expect("a text");
    assert!(message.contains("offset 3"), "{message}");
    assert!(message.contains("more than 100 MB"), "{message}");
}
