//! Outages of any length are waited for: nothing is lost, and no partition moves.

use std::time::{Duration, Instant};

use local_stack::observe::usage;
use local_stack::{Kafka, KafkaOptions, Message, Mongo, MongoOptions, Topology};
use mongodb::bson::doc;
use test_support::entities::Entities;
use test_support::fail_point::FailPoint;
use test_support::history::History;
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::{Worker, share};

use crate::drain::expected;

/// The session has to be shorter than that interval.
const SETTINGS: [(&str, &str); 5] = [
    ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "4900"),
    ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "300"),
    ("DYFF_KAFKA__CONFIG__MAX_POLL_INTERVAL_MS", "5000"),
    ("DYFF_WORKFLOWS_SINK__DRAIN_DEADLINE_MS", "3000"),
    ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", "50"),
];

/// Longer than `max.poll.interval.ms` in [`SETTINGS`], and so longer than the session.
const OUTAGE: Duration = Duration::from_secs(7);

/// Twice the five seconds between pings, and as much again for slow machines.
const UNREADY_WITHIN: Duration = Duration::from_secs(20);

const OUTAGE_LOGGED: &str = "MongoDB does not accept writes";
const TOLD_BACK: &str = "MongoDB accepts writes again";

/// A scene with a broker of its own, too.
async fn with_own_servers(name: &str, partitions: i32) -> (Scene, Kafka, Mongo) {
    let kafka = Kafka::start(KafkaOptions::default())
        .await
        .expect("a broker");
    let mongo = Mongo::start(MongoOptions::default())
        .await
        .expect("a replica set");
    let scene = Scene::on(name, &kafka.bootstrap(), &mongo.uri()).await;
    let topics = kafka.topics().expect("an admin client");
    topics
        .create(&scene.topic, partitions, &[])
        .await
        .expect("a topic");
    (scene, kafka, mongo)
}

fn rebalances(worker: &Worker) -> Option<f64> {
    worker.metric("workflows_sink_rebalances_total", "")
}

