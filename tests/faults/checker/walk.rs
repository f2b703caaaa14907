//! The history of each partition: who claimed it, and which transactions moved it from where to
//! where.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::{Bson, Document, Uuid};
use workflows_sink::checkpoint::Checkpoint;

use super::change::{Change, Entity};
use super::violation::{Rule, Violation};
use super::{CHECKPOINTS, DEAD_LETTERS, Evidence};

/// A committed transaction that moved a checkpoint.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The first offset that it covers.
    pub from: i64,
    /// Behind the last one.
    pub to: i64,
    /// Session and number.
    pub transaction: (Uuid, i64),
    /// Who held the checkpoint.
    pub owner: Option<Uuid>,
    /// When, for a person.
    pub at: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it did to entities.
    pub writes: Vec<Change>,
    /// What it did to the dead letters.
    pub letters: Vec<Change>,
}

/// What a partition went through from one place that was set to the next: usually all of it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Which making of the topic, as an index into the log's lineages.
    pub lineage: usize,
    /// The topic's id as the checkpoint has it.
    pub topic_id: Option<Uuid>,
    /// Where it begins.
    pub from: i64,
    /// The transactions, one behind the other.
    pub applied: Vec<Applied>,
}

impl Segment {
    /// Behind the last offset that was applied.
    pub fn to(&self) -> i64 {
        self.applied.last().map_or(self.from, |last| last.to)
    }
}

/// All partitions' histories.
#[derive(Debug, Default)]
pub struct Walk {
    /// By partition, each in the order of time.
    pub partitions: BTreeMap<i32, Vec<Segment>>,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Whether some of the workers are of 0.1.0.
    older_release: bool,
}

/// Goes through the changes once.
pub fn walk(evidence: &Evidence, changes: &[Change]) -> Walk {
    let mut walk = Walk {
        older_release: evidence.settings.older_release,
        ..Walk::default()
    };
    let homes = Homes::new(evidence);
    for group in changes.chunk_by(|a, b| a.transaction.is_some() && a.transaction == b.transaction)
    {
        match group[0].transaction {
            Some(transaction) => walk.transaction(evidence, &homes, transaction, group),
            None => group
                .iter()
                .for_each(|change| walk.outside(evidence, change)),
        }
    }
    walk
}

impl Walk {
    /// A change outside of any transaction: only claims and what belongs to them may be.
    fn outside(&mut self, evidence: &Evidence, change: &Change) {
        let collection = &change.entity.collection;
        if evidence.settings.ignored_collections.contains(collection) {
            return;
        }
        let Some((partition, after)) = self.checkpoint(evidence, change) else {
            if collection != CHECKPOINTS {
                let violation =
                    Violation::new(Rule::Outside, "was written outside of a transaction");
                let violation = violation.of(change.entity.to_string());
                self.violations.push(violation.showing(vec![line(change)]));
            }
            return;
        };
        let before = change
            .document
            .0
            .as_ref()
            .and_then(|before| Checkpoint::read(before).ok());
        let moved = |message: String| {
            Violation::new(Rule::Outside, message)
                .at(partition, after.next_offset)
                .showing(vec![line(change)])
        };
        let set_by_operator = evidence.settings.resets && after.owner.is_some();
        let of_id = lineage_of(evidence, after.topic_id);
        let was = self
            .partitions
            .get(&partition)
            .and_then(|s| s.last())
            .map(|s| s.lineage);
        let lineage = of_id.or(was).unwrap_or(0);
        let log = evidence
            .log
            .lineages
            .get(lineage)
            .and_then(|l| l.partitions.get(&partition));
        let at_start = log.is_some_and(|log| log.start == after.next_offset);
        let segments = self.partitions.entry(partition).or_default();
        if after.topic_id.is_some() && of_id.is_none() {
            self.violations.push(moved(format!(
                "a topic id that the topic never had: {:?}",
                after.topic_id
            )));
        }
        let begins = match &before {
            None => {
                if !at_start && !set_by_operator {
                    self.violations.push(moved(
                        "the first claim does not begin at the log's start".to_owned(),
                    ));
                }
                true
            }
            Some(before) if before.topic_id.is_some() && before.topic_id != after.topic_id => {
                if !(set_by_operator || at_start && of_id > was) {
                    self.violations.push(moved(
                        "another topic, but not a later one from the start of its log".to_owned(),
                    ));
                }
                true
            }
            Some(before) if before.next_offset != after.next_offset => {
                if !(set_by_operator && before.owner != after.owner) {
                    self.violations.push(moved(format!(
                        "the checkpoint was moved from {} to {} outside of a transaction",
                        before.next_offset, after.next_offset
                    )));
                }
                true
            }
            Some(before) => {
                if before.owner != after.owner && after.epoch != before.epoch + 1 {
                    let message = format!(
                        "another owner, but the epoch went from {} to {}",
                        before.epoch, after.epoch
                    );
                    self.violations.push(moved(message));
                }
                // An id that appears is adopted: the same place, now known by name.
                before.topic_id != after.topic_id
            }
        };
        if begins {
            segments.push(Segment {
                lineage,
                topic_id: after.topic_id,
                from: after.next_offset,
                applied: Vec::new(),
            });
        }
    }

