//! One log line when MongoDB stops taking writes, and one when it takes them again: not one per try,
//! and not one per lane.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::errors::Cause;
use crate::record::Partition;

/// How long a failure that servers get over by themselves may last before it is worth a line.
const WORTH_A_LINE_AFTER: Duration = Duration::from_secs(2);

/// How long a try may wait for its answer before that is worth a line: far longer than a majority takes to have it.
const SILENCE_WORTH_A_LINE: Duration = Duration::from_secs(10);

/// Where MongoDB stands, as all lanes together see it.
#[derive(Debug, Default)]
pub struct Outage {
    state: Mutex<State>,
    login_refused: Notify,
}

/// Pings come from no partition.
type Source = Option<Partition>;

#[derive(Debug, Default)]
struct State {
    /// Since when which of them fail: a lane that gets through ends no other lane's failure.
    failing: HashMap<Source, Instant>,
    /// When the line was logged, since when it has been.
    told: Option<Instant>,
    tries: u64,
}

impl Outage {
    /// Waits until a try is not let in: the password may have changed.
    pub async fn login_refused(&self) {
        self.login_refused.notified().await;
    }

    /// A try failed and will be repeated.
    pub fn failed(&self, partition: &Partition, cause: Cause, error: &str) {
        tracing::debug!(%partition, cause = cause.as_str(), error, "a try failed");
        self.suspect(cause);
        self.lock()
            .fails(Some(partition.clone()), Instant::now(), cause, error);
    }

    /// Waits for a try's end, and counts it as failing while no answer comes: where no majority can take a commit, the
    /// server says nothing for long, and answers pings all the while.
    pub async fn watch<T>(&self, partition: &Partition, tried: impl Future<Output = T>) -> T {
        self.watch_after(SILENCE_WORTH_A_LINE, partition, tried)
            .await
    }

    async fn watch_after<T>(
        &self,
        silence: Duration,
        partition: &Partition,
        tried: impl Future<Output = T>,
    ) -> T {
        let since = Instant::now();
        let mut tried = std::pin::pin!(tried);
        if let Ok(done) = tokio::time::timeout(silence, &mut tried).await {
            return done;
        }
        let error = format!("no answer to a write for {silence:?}");
        self.lock()
            .fails(Some(partition.clone()), since, Cause::Timeout, &error);
        tried.await
    }

    /// A ping, sent at `since`, came to nothing: a frozen server lets a write wait for long before it fails.
    pub fn unanswered(&self, since: Instant, cause: Cause, error: &str) {
        self.suspect(cause);
        self.lock().fails(None, since, cause, error);
    }

    /// A try succeeded.
    pub fn passed(&self, partition: &Partition) {
        let mut state = self.lock();
        if !state.failing.is_empty() {
            state.failing.remove(&None);
            state.failing.remove(&Some(partition.clone()));
            state.ends_with_the_last();
        }
    }

    /// A ping succeeded; `true` if no lane's write or claim is failing all the same, as it does where
    /// the user's role was taken away.
    pub fn answered(&self) -> bool {
        let mut state = self.lock();
        if state.failing.remove(&None).is_some() {
            state.ends_with_the_last();
        }
        state.failing.is_empty()
    }

    /// The partition is no longer ours to write.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fails(&mut self, source: Source, since: Instant, cause: Cause, error: &str) {
        let partition = source.as_ref().map(tracing::field::display);
        self.tries += 1;
        let since = *self.failing.entry(source.clone()).or_insert(since);
        if self.told.is_none() && since.elapsed() >= WORTH_A_LINE_AFTER {
            self.told = Some(since);
            tracing::warn!(
                partition,
                cause = cause.as_str(),
                error,
                tries = self.tries,
                "MongoDB does not take writes; trying again until it does, nothing is lost"
            );
        }
    }

    fn ends_with_the_last(&mut self) {
        if self.failing.is_empty() {
            if let Some(since) = self.told {
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(seconds, tries = self.tries, "MongoDB takes writes again");
            }
            *self = State::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Duration = Duration::from_secs(10);

    fn told(outage: &Outage) -> bool {
        outage.lock().told.is_some()
    }

    #[test]
    fn a_lane_that_gets_through_does_not_hide_one_that_does_not() {
        let (outage, stuck) = (Outage::default(), Partition::new("t", 0));
        let long_ago = Instant::now() - LONG_AGO;
        outage.failed(&stuck, Cause::Other, "no");
        assert!(!told(&outage), "servers get over it by themselves");
        outage.lock().failing.insert(Some(stuck.clone()), long_ago);
        outage.passed(&Partition::new("t", 1));
        outage.failed(&stuck, Cause::Other, "no");
        assert!(told(&outage));
        assert!(!outage.answered());
        assert!(
            told(&outage),
            "that a ping is answered says nothing of writes"
        );
        outage.passed(&stuck);
        assert!(!told(&outage));
        assert!(outage.answered());
    }

    #[test]
    fn a_server_that_answers_no_ping_is_told_of_without_a_write() {
        let outage = Outage::default();
        outage.unanswered(Instant::now() - LONG_AGO, Cause::Timeout, "no answer");
        assert!(told(&outage));
        assert!(outage.answered());
        assert!(!told(&outage));
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
