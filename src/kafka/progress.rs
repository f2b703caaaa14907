//! How far a partition is settled, and where its log ends.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::telemetry::metrics::PartitionMetrics;

/// How far a partition is settled, and where its log ends: the lag lies between.
#[derive(Debug)]
pub struct Progress {
    /// The partition's other metrics.
    pub metrics: PartitionMetrics,
    settled: AtomicI64,
    end: AtomicI64,
}

impl Progress {
    pub(super) fn new(metrics: PartitionMetrics) -> Self {
        Progress {
            metrics,
            settled: AtomicI64::new(-1),
            end: AtomicI64::new(-1),
        }
    }

    /// Everything below `next_offset` is settled.
    pub fn settled_to(&self, next_offset: i64) {
        self.settled.store(next_offset, Ordering::Relaxed);
        self.report_lag();
    }

    /// The log ends before `end`.
    pub fn log_ends(&self, end: i64) {
        self.end.store(end, Ordering::Relaxed);
        self.report_lag();
    }

    /// The records that are still to come, where both ends are known.
    pub fn lag(&self) -> Option<i64> {
        let (settled, end) = (
            self.settled.load(Ordering::Relaxed),
            self.end.load(Ordering::Relaxed),
        );
        (settled >= 0 && end >= 0).then(|| (end - settled).max(0))
    }

    fn report_lag(&self) {
        if let Some(lag) = self.lag() {
            self.metrics.set_lag(lag);
        }
    }
}
