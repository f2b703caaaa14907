//! A log that lost its end and has grown past the checkpoint with other records: the offset is one
//! of the log again, and only the leader epoch tells that it is not the same log.

use std::path::Path;
use std::process::Command;

use local_stack::{Cluster, Kafka, KafkaOptions, Toxiproxy};
use test_support::operator::{states, until_at, until_statuses};
use test_support::scene::{Scene, world};
use test_support::wait::until_is;
use test_support::worker::{Worker, run};

/// The records that are lost, and those that stand in their place afterwards.
const BEFORE: u32 = 100;
const AFTER: u32 = 200;

/// Removes the log of the topic's one partition while the broker is down.
async fn empty_the_log(kafka: &mut Kafka, scene: &Scene) {
    kafka.stop().await.expect("stopped");
    let folder = kafka.server().directory().join("data");
    let log = folder.join(format!("{}-0", scene.topic));
    std::fs::remove_dir_all(log).expect("the partition's folder");
    kafka.restart().await.expect("restarted");
}

pub async fn on_a_broker_of_its_own(name: &str) -> (Scene, Kafka) {
    let kafka = Kafka::start(KafkaOptions::default())
        .await
        .expect("a broker");
    let scene = Scene::on(name, &kafka.bootstrap(), &world().await.mongo.uri()).await;
    let topics = kafka.topics().expect("an admin client");
    topics.create(&scene.topic, 1, &[]).await.expect("a topic");
    (scene, kafka)
}

