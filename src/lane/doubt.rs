//! What speaks against a checkpoint, and does not count yet: a broker that is cut off from its
//! controllers still answers, with what was true once.

use std::time::{Duration, Instant};

use bson::Uuid;

use crate::record::Position;
use crate::telemetry::reminder::Reminder;

/// For how long the same evidence has to stand: a broker loses its leaderships nine seconds after
/// the controllers last heard of it (`broker.session.timeout.ms`).
pub(super) const CONFIRMED_AFTER: Duration = Duration::from_secs(10);

/// For how long a leader of the past has to be the only one that answers before Kafka itself counts
/// as restored to what it was: a broker that is cut off is found out long before, with fresh
/// metadata.
pub(super) const RESTORED_AFTER: Duration = Duration::from_secs(300);

/// How often it has to be seen in that time: brokers are asked in turn.
const LOOKS_MIN: u32 = 3;

/// What speaks against a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The log ends before the checkpoint.
    PastTheEnd,
    /// The log has other records before this position.
    Diverged(Position),
    /// The batch of records at this offset cannot be read.
    Unreadable(i64),
    /// The topic has this id, which is not the checkpoint's.
    Recreated(Uuid),
    /// Who answers knows less than the checkpoint does.
    Stale,
}

/// The evidence against one partition's checkpoint.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    evidence: Evidence,
    since: Instant,
    looks: u32,
    reminder: Reminder,
}

impl Doubt {
    /// Notes that a look found `evidence`; other evidence is forgotten.
    pub(super) fn add(&mut self, evidence: Evidence) {
        self.add_at(Instant::now(), evidence);
    }

    /// Whether `evidence` has stood for long enough to count.
    pub(super) fn confirms(&self, evidence: Evidence) -> bool {
        self.has_stood_at(Instant::now(), evidence, CONFIRMED_AFTER)
    }

    /// Whether `evidence` has stood for as long as `span`.
    pub(super) fn has_stood(&self, evidence: Evidence, span: Duration) -> bool {
        self.has_stood_at(Instant::now(), evidence, span)
    }

    /// Whether a line about the evidence that is held is due.
    pub(super) fn is_to_be_told(&mut self) -> bool {
        let held = self.held.as_mut();
        held.is_some_and(|held| held.reminder.is_due(""))
    }

    /// Whether the last look found `evidence`.
    pub(super) fn holds(&self, evidence: Evidence) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.evidence == evidence)
    }

    /// Whether nothing speaks against the checkpoint.
    pub(super) fn is_none(&self) -> bool {
        self.held.is_none()
    }

    /// Forgets the evidence: a look found that all is well.
    pub(super) fn clear(&mut self) {
        self.held = None;
    }

    fn add_at(&mut self, now: Instant, evidence: Evidence) {
        match &mut self.held {
            Some(held) if held.evidence == evidence => held.looks += 1,
            _ => {
                self.held = Some(Held {
                    evidence,
                    since: now,
                    looks: 1,
                    reminder: Reminder::default(),
                });
            }
        }
    }

    fn has_stood_at(&self, now: Instant, evidence: Evidence, span: Duration) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.evidence == evidence
                && held.looks >= LOOKS_MIN
                && now.saturating_duration_since(held.since) >= span
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stood(doubt: &Doubt, now: Instant, evidence: Evidence) -> bool {
        doubt.has_stood_at(now, evidence, CONFIRMED_AFTER)
    }

    #[test]
    fn evidence_counts_once_it_has_been_seen_often_and_for_long() {
        let (mut doubt, first) = (Doubt::default(), Instant::now());
        let late = first + CONFIRMED_AFTER;
        doubt.add_at(first, Evidence::PastTheEnd);
        doubt.add_at(late, Evidence::PastTheEnd);
        assert!(!stood(&doubt, late, Evidence::PastTheEnd), "seen twice");
        doubt.add_at(late, Evidence::PastTheEnd);
        assert!(stood(&doubt, late, Evidence::PastTheEnd));
        let early = late - Duration::from_millis(1);
        assert!(!stood(&doubt, early, Evidence::PastTheEnd));
        let other = Evidence::Diverged(Position::default());
        assert!(!stood(&doubt, late, other));
    }

    #[test]
    fn what_contradicts_it_begins_anew() {
        let (mut doubt, first) = (Doubt::default(), Instant::now());
        let late = first + CONFIRMED_AFTER;
        let (one, other) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        for _ in 0..LOOKS_MIN {
            doubt.add_at(first, Evidence::Recreated(one));
        }
        assert!(stood(&doubt, late, Evidence::Recreated(one)));
        doubt.add_at(late, Evidence::Recreated(other));
        assert!(!stood(&doubt, late, Evidence::Recreated(one)));
        doubt.clear();
        assert!(doubt.is_none());
        assert!(!doubt.is_to_be_told(), "there is nothing");
        doubt.add_at(first, Evidence::Stale);
        assert!(doubt.is_to_be_told());
        assert!(!doubt.is_to_be_told(), "not at each look");
    }
}
