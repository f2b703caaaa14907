//! What is transient is retried until it has passed, and then the batch is there once.

use std::sync::atomic::{AtomicUsize, Ordering};

use bson::{Document, doc};
use workflows_sink::checkpoint::Fence;
use workflows_sink::database::errors::Cause;
use workflows_sink::record::batch::Batch;
use workflows_sink::writer::Unwritten;

use crate::support::proxy::Act;
use crate::support::{World, records, settle, soon, until, write};

const TRANSIENT: &str = "TransientTransactionError";

fn batch(start: i64) -> Batch {
    let id = format!("at-{start}");
    records(start)
        .dataset(&id, r#""n": 1"#)
        .entity("Model", &id, r#""n": 2"#)
        .push(Some(b"x"), Some(b"no JSON"))
        .batch()
}

#[tokio::test]
async fn whatever_passes_leaves_the_batch_applied_once() {
    let world = World::new("passes").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    let faults = world.faults().await;
    let mut offset = 0;
    for (command, code, label, cause) in [
        ("update", 112, TRANSIENT, Some(Cause::Conflict)),
        ("update", 246, TRANSIENT, Some(Cause::Conflict)),
        ("update", 251, TRANSIENT, Some(Cause::Conflict)),
        ("update", 10107, TRANSIENT, Some(Cause::Election)),
        ("update", 189, TRANSIENT, Some(Cause::Election)),
        ("update", 11602, TRANSIENT, Some(Cause::Election)),
        ("update", 50, "", Some(Cause::Timeout)),
        ("update", 146, "", Some(Cause::Overload)),
        ("update", 13, "", Some(Cause::Authorization)),
        ("update", 54_321, "", Some(Cause::Other)),
        ("update", 121, TRANSIENT, Some(Cause::Conflict)),
        ("commitTransaction", 251, TRANSIENT, Some(Cause::Conflict)),
        ("commitTransaction", 112, TRANSIENT, Some(Cause::Conflict)),
        ("commitTransaction", 50, "", None),
        ("commitTransaction", 54_321, "", Some(Cause::Other)),
        // The driver retries the commit by itself.
        ("commitTransaction", 10107, "RetryableWriteError", None),
        ("commitTransaction", 189, "RetryableWriteError", None),
    ] {
        let mut error = doc! { "errorCode": code };
        if !label.is_empty() {
            error.insert("errorLabels", [label]);
        }
        faults.on(doc! { "times": 1 }, &[command], error).await;
        let (written, causes) = write(&mut writer, &batch(offset)).await;
        let place = format!("{code} from {command}");
        assert_eq!(causes, cause.into_iter().collect::<Vec<_>>(), "{place}");
        let settled = written.unwrap();
        assert_eq!(settled.counts().upserted, 2, "{place}");
        assert_eq!(settled.counts().transactions, 1, "{place}");
        offset += 3;
        assert_eq!(world.next_offset().await, offset, "{place}");
        assert_eq!(world.commits().await as i64, offset / 3, "{place}");
        assert_eq!(
            world.dead_letters().await.len() as i64,
            offset / 3,
            "{place}"
        );
    }
    faults.off().await;
}

/// At every command in turn, as a connection that breaks does: `lost_answers` has those.
#[tokio::test]
async fn a_conflict_at_any_command_leaves_the_batch_applied_once() {
    let world = World::new("conflict_anywhere").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    for nth in 0..5 {
        let conflict =
            doc! { "ok": 0, "code": 112, "errmsg": "met another one", "errorLabels": [TRANSIENT] };
        proxy.at(nth, Act::Answer(conflict));
        let (written, causes) = write(&mut writer, &batch(3 * nth as i64)).await;
        assert_eq!(causes, [Cause::Conflict], "at command {nth}");
        assert_eq!(written.unwrap().counts().upserted, 2, "at command {nth}");
        assert_eq!(world.commits().await, nth + 1);
        assert_eq!(world.documents("models").await.len(), nth + 1);
    }
}

/// No other writer of the entities can make this one give up, reject or lose anything.
#[tokio::test]
async fn an_entity_that_another_client_holds_is_waited_for() {
    let world = World::new("held_entity").await;
    let mut writer = world.sink().await.writer(0).await;
    let mut session = world.operator.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let held = world.database.collection::<Document>("datasets");
    let held = held.insert_one(doc! { "_id": "d-1", "theirs": true });
    held.session(&mut session).await.unwrap();

    let tries = AtomicUsize::new(0);
    let batch = records(0).datasets("d", 3).batch();
    let writing = writer.write(&batch, |cause| {
        assert_eq!(cause, Cause::Conflict);
        tries.fetch_add(1, Ordering::Relaxed);
    });
    let (settled, ()) = tokio::join!(soon("the batch is written", writing), async {
        until("it was tried three times", async || {
            tries.load(Ordering::Relaxed) >= 3
        })
        .await;
        assert!(!world.documents("datasets").await.contains_key("d-1"));
        session.commit_transaction().await.unwrap();
    });
    assert_eq!(settled.unwrap().counts().upserted, 3);
    let documents = world.documents("datasets").await;
    assert_eq!(
        documents["d-1"],
        doc! { "theirs": true, "kind": "Dataset", "n": 1 }
    );
    assert_eq!(documents.len(), 3);
}

/// The checkpoint is asked as long as it takes: what it would have said decides about the batch.
#[tokio::test]
async fn a_fence_is_asked_for_until_there_is_an_answer() {
    let world = World::new("fence_asked").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    // The first transaction of a session makes the server look for it, by a `find` of its own.
    settle(&mut writer, &batch(0)).await;
    world
        .tamper(doc! { "$set": { "next_offset": 9_i64 } })
        .await;
    let faults = world.faults().await;
    let error = doc! { "errorCode": 54_321 };
    faults.on(doc! { "times": 3 }, &["find"], error).await;
    let (written, causes) = write(&mut writer, &batch(3)).await;
    assert_eq!(causes, [Cause::Other; 3]);
    assert_eq!(written, Err(Unwritten::Fenced(Fence::Moved)));
    faults.off().await;
}
