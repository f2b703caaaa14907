//! Topics and partitions that were there, and are no more. librdkafka keeps what it was assigned.

use std::collections::{BTreeMap, HashMap};

use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How many looks in a row must agree: a broker that is behind may know less, or an older topic.
pub(super) const AGREED_LOOKS: u32 = 4;

/// Why a new consumer takes the place of the one in use: it is assigned what there is.
pub(super) const VANISHED: &str = "the topic, or some of its partitions, no longer exist";

/// How many partitions each topic has, 0 for one that does not exist.
#[derive(Debug)]
pub(super) struct PartitionCounts(HashMap<String, Count>);

#[derive(Debug)]
struct Count {
    /// What was agreed last.
    agreed: usize,
    /// What the last look found, and how many in a row did.
    seen: usize,
    looks: u32,
}

/// A number of partitions that changed, and has been found for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    was: usize,
    is: usize,
}

impl PartitionCounts {
    /// Those that each topic had at the start.
    pub(super) fn of(partitions: &BTreeMap<String, i32>) -> PartitionCounts {
        let count = |(topic, partitions): (&String, &i32)| {
            let agreed = usize::try_from(*partitions).unwrap_or_default();
            let (seen, looks) = (agreed, 0);
            let count = Count {
                agreed,
                seen,
                looks,
            };
            (topic.clone(), count)
        };
        PartitionCounts(partitions.iter().map(count).collect())
    }

    /// Takes note of a look; gives a change once.
    pub(super) fn look(&mut self, topic: &str, seen: usize) -> Option<Change> {
        let count = self.0.get_mut(topic)?;
        count.looks = match count.seen == seen {
            true => count.looks.saturating_add(1),
            false => 1,
        };
        count.seen = seen;
        if seen == count.agreed || count.looks < AGREED_LOOKS {
            return None;
        }
        let was = std::mem::replace(&mut count.agreed, seen);
        Some(Change { was, is: seen })
    }
}

impl Change {
    /// Says it in the log, in the metrics and to `/readyz`. `true` where what is gone may still be
    /// assigned.
    pub(super) fn report(self, topic: &str, metrics: &Metrics, health: &Health) -> bool {
        let Change { was, is } = self;
        metrics.topic_partitions(topic, is);
        health.note_absent_topic(topic, is == 0);
        match (was, is) {
            (_, 0) => tracing::warn!(
                code = %Code::TopicGone, topic, partitions = was,
                "the topic no longer exists: waiting until it is there again"
            ),
            (0, _) => tracing::info!(topic, partitions = is, "the topic is there again"),
            _ if is < was => tracing::warn!(
                code = %Code::TopicGone, topic, was, is,
                "the topic has fewer partitions than before"
            ),
            _ => tracing::info!(topic, was, is, "the topic has more partitions"),
        }
        is < was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_when_it_has_been_found_for_a_while() {
        let mut counts = PartitionCounts::of(&BTreeMap::from([("t".to_owned(), 12)]));
        let mut look = |seen| counts.look("t", seen);
        for seen in [12, 12, 0, 0, 0, 12, 0, 0, 0] {
            assert_eq!(look(seen), None, "it may be a broker that is behind");
        }
        assert_eq!(look(0), Some(Change { was: 12, is: 0 }));
        for seen in [0, 0, 0, 0, 0, 6, 6, 6] {
            assert_eq!(look(seen), None, "once for each");
        }
        assert_eq!(look(6), Some(Change { was: 0, is: 6 }));
    }
}
