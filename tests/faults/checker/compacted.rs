//! A topic that is compacted while it is read: its log no longer has all that was produced, so less
//! can be judged of it. Each entity goes through revisions that were produced, only forwards, and
//! ends at its last one; each checkpoint goes forwards, and ends at the log's end.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document};

use super::timeline::refusal;
use super::violation::{Rule, Violation};
use super::{CHECKPOINTS, DEAD_LETTERS};

/// What its entities' ids begin with, and no others.
pub const PREFIX: &str = "c0ffee";

/// What a run left behind of it.
#[derive(Clone, Debug, Default)]
pub struct Compacted {
    /// Its name.
    pub topic: String,
    /// The last revision of each entity that was produced, of 1, 2, 3 and so on.
    pub produced: BTreeMap<String, i64>,
    /// How many records were produced.
    pub records: usize,
    /// The ends of its log.
    pub ends: BTreeMap<i32, i64>,
    /// The events of its entities, checkpoints and dead letters.
    pub events: Vec<Document>,
}

impl Compacted {
    /// Takes what belongs to it out of the events.
    pub fn take_events(&mut self, events: Vec<Document>) -> Vec<Document> {
        let (ours, others) = events.into_iter().partition(|event| {
            let key = event.get_document("documentKey").ok();
            key.is_some_and(|key| self.is_ours(key.get("_id")))
        });
        self.events = ours;
        others
    }

    /// Whether a document with this `_id` belongs to it.
    pub fn is_ours(&self, id: Option<&Bson>) -> bool {
        match id {
            Some(Bson::String(id)) => id.starts_with(PREFIX),
            Some(Bson::Document(id)) => id.get_str("topic").is_ok_and(|topic| topic == self.topic),
            _ => false,
        }
    }
}

/// What does not hold of it.
pub fn compacted(compacted: &Compacted) -> Vec<Violation> {
    let mut walk = Walk::default();
    let mut last_places: BTreeMap<i32, i64> = BTreeMap::new();
    let moving: BTreeSet<String> = (compacted.events.iter())
        .filter(|event| collection(event) == CHECKPOINTS)
        .filter_map(transaction)
        .collect();
    for event in &compacted.events {
        let key = event
            .get_document("documentKey")
            .ok()
            .and_then(|key| key.get("_id"));
        match (collection(event), key) {
            (CHECKPOINTS, Some(Bson::Document(id))) => {
                let (Ok(partition), Some(to)) = (id.get_i32("partition"), next_offset(event))
                else {
                    continue;
                };
                let from = last_places.insert(partition, to).unwrap_or(0);
                if to < from {
                    let message = format!("the checkpoint went from {from} to {to}");
                    walk.fault(Rule::Transaction, &partition.to_string(), message);
                }
            }
            (DEAD_LETTERS, _) => walk.letter(event),
            (_, Some(Bson::String(id))) => {
                walk.write(event, id);
                if !transaction(event).is_some_and(|found| moving.contains(&found)) {
                    let message = "written by no transaction that moves a checkpoint".to_owned();
                    walk.fault(Rule::Transaction, id, message);
                }
            }
            _ => {}
        }
    }
    for (id, last) in &compacted.produced {
        let due = (1..=*last)
            .rev()
            .find(|revision| !walk.is_refused(id, *revision));
        let found = walk.revisions.get(id).copied();
        if found != due {
            let message = format!("is at revision {found:?}, the last one is {due:?}");
            walk.fault(Rule::Documents, id, message);
        }
    }
    for (partition, end) in compacted.ends.iter().filter(|(_, end)| **end > 0) {
        let found = last_places.get(partition);
        if found != Some(end) {
            let message = format!("stands at {found:?}, the log ends at {end}");
            walk.fault(Rule::Checkpoints, &partition.to_string(), message);
        }
    }
    walk.violations
}

#[derive(Default)]
struct Walk {
    revisions: BTreeMap<String, i64>,
    refused: BTreeSet<(String, i64)>,
    violations: Vec<Violation>,
}

impl Walk {
    fn fault(&mut self, rule: Rule, of: &str, message: String) {
        let violation = Violation::new(rule, format!("of the compacted topic: {message}"));
        self.violations.push(violation.of(of));
    }

    /// A write of an entity: the next revision that there is.
    fn write(&mut self, event: &Document, id: &str) {
        let update = event.get_document("updateDescription");
        let fields = (event.get_document("fullDocument"))
            .or_else(|_| update.and_then(|update| update.get_document("updatedFields")));
        let revision = |name| match fields.as_ref().ok()?.get(name)? {
            Bson::Int32(revision) => Some(i64::from(*revision)),
            Bson::Int64(revision) => Some(*revision),
            _ => None,
        };
        let (Some(revision), Some(echo)) = (revision("revision"), revision("echo")) else {
            return self.fault(
                Rule::Order,
                id,
                "no whole state of it was written".to_owned(),
            );
        };
        let before = self.revisions.insert(id.to_owned(), revision).unwrap_or(0);
        if revision <= before || echo != revision {
            let message = format!("went from revision {before} to {revision}, with echo {echo}");
            self.fault(Rule::Order, id, message);
        }
    }

    /// A letter of a record that the server refused; there is no reason for others.
    fn letter(&mut self, event: &Document) {
        let Ok(letter) = event.get_document("fullDocument") else {
            return;
        };
        let value = letter
            .get_binary_generic("value")
            .map(|value| serde_json::from_slice::<serde_json::Value>(value).unwrap_or_default());
        let value = value.unwrap_or_default();
        match (
            refusal(letter),
            value["id"].as_str(),
            value["revision"].as_i64(),
        ) {
            (Some(_), Some(id), Some(revision)) => {
                self.refused.insert((id.to_owned(), revision));
            }
            _ => self.fault(Rule::DeadLetters, "a letter", letter.to_string()),
        }
    }

    fn is_refused(&self, id: &str, revision: i64) -> bool {
        self.refused.contains(&(id.to_owned(), revision))
    }
}

fn collection(event: &Document) -> &str {
    let ns = event.get_document("ns");
    ns.and_then(|ns| ns.get_str("coll")).unwrap_or_default()
}

fn transaction(event: &Document) -> Option<String> {
    Some(format!(
        "{} {}",
        event.get("lsid")?,
        event.get("txnNumber")?
    ))
}

fn next_offset(event: &Document) -> Option<i64> {
    let whole = event.get_document("fullDocument").ok();
    let set = event.get_document("updateDescription").ok();
    let set = set.and_then(|update| update.get_document("updatedFields").ok());
    whole.or(set)?.get_i64("next_offset").ok()
}
