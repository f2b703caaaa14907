//! Puts the rules together.

use std::collections::{BTreeMap, BTreeSet};

use bson::Uuid;

use super::change::Replay;
use super::timeline::{Timeline, refused, stretches, timeline};
use super::violation::{Rule, Violation};
use super::walk::{Applied, Segment, walk};
use super::{Evidence, bounds, compacted, finals, judge, shown as shown_by, spared};

/// How many violations of one rule are shown; the others are counted.
const TOLD_MAX: usize = 5;

/// What of the promise did not hold, nothing if all did.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut replay = Replay::default();
    let (changes, mut violations) = replay.changes(&evidence.events);
    violations.extend(finals::agree(evidence, &replay));
    drop(replay);
    let walked = walk(evidence, &changes);
    violations.extend(walked.violations);

    let refused = refused(evidence);
    let lineages = &evidence.log.lineages;
    let partitions = lineages
        .iter()
        .flat_map(|lineage| lineage.partitions.keys());
    let partitions: BTreeSet<i32> = partitions
        .chain(walked.partitions.keys())
        .copied()
        .collect();
    let mut timelines = BTreeMap::new();
    for partition in partitions {
        let segments = walked.partitions.get(&partition);
        let segments = segments.map_or(&[][..], Vec::as_slice);
        let (timeline, faults) = explain(evidence, partition, segments, &refused);
        violations.extend(faults);
        timelines.insert(partition, timeline);
    }
    violations.extend(strays(&timelines));
    violations.extend(finals::acknowledged(evidence));
    violations.extend(finals::documents(evidence, &timelines));
    violations.extend(finals::dead_letters(evidence, &timelines));
    violations.extend(finals::checkpoints(evidence));
    violations.extend(bounds::committed(evidence));
    violations.extend(bounds::workers(evidence));
    violations.extend(bounds::recoveries(evidence));
    violations.extend(spared::spared(evidence, &walked.partitions));
    violations.extend(shown_by::looks(evidence));
    violations.extend(shown_by::alive(evidence));
    let second = evidence.compacted.as_ref();
    violations.extend(second.into_iter().flat_map(compacted::compacted));
    let applied = timelines.values().map(|timeline| timeline.steps.len());
    let applied = applied.sum::<usize>() + second.map_or(0, |second| second.records);
    violations.extend(shown_by::counted(evidence, applied));
    shown(violations)
}

/// A partition's timeline and what does not hold of its transactions. Where the topic was
/// recreated, a worker may have read on in the new log before it noticed: from the offset on that
/// explains the history best.
fn explain<'e>(
    evidence: &'e Evidence,
    partition: i32,
    segments: &[Segment],
    refused: &BTreeSet<(Option<Uuid>, i32, i64)>,
) -> (Timeline<'e>, Vec<Violation>) {
    let with = |cuts: &BTreeMap<usize, i64>| {
        let stretches = stretches(&evidence.log, partition, segments, cuts);
        let timeline = timeline(evidence, partition, &stretches, refused);
        let faults = judge::judge(evidence, partition, segments, &timeline);
        (timeline, faults)
    };
    let mut cuts = BTreeMap::new();
    let mut best = with(&cuts);
    for (index, pair) in segments.windows(2).enumerate() {
        if pair[0].lineage == pair[1].lineage {
            continue;
        }
        // The first transaction at fault is the one that read across.
        let is_faulty = |applied: &&Applied| {
            let covers = |offset| (applied.from..applied.to).contains(&offset);
            best.1.iter().filter_map(|fault| fault.offset).any(covers)
        };
        let Some(across) = pair[0].applied.iter().find(is_faulty) else {
            continue;
        };
        let tried = (across.from..across.to).map(|cut| {
            cuts.insert(index, cut);
            (cut, with(&cuts))
        });
        let Some((cut, found)) = tried.min_by_key(|(_, (_, faults))| faults.len()) else {
            continue;
        };
        cuts.remove(&index);
        if found.1.len() < best.1.len() {
            cuts.insert(index, cut);
            best = found;
        }
    }
    best
}

/// Entities of two partitions: between those there is no order that could be judged.
fn strays(timelines: &BTreeMap<i32, Timeline<'_>>) -> Vec<Violation> {
    let mut homes = BTreeMap::new();
    let mut strays = Vec::new();
    for (partition, timeline) in timelines {
        for entity in timeline.entities.keys() {
            if let Some(home) = homes.insert(entity, *partition) {
                let message =
                    format!("has records in partition {home} too: its order cannot be judged");
                let violation = Violation::new(Rule::Evidence, message).at(*partition, None);
                strays.push(violation.of(entity.to_string()));
            }
        }
    }
    strays
}

/// The first violations of each rule, and how many more there are.
fn shown(violations: Vec<Violation>) -> Vec<Violation> {
    let mut by_rule: BTreeMap<Rule, Vec<Violation>> = BTreeMap::new();
    for violation in violations {
        by_rule.entry(violation.rule).or_default().push(violation);
    }
    for violations in by_rule.values_mut() {
        let more = violations.len().saturating_sub(TOLD_MAX);
        violations.truncate(TOLD_MAX);
        if let Some(last) = violations.last_mut().filter(|_| more > 0) {
            last.history
                .push(format!("and {more} more of the same rule"));
        }
    }
    by_rule.into_values().flatten().collect()
}
