//! A real Prometheus with the shipped rules looks at real workers: alerts fire, end once it is
//! mended, and are silent on an ordinary day; no panel of the dashboard is empty.
//!
//! Where a test is to see an alert fire, its rules are the shipped ones without `for`, and with every
//! window as it is: what hours do to them is tested against a clock (`tests/observability/`). The
//! ordinary day has the rules as they are shipped. Both are evaluated each second.

mod picture;
mod trouble;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::doc;
use local_stack::board::panels;
use local_stack::prometheus::{shipped_rules, shipped_rules_at_once};
use local_stack::{MongoOptions, Prometheus, Topology};
use rdkafka::producer::Producer as _;

use test_support::alerts::{self, fires, prometheus, until_fires, until_over};
use test_support::load::Load;
use test_support::operator::{poison, state, states, until_at};
use test_support::scene::{SHORT_SESSION, Scene, topics};
use test_support::wait::{DEADLINE, until, until_within};
use test_support::worker::{Worker, run, share};

/// What no worker has: tests/pod has the sidecar, and asks these.
const OF_THE_SIDECAR: [&str; 3] = ["Credentials last checked", "Age of passwords", "Drift"];

const REJECTIONS_MAX: &str = "DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX";

/// Over what rates are, in the picture.
const WINDOW: &str = "10s";

/// Lets Prometheus scrape these workers and no other, and waits until it does.
async fn scrape(prometheus: &Prometheus, workers: &[&Worker]) {
    let mut targets = Vec::new();
    for (n, worker) in workers.iter().enumerate() {
        until("it listens", || async { worker.address().is_some() }).await;
        targets.push((worker.address().expect("an address"), format!("worker-{n}")));
    }
    alerts::scrape(prometheus, &targets).await;
}

