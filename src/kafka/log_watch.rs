//! Asks the leaders where the logs end, apart from what is fetched: what is fetched says nothing of
//! a log that is fetched no more, nor of what stands behind an open transaction.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::log_ends::{LogEnds, log_ends};
use super::{Handle, Progress};
use crate::record::Partition;
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reminder::Reminder;

/// How often the leaders are asked.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long one question may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// How many looks in a row must find that nothing was delivered before the partition is assigned
/// anew.
const STALLED_LOOKS: u32 = 3;

/// How often in a row a partition is assigned anew, each time after twice as many looks, before a
/// new consumer is to help: that costs a rebalance.
const STALLS_MAX: u32 = 1;

/// How long at least the first new consumer has to help before there is another one; each time
/// twice as long.
const RENEWED_MIN: Duration = Duration::from_secs(120);

/// How long at most.
const RENEWED_MAX: Duration = Duration::from_secs(3_600);

/// How many must find that a transaction is open before this is logged.
const HELD_LOOKS: u32 = 6;

/// How many looks in a row its leader must leave unanswered before that is told: an election is
/// over sooner.
const SILENT_LOOKS: u32 = 3;

/// What the looks at one partition found.
#[derive(Debug, Default)]
struct Looks {
    /// What was taken in at the last look.
    taken: Option<i64>,
    /// The last stable offset at the last look.
    stable_end: i64,
    /// How many looks in a row found nothing delivered though there was something.
    stalled: u32,
    /// How often in a row it was assigned anew for that.
    stalls: u32,
    /// How many found the same open transaction.
    held: u32,
    /// How many in a row its leader has left unanswered.
    silent: u32,
}

/// What a look calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// Nothing.
    Fine,
    /// The log has gone on, and nothing is delivered: it has to be assigned anew.
    Stalled,
    /// That did not help.
    Lost,
    /// A transaction has been open for long, and holds back what stands behind it.
    Held,
    /// It still does, and was told of.
    StillHeld,
}

impl Looks {
    /// Takes note of a look. `waits`: whether the lane waits for records.
    fn add(&mut self, taken: Option<i64>, waits: bool, ends: &LogEnds) -> Finding {
        let stands = waits && taken.is_some() && taken == self.taken;
        // What was there at the last look had the time to come.
        let is_owed = taken.is_some_and(|taken| taken < self.stable_end.min(ends.stable_end));
        self.stalled = if stands && is_owed {
            self.stalled + 1
        } else {
            0
        };
        let is_held = ends.stable_end < ends.high_watermark;
        let is_same = is_held && ends.stable_end == self.stable_end;
        self.held = if is_same { self.held + 1 } else { 0 };
        (self.taken, self.stable_end) = (taken, ends.stable_end);
        if !is_owed {
            self.stalls = 0;
        }
        // Later each time: what is slow to come would never come if it were begun anew for ever.
        if self.stalled >= STALLED_LOOKS << self.stalls {
            self.stalled = 0;
            self.stalls += 1;
            if self.stalls > STALLS_MAX {
                self.stalls = 0;
                return Finding::Lost;
            }
            return Finding::Stalled;
        }
        match self.held.cmp(&HELD_LOOKS) {
            Ordering::Less => Finding::Fine,
            Ordering::Equal => Finding::Held,
            Ordering::Greater => Finding::StillHeld,
        }
    }
}

/// Why a new consumer is to take the place of the one in use.
const NOT_FETCHED: &str = "a partition is not fetched, and assigning it anew did not help";

/// When the consumer was replaced: what does not help is done later each time.
#[derive(Debug, Default)]
struct Renewals {
    last: Option<(Instant, Duration)>,
}

impl Renewals {
    fn is_due(&mut self, now: Instant) -> bool {
        let wait = match self.last {
            None => RENEWED_MIN,
            Some((at, wait)) if now.duration_since(at) < wait => return false,
            Some((at, _)) if now.duration_since(at) > RENEWED_MAX => RENEWED_MIN,
            Some((_, wait)) => (2 * wait).min(RENEWED_MAX),
        };
        self.last = Some((now, wait));
        true
    }
}

