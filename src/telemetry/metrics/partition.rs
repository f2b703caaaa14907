//! What the lanes count: each has the metrics of its partition, and shows a lag for as long as it
//! lives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use jiff::Timestamp;
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Namespace, Outcome, PartitionState};

/// Upper ends of the buckets, in seconds, from a record's timestamp until it is durable.
const DELAY_SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
    86400.0,
];
const WRITE_SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
const RECORDS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
];
const BYTES: [f64; 9] = [
    1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 2097152.0, 4194304.0, 16777216.0,
];

/// Why a lock in here is never poisoned.
const NO_PANIC: &str = "nobody panics while counting lanes";

/// Topic and number.
type Partition = (String, i32);

/// How many lanes each partition has: one that ends after its successor began leaves the lag alone.
type LaneCounts = Arc<Mutex<HashMap<Partition, usize>>>;

/// The metrics of all lanes, from which each takes its partition's.
#[derive(Debug)]
pub(super) struct LaneMetrics {
    consumed: IntCounterVec,
    lag: IntGaugeVec,
    states: IntGaugeVec,
    oldest_unapplied: GaugeVec,
    lanes: LaneCounts,
    settled: Arc<[IntCounter; Outcome::ALL.len()]>,
    last_settled: Gauge,
    record_delay: Histogram,
    batch_write_duration: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
}

impl LaneMetrics {
    pub(super) fn new(namespace: &Namespace) -> LaneMetrics {
        let partition = ["topic", "partition"];
        let settled = namespace.counters(
            "records_settled_total",
            "Records settled, by what became of them.",
            &["outcome"],
        );
        let settled = Outcome::ALL.map(|outcome| settled.with_label_values(&[outcome.as_str()]));
        LaneMetrics {
            consumed: namespace.counters(
                "records_consumed_total",
                "Records taken from Kafka.",
                &partition,
            ),
            lag: namespace.gauges(
                "consumer_lag_records",
                "Records from what is settled to the log's end.",
                &partition,
            ),
            states: namespace.gauges(
                "partition_state",
                "1 for what the partition does: claiming, running, stopped, breaker, or stuck.",
                &["topic", "partition", "state"],
            ),
            oldest_unapplied: namespace.fractions(
                "oldest_unapplied_timestamp_seconds",
                "When the oldest record that is not applied was produced; 0: caught up.",
                &partition,
            ),
            lanes: LaneCounts::default(),
            settled: Arc::new(settled),
            last_settled: namespace.fraction(
                "last_settled_timestamp_seconds",
                "When a batch was last settled; 0: not yet.",
            ),
            record_delay: namespace.histogram(
                "record_delay_seconds",
                "From a record's timestamp until it is durable.",
                &DELAY_SECONDS,
            ),
            batch_write_duration: namespace.histogram(
                "batch_write_duration_seconds",
                "A batch's transaction, retries included.",
                &WRITE_SECONDS,
            ),
            batch_records: namespace.histogram("batch_records", "Records in a batch.", &RECORDS),
            batch_bytes: namespace.histogram("batch_bytes", "BSON bytes in a batch.", &BYTES),
        }
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        let key = (topic.to_owned(), partition);
        *self
            .lanes
            .lock()
            .expect(NO_PANIC)
            .entry(key.clone())
            .or_default() += 1;
        let metrics = PartitionMetrics {
            consumed: (self.consumed).with_label_values(&[topic, &partition.to_string()]),
            record_delay: self.record_delay.clone(),
            batch_write_duration: self.batch_write_duration.clone(),
            batch_records: self.batch_records.clone(),
            batch_bytes: self.batch_bytes.clone(),
            settled: self.settled.clone(),
            last_settled: self.last_settled.clone(),
            lag: OnceLock::new(),
            oldest_unapplied: OnceLock::new(),
            lags: self.lag.clone(),
            states: self.states.clone(),
            oldest: self.oldest_unapplied.clone(),
            lanes: self.lanes.clone(),
            key,
        };
        metrics.set_state(PartitionState::Claiming);
        metrics
    }

    /// How many records have settled as `outcome`, over all partitions.
    pub(super) fn settled(&self, outcome: Outcome) -> u64 {
        self.settled[outcome as usize].get()
    }
}

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
    settled: Arc<[IntCounter; Outcome::ALL.len()]>,
    last_settled: Gauge,
    lag: OnceLock<IntGauge>,
    oldest_unapplied: OnceLock<Gauge>,
    lags: IntGaugeVec,
    states: IntGaugeVec,
    oldest: GaugeVec,
    lanes: LaneCounts,
    key: Partition,
}

impl PartitionMetrics {
    /// Counts `records` that have just settled as `outcome`.
    pub fn settled(&self, outcome: Outcome, records: u64) {
        self.settled[outcome as usize].inc_by(records);
        self.last_settled.set(now_seconds());
    }

    /// Shows when the oldest of the `lag` records that are still to come was produced: at
    /// `timestamp_ms`, in milliseconds since 1970. Where that is not known, and none was shown yet,
    /// it was now, at the latest. The gauge is absent until this is known.
    pub fn set_oldest_unapplied(&self, lag: i64, timestamp_ms: Option<i64>) {
        let shown = self.oldest_unapplied.get_or_init(|| {
            let (topic, partition) = &self.key;
            self.oldest
                .with_label_values(&[topic, &partition.to_string()])
        });
        match (lag, timestamp_ms) {
            (0, _) => shown.set(0.0),
            // A producer may write any time: none that lies ahead hides how old it gets from here.
            (_, Some(timestamp_ms)) => {
                shown.set((timestamp_ms as f64 / 1000.0).clamp(0.001, now_seconds()));
            }
            (_, None) if shown.get() == 0.0 => shown.set(now_seconds()),
            (_, None) => {}
        }
    }

    /// Shows how many records are still to come. The gauge is absent until this is known.
    pub fn set_lag(&self, records: i64) {
        let (topic, partition) = &self.key;
        let labels = [topic, &partition.to_string()];
        self.lag
            .get_or_init(|| self.lags.with_label_values(&labels))
            .set(records);
    }
}

impl PartitionMetrics {
    /// Shows what the partition does now.
    pub fn set_state(&self, state: PartitionState) {
        let (topic, partition) = &self.key;
        let partition = partition.to_string();
        for each in PartitionState::ALL {
            self.states
                .with_label_values(&[topic, &partition, each.as_str()])
                .set(i64::from(each == state));
        }
    }
}

fn now_seconds() -> f64 {
    Timestamp::now().as_microsecond() as f64 / 1e6
}

impl Drop for PartitionMetrics {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock().expect(NO_PANIC);
        let count = lanes.get_mut(&self.key).expect("counted when it was made");
        *count -= 1;
        if *count == 0 {
            lanes.remove(&self.key);
            let (topic, partition) = &self.key;
            let partition = partition.to_string();
            // Both are absent where they were never known.
            let _ = (self.lags).remove_label_values(&[topic, &partition]);
            let _ = (self.oldest).remove_label_values(&[topic, &partition]);
            for state in PartitionState::ALL {
                let labels = [topic, &partition, state.as_str()];
                let _ = self.states.remove_label_values(&labels);
            }
        }
    }
}
