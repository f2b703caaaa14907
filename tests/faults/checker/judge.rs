//! Holds the transactions of one partition against what its records must come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use super::change::{Change, Entity, State, state};
use super::excerpt;
use super::letters;
use super::timeline::{Stand, Step, Timeline};
use super::violation::{Rule, Violation};
use super::walk::{Applied, Segment, line};
use super::{Evidence, Settings};

/// What does not hold of a partition's transactions; of each entity the first fault alone.
pub fn judge(
    evidence: &Evidence,
    partition: i32,
    segments: &[Segment],
    timeline: &Timeline<'_>,
) -> Vec<Violation> {
    let mut judge = Judge {
        settings: &evidence.settings,
        partition,
        segments,
        timeline,
        observed: HashMap::new(),
        faulty: BTreeSet::new(),
        violations: Vec::new(),
    };
    for (index, segment) in segments.iter().enumerate() {
        for applied in &segment.applied {
            let steps = timeline.steps_of(index, applied.from..applied.to);
            judge.writes(applied, &steps);
            judge.letters(applied, &timeline.steps[steps]);
        }
    }
    judge.violations
}

struct Judge<'e> {
    settings: &'e Settings,
    partition: i32,
    segments: &'e [Segment],
    timeline: &'e Timeline<'e>,
    /// The state of each entity that a transaction has written.
    observed: HashMap<&'e Entity, State>,
    /// Entities of which a fault is known.
    faulty: BTreeSet<Entity>,
    violations: Vec<Violation>,
}

impl<'e> Judge<'e> {
    /// Each entity ends where the covered records lead, and on the way goes through their states in
    /// order.
    fn writes(&mut self, applied: &'e Applied, steps: &Range<usize>) {
        let mut written: BTreeMap<&Entity, Vec<&'e Change>> = BTreeMap::new();
        for change in &applied.writes {
            written.entry(&change.entity).or_default().push(change);
            self.observed.insert(&change.entity, change.state);
        }
        let covered: BTreeSet<&Entity> = (self.timeline.steps[steps.clone()].iter())
            .flat_map(|step| &step.entities)
            .collect();
        for (entity, changes) in &written {
            let stands = self.timeline.entities.get(*entity);
            let stands = stands.map_or(&[][..], Vec::as_slice);
            let last = changes.last().and_then(|change| change.state);
            if !covered.contains(*entity) {
                let what = classify(stands, last, steps.start);
                let message =
                    format!("written by a transaction that covers no record of it: {what}");
                self.fault(Rule::Transaction, entity, applied, message);
            } else if let Some(change) = out_of_order(stands, changes, steps) {
                let what = classify(stands, change.state, steps.start);
                self.fault(Rule::Order, entity, applied, what);
            }
        }
        for entity in covered {
            let due = self.timeline.state_before(entity, steps.end);
            let found = self.observed.get(entity).copied().flatten();
            if found == due {
                continue;
            }
            let stands = &self.timeline.entities[entity];
            let what = classify(stands, found, steps.end);
            match written.contains_key(entity) {
                true => self.fault(Rule::Order, entity, applied, what),
                false => {
                    let message =
                        format!("covered by a transaction that does not write it; it stays {what}");
                    self.fault(Rule::Transaction, entity, applied, message);
                }
            }
        }
    }

    /// Exactly the rejected records become dead letters.
    fn letters(&mut self, applied: &Applied, steps: &[Step<'_>]) {
        let mut due = BTreeMap::new();
        for step in steps {
            if let Some(reason) = step.rejected {
                let id = letters::id(self.settings, self.partition, step);
                let letter = letters::letter(self.settings, self.partition, step, reason);
                due.insert(id.to_string(), (step, letter));
            }
        }
        for change in &applied.letters {
            let document = change.document.1.as_deref();
            let id = document.and_then(|letter| letter.get_document("_id").ok());
            let expected = id.and_then(|id| due.remove(&id.to_string()));
            let message = match (expected, document) {
                (Some((_, expected)), Some(found)) => {
                    match letters::comparable(found).map(|found| state(&found)) {
                        Some(found) if found == state(&expected) => continue,
                        _ => "a dead letter that does not say what was rejected",
                    }
                }
                _ => "a dead letter of no rejected record that the transaction covers",
            };
            let violation = Violation::new(Rule::Transaction, message)
                .at(self.partition, applied.from)
                .of(change.entity.to_string());
            self.violations.push(violation.showing(vec![line(change)]));
        }
        for (step, _) in due.values() {
            let message = format!(
                "rejected ({:?}) and covered, but the transaction {}..{} has no dead letter of it",
                step.rejected, applied.from, applied.to
            );
            let violation = Violation::new(Rule::Transaction, message);
            self.violations
                .push(violation.at(self.partition, step.record.offset));
        }
    }

    fn fault(&mut self, rule: Rule, entity: &Entity, applied: &Applied, message: String) {
        if self.faulty.insert(entity.clone()) {
            let violation = Violation::new(rule, message)
                .at(self.partition, applied.from)
                .of(entity.to_string());
            let history = excerpt::of(entity, self.segments, self.timeline, applied);
            self.violations.push(violation.showing(history));
        }
    }
}

/// The first of the changes whose state is none that the steps lead to, in their order.
fn out_of_order<'c>(
    stands: &[Stand],
    changes: &[&'c Change],
    steps: &Range<usize>,
) -> Option<&'c Change> {
    let mut ahead = stands.iter().filter(|stand| steps.contains(&stand.step));
    changes
        .iter()
        .find(|change| !ahead.any(|stand| stand.state == change.state))
        .copied()
}

/// What a state is, to one who expected that of just before `step`.
fn classify(stands: &[Stand], found: State, step: usize) -> String {
    let earlier = stands
        .iter()
        .rfind(|stand| stand.step < step && stand.state == found);
    let later = stands
        .iter()
        .find(|stand| stand.step >= step && stand.state == found);
    match (earlier, later) {
        (Some(stand), _) => format!("an older state ({})", stand.shown),
        (None, Some(stand)) => format!("a state that is not due yet ({})", stand.shown),
        (None, None) if found.is_none() => "absent".to_owned(),
        (None, None) => "a state that no records lead to: a mixture".to_owned(),
    }
}
