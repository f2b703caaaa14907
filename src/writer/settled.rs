//! What became of a batch.

use crate::checkpoint::Fence;
use crate::record::entity::Reason;

/// What became of the records of a batch; the counts of a commit whose answer was lost are the
/// planned ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written, and the document changed or came to be.
    pub upserted: u64,
    /// Written, and the document already was like that.
    pub unchanged: u64,
    /// Made needless by a later state in the same transaction.
    pub folded: u64,
    /// Tombstones applied.
    pub deleted: u64,
    /// Skipped by the contract.
    pub skipped: u64,
    /// How many of the rejected ones stand behind the last record that was applied.
    pub rejected_last: u64,
    /// Kept as dead letters, by reason.
    pub rejected: Vec<Reason>,
    /// Transactions committed.
    pub transactions: u64,
}

impl Counts {
    /// Records that were applied in one way or another.
    pub fn applied(&self) -> u64 {
        self.upserted + self.unchanged + self.deleted
    }

    pub(super) fn add(&mut self, other: Counts) {
        let before = if other.applied() > 0 {
            0
        } else {
            self.rejected_last
        };
        self.rejected_last = before + other.rejected_last;
        self.upserted += other.upserted;
        self.unchanged += other.unchanged;
        self.folded += other.folded;
        self.deleted += other.deleted;
        self.skipped += other.skipped;
        self.rejected.extend(other.rejected);
        self.transactions += other.transactions;
    }
}

/// Proof that everything below `next_offset` is durable. Only the writer makes one, and only with
/// one can an offset be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub(super) next_offset: i64,
    pub(super) counts: Counts,
}

impl Settled {
    /// The offset behind the last settled one: the checkpoint.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// What became of the records.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Why a batch was not written; part of it may have been, and the checkpoint knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// The checkpoint is ours no more, or was moved: what is in hand is worthless.
    #[error("the checkpoint no longer is where this lane left it ({0:?})")]
    Fenced(Fence),
    /// Neither time nor another batch will help.
    #[error("MongoDB refuses for good: {0}")]
    Fatal(String),
}