    /// A committed transaction: it moves one checkpoint on, or one of each of several partitions,
    /// under a session of each claim.
    fn transaction(
        &mut self,
        evidence: &Evidence,
        homes: &Homes<'_>,
        transaction: (Uuid, i64),
        group: &[Change],
    ) {
        let ignored = &evidence.settings.ignored_collections;
        let counted = |change: &&Change| !ignored.contains(&change.entity.collection);
        let (moves, changes): (Vec<&Change>, Vec<&Change>) =
            (group.iter().filter(counted)).partition(|c| c.entity.collection == CHECKPOINTS);
        let shown = || group.iter().take(SHOWN_MAX).map(line).collect::<Vec<_>>();
        if moves.is_empty() && !changes.is_empty() {
            let violation =
                Violation::new(Rule::Transaction, "a transaction that moves no checkpoint");
            self.violations.push(violation.showing(shown()));
        }
        let moves: Vec<(i32, Checkpoint, &Change)> = (moves.into_iter())
            .filter_map(|change| {
                let (partition, after) = self.checkpoint(evidence, change)?;
                Some((partition, after, change))
            })
            .collect();
        let Some((first, ..)) = moves.first() else {
            return;
        };
        // What belongs to none of them is held against the first, which does not cover it.
        let moved: BTreeSet<i32> = moves.iter().map(|(partition, ..)| *partition).collect();
        let mut parts: BTreeMap<i32, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            let home = homes.of(change).filter(|home| moved.contains(home));
            parts
                .entry(home.unwrap_or(*first))
                .or_default()
                .push(change);
        }
        for (partition, after, change) in moves.iter() {
            let part = parts.remove(partition).unwrap_or_default();
            self.moved(transaction, (*partition, after, change), &part, &shown);
        }
        if moved.len() < moves.len() {
            let violation = Violation::new(
                Rule::Transaction,
                "a checkpoint moved twice in a transaction",
            );
            self.violations.push(violation.showing(shown()));
        }
    }

    /// A transaction's part in one partition.
    fn moved(
        &mut self,
        transaction: (Uuid, i64),
        (partition, after, change): (i32, &Checkpoint, &Change),
        part: &[&Change],
        shown: &dyn Fn() -> Vec<String>,
    ) {
        let before = change.document.0.as_ref();
        let Some(before) = before.and_then(|before| Checkpoint::read(before).ok()) else {
            let violation = Violation::new(Rule::Transaction, "a checkpoint made in a transaction");
            self.violations
                .push(violation.at(partition, None).showing(shown()));
            return;
        };
        let (from, to) = (before.next_offset, after.next_offset);
        let older_release = self.older_release;
        let mut violated = |rule, message: String| {
            let violation = Violation::new(rule, message).at(partition, from);
            self.violations.push(violation.showing(shown()));
        };
        if ![before.session, before.group_session].contains(&Some(transaction.0)) {
            violated(
                Rule::Owner,
                format!(
                    "written by session {}, but claimed by owner {} in sessions {} and {}",
                    short(Some(transaction.0)),
                    short(before.owner),
                    short(before.session),
                    short(before.group_session)
                ),
            );
        }
        // What is noted of the records before the offset moves with it.
        let moved_only = Checkpoint {
            next_offset: to,
            leader_epoch: after.leader_epoch,
            rejections: after.rejections,
            halt: after.halt,
            ..before.clone()
        };
        if moved_only != *after {
            violated(
                Rule::Owner,
                "more than the next offset was changed".to_owned(),
            );
        }
        // 0.1.0 knows no epochs, and leaves out what it does not know.
        let forgets = older_release && after.leader_epoch.is_none();
        // At the start of a log a claim notes the leader's epoch, and the log's first records may be of
        // an earlier one.
        let went_back = before.next_offset > 0 && after.leader_epoch < before.leader_epoch;
        if before.leader_epoch.is_some() && went_back && !forgets {
            violated(
                Rule::Transaction,
                format!(
                    "the leader epoch went from {:?} to {:?}",
                    before.leader_epoch, after.leader_epoch
                ),
            );
        }
        if to <= from {
            violated(
                Rule::Transaction,
                format!("the checkpoint went from {from} to {to}"),
            );
        }
        let Some(segment) = self
            .partitions
            .get_mut(&partition)
            .and_then(|s| s.last_mut())
        else {
            return;
        };
        let (letters, writes) = (part.iter().copied().cloned())
            .partition(|change: &Change| change.entity.collection == DEAD_LETTERS);
        segment.applied.push(Applied {
            from,
            to,
            transaction,
            owner: before.owner,
            at: change.at.clone(),
            at_ms: change.at_ms,
            writes,
            letters,
        });
    }

    /// The partition and the checkpoint after a change of one of ours.
    fn checkpoint(&mut self, evidence: &Evidence, change: &Change) -> Option<(i32, Checkpoint)> {
        if change.entity.collection != CHECKPOINTS {
            return None;
        }
        let read = match &change.document.1 {
            Some(after) => key(evidence, after)
                .and_then(|partition| Some((partition, Checkpoint::read(after).ok()?))),
            None => None,
        };
        if read.is_none() {
            let message = "not a checkpoint of this group and topic, or deleted";
            let violation = Violation::new(Rule::Outside, message).of(change.entity.to_string());
            self.violations.push(violation.showing(vec![line(change)]));
        }
        read
    }
}

