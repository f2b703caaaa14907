//! `explain`: where one entity is in the log and what became of its states, its document beside
//! what the log says of it, and its dead letters.

mod document;
mod fields;
mod letters;
mod moment;
mod partitioner;
mod print;
mod states;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use bson::Document;
use tokio::task::block_in_place;

use self::document::{EntityDocument, entity_document};
use self::fields::TopFields;
use self::letters::{letters_in, stands_in};
use self::moment::{LETTERS_MAX, moment};
use self::partitioner::partition_of;
use self::print::{print_explained, print_json_of};
use self::states::{ExplainRules, KeyLog, KeyReader};
use super::NotHealthy;
use super::offsets::{Place, partitions, places_of};
use super::progress::CommandProgress;
use crate::config::Config;
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::record::Partition;
use crate::record::mapping::CollectionId;

/// How many states are shown.
const STATES_SHOWN_MAX: usize = 10;

/// How many are shown of a whole history.
const HISTORY_STATES_MAX: usize = 10_000;

/// How many records are read between two looks at the progress.
const RECORDS_A_LOOK: u64 = 1_024;

/// All that is known of a key.
struct Explained {
    key: String,
    /// The logs that were read: that of the partition where a Java client puts the key, and where
    /// that alone explains nothing, all.
    logs: Vec<PlaceLog>,
    /// How many partitions there are.
    partitions: usize,
    letters: Vec<Document>,
    document: EntityDocument,
}

/// A partition, and what its log has of the key.
struct PlaceLog {
    place: Place,
    /// Whether a Java client puts the key here.
    is_home: bool,
    found: KeyLog,
}

/// Explains the document of a key, from what MongoDB has at one moment and the log as it is after
/// it. With `history` all states are shown.
///
/// # Errors
/// [`NotHealthy`], where the document is not what all states in the log say; others where a server
/// does not answer.
pub async fn execute(
    config: &Config,
    key: &str,
    history: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let database = database::open(&config.mongodb).await?;
    let broker = Broker::new(&config.kafka)?;
    let partitions = partitions(&config.kafka, None).await?;
    let homes = homes(key, &partitions);
    let moment = moment(config, &database, key).await?;
    let places = places_of(partitions, moment.checkpoints, &broker)?;
    let scanner = Scanner::new(&config.kafka)?;
    let mut explaining = Explaining {
        scanner: &scanner,
        rules: ExplainRules {
            mapping: Arc::clone(&config.mapping),
            tombstones: config.tombstones,
            mode: config.write_mode,
            kind_changes: config.kind_changes,
        },
        documents: moment.documents,
        states_shown_max: match history {
            true => HISTORY_STATES_MAX,
            false => STATES_SHOWN_MAX,
        },
        explained: Explained {
            key: key.to_owned(),
            logs: Vec::new(),
            partitions: places.len(),
            letters: moment.letters,
            document: EntityDocument::default(),
        },
    };
    let (at_home, others): (Vec<Place>, Vec<Place>) =
        (places.into_iter()).partition(|place| homes.contains(&place.partition));
    explaining.read(at_home, true)?;
    if !explaining.is_enough() {
        explaining.read(others, false)?;
    }
    let explained = explaining.explained;
    match json {
        true => print_json_of(&explained, out)?,
        false => print_explained(&explained, out)?,
    }
    match explained.faults().is_empty() {
        true => Ok(()),
        false => Err(NotHealthy.into()),
    }
}

/// Of each topic the partition where a Java client puts the key.
fn homes(key: &str, partitions: &[Partition]) -> Vec<Partition> {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for partition in partitions {
        *counts.entry(&partition.topic).or_default() += 1;
    }
    let home = |(topic, count)| Partition::new(topic, partition_of(key.as_bytes(), count));
    counts.into_iter().map(home).collect()
}

/// An explanation in the making.
struct Explaining<'a> {
    scanner: &'a Scanner,
    rules: ExplainRules,
    documents: BTreeMap<CollectionId, TopFields>,
    states_shown_max: usize,
    explained: Explained,
}

impl Explaining<'_> {
    /// Reads the logs of these places, and draws the conclusions.
    fn read(&mut self, places: Vec<Place>, is_home: bool) -> anyhow::Result<()> {
        let records = |place: &Place| place.log.stable_end - place.log.offsets.start;
        let progress = CommandProgress::new(places.iter().map(records).sum(), "offsets");
        let mut done = 0;
        for place in places {
            let found = block_in_place(|| self.read_log(&place, &progress, done))?;
            done += records(&place);
            self.explained.logs.push(PlaceLog {
                place,
                is_home,
                found,
            });
        }
        progress.end();
        let logs = &self.explained.logs;
        self.explained.document = entity_document(&self.rules, logs, &self.documents);
        Ok(())
    }

    /// What the log of a place has of the key.
    fn read_log(
        &self,
        place: &Place,
        progress: &CommandProgress,
        done: i64,
    ) -> anyhow::Result<KeyLog> {
        let partition = &place.partition;
        let letters = letters_in(&self.explained.letters, partition, &place.log);
        let start = place.log.offsets.start;
        let mut reader = KeyReader::new(
            &self.rules,
            self.explained.key.as_bytes(),
            &letters,
            place.applied_to().unwrap_or(start),
            self.states_shown_max,
        );
        let (mut read, mut records) = (Ok(()), 0_u64);
        self.scanner
            .scan(partition, start..place.log.stable_end, None, |record| {
                records += 1;
                if records.is_multiple_of(RECORDS_A_LOOK) {
                    let what = format!("reading {partition}");
                    progress.show(done + record.offset - start, &what);
                }
                read = reader.record(&record);
                match read {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
        read?;
        Ok(reader.finish())
    }

    /// Whether the logs that were read explain the document: if not, states may be elsewhere.
    fn is_enough(&self) -> bool {
        let explained = &self.explained;
        let is_read = |letter: &Document| {
            let mut logs = explained.logs.iter();
            logs.any(|log| stands_in(letter, &log.place.partition))
        };
        explained.with_states().next().is_some()
            && !explained.document.comparison.is_faulty()
            && explained.letters.iter().all(is_read)
    }
}

impl Explained {
    /// Whether there may be more letters than were looked at.
    fn letters_are_cut(&self) -> bool {
        self.letters.len() >= LETTERS_MAX
    }
}
