//! One log line when MongoDB stops accepting writes, and one when it accepts them again: not one
//! for each attempt, and not one for each lane. A partition whose batch does not get into one
//! collection, while MongoDB accepts the rest, has its own two lines.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::errors::Cause;
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::reminder::Reminder;

/// How long attempts may fail before this is logged: servers recover from short failures by
/// themselves.
const LOGGED_AFTER: Duration = Duration::from_secs(2);

/// How long a batch may fail in one collection before this is logged.
pub const PARTIAL_LOGGED_AFTER: Duration = Duration::from_secs(10);

/// How long an attempt may wait for its answer before this is logged: far longer than a majority
/// takes to have it.
const SILENCE_LOGGED_AFTER: Duration = Duration::from_secs(10);

/// Whether MongoDB accepts writes, as all lanes together see it.
#[derive(Debug, Default)]
pub struct Outage {
    state: Mutex<State>,
    login_refused: Notify,
}

/// The partition whose attempts fail; none for pings.
type Source = Option<Partition>;

#[derive(Debug, Default)]
struct State {
    /// What each of them fails with: the success of one lane ends no other lane's failure.
    failing: HashMap<Source, Failing>,
    /// Since when writes are not accepted, once this is logged.
    logged: Option<Instant>,
    /// What was logged of it last.
    reminder: Reminder,
    tries: u64,
}

/// A lane, or the pings, that fail.
#[derive(Debug)]
struct Failing {
    since: Instant,
    /// Whether MongoDB accepts no write, as far as this one can tell; else it refuses a collection.
    is_total: bool,
    /// Whether its own line is logged.
    logged: bool,
    /// When that is logged again.
    reminder: Reminder,
}

impl Outage {
    /// Waits until an attempt is not authenticated: the password may have changed.
    pub async fn login_refused(&self) {
        self.login_refused.notified().await;
    }

    /// Notes that an attempt failed and will be retried. `collection` is the one that it failed in,
    /// where MongoDB had accepted the rest.
    pub fn failed(
        &self,
        partition: &Partition,
        cause: Cause,
        error: &str,
        collection: Option<&str>,
    ) {
        tracing::debug!(%partition, cause = cause.as_str(), collection, error, "an attempt failed");
        self.suspect(cause);
        let (source, now) = (Some(partition.clone()), Instant::now());
        match collection {
            None => self.lock().note(source, now, cause, error),
            Some(collection) => self.lock().note_partial(source, now, collection, error),
        }
    }

    /// Waits for the end of an `attempt`, and counts it as failing when no answer comes for long:
    /// where no majority acknowledges a commit, the server does not answer it, though it answers
    /// pings.
    pub async fn watch<T>(&self, partition: &Partition, attempt: impl Future<Output = T>) -> T {
        self.watch_after(SILENCE_LOGGED_AFTER, partition, attempt)
            .await
    }

    async fn watch_after<T>(
        &self,
        silence: Duration,
        partition: &Partition,
        attempt: impl Future<Output = T>,
    ) -> T {
        let since = Instant::now();
        let mut attempt = std::pin::pin!(attempt);
        if let Ok(done) = tokio::time::timeout(silence, &mut attempt).await {
            return done;
        }
        let error = format!("no answer to a write for {silence:?}");
        self.lock()
            .note(Some(partition.clone()), since, Cause::Timeout, &error);
        attempt.await
    }

    /// Notes that a ping, sent at `since`, failed: a frozen server lets a write wait for long
    /// before it fails.
    pub fn unanswered(&self, since: Instant, cause: Cause, error: &str) {
        self.suspect(cause);
        self.lock().note(None, since, cause, error);
    }

    /// Notes that an attempt succeeded.
    pub fn passed(&self, partition: &Partition) {
        let mut state = self.lock();
        if !state.failing.is_empty() {
            state.failing.remove(&None);
            if let Some(failing) = state.failing.remove(&Some(partition.clone()))
                && failing.logged
            {
                let seconds = failing.since.elapsed().as_secs();
                tracing::info!(%partition, seconds, "this partition's batch is written");
            }
            state.end_with_the_last();
        }
    }

    /// Notes that a ping succeeded. `false` if a lane's write or claim fails all the same, as it
    /// does where the user's role was revoked; one that is refused by a collection does not count.
    pub fn answered(&self) -> bool {
        let mut state = self.lock();
        if state.failing.remove(&None).is_some() {
            state.end_with_the_last();
        }
        !state.is_total()
    }

    /// Notes that the partition is no longer ours to write.
    pub fn forget(&self, partition: &Partition) {
        let mut state = self.lock();
        if state.failing.remove(&Some(partition.clone())).is_some() && !state.is_total() {
            state.forget();
        }
    }

