//! What a topic has already of each entity.
//!
//! A record of this tool has the header [`HEADER`]. So a later run knows whether the newest state
//! of an entity is still the one that was migrated: only then may it be replaced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use datastore_export::Place;
use workflows_sink::config::Kafka;
use workflows_sink::kafka::scan::Scanner;
use workflows_sink::record::{Partition, Record};

use crate::brokers::{of_reading, partitions};
use crate::id::{Fingerprint, NewId};
use crate::json::state_of;
use crate::progress::Progress;
use crate::report::Report;

/// The header of each record of this tool; its value is the old path.
pub const HEADER: &str = "migrated-from";

/// How long records of an open transaction are waited for, if nothing else is said. The broker aborts
/// one after the producer's `transaction.timeout.ms`, a minute by default.
pub const TRANSACTION_WAIT_SECONDS: u64 = 120;
/// The pause between two looks at a log.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// The newest state of an entity in a topic.
#[derive(Clone, Copy)]
struct Newest {
    /// As [`state_of`] gives it.
    value: Fingerprint,
    is_ours: bool,
    /// This run has come upon the entity.
    is_met: bool,
    /// It is in a state topic that entities do not go onto, and not in the topic itself.
    is_elsewhere: bool,
}

impl Newest {
    fn is_tombstone(&self) -> bool {
        self.value == Fingerprint::of([])
    }
}

/// What a topic has of each entity.
#[derive(Default)]
pub struct Present {
    // Some 70 bytes an entity.
    newest: HashMap<NewId, Newest>,
    /// Where a record of this tool stands right behind one of others with the same key: an earlier run
    /// went over what they wrote meanwhile, and may have ended before it could say so.
    covered: BTreeMap<NewId, (Partition, i64)>,
    /// Up to where each partition was read.
    ends: Vec<(Partition, i64)>,
    /// Whether the topic once had records that have expired.
    has_expired: bool,
}

/// What is to be done with an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// The topic lacks it.
    New,
    /// It has this very state.
    Nothing,
    /// The topic lacks it, and the state topic has this very state.
    Elsewhere,
    /// Its newest state is one that was migrated before, and another one.
    Changed,
    /// Its newest state is not of this tool.
    Newer,
    /// The state topic has another state, and the topic's own records have expired that would say whether
    /// it is the one that was migrated.
    Unknown,
    /// This run has come upon another state of it: nobody can say which is newer.
    Twice,
}

impl Present {
    /// What is to be done to have this state of an entity in the topic.
    pub fn needed(&mut self, id: NewId, value: &[u8]) -> Needed {
        let Some(newest) = self.newest.get_mut(&id) else {
            return Needed::New;
        };
        let was_met = std::mem::replace(&mut newest.is_met, true);
        let is_unknown = newest.is_elsewhere && self.has_expired && !newest.is_tombstone();
        match newest.value == state_of(value) {
            true if newest.is_elsewhere => Needed::Elsewhere,
            true => Needed::Nothing,
            false if was_met => Needed::Twice,
            false if newest.is_ours => Needed::Changed,
            false if is_unknown => Needed::Unknown,
            false => Needed::Newer,
        }
    }

    /// Whether the topic has an entity, whose newest state is no tombstone.
    pub fn has(&self, id: NewId) -> bool {
        let newest = self.newest.get(&id);
        newest.is_some_and(|newest| !newest.is_tombstone())
    }

    /// Whether the newest state of an entity is a tombstone.
    pub fn is_deleted(&self, id: NewId) -> bool {
        self.newest.contains_key(&id) && !self.has(id)
    }

    /// Notes that a state of an entity was not taken.
    pub fn not_taken(&mut self, id: NewId) {
        self.newest.remove(&id);
    }

    /// Notes that a state of an entity was sent.
    pub fn sent(&mut self, id: NewId, value: &[u8]) {
        let newest = Newest {
            value: state_of(value),
            is_ours: true,
            is_met: true,
            is_elsewhere: false,
        };
        self.newest.insert(id, newest);
    }

    fn note(&mut self, partition: &Partition, record: &Record<'_>) {
        let Some(id) = id_of(record) else {
            return;
        };
        let newest = Newest {
            value: state_of(record.value.unwrap_or_default()),
            is_ours: is_ours(record),
            is_met: false,
            is_elsewhere: false,
        };
        match self.newest.insert(id, newest) {
            _ if !newest.is_ours => drop(self.covered.remove(&id)),
            Some(before) if !before.is_ours && before.value != newest.value => {
                self.covered.insert(id, (partition.clone(), record.offset));
            }
            _ => {}
        }
    }

    /// Takes in what another topic has and this one lacks: states of others.
    fn take_in(&mut self, other: Present) {
        for (id, newest) in other.newest {
            let others = Newest {
                is_ours: false,
                is_elsewhere: true,
                ..newest
            };
            self.newest.entry(id).or_insert(others);
        }
    }
}

fn id_of(record: &Record<'_>) -> Option<NewId> {
    str::from_utf8(record.key?).ok()?.parse().ok()
}

