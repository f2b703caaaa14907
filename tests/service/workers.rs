//! Workers share a topic; they come, go, and come back.

use std::collections::BTreeSet;

use local_stack::Message;
use test_support::entities::Entities;
use test_support::history::History;
use test_support::scene::{LONG_SESSION, Scene};
use test_support::wait::until;
use test_support::worker::{Worker, share};

use crate::drain::expected;

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_leave_the_same_documents() {
    let scene = Scene::new("workers", 12).await;
    let history = History::watch(&scene).await;
    let mut entities = Entities::new(2, 300);
    let mut records: Vec<Message> = Vec::new();
    let mut produce = |count| {
        let states = entities.states(count);
        scene.produce(&states);
        records.extend(states);
    };

    produce(600);
    let mut first = scene.worker(&[]);
    share(&[&first], 12).await;
    produce(400);
    let mut second = scene.worker(&[]);
    produce(400);
    share(&[&first, &second], 12).await;
    produce(400);
    let mut third = scene.worker(&[]);
    produce(400);
    share(&[&first, &second, &third], 12).await;
    produce(400);
    assert_eq!(first.stop().await, Some(0), "{}", first.log());
    produce(400);
    share(&[&second, &third], 12).await;
    scene.settled().await;

    assert_eq!(scene.entities().await, expected(&records));
    let proof = history.prove(&scene).await;
    assert!(
        proof.moves_of.len() >= 3,
        "all three have worked: {proof:?}"
    );
    for worker in [&mut second, &mut third] {
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
}

const GROUP_INSTANCE_ID: &str = "DYFF_WORKFLOWS_SINK__GROUP_INSTANCE_ID";

/// Which partitions a worker has claimed.
fn claimed(worker: &Worker) -> BTreeSet<String> {
    let lines = worker.lines();
    let claims = lines.iter().filter(|line| line["message"] == "claimed");
    claims
        .map(|line| line["partition"].as_str().expect("a partition").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_restarts_gets_its_partitions_back_and_moves_no_other() {
    let scene = Scene::new("static", 6).await;
    let mut records = Entities::new(17, 60).states(300);
    scene.produce(&records);
    let mut other = scene.worker(&[LONG_SESSION, (GROUP_INSTANCE_ID, "other")]);
    share(&[&other], 6).await;
    let mut restarted = scene.worker(&[LONG_SESSION, (GROUP_INSTANCE_ID, "restarted")]);
    share(&[&other, &restarted], 6).await;
    scene.settled().await;
    until("its partitions are claimed", || async {
        claimed(&restarted).len() == 3
    })
    .await;
    let (before, rebalances) = (claimed(&restarted), rebalances_of(&other));

    for killed in [false, true] {
        match killed {
            true => restarted.server().kill().expect("killed"),
            false => assert_eq!(restarted.stop().await, Some(0), "{}", restarted.log()),
        }
        restarted = scene.worker(&[LONG_SESSION, (GROUP_INSTANCE_ID, "restarted")]);
        share(&[&other, &restarted], 6).await;
        until("its partitions are claimed", || async {
            claimed(&restarted).len() == 3
        })
        .await;
        assert_eq!(claimed(&restarted), before);
        assert_eq!(rebalances_of(&other), rebalances, "{}", other.log());
    }
    let states = Entities::new(18, 60).states(300);
    scene.produce(&states);
    records.extend(states);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    for worker in [&mut other, &mut restarted] {
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
}

fn rebalances_of(worker: &Worker) -> Option<f64> {
    worker.metric("workflows_sink_rebalances_total", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_assignment_leaves_the_same_documents() {
    let scene = Scene::new("kip848", 6).await;
    let history = History::watch(&scene).await;
    let mut entities = Entities::new(19, 100);
    let mut records = entities.states(500);
    scene.produce(&records);
    let settings = [
        ("DYFF_KAFKA__CONFIG__GROUP_PROTOCOL", "consumer"),
        ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", ""),
        ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", ""),
    ];
    let mut first = scene.worker(&settings);
    share(&[&first], 6).await;
    let mut second = scene.worker(&settings);
    share(&[&first, &second], 6).await;
    let states = entities.states(500);
    scene.produce(&states);
    records.extend(states);
    assert_eq!(first.stop().await, Some(0), "{}", first.log());
    share(&[&second], 6).await;
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    history.prove(&scene).await;
    assert_eq!(second.stop().await, Some(0), "{}", second.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_partition_says_so_and_no_line_counts_none() {
    let scene = Scene::new("idle", 1).await;
    let mut first = scene.worker(&[]);
    first.ready().await;
    let mut second = scene.worker(&[]);
    let idle = "in the group, which has no partition for this worker";
    second.logs(idle).await;
    let mut third = scene.worker(&[]);
    third.logs(idle).await;
    assert_eq!(first.stop().await, Some(0), "{}", first.log());
    let others = [&second, &third];
    until("another has the partition", || async {
        others.iter().map(|worker| worker.assigned()).sum::<i64>() == 1
    })
    .await;
    for worker in [&mut second, &mut third] {
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
    for worker in [&first, &second, &third] {
        let lines = worker.lines_with("partitions ");
        let none = lines.iter().find(|line| line["count"] == 0);
        assert_eq!(none, None, "{}", worker.log());
        let idle = worker.lines_with(idle).len();
        assert!(idle <= 1, "{}", worker.log());
    }
}