    fn suspect(&self, cause: Cause) {
        // A user may have been made anew, with another password and other rights.
        if matches!(cause, Cause::Authentication | Cause::Authorization) {
            self.login_refused.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock held")
    }
}

impl State {
    /// Notes a failure, and logs the outage once it has lasted.
    fn note(&mut self, source: Source, since: Instant, cause: Cause, error: &str) {
        let partition = source.as_ref().map(tracing::field::display);
        self.tries += 1;
        let failing = self.failing.entry(source.clone()).or_insert(Failing {
            since,
            is_total: true,
            logged: false,
            reminder: Reminder::default(),
        });
        failing.is_total = true;
        let since = failing.since;
        if self.logged.is_none() && since.elapsed() >= LOGGED_AFTER {
            self.logged = Some(since);
        }
        if let Some(since) = self.logged
            && self.reminder.is_due(cause.as_str())
        {
            tracing::warn!(
                code = %Code::MongodbAway,
                partition,
                cause = cause.as_str(),
                error,
                tries = self.tries,
                seconds = since.elapsed().as_secs(),
                "MongoDB does not accept writes; retrying until it does, nothing is lost"
            );
        }
    }

    /// Notes that one collection refuses a write, and logs it once it has lasted.
    fn note_partial(&mut self, source: Source, since: Instant, collection: &str, error: &str) {
        let partition = source.as_ref().map(tracing::field::display);
        let failing = self.failing.entry(source.clone()).or_insert(Failing {
            since,
            is_total: false,
            logged: false,
            reminder: Reminder::default(),
        });
        failing.is_total = false;
        let is_long = failing.since.elapsed() >= PARTIAL_LOGGED_AFTER;
        if is_long && failing.reminder.is_due(error) {
            failing.logged = true;
            tracing::warn!(
                code = %Code::CollectionRefuses,
                partition,
                collection,
                error,
                "this partition's batch does not get into the collection, though MongoDB accepts \
                 other writes; retrying until it does, nothing is lost"
            );
        }
        self.end_with_the_last();
    }

    /// Whether a lane, or the pings, find that MongoDB accepts no write at all.
    fn is_total(&self) -> bool {
        self.failing.values().any(|failing| failing.is_total)
    }

    /// Ends the outage with its last failure.
    fn end_with_the_last(&mut self) {
        if !self.is_total() {
            if let Some(since) = self.logged {
                let seconds = since.elapsed().as_secs();
                tracing::info!(seconds, tries = self.tries, "MongoDB accepts writes again");
            }
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.logged, self.tries) = (None, 0);
        self.reminder = Reminder::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Duration = Duration::from_secs(10);

    fn is_logged(outage: &Outage) -> bool {
        outage.lock().logged.is_some()
    }

    #[test]
    fn a_lane_that_succeeds_does_not_hide_one_that_fails() {
        let (outage, stuck) = (Outage::default(), Partition::new("t", 0));
        let long_ago = Instant::now() - LONG_AGO;
        outage.failed(&stuck, Cause::Other, "no", None);
        assert!(!is_logged(&outage), "servers recover by themselves");
        outage
            .lock()
            .failing
            .get_mut(&Some(stuck.clone()))
            .unwrap()
            .since = long_ago;
        outage.passed(&Partition::new("t", 1));
        outage.failed(&stuck, Cause::Other, "no", None);
        assert!(is_logged(&outage));
        assert!(!outage.answered());
        assert!(
            is_logged(&outage),
            "an answered ping says nothing about writes"
        );
        outage.passed(&stuck);
        assert!(!is_logged(&outage));
        assert!(outage.answered());
    }

    #[test]
    fn a_server_that_answers_no_ping_is_logged_without_a_write() {
        let outage = Outage::default();
        outage.unanswered(Instant::now() - LONG_AGO, Cause::Timeout, "no answer");
        assert!(is_logged(&outage));
        assert!(outage.answered());
        assert!(!is_logged(&outage));
    }

    #[tokio::test]
    async fn a_write_that_is_not_answered_counts_as_failing_before_it_does() {
        let (outage, partition) = (Outage::default(), Partition::new("t", 0));
        outage.watch(&partition, async {}).await;
        assert!(outage.lock().failing.is_empty());
        let until_it_counts = async {
            while outage.lock().failing.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let silence = Duration::from_millis(1);
        outage
            .watch_after(silence, &partition, until_it_counts)
            .await;
        outage.passed(&partition);
        assert!(outage.lock().failing.is_empty());
    }

    #[test]
    fn one_bad_collection_is_no_outage() {
        let (outage, stuck) = (Outage::default(), Partition::new("t", 0));
        let fail = |collection| outage.failed(&stuck, Cause::Authentication, "no", collection);
        fail(Some("datasets"));
        let partial = |logged: bool| {
            let state = outage.lock();
            let failing = &state.failing[&Some(stuck.clone())];
            assert_eq!((failing.is_total, failing.logged), (false, logged));
        };
        partial(false);
        outage
            .lock()
            .failing
            .get_mut(&Some(stuck.clone()))
            .unwrap()
            .since -= LONG_AGO;
        fail(Some("datasets"));
        partial(true);
        assert!(outage.answered() && !is_logged(&outage));
        // Then nothing is accepted any more.
        fail(None);
        assert!(!outage.answered() && is_logged(&outage));
        fail(Some("datasets"));
        assert!(outage.answered() && !is_logged(&outage));
        outage.passed(&stuck);
        assert!(outage.lock().failing.is_empty());
    }

    #[test]
    fn a_partition_that_was_handed_over_is_not_waited_for() {
        let (outage, gone) = (Outage::default(), Partition::new("t", 0));
        outage.failed(&gone, Cause::Network, "no", None);
        outage.forget(&gone);
        assert!(outage.lock().failing.is_empty());
    }
}
