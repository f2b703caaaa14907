//! What one partition's records must come to, one record at a time, by the slow reference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bson::{Bson, Document, Uuid};
use test_oracles::reference::{Expected, reference_outcome};
use workflows_sink::record::entity::{Reason, Tombstones};
use workflows_sink::record::fold::WriteMode;

use super::change::{Entity, State, state};
use super::walk::Segment;
use super::{Evidence, Log, Record};

/// Records of one segment that are to be applied.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The segment, as an index.
    pub segment: usize,
    /// The lineage that the records are of: the segment's own, but for what was read after the
    /// topic was recreated.
    pub lineage: usize,
    /// The topic's id as the checkpoint has it.
    pub topic_id: Option<Uuid>,
    /// The offsets.
    pub offsets: Range<i64>,
}

/// One record and what it must come to.
#[derive(Clone, Debug)]
pub struct Step<'l> {
    /// The segment, as an index.
    pub segment: usize,
    /// The topic's id as the checkpoint has it.
    pub topic_id: Option<Uuid>,
    /// The record.
    pub record: &'l Record,
    /// The entities that it writes or deletes.
    pub entities: Vec<Entity>,
    /// Why it is a dead letter, if it is.
    pub rejected: Option<Reason>,
}

/// The state of an entity from one step on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The step, as an index.
    pub step: usize,
    /// The entity's state after it.
    pub state: State,
    /// What distinguishes the state from others, for a person.
    pub shown: String,
}

/// What a partition's records must come to.
#[derive(Clone, Debug, Default)]
pub struct Timeline<'l> {
    /// The records in the order in which they are applied.
    pub steps: Vec<Step<'l>>,
    /// Every state of each entity.
    pub entities: BTreeMap<Entity, Vec<Stand>>,
}

/// The stretches of a partition's segments; the last one goes on to the end of the log. `cuts` says
/// for a segment that another lineage ended from which offset on its records were read from that
/// one already.
pub fn stretches(
    log: &Log,
    partition: i32,
    segments: &[Segment],
    cuts: &BTreeMap<usize, i64>,
) -> Vec<Stretch> {
    let of = |lineage: usize| log.lineages.get(lineage)?.partitions.get(&partition);
    let mut stretches = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let mut add = |lineage: usize, offsets: Range<i64>| {
            if !offsets.is_empty() {
                stretches.push(Stretch {
                    segment: index,
                    lineage,
                    topic_id: segment.topic_id,
                    offsets,
                });
            }
        };
        let next = segments
            .get(index + 1)
            .filter(|next| next.lineage != segment.lineage);
        match next {
            Some(next) => {
                let end = of(segment.lineage).map_or(segment.from, |log| log.end);
                let cut = cuts.get(&index).copied().unwrap_or(end);
                let cut = cut.clamp(segment.from, segment.to());
                add(segment.lineage, segment.from..cut);
                add(next.lineage, cut..segment.to());
            }
            None if index + 1 == segments.len() => add(segment.lineage, segment.from..i64::MAX),
            None => add(segment.lineage, segment.from..segment.to()),
        }
    }
    // A log that nobody has claimed must be applied all the same.
    let begun = segments.last().map(|last| last.lineage);
    let last = log
        .lineages
        .iter()
        .rposition(|l| l.partitions.contains_key(&partition));
    if let Some(last) = last.filter(|last| begun.is_none_or(|begun| begun < *last)) {
        stretches.push(Stretch {
            segment: segments.len(),
            lineage: last,
            topic_id: log.lineages[last].topic_id,
            offsets: 0..i64::MAX,
        });
    }
    stretches
}

/// Applies the stretches' records one by one. `refused` are those that the server refused.
pub fn timeline<'l>(
    evidence: &'l Evidence,
    partition: i32,
    stretches: &[Stretch],
    refused: &BTreeSet<(Option<Uuid>, i32, i64)>,
) -> Timeline<'l> {
    let mut timeline = Timeline::default();
    let mut documents = BTreeMap::new();
    for stretch in stretches {
        let lineage = evidence.log.lineages.get(stretch.lineage);
        let log = lineage.and_then(|lineage| lineage.partitions.get(&partition));
        let records = log.map_or(&[][..], |log| &log.records);
        for record in records
            .iter()
            .filter(|r| stretch.offsets.contains(&r.offset))
        {
            let is_refused = refused.contains(&(stretch.topic_id, partition, record.offset));
            let outcome = outcome(record, evidence.settings.tombstones, is_refused);
            let mut step = Step {
                segment: stretch.segment,
                topic_id: stretch.topic_id,
                record,
                entities: Vec::new(),
                rejected: None,
            };
            match outcome {
                Expected::Rejected(reason) => step.rejected = Some(reason),
                Expected::Skipped(_) => {}
                outcome => {
                    step.entities = advance(
                        &mut documents,
                        record,
                        outcome,
                        evidence.settings.mode,
                        &timeline,
                    );
                }
            }
            timeline.record(step, &documents);
        }
    }
    timeline
}

