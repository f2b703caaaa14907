//! A worker that is killed leaves no gap and nothing twice.

use std::time::{Duration, Instant};

use local_stack::{Message, MongoOptions};
use test_support::entities::Entities;
use test_support::fail_point::FailPoint;
use test_support::history::History;
use test_support::scene::{CONNECTION_STRING, SHORT_SESSION, Scene};
use test_support::wait::until;

use crate::drain::expected;

/// How long after its session timeout a dead worker's open transactions may hold up its successor.
/// Without the service's doing they would do so for a minute.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(15);

/// How long after a worker was killed everything is applied by its successor.
const APPLIED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_no_gap_and_its_open_transactions_delay_nobody() {
    let (scene, mongo) = Scene::apart("kill", 12, MongoOptions::default()).await;
    let records = Entities::new(3, 300).states(2_000);
    scene.produce(&records);
    let history = History::watch(&scene).await;
    let mut commits = FailPoint::of(&mongo.admin().await.expect("a client"));
    commits
        .block(&["commitTransaction"], "victim", 30_000)
        .await;

    let uri = scene.uri_of("victim");
    let settings = [&SHORT_SESSION[..], &[(CONNECTION_STRING, &uri)]].concat();
    let mut victim = scene.worker(&settings);
    // It has written all it has to, of one partition or of several, and is about to commit.
    commits.met(1).await;
    victim.server().kill().expect("killed");
    let killed = Instant::now();

    let mut successor = scene.worker(&SHORT_SESSION);
    scene.settled().await;
    let took = killed.elapsed();
    assert_eq!(scene.entities().await, expected(&records));
    let proof = history.prove(&scene).await;
    assert_eq!(
        proof.moves_of.len(),
        12,
        "only the successor's were committed: {proof:?}"
    );

    let assigned = *successor
        .times("partitions assigned")
        .last()
        .expect("an assignment");
    let claimed = *successor.times("claimed").iter().max().expect("claims");
    let held_up = Duration::try_from(claimed.duration_since(assigned)).unwrap_or_default();
    assert!(
        held_up < TAKEN_OVER_WITHIN,
        "claims took {held_up:?}:\n{}",
        successor.log()
    );
    assert!(took < APPLIED_WITHIN, "{took:?} {}", successor.log());
    assert_eq!(successor.stop().await, Some(0), "{}", successor.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_again_and_again_apply_each_record_once() {
    let (scene, mongo) = Scene::apart("kill_again", 6, MongoOptions::default()).await;
    let mut entities = Entities::new(4, 200);
    let mut records: Vec<Message> = Vec::new();
    let history = History::watch(&scene).await;
    let mut slow = FailPoint::of(&mongo.admin().await.expect("a client"));
    // A third of the records takes seconds, and so do those that are left when it is killed.
    slow.block(&["update", "commitTransaction"], "victim", 100)
        .await;

    let uri = scene.uri_of("victim");
    let small = [
        (CONNECTION_STRING, uri.as_str()),
        ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", "10"),
    ];
    let settings = [&SHORT_SESSION[..], &small].concat();
    for kill in 1..=3 {
        let states = entities.states(800);
        scene.produce(&states);
        records.extend(states);
        let mut victim = scene.worker(&settings);
        until("the victim is in the middle of it", || async {
            let settled = victim
                .metric("workflows_sink_records_settled_total", "")
                .unwrap_or(0.0);
            settled > f64::from(100 * kill)
        })
        .await;
        victim.server().kill().expect("killed");
        let checkpoints = scene.checkpoints().await;
        assert_ne!(
            checkpoints,
            scene.log_ends().await,
            "killed in the middle of it"
        );
    }
    slow.off().await;
    let mut last = scene.worker(&SHORT_SESSION);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    let proof = history.prove(&scene).await;
    assert!(proof.moves_of.len() >= 4, "each has written: {proof:?}");
    assert_eq!(last.stop().await, Some(0), "{}", last.log());
}
