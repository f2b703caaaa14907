//! A lane that waits for memory which other lanes' batches hold: after a while it says so.

use std::time::Duration;

use tokio::time::Instant;

use super::Lanes;
use crate::kafka::Progress;
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::metrics::PartitionState;

/// How long it waits before it says so.
const SHOWN_AFTER: Duration = Duration::from_secs(10);

/// Since when a lane waits for memory.
#[derive(Debug, Default)]
pub(super) struct Starving {
    since: Option<Instant>,
    shown: bool,
}

impl Starving {
    /// Notes whether it waits now. Gives the time at which that is to be shown, if it is not yet.
    pub(super) fn note(
        &mut self,
        starves: bool,
        lanes: &Lanes,
        partition: &Partition,
        progress: &Progress,
    ) -> Option<Instant> {
        if !starves {
            self.since = None;
            if std::mem::take(&mut self.shown) {
                progress.metrics.set_state(PartitionState::Running);
                lanes.health.note(&partition.to_string(), None);
            }
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        (!self.shown).then_some(since + SHOWN_AFTER)
    }

    /// Shows it.
    pub(super) fn show(&mut self, lanes: &Lanes, partition: &Partition, progress: &Progress) {
        self.shown = true;
        progress.metrics.set_state(PartitionState::Stuck);
        let why = format!(
            "its next record waits for memory, of which other partitions' batches hold {} bytes",
            lanes.budget.lent_bytes()
        );
        tracing::warn!(code = %Code::WaitsForMemory, %partition, "this partition stands still: {why}");
        lanes.health.note(&partition.to_string(), Some(&why));
    }
}