/// The code with which the server refused the record of a dead letter, if it did.
pub fn refusal(letter: &Document) -> Option<i32> {
    let is_refused = letter.get_str("reason").ok() == Some(Reason::WriteError.as_str());
    let code = letter
        .get_document("error")
        .and_then(|error| error.get_i32("code"));
    code.ok().filter(|_| is_refused)
}

/// How far the clock of the change stream may be behind: a thread of the server reads the time
/// every 10 ms (`BackgroundThreadClockSource`), and waits for its turn on a busy machine.
pub const CLOCK_BEHIND_MS_MAX: i64 = 1_000;

/// Topic id, partition and offset of the records that the server has refused. Of the letters that
/// say so, those are believed that were written while it did, and no more of them than it refused
/// commands: a record becomes a letter when a command with nothing else in it was refused.
pub fn refused(evidence: &Evidence) -> BTreeSet<(Option<Uuid>, i32, i64)> {
    let mut refused = BTreeSet::new();
    for refusals in &evidence.refusals {
        let during = refusals.from_ms - CLOCK_BEHIND_MS_MAX..=refusals.until_ms;
        let mut found = BTreeSet::new();
        for event in &evidence.events {
            let at = event.get_datetime("wallTime");
            if found.len() < refusals.commands
                && at.is_ok_and(|at| during.contains(&at.timestamp_millis()))
                && let Ok(letter) = event.get_document("fullDocument")
                && refusal(letter) == Some(refusals.code)
            {
                found.extend(place(letter));
            }
        }
        refused.extend(found);
    }
    refused
}

/// Topic id, partition and offset of a dead letter.
fn place(letter: &Document) -> Option<(Option<Uuid>, i32, i64)> {
    let id = letter.get_document("_id").ok()?;
    let topic_id = match id.get("topic_id") {
        Some(Bson::Binary(binary)) => binary.to_uuid().ok(),
        _ => None,
    };
    Some((
        topic_id,
        id.get_i32("partition").ok()?,
        id.get_i64("offset").ok()?,
    ))
}

/// What a record must come to, where the server may have refused it: its write, or its letter, of
/// which the reason then is that.
fn outcome(record: &Record, tombstones: Tombstones, is_refused: bool) -> Expected {
    match reference_outcome(record.key.as_deref(), record.value.as_deref(), tombstones) {
        Expected::Accepted { .. } | Expected::Rejected(_) if is_refused => {
            Expected::Rejected(Reason::WriteError)
        }
        outcome => outcome,
    }
}

/// Applies one record to the documents; the entities that it touches.
fn advance(
    documents: &mut BTreeMap<Entity, Document>,
    record: &Record,
    outcome: Expected,
    mode: WriteMode,
    so_far: &Timeline<'_>,
) -> Vec<Entity> {
    let id = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    match outcome {
        Expected::Accepted {
            collection,
            document,
        } => {
            let entity = Entity {
                collection,
                id: id.into_owned(),
            };
            match (mode, documents.get_mut(&entity)) {
                (WriteMode::Set, Some(before)) => before.extend(document),
                _ => drop(documents.insert(entity.clone(), document)),
            }
            vec![entity]
        }
        _ => {
            let deleted: Vec<Entity> = (so_far.entities.keys())
                .filter(|entity| entity.id == id)
                .cloned()
                .collect();
            for entity in &deleted {
                documents.remove(entity);
            }
            deleted
        }
    }
}

impl<'l> Timeline<'l> {
    fn record(&mut self, step: Step<'l>, documents: &BTreeMap<Entity, Document>) {
        for entity in &step.entities {
            let document = documents.get(entity);
            let stand = Stand {
                step: self.steps.len(),
                state: document.map(state),
                shown: document.map_or("absent".to_owned(), shown),
            };
            self.entities.entry(entity.clone()).or_default().push(stand);
        }
        self.steps.push(step);
    }

    /// The steps of a segment's offsets, as a range of indexes.
    pub fn steps_of(&self, segment: usize, offsets: Range<i64>) -> Range<usize> {
        let before = |limit: i64| {
            self.steps
                .partition_point(|step| (step.segment, step.record.offset) < (segment, limit))
        };
        before(offsets.start)..before(offsets.end).max(before(offsets.start))
    }

    /// An entity's state before the step `until`.
    pub fn state_before(&self, entity: &Entity, until: usize) -> State {
        let stands = self.entities.get(entity)?;
        let behind = stands.partition_point(|stand| stand.step < until);
        stands[..behind].last()?.state
    }
}

/// What distinguishes the states of an entity, for a person.
fn shown(document: &Document) -> String {
    let field = |name: &str| match document.get(name) {
        Some(value) => format!("{name} {value} "),
        None => String::new(),
    };
    let short = |text: String| text.chars().take(40).collect::<String>();
    format!(
        "{}{}{} fields",
        short(field("revision")),
        short(field("status")),
        document.len()
    )
}
