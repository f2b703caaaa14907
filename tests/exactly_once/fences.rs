//! The guard: whoever does not hold the checkpoint, or holds another one than it thinks, writes
//! nothing.

use bson::{Document, Uuid, doc};
use workflows_sink::checkpoint::{COLLECTION, Fence};
use workflows_sink::writer::{Unwritten, Writer};

use crate::support::{World, key, records, settle, soon, write};

/// Writes at `offset`, and finds itself fenced with nothing written.
async fn fenced(world: &World, writer: &mut Writer, offset: i64) -> Fence {
    let before = world.checkpoint().await;
    let batch = records(offset).dataset("fenced", r#""n": 1"#);
    let batch = batch.push(Some(b"fenced"), Some(b"no JSON")).batch();
    let (written, _) = write(writer, &batch).await;
    assert!(!world.documents("datasets").await.contains_key("fenced"));
    assert!(world.dead_letters().await.is_empty());
    assert_eq!(world.checkpoint().await, before);
    match written {
        Err(Unwritten::Fenced(fence)) => fence,
        other => panic!("not fenced: {other:?}"),
    }
}

#[tokio::test]
async fn of_two_claims_at_the_same_time_the_later_one_writes_and_the_other_is_fenced() {
    let world = World::new("two_claims").await;
    let (one, other) = (world.sink().await, world.sink().await);
    one.writer(0).await;
    let (a, b) = tokio::join!(one.writer(0), other.writer(0));
    let (mut winner, mut loser) = if a.claim().epoch > b.claim().epoch {
        (a, b)
    } else {
        (b, a)
    };
    assert_eq!(fenced(&world, &mut loser, 0).await, Fence::NotMine);
    let settled = settle(&mut winner, &records(0).datasets("d", 2).batch()).await;
    assert_eq!(settled.next_offset(), 2);
    assert_eq!(fenced(&world, &mut loser, 2).await, Fence::NotMine);
}

/// An abandoned claim of our own, with an owner of its own, may run after the one we work under.
#[tokio::test]
async fn a_claim_that_runs_late_on_the_server_fences_the_one_that_came_after_it() {
    let world = World::new("late_claim").await;
    let mut writer = world.sink().await.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 1).batch()).await;
    let late = doc! { "$set": { "owner": Uuid::new() }, "$inc": { "epoch": 1_i64 } };
    world.tamper(late).await;
    assert_eq!(fenced(&world, &mut writer, 1).await, Fence::NotMine);
}

/// After a rollback two claims can count the same epoch; only the owner distinguishes them.
#[tokio::test]
async fn an_owner_with_the_same_epoch_and_offset_is_another_owner() {
    let world = World::new("same_epoch").await;
    let mut writer = world.sink().await.writer(0).await;
    world
        .tamper(doc! { "$set": { "owner": Uuid::new() } })
        .await;
    assert_eq!(fenced(&world, &mut writer, 0).await, Fence::NotMine);
}

#[tokio::test]
async fn a_database_restored_under_a_running_lane_is_not_written_out_of_order() {
    let world = World::new("restored").await;
    let mut writer = world.sink().await.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 5).batch()).await;
    for restored in [2_i64, 0, 9] {
        world
            .tamper(doc! { "$set": { "next_offset": restored } })
            .await;
        assert_eq!(fenced(&world, &mut writer, 5).await, Fence::Moved);
    }
}

/// Nothing of ours leads there: that it is where this batch would end is chance.
#[tokio::test]
async fn a_checkpoint_moved_by_hand_to_the_end_of_the_batch_does_not_settle_it() {
    let world = World::new("moved_to_the_end").await;
    let mut writer = world.sink().await.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 5).batch()).await;
    world
        .tamper(doc! { "$set": { "next_offset": 7_i64 } })
        .await;
    assert_eq!(fenced(&world, &mut writer, 5).await, Fence::Moved);
}

/// The claim that follows names the command that repairs it; asking on would wait forever.
#[tokio::test]
async fn a_checkpoint_that_becomes_unreadable_ends_the_claim() {
    let world = World::new("unreadable").await;
    let mut writer = world.sink().await.writer(0).await;
    world
        .tamper(doc! { "$set": { "next_offset": "seven" } })
        .await;
    let batch = records(0).datasets("d", 2).batch();
    let (written, _) = soon("the write ends", write(&mut writer, &batch)).await;
    assert_eq!(written, Err(Unwritten::Fenced(Fence::Moved)));
    assert!(world.documents("datasets").await.is_empty());
}

#[tokio::test]
async fn a_checkpoint_that_someone_deleted_is_not_recreated_by_a_write() {
    let world = World::new("deleted").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(3).await;
    let checkpoints = world.database.collection::<Document>(COLLECTION);
    let deleted = checkpoints.delete_one(doc! { "_id": key().id() }).await;
    assert_eq!(deleted.unwrap().deleted_count, 1);
    assert_eq!(fenced(&world, &mut writer, 3).await, Fence::Moved);

    // Recreated by a claim, it is not the old owner's either.
    sink.writer(3).await;
    assert_eq!(fenced(&world, &mut writer, 3).await, Fence::NotMine);
}
