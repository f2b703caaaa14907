//! What became of a batch.

use crate::checkpoint::Fence;
use crate::record::entity::Reason;

/// What became of the records of a batch. For a commit whose answer was lost, these are the planned
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written, and the document was changed or created.
    pub upserted: u64,
    /// Written, and the document was the same before.
    pub unchanged: u64,
    /// Made needless by a later state in the same transaction.
    pub folded: u64,
    /// Tombstones applied.
    pub deleted: u64,
    /// Documents removed because their entities' kind has changed; those of a transaction that
    /// several lanes share are counted for one of them.
    pub moved: u64,
    /// Skipped by the contract.
    pub skipped: u64,
    /// Kept as dead letters, in their order.
    pub rejected: Vec<RejectedAt>,
    /// Transactions committed.
    pub transactions: u64,
}

/// A record that became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedAt {
    /// Where it stands.
    pub offset: i64,
    /// Why.
    pub reason: Reason,
    /// The server's error code, for [`Reason::WriteError`].
    pub error_code: Option<i32>,
}

impl Counts {
    /// Why records were rejected, in their order.
    pub fn reasons(&self) -> Vec<Reason> {
        self.rejected.iter().map(|at| at.reason).collect()
    }

    /// Records that were applied in one way or another.
    pub fn applied(&self) -> u64 {
        self.upserted + self.unchanged + self.deleted
    }

    pub(super) fn add(&mut self, other: Counts) {
        self.upserted += other.upserted;
        self.unchanged += other.unchanged;
        self.folded += other.folded;
        self.deleted += other.deleted;
        self.moved += other.moved;
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
    pub(super) halted: bool,
}

impl Settled {
    /// The offset after the last settled one: where the checkpoint stands.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Whether it ends behind so many rejections in a row that the partition has to stop: the
    /// checkpoint says so, too.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// What became of the records that this proves settled.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Why a batch was not written. Part of it may have been: the checkpoint says how much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// The checkpoint is no longer ours, or was moved: what the lane holds is worthless.
    #[error("the checkpoint is no longer where this lane left it ({0:?})")]
    Fenced(Fence),
    /// MongoDB accepts no write at all, and a retry cannot help.
    #[error("MongoDB refuses all writes: {0}")]
    Permanent(String),
}
