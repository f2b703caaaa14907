//! What is there in the end, against what the log comes to.

use std::collections::{BTreeMap, HashMap};

use bson::{Bson, Document};
use workflows_sink::checkpoint::Checkpoint;

use super::change::{Entity, Replay, State, state};
use super::timeline::{Timeline, refusal};
use super::violation::{Rule, Violation};
use super::walk::{key, lineage_of};
use super::{CHECKPOINTS, DEAD_LETTERS, Evidence, Record, letters};

/// Every record that the broker acknowledged is in the log.
pub fn acknowledged(evidence: &Evidence) -> Vec<Violation> {
    let log = |lineage: usize, partition| {
        evidence
            .log
            .lineages
            .get(lineage)
            .and_then(|lineage| lineage.partitions.get(&partition))
    };
    let missing = evidence.acknowledged.iter().filter_map(|acknowledged| {
        let records =
            log(acknowledged.lineage, acknowledged.partition).map_or(&[][..], |log| &log.records);
        let is_it = |record: &&Record| {
            super::digest(record.key.as_deref(), record.value.as_deref()) == acknowledged.digest
        };
        let found = match acknowledged.offset {
            Some(offset) => records
                .binary_search_by_key(&offset, |record| record.offset)
                .ok()
                .map(|index| &records[index]),
            None => records.iter().find(is_it),
        };
        let message = match found {
            None => "acknowledged, but not in the log",
            Some(record) if !is_it(&record) => {
                "another record than the acknowledged one stands there"
            }
            Some(_) => return None,
        };
        let violation = Violation::new(Rule::Acknowledged, message);
        Some(violation.at(acknowledged.partition, acknowledged.offset))
    });
    missing.collect()
}

/// The documents are those that the records lead to.
pub fn documents(evidence: &Evidence, timelines: &BTreeMap<i32, Timeline<'_>>) -> Vec<Violation> {
    let mut found: HashMap<Entity, State> = (evidence.documents.iter())
        .filter(|(collection, _)| !evidence.settings.ignored_collections.contains(collection))
        .map(|(collection, document)| {
            (
                Entity::new(collection, document.get("_id")),
                Some(state(document)),
            )
        })
        .collect();
    let mut violations = Vec::new();
    for (partition, timeline) in timelines {
        for (entity, stands) in &timeline.entities {
            let Some(last) = stands.last() else { continue };
            let found = found.remove(entity).flatten();
            if found == last.state {
                continue;
            }
            let older = stands.iter().rfind(|stand| stand.state == found);
            let message = match (found, older) {
                (None, _) => format!("is not there; the log leads to: {}", last.shown),
                (Some(_), Some(older)) => {
                    format!(
                        "stayed at {}; the log leads to: {}",
                        older.shown, last.shown
                    )
                }
                (Some(_), None) => {
                    format!("is no state of the log, which leads to: {}", last.shown)
                }
            };
            let offset = timeline.steps[last.step].record.offset;
            let violation = Violation::new(Rule::Documents, message);
            violations.push(violation.at(*partition, offset).of(entity.to_string()));
        }
    }
    let extra = found.into_keys().map(|entity| {
        Violation::new(Rule::Documents, "is there, but no record leads to it")
            .of(entity.to_string())
    });
    violations.extend(extra);
    violations
}

/// The dead letters are those of the rejected records.
pub fn dead_letters(
    evidence: &Evidence,
    timelines: &BTreeMap<i32, Timeline<'_>>,
) -> Vec<Violation> {
    let shown = |letter: &Document| letter.get("_id").map(Bson::to_string).unwrap_or_default();
    let mut found: BTreeMap<String, &Document> = (evidence.dead_letters.iter())
        .map(|letter| (shown(letter), letter))
        .collect();
    let mut violations = Vec::new();
    for (partition, timeline) in timelines {
        for step in &timeline.steps {
            let Some(reason) = step.rejected else {
                continue;
            };
            let expected = letters::letter(&evidence.settings, *partition, step, reason);
            let message = match found.remove(&shown(&expected)) {
                None => format!("rejected ({}), but not there", reason.as_str()),
                Some(letter) => match letters::comparable(letter) {
                    Some(letter) if state(&letter) == state(&expected) => continue,
                    _ => format!("does not say what was rejected ({})", reason.as_str()),
                },
            };
            let violation = Violation::new(Rule::DeadLetters, message);
            violations.push(violation.at(*partition, step.record.offset));
        }
    }
    for (id, letter) in found {
        let refused = refusal(letter).map_or(String::new(), |code| format!(", code {code}"));
        let message = format!(
            "is there, but no record was rejected: {}{refused}",
            letter.get_str("reason").unwrap_or("no reason")
        );
        violations.push(Violation::new(Rule::DeadLetters, message).of(id));
    }
    violations
}

