//! Lanes that write at once, until they are in each other's way; then one after the other, for a while.
//!
//! A transaction sees nothing of what others insert after it began, and the search for an id that is new looks at each such entry of the
//! index that lies next to it. Where ids ascend, as ULIDs and counters do, all lanes insert at the same place: MongoDB 6.0 was seen to take 0.3 s an
//! upsert, and longer as the others went on. With one transaction at a time there is nothing to look past.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::MutexGuard;

/// How long lanes take turns before they write at once again.
const TURNS_TAKEN_FOR: Duration = Duration::from_secs(60);

/// Whether the transactions of a service go one at a time.
#[derive(Debug, Default)]
pub struct Turns {
    until: Mutex<Option<Instant>>,
    turn: tokio::sync::Mutex<()>,
}

impl Turns {
    /// Waits for the turn of one transaction, for as long as turns are taken.
    pub(super) async fn take(&self) -> Option<MutexGuard<'_, ()>> {
        if self.are_taken() {
            Some(self.turn.lock().await)
        } else {
            None
        }
    }

    /// From now on one at a time, for a minute.
    pub(super) fn begin(&self) {
        if !self.are_taken() {
            tracing::warn!(
                "updates take MongoDB seconds: one transaction at a time for {TURNS_TAKEN_FOR:?}, in case the lanes are in each other's way"
            );
        }
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + TURNS_TAKEN_FOR);
    }

    fn are_taken(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_taken_once_they_have_begun() {
        let turns = Turns::default();
        assert!(turns.take().await.is_none());
        turns.begin();
        let first = turns.take().await;
        assert!(first.is_some());
        assert!(turns.turn.try_lock().is_err());
        drop(first);
        assert!(turns.take().await.is_some());
    }
}
