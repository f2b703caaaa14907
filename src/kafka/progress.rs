//! How far a partition is settled and delivered, and where its log ends.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::Notify;

use crate::telemetry::metrics::PartitionMetrics;

/// An offset that is not known.
const UNKNOWN: i64 = -1;

/// How far a partition is settled, and where its log ends: the lag lies between.
#[derive(Debug)]
pub struct Progress {
    /// The partition's other metrics.
    pub metrics: PartitionMetrics,
    settled: AtomicI64,
    /// Behind the last record that all replicas in sync have, as far as was heard.
    high_watermark: AtomicI64,
    /// The offset behind the last one that the lane took in.
    taken: AtomicI64,
    waits: AtomicBool,
    stalled: Notify,
}

impl Progress {
    pub(super) fn new(metrics: PartitionMetrics) -> Self {
        Progress {
            metrics,
            settled: AtomicI64::new(UNKNOWN),
            high_watermark: AtomicI64::new(UNKNOWN),
            taken: AtomicI64::new(UNKNOWN),
            waits: AtomicBool::new(false),
            stalled: Notify::new(),
        }
    }

    /// Everything below `next_offset` is settled. `oldest_ms` is the timestamp of the oldest record
    /// that was taken in and is not, in milliseconds since 1970.
    pub fn settled_to(&self, next_offset: i64, oldest_ms: Option<i64>) {
        self.settled.store(next_offset, Ordering::Relaxed);
        self.report(oldest_ms);
    }

    /// The log ends before `high_watermark`: its leader was asked.
    pub fn log_ends(&self, high_watermark: i64) {
        self.high_watermark.store(high_watermark, Ordering::Relaxed);
        self.report(None);
    }

    /// The log ended there when it was fetched from last, which may be long ago.
    pub fn log_reached(&self, high_watermark: i64) {
        self.high_watermark
            .fetch_max(high_watermark, Ordering::Relaxed);
        self.report(None);
    }

    /// Everything below `next_offset` has been taken in.
    pub fn took(&self, next_offset: i64) {
        self.taken.store(next_offset, Ordering::Relaxed);
    }

    /// The offset behind the last one that was taken in, where one was.
    pub fn taken(&self) -> Option<i64> {
        known(&self.taken)
    }

    /// The records that are still to come, where both ends are known.
    pub fn lag(&self) -> Option<i64> {
        let (settled, end) = (known(&self.settled)?, known(&self.high_watermark)?);
        Some((end - settled).max(0))
    }

    /// Whether the lane waits for records, and holds none that it could write first.
    pub fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Returns once it was noticed that the log has gone on and nothing is delivered.
    pub async fn stalled(&self) {
        self.stalled.notified().await;
    }

    /// Tells the lane so.
    pub(super) fn tell_stalled(&self) {
        self.stalled.notify_one();
    }

    fn report(&self, oldest_ms: Option<i64>) {
        if let Some(lag) = self.lag() {
            self.metrics.set_lag(lag);
            self.metrics.set_oldest_unapplied(lag, oldest_ms);
        }
    }
}

fn known(offset: &AtomicI64) -> Option<i64> {
    Some(offset.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN)
}