/// Which partition the records of an entity are in.
struct Homes<'e>(HashMap<&'e [u8], i32>);

impl<'e> Homes<'e> {
    fn new(evidence: &'e Evidence) -> Self {
        let lineages = evidence.log.lineages.iter();
        let logs = lineages.flat_map(|lineage| &lineage.partitions);
        let keys = logs.flat_map(|(partition, log)| {
            let keys = log
                .records
                .iter()
                .filter_map(|record| record.key.as_deref());
            keys.map(|key| (key, *partition))
        });
        Homes(keys.collect())
    }

    /// The partition of an entity by its records, of a dead letter by its id.
    fn of(&self, change: &Change) -> Option<i32> {
        if change.entity.collection != DEAD_LETTERS {
            return self.0.get(change.entity.id.as_bytes()).copied();
        }
        let letter = change.document.1.as_ref().or(change.document.0.as_ref());
        letter?.get_document("_id").ok()?.get_i32("partition").ok()
    }
}

/// How many changes of a transaction are shown.
const SHOWN_MAX: usize = 12;

/// The partition of a checkpoint of the group and topic.
pub fn key(evidence: &Evidence, checkpoint: &Document) -> Option<i32> {
    let id = checkpoint.get_document("_id").ok()?;
    let settings = &evidence.settings;
    let is = |name: &str, value: &str| id.get_str(name).is_ok_and(|found| found == value);
    (is("group", &settings.group) && is("topic", &settings.topic))
        .then(|| id.get_i32("partition").ok())
        .flatten()
}

/// The lineage of a topic id.
pub fn lineage_of(evidence: &Evidence, topic_id: Option<Uuid>) -> Option<usize> {
    let mut lineages = evidence.log.lineages.iter();
    topic_id.and_then(|id| lineages.position(|lineage| lineage.topic_id == Some(id)))
}

/// The first characters of an id, enough to distinguish it from others.
pub fn short(id: Option<Uuid>) -> String {
    id.map_or("none".to_owned(), |id| id.to_string()[..8].to_owned())
}

/// A change in a line.
pub fn line(change: &Change) -> String {
    let Change {
        entity: Entity { collection, id },
        operation,
        at,
        ..
    } = change;
    let transaction = match change.transaction {
        Some((session, number)) => format!("transaction {}/{number}", short(Some(session))),
        None => "no transaction".to_owned(),
    };
    let next_offset = |document: &Option<std::rc::Rc<Document>>| {
        document
            .as_ref()
            .and_then(|d| d.get("next_offset"))
            .cloned()
            .unwrap_or(Bson::Null)
    };
    let detail = match collection.as_str() {
        CHECKPOINTS => format!(
            "next_offset {} -> {}",
            next_offset(&change.document.0),
            next_offset(&change.document.1)
        ),
        _ => change.fields.join(" "),
    };
    format!("{at} {transaction} {operation} {collection}/{id} {detail}")
}