/// The partition stops, is shown as truncated, and continues once a person accepts the loss.
async fn stops_until_it_is_resolved(scene: &Scene, worker: &Worker) {
    worker.logs("this partition has stopped").await;
    let [stop] = &worker.lines_with("this partition has stopped")[..] else {
        panic!("stopped once: {}", worker.log());
    };
    let message = stop["message"].as_str().expect("a text");
    assert!(message.contains("the log was truncated"), "{message}");
    assert!(message.contains("offsets resolve"), "{message}");
    until_at(scene, 0, i64::from(BEFORE)).await;

    let environment = scene.environment();
    let (code, shown, error) = run(&environment, &["offsets", "show"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(shown.contains("truncated"), "{shown}");
    let (code, _, error) = run(&environment, &["offsets", "resolve", "--yes"]).await;
    assert_eq!(code, Some(0), "{error}");
    scene.settled().await;
    until_statuses(scene, (0..AFTER).map(|n| (n, "new"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_emptied_while_no_worker_ran_stops_its_partition() {
    let (scene, mut kafka) = on_a_broker_of_its_own("emptied_idle").await;
    scene.produce(&states(0..BEFORE, "old", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    empty_the_log(&mut kafka, &scene).await;
    scene.produce(&states(0..AFTER, "new", 0));
    let (code, shown, error) = run(&scene.environment(), &["offsets", "show"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(shown.contains("truncated"), "seen before a claim: {shown}");
    let worker = scene.worker(&[]);
    stops_until_it_is_resolved(&scene, &worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_emptied_under_a_worker_stops_its_partition() {
    let (scene, mut kafka) = on_a_broker_of_its_own("emptied_live").await;
    scene.produce(&states(0..BEFORE, "old", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    // Frozen, it sees the log only once that has grown.
    worker.server().freeze().expect("frozen");
    empty_the_log(&mut kafka, &scene).await;
    scene.produce(&states(0..AFTER, "new", 0));
    worker.server().thaw().expect("thawed");
    stops_until_it_is_resolved(&scene, &worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_emptied_and_stays_short_stops_its_partition() {
    let (scene, mut kafka) = on_a_broker_of_its_own("emptied_short").await;
    scene.produce(&states(0..BEFORE, "old", 0));
    let worker = scene.worker(&[]);
    scene.settled().await;

    empty_the_log(&mut kafka, &scene).await;
    worker.logs("this partition has stopped").await;
    scene.produce(&states(0..AFTER, "new", 0));
    stops_until_it_is_resolved(&scene, &worker).await;
}

/// The cluster's proxies end with the toxiproxy.
pub async fn on_three_brokers(name: &str) -> (Scene, Cluster, Toxiproxy) {
    let toxiproxy = tokio::task::spawn_blocking(Toxiproxy::install)
        .await
        .expect("done")
        .expect("proxies");
    let cluster = Cluster::start(3, &toxiproxy).await.expect("three brokers");
    let scene = Scene::on(name, &cluster.bootstrap(), &world().await.mongo.uri()).await;
    (scene, cluster, toxiproxy)
}

/// Copies a folder as it is.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success(), "{from:?} {to:?}");
}

/// The controllers' epochs go back with the logs: the older ones look like those of a leader that is
/// merely cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_was_restored_to_an_earlier_state_is_told() {
    let (scene, mut kafka) = on_a_broker_of_its_own("restored_kafka").await;
    scene.produce(&states(0..BEFORE / 2, "old", 0));
    let folder = kafka.server().directory().to_owned();
    let (data, backup) = (folder.join("data"), folder.join("backup"));
    kafka.stop().await.expect("stopped");
    copy(&data, &backup);
    // Each start is another epoch of the leader.
    for _ in 0..3 {
        kafka.restart().await.expect("restarted");
        kafka.stop().await.expect("stopped");
    }
    kafka.restart().await.expect("restarted");
    scene.produce(&states(BEFORE / 2..BEFORE, "old", 0));
    let mut worker = scene.worker(&[]);
    until_at(&scene, 0, i64::from(BEFORE)).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    kafka.stop().await.expect("stopped");
    std::fs::remove_dir_all(&data).expect("the broker's data");
    copy(&backup, &data);
    kafka.restart().await.expect("restarted");
    scene.produce(&states(0..AFTER, "new", 0));
    let worker = scene.worker(&[]);
    worker.logs("Kafka knows less of this partition").await;
    let (_, text) = worker.get("/readyz").expect("an answer");
    assert!(text.contains("WS-307"), "{text}");
    until_at(&scene, 0, i64::from(BEFORE)).await;
    until_statuses(&scene, (0..BEFORE).map(|n| (n, "old"))).await;
}

/// A topic with two replicas on three brokers, whose last half stands only in the leader's log.
struct Unclean {
    cluster: Cluster,
    /// Ends with the cluster.
    _toxiproxy: Toxiproxy,
    scene: Scene,
    leader: usize,
    follower: usize,
}

impl Unclean {
    async fn new(name: &str) -> Unclean {
        let (scene, cluster, toxiproxy) = on_three_brokers(name).await;
        let config = [
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
        ];
        let topics = cluster.topics().expect("an admin client");
        let created = topics.create_replicated(&scene.topic, 1, 2, &config).await;
        created.expect("a topic");
        let found = cluster.leader_and_replicas(&scene.topic, 0).await;
        let (leader, replicas) = found.expect("a leader");
        let follower = replicas.into_iter().find(|replica| *replica != leader);
        Unclean {
            follower: follower.expect("two replicas"),
            leader,
            cluster,
            _toxiproxy: toxiproxy,
            scene,
        }
    }

    /// Half of what stands before the checkpoint is in both logs, half only in the leader's.
    async fn produce_old(&mut self) {
        self.scene.produce(&states(0..BEFORE / 2, "old", 0));
        let follower = self.cluster.server(self.follower);
        follower.kill().expect("killed");
        self.scene.produce(&states(BEFORE / 2..BEFORE, "old", 0));
    }

    /// The leader is lost; the other replica leads without the records that it never had.
    async fn elect_the_other(&mut self) {
        let leader = self.cluster.server(self.leader);
        leader.kill().expect("killed");
        let follower = self.cluster.server(self.follower);
        follower.start().expect("started");
        until_is("the leader", Some(self.follower), || async {
            self.cluster.leader(&self.scene.topic, 0).await.ok()
        })
        .await;
        self.scene.produce(&states(0..AFTER, "new", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclean_election_while_no_worker_runs_stops_its_partition() {
    let mut unclean = Unclean::new("unclean_idle").await;
    unclean.produce_old().await;
    let mut worker = unclean.scene.worker(&[]);
    until_at(&unclean.scene, 0, i64::from(BEFORE)).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    unclean.elect_the_other().await;
    let worker = unclean.scene.worker(&[]);
    stops_until_it_is_resolved(&unclean.scene, &worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclean_election_under_a_worker_stops_its_partition() {
    let mut unclean = Unclean::new("unclean_live").await;
    unclean.produce_old().await;
    let worker = unclean.scene.worker(&[]);
    until_at(&unclean.scene, 0, i64::from(BEFORE)).await;

    unclean.elect_the_other().await;
    stops_until_it_is_resolved(&unclean.scene, &worker).await;
}
