//! Documents of very many top-level names, which `$set` would take for ever to write.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocumentBuf, Uuid, cstr, doc};
use mongodb::Database;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use workflows_sink::record::fold::{Write, WriteMode};
use workflows_sink::writer::command::{SET_NAMES_MAX, STATEMENT_MS_MAX, update};

use crate::refused_writes::{refused, with_validator};
use crate::support::{World, records, settle};

/// Minutes of `$set`.
const MANY: usize = 200_000;

/// The inside of a JSON object: `count` names whose values are `value`.
fn names(count: usize, value: &str) -> String {
    let fields: Vec<String> = (0..count).map(|n| format!(r#""n{n}": {value}"#)).collect();
    fields.join(", ")
}

/// What [`names`] come to, with the fields of `more`.
fn expected(count: usize, value: impl Into<Bson>, more: Document) -> Document {
    let value = value.into();
    let mut expected = doc! { "kind": "Dataset" };
    expected.extend((0..count).map(|n| (format!("n{n}"), value.clone())));
    expected.extend(more);
    expected
}

/// Whether both have the same fields: their order is the server's.
fn assert_same(found: &Document, expected: &Document) {
    let differs = |(name, value): &(&String, &Bson)| found.get(name.as_str()) != Some(*value);
    let different: Vec<_> = expected.iter().filter(differs).take(3).collect();
    assert!(different.is_empty(), "not found: {different:?}");
    assert_eq!(found.len(), expected.len());
}

#[tokio::test]
async fn a_document_of_many_names_is_created_added_to_and_counted() {
    let world = World::new("many_names").await;
    let mut writer = world.sink().await.writer(0).await;
    let before = records(0).dataset("old", r#""kept": true, "n7": {"x": [1]}"#);
    settle(&mut writer, &before.batch()).await;
    let both = |start: i64, value: &str| {
        let fields = names(MANY, value);
        let both = records(start)
            .dataset("new", &fields)
            .dataset("old", &fields);
        both.dataset("small", r#""n": 1"#).batch()
    };
    for (start, value, upserted, unchanged) in [(1, "1", 3, 0), (4, "2", 2, 1), (7, "2", 0, 3)] {
        let settled = settle(&mut writer, &both(start, value)).await;
        let counts = settled.counts();
        assert_eq!((counts.upserted, counts.unchanged), (upserted, unchanged));
        let value: i32 = value.parse().unwrap();
        let documents = world.documents("datasets").await;
        assert_same(&documents["new"], &expected(MANY, value, doc! {}));
        let more = doc! { "kept": true };
        assert_same(&documents["old"], &expected(MANY, value, more));
        assert_eq!(documents["small"], doc! { "kind": "Dataset", "n": 1 });
    }
    assert!(world.dead_letters().await.is_empty());
}

/// Just enough names that they are not written with `$set`.
fn merged(value: &str) -> String {
    names(SET_NAMES_MAX + 1, value)
}

#[tokio::test]
async fn small_batches_of_many_names_are_one_transaction_too() {
    let world = World::new("many_names_together").await;
    let sink = world.sink().await;
    let mut lanes = sink.lanes(2).await;
    for (offset, value, changed) in [(0, "1", 2), (1, "2", 2), (2, "2", 0)] {
        sink.commands.take();
        let batch = |id| records(offset).dataset(id, &merged(value)).batch();
        let (a, b) = (batch("a"), batch("b"));
        let [first, second] = &mut lanes[..] else {
            panic!("two lanes")
        };
        let (first, second) = tokio::join!(settle(first, &a), settle(second, &b));
        let commands = sink.commands.take();
        assert_eq!(commands, ["update", "update", "commitTransaction"]);
        let upserted = first.counts().upserted + second.counts().upserted;
        let unchanged = first.counts().unchanged + second.counts().unchanged;
        assert_eq!((upserted, unchanged), (changed, 2 - changed));
    }
    for document in world.documents("datasets").await.values() {
        assert_same(document, &expected(SET_NAMES_MAX + 1, 2, doc! {}));
    }
}

#[tokio::test]
async fn a_hundred_levels_are_stored_under_many_names_too() {
    let world = World::new("many_names_deep").await;
    let mut writer = world.sink().await.writer(0).await;
    for (start, leaf) in [(0, "1"), (1, "2")] {
        // The entity itself is one level.
        let deep = format!("{}{leaf}{}", r#"{"d":"#.repeat(99), "}".repeat(99));
        let fields = format!(r#""deep": {deep}, {}"#, merged("1"));
        let settled = settle(&mut writer, &records(start).dataset("a", &fields).batch()).await;
        assert_eq!(settled.counts().upserted, 1);
        let documents = world.documents("datasets").await;
        let (mut level, mut depth) = (documents["a"].get("deep").unwrap(), 1);
        while let Bson::Document(inner) = level {
            (level, depth) = (inner.get("d").unwrap(), depth + 1);
        }
        assert_eq!((level.to_string().as_str(), depth), (leaf, 100));
    }
}

#[tokio::test]
async fn the_server_refuses_states_of_many_names_as_it_does_others() {
    let world = with_validator("many_names_refused").await;
    let index = doc! { "key": { "name": 1 }, "name": "unique_name", "unique": true };
    let create = doc! { "createIndexes": "models", "indexes": [index] };
    world.database.run_command(create).await.unwrap();
    let mut writer = world.sink().await.writer(0).await;
    let half = "x".repeat(9 << 20);
    let with = |field: &str| format!("{field}, {}", merged("1"));
    let batch = records(0)
        .dataset("a", &with(r#""n": 1"#))
        .dataset("b", &with(r#""n": 1000"#))
        .entity("Model", "a", &with(r#""name": "x""#))
        .entity("Model", "b", &with(r#""name": "x""#))
        .dataset("a", &with(&format!(r#""one": "{half}""#)))
        .dataset("a", &with(&format!(r#""other": "{half}""#)))
        .dataset("last", &with(r#""n": 2"#))
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.next_offset(), 7);
    let refused = refused(&world).await;
    assert_eq!(refused, BTreeMap::from([(1, 121), (3, 11000), (5, 10334)]));
    let documents = world.documents("datasets").await;
    assert_eq!(documents.keys().collect::<Vec<_>>(), ["a", "last"]);
    assert!(documents["a"].contains_key("one") && !documents["a"].contains_key("other"));
    assert_eq!(world.documents("models").await.len(), 1);
}

/// What is written with an expression may take 64 MiB of the server's memory: 1.8 million short
/// names.
#[tokio::test]
async fn a_document_of_more_names_than_the_server_can_hold_is_rejected_alone() {
    let world = World::new("too_many_names").await;
    let mut writer = world.unwatched_sink().await.writer(0).await;
    let fields: Vec<String> = (0..2_000_000).map(|n| format!(r#""{n:x}":null"#)).collect();
    let batch = records(0)
        .dataset("a", r#""n": 1"#)
        .dataset("a", &fields.join(","))
        .dataset("last", r#""n": 2"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.next_offset(), 3);
    assert_eq!(refused(&world).await, BTreeMap::from([(1, 16490)]));
    let documents = world.documents("datasets").await;
    assert_eq!(documents["a"], doc! { "kind": "Dataset", "n": 1 });
    assert_eq!(documents.len(), 2);
}

/// Values of every type that decoding makes, with names and texts that an expression would take for
/// something else.
fn value() -> impl Strategy<Value = Bson> {
    let texts = ["", "$status", "$$ROOT", "$$REMOVE", "text"];
    let names = [
        "a", "b", "", "a.b", "0", "_id", "$oid", "$date", "$ref", "$id", "$db", "$set", "$literal",
    ];
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::from),
        (-1..2_i32).prop_map(Bson::from),
        (-1..2_i64).prop_map(Bson::from),
        select(&[-0.0, 0.0, 1.0, 1e300][..]).prop_map(Bson::from),
        select(texts.to_vec()).prop_map(Bson::from),
    ];
    leaf.prop_recursive(4, 16, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Bson::Array),
            vec((select(names.to_vec()), inner), 0..4)
                .prop_map(|fields| Bson::Document(to_document(fields))),
        ]
    })
}

/// Top-level fields, few enough names that states have some in common.
fn state() -> impl Strategy<Value = Document> {
    let names = ["a", "b", "c", "0", "10", "x y", "é", "value"];
    vec((select(names.to_vec()), value()), 0..6).prop_map(to_document)
}

fn to_document(fields: Vec<(&str, Bson)>) -> Document {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What the server answers to a state that is written as one of so many names, and the document
/// that it then has: each field as bytes.
async fn written(
    database: &Database,
    collection: &str,
    id: &str,
    state: &Document,
    names: usize,
) -> (String, BTreeMap<String, Vec<u8>>) {
    let write = Write {
        record: 0,
        states: 1,
        id,
        document: Cow::Owned(state.to_vec().unwrap()),
        names,
    };
    let command = update(collection, &[write], WriteMode::Set, STATEMENT_MS_MAX);
    let reply = database.run_raw_command(command).await.unwrap();
    let counts = ["n", "nModified", "upserted"].map(|name| reply.get(name));
    let errors = reply.get_array("writeErrors").cloned().unwrap_or_default();
    let codes: Vec<_> = errors
        .iter()
        .map(|error| error.as_document().unwrap().get("code"))
        .collect();
    let answer = format!("{counts:?} {codes:?}");
    let stored = database.collection::<RawDocumentBuf>(collection);
    let stored = stored.find_one(doc! { "_id": id }).await.unwrap();
    // As bytes: the names in it mean something to a reader of documents too.
    let stored = stored.unwrap_or_default();
    let fields = stored.iter().map(|field| {
        let (name, value) = field.unwrap();
        let mut alone = RawDocumentBuf::new();
        alone.append(cstr!(""), value);
        (name.to_string(), alone.into_bytes())
    });
    (answer, fields.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_many_names_becomes_what_set_makes_of_it() {
    let world = World::new("as_set").await;
    let database = &world.database;
    let states_differ_nowhere = |states: Vec<Document>| {
        let id = Uuid::new().to_string();
        let compared = async {
            for state in &states {
                let (few, many) = tokio::join!(
                    written(database, "datasets", &id, state, SET_NAMES_MAX),
                    written(database, "models", &id, state, SET_NAMES_MAX + 1),
                );
                prop_assert_eq!(few, many);
            }
            Ok(())
        };
        block_in_place(|| Handle::current().block_on(compared))
    };
    let config = Config {
        cases: 1_000,
        failure_persistence: None,
        ..Config::default()
    };
    let tested = TestRunner::new(config).run(&vec(state(), 1..5), states_differ_nowhere);
    tested.unwrap();
}
