//! Records of an open transaction: nobody knows yet whether they count.

use std::time::Duration;

use datastore_migrate::example;
use datastore_migrate::present::{read_back, report_covered};
use datastore_migrate::report::Report;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use test_support::scene::Scene;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use workflows_sink::config::Config;

use crate::bench::Bench;

const DEADLINE: Duration = Duration::from_secs(60);
const DATASET: &str = "Account:public/Dataset:5634161670000000";

/// A transaction of others with one record, that is open.
fn open(scene: &Scene, name: &str, key: &str, value: &str) -> BaseProducer {
    let producer = scene.producer(&[("transactional.id", name)]);
    producer.init_transactions(DEADLINE).expect("a producer");
    producer.begin_transaction().expect("begun");
    let record = BaseRecord::to(&scene.topic).key(key).payload(value);
    producer.send(record).expect("sent");
    producer.flush(DEADLINE).expect("flushed");
    producer
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_open_transaction_are_waited_for_and_then_count() {
    let scene = Scene::new("open_transaction", 1).await;
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let id = bench.json("remap.json")[DATASET]
        .as_str()
        .expect("an id")
        .to_owned();
    let value = format!(r#"{{"id":"{id}","kind":"Dataset"}}"#);
    let others = open(&scene, "others", &id, &value);

    let import = format!("entities export --remap remap.json --topic {}", scene.topic);
    let short = bench
        .run(&format!("{import} --transaction-wait-seconds 1"))
        .await
        .with_code(1);
    for told in [
        "has records of an open transaction, from offset 0 on: waiting for its end",
        "still open after 1 s, from offset 0 on",
    ] {
        assert!(short.error.contains(told), "{told}: {}", short.error);
    }
    let mut waiting = bench.start(&import);
    let error = waiting.stderr.take().expect("a pipe");
    let line = tokio::time::timeout(DEADLINE, BufReader::new(error).lines().next_line()).await;
    let line = line
        .expect("a line in time")
        .expect("a line")
        .expect("a line");
    assert!(
        line.contains("waiting for its end, 119 s at most"),
        "{line}"
    );
    others.commit_transaction(DEADLINE).expect("committed");
    let ended = tokio::time::timeout(DEADLINE, waiting.wait_with_output()).await;
    let ended = ended.expect("an end in time").expect("its output");
    let out = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{out}");
    assert!(out.contains("1 left: the topic has a newer state"), "{out}");
    assert!(
        !out.contains("there already"),
        "the first run had sent nothing: {out}"
    );
}

/// What begins behind the read-back is waited for at the end, and told where it stays open.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_at_the_end_of_a_run_is_told() {
    let scene = Scene::new("open_at_the_end", 1).await;
    let config = Config::from_vars(scene.environment().into_iter()).expect("settings");
    let kafka = config.kafka;
    let (topic, wait) = (scene.topic.clone(), Duration::from_secs(1));
    let before = tokio::task::spawn_blocking(move || {
        let present = read_back(&kafka, &topic, wait).expect("read back");
        (kafka, present)
    });
    let (kafka, present) = before.await.expect("it ends");
    let others = open(&scene, "later", "x", "{}");
    let after = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        report_covered(&kafka, &present, wait, &mut report).expect("read");
        report
    });
    let report = after.await.expect("it ends");
    others.abort_transaction(DEADLINE).expect("aborted");
    let rejected = &report.rejected[0];
    assert!(
        rejected.reason.contains("still open begin here"),
        "{}",
        rejected.reason
    );
    assert_eq!((report.rejected_in_all, rejected.record), (1, 0));
    assert!(rejected.file.contains(&scene.topic), "{}", rejected.file);
}
