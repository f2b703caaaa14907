//! A database that is restored from a backup: in the order of docs/kubernetes.md nothing is lost; a
//! restore under a running worker loses states in silence, and how they are had back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{DateTime, Document, doc};
use jiff::Timestamp;
use rdkafka::producer::Producer as _;
use serde_json::Value;
use test_support::load::Load;
use test_support::operator::{put_checkpoint, set_checkpoint, state, states};
use test_support::scene::Scene;
use test_support::wait::{DEADLINE, until};
use test_support::worker::{Worker, run};

/// What the names of the sink's own collections begin with.
const OWN: &str = "workflows_sink_";

/// Entities, checkpoints and dead letters at one moment, by collection.
type Backup = BTreeMap<String, Vec<Document>>;

async fn back_up(scene: &Scene) -> Backup {
    let names = scene.database.list_collection_names().await;
    let client = scene.database.client();
    let session = client.start_session().snapshot(true).await;
    let (mut session, mut backup) = (session.expect("a session"), Backup::new());
    for name in names.expect("collections") {
        let collection = scene.database.collection::<Document>(&name);
        let found = collection.find(doc! {}).session(&mut session).await;
        let (mut cursor, mut documents) = (found.expect("a cursor"), Vec::new());
        while cursor.advance(&mut session).await.expect("the next one") {
            documents.push(Document::try_from(cursor.current()).expect("a document"));
        }
        backup.insert(name, documents);
    }
    backup
}

/// Puts the collections back whose names are `chosen`.
async fn restore(scene: &Scene, backup: &Backup, chosen: impl Fn(&str) -> bool) {
    for (name, documents) in backup.iter().filter(|(name, _)| chosen(name)) {
        let collection = scene.database.collection::<Document>(name);
        collection.delete_many(doc! {}).await.expect("emptied");
        if !documents.is_empty() {
            collection.insert_many(documents).await.expect("restored");
        }
    }
}

/// A worker under load, a backup made meanwhile, and what there is when everything was applied.
struct Restored {
    scene: Arc<Scene>,
    worker: Worker,
    began: Timestamp,
    backup: Backup,
    reference: BTreeMap<(String, String), Document>,
}

