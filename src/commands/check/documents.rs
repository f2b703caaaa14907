//! Whether the documents of the sample are those of the newest states that were applied. A
//! database that was put back under a running service, or in two pieces, may lack what its
//! checkpoints cover.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::ReadConcern;

use super::mongodb::code_of;
use super::report::Report;
use crate::commands::explain::TopFields;
use crate::commands::offsets::{Place, places};
use crate::commands::text::one_line;
use crate::config::{Config, Kafka, Start};
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::record::entity::Decoded;
use crate::record::fold::WriteMode;
use crate::record::mapping::CollectionId;
use crate::record::{Partition, Record};
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::writer::dead_letter;

/// How many bytes of states are held against their documents.
const STATES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many documents are asked for at a time.
const FIND_IDS_MAX: usize = 1_000;

/// How long one question may take.
const FIND_MAX: Duration = Duration::from_secs(60);

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

impl NewestState {
    fn bytes(&self) -> usize {
        let document = self.written.as_ref();
        document.map_or(0, |(_, document)| document.len())
    }
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
                self.bytes -= of.states.remove(key).map_or(0, |state| state.bytes());
                return;
            }
        };
        let offset = record.offset;
        let state = NewestState { offset, written };
        self.bytes -= of.states.remove(key).map_or(0, |state| state.bytes());
        if self.bytes + state.bytes() <= STATES_BYTES_MAX {
            self.bytes += state.bytes();
            of.states.insert(key.to_owned(), state);
        }
    }

    /// Notes up to where the log of a partition was read.
    pub(super) fn read_to(&mut self, partition: &Partition, end: i64) {
        let of = self.partitions.entry(partition.clone()).or_default();
        of.end = end;
    }

    /// Leaves out what the checkpoints do not cover, and keys of several partitions, whose states
    /// have no order.
    fn keep_applied(&mut self, places: &[Place], start: Start) {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let keys = self.partitions.values().flat_map(|of| of.states.keys());
        keys.for_each(|key| *seen.entry(key.clone()).or_default() += 1);
        for (partition, of) in &mut self.partitions {
            let place = places.iter().find(|place| place.partition == *partition);
            let place = place.filter(|place| !place.is_stuck(start));
            let applied_to = place.and_then(Place::applied_to).unwrap_or(0);
            let is_applied = |state: &NewestState| state.offset < applied_to;
            of.states
                .retain(|key, state| is_applied(state) && seen[key] == 1);
        }
    }

    fn count(&self) -> usize {
        let partitions = self.partitions.values();
        partitions.map(|of| of.states.len()).sum()
    }
}

/// Entities whose documents lack what their newest states say: the offset of each by its key.
type Lacking = BTreeMap<Partition, BTreeMap<String, i64>>;

/// Holds each state that was applied against its document.
pub(super) async fn check(config: &Config, newest: NewestStates, report: &mut Report) {
    match compare(config, newest).await {
        Ok((count, lacking)) => report_lacking(count, &lacking, report),
        Err(error) => report.fault(
            code_of(&error),
            "documents",
            told(&error),
            "see the faults above, or run it again",
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
            "`workflows-sink explain KEY`; where MongoDB was restored, stop the service and `offsets \
             reset --to` a time before the backup; states from before a START=latest, or from under \
             other settings, were never applied",
        ),
    }
}

async fn compare(config: &Config, mut newest: NewestStates) -> anyhow::Result<(usize, Lacking)> {
    let database = database::open(&config.mongodb).await?;
    let broker = Broker::new(&config.kafka)?;
    let places = places(&database, &config.kafka, &broker, None).await?;
    newest.keep_applied(&places, config.kafka.start);
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
            // Where there is no document, only a delete is applied.
            let mut applied: HashMap<&str, bool> = (chunk.iter())
                .map(|(key, state)| (key.as_str(), state.written.is_none()))
                .collect();
            let found = find(database, name, &ids, |id, document| {
                if let Some(applied) = applied.get_mut(id) {
                    *applied = has(document, &of.states[id], config.write_mode)?;
                }
                Ok(())
            });
            found.await?;
            let lack = applied.into_iter().filter(|(_, applied)| !applied);
            lacking.extend(lack.map(|(key, _)| key));
        }
    }
    let lacking = lacking.into_iter();
    Ok(lacking
        .map(|key| (key.to_owned(), of.states[key].offset))
        .collect())
}

/// Whether a document has each field of its newest state, and under [`WriteMode::Replace`] no
/// other. None has one that deletes.
fn has(stored: &RawDocument, state: &NewestState, mode: WriteMode) -> anyhow::Result<bool> {
    let Some((_, written)) = &state.written else {
        return Ok(false);
    };
    let written = TopFields::read(RawDocument::from_bytes(written)?)?;
    let stored = TopFields::read(stored)?;
    Ok(match mode {
        WriteMode::Set => stored.has_all_of(&written),
        WriteMode::Replace => stored == written,
    })
}

/// Gives each document with one of these ids to `each`, as a majority has it.
async fn find(
    database: &Database,
    collection: &str,
    ids: &[&String],
    mut each: impl FnMut(&str, &RawDocument) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let collection = database.collection::<RawDocumentBuf>(collection);
    let found = collection
        .find(doc! { "_id": { "$in": ids } })
        .max_time(FIND_MAX)
        .read_concern(ReadConcern::majority());
    let mut found = found.await?;
    while found.advance().await? {
        // By way of serde, `{"$oid": …}` would be interpreted.
        let document = found.current();
        if let Ok(id) = document.get_str("_id") {
            each(id, document)?;
        }
    }
    Ok(())
}

/// Those whose states are no dead letters: these were not applied.
async fn without_letters(
    config: &Config,
    database: &Database,
    partition: &Partition,
    mut keys: BTreeMap<String, i64>,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let offsets: Vec<i64> = keys.values().copied().collect();
    let letters = database.collection::<Document>(dead_letter::COLLECTION);
    for offsets in offsets.chunks(FIND_IDS_MAX) {
        let mut found = letters
            .find(doc! {
                "_id.group": &config.kafka.group,
                "_id.topic": &*partition.topic,
                "_id.partition": partition.number,
                "_id.offset": { "$in": offsets },
            })
            .projection(doc! { "_id": 1 })
            .max_time(FIND_MAX)
            .await?;
        while let Some(letter) = found.try_next().await? {
            let offset = letter.get_document("_id")?.get_i64("offset")?;
            keys.retain(|_, of| *of != offset);
        }
    }
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
        ensure!(reached == end, "the log goes on too fast: run it again");
    }
    lacking.retain(|_, keys| !keys.is_empty());
    Ok(lacking)
}
