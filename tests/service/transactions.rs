//! What a transactional producer commits is applied, what it aborts is not, and the lag reaches 0.

use local_stack::Message;
use rdkafka::producer::Producer as _;
use test_support::entities::Entities;
use test_support::history::History;
use test_support::scene::Scene;
use test_support::wait::{DEADLINE, until};

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