/// Looks at the logs of every partition that has a lane, without end.
pub async fn watch_logs(handle: Handle, metrics: Arc<Metrics>, health: Arc<Health>) {
    let mut looks: HashMap<Partition, Looks> = HashMap::new();
    let (mut renewals, mut reminder) = (Renewals::default(), Reminder::default());
    let mut silent = String::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(consumer) = handle.answering() else {
            continue;
        };
        let lanes = consumer.context().progress();
        looks.retain(|partition, _| {
            let is_ours = lanes.iter().any(|(lane, _)| lane == partition);
            if !is_ours {
                health.note_silent_leader(&partition.to_string(), None);
            }
            is_ours
        });
        let partitions: Vec<Partition> = lanes.iter().map(|(lane, _)| lane.clone()).collect();
        if partitions.is_empty() {
            continue;
        }
        let asked = tokio::task::spawn_blocking(move || {
            log_ends(consumer.client(), &partitions, LOOK_TIMEOUT)
        });
        let ends = match asked.await {
            Ok(Ok(ends)) => ends,
            Ok(Err(error)) => {
                let error = told(&error);
                tracing::debug!(error, "the leaders were not asked where the logs end");
                continue;
            }
            Err(error) => {
                tracing::error!(code = %Code::ClientFailed, %error, "the lookup of the logs' ends did not finish");
                continue;
            }
        };
        let mut leaders = Leaders::default();
        for ((partition, progress), ends) in lanes.into_iter().zip(ends) {
            let of_it = looks.entry(partition.clone()).or_default();
            match ends {
                Ok(ends) => {
                    if of_it.silent >= SILENT_LOOKS {
                        leaders.answering.push(partition.to_string());
                        health.note_silent_leader(&partition.to_string(), None);
                    }
                    of_it.silent = 0;
                    let finding = look_at(&partition, &progress, of_it, &ends, &metrics);
                    if finding == Finding::Lost && renewals.is_due(Instant::now()) {
                        handle.renew(NOT_FETCHED, None);
                    }
                }
                Err(error) => {
                    of_it.silent += 1;
                    if of_it.silent >= SILENT_LOOKS {
                        let error = told(&error);
                        // At each look, so that an alert lasts for as long as the silence.
                        metrics.errors("fetch", "silent_leader");
                        health.note_silent_leader(&partition.to_string(), Some(&error));
                        leaders.silent.push((partition.to_string(), error));
                    }
                }
            }
        }
        if leaders.silent_partitions() != silent {
            silent = leaders.silent_partitions();
            reminder = Reminder::default();
        }
        leaders.tell(&mut reminder);
    }
}

/// What one look finds of the leaders. Only some brokers may be out of reach: the others'
/// partitions go on.
#[derive(Default)]
struct Leaders {
    /// Partitions whose leader does not answer, and why.
    silent: Vec<(String, String)>,
    /// Those whose leader answers again.
    answering: Vec<String>,
}

impl Leaders {
    /// The partitions whose leader does not answer, in words.
    fn silent_partitions(&self) -> String {
        let silent = self.silent.iter().map(|(partition, _)| partition.as_str());
        silent.collect::<Vec<_>>().join(", ")
    }

    fn tell(&self, reminder: &mut Reminder) {
        if !self.answering.is_empty() {
            let partitions = self.answering.join(", ");
            tracing::info!(partitions, "the partition's leader answers again");
        }
        let Some((_, error)) = self.silent.first() else {
            return;
        };
        let partitions = self.silent_partitions();
        if reminder.is_due(error) {
            tracing::warn!(
                code = %Code::NothingDelivered, partitions, error,
                "the partition's leader does not answer this worker: nothing of it can be delivered"
            );
        }
    }
}

