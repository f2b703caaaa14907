//! What a partition does, as the metrics name it.

/// What a partition of this worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// It makes its claim.
    Claiming,
    /// It is applied.
    Running,
    /// It waits for a person: its checkpoint and its log do not fit, or it cannot be read.
    Stopped,
    /// It waits for a person: too many records in a row were rejected.
    Breaker,
    /// It is in the middle of a batch that does not get through.
    Stuck,
}

impl PartitionState {
    /// Every state.
    pub const ALL: [PartitionState; 5] = [
        PartitionState::Claiming,
        PartitionState::Running,
        PartitionState::Stopped,
        PartitionState::Breaker,
        PartitionState::Stuck,
    ];

    /// The value of the label `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            PartitionState::Claiming => "claiming",
            PartitionState::Running => "running",
            PartitionState::Stopped => "stopped",
            PartitionState::Breaker => "breaker",
            PartitionState::Stuck => "stuck",
        }
    }
}
