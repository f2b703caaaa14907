//! Whether the documents of the sample are those of the newest states that were applied. A
//! database that was put back under a running service, or in two pieces, may lack what its
//! checkpoints cover.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::ReadConcern;

use super::report::Report;
use crate::commands::explain::TopFields;
use crate::commands::offsets::{Place, places};
use crate::commands::text::one_line;
use crate::config::{Config, Kafka};
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::record::entity::Decoded;
use crate::record::mapping::CollectionId;
use crate::record::{Partition, Record};
use crate::telemetry::code::Code;
use crate::writer::dead_letter;

/// How many bytes of states are held against their documents.
const STATES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many documents are asked for at a time.
const FIND_IDS_MAX: usize = 1_000;

/// How long looking for later states may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The newest state of each key of a sample.
#[derive(Debug, Default)]
pub(super) struct NewestStates {
    partitions: BTreeMap<Partition, PartitionStates>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct PartitionStates {
    /// By the key, which is the entity's id.
    states: HashMap<String, NewestState>,
    /// Up to where the log was read.
    end: i64,
}

#[derive(Debug)]
struct NewestState {
    offset: i64,
    /// Where it is written and what, as a BSON document; `None` where it deletes.
    written: Option<(CollectionId, Vec<u8>)>,
}

impl NewestStates {
    /// Takes in a record that was decoded to `decoded`, in the order of the offsets. What a
    /// rejected one comes to is a question of its letter, so its key is left out.
    pub(super) fn note(
        &mut self,
        partition: &Partition,
        record: &Record<'_>,
        decoded: &Decoded,
        encoded: &[u8],
    ) {
        let Some(key) = record.key.and_then(|key| str::from_utf8(key).ok()) else {
            return;
        };
        let of = self.partitions.entry(partition.clone()).or_default();
        let written = match decoded {
            Decoded::Skipped(_) => return,
            Decoded::Accepted {
                collection,
                document,
                ..
            } => Some((*collection, encoded[document.clone()].to_vec())),
            Decoded::Delete => None,
            Decoded::Rejected(_) => {
                of.states.remove(key);
                return;
            }
        };
        let bytes = written.as_ref().map_or(0, |(_, document)| document.len());
        if self.bytes + bytes > STATES_BYTES_MAX {
            of.states.remove(key);
            return;
        }
        self.bytes += bytes;
        let offset = record.offset;
        let state = NewestState { offset, written };
        of.states.insert(key.to_owned(), state);
    }

    /// Notes up to where the log of a partition was read.
    pub(super) fn read_to(&mut self, partition: &Partition, end: i64) {
        let of = self.partitions.entry(partition.clone()).or_default();
        of.end = end;
    }

    /// Leaves what the checkpoints do not cover out.
    fn keep_applied(&mut self, places: &[Place]) {
        for (partition, of) in &mut self.partitions {
            let place = places.iter().find(|place| place.partition == *partition);
            let applied_to = place.and_then(Place::next_offset).unwrap_or(0);
            of.states.retain(|_, state| state.offset < applied_to);
        }
    }

