//! What the settings for tombstones and later states promise.

use std::collections::BTreeMap;

use bson::Document;
use local_stack::Message;
use tempfile::NamedTempFile;
use test_oracles::reference::reference_document;
use test_support::entities::Entities;
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::run;
use workflows_sink::record::mapping::BUILTIN;

const TOMBSTONES: &str = "DYFF_WORKFLOWS_SINK__TOMBSTONES";

fn state(n: u32, kind: &str, fields: &str) -> Message {
    let id = format!("{n:032x}");
    Message::new(
        id.clone(),
        format!(r#"{{"id":"{id}","kind":"{kind}",{fields}}}"#),
    )
}

fn tombstone(n: u32) -> Message {
    Message {
        key: Some(format!("{n:032x}").into_bytes()),
        ..Message::default()
    }
}

fn ids(entities: &BTreeMap<(String, String), Document>) -> Vec<(&str, u32)> {
    let id = |id: &str| u32::from_str_radix(id, 16).expect("an id of this test");
    entities
        .keys()
        .map(|(collection, key)| (collection.as_str(), id(key)))
        .collect()
}

/// Lives, dies and lives again; dies; changes its kind and dies; dies unknown; lives.
fn lives_and_deaths() -> Vec<Message> {
    vec![
        state(1, "Dataset", r#""old":true,"n":1"#),
        state(2, "Dataset", r#""n":1"#),
        state(3, "Dataset", r#""n":1"#),
        tombstone(1),
        state(1, "Dataset", r#""n":2"#),
        tombstone(2),
        state(3, "Model", r#""n":2"#),
        tombstone(3),
        tombstone(4),
        state(5, "Model", r#""n":1"#),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_deletes_its_entity_wherever_it_is_and_keyless_ones_are_kept() {
    // In one batch, and each by itself.
    for (name, records_max) in [("tombstones", "1000"), ("tombstones_singly", "1")] {
        let scene = Scene::uncompacted(name, 1).await;
        let mut records = lives_and_deaths();
        records.push(Message::default());
        scene.produce(&records);
        let settings = [
            (TOMBSTONES, "delete"),
            ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", records_max),
        ];
        let mut worker = scene.worker(&settings);
        scene.settled().await;

        let entities = scene.entities().await;
        assert_eq!(ids(&entities), [("datasets", 1), ("models", 5)]);
        let again = entities.values().next().expect("the first");
        assert_eq!(again.get_i32("n").expect("a number"), 2);
        assert!(
            !again.contains_key("old"),
            "what was before its death stays dead: {again}"
        );
        let letters = scene.dead_letters().await;
        assert_eq!(letters.len(), 1);
        assert_eq!(
            letters[0].get_str("reason").expect("a reason"),
            "malformed_key"
        );
        until("each tombstone is counted", || async {
            worker.metric("workflows_sink_records_settled_total", "\"deleted\"") == Some(4.0)
        })
        .await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_tombstone_changes_nothing() {
    let scene = Scene::new("ignored", 1).await;
    scene.produce(&lives_and_deaths());
    let mut worker = scene.worker(&[(TOMBSTONES, "ignore")]);
    scene.settled().await;
    let entities = scene.entities().await;
    let all = [
        ("datasets", 1),
        ("datasets", 2),
        ("datasets", 3),
        ("models", 3),
        ("models", 5),
    ];
    assert_eq!(ids(&entities), all);
    let first = entities.values().next().expect("the first");
    assert_eq!(
        (first.get_i32("n").ok(), first.get_bool("old").ok()),
        (Some(2), Some(true))
    );
    assert!(scene.dead_letters().await.is_empty());
    until("each tombstone is counted", || async {
        worker.metric("workflows_sink_records_settled_total", "\"skipped\"") == Some(4.0)
    })
    .await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_leaves_nothing_of_an_earlier_state() {
    let scene = Scene::new("replace", 3).await;
    let records = Entities::new(14, 60).states(600);
    scene.produce(&records);
    let replace = ("DYFF_WORKFLOWS_SINK__WRITE_MODE", "replace");
    let small = ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", "50");
    let mut worker = scene.worker(&[replace, small]);
    scene.settled().await;
    let last: BTreeMap<String, Document> = records
        .iter()
        .map(|record| {
            reference_document(
                str::from_utf8(record.value.as_deref().expect("a value")).expect("UTF-8"),
            )
        })
        .map(|document| (document.get_str("_id").expect("an id").to_owned(), document))
        .collect();
    let entities = scene.entities().await;
    let found: BTreeMap<String, Document> = entities
        .into_iter()
        .map(|((_, id), found)| (id, found))
        .collect();
    assert_eq!(found, last);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// The mapping that is compiled in, with datasets in another collection.
fn with_moved_datasets() -> NamedTempFile {
    let mapping = BUILTIN.replace(r#"Dataset = "datasets""#, r#"Dataset = "sets""#);
    let mapping = mapping.replace(
        "[collections]",
        "former_collections = ['datasets']\n[collections]",
    );
    let mut file = NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, mapping.as_bytes()).expect("written");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_in_one_collection_whether_its_kind_changes_or_the_mapping_does() {
    let scene = Scene::uncompacted("kind_changes", 1).await;
    scene.produce(&[
        state(1, "Dataset", r#""old":true"#),
        state(2, "Dataset", r#""n":1"#),
        state(3, "Dataset", r#""n":1"#),
    ]);
    let delete = ("DYFF_WORKFLOWS_SINK__KIND_CHANGES", "delete");
    let settings = [delete, (TOMBSTONES, "delete")];
    let mut worker = scene.worker(&settings);
    scene.settled().await;
    scene.produce(&[state(1, "Model", r#""n":1"#)]);
    scene.settled().await;
    let entities = scene.entities().await;
    let expected = [("datasets", 2), ("datasets", 3), ("models", 1)];
    assert_eq!(ids(&entities), expected);
    let moved = "workflows_sink_moved_documents_total";
    until("what has moved is counted", || async {
        worker.metric(moved, "") == Some(1.0)
    })
    .await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    // Another mapping, whose service reads all of it again.
    let mapping = with_moved_datasets();
    let mapping = mapping.path().to_str().expect("UTF-8");
    let settings = [
        &settings[..],
        &[("DYFF_WORKFLOWS_SINK__MAPPING_FILE", mapping)],
    ]
    .concat();
    let reset = ["offsets", "reset", "--to", "earliest", "--yes"];
    let (code, _, err) = run(&scene.environment_with(&settings), &reset).await;
    assert_eq!(code, Some(0), "{err}");
    scene.produce(&[tombstone(3)]);
    let mut worker = scene.worker(&settings);
    scene.settled().await;
    let database = &scene.database;
    for (collection, count) in [("sets", 1), ("datasets", 0), ("models", 1)] {
        let documents = database.collection::<Document>(collection);
        let found = documents.count_documents(Document::new()).await;
        assert_eq!(found.expect("counted"), count, "{collection}");
    }
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
