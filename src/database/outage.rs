//! One log line when MongoDB stops accepting writes, and one when it accepts them again: not one
//! for each attempt, and not one for each lane.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::errors::Cause;
use crate::record::Partition;

/// How long attempts may fail before this is logged: servers recover from short failures by
/// themselves.
const LOGGED_AFTER: Duration = Duration::from_secs(2);

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
    /// Since when each of them fails: the success of one lane ends no other lane's failure.
    failing: HashMap<Source, Instant>,
    /// Since when writes are not accepted, once this is logged.
    logged: Option<Instant>,
    tries: u64,
}

impl Outage {
    /// Waits until an attempt is not authenticated: the password may have changed.
    pub async fn login_refused(&self) {
        self.login_refused.notified().await;
    }

    /// Notes that an attempt failed and will be retried.
    pub fn failed(&self, partition: &Partition, cause: Cause, error: &str) {
        tracing::debug!(%partition, cause = cause.as_str(), error, "an attempt failed");
        self.suspect(cause);
        self.lock()
            .note(Some(partition.clone()), Instant::now(), cause, error);
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
            state.failing.remove(&Some(partition.clone()));
            state.end_with_the_last();
        }
    }

    /// Notes that a ping succeeded. `false` if a lane's write or claim fails all the same, as it
    /// does where the user's role was revoked.
    pub fn answered(&self) -> bool {
        let mut state = self.lock();
        if state.failing.remove(&None).is_some() {
            state.end_with_the_last();
        }
        state.failing.is_empty()
    }

    /// Notes that the partition is no longer ours to write.
    pub fn forget(&self, partition: &Partition) {
        let mut state = self.lock();
        if state.failing.remove(&Some(partition.clone())).is_some() && state.failing.is_empty() {
            *state = State::default();
        }
    }

    fn suspect(&self, cause: Cause) {
        if cause == Cause::Authentication {
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
        let since = *self.failing.entry(source.clone()).or_insert(since);
        if self.logged.is_none() && since.elapsed() >= LOGGED_AFTER {
            self.logged = Some(since);
            tracing::warn!(
                partition,
                cause = cause.as_str(),
                error,
                tries = self.tries,
                "MongoDB does not accept writes; retrying until it does, nothing is lost"
            );
        }
    }

    /// Ends the outage with its last failure.
    fn end_with_the_last(&mut self) {
        if self.failing.is_empty() {
            if let Some(since) = self.logged {
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(seconds, tries = self.tries, "MongoDB accepts writes again");
            }
            *self = State::default();
        }
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
        outage.failed(&stuck, Cause::Other, "no");
        assert!(!is_logged(&outage), "servers recover by themselves");
        outage.lock().failing.insert(Some(stuck.clone()), long_ago);
        outage.passed(&Partition::new("t", 1));
        outage.failed(&stuck, Cause::Other, "no");
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
    fn a_partition_that_was_handed_over_is_not_waited_for() {
        let (outage, gone) = (Outage::default(), Partition::new("t", 0));
        outage.failed(&gone, Cause::Network, "no");
        outage.forget(&gone);
        assert!(outage.lock().failing.is_empty());
    }
}