fn look_at(
    partition: &Partition,
    progress: &Progress,
    looks: &mut Looks,
    ends: &LogEnds,
    metrics: &Metrics,
) -> Finding {
    progress.log_ends(ends.high_watermark);
    let finding = looks.add(progress.taken(), progress.is_waiting(), ends);
    match finding {
        Finding::Fine => {}
        Finding::Lost => {
            metrics.errors("fetch", "stalled");
            tracing::warn!(
                code = %Code::NothingDelivered, %partition, next_offset = progress.taken(),
                log_end = ends.stable_end,
                "nothing of this partition is delivered, whatever was tried"
            );
        }
        Finding::Stalled => {
            metrics.errors("fetch", "stalled");
            tracing::warn!(
                code = %Code::NothingDelivered, %partition, next_offset = progress.taken(),
                log_end = ends.stable_end,
                "the log has gone on, and nothing was delivered for a while: assigning the \
                 partition anew"
            );
            progress.tell_stalled();
        }
        Finding::Held => {
            metrics.errors("fetch", "open_transaction");
            tracing::warn!(
                code = %Code::OpenTransaction, %partition, offset = ends.stable_end,
                log_end = ends.high_watermark,
                "a producer's transaction has been open for {:?}: what stands behind it is not \
                 delivered until it ends (`kafka-transactions.sh find-hanging` finds it, `abort` \
                 ends it)",
                LOOK_EVERY * HELD_LOOKS
            );
        }
        // Counted at each look, so that an alert lasts for as long as the transaction.
        Finding::StillHeld => metrics.errors("fetch", "open_transaction"),
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(stable_end: i64, high_watermark: i64) -> LogEnds {
        LogEnds {
            start: 0,
            stable_end,
            high_watermark,
            leader_epoch: None,
        }
    }

    #[test]
    fn a_log_that_goes_on_and_delivers_nothing_is_stalled() {
        let mut looks = Looks::default();
        let mut look = |taken, waits, end| looks.add(Some(taken), waits, &ends(end, end));
        assert_eq!(look(5, true, 5), Finding::Fine, "caught up");
        assert_eq!(look(5, true, 9), Finding::Fine, "it has just gone on");
        assert_eq!(look(5, true, 9), Finding::Fine);
        assert_eq!(look(5, true, 9), Finding::Fine);
        assert_eq!(look(5, true, 12), Finding::Stalled);
        for (looks, finding) in [
            (2, Finding::Lost),
            (1, Finding::Stalled),
            (2, Finding::Lost),
        ] {
            for _ in 0..looks * STALLED_LOOKS - 1 {
                assert_eq!(look(5, true, 12), Finding::Fine, "it is given more time");
            }
            assert_eq!(look(5, true, 12), finding);
        }
        // A lane that is busy with its batch takes nothing in, and one that goes on is not stalled.
        for _ in 0..2 * STALLED_LOOKS {
            assert_eq!(look(5, false, 12), Finding::Fine);
        }
        for taken in 6..12 {
            assert_eq!(look(taken, true, 12), Finding::Fine);
        }
    }

    #[test]
    fn a_transaction_that_stays_open_is_told_once() {
        let mut looks = Looks::default();
        let found: Vec<Finding> = (0..3 * HELD_LOOKS)
            .map(|_| looks.add(Some(5), true, &ends(5, 9)))
            .collect();
        let held = |finding: &&Finding| **finding == Finding::Held;
        assert_eq!(found.iter().filter(held).count(), 1);
        assert!(!found.contains(&Finding::Stalled));
        let first = found.iter().position(|finding| *finding == Finding::Held);
        let after = &found[first.expect("it is told") + 1..];
        assert!(!after.is_empty());
        for finding in after {
            assert_eq!(*finding, Finding::StillHeld, "each look counts it");
        }
        // One transaction after the other is no open one.
        let mut looks = Looks::default();
        for end in 0..20 {
            assert_eq!(
                looks.add(Some(end), true, &ends(end, end + 3)),
                Finding::Fine
            );
        }
    }

    #[test]
    fn a_new_consumer_that_does_not_help_is_followed_later_each_time() {
        let (mut renewals, began) = (Renewals::default(), Instant::now());
        let mut is_due = |second| renewals.is_due(began + Duration::from_secs(second));
        let due: Vec<u64> = (0..20_000).filter(|second| is_due(*second)).collect();
        assert_eq!(
            due,
            [
                0, 120, 360, 840, 1_800, 3_720, 7_320, 10_920, 14_520, 18_120
            ]
        );
        assert!(is_due(30_000));
        assert!(
            !is_due(30_119) && is_due(30_120),
            "the next fault begins anew"
        );
    }
}