/// Waits for the end of [`OUTAGE`], in which `worker` must keep what it has, say that it is not
/// ready, and log once why.
async fn endure(worker: &Worker, began: Instant, partitions: i64, logged: usize) {
    let before = rebalances(worker);
    until("the worker says that it is not ready", || async {
        assert!(began.elapsed() < UNREADY_WITHIN, "{}", worker.log());
        !worker.is_ready()
    })
    .await;
    until("the outage has lasted", || async {
        assert_eq!(worker.assigned(), partitions, "{}", worker.log());
        assert_eq!(worker.get("/livez").map(|(status, _)| status), Some(200));
        began.elapsed() > OUTAGE && worker.count("WARN", OUTAGE_LOGGED) == logged
    })
    .await;
    assert!(!worker.is_ready(), "not ready until the end");
    assert_eq!(rebalances(worker), before, "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_mongodb_costs_neither_records_nor_the_membership() {
    let (scene, mut mongo) = Scene::apart("mongodb_outage", 6, MongoOptions::default()).await;
    let mut entities = Entities::new(11, 200);
    let mut records = entities.states(600);
    scene.produce(&records);
    let mut worker = scene.worker(&SETTINGS);
    scene.settled().await;
    worker.ready().await;
    let joined = rebalances(&worker);

    for (outages, killed) in [(1, false), (2, true)] {
        let began = Instant::now();
        match killed {
            true => mongo.kill(0).expect("killed"),
            false => mongo.freeze(0).expect("frozen"),
        }
        let states = entities.states(600);
        scene.produce(&states);
        records.extend(states);
        endure(&worker, began, 6, outages).await;
        match killed {
            true => mongo.restart(0).await.expect("restarted"),
            false => mongo.thaw(0).expect("thawed"),
        }
        scene.settled().await;
        worker.ready().await;
        assert_eq!(scene.entities().await, expected(&records));
        assert_eq!(
            worker.count("WARN", OUTAGE_LOGGED),
            outages,
            "{}",
            worker.log()
        );
        assert_eq!(worker.count("INFO", TOLD_BACK), outages, "{}", worker.log());
    }
    assert_eq!(rebalances(&worker), joined, "{}", worker.log());
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_kafka_costs_no_record() {
    let (scene, mut kafka, _mongo) = with_own_servers("kafka_outage", 6).await;
    let mut entities = Entities::new(12, 200);
    let mut records = entities.states(600);
    scene.produce(&records);
    let history = History::watch(&scene).await;
    let mut worker = scene.worker(&SETTINGS);
    scene.settled().await;

    kafka.kill().expect("killed");
    worker.logs("brokers are down").await;
    assert_eq!(worker.get("/livez").map(|(status, _)| status), Some(200));
    kafka.restart().await.expect("restarted");
    let states = entities.states(600);
    scene.produce(&states);
    records.extend(states);
    scene.settled().await;
    worker.logs("Kafka answers again").await;
    assert_eq!(scene.entities().await, expected(&records));
    history.prove(&scene).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// Longer than what librdkafka may still be asking for when the brokers go, and longer than two
/// lookups are apart.
const AT_REST: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_answers_waits_at_rest() {
    let (scene, mut kafka, mut mongo) = with_own_servers("at_rest", 12).await;
    let mut entities = Entities::new(14, 200);
    let mut records = entities.states(600);
    scene.produce(&records);
    let mut worker = scene.worker(&SETTINGS);
    scene.settled().await;

    // Orderly: behind a broker that was killed, lookups were not seen to keep librdkafka busy.
    kafka.stop().await.expect("stopped");
    mongo.stop(0).await.expect("stopped");
    worker.logs("brokers are down").await;
    worker.logs("partitions revoked").await;
    let pid = worker.server().pid().expect("a running worker");
    let cpu = || usage(pid).expect("a running worker").cpu;
    let (mut from, mut used) = (Instant::now(), cpu());
    until("the worker uses next to nothing", || {
        let lasted = from.elapsed();
        let mut rests = false;
        if lasted > AT_REST {
            rests = cpu() - used < lasted / 10;
            (from, used) = (Instant::now(), cpu());
        }
        async move { rests }
    })
    .await;

    mongo.restart(0).await.expect("restarted");
    kafka.restart().await.expect("restarted");
    let states = entities.states(600);
    scene.produce(&states);
    records.extend(states);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// The deadlines of draining in [`SETTINGS`] and of leaving, and as much again for slow machines.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_kafka_does_not_answer_ends_all_the_same() {
    let (scene, mut kafka, _mongo) = with_own_servers("kafka_silent", 6).await;
    let mut entities = Entities::new(13, 200);
    for killed in [false, true] {
        let mut worker = scene.worker(&SETTINGS);
        share(&[&worker], 6).await;
        scene.produce(&entities.states(600));
        scene.settled().await;
        match killed {
            true => kafka.kill().expect("killed"),
            false => kafka.freeze().expect("frozen"),
        }
        let asked = Instant::now();
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        assert!(
            asked.elapsed() < STOPPED_WITHIN,
            "{:?} {}",
            asked.elapsed(),
            worker.log()
        );
        match killed {
            true => kafka.restart().await.expect("restarted"),
            false => kafka.thaw().expect("thawed"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_cost_no_record_and_repeat_none() {
    let options = MongoOptions {
        topology: Topology::ReplicaSet(3),
        ..MongoOptions::default()
    };
    let (scene, mut mongo) = Scene::apart("elections", 6, options).await;
    let mut entities = Entities::new(13, 200);
    let mut records: Vec<Message> = Vec::new();
    let history = History::watch(&scene).await;
    let uri = scene.uri_of("elections");
    let mut worker = scene.worker(&[&SETTINGS[..], &[(CONNECTION_STRING, &uri)]].concat());
    share(&[&worker], 6).await;
    let retries = |worker: &Worker| worker.metric("workflows_sink_retries_total", "");

    for (round, kill) in [(1, false), (2, true)] {
        let primary = mongo.primary().await.expect("a primary");
        let direct = mongo.direct(primary).await.expect("a client");
        let mut slow = FailPoint::of(&direct);
        slow.block(&["commitTransaction"], "elections", 200).await;
        let states = entities.states(1_200);
        scene.produce(&states);
        records.extend(states);
        // Some are about to be committed, and more wait behind them.
        slow.met(2).await;
        let before = retries(&worker);
        match kill {
            true => mongo.kill(primary).expect("killed"),
            false => {
                let step_down = doc! { "replSetStepDown": 10, "force": true };
                let admin = direct.database("admin");
                admin.run_command(step_down).await.expect("stepped down");
                slow.off().await;
            }
        }
        scene.settled().await;
        assert!(retries(&worker) > before, "round {round} met no write");
        if kill {
            mongo.restart(primary).await.expect("restarted");
        }
    }

    assert_eq!(scene.entities().await, expected(&records));
    history.prove(&scene).await;
    assert_eq!(worker.assigned(), 6);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