fn is_ours(record: &Record<'_>) -> bool {
    let mut names = record.headers.iter().map(|(name, _)| name);
    names.any(|name| name == HEADER.as_bytes())
}

/// Reads all of a topic, and of the state topic what this one lacks: events may have expired whose
/// states have not. Records of an open transaction are waited for, this long. Blocks.
///
/// # Errors
/// Where the topic does not exist, cannot be read, or has records that are not committed even then.
pub fn read_back(kafka: &Kafka, topic: &str, transaction_wait: Duration) -> Result<Present> {
    let found = partitions(kafka, topic)?;
    ensure!(
        found > 0,
        "there is no topic {topic}: make it first, or name it with --topic"
    );
    let mut present = read(kafka, topic, found, transaction_wait)?;
    for state_topic in kafka.topics.iter().filter(|other| *other != topic) {
        let found = partitions(kafka, state_topic)?;
        if found > 0 {
            present.take_in(read(kafka, state_topic, found, transaction_wait)?);
        }
    }
    Ok(present)
}

fn read(kafka: &Kafka, topic: &str, partitions: i32, wait: Duration) -> Result<Present> {
    let scanner = Scanner::new(kafka)?;
    let deadline = Instant::now() + wait;
    let mut logs = Vec::new();
    for number in 0..partitions {
        let partition = Partition::new(topic, number);
        let (log, open) = decided(&scanner, &partition, deadline)?;
        if let Some(from) = open {
            bail!(
                "{partition} has records of a transaction that is still open after {} s, from offset \
                 {from} on: end it (`kafka-transactions.sh` finds and aborts one that hangs), or wait \
                 longer with --transaction-wait-seconds, and run this again",
                wait.as_secs()
            );
        }
        logs.push((partition, log));
    }
    let all = logs.iter().map(|(_, log)| records(log)).sum();
    let progress = Progress::new(Some(all), "records read back");
    let (mut present, mut before) = (Present::default(), 0);
    for (partition, log) in logs {
        present.has_expired |= log.start > 0;
        let scanned = scanner.scan(&partition, log.clone(), None, |record| {
            present.note(&partition, &record);
            progress.item(before + records(&(log.start..record.offset + 1)));
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| of_reading(error, kafka, topic))?;
        before += records(&log);
        present.ends.push((partition, log.end));
    }
    progress.end();
    Ok(present)
}

fn records(log: &Range<i64>) -> u64 {
    (log.end - log.start).unsigned_abs()
}

/// The log of a partition up to its end at the first look, once each transaction in it has ended, or
/// at the deadline; then also the offset of the first record that is still open.
fn decided(
    scanner: &Scanner,
    partition: &Partition,
    deadline: Instant,
) -> Result<(Range<i64>, Option<i64>)> {
    let (mut ends, _) = scanner.log(partition)?;
    // What comes later has come while this ran. It is looked for at the end.
    let end = ends.high_watermark;
    if ends.stable_end < end {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        eprintln!(
            "{partition} has records of an open transaction, from offset {} on: waiting for its end, \
             {left} s at most",
            ends.stable_end
        );
    }
    while ends.stable_end < end && Instant::now() < deadline {
        std::thread::sleep(LOOK_PAUSE);
        ends = scanner.log(partition)?.0;
    }
    let open = (ends.stable_end < end).then_some(ends.stable_end);
    let decided = end.min(ends.stable_end);
    Ok((ends.start.min(decided)..decided, open))
}

/// Reports where a state of this tool stands behind one that others have written: in what was read back,
/// from an earlier run, and since then, from this one. Records of an open transaction are waited for, this
/// long; what is open even then is reported too.
///
/// # Errors
/// Where the topic cannot be read.
pub fn report_covered(
    kafka: &Kafka,
    present: &Present,
    transaction_wait: Duration,
    report: &mut Report,
) -> Result<()> {
    for (id, (partition, offset)) in &present.covered {
        report.reject(&place(partition, *offset), None, went_over(*id));
    }
    let scanner = Scanner::new(kafka)?;
    let deadline = Instant::now() + transaction_wait;
    for (partition, read_up_to) in &present.ends {
        let (log, open) = decided(&scanner, partition, deadline)?;
        if let Some(from) = open {
            let why = "records of a transaction that is still open begin here, and what it has written \
                       of these entities is not known: run this again when it has ended";
            report.reject(&place(partition, from), None, why);
        }
        let mut of_others = HashSet::new();
        let since = *read_up_to..log.end.max(*read_up_to);
        scanner.scan(partition, since, None, |record| {
            if let Some(id) = id_of(&record) {
                match is_ours(&record) {
                    false => drop(of_others.insert(id)),
                    true if of_others.contains(&id) => {
                        report.reject(&place(partition, record.offset), None, went_over(id));
                    }
                    true => {}
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

fn went_over(id: NewId) -> String {
    format!(
        "{id} was written by others while a run was under way, and the old state went over it: produce \
         the state before this offset once more"
    )
}

/// A place in a topic, as a report has it.
fn place(partition: &Partition, offset: i64) -> Place {
    Place {
        file: partition.to_string().into(),
        record: offset.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests;
