//! The Prometheus metrics: one struct, injected, with a registry of its own.

mod partition;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector, process_collector::ProcessCollector,
};

pub use self::partition::PartitionMetrics;
use super::version;
use crate::record::entity::Reason;

/// Of each bucket the upper end, in seconds: from a record's timestamp until it is durable.
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

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written, alone or as the last of those folded into one write.
    Upserted,
    /// Written, and the document was already so.
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

/// Every metric of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    consumed: IntCounterVec,
    lag: IntGaugeVec,
    /// Lanes per partition: a lane that ends after its successor began leaves the gauge alone.
    lanes: Arc<Mutex<HashMap<Partition, usize>>>,
    settled: Arc<[IntCounter; Outcome::ALL.len()]>,
    record_delay: Histogram,
    batch_write_duration: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
    last_settled: Gauge,
    retries: IntCounterVec,
    errors: IntCounterVec,
    dead_letters: IntCounterVec,
    fenced: IntCounter,
    rebalances: IntCounter,
    decompressed_again: IntCounter,
    /// Changed passwords that were taken into use.
    pub credential_swaps: IntCounter,
    /// Partitions that the group has assigned to this worker.
    pub assigned_partitions: IntGauge,
    /// Bytes in batches that are built or in flight.
    pub buffered_bytes: IntGauge,
    /// Partitions that many rejections in a row have stopped.
    pub breaker_open: IntGauge,
    tasks: IntGauge,
}