/// The checkpoints stand at the ends of the last log.
pub fn checkpoints(evidence: &Evidence) -> Vec<Violation> {
    let mut found: BTreeMap<i32, Checkpoint> = BTreeMap::new();
    let mut violations = Vec::new();
    for document in &evidence.checkpoints {
        match (key(evidence, document), Checkpoint::read(document)) {
            (Some(partition), Ok(checkpoint)) => drop(found.insert(partition, checkpoint)),
            _ => violations.push(Violation::new(
                Rule::Checkpoints,
                format!("not one of this group and topic: {document}"),
            )),
        }
    }
    let lineages = &evidence.log.lineages;
    let last = lineages
        .last()
        .map(|l| l.partitions.clone())
        .unwrap_or_default();
    for (partition, log) in &last {
        let at =
            |message: String| Violation::new(Rule::Checkpoints, message).at(*partition, log.end);
        match found.remove(partition) {
            None if log.start == log.end => {}
            None => violations.push(at("there is none".to_owned())),
            Some(found) => {
                let lineage = lineage_of(evidence, found.topic_id);
                if lineage.is_some_and(|lineage| lineage + 1 != lineages.len()) {
                    violations.push(at("it is still that of a topic that was deleted".to_owned()));
                }
                if found.truncated {
                    violations.push(at(
                        "it is marked as truncated: the partition stopped".to_owned()
                    ));
                }
                if found.next_offset != log.end {
                    let message = format!(
                        "it stands at {}, the log ends at {}",
                        found.next_offset, log.end
                    );
                    violations.push(at(message));
                }
            }
        }
    }
    let known = |partition: &i32| {
        lineages
            .iter()
            .any(|l| l.partitions.contains_key(partition))
    };
    for partition in found.into_keys().filter(|partition| !known(partition)) {
        let violation = Violation::new(Rule::Checkpoints, "there is no such partition");
        violations.push(violation.at(partition, None));
    }
    violations
}

/// The change stream leads to what was read in the end; else one of them is not the whole truth.
pub fn agree(evidence: &Evidence, replay: &Replay) -> Vec<Violation> {
    let ours = |name: &'static str| move |document| (name.to_owned(), document);
    let read = (evidence
        .documents
        .iter()
        .map(|(name, document)| (name.clone(), document)))
    .chain(evidence.dead_letters.iter().map(ours(DEAD_LETTERS)))
    .chain(evidence.checkpoints.iter().map(ours(CHECKPOINTS)));
    let is_judged =
        |collection: &String| !evidence.settings.ignored_collections.contains(collection);
    let mut read: HashMap<Entity, u64> = read
        .filter(|(collection, _)| is_judged(collection))
        .map(|(collection, document)| {
            (
                Entity::new(&collection, document.get("_id")),
                state(document),
            )
        })
        .collect();
    let streamed = replay
        .documents
        .iter()
        .filter(|(entity, _)| is_judged(&entity.collection));
    let mut differ: Vec<Entity> = streamed
        .filter(|(entity, document)| read.remove(entity) != Some(state(document)))
        .map(|(entity, _)| entity.clone())
        .collect();
    differ.extend(read.into_keys());
    differ.sort();
    let violation = |entity: Entity| {
        Violation::new(
            Rule::Evidence,
            "the change stream does not end with what was read in the end",
        )
        .of(entity.to_string())
    };
    differ.into_iter().map(violation).collect()
}