async fn command(scene: &Scene, words: &[&str]) {
    let (code, out, error) = run(&scene.environment(), words).await;
    assert_eq!(code, Some(0), "{words:?}: {out}{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_stops_alerts_until_somebody_resolves_it() {
    let scene = Scene::uncompacted("observed_stop", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    scrape(&prometheus, &[&worker]).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    until_fires(&prometheus, "WorkflowsSinkAbsent", None).await;

    scene.produce(&states(0..10, "second", 0));
    let trimmed = topics().await.delete_records(&scene.topic, 0, 15).await;
    trimmed.expect("trimmed");
    let worker = scene.worker(&[]);
    scrape(&prometheus, &[&worker]).await;
    until_over(&prometheus, "WorkflowsSinkAbsent").await;
    until_fires(
        &prometheus,
        "WorkflowsSinkPartitionStopped",
        Some(("partition", "0")),
    )
    .await;
    assert!(!fires(
        &prometheus,
        "WorkflowsSinkPartitionStopped",
        Some(("partition", "1"))
    ));

    command(&scene, &["offsets", "resolve", "--partition", "0", "--yes"]).await;
    until_at(&scene, 0, 20).await;
    until_over(&prometheus, "WorkflowsSinkPartitionStopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_and_open_letters_alert_until_somebody_closes_them() {
    let scene = Scene::new("observed_breaker", 1).await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    let worker = scene.worker(&[(REJECTIONS_MAX, "20")]);
    scrape(&prometheus, &[&worker]).await;
    scene.produce(&(0..20).map(|_| poison(0)).collect::<Vec<_>>());
    let topic = Some(("topic", scene.topic.as_str()));
    until_fires(&prometheus, "WorkflowsSinkBreakerOpen", topic).await;
    let reason = Some(("reason", "malformed_value"));
    until_fires(&prometheus, "WorkflowsSinkRecordsRejected", reason).await;
    until_fires(&prometheus, "WorkflowsSinkDeadLettersOpen", reason).await;

    let resolve = [
        "offsets",
        "resolve",
        "--partition",
        "0",
        "--continue",
        "--yes",
    ];
    command(&scene, &resolve).await;
    until_over(&prometheus, "WorkflowsSinkBreakerOpen").await;
    assert!(fires(&prometheus, "WorkflowsSinkDeadLettersOpen", reason));
    let discard = [
        "dead-letters",
        "discard",
        "--all",
        "--why",
        "a test",
        "--yes",
    ];
    command(&scene, &discard).await;
    until_over(&prometheus, "WorkflowsSinkDeadLettersOpen").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_mongodb_and_a_killed_worker_alert_until_they_are_over() {
    let (scene, mongo) = Scene::apart("observed_outage", 2, MongoOptions::default()).await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    let mut workers = [scene.worker(&SHORT_SESSION), scene.worker(&SHORT_SESSION)];
    share(&workers.each_ref(), 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    scene.settled().await;
    scrape(&prometheus, &workers.each_ref()).await;

    mongo.freeze(0).expect("frozen");
    scene.produce(&[states(0..10, "second", 0), states(20..30, "second", 1)].concat());
    for partition in ["0", "1"] {
        let label = Some(("partition", partition));
        until_fires(&prometheus, "WorkflowsSinkPartitionStuck", label).await;
    }
    until_fires(&prometheus, "WorkflowsSinkRetries", None).await;
    mongo.thaw(0).expect("thawed");
    scene.settled().await;
    until_over(&prometheus, "WorkflowsSinkPartitionStuck").await;

    workers[0].server().kill().expect("killed");
    until_fires(&prometheus, "WorkflowsSinkPartitionWithoutWorker", None).await;
    share(&[&workers[1]], 2).await;
    until_over(&prometheus, "WorkflowsSinkPartitionWithoutWorker").await;
    assert!(!fires(&prometheus, "WorkflowsSinkAbsent", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_alerts_until_it_ends_and_its_records_are_late() {
    let scene = Scene::new("observed_transaction", 1).await;
    // Longer than the test, or the broker would end it.
    let open = [
        ("transactional.id", "observed"),
        ("transaction.timeout.ms", "600000"),
    ];
    let hung = scene.producer(&open);
    hung.init_transactions(DEADLINE).expect("a producer");
    hung.begin_transaction().expect("begun");
    scene.send(&hung, &state(99, "open", 0));
    hung.flush(DEADLINE).expect("acknowledged");
    scene.produce(&states(0..10, "behind", 0));
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    let worker = scene.worker(&[]);
    scrape(&prometheus, &[&worker]).await;
    until_fires(&prometheus, "WorkflowsSinkNothingSettles", None).await;
    // Both begin when it has lasted for a minute.
    let topic = Some(("topic", scene.topic.as_str()));
    for (alert, label) in [
        ("WorkflowsSinkRecordsLateFast", topic),
        ("WorkflowsSinkOpenTransaction", None),
    ] {
        until_within(3 * DEADLINE, alert, || async {
            fires(&prometheus, alert, label)
        })
        .await;
    }
    hung.abort_transaction(DEADLINE).expect("aborted");
    scene.settled().await;
    until_over(&prometheus, "WorkflowsSinkOpenTransaction").await;
    until_over(&prometheus, "WorkflowsSinkNothingSettles").await;
}

/// The pages that fired from when it began until it is told to end.
struct Pages {
    end: Arc<AtomicBool>,
    seen: Option<tokio::task::JoinHandle<BTreeSet<String>>>,
}

impl Drop for Pages {
    /// A runtime waits for its blocking tasks: a test that fails would never end.
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
    }
}

impl Pages {
    fn watch(prometheus: &Arc<Prometheus>) -> Pages {
        let (end, prometheus) = (Arc::new(AtomicBool::new(false)), Arc::clone(prometheus));
        let ended = Arc::clone(&end);
        let seen = tokio::task::spawn_blocking(move || {
            let mut seen = BTreeSet::new();
            while !ended.load(Ordering::SeqCst) {
                let alerts = prometheus.alerts().expect("an answer").into_iter();
                let is_page = |labels: &local_stack::prometheus::Labels| {
                    labels
                        .get("severity")
                        .is_some_and(|severity| severity == "page")
                };
                let pages = alerts.filter(|alert| alert.fires && is_page(&alert.labels));
                seen.extend(pages.map(|alert| alert.name));
                std::thread::sleep(Duration::from_millis(500));
            }
            seen
        });
        let seen = Some(seen);
        Pages { end, seen }
    }

    async fn finish(mut self) -> BTreeSet<String> {
        self.end.store(true, Ordering::SeqCst);
        let seen = self.seen.take().expect("it is finished once");
        seen.await.expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_day_wakes_nobody_and_leaves_no_panel_empty() {
    let topology = Topology::ReplicaSet(3);
    let options = MongoOptions {
        topology,
        ..MongoOptions::default()
    };
    let (scene, mut mongo) = Scene::apart("observed_day", 4, options).await;
    let (scene, began) = (Arc::new(scene), Instant::now());
    let prometheus = Arc::new(prometheus(&shipped_rules()).await);
    let mut workers = vec![scene.worker(&[])];
    scrape(&prometheus, &[&workers[0]]).await;
    let pages = Pages::watch(&prometheus);
    let load = Load::start(&scene, 29);
    share(&[&workers[0]], 4).await;
    scene.applies_the_log().await;

    // A rollout: another comes, and each goes once.
    workers.push(scene.worker(&[]));
    share(&[&workers[0], &workers[1]], 4).await;
    scrape(&prometheus, &[&workers[0], &workers[1]]).await;
    scene.applies_the_log().await;
    assert_eq!(workers[0].stop().await, Some(0), "{}", workers[0].log());
    workers[0] = scene.worker(&[]);
    scrape(&prometheus, &[&workers[0], &workers[1]]).await;
    share(&[&workers[0], &workers[1]], 4).await;
    scene.applies_the_log().await;

    // An election, and one that is killed.
    let primary = mongo.primary().await.expect("a primary");
    let direct = mongo.direct(primary).await.expect("a client");
    let step_down = doc! { "replSetStepDown": 10, "force": true };
    let stepped = direct.database("admin").run_command(step_down).await;
    stepped.expect("stepped down");
    scene.applies_the_log().await;
    workers[1].server().kill().expect("killed");
    share(&[&workers[0]], 4).await;
    scene.applies_the_log().await;

    scene.produce(&[poison(0)]);
    until("the letter is seen", || async {
        let open = prometheus.query("sum(workflows_sink_dead_letters_open)");
        open.expect("an answer")
            .iter()
            .any(|(_, value)| *value > 0.0)
    })
    .await;
    no_panel_is_empty(&prometheus);
    if std::env::var_os("RENEW").is_some() {
        let picture = picture::draw(&prometheus, began.elapsed(), WINDOW);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dashboard.svg");
        std::fs::write(path, picture).expect("written");
    }
    load.finish().await;
    scene.settled().await;
    let pages = pages.finish().await;
    assert!(pages.is_empty(), "somebody was woken: {pages:?}");
    every_metric_of_the_page_is_there(&workers[0]);
}

/// Every expression of every panel has an answer.
fn no_panel_is_empty(prometheus: &Prometheus) {
    for panel in panels() {
        if OF_THE_SIDECAR.contains(&panel.title.as_str()) {
            continue;
        }
        for query in &panel.queries {
            let found = prometheus
                .query(&query.expression("5m"))
                .expect("an answer");
            let is_number = found.iter().any(|(_, value)| value.is_finite());
            assert!(is_number, "{}: {}", panel.title, query.expression("5m"));
        }
    }
}

/// What docs/metrics.md says that the service has, it has.
fn every_metric_of_the_page_is_there(worker: &Worker) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let (_, of_service) = page.split_once("## The service").expect("a part");
    let (of_service, _) = of_service.split_once("The values of").expect("its end");
    let (_, shown) = worker.get("/metrics").expect("metrics");
    for row in of_service.lines().filter(|line| line.starts_with("| `")) {
        let name = row.split('`').nth(1).expect("a name");
        assert!(shown.contains(&format!("# TYPE {name} ")), "no {name}");
    }
}
