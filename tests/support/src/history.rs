//! What a database went through, from its change stream: the proof that each record was applied
//! once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, Uuid, doc};
use mongodb::Database;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use workflows_sink::checkpoint::COLLECTION as CHECKPOINTS;
use workflows_sink::writer::dead_letter::COLLECTION as DEAD_LETTERS;

use crate::look::number;
use crate::scene::Scene;
use crate::wait::{DEADLINE, until};

const MARKER: &str = "workflows_sink_test_marker";

/// A record as it stands in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Where it stands.
    pub offset: i64,
    /// Its own time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key; empty where there is none.
    pub key: String,
    /// The entity's `revision`; `None` where there is none.
    pub revision: Option<i64>,
}

/// Every committed record of the scene's topic, by partition.
pub async fn read_log(scene: &Scene) -> BTreeMap<i32, Vec<Logged>> {
    let ends = scene.log_ends().await;
    let (bootstrap, topic) = (scene.bootstrap.clone(), scene.topic.clone());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "the-test-itself")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in ends.keys() {
            assignment
                .add_partition_offset(&topic, *partition, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let mut log: BTreeMap<i32, Vec<Logged>> = ends.keys().map(|p| (*p, vec![])).collect();
        let mut unfinished = ends.len();
        while unfinished > 0 {
            match consumer.poll(DEADLINE).expect("a record in time") {
                Ok(record) => log.entry(record.partition()).or_default().push(Logged {
                    offset: record.offset(),
                    timestamp_ms: record.timestamp().to_millis(),
                    key: String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned(),
                    revision: revision(record.payload().unwrap_or_default()),
                }),
                Err(KafkaError::PartitionEOF(_)) => unfinished -= 1,
                Err(error) => panic!("the log cannot be read: {error}"),
            }
        }
        log
    })
    .await
    .expect("the log")
}

fn revision(value: &[u8]) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(value).ok()?["revision"].as_i64()
}

/// The change stream of a scene's database, read by a task.
pub struct History {
    database: Database,
    events: Arc<Mutex<Vec<Document>>>,
    reader: tokio::task::JoinHandle<()>,
}

/// What the history proves.
#[derive(Debug, Default)]
pub struct Proof {
    /// Transactions that moved a checkpoint.
    pub transactions: usize,
    /// Claims seen.
    pub claims: usize,
    /// Next offsets at the end.
    pub next_offsets: BTreeMap<i32, i64>,
    /// How often each claim, by its owner, has moved its checkpoint.
    pub moves_of: BTreeMap<String, usize>,
    /// The most partitions that one transaction moved.
    pub together: usize,
}

