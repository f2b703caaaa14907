//! Elections, rollbacks and lost majorities: a batch is there once, and a claim only counts for
//! good.

use bson::{Document, Uuid, doc};
use local_stack::{Mongo, MongoOptions, Topology};
use mongodb::Client;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use workflows_sink::checkpoint::COLLECTION;
use workflows_sink::writer::session_id;

use crate::support::faults::Faults;
use crate::support::{World, claim, key, records, settle, until};

/// A replica set of three, for one test at a time.
async fn three() -> MutexGuard<'static, Mongo> {
    static THREE: OnceCell<Mutex<Mongo>> = OnceCell::const_new();
    let start = || async {
        let options = MongoOptions {
            topology: Topology::ReplicaSet(3),
            ..MongoOptions::default()
        };
        Mutex::new(Mongo::start(options).await.unwrap())
    };
    THREE.get_or_init(start).await.lock().await
}

/// The members that are not `primary`.
fn secondaries(primary: usize) -> [usize; 2] {
    [(primary + 1) % 3, (primary + 2) % 3]
}

/// Where the checkpoint stands on one member, majority or not.
async fn next_offset_on(member: &Client, database: &str) -> Option<i64> {
    let checkpoints = member.database(database).collection::<Document>(COLLECTION);
    let found = checkpoints.find_one(doc! { "_id": key().id() }).await;
    found.ok()??.get_i64("next_offset").ok()
}

#[tokio::test]
async fn an_election_in_the_middle_of_a_batch_leaves_it_applied_once() {
    let mut mongo = three().await;
    let world = World::on(&mongo, "election").await;
    let mut writer = world.sink().await.writer(0).await;
    let faults = Faults::own(&world.operator, "election");
    let (mut offset, mut batches) = (0, 0);
    for killed in [false, true] {
        for command in ["update", "commitTransaction"] {
            let primary = mongo.primary().await.unwrap();
            let block = doc! { "blockConnection": true, "blockTimeMS": 1_000 };
            let before = faults.on(doc! { "times": 1 }, &[command], block).await;
            let batch = records(offset).datasets(&format!("d-{batches}"), 5).batch();
            let (settled, ()) = tokio::join!(settle(&mut writer, &batch), async {
                faults.entered(before).await;
                if killed {
                    mongo.kill(primary).unwrap();
                } else {
                    let down = doc! { "replSetStepDown": 5, "force": true };
                    world
                        .operator
                        .database("admin")
                        .run_command(down)
                        .await
                        .unwrap();
                }
                let elected = mongo.primary().await.unwrap();
                assert_ne!(elected, primary);
            });
            if killed {
                mongo.restart(primary).await.unwrap();
            }
            (offset, batches) = (offset + 5, batches + 1);
            let place = format!("{command}, killed: {killed}");
            assert_eq!(settled.next_offset(), offset, "{place}");
            assert_eq!(settled.counts().upserted, 5, "{place}");
            assert_eq!(settled.counts().transactions, 1, "{place}");
            assert_eq!(world.next_offset().await, offset, "{place}");
            assert_eq!(world.commits().await, batches, "{place}");
        }
    }
    assert_eq!(world.documents("datasets").await.len() as i64, offset);
}

#[tokio::test]
async fn a_commit_that_was_rolled_back_is_written_again() {
    let mut mongo = three().await;
    let world = World::on(&mongo, "rolled_back").await;
    let mut writer = world.sink().await.writer(0).await;
    settle(&mut writer, &records(0).datasets("before", 2).batch()).await;

    let old = mongo.primary().await.unwrap();
    let member = mongo.direct(old).await.unwrap();
    for secondary in secondaries(old) {
        mongo.freeze(secondary).unwrap();
    }
    let batch = records(2).datasets("d", 3).batch();
    let (settled, ()) = tokio::join!(settle(&mut writer, &batch), async {
        until("the primary alone has it", async || {
            next_offset_on(&member, "rolled_back").await == Some(5)
        })
        .await;
        mongo.kill(old).unwrap();
        for secondary in secondaries(old) {
            mongo.thaw(secondary).unwrap();
        }
    });
    assert_eq!(settled.next_offset(), 5);
    let counts = settled.counts();
    assert_eq!((counts.upserted, counts.transactions), (3, 1));
    assert_eq!(world.documents("datasets").await.len(), 5);
    assert_eq!(world.commits().await, 2);

    mongo.restart(old).await.unwrap();
    settle(&mut writer, &records(5).datasets("after", 1).batch()).await;
    until(
        "the old primary has rolled back and caught up",
        async || next_offset_on(&member, "rolled_back").await == Some(6),
    )
    .await;
}

/// What it read might be rolled back, and with it the batches of the owner before it.
#[tokio::test]
async fn a_claim_that_no_majority_has_does_not_count() {
    let mut mongo = three().await;
    let world = World::on(&mongo, "no_majority").await;
    let sink = world.sink().await;
    sink.writer(5).await;

    let primary = mongo.primary().await.unwrap();
    let session = sink.session().await;
    let (owner, session) = (Uuid::new(), session_id(&session));
    for secondary in secondaries(primary) {
        mongo.freeze(secondary).unwrap();
    }
    let claimed = sink.checkpoints.claim(owner, session, 0).await;
    for secondary in secondaries(primary) {
        mongo.thaw(secondary).unwrap();
    }
    assert!(claimed.is_err(), "{claimed:?}");
    let found = claim(&sink.checkpoints, owner, session, 9).await;
    assert_eq!((found.owner, found.next_offset), (Some(owner), 5));
}

/// What a guard that did not match means is decided by what was read: a commit that no majority has
/// may still be rolled back.
#[tokio::test]
async fn a_checkpoint_is_read_as_a_majority_has_it() {
    let mut mongo = three().await;
    let world = World::on(&mongo, "read_majority").await;
    let sink = world.sink().await;
    sink.writer(5).await;
    let primary = mongo.primary().await.unwrap();
    let alone = mongo.direct(primary).await.unwrap();
    let checkpoints = alone.database(world.database.name());
    for secondary in secondaries(primary) {
        mongo.freeze(secondary).unwrap();
    }
    let moved = checkpoints.run_command(doc! {
        "update": COLLECTION,
        "updates": [{ "q": { "_id": key().id() }, "u": { "$set": { "next_offset": 9_i64 } } }],
        "writeConcern": { "w": 1 },
    });
    let moved = moved.await;
    let here = next_offset_on(&alone, world.database.name()).await;
    let read = sink.checkpoints.read().await;
    for secondary in secondaries(primary) {
        mongo.thaw(secondary).unwrap();
    }
    moved.unwrap();
    assert_eq!(here, Some(9));
    assert_eq!(read.unwrap().unwrap().next_offset, 5);
}
