//! Records that trickle into many partitions share their transactions.

use std::cell::RefCell;

use bson::{Bson, doc};
use test_support::entities::Entities;
use test_support::history::History;
use test_support::scene::Scene;
use test_support::wait::until;

use crate::drain::expected;

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_of_several_partitions_go_together() {
    let scene = Scene::new("together", 6).await;
    let history = History::watch(&scene).await;
    let mut worker = scene.worker(&[]);
    worker.ready().await;
    let entities = RefCell::new((Entities::new(21, 60), Vec::new()));
    // While one transaction is under way the others wait, so it takes no luck; how many rounds is
    // the machine's to say.
    until("a transaction of several partitions", || async {
        let states = entities.borrow_mut().0.states(60);
        scene.produce(&states);
        entities.borrow_mut().1.extend(states);
        scene.settled().await;
        history.prove(&scene).await.together > 1
    })
    .await;
    assert_eq!(scene.entities().await, expected(&entities.borrow().1));

    // Whoever comes next can kill what this worker would leave open, of every partition.
    let session = scene
        .checkpoint_collection()
        .distinct("session", doc! {})
        .await;
    assert_eq!(
        session.expect("sessions").len(),
        6,
        "a session of each lane"
    );
    let group = scene
        .checkpoint_collection()
        .distinct("group_session", doc! {})
        .await;
    let group = group.expect("sessions");
    assert!(
        matches!(group[..], [Bson::Binary(_)]),
        "one for all: {group:?}"
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
