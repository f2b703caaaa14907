//! A topic ends as exactly the documents that its records say.

use std::collections::BTreeMap;

use bson::{Document, doc};
use local_stack::Message;
use test_oracles::reference::{Expected, reference_outcome};
use test_support::entities::Entities;
use test_support::history::History;
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::Worker;
use workflows_sink::record::entity::Tombstones;

/// What `records` come to, one after the other, under `$set`.
pub fn expected(records: &[Message]) -> BTreeMap<(String, String), Document> {
    let mut documents: BTreeMap<(String, String), Document> = BTreeMap::new();
    for record in records {
        let outcome = reference_outcome(
            record.key.as_deref(),
            record.value.as_deref(),
            Tombstones::Ignore,
        );
        if let Expected::Accepted {
            collection,
            document,
        } = outcome
        {
            let id = document.get_str("_id").unwrap().to_owned();
            documents
                .entry((collection, id))
                .or_default()
                .extend(document);
        }
    }
    documents
}

/// The records of `worker` that were settled as having been written.
pub fn written(worker: &Worker) -> f64 {
    let settled = |outcome: &str| {
        worker
            .metric(
                "workflows_sink_records_settled_total",
                &format!("\"{outcome}\""),
            )
            .expect("the metric")
    };
    settled("upserted") + settled("unchanged") + settled("folded")
}

/// Waits until `worker` knows all `partitions` of its topic to be applied to their ends.
pub async fn caught_up(worker: &Worker, partitions: usize) {
    until("the worker has nothing left to do", || async {
        let body = worker
            .get("/metrics")
            .map_or(String::new(), |(_, body)| body);
        let lags: Vec<&str> = body
            .lines()
            .filter(|line| line.starts_with("workflows_sink_consumer_lag_records{"))
            .collect();
        lags.len() == partitions && lags.iter().all(|line| line.ends_with(" 0"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_ends_as_exactly_its_entities_however_often_it_is_read() {
    let mut scene = Scene::new("drain", 12).await;
    let records = Entities::new(1, 400).states(3_000);
    scene.produce(&records);
    let history = History::watch(&scene).await;

    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    caught_up(&worker, 12).await;
    assert_eq!(written(&worker), 3_000.0, "each record settled once");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    let proof = history.prove(&scene).await;
    assert!(proof.transactions >= 12, "{proof:?}");
    let changes = entity_changes(&history).await;

    // A new process, and one whose checkpoints somebody deleted: the committed offsets remain.
    for deleted in [false, true] {
        if deleted {
            let checkpoints = scene
                .database
                .collection::<Document>("workflows_sink_checkpoints");
            checkpoints.delete_many(doc! {}).await.expect("deleted");
        }
        let mut again = scene.worker(&[]);
        caught_up(&again, 12).await;
        assert_eq!(
            again
                .metric("workflows_sink_records_consumed_total", "")
                .unwrap_or(0.0),
            0.0
        );
        assert_eq!(again.stop().await, Some(0), "{}", again.log());
    }
    assert_eq!(
        entity_changes(&history).await,
        changes,
        "nothing was written again"
    );

    // Another group reads all of it again.
    scene.group += ".other";
    let mut replay = scene.worker(&[]);
    scene.settled().await;
    caught_up(&replay, 12).await;
    assert_eq!(written(&replay), 3_000.0);
    assert_eq!(scene.entities().await, expected(&records));
    assert_eq!(replay.stop().await, Some(0), "{}", replay.log());
}

/// How many changes of entities there have been.
async fn entity_changes(history: &History) -> usize {
    let of_entity = |event: &&Document| {
        let collection = event.get_document("ns").and_then(|ns| ns.get_str("coll"));
        !collection
            .expect("a collection")
            .starts_with("workflows_sink_")
    };
    history.caught_up().await.iter().filter(of_entity).count()
}
