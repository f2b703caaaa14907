//! Entities that go to another collection: their kind changes, or where their kind goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, Uuid, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use workflows_sink::record::fold::{KindChanges, WriteMode};
use workflows_sink::record::mapping::{BUILTIN, Mapping};
use workflows_sink::writer::Writer;

use crate::support::proxy::Act;
use crate::support::{Records, Sink, World, records, records_by, settle};

/// A sink that deletes the document in the other collection.
async fn deleting(world: &World) -> Sink {
    Sink {
        kind_changes: KindChanges::Delete,
        ..world.sink().await
    }
}

#[tokio::test]
async fn the_document_in_the_other_collection_goes_where_the_setting_says_so() {
    for kind_changes in [KindChanges::Keep, KindChanges::Delete] {
        let world = World::new(&format!("kind_changes_{kind_changes:?}")).await;
        let sink = Sink {
            kind_changes,
            ..world.sink().await
        };
        let mut writer = sink.writer(0).await;
        let before = records(0).dataset("a", r#""old": 1"#).datasets("d", 2);
        settle(&mut writer, &before.batch()).await;
        sink.commands.take();
        let states = records(3)
            .entity("Model", "a", r#""new": 1"#)
            .dataset("d-0", r#""n": 7"#);
        let settled = settle(&mut writer, &states.batch()).await;

        let is_deleting = kind_changes == KindChanges::Delete;
        assert_eq!(settled.counts().moved, u64::from(is_deleting));
        let models = world.documents("models").await;
        assert_eq!(models["a"], doc! { "kind": "Model", "new": 1 });
        let datasets = world.documents("datasets").await;
        assert_eq!(datasets.contains_key("a"), !is_deleting);
        assert_eq!(datasets.len(), 3 - usize::from(is_deleting));
        assert_eq!(world.commits().await, 2, "one transaction each");
        // What is only changed asks nothing of other collections.
        sink.commands.take();
        let again = records(5).entity("Model", "a", r#""new": 2"#).batch();
        settle(&mut writer, &again).await;
        let commands = sink.commands.take();
        assert_eq!(commands, ["update", "update", "commitTransaction"]);
    }
}

#[tokio::test]
async fn lanes_that_share_a_transaction_delete_what_any_of_them_has_moved() {
    let world = World::new("kind_changes_together").await;
    let sink = deleting(&world).await;
    let mut lanes = sink.lanes(2).await;
    let [first, second] = &mut lanes[..] else {
        panic!("two lanes")
    };
    for (start, kinds) in [(0, ["Dataset", "Model"]), (1, ["Model", "Dataset"])] {
        let batch = |id: &str, kind| records(start).entity(kind, id, r#""n": 1"#).batch();
        let (a, b) = (batch("a", kinds[0]), batch("b", kinds[1]));
        let (one, other) = tokio::join!(settle(first, &a), settle(second, &b));
        let moved = one.counts().moved + other.counts().moved;
        assert_eq!(moved, if start == 0 { 0 } else { 2 });
    }
    assert_eq!(world.commits().await, 2);
    let ids = async |collection| world.documents(collection).await.into_keys();
    assert!(ids("datasets").await.eq(["b"]));
    assert!(ids("models").await.eq(["a"]));
}

/// Partitions were added, and the states of one id are in two of them, which have no order. Neither
/// lane sees what the other one creates at the same time, so both documents may stay.
#[tokio::test]
async fn an_entity_that_two_lanes_create_at_once_does_not_disappear() {
    let world = World::new("kind_changes_twice").await;
    let sink = deleting(&world).await;
    let mut lanes = sink.lanes(2).await;
    let [first, second] = &mut lanes[..] else {
        panic!("two lanes")
    };
    for offset in 0..4 {
        let id = format!("e-{offset}");
        let batch = |kind| records(offset).entity(kind, &id, r#""n": 1"#).batch();
        let (one, other) = (batch("Dataset"), batch("Model"));
        tokio::join!(settle(first, &one), settle(second, &other));
        let found = [
            world.documents("datasets").await.contains_key(&id),
            world.documents("models").await.contains_key(&id),
        ];
        assert!(found.contains(&true), "deleted by both");
    }
}

/// One after the other, the first makes room for the second.
#[tokio::test]
async fn a_state_is_not_refused_for_a_document_that_one_before_it_takes_away() {
    let world = World::new("kind_changes_unique").await;
    let index = doc! { "key": { "name": 1 }, "name": "unique_name", "unique": true };
    let create = doc! { "createIndexes": "datasets", "indexes": [index] };
    world.database.run_command(create).await.unwrap();
    let sink = deleting(&world).await.unfolding("Dataset");
    let mut writer = sink.writer(0).await;
    let before = records(0).dataset("a", r#""name": "x""#).batch();
    settle(&mut writer, &before).await;
    let states = records(1)
        .entity("Model", "a", r#""name": "x""#)
        .dataset("b", r#""name": "x""#)
        .dataset("c", r#""name": "x""#);
    let settled = settle(&mut writer, &states.batch()).await;
    let refused = &settled.counts().rejected;
    assert_eq!(refused.len(), 1, "the last one alone: {refused:?}");
    assert_eq!(refused[0].offset, 3);
    let datasets = world.documents("datasets").await;
    assert_eq!(datasets.keys().collect::<Vec<_>>(), ["b"]);
}

/// The mapping that is compiled in, with datasets in `models`, and `datasets` left behind.
fn without_datasets() -> Arc<Mapping> {
    let moved = BUILTIN.replace(r#"Dataset = "datasets""#, r#"Dataset = "models""#);
    let former = moved.replace(
        "[collections]",
        "former_collections = ['datasets']\n[collections]",
    );
    assert_ne!(moved, former);
    Arc::new(Mapping::parse(&former).unwrap())
}

#[tokio::test]
async fn states_and_tombstones_reach_a_collection_that_no_kind_goes_into_any_more() {
    let world = World::new("kind_changes_former").await;
    let mut writer = deleting(&world).await.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 3).batch()).await;
    let sink = Sink {
        mapping: without_datasets(),
        ..deleting(&world).await
    };
    let mut writer = sink.writer(3).await;
    let states = records_by(without_datasets(), 3)
        .dataset("d-0", r#""n": 7"#)
        .tombstone("d-1");
    let settled = settle(&mut writer, &states.batch()).await;
    assert_eq!((settled.counts().moved, settled.counts().deleted), (1, 1));
    let left = world.documents("datasets").await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["d-2"]);
    assert_eq!(
        world.documents("models").await["d-0"],
        doc! { "kind": "Dataset", "n": 7 }
    );
}

/// Commands of a transaction that moves a document: the guard, an update of each collection, a
/// delete in each other one, the commit.
#[tokio::test]
async fn an_entity_is_moved_once_wherever_the_connection_breaks() {
    let world = World::new("kind_changes_breaks").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let sink = Sink {
        kind_changes: KindChanges::Delete,
        ..sink
    };
    let mut writer = sink.writer(0).await;
    let collections = Mapping::builtin().collections().count();
    let mut offset = 0;
    for act in [Act::LoseCommand, Act::LoseAnswer] {
        for nth in [0, 1, 2, 3, collections, collections + 1] {
            let kind = if offset % 2 == 0 { "Dataset" } else { "Model" };
            proxy.at(nth, act.clone());
            let fields = format!(r#""at_{offset}": 1"#);
            settle(
                &mut writer,
                &records(offset).entity(kind, "a", &fields).batch(),
            )
            .await;
            let (new, old) = match kind {
                "Dataset" => ("datasets", "models"),
                _ => ("models", "datasets"),
            };
            let mut expected = doc! { "kind": kind };
            expected.insert(format!("at_{offset}"), 1);
            assert_eq!(world.documents(new).await["a"], expected, "{act:?} {nth}");
            assert!(world.documents(old).await.is_empty(), "{act:?} {nth}");
            offset += 1;
        }
    }
    assert_eq!(world.commits().await, offset as usize);
}

/// One record, as a test says it: of the kind, or a tombstone.
#[derive(Clone, Debug)]
struct Told {
    id: usize,
    kind: Option<&'static str>,
    fields: BTreeMap<&'static str, i32>,
}

fn told() -> impl Strategy<Value = Told> {
    let kind = select(vec![
        Some("Dataset"),
        Some("Dataset"),
        Some("Model"),
        Some("Model"),
        Some("Score"),
        None,
    ]);
    let fields = prop::collection::btree_map(select(vec!["a", "b", "c"]), 0..4, 1..3);
    (0..3_usize, kind, fields).prop_map(|(id, kind, fields)| Told { id, kind, fields })
}

type Documents = BTreeMap<(&'static str, usize), BTreeMap<String, Bson>>;

/// The slow, obvious way: record after record.
fn expected(records: &[Told], mode: WriteMode) -> Documents {
    let mut documents = Documents::new();
    for told in records {
        let collection = match told.kind {
            Some("Dataset") => "datasets",
            Some("Model") => "models",
            Some(_) => "scores",
            None => "",
        };
        if told.kind.is_none() || !documents.contains_key(&(collection, told.id)) {
            documents.retain(|(_, id), _| *id != told.id);
        }
        let Some(kind) = told.kind else {
            continue;
        };
        let document = documents.entry((collection, told.id)).or_default();
        if mode == WriteMode::Replace {
            document.clear();
        }
        document.insert("kind".to_owned(), kind.into());
        let fields = told.fields.iter();
        document.extend(fields.map(|(name, value)| ((*name).to_owned(), Bson::from(*value))));
    }
    documents
}

fn push(records: Records, told: &Told, prefix: &str) -> Records {
    let id = format!("{prefix}-{}", told.id);
    match told.kind {
        Some(kind) => {
            let fields = told.fields.iter();
            let fields: Vec<String> = fields
                .map(|(name, value)| format!(r#""{name}": {value}"#))
                .collect();
            records.entity(kind, &id, &fields.join(", "))
        }
        None => records.tombstone(&id),
    }
}

/// What the database has of the entities whose ids begin so.
async fn found(world: &World, prefix: &str) -> Documents {
    let mut found = Documents::new();
    for collection in ["datasets", "models", "scores"] {
        for (id, document) in world.documents(collection).await {
            if let Some(id) = id.strip_prefix(&format!("{prefix}-")) {
                found.insert(
                    (collection, id.parse().unwrap()),
                    document.into_iter().collect(),
                );
            }
        }
    }
    found
}

/// Writes records in batches of these sizes.
async fn write_all(writer: &mut Writer, told: &[Told], cuts: &[usize], prefix: &str) {
    let mut rest = told;
    let mut next = writer.resumed().next_offset();
    for size in cuts.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        let (batch, later) = rest.split_at((*size).min(rest.len()));
        rest = later;
        let batch = batch
            .iter()
            .fold(records(next), |records, told| push(records, told, prefix));
        next = settle(writer, &batch.batch()).await.next_offset();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_batches_an_entity_is_where_its_last_state_put_it() {
    for mode in [WriteMode::Set, WriteMode::Replace] {
        let world = World::new(&format!("kind_changes_all_{mode:?}")).await;
        let sink = Sink {
            mode,
            ..deleting(&world).await
        };
        let as_one_by_one = |(one, other, cuts): (Vec<Told>, Vec<Told>, Vec<usize>)| {
            let ids = [Uuid::new().to_string(), Uuid::new().to_string()];
            let compared = async {
                // Each case claims anew: small batches of both join, larger ones go alone.
                let mut lanes = sink.lanes(2).await;
                let [first, second] = &mut lanes[..] else {
                    panic!("two lanes")
                };
                tokio::join!(
                    write_all(first, &one, &cuts, &ids[0]),
                    write_all(second, &other, &cuts, &ids[1]),
                );
                prop_assert_eq!(found(&world, &ids[0]).await, expected(&one, mode));
                prop_assert_eq!(found(&world, &ids[1]).await, expected(&other, mode));
                Ok(())
            };
            block_in_place(|| Handle::current().block_on(compared))
        };
        let config = Config {
            cases: 15,
            failure_persistence: None,
            ..Config::default()
        };
        let cases = (
            vec(told(), 1..12),
            vec(told(), 1..12),
            vec(1..6_usize, 1..4),
        );
        TestRunner::new(config).run(&cases, as_one_by_one).unwrap();
    }
}