async fn backed_up(name: &str) -> Restored {
    let scene = Arc::new(Scene::new(name, 2).await);
    let began = Timestamp::now();
    let worker = scene.worker(&[]);
    let load = Load::start(&scene, 41);
    let applied = async || scene.checkpoints().await.values().sum::<i64>();
    until("some records are applied", || async {
        applied().await > 200
    })
    .await;
    let backup = back_up(&scene).await;
    let then = applied().await;
    until("it goes on", || async { applied().await > then + 400 }).await;
    load.finish().await;
    scene.settled().await;
    let reference = scene.entities().await;
    Restored {
        scene,
        worker,
        began,
        backup,
        reference,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_with_the_sink_stopped_loses_nothing() {
    let mut restored = backed_up("restore").await;
    let scene = &restored.scene;
    assert_eq!(restored.worker.stop().await, Some(0));
    restore(scene, &restored.backup, |_| true).await;
    assert!(scene.entities().await != restored.reference, "older");
    let (_, out, error) = run(&scene.environment(), &["check"]).await;
    assert!(out.contains("2 of 2 fit their logs; lag "), "{out}{error}");
    assert!(
        !out.contains("; lag 0"),
        "there is something to replay: {out}"
    );

    let worker = scene.worker(&[]);
    scene.settled().await;
    assert!(scene.entities().await == restored.reference, "equal");
    worker
        .logs("committed offset is ahead of the checkpoint")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_under_a_running_sink_is_had_back_by_a_reset() {
    let mut restored = backed_up("restore_running").await;
    let (scene, backup) = (&restored.scene, &restored.backup);
    // the wrong order: the checkpoints come back first, and the worker replays at once
    restore(scene, backup, |name| name.starts_with(OWN)).await;
    let moved = "the checkpoint was moved or restored";
    restored.worker.logs(moved).await;
    scene.settled().await;
    restore(scene, backup, |name| !name.starts_with(OWN)).await;
    scene.settled().await;
    let entities = scene.entities().await;
    let older = restored.reference.iter();
    let older: Vec<_> = older
        .filter(|(place, document)| entities.get(place).is_some_and(|now| now != *document))
        .collect();
    assert!(!older.is_empty(), "all is applied, and states are missing");
    // a check of a sample finds them, and whoever looks at one of them is told
    let (code, found) = checked(scene, &[]).await;
    assert_eq!((code, found["documents"].1.as_str()), (Some(1), "WS-316"));
    let what = &found["documents"].0;
    assert!(
        what.contains("entities lack what was applied, such as "),
        "{what}"
    );
    let ((_, key), _) = older[0];
    let (code, out, error) = run(&scene.environment(), &["explain", key]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        out.contains("the document differs from the log in: "),
        "{out}{error}"
    );

    assert_eq!(restored.worker.stop().await, Some(0));
    let began = restored.began.to_string();
    let reset = ["offsets", "reset", "--to", &began, "--yes"];
    let (code, out, error) = run(&scene.environment(), &reset).await;
    assert_eq!(code, Some(0), "{out}{error}");
    let _worker = scene.worker(&[]);
    scene.settled().await;
    assert!(scene.entities().await == restored.reference, "equal");
    let (code, found) = checked(scene, &[]).await;
    assert_eq!((code, found["documents"].1.as_str()), (Some(0), ""));
}

/// What `check` says of each part last, with its code, and how it exits.
async fn checked(
    scene: &Scene,
    settings: &[(&str, &str)],
) -> (Option<i32>, BTreeMap<String, (String, String)>) {
    let arguments = ["check", "--sample", "100000", "--json"];
    let (code, out, err) = run(&scene.environment_with(settings), &arguments).await;
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = found["findings"].as_array().expect("findings").iter();
    let of_parts = findings.map(|found| {
        (
            text(&found["part"]),
            (text(&found["what"]), text(&found["code"])),
        )
    });
    (code, of_parts.collect())
}

/// A sample beside a worker at work: what is applied meanwhile is not taken for missing, nor are
/// dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_under_load_finds_nothing_where_nothing_is_missing() {
    let scene = Arc::new(Scene::new("restore_sample", 2).await);
    let worker = scene.worker(&[]);
    let load = Load::start(&scene, 43);
    for _ in 0..3 {
        let (code, found) = checked(&scene, &[]).await;
        assert_eq!(
            (code, found["documents"].1.as_str()),
            (Some(0), ""),
            "{found:?}"
        );
    }
    load.finish().await;
    scene.settled().await;
    let (_, found) = checked(&scene, &[]).await;
    assert!(
        found["documents"]
            .0
            .contains("are as their newest applied states"),
        "{found:?}"
    );
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_that_may_have_gone_before_they_were_applied_are_told() {
    let scene = Scene::with_topic(
        "tombstones_gone",
        2,
        &[
            ("cleanup.policy", "compact"),
            ("delete.retention.ms", "3600000"),
        ],
    )
    .await;
    // A transaction's control record is a hole in the offsets, as a compacted record is.
    let producer = scene.producer(&[("transactional.id", "tombstones_gone")]);
    producer.init_transactions(DEADLINE).expect("a producer");
    for number in 0..2 {
        scene.produce(&states(0..2, "applied", number));
    }
    producer.begin_transaction().expect("begun");
    scene.send(&producer, &state(9, "waits", 0));
    producer.commit_transaction(DEADLINE).expect("committed");
    scene.produce(&[state(8, "waits", 0), state(8, "waits", 1)]);
    let at = |hours: i64| {
        let at = DateTime::from_millis(DateTime::now().timestamp_millis() - hours * 3_600_000);
        doc! { "next_offset": 2_i64, "updated_at": at }
    };
    for number in 0..2 {
        put_checkpoint(&scene, number, at(2)).await;
    }
    let delete = ("DYFF_WORKFLOWS_SINK__TOMBSTONES", "delete");
    let (_, found) = checked(&scene, &[delete]).await;
    let (what, code) = &found["tombstones"];
    assert_eq!(code, "WS-317", "{found:?}");
    let hole = format!("{}[0]", scene.topic);
    assert!(what.starts_with(&hole), "the other has no hole: {what}");
    assert!(!checked(&scene, &[]).await.1.contains_key("tombstones"));
    set_checkpoint(&scene, 0, at(0)).await;
    assert!(
        !checked(&scene, &[delete])
            .await
            .1
            .contains_key("tombstones")
    );
}