    fn count(&self) -> usize {
        let partitions = self.partitions.values();
        partitions.map(|of| of.states.len()).sum()
    }
}

/// States whose documents do not have what they say: the offset by partition and key.
type Lacking = BTreeMap<Partition, BTreeMap<String, i64>>;

/// Holds each state that was applied against its document.
pub(super) async fn check(config: &Config, newest: NewestStates, report: &mut Report) {
    match compare(config, newest).await {
        Ok((count, lacking)) => report_lacking(count, &lacking, report),
        Err(error) => report.fault(
            Code::MongodbAway,
            "documents",
            format!("{error:#}"),
            "see the faults above",
        ),
    }
}

fn report_lacking(count: usize, lacking: &Lacking, report: &mut Report) {
    let lack: usize = lacking.values().map(BTreeMap::len).sum();
    let example = lacking.iter().find_map(|(partition, keys)| {
        let (key, offset) = keys.first_key_value()?;
        Some(format!("{} ({partition} offset {offset})", one_line(key)))
    });
    match example {
        None => report.good(
            "documents",
            format!("{count} entities of the sample are as their newest applied states say"),
        ),
        Some(example) => report.fault(
            Code::DocumentsBehind,
            "documents",
            format!("{lack} of {count} entities lack what was applied, such as {example}"),
            "where MongoDB was restored: scale to 0 and `workflows-sink offsets reset --to` a time \
             before the backup; else `workflows-sink explain KEY`",
        ),
    }
}

async fn compare(config: &Config, mut newest: NewestStates) -> anyhow::Result<(usize, Lacking)> {
    let database = database::open(&config.mongodb).await?;
    let broker = Broker::new(&config.kafka)?;
    newest.keep_applied(&places(&database, &config.kafka, &broker, None).await?);
    let mut lacking = Lacking::new();
    for (partition, of) in &newest.partitions {
        let keys = lacking_keys(config, &database, of).await?;
        let keys = without_letters(config, &database, partition, keys).await?;
        if !keys.is_empty() {
            lacking.insert(partition.clone(), keys);
        }
    }
    let ends = newest.partitions.iter();
    let ends: BTreeMap<Partition, i64> =
        ends.map(|(of, states)| (of.clone(), states.end)).collect();
    let kafka = config.kafka.clone();
    let looked = tokio::task::spawn_blocking(move || without_later(&kafka, lacking, &ends));
    Ok((newest.count(), looked.await??))
}

/// The keys whose documents do not have what their states say.
async fn lacking_keys(
    config: &Config,
    database: &Database,
    of: &PartitionStates,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut lacking: BTreeSet<&str> = BTreeSet::new();
    for (collection, name) in config.mapping.collections() {
        let asked = of.states.iter().filter(|(_, state)| match &state.written {
            Some((of_it, _)) => *of_it == collection,
            None => true,
        });
        let asked: Vec<(&String, &NewestState)> = asked.collect();
        for chunk in asked.chunks(FIND_IDS_MAX) {
            let ids: Vec<&String> = chunk.iter().map(|(key, _)| *key).collect();
            let stored = stored(database, name, &ids).await?;
            for (key, state) in chunk {
                if !is_applied(state, stored.get(*key))? {
                    lacking.insert(key);
                }
            }
        }
    }
    let lacking = lacking.into_iter();
    Ok(lacking
        .map(|key| (key.to_owned(), of.states[key].offset))
        .collect())
}

/// Whether a document is as its newest state says: it has each field of it, or is deleted.
fn is_applied(state: &NewestState, stored: Option<&TopFields>) -> anyhow::Result<bool> {
    let Some((_, document)) = &state.written else {
        return Ok(stored.is_none());
    };
    let state = TopFields::read(RawDocument::from_bytes(document)?)?;
    Ok(stored.is_some_and(|stored| stored.has_all_of(&state)))
}

/// The documents with these ids, as a majority has them.
async fn stored(
    database: &Database,
    collection: &str,
    ids: &[&String],
) -> anyhow::Result<HashMap<String, TopFields>> {
    let collection = database.collection::<RawDocumentBuf>(collection);
    let found = collection
        .find(doc! { "_id": { "$in": ids } })
        .read_concern(ReadConcern::majority());
    let mut found = found.await?;
    let mut stored = HashMap::new();
    while found.advance().await? {
        // By way of serde, `{"$oid": …}` would be interpreted.
        let document = found.current();
        if let Ok(id) = document.get_str("_id") {
            stored.insert(id.to_owned(), TopFields::read(document)?);
        }
    }
    Ok(stored)
}

/// Those whose states are no dead letters: these were not applied.
async fn without_letters(
    config: &Config,
    database: &Database,
    partition: &Partition,
    mut keys: BTreeMap<String, i64>,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let offsets: Vec<i64> = keys.values().copied().collect();
    let letters: Vec<Document> = database
        .collection::<Document>(dead_letter::COLLECTION)
        .find(doc! {
            "_id.group": &config.kafka.group,
            "_id.topic": &*partition.topic,
            "_id.partition": partition.number,
            "_id.offset": { "$in": offsets },
        })
        .projection(doc! { "_id": 1 })
        .await?
        .try_collect()
        .await?;
    let offset = |letter: &Document| letter.get_document("_id").ok()?.get_i64("offset").ok();
    let letters: BTreeSet<i64> = letters.iter().filter_map(offset).collect();
    keys.retain(|_, offset| !letters.contains(offset));
    Ok(keys)
}

/// Those that have no later state: one that came meanwhile may have been applied before the
/// document was read.
fn without_later(
    kafka: &Kafka,
    mut lacking: Lacking,
    ends: &BTreeMap<Partition, i64>,
) -> anyhow::Result<Lacking> {
    if lacking.is_empty() {
        return Ok(lacking);
    }
    let scanner = Scanner::new(kafka)?;
    let until = Instant::now() + DEADLINE;
    for (partition, keys) in &mut lacking {
        let (log, _) = scanner.log(partition)?;
        let later = ends[partition].max(log.start)..log.stable_end;
        let end = later.end;
        let reached = scanner.scan(partition, later, Some(until), |record| {
            if let Some(key) = record.key.and_then(|key| str::from_utf8(key).ok()) {
                keys.remove(key);
            }
            ControlFlow::Continue(())
        })?;
        (reached == end)
            .then_some(())
            .context("the log goes on too fast: run it again")?;
    }
    lacking.retain(|_, keys| !keys.is_empty());
    Ok(lacking)
}
