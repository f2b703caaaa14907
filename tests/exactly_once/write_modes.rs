//! What a state does to the document that is there: adds, replaces, deletes.

use bson::{Bson, doc};
use workflows_sink::record::fold::WriteMode;
use workflows_sink::writer::command::SET_NAMES_MAX;

use crate::support::{Records, World, records, settle};

/// MongoDB's limit of a document, its `_id` included.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_state_adds_to_its_document_or_replaces_it_by_the_mode() {
    for mode in [WriteMode::Set, WriteMode::Replace] {
        let world = World::new(&format!("mode_{mode:?}")).await;
        let mut sink = world.sink().await;
        sink.mode = mode;
        let mut writer = sink.writer(0).await;
        let states = |offset| records(offset).dataset("a", r#""first": 1, "both": 1"#);
        // In one batch, and over a batch before it.
        let second = r#""both": 2, "second": 2"#;
        let first = states(0).dataset("b", r#""first": 1"#);
        settle(&mut writer, &first.dataset("a", second).batch()).await;
        settle(
            &mut writer,
            &records(3).dataset("b", r#""second": 2"#).batch(),
        )
        .await;

        let documents = world.documents("datasets").await;
        let (a, b) = match mode {
            WriteMode::Set => (
                doc! { "kind": "Dataset", "first": 1, "both": 2, "second": 2 },
                doc! { "kind": "Dataset", "first": 1, "second": 2 },
            ),
            WriteMode::Replace => (
                doc! { "kind": "Dataset", "both": 2, "second": 2 },
                doc! { "kind": "Dataset", "second": 2 },
            ),
        };
        assert_eq!(sorted(&documents["a"]), sorted(&a));
        assert_eq!(sorted(&documents["b"]), sorted(&b));
    }
}

/// The order of fields is the server's.
fn sorted(document: &bson::Document) -> std::collections::BTreeMap<&String, &bson::Bson> {
    document.iter().collect()
}

#[tokio::test]
async fn a_tombstone_deletes_everywhere_and_the_next_state_starts_a_new_document() {
    let world = World::new("tombstone").await;
    let mut writer = world.sink().await.writer(0).await;
    let before = records(0)
        .dataset("a", r#""old": 1"#)
        .entity("Model", "a", r#""old": 1"#)
        .dataset("b", r#""old": 1"#)
        .dataset("kept", r#""old": 1"#)
        .entity("Score", "b", r#""old": 1"#);
    settle(&mut writer, &before.batch()).await;

    let batch = records(5)
        .dataset("a", r#""between": 1"#)
        .dataset("new", r#""old": 1"#)
        .tombstone("a")
        .tombstone("b")
        .tombstone("new")
        .tombstone("never")
        .dataset("a", r#""fresh": 1"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(
        (settled.counts().deleted, settled.counts().upserted),
        (4, 1)
    );
    let documents = world.documents("datasets").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["a", "kept"]);
    assert_eq!(documents["a"], doc! { "kind": "Dataset", "fresh": 1 });
    assert!(world.documents("models").await.is_empty());
    assert!(world.documents("scores").await.is_empty());
}

/// Where states are written one by one, the one before a tombstone may still be refused.
#[tokio::test]
async fn a_tombstone_does_not_hide_a_state_that_is_refused() {
    let world = World::new("tombstone_refused").await;
    let validator = doc! { "collMod": "datasets", "validator": { "n": { "$ne": "poison" } } };
    world.database.run_command(validator).await.unwrap();
    let sink = world.sink().await.unfolding("Dataset");
    let mut writer = sink.writer(0).await;
    let batch = records(0)
        .dataset("a", r#""n": 1"#)
        .dataset("a", r#""n": "poison""#)
        .tombstone("a")
        .dataset("a", r#""m": 2"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.next_offset(), 4);
    assert_eq!(world.dead_letters().await.len(), 1);
    let documents = world.documents("datasets").await;
    assert_eq!(documents["a"], doc! { "kind": "Dataset", "m": 2 });
}

/// A dataset of so many fields whose document has `bytes` bytes.
fn dataset_of(start: i64, id: &str, bytes: usize, fields: usize, fill: &str) -> Records {
    let mut empty = doc! { "_id": id, "kind": "Dataset", "fill": "" };
    empty.extend((3..fields).map(|n| (format!("n{n}"), Bson::Null)));
    let fill = fill.repeat(bytes - empty.to_vec().unwrap().len());
    let nulls: String = (3..fields).map(|n| format!(r#", "n{n}": null"#)).collect();
    records(start).dataset(id, &format!(r#""fill": "{fill}"{nulls}"#))
}

#[tokio::test]
async fn a_document_of_the_largest_size_is_stored_new_and_over_an_older_one() {
    let many = SET_NAMES_MAX + 3;
    for (mode, fields) in [
        (WriteMode::Set, 3),
        (WriteMode::Set, many),
        (WriteMode::Replace, 3),
    ] {
        let world = World::new(&format!("largest_{mode:?}_{fields}")).await;
        let mut sink = world.sink().await;
        sink.mode = mode;
        let mut writer = sink.writer(0).await;
        for (start, fill) in [(0, "x"), (1, "y")] {
            let batch = dataset_of(start, "big", DOCUMENT_BYTES_MAX, fields, fill).batch();
            let settled = settle(&mut writer, &batch).await;
            assert_eq!(settled.counts().upserted, 1, "{mode:?} {fields} {fill}");
            let documents = world.documents("datasets").await;
            let size =
                documents["big"].to_vec().unwrap().len() + "\x02_id\0".len() + 4 + "big\0".len();
            assert_eq!(size, DOCUMENT_BYTES_MAX);
            assert!(documents["big"].get_str("fill").unwrap().starts_with(fill));
        }
        assert!(world.dead_letters().await.is_empty());
    }
}
