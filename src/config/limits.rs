//! Every bound of the service.

use std::time::Duration;

use super::{Environment, reference, value};

pub(super) const MIB: usize = 1024 * 1024;

/// Every bound, in the unit that its name ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records in one batch.
    pub flush_records_max: usize,
    /// BSON bytes in one batch; a first record that is larger still fits.
    pub flush_bytes_max: usize,
    /// Bytes in batches and librdkafka's queues together.
    pub budget_bytes_max: usize,
    /// Batches written at the same time.
    pub lanes_max: usize,
    /// How long a shutdown or a revoked partition waits for the batch in flight.
    pub drain_deadline: Duration,
    /// Rejections in a row after which a partition stops; 0: never.
    pub rejections_in_a_row_max: usize,
}

impl Limits {
    /// The smallest budget that works: each write in flight and the batch decoded behind it, and
    /// one record of 16 MiB as JSON, as BSON, in its command and in a fetch response.
    pub fn budget_bytes_min(&self) -> usize {
        64 * MIB + 2 * self.lanes_max * self.flush_bytes_max
    }

    pub(super) fn read(env: &mut Environment) -> Option<Limits> {
        let flush_records_max = env.read(&reference::FLUSH_RECORDS_MAX, value::whole(1..=2000));
        let flush_bytes = value::bytes(16 * 1024..=8 * MIB);
        let flush_bytes_max = env.read(&reference::FLUSH_BYTES_MAX, flush_bytes);
        let budget_bytes = value::bytes(64 * MIB..=1024 * 1024 * MIB);
        let budget_bytes_max = env.read(&reference::BUDGET_BYTES_MAX, budget_bytes);
        let lanes_max = env.read(&reference::LANES_MAX, value::whole(1..=128));
        let drain_deadline_ms = env.read(&reference::DRAIN_DEADLINE_MS, value::whole(1..=600_000));
        let rejections = value::whole(0..=1_000_000_000);
        let rejections_in_a_row_max = env.read(&reference::REJECTIONS_IN_A_ROW_MAX, rejections);
        Some(Limits {
            flush_records_max: flush_records_max?,
            flush_bytes_max: flush_bytes_max?,
            budget_bytes_max: budget_bytes_max?,
            lanes_max: lanes_max?,
            drain_deadline: Duration::from_millis(drain_deadline_ms? as u64),
            rejections_in_a_row_max: rejections_in_a_row_max?,
        })
    }
}
