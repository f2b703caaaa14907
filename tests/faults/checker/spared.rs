//! What a fault leaves healthy goes on while it lasts.

use std::collections::{BTreeMap, BTreeSet};

use super::Evidence;
use super::violation::{Rule, Violation};
use super::walk::Segment;

/// How long a healthy partition may take to apply a record; the machine is busy.
const APPLIED_WITHIN_MS: i64 = 3_500;

/// Partitions that a fault does not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// By what.
    pub what: String,
    /// When it began, in milliseconds since 1970.
    pub from_ms: i64,
    /// When it was over.
    pub until_ms: i64,
    /// The partitions, of the topic as it was made last.
    pub partitions: BTreeSet<i32>,
}

/// The first record that was produced to each of them was applied before the fault was over, where
/// there was time to.
pub fn spared(evidence: &Evidence, walked: &BTreeMap<i32, Vec<Segment>>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for spared in &evidence.spared {
        for partition in &spared.partitions {
            let found = late(evidence, spared, *partition, walked);
            violations.extend(found.map(|offset| {
                let message = format!("stood still during {}, which spared it", spared.what);
                Violation::new(Rule::Progress, message).at(*partition, offset)
            }));
        }
    }
    violations
}

/// The record that was not applied in time.
fn late(
    evidence: &Evidence,
    spared: &Spared,
    partition: i32,
    walked: &BTreeMap<i32, Vec<Segment>>,
) -> Option<i64> {
    let produced = spared.from_ms..spared.until_ms - APPLIED_WITHIN_MS;
    let (lineage, first) =
        (evidence.log.lineages.iter().enumerate()).find_map(|(index, log)| {
            let records = &log.partitions.get(&partition)?.records;
            let is_during = |at_ms: i64| produced.contains(&at_ms);
            let first =
                (records.iter()).find(|record| record.timestamp_ms.is_some_and(is_during))?;
            Some((index, first.offset))
        })?;
    let segments = walked.get(&partition).map_or(&[][..], Vec::as_slice);
    let applied = (segments.iter())
        .filter(|segment| segment.lineage == lineage)
        .flat_map(|segment| &segment.applied)
        .find(|applied| (applied.from..applied.to).contains(&first));
    let in_time = applied.is_some_and(|applied| applied.at_ms <= spared.until_ms);
    (!in_time).then_some(first)
}
