//! A document validator that is added under a running service.

use bson::{Document, doc};
use test_support::operator::{state, states};
use test_support::scene::Scene;
use workflows_sink::writer::dead_letter;

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_a_new_validator_refuses_is_a_letter_though_a_good_one_follows() {
    let scene = Scene::new("validators", 1).await;
    scene.produce(&states(0..1, "first", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    let validator = doc! {
        "collMod": "datasets",
        "validator": { "status": { "$ne": "bad" } },
    };
    scene
        .database
        .run_command(validator)
        .await
        .expect("a validator");
    worker
        .logs("validators or unique indexes have changed")
        .await;
    // Both in one batch: folded, the first would have vanished.
    scene.produce(&[state(1, "bad", 0), state(1, "good", 0)]);
    scene.settled().await;
    let letters = scene
        .database
        .collection::<Document>(dead_letter::COLLECTION);
    let letter = letters
        .find_one(doc! {})
        .await
        .expect("an answer")
        .expect("a letter");
    assert_eq!(
        letter.get_document("_id").unwrap().get("offset"),
        Some(&1_i64.into())
    );
    assert_eq!(letter.get_str("reason").unwrap(), "write_error");
    assert_eq!(letters.count_documents(doc! {}).await.expect("a count"), 1);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
