//! What is held to a bound: committed offsets, memory, exits, recoveries.

use std::collections::BTreeMap;

use super::violation::{Rule, Violation};
use super::{Evidence, Exit};

/// No committed offset passed its checkpoint. What the group had committed in a topic that was
/// deleted may stand for a while beside the fresh lineage's checkpoint.
pub fn committed(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    // By partition: the topic id seen last, and whether the committed offset may be a leftover.
    let mut seen = BTreeMap::new();
    for sample in &evidence.samples {
        let Some(committed) = sample.committed else {
            continue;
        };
        let topic_id = sample.checkpoint.and_then(|(topic_id, _)| topic_id);
        let (was, is_leftover) = seen.entry(sample.partition).or_insert((topic_id, false));
        if was.is_some() && topic_id.is_some() && *was != topic_id {
            *is_leftover = true;
        }
        *was = topic_id.or(*was);
        let next_offset = sample.checkpoint.map(|(_, next_offset)| next_offset);
        if next_offset.is_some_and(|next_offset| committed <= next_offset) {
            *is_leftover = false;
        } else if !*is_leftover {
            let checkpoint = next_offset
                .map_or("there is no checkpoint".to_owned(), |next_offset| {
                    format!("the checkpoint, read afterwards, stands at {next_offset}")
                });
            let message = format!(
                "{committed} is committed; {checkpoint} (at {} ms)",
                sample.at_ms
            );
            let violation = Violation::new(Rule::Committed, message);
            violations.push(violation.at(sample.partition, committed));
        }
    }
    violations
}

/// No worker passed its budget or ended by itself.
pub fn workers(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for worker in &evidence.workers {
        if worker.peak_bytes > worker.budget_bytes {
            let message = format!(
                "{} peaked at {} MiB, its budget is {} MiB",
                worker.name,
                worker.peak_bytes >> 20,
                worker.budget_bytes >> 20
            );
            violations.push(Violation::new(Rule::Memory, message));
        }
        if let Exit::Unexpected(how) = &worker.exit {
            let message = format!("{} ended by itself: {how}", worker.name);
            violations.push(Violation::new(Rule::Exit, message));
        }
    }
    violations
}

/// Each recovery stayed within its bound.
pub fn recoveries(evidence: &Evidence) -> Vec<Violation> {
    let late = evidence
        .recoveries
        .iter()
        .filter(|recovery| recovery.took.is_none_or(|took| took > recovery.bound));
    let violation = |recovery: &super::Recovery| {
        let took = match recovery.took {
            Some(took) => format!("took {took:?}"),
            None => "never came".to_owned(),
        };
        let message = format!(
            "{} {took}, its bound is {:?}",
            recovery.what, recovery.bound
        );
        Violation::new(Rule::Recovery, message)
    };
    late.map(violation).collect()
}