type Partition = (String, i32);

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics, each label value that is known in advance at 0.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let add = Add(&registry);
        let process = registry.register(Box::new(ProcessCollector::for_self()));
        process.expect("the process metrics are registered once");
        add.gauges(
            "build_info",
            "1, with version and source revision.",
            &["version", "revision"],
        )
        .with_label_values(&[version::VERSION, version::REVISION])
        .set(1);
        let settled = add.counters(
            "records_settled_total",
            "Records settled, by what became of them.",
            &["outcome"],
        );
        let dead_letters = add.counters(
            "dead_letters_total",
            "Records kept as dead letters.",
            &["reason"],
        );
        for reason in Reason::ALL {
            dead_letters.with_label_values(&[reason.as_str()]);
        }
        let partition = ["topic", "partition"];
        Metrics {
            consumed: add.counters(
                "records_consumed_total",
                "Records taken from Kafka.",
                &partition,
            ),
            lag: add.gauges(
                "consumer_lag_records",
                "Records from what is settled to the log's end.",
                &partition,
            ),
            lanes: Arc::default(),
            settled: Arc::new(
                Outcome::ALL.map(|outcome| settled.with_label_values(&[outcome.as_str()])),
            ),
            record_delay: add.histogram(
                "record_delay_seconds",
                "From a record's timestamp until it is durable.",
                &DELAY_SECONDS,
            ),
            batch_write_duration: add.histogram(
                "batch_write_duration_seconds",
                "A batch's transaction, retries included.",
                &WRITE_SECONDS,
            ),
            batch_records: add.histogram("batch_records", "Records in a batch.", &RECORDS),
            batch_bytes: add.histogram("batch_bytes", "BSON bytes in a batch.", &BYTES),
            last_settled: add.metric(Gauge::with_opts(opts(
                "last_settled_timestamp_seconds",
                "When a batch was last settled; 0: not yet.",
            ))),
            retries: add.counters(
                "retries_total",
                "Writes tried again, by the reason.",
                &["reason"],
            ),
            errors: add.counters(
                "errors_total",
                "Errors, by where and of what kind.",
                &["stage", "kind"],
            ),
            dead_letters,
            fenced: add.counter(
                "fenced_total",
                "Batches dropped: another worker owns the partition.",
            ),
            rebalances: add.counter(
                "rebalances_total",
                "Assignments and revocations by the group.",
            ),
            decompressed_again: add.counter(
                "decompressed_again_total",
                "Batches decompressed once more, since they were larger than expected.",
            ),
            credential_swaps: add.counter(
                "credential_swaps_total",
                "Connections to MongoDB made anew because the password had changed.",
            ),
            assigned_partitions: add
                .gauge("assigned_partitions", "Partitions assigned to this worker."),
            buffered_bytes: add.gauge(
                "buffered_bytes",
                "Bytes in batches that are built or in flight.",
            ),
            breaker_open: add.gauge("breaker_open", "Partitions stopped by rejections in a row."),
            tasks: add.gauge(
                "tasks",
                "Asynchronous tasks that are alive: lanes and a few more.",
            ),
            registry,
        }
    }

    /// The children of one partition, resolved once. Its lag disappears with the last of them.
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        let key = (topic.to_owned(), partition);
        *lock(&self.lanes).entry(key.clone()).or_default() += 1;
        PartitionMetrics {
            consumed: self
                .consumed
                .with_label_values(&[topic, &partition.to_string()]),
            record_delay: self.record_delay.clone(),
            batch_write_duration: self.batch_write_duration.clone(),
            batch_records: self.batch_records.clone(),
            batch_bytes: self.batch_bytes.clone(),
            settled: self.settled.clone(),
            last_settled: self.last_settled.clone(),
            lag: OnceLock::new(),
            lags: self.lag.clone(),
            lanes: self.lanes.clone(),
            key,
        }
    }

    /// One more attempt, because of `reason`.
    pub fn retries(&self, reason: &'static str) {
        self.retries.with_label_values(&[reason]).inc();
    }

    /// One error of `kind` in `stage`.
    pub fn errors(&self, stage: &'static str, kind: &'static str) {
        self.errors.with_label_values(&[stage, kind]).inc();
    }

    /// Makes these combinations of `errors` and reasons of `retries` appear as 0 before the first one happens.
    pub fn expect(&self, retries: &[&str], errors: &[(&str, &str)]) {
        for reason in retries {
            self.retries.with_label_values(&[*reason]);
        }
        for (stage, kind) in errors {
            self.errors.with_label_values(&[*stage, *kind]);
        }
    }

    /// One more dead letter.
    pub fn dead_letter(&self, reason: Reason) {
        self.dead_letters
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// One batch dropped because another worker owns the partition.
    pub fn fenced(&self) {
        self.fenced.inc();
    }

    /// A partition stopped by rejections in a row, until the guard is dropped.
    pub fn open_breaker(&self) -> OpenBreaker {
        self.breaker_open.inc();
        OpenBreaker(self.breaker_open.clone())
    }

    /// One assignment or revocation.
    pub fn rebalance(&self) {
        self.rebalances.inc();
    }

    /// So many batches have been decompressed once more, since the client began.
    pub fn decompressed_again(&self, total: u64) {
        let counted = self.decompressed_again.get();
        self.decompressed_again
            .inc_by(total.saturating_sub(counted));
    }

    /// How many records have settled as `outcome`, over all partitions.
    pub fn settled(&self, outcome: Outcome) -> u64 {
        self.settled[outcome as usize].get()
    }

    /// Everything, in the text format 0.0.4.
    pub fn render(&self) -> String {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.set(runtime.metrics().num_alive_tasks() as i64);
        }
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        })
    }
}

/// One partition that is stopped; counted until dropped.
#[derive(Debug)]
pub struct OpenBreaker(IntGauge);

impl Drop for OpenBreaker {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("workflows_sink_{name}"), help)
}

/// Registers what is made of constants, each name once.
struct Add<'a>(&'a Registry);

impl Add<'_> {
    fn metric<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        made.and_then(|metric| {
            self.0.register(Box::new(metric.clone()))?;
            Ok(metric)
        })
        .expect("a metric is valid and registered once")
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.metric(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.metric(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.metric(IntGauge::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.metric(IntGaugeVec::new(opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.metric(Histogram::with_opts(opts))
    }
}
