//! Decides from what a run left behind whether the promise held: nothing lost, nothing twice,
//! nothing backwards.
//!
//! Pure. [`evidence`] gathers what it judges, from the log in Kafka and the change stream of the
//! database.

mod bounds;
pub mod change;
mod check;
pub mod compacted;
pub mod evidence;
mod excerpt;
mod finals;
mod judge;
mod letters;
pub mod shown;
pub mod spared;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod violation;
pub mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{Document, Uuid};
use sha2::{Digest as _, Sha256};
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

pub use self::check::check;
pub use self::compacted::Compacted;
pub use self::shown::{Look, Shown};
pub use self::spared::Spared;
pub use self::violation::{Rule, Violation};

const CHECKPOINTS: &str = workflows_sink::checkpoint::COLLECTION;
const DEAD_LETTERS: &str = workflows_sink::writer::dead_letter::COLLECTION;

/// Everything that a run left behind.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// How the workers were set up.
    pub settings: Settings,
    /// The log as a consumer reads it in the end.
    pub log: Log,
    /// What the broker acknowledged as being in the log.
    pub acknowledged: Vec<Acknowledged>,
    /// Every event of the database's change stream, from before the first worker.
    pub events: Vec<Document>,
    /// The entities in the end: collection and document.
    pub documents: Vec<(String, Document)>,
    /// The dead letters in the end.
    pub dead_letters: Vec<Document>,
    /// The checkpoints in the end.
    pub checkpoints: Vec<Document>,
    /// What the group had committed, each beside the checkpoint read after it; in the order of
    /// time.
    pub samples: Vec<Sample>,
    /// A second topic that the same workers read; what belongs to it is nowhere else.
    pub compacted: Option<Compacted>,
    /// When the server was made to refuse writes.
    pub refusals: Vec<Refusals>,
    /// Partitions that a fault left healthy.
    pub spared: Vec<Spared>,
    /// What the workers showed once all was well again, each time.
    pub looks: Vec<Look>,
    /// The workers.
    pub workers: Vec<WorkerRun>,
    /// How long it took to recover from each fault.
    pub recoveries: Vec<Recovery>,
}

/// How the workers were set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Whether a state adds to its document or replaces it.
    pub mode: WriteMode,
    /// What a tombstone does.
    pub tombstones: Tombstones,
    /// Whether an operator moved checkpoints.
    pub resets: bool,
    /// Collections that somebody else writes.
    pub ignored_collections: BTreeSet<String>,
    /// Whether some of the workers are of 0.1.0.
    pub older_release: bool,
}

/// The log of the topic, once for each time it was made.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In the order in which they were made; nearly always one.
    pub lineages: Vec<Lineage>,
}

/// The log from one making of the topic to its deletion.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    /// The topic's id.
    pub topic_id: Option<Uuid>,
    /// The log of each partition.
    pub partitions: BTreeMap<i32, PartitionLog>,
}

/// The log of one partition.
#[derive(Clone, Debug, Default)]
pub struct PartitionLog {
    /// The first offset.
    pub start: i64,
    /// Behind the last record, control records included.
    pub end: i64,
    /// The committed records, by offset.
    pub records: Vec<Record>,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub offset: i64,
    /// Its own time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record that the broker acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which making of the topic, as an index into [`Log::lineages`].
    pub lineage: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset, if the broker said so.
    pub offset: Option<i64>,
    /// Its [`digest`].
    pub digest: [u8; 32],
}

/// What distinguishes one record from another: a hash of key and value.
pub fn digest(key: Option<&[u8]>, value: Option<&[u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [key, value] {
        match part {
            Some(bytes) => {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
            None => hash.update(u64::MAX.to_le_bytes()),
        }
    }
    hash.finalize().into()
}

/// What the group had committed for a partition, and the checkpoint as a majority had it
/// afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The partition.
    pub partition: i32,
    /// The committed offset, if any; read first.
    pub committed: Option<i64>,
    /// The checkpoint's topic id and next offset, if there is one; read second.
    pub checkpoint: Option<(Option<Uuid>, i64)>,
}

/// A time in which the server refused writes by a code that speaks of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The code.
    pub code: i32,
    /// When it began, in milliseconds since 1970.
    pub from_ms: i64,
    /// When all that it could refuse had been applied.
    pub until_ms: i64,
    /// How many commands the server says to have refused.
    pub commands: usize,
}

/// What became of a worker process.
#[derive(Clone, Debug)]
pub struct WorkerRun {
    /// Its name in the schedule.
    pub name: String,
    /// The most memory that it had resident, in bytes.
    pub peak_bytes: u64,
    /// What its memory must stay under, in bytes.
    pub budget_bytes: u64,
    /// The longest time that it did not say to be alive, though nothing kept it from that.
    pub silence: Duration,
    /// What it said when it said that it is not.
    pub denied: Option<String>,
    /// How it ended.
    pub exit: Exit,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It had not ended when the run did.
    Running,
    /// It was killed by the run, or asked to end and did with 0.
    Asked,
    /// It ended by itself, or asked to and not with 0; as a person reads it: `exit code 70`,
    /// `signal 6`.
    Unexpected(String),
}

/// How long it took until records were applied again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// From what: `takeover after kill -9`.
    pub what: String,
    /// How long it took; `None` if it never did.
    pub took: Option<Duration>,
    /// How long it may take.
    pub bound: Duration,
}
