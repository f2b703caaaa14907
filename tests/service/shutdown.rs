//! A worker that is asked to stop finishes what is under way, and nobody has to wait for it.

use std::time::{Duration, Instant};

use local_stack::MongoOptions;
use rustix::process::Signal;
use test_support::entities::Entities;
use test_support::fail_point::FailPoint;
use test_support::history::History;
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::share;

use crate::drain::{caught_up, expected};

const DRAIN_DEADLINE: &str = "DYFF_WORKFLOWS_SINK__DRAIN_DEADLINE_MS";
const FLUSH_RECORDS_MAX: &str = "DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX";

/// A session that a test would notice if anybody waited for its end.
const LONG_SESSION: (&str, &str) = ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "30000");

/// Under [`LONG_SESSION`], and under the deadlines of draining that these tests do not set.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_finishes_its_batch_commits_and_hands_over_at_once() {
    for (name, signal) in [("terminate", Signal::TERM), ("interrupt", Signal::INT)] {
        let (scene, mongo) = Scene::apart(name, 4, MongoOptions::default()).await;
        let mut entities = Entities::new(7, 100);
        let mut records = entities.states(1_000);
        scene.produce(&records);
        let history = History::watch(&scene).await;
        let mut slow = FailPoint::of(&mongo.admin().await.expect("a client"));
        // Slow enough for the signal to come while the commits are under way that were seen.
        slow.block(&["commitTransaction"], "stopped", 2_000).await;

        let uri = scene.uri_of("stopped");
        let settings = [
            LONG_SESSION,
            (CONNECTION_STRING, &uri),
            (FLUSH_RECORDS_MAX, "10"),
        ];
        let mut stopped = scene.worker(&settings);
        slow.met(4).await;
        let before = scene.checkpoints().await;
        stopped.server().signal(signal).expect("a running worker");
        assert_eq!(stopped.exit().await, Some(0), "{}", stopped.log());
        let left = Instant::now();
        let lines = stopped.lines();
        let last = lines.last().expect("a log");
        assert!(
            last["message"] == "stopped" && last["settled"].is_u64() && last["seconds"].is_u64(),
            "{last}"
        );

        // What was being written was finished; what only was in memory was not begun.
        let after = scene.checkpoints().await;
        assert!(
            after
                .iter()
                .all(|(p, next)| (1..=20).contains(&(next - before[p]))),
            "{before:?} {after:?}"
        );
        assert_eq!(
            scene.committed().await,
            after,
            "the group's offsets are the checkpoints"
        );

        let mut successor = scene.worker(&[LONG_SESSION]);
        share(&[&successor], 4).await;
        assert!(
            left.elapsed() < HANDED_OVER_WITHIN,
            "the group was not left: {:?}",
            left.elapsed()
        );
        let states = entities.states(100);
        scene.produce(&states);
        records.extend(states);
        scene.settled().await;
        assert_eq!(scene.entities().await, expected(&records));
        history.prove(&scene).await;
        assert_eq!(successor.stop().await, Some(0), "{}", successor.log());
        assert_eq!(scene.committed().await, scene.checkpoints().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_beside_the_stopped_one_gets_its_partitions_at_once() {
    let scene = Scene::new("beside", 12).await;
    scene.produce(&Entities::new(8, 100).states(500));
    let mut stopped = scene.worker(&[LONG_SESSION]);
    let mut beside = scene.worker(&[LONG_SESSION]);
    share(&[&stopped, &beside], 12).await;
    assert_eq!(stopped.stop().await, Some(0), "{}", stopped.log());
    let left = Instant::now();
    share(&[&beside], 12).await;
    assert!(left.elapsed() < HANDED_OVER_WITHIN, "{:?}", left.elapsed());
    assert_eq!(beside.stop().await, Some(0), "{}", beside.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_finish_ends_at_its_deadline_and_nothing_is_lost() {
    let (scene, mongo) = Scene::apart("deadline", 4, MongoOptions::default()).await;
    let mut entities = Entities::new(9, 100);
    let mut records = entities.states(500);
    scene.produce(&records);
    let mut stuck = scene.worker(&[LONG_SESSION, (DRAIN_DEADLINE, "1500")]);
    scene.settled().await;
    caught_up(&stuck, 4).await;
    mongo.freeze(0).expect("frozen");
    let states = entities.states(500);
    scene.produce(&states);
    records.extend(states);
    until("records are waiting to be written", || async {
        stuck.metric("workflows_sink_records_consumed_total", "") > Some(500.0)
    })
    .await;

    let asked = Instant::now();
    assert_eq!(stuck.stop().await, Some(1), "{}", stuck.log());
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(1_500),
        "it waited for the deadline: {took:?}"
    );
    assert!(
        took < Duration::from_millis(1_500) + HANDED_OVER_WITHIN,
        "{took:?}"
    );

    mongo.thaw(0).expect("thawed");
    let mut successor = scene.worker(&[LONG_SESSION]);
    share(&[&successor], 4).await;
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    assert_eq!(successor.stop().await, Some(0), "{}", successor.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_at_once_and_nothing_is_lost() {
    let (scene, mongo) = Scene::apart("second_signal", 4, MongoOptions::default()).await;
    let records = Entities::new(10, 100).states(500);
    let session = ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "2000");
    let mut stuck = scene.worker(&[session, (DRAIN_DEADLINE, "60000")]);
    caught_up(&stuck, 4).await;
    mongo.freeze(0).expect("frozen");
    scene.produce(&records);
    until("records are waiting to be written", || async {
        stuck.metric("workflows_sink_records_consumed_total", "") > Some(0.0)
    })
    .await;

    stuck
        .server()
        .signal(Signal::TERM)
        .expect("a running worker");
    stuck.logs("stopping").await;
    let asked = Instant::now();
    stuck
        .server()
        .signal(Signal::INT)
        .expect("a running worker");
    assert_eq!(stuck.exit().await, Some(130), "{}", stuck.log());
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );

    mongo.thaw(0).expect("thawed");
    let mut successor = scene.worker(&[session]);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    assert_eq!(successor.stop().await, Some(0), "{}", successor.log());
}
