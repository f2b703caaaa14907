//! What became of a record, as the metrics and the log name it.

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written, alone or as the last of those folded into one write.
    Upserted,
    /// Written, but the document was already so.
    Unchanged,
    /// Part of a later record's write.
    Folded,
    /// A tombstone whose entity was deleted.
    Deleted,
    /// Not kept, by the contract.
    Skipped,
    /// Kept as a dead letter.
    Rejected,
    /// Below the checkpoint: applied before.
    AlreadyApplied,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Upserted,
        Outcome::Unchanged,
        Outcome::Folded,
        Outcome::Deleted,
        Outcome::Skipped,
        Outcome::Rejected,
        Outcome::AlreadyApplied,
    ];

    /// The value of the label `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Upserted => "upserted",
            Outcome::Unchanged => "unchanged",
            Outcome::Folded => "folded",
            Outcome::Deleted => "deleted",
            Outcome::Skipped => "skipped",
            Outcome::Rejected => "rejected",
            Outcome::AlreadyApplied => "already_applied",
        }
    }
}
