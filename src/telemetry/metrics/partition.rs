//! The metrics of one partition, and its lag for as long as a lane has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::{Outcome, Partition, lock};

/// The metrics of one partition's lane.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// Records taken from Kafka.
    pub consumed: IntCounter,
    /// From a record's timestamp until it is durable, in seconds.
    pub record_delay: Histogram,
    /// How long a batch's transaction took, in seconds, retries included.
    pub batch_write_duration: Histogram,
    /// Records in a batch.
    pub batch_records: Histogram,
    /// BSON bytes in a batch.
    pub batch_bytes: Histogram,
    pub(super) settled: Arc<[IntCounter; Outcome::ALL.len()]>,
    pub(super) last_settled: Gauge,
    pub(super) lag: OnceLock<IntGauge>,
    pub(super) lags: IntGaugeVec,
    pub(super) lanes: Arc<Mutex<HashMap<Partition, usize>>>,
    pub(super) key: Partition,
}

impl PartitionMetrics {
    /// `records` more have settled as `outcome`, just now.
    pub fn settled(&self, outcome: Outcome, records: u64) {
        self.settled[outcome as usize].inc_by(records);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last_settled.set(now.as_secs_f64());
    }

    /// How many records are still to come. The gauge is absent until this is known.
    pub fn set_lag(&self, records: i64) {
        let (topic, partition) = &self.key;
        self.lag
            .get_or_init(|| {
                self.lags
                    .with_label_values(&[topic, &partition.to_string()])
            })
            .set(records);
    }
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        let Some(count) = lanes.get_mut(&self.key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            lanes.remove(&self.key);
            let (topic, partition) = &self.key;
            // absent where the lag was never known
            let _ = self
                .lags
                .remove_label_values(&[topic, &partition.to_string()]);
        }
    }
}
