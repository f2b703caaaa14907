//! What the service reports of itself is complete, readable, and leaks nothing.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bson::doc;
use local_stack::{Message, MongoOptions, install, mongo};
use serde_json::Value;
use test_support::fail_point::FailPoint;
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::{Worker, run};

/// The design's table of metrics.
const METRICS: [&str; 24] = [
    "records_consumed_total",
    "records_settled_total",
    "record_delay_seconds",
    "batch_write_duration_seconds",
    "batch_records",
    "batch_bytes",
    "consumer_lag_records",
    "oldest_unapplied_timestamp_seconds",
    "partition_state",
    "assigned_partitions",
    "topic_partitions",
    "buffered_bytes",
    "breaker_open",
    "tasks",
    "retries_total",
    "errors_total",
    "dead_letters_total",
    "dead_letters_open",
    "fenced_total",
    "rebalances_total",
    "decompressed_again_total",
    "last_settled_timestamp_seconds",
    "build_info",
    "record_delay_seconds_bucket",
];

const SECRET_FIELD: &str = "the-payload-of-a-record";

fn record(n: u32, kind: &str) -> Message {
    let id = format!("{n:032x}");
    let json = format!(r#"{{"id":"{id}","kind":"{kind}","size":-1,"note":"{SECRET_FIELD}"}}"#);
    Message {
        headers: vec![("note".to_owned(), Some(SECRET_FIELD.into()))],
        ..Message::new(id, json)
    }
}

fn status(worker: &Worker, path: &str) -> Option<u16> {
    worker.get(path).map(|(status, _)| status)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_design_is_there_and_promtool_finds_no_fault() {
    let scene = Scene::new("metrics", 2).await;
    scene.produce(&[record(1, "Dataset"), record(2, "Nonsense")]);
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    until("the lag is known and the last batch counted", || async {
        worker.metric("workflows_sink_consumer_lag_records", "") == Some(0.0)
            && worker.metric("workflows_sink_dead_letters_total", "") == Some(1.0)
    })
    .await;

    let (_, body) = worker.get("/metrics").expect("metrics");
    for metric in METRICS {
        let name = format!("workflows_sink_{metric}");
        let series = body.lines().find(|line| {
            line.strip_prefix(&name)
                .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
        });
        assert!(series.is_some(), "{name} is missing:\n{body}");
    }
    assert!(body.contains("\nprocess_resident_memory_bytes "), "{body}");
    let consumed = worker.metric(
        "workflows_sink_records_consumed_total",
        "topic=\"metrics.state\"",
    );
    assert_eq!(consumed, Some(2.0));
    assert_eq!(
        worker.metric("workflows_sink_record_delay_seconds_count", ""),
        Some(2.0)
    );

    let errors = worker.metric("workflows_sink_errors_total", "");
    assert_eq!(
        errors,
        Some(0.0),
        "the end of a partition is no error:\n{body}"
    );

    let promtool = tokio::task::spawn_blocking(install::promtool);
    let promtool = promtool.await.expect("no panic").expect("promtool");
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    check
        .stdin
        .take()
        .expect("a pipe")
        .write_all(body.as_bytes())
        .expect("read");
    let checked = check.wait_with_output().expect("promtool ends");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(
        checked.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_mongodb_is_alive_and_not_ready() {
    let (scene, mongo) = Scene::apart("probes", 1, MongoOptions::default()).await;
    mongo.freeze(0).expect("frozen");
    let mut worker = scene.worker(&[]);
    until("the worker listens", || async {
        status(&worker, "/livez") == Some(200)
    })
    .await;
    let (code, why) = worker.get("/readyz").expect("an answer");
    assert_eq!(code, 503);
    assert!(
        why.contains("not in the consumer group") && why.contains("MongoDB"),
        "{why}"
    );
    assert_eq!(status(&worker, "/nothing"), Some(404));
    mongo.thaw(0).expect("thawed");
    worker.ready().await;
    // It has nothing to write, and finds out all the same.
    mongo.freeze(0).expect("frozen");
    let frozen = Instant::now();
    until("the worker is not ready any more", || async {
        assert!(frozen.elapsed() < Duration::from_secs(20), "found out late");
        status(&worker, "/readyz") == Some(503)
    })
    .await;
    assert_eq!(status(&worker, "/livez"), Some(200));
    mongo.thaw(0).expect("thawed");
    worker.ready().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    open.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_ask_nothing_keep_no_probe_out_and_hold_few_descriptors() {
    const SOCKETS: usize = 600;
    const HELD_MAX: usize = 200;
    let scene = Scene::new("sockets", 1).await;
    let mut worker = scene.worker(&[]);
    worker.ready().await;
    let pid = worker.server().pid().expect("a running worker");
    let before = descriptors(pid);
    let address = worker.address().expect("an address");
    let mut open = Vec::new();
    for n in 0..SOCKETS {
        let mut socket = TcpStream::connect(&address).expect("a connection");
        let sent: &[u8] = [b"", &b"GET /livez HTTP/1.1\r\nHo"[..]][n % 2];
        // One that has made way already takes nothing any more.
        let _ = socket.write_all(sent);
        open.push(socket);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(status(&worker, path), Some(200), "{path}");
    }
    let held = descriptors(pid).saturating_sub(before);
    assert!(held < HELD_MAX, "{held} descriptors more than before");
    until("those that are left are closed too", || async {
        descriptors(pid) < before + HELD_MAX / 4
    })
    .await;
    drop(open);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_at_its_most_talkative_holds_no_payload_and_no_password() {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let (mut scene, mongo) = Scene::apart("secrets", 1, options).await;
    let admin = mongo.admin().await.expect("a client");
    scene.database = admin.database(mongo::DATABASE);
    // The server's refusal quotes the document.
    let reports = scene.database.create_collection("reports");
    reports
        .validator(doc! { "size": { "$gte": 0 } })
        .await
        .expect("a collection");
    let malformed = Message::new("a key", SECRET_FIELD);
    let (accepted, unknown) = (record(1, "Dataset"), record(2, "Nonsense"));
    scene.produce(&[accepted, unknown, record(3, "Report"), malformed]);

    let password = mongo.password().expect("a password").to_owned();
    let talkative = (
        "DYFF_WORKFLOWS_SINK__LOG_FILTER",
        "trace,librdkafka=trace,mongodb=trace",
    );
    let mut worker = scene.worker(&[talkative]);
    scene.settled().await;
    assert_eq!(scene.dead_letters().await.len(), 3);
    mongo.freeze(0).expect("frozen");
    worker.logs("MongoDB does not accept writes").await;
    mongo.thaw(0).expect("thawed");
    worker.logs("MongoDB accepts writes again").await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let wrong = scene.uri.replace(&password, "a-wrong-password");
    let mut refused = scene.worker(&[talkative, (CONNECTION_STRING, &wrong)]);
    assert_eq!(refused.exit().await, Some(78), "{}", refused.log());
    for (log, lines) in [
        (worker.log(), worker.lines()),
        (refused.log(), refused.lines()),
    ] {
        for secret in [SECRET_FIELD, &password, "a-wrong-password"] {
            let found = log.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{secret}: {found:?}");
        }
        assert!(!lines.is_empty());
    }
    let unreadable: Vec<String> = worker
        .log()
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err())
        .map(str::to_owned)
        .collect();
    assert!(unreadable.is_empty(), "not JSON: {unreadable:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_turns_a_verbose_log_on_and_off_again() {
    let (scene, mongo) = Scene::apart("verbose", 1, MongoOptions::default()).await;
    let mut failing = FailPoint::of(&mongo.admin().await.expect("a client"));
    let filter = "warn,workflows_sink::service=info";
    for signals in [0, 1, 2] {
        let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__LOG_FILTER", filter)]);
        worker.ready().await;
        let told = [
            "logging at debug for a while",
            "logging as it is configured again",
        ];
        for told in &told[..signals] {
            let pid = worker.server().pid().expect("a running worker");
            let verbose = ["verbose", "--pid", &pid.to_string()];
            let (code, out, error) = run(&scene.environment(), &verbose).await;
            assert_eq!(code, Some(0), "{out}{error}");
            worker.logs(told).await;
        }
        // An attempt that failed is a line at debug.
        let update = doc! { "failCommands": ["update"], "errorCode": 112 };
        failing.set(doc! { "times": 1 }, update).await;
        scene.produce(&[record(1, "Dataset")]);
        scene.settled().await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        let is_own = |line: &Value| {
            let target = line["target"].as_str().unwrap_or_default();
            line["level"] == "DEBUG" && target.starts_with("workflows_sink::")
        };
        let is_verbose = worker.lines().iter().any(is_own);
        assert_eq!(is_verbose, signals == 1, "{signals}: {}", worker.log());
    }
}
