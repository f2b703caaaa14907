//! A database that is restored from a backup: in the order of docs/kubernetes.md nothing is lost; a
//! restore under a running worker loses states in silence, and how they are had back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Document, doc};
use jiff::Timestamp;
use test_support::load::Load;
use test_support::scene::Scene;
use test_support::wait::until;
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
    // whoever looks at one of them is told
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
}
