//! One attempt at the next records of a batch. It is one of three: the lane takes its claim over to
//! another client, joins the transaction of a group, or writes alone.

use std::sync::Arc;

use super::group::NotTogether;
use super::progress::{BatchProgress, Commit};
use super::transaction::planned;
use super::{Attempts, Counts, Failure, Group, Sent, Trouble, Unwritten, Writer, cause_of};
use crate::checkpoint::{ClaimError, Fence, fence};
use crate::record::fold::Plan;

/// What became of an attempt.
pub(super) enum Attempted {
    /// Records are settled: this attempt committed, or an earlier one turned out to have done so.
    Committed(Commit),
    /// It did not commit, or its commit was not answered.
    Failed(Failure),
    /// Another client is in use, and the next attempt is made on it. Nothing is known of this one,
    /// or it was the takeover.
    ClientChanged,
}

impl Writer {
    /// One attempt at `plan`.
    pub(super) async fn attempt(
        &mut self,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) -> Result<Attempted, Unwritten> {
        self.writing_to = None;
        if self.connection.is_past(self.generation) {
            return self.take_over(plan, progress, attempts).await;
        }
        let (connection, generation) = (self.connection.clone(), self.generation);
        let (outage, partition) = (
            Arc::clone(&self.outage),
            self.checkpoints.key().partition.clone(),
        );
        let written = async {
            let group = progress.group_to_join(self.group.as_ref(), plan).await;
            let written = async {
                match group {
                    Some(group) => self.join(&group, plan, progress, attempts).await,
                    None => self.write_alone(plan, progress, attempts).await,
                }
            };
            outage.watch(&partition, written).await
        };
        tokio::select! {
            attempted = written => attempted,
            // The takeover finds out what became of what was sent.
            () = connection.expired(generation) => Ok(Attempted::ClientChanged),
        }
    }

    /// Writes `plan` in one transaction with what other lanes have.
    async fn join(
        &self,
        group: &Group,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) -> Result<Attempted, Unwritten> {
        let writes = plan.count() as u64;
        // The planned count, for a commit that lands without an answer.
        let counts = Counts {
            upserted: writes,
            ..planned(plan)
        };
        progress.unanswered.remember(Commit::of(plan, counts));
        let guard = self.guard(plan);
        let committed = group.write(guard, plan, self.target.mode).await;
        Ok(match committed {
            Ok(changed) => {
                let mut commit = progress.unanswered.answered();
                commit.counts.upserted = changed.written;
                commit.counts.unchanged = writes.saturating_sub(changed.written);
                commit.counts.moved = changed.moved;
                Attempted::Committed(commit)
            }
            Err(NotTogether(cause)) => {
                if let Some(cause) = cause {
                    attempts.failed(&Trouble::of_group(cause, plan));
                }
                Attempted::Failed(Failure::Together)
            }
        })
    }

    /// Writes `plan` in a transaction of its own.
    async fn write_alone(
        &mut self,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) -> Result<Attempted, Unwritten> {
        match self.commit_alone(plan, progress).await {
            Ok(commit) => Ok(Attempted::Committed(commit)),
            Err(Failure::Guard) => self.resolve_guard(plan, progress, attempts).await,
            Err(failure) => Ok(Attempted::Failed(failure)),
        }
    }

    /// Finds out what a guard that did not match means: an earlier commit landed, or, where none
    /// did, the guard may match the next time.
    async fn resolve_guard(
        &self,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) -> Result<Attempted, Unwritten> {
        let ends = progress.unanswered.ends();
        loop {
            let error = match self.checkpoints.read().await {
                Ok(found) => {
                    let start = plan.offsets.start;
                    return match fence(found.as_ref(), self.claim.owner, start, &ends) {
                        Fence::Landed(end) => {
                            let landed = progress.unanswered.take(end);
                            let landed = landed.expect("a fence names one of the ends it is given");
                            Ok(Attempted::Committed(landed))
                        }
                        Fence::Open => Ok(Attempted::Failed(Failure::Guard)),
                        fence @ (Fence::Moved | Fence::NotMine) => Err(Unwritten::Fenced(fence)),
                    };
                }
                // Claiming again stops the partition, and logs the command that repairs it.
                Err(ClaimError::Unreadable(_)) => return Err(Unwritten::Fenced(Fence::Moved)),
                Err(error) => error,
            };
            let cause = cause_of(&error);
            let wait = progress.backoff.next_wait();
            let error = error.to_string();
            self.back_off(cause, &error, Sent::of(plan), wait, progress, attempts)
                .await;
        }
    }
}
