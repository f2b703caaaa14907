//! What a transactional producer commits is applied, what it aborts is not, and the lag reaches 0.

use local_stack::Message;
use rdkafka::producer::Producer as _;
use serde_json::Value;
use test_support::entities::Entities;
use test_support::history::History;
use test_support::operator::{state, states, until_statuses};
use test_support::scene::Scene;
use test_support::wait::{DEADLINE, until, until_is};
use test_support::worker::run;

use crate::drain::{caught_up, expected};

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_are_not_applied_and_control_records_leave_no_lag() {
    let scene = Scene::new("transactions", 3).await;
    let producer = scene.producer(&[("transactional.id", "transactions")]);
    producer
        .init_transactions(DEADLINE)
        .expect("a transactional producer");
    let history = History::watch(&scene).await;
    let mut entities = Entities::new(15, 50);
    let mut committed: Vec<Message> = Vec::new();
    let mut worker = scene.worker(&[]);
    for round in 0..6 {
        let states = entities.states(40);
        producer.begin_transaction().expect("begun");
        for state in &states {
            scene.send(&producer, state);
        }
        if round % 2 == 0 {
            producer.commit_transaction(DEADLINE).expect("committed");
            committed.extend(states);
        } else {
            producer.flush(DEADLINE).expect("all acknowledged");
            producer.abort_transaction(DEADLINE).expect("aborted");
        }
    }
    // The end of each log is behind an abort's control record.
    scene.settled().await;
    caught_up(&worker, 3).await;
    assert_eq!(scene.entities().await, expected(&committed));
    until("the group's offsets are at the ends", || async {
        scene.committed().await == scene.log_ends().await
    })
    .await;
    history.prove(&scene).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_behind_an_open_transaction_are_the_lag_and_are_said_to_be_held() {
    let scene = Scene::new("hung_transaction", 1).await;
    scene.produce(&states(0..10, "before", 0));
    let worker = scene.worker(&[]);
    scene.settled().await;
    let hung = scene.producer(&[("transactional.id", "hung")]);
    hung.init_transactions(DEADLINE).expect("a producer");
    hung.begin_transaction().expect("begun");
    scene.send(&hung, &state(99, "open", 0));
    hung.flush(DEADLINE).expect("acknowledged");
    scene.produce(&states(0..500, "behind", 0));

    let metric = |name: &str| worker.metric(name, "");
    until_is("the lag", Some(501.0), || async {
        metric("workflows_sink_consumer_lag_records")
    })
    .await;
    let oldest = metric("workflows_sink_oldest_unapplied_timestamp_seconds");
    assert!(oldest > Some(1.0), "{oldest:?}");
    let show = ["offsets", "show", "--json"];
    let (code, shown, error) = run(&scene.environment(), &show).await;
    assert_eq!(code, Some(0), "{error}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let shown = &shown["partitions"][0];
    assert_eq!(shown["state"], "held by an open transaction");
    assert_eq!(
        (&shown["stable_end"], &shown["log_end"], &shown["lag"]),
        (&10.into(), &511.into(), &501.into())
    );

    hung.abort_transaction(DEADLINE).expect("aborted");
    scene.settled().await;
    until_statuses(&scene, (0..500).map(|n| (n, "behind"))).await;
    until("all is caught up", || async {
        metric("workflows_sink_consumer_lag_records") == Some(0.0)
            && metric("workflows_sink_oldest_unapplied_timestamp_seconds") == Some(0.0)
    })
    .await;
}
