//! How far a batch has got, and what was sent of it and not answered.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Counts, Group, SHARE_BYTES_MAX, Settled};
use crate::backoff::Backoff;
use crate::record::Rejections;
use crate::record::batch::Batch;
use crate::record::fold::Plan;

/// How far a batch has got.
pub(super) struct BatchProgress<'b> {
    pub(super) batch: &'b Batch,
    /// The first record that is not settled.
    pub(super) next: usize,
    /// Behind the last record that the next transaction may take: one that was refused, or the one
    /// before it.
    pub(super) stop_at: usize,
    /// Whether states of one entity may be folded.
    pub(super) fold: bool,
    /// Commits from `next` on; after a smaller transaction, some of them lead further than it does.
    pub(super) unanswered: UnansweredCommits,
    /// Between attempts at the same records.
    pub(super) backoff: Backoff,
    /// Whether the batch may still join those of other lanes.
    joins: bool,
    /// The place that the batch holds while it is written alone.
    place: Option<OwnedSemaphorePermit>,
    settled: Counts,
    /// Where the checkpoint stands, once something of the batch is settled.
    settled_to: i64,
    /// Whether nothing behind that may be applied.
    halted: bool,
}

impl<'b> BatchProgress<'b> {
    /// Nothing of `batch` is settled. `joins`: whether it may join the batches of other lanes.
    pub(super) fn new(batch: &'b Batch, joins: bool) -> Self {
        BatchProgress {
            batch,
            next: 0,
            stop_at: batch.entries().len(),
            fold: true,
            unanswered: UnansweredCommits::default(),
            backoff: Backoff::new(),
            joins,
            place: None,
            settled: Counts::default(),
            settled_to: batch.start(),
            halted: false,
        }
    }

    /// The records that the next transaction may take: `records_max` at most.
    pub(super) fn next_records(&self, records_max: usize) -> Range<usize> {
        let end = (self.stop_at.max(self.next + 1))
            .min(self.batch.entries().len())
            .min(self.next.saturating_add(records_max));
        self.next..end
    }

    /// The group to join with `plan`. `None` where the batch is to be written alone, which a small
    /// one may do once there is a place for it.
    ///
    /// A batch joins once: after a failure, nothing else may be in the transaction that finds out
    /// what is wrong with it.
    pub(super) async fn group_to_join(
        &mut self,
        group: Option<&Arc<Group>>,
        plan: &Plan<'_>,
    ) -> Option<Arc<Group>> {
        // A larger batch has its lane's slot.
        let group = group.filter(|_| !self.batch.is_larger_than(SHARE_BYTES_MAX))?;
        if mem::take(&mut self.joins) && plan.is_plain(self.batch.entries().len()) {
            return Some(Arc::clone(group));
        }
        if self.place.is_none() {
            self.place = Some(group.place_alone().await);
        }
        None
    }

    /// Gives up the place of a batch that is written alone, until its next attempt.
    pub(super) fn give_place_back(&mut self) {
        self.place = None;
    }

    /// Notes that `commit` landed: no other one from the same record can any more.
    pub(super) fn settle(&mut self, commit: Commit) {
        self.settled.add(commit.counts);
        self.settled_to = commit.end;
        self.halted = commit.halts;
        self.unanswered.forget_all();
        self.next = commit.covered;
        self.stop_at = self.batch.entries().len();
        self.fold = true;
        self.backoff = Backoff::new();
    }

    /// Whether no record is left that may be applied.
    pub(super) fn is_settled(&self) -> bool {
        self.halted || self.next == self.batch.entries().len()
    }

    /// The proof, once no such record is left.
    pub(super) fn into_settled(self) -> Settled {
        debug_assert!(self.is_settled());
        Settled {
            next_offset: self.settled_to,
            counts: self.settled,
            halted: self.halted,
        }
    }
}

/// A transaction whose commit was sent.
pub(super) struct Commit {
    /// Behind the last record that it covers.
    covered: usize,
    /// Where it moves the checkpoint.
    end: i64,
    /// What became of its records, as far as the server has said.
    pub(super) counts: Counts,
    /// The records before `end` that were rejected in a row.
    pub(super) rejections: Rejections,
    /// Whether these are too many.
    halts: bool,
}

impl Commit {
    pub(super) fn of(plan: &Plan<'_>, counts: Counts) -> Self {
        Commit {
            covered: plan.records.end,
            end: plan.offsets.end,
            counts,
            rejections: plan.rejections,
            halts: plan.halts,
        }
    }
}

/// The commits of a batch that were sent and of which no answer came: each may have landed, or may
/// still land.
#[derive(Default)]
pub(super) struct UnansweredCommits(Vec<Commit>);

impl UnansweredCommits {
    /// Remembers a commit: before it is sent, since its answer may never be waited for.
    pub(super) fn remember(&mut self, commit: Commit) {
        self.0.push(commit);
    }

    /// Takes out the commit that was remembered last: the server answered that it landed.
    pub(super) fn answered(&mut self) -> Commit {
        self.0
            .pop()
            .expect("a commit is remembered before it is sent")
    }

    /// Where they move the checkpoint.
    pub(super) fn ends(&self) -> Vec<i64> {
        self.0.iter().map(|commit| commit.end).collect()
    }

    /// Takes out the commit that moves the checkpoint to `end`, if there is one.
    pub(super) fn take(&mut self, end: i64) -> Option<Commit> {
        let index = self.0.iter().position(|commit| commit.end == end)?;
        Some(self.0.swap_remove(index))
    }

    /// Forgets all of them: none can land any more.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}
