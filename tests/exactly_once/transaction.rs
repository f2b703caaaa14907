//! One batch is one transaction.

use bson::doc;
use workflows_sink::record::batch::Batch;
use workflows_sink::record::entity::Reason;

use crate::support::proxy::Act;
use crate::support::{World, records, settle, soon};

/// The commands of a transaction that writes [`batch`]: guard, two collections, dead letter,
/// commit.
const COMMANDS: usize = 5;

fn batch(start: i64, id: &str) -> Batch {
    records(start)
        .dataset(id, r#""n": 1"#)
        .dataset(id, r#""n": 2"#)
        .entity("Model", id, r#""n": 3"#)
        .push(Some(id.as_bytes()), Some(b"no JSON"))
        .batch()
}

#[tokio::test]
async fn nothing_of_a_batch_is_seen_before_all_of_it_is() {
    let world = World::new("all_at_once").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(10).await;

    proxy.judge(|command| match command.name {
        "commitTransaction" => Act::Hold,
        _ => Act::Pass,
    });
    let batch = records(10)
        .dataset("gone", r#""n": 1"#)
        .tombstone("gone")
        .dataset("a", r#""n": 1"#)
        .dataset("a", r#""n": 2"#)
        .entity("Model", "a", r#""n": 3"#)
        .push(Some(b"a"), Some(b"no JSON"))
        .batch();
    let (settled, ()) = tokio::join!(settle(&mut writer, &batch), async {
        proxy.held(1).await;
        assert!(world.documents("datasets").await.is_empty());
        assert!(world.documents("models").await.is_empty());
        assert!(world.dead_letters().await.is_empty());
        assert_eq!(world.next_offset().await, 10);
        proxy.release();
    });

    assert_eq!(settled.next_offset(), 16);
    let counts = settled.counts();
    assert_eq!(
        (counts.upserted, counts.unchanged, counts.folded),
        (2, 0, 2)
    );
    assert_eq!(
        (counts.deleted, counts.skipped, counts.transactions),
        (1, 0, 1)
    );
    assert_eq!(counts.reasons(), [Reason::MalformedValue]);
    let datasets = world.documents("datasets").await;
    assert_eq!(datasets.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(datasets["a"], doc! { "kind": "Dataset", "n": 2 });
    let models = world.documents("models").await;
    assert_eq!(models["a"], doc! { "kind": "Model", "n": 3 });
    assert_eq!(world.dead_letters().await.len(), 1);
    assert_eq!(world.next_offset().await, 16);
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_of_a_batch_leaves_nothing_of_it() {
    let world = World::new("dies_in_the_middle").await;
    for nth in 0..COMMANDS {
        let (sink, proxy) = world.sink_behind_proxy().await;
        let mut writer = soon("the claim counts", sink.writer(0)).await;
        proxy.at(nth, Act::Hold);
        let dying = tokio::spawn(async move {
            settle(&mut writer, &batch(0, "dead")).await;
        });
        proxy.held(1).await;
        proxy.sever();
        dying.abort();
        assert_eq!(world.next_offset().await, 0, "at command {nth}");
        assert!(world.documents("datasets").await.is_empty(), "{nth}");
        assert!(world.documents("models").await.is_empty(), "{nth}");
        assert!(world.dead_letters().await.is_empty(), "{nth}");
    }
    let mut writer = world.sink().await.writer(0).await;
    settle(&mut writer, &batch(0, "alive")).await;
    assert_eq!(world.commits().await, 1);
    assert!(!world.documents("datasets").await.contains_key("dead"));
}

#[tokio::test]
async fn a_batch_of_no_records_moves_the_checkpoint_alone() {
    let world = World::new("control_records").await;
    let mut writer = world.sink().await.writer(7).await;
    let mut batch = Batch::new(7);
    batch.reach(9.into());
    assert_eq!(settle(&mut writer, &batch).await.next_offset(), 9);
    assert_eq!(world.next_offset().await, 9);
}

#[tokio::test]
async fn the_same_states_again_change_nothing_and_are_counted_as_unchanged() {
    let world = World::new("unchanged").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 3).batch()).await;
    let before = world.documents("datasets").await;
    let settled = settle(&mut writer, &records(3).datasets("d", 4).batch()).await;
    assert_eq!(
        (settled.counts().upserted, settled.counts().unchanged),
        (1, 3)
    );
    let after = world.documents("datasets").await;
    assert!(before.iter().all(|(id, document)| after[id] == *document));
}

/// As an administrator may, or the server by itself after half an hour without a batch.
#[tokio::test]
async fn a_session_that_was_killed_or_reaped_between_batches_stays_usable() {
    let world = World::new("session_killed").await;
    let mut writer = world.sink().await.writer(0).await;
    let session = world.checkpoint().await.unwrap().session.unwrap();
    let mut offset = 0;
    for reaped in [false, false, true, true] {
        settle(&mut writer, &records(offset).datasets("d", 2).batch()).await;
        offset += 2;
        if reaped {
            world.reap(session).await;
        } else {
            world.kill(session).await;
        }
    }
    settle(&mut writer, &records(offset).datasets("d", 2).batch()).await;
    assert_eq!(world.next_offset().await, offset + 2);
    assert_eq!(world.commits().await, 5);
}

#[tokio::test]
async fn a_session_that_is_killed_in_the_middle_of_a_batch_starts_it_again() {
    let world = World::new("session_killed_midway").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let session = world.checkpoint().await.unwrap().session.unwrap();
    let mut offset = 0;
    for nth in 0..COMMANDS {
        proxy.at(nth, Act::Hold);
        let batch = batch(offset, &format!("a{nth}"));
        let (settled, ()) = tokio::join!(settle(&mut writer, &batch), async {
            proxy.held(1).await;
            world.kill(session).await;
            proxy.release();
        });
        offset = settled.next_offset();
        assert_eq!(settled.counts().upserted, 2, "at command {nth}");
        assert_eq!(world.next_offset().await, offset);
    }
    assert_eq!(world.commits().await, COMMANDS);
    assert_eq!(world.documents("datasets").await.len(), COMMANDS);
    assert_eq!(world.dead_letters().await.len(), COMMANDS);
}