impl History {
    /// From now on.
    pub async fn watch(scene: &Scene) -> History {
        let database = scene.database.clone();
        let mut stream = database
            .watch()
            .max_await_time(Duration::from_millis(100))
            .await
            .expect("a change stream")
            .with_type::<RawDocumentBuf>();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let reader = tokio::spawn(async move {
            loop {
                match stream.next_if_any().await {
                    Ok(Some(event)) => {
                        let event = Document::try_from(&*event).expect("an event");
                        seen.lock().expect("no panic").push(event);
                    }
                    Ok(None) => {}
                    Err(error) => panic!("the change stream ended: {error}"),
                }
            }
        });
        History {
            database,
            events,
            reader,
        }
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Document> {
        self.events.lock().expect("no panic").clone()
    }

    /// The events of everything written until now.
    pub async fn caught_up(&self) -> Vec<Document> {
        let id = Uuid::new();
        self.database
            .collection(MARKER)
            .insert_one(doc! { "_id": id })
            .await
            .expect("a marker");
        let marks = |event: &Document| {
            event
                .get_document("documentKey")
                .is_ok_and(|key| key.get("_id") == Some(&Bson::from(id)))
        };
        until("the change stream has caught up", || async {
            assert!(!self.reader.is_finished(), "the change stream ended");
            self.events.lock().expect("no panic").iter().any(marks)
        })
        .await;
        self.events()
    }

    /// Waits for what was written until now, and proves of the whole history that each record of
    /// the log from the first checkpoint on was applied in exactly one transaction, by the session
    /// of the claim that held the partition, in the order of the log; that nothing was written
    /// outside those transactions; and that no entity went backwards.
    pub async fn prove(&self, scene: &Scene) -> Proof {
        let log = read_log(scene).await;
        let events = self.caught_up().await;
        let proof = prove(&events, &log);
        for (partition, end) in scene.log_ends().await {
            if let Some(next) = proof.next_offsets.get(&partition) {
                assert_eq!(*next, end, "partition {partition} is applied to its end");
            } else {
                assert_eq!(
                    end, 0,
                    "partition {partition} has records and no checkpoint"
                );
            }
        }
        proof
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Debug)]
struct Standing {
    next_offset: i64,
    owner: Uuid,
    /// The claim's own, and the one that its worker's lanes share.
    sessions: [Option<Uuid>; 2],
}

fn prove(events: &[Document], log: &BTreeMap<i32, Vec<Logged>>) -> Proof {
    let mut proof = Proof::default();
    let mut checkpoints: BTreeMap<i32, Standing> = BTreeMap::new();
    let mut revisions: BTreeMap<String, i64> = BTreeMap::new();
    for group in events.chunk_by(of_one_transaction) {
        match group {
            [event] if event.get("txnNumber").is_none() => match collection(event) {
                CHECKPOINTS => {
                    claim(event, &mut checkpoints);
                    proof.claims += 1;
                }
                MARKER => {}
                _ => panic!("written outside of a transaction: {event}"),
            },
            group => {
                let moves = moved(group, session(&group[0]), &mut checkpoints);
                let covers = |(partition, covered): &(i32, Range<i64>)| {
                    let covered = covered.clone();
                    let records = log[partition].iter();
                    records.filter(move |record| covered.contains(&record.offset))
                };
                let records = moves.iter().flat_map(covers);
                let expected: BTreeMap<&str, i64> = records
                    .filter_map(|record| Some((record.key.as_str(), record.revision?)))
                    .collect();
                let mut written: BTreeMap<&str, i64> = BTreeMap::new();
                for event in group {
                    if [CHECKPOINTS, DEAD_LETTERS].contains(&collection(event)) {
                        continue;
                    }
                    let (id, revision) = entity(event);
                    let before = revisions.insert(id.to_owned(), revision);
                    assert!(
                        before < Some(revision),
                        "{id} went from {before:?} to {revision}"
                    );
                    written.insert(id, revision);
                }
                assert_eq!(
                    written, expected,
                    "the transaction for partitions and offsets {moves:?}"
                );
                proof.transactions += 1;
                proof.together = proof.together.max(moves.len());
                for (partition, _) in moves {
                    let owner = checkpoints[&partition].owner.to_string();
                    *proof.moves_of.entry(owner).or_default() += 1;
                }
            }
        }
    }
    proof.next_offsets = checkpoints
        .into_iter()
        .map(|(partition, standing)| (partition, standing.next_offset))
        .collect();
    proof
}

/// A claim, seen as a change of a checkpoint outside of any transaction.
fn claim(event: &Document, checkpoints: &mut BTreeMap<i32, Standing>) {
    let changed = changed(event);
    let uuid = |name: &str| match changed.get(name) {
        Some(Bson::Binary(binary)) => Some(binary.to_uuid().expect("a UUID")),
        _ => None,
    };
    match checkpoints.get_mut(&partition(event)) {
        None => {
            assert!(
                changed.contains_key("next_offset"),
                "a checkpoint without next_offset: {event}"
            );
            let standing = Standing {
                next_offset: number(changed.get("next_offset")),
                owner: uuid("owner").expect("the owner of a claim"),
                sessions: [
                    Some(uuid("session").expect("the session of a claim")),
                    uuid("group_session"),
                ],
            };
            checkpoints.insert(partition(event), standing);
        }
        Some(standing) => {
            assert!(
                !changed.contains_key("next_offset"),
                "moved outside of a transaction: {event}"
            );
            standing.owner = uuid("owner").unwrap_or(standing.owner);
            for (standing, name) in standing
                .sessions
                .iter_mut()
                .zip(["session", "group_session"])
            {
                if changed.contains_key(name) {
                    *standing = uuid(name);
                }
            }
        }
    }
}

/// The partitions and the offsets that a transaction covers, after its changes of checkpoints.
fn moved(
    group: &[Document],
    session: Uuid,
    checkpoints: &mut BTreeMap<i32, Standing>,
) -> Vec<(i32, Range<i64>)> {
    let moves = group
        .iter()
        .filter(|event| collection(event) == CHECKPOINTS);
    let moved: Vec<(i32, Range<i64>)> = moves
        .map(|event| {
            let partition = partition(event);
            let standing = checkpoints
                .get_mut(&partition)
                .expect("a claim before a write");
            assert!(
                standing.sessions.contains(&Some(session)),
                "partition {partition} was written by one that does not hold it"
            );
            let to = number(changed(event).get("next_offset"));
            let covered = standing.next_offset..to;
            assert!(
                !covered.is_empty(),
                "partition {partition} went from {} to {to}",
                standing.next_offset
            );
            standing.next_offset = to;
            (partition, covered)
        })
        .collect();
    assert!(
        !moved.is_empty(),
        "a transaction that moves no checkpoint: {group:?}"
    );
    let partitions: BTreeSet<i32> = moved.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(partitions.len(), moved.len(), "one moved twice: {group:?}");
    moved
}

fn collection(event: &Document) -> &str {
    event
        .get_document("ns")
        .and_then(|ns| ns.get_str("coll"))
        .unwrap_or_else(|_| panic!("not a change of a document: {event}"))
}

fn of_one_transaction(a: &Document, b: &Document) -> bool {
    let same = |name: &str| a.get(name).is_some() && a.get(name) == b.get(name);
    same("txnNumber") && same("lsid")
}

fn session(event: &Document) -> Uuid {
    match event
        .get_document("lsid")
        .ok()
        .and_then(|lsid| lsid.get("id"))
    {
        Some(Bson::Binary(binary)) => binary.to_uuid().expect("a UUID"),
        _ => Uuid::default(),
    }
}

fn partition(event: &Document) -> i32 {
    let id = event
        .get_document("documentKey")
        .and_then(|key| key.get_document("_id"));
    id.and_then(|id| id.get_i32("partition"))
        .expect("a checkpoint's key")
}

/// The fields that an event set.
fn changed(event: &Document) -> &Document {
    match event.get_str("operationType") {
        Ok("update") => event
            .get_document("updateDescription")
            .and_then(|update| update.get_document("updatedFields"))
            .expect("updated fields"),
        Ok("insert" | "replace") => event.get_document("fullDocument").expect("a document"),
        _ => panic!("neither written nor updated: {event}"),
    }
}

fn entity(event: &Document) -> (&str, i64) {
    let id = event
        .get_document("documentKey")
        .and_then(|key| key.get_str("_id"));
    let revision = changed(event).get("revision");
    assert!(revision.is_some(), "a state without revision: {event}");
    (id.expect("a string _id"), number(revision))
}
