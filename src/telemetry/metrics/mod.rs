//! The service's Prometheus metrics: one struct, injected, with a registry of its own.

mod namespace;
mod outcome;
mod partition;
mod state;
#[cfg(test)]
mod tests;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

pub use self::namespace::MetricDescription;
pub(crate) use self::namespace::Namespace;
pub use self::outcome::Outcome;
use self::partition::LaneMetrics;
pub use self::partition::PartitionMetrics;
pub use self::state::PartitionState;
use crate::record::entity::Reason;

/// Every metric of the service.
#[derive(Debug)]
pub struct Metrics {
    namespace: Namespace,
    lanes: LaneMetrics,
    trouble: Trouble,
    rebalances: IntCounter,
    decompressed_again: IntCounter,
    /// Changed passwords that were taken into use.
    pub credential_swaps: IntCounter,
    /// Documents removed because their entities' kind has changed.
    pub moved_documents: IntCounter,
    /// Partitions that the group has assigned to this worker.
    pub assigned_partitions: IntGauge,
    topic_partitions: IntGaugeVec,
    /// Bytes in batches that are built or in flight.
    pub buffered_bytes: IntGauge,
    tasks: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics, with every label value that is known in advance at 0.
    pub fn new() -> Metrics {
        let namespace = Namespace::new("workflows_sink");
        Metrics {
            lanes: LaneMetrics::new(&namespace),
            trouble: Trouble::new(&namespace),
            rebalances: namespace.counter(
                "rebalances_total",
                "Assignments and revocations by the group.",
            ),
            decompressed_again: namespace.counter(
                "decompressed_again_total",
                "Batches decompressed once more, since they were larger than expected.",
            ),
            credential_swaps: namespace.counter(
                "credential_swaps_total",
                "Reconnections to MongoDB because the password had changed.",
            ),
            moved_documents: namespace.counter(
                "moved_documents_total",
                "Documents deleted because their entity has gone to another collection.",
            ),
            assigned_partitions: namespace
                .gauge("assigned_partitions", "Partitions assigned to this worker."),
            topic_partitions: namespace.gauges(
                "topic_partitions",
                "Partitions that the topic has, whoever is assigned them.",
                &["topic"],
            ),
            buffered_bytes: namespace.gauge(
                "buffered_bytes",
                "Bytes in batches that are built or in flight.",
            ),
            tasks: namespace.gauge(
                "tasks",
                "Asynchronous tasks that are alive: lanes and a few more.",
            ),
            namespace,
        }
    }

    /// The metrics of one partition, for its lane. Its lag disappears with the last of them.
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        self.lanes.partition(topic, partition)
    }

    /// Counts a retry because of `reason`.
    pub fn retries(&self, reason: &'static str) {
        self.trouble.retries.with_label_values(&[reason]).inc();
    }

    /// Counts an error of `kind` in `stage`.
    pub fn errors(&self, stage: &'static str, kind: &'static str) {
        self.trouble.errors.with_label_values(&[stage, kind]).inc();
    }

    /// Shows whether what the files of credentials hold for `server` can be put in use.
    pub fn credentials_unfit(&self, server: Server, is_unfit: bool) {
        let unfit = &self.trouble.credentials_unfit;
        unfit
            .with_label_values(&[server.as_str()])
            .set(is_unfit.into());
    }

    /// Shows these reasons of `retries` and combinations of `errors` as 0 before they happen.
    pub fn expect(&self, retries: &[&str], errors: &[(&str, &str)]) {
        for reason in retries {
            self.trouble.retries.with_label_values(&[*reason]);
        }
        for (stage, kind) in errors {
            self.trouble.errors.with_label_values(&[*stage, *kind]);
        }
    }

    /// Counts a dead letter.
    pub fn dead_letter(&self, reason: Reason) {
        let dead_letters = &self.trouble.dead_letters;
        dead_letters.with_label_values(&[reason.as_str()]).inc();
    }

    /// Shows how many dead letters of the group are open, by the reason.
    pub fn dead_letters_open(&self, reason: Reason, count: i64) {
        let open = &self.trouble.dead_letters_open;
        open.with_label_values(&[reason.as_str()]).set(count);
    }

    /// Counts a batch dropped because another worker owns the partition.
    pub fn fenced(&self) {
        self.trouble.fenced.inc();
    }

    /// Counts a partition as stopped by rejections in a row, until the guard is dropped.
    pub fn open_breaker(&self) -> OpenBreaker {
        let breaker_open = &self.trouble.breaker_open;
        breaker_open.inc();
        OpenBreaker(breaker_open.clone())
    }

    /// Shows how many partitions `topic` has.
    pub fn topic_partitions(&self, topic: &str, count: usize) {
        let count = i64::try_from(count).expect("Kafka numbers partitions in 32 bits");
        self.topic_partitions.with_label_values(&[topic]).set(count);
    }

    /// Counts an assignment or a revocation.
    pub fn rebalance(&self) {
        self.rebalances.inc();
    }

    /// Shows how many batches have been decompressed once more since the client began.
    pub fn decompressed_again(&self, total: u64) {
        let counted = self.decompressed_again.get();
        self.decompressed_again
            .inc_by(total.saturating_sub(counted));
    }

    /// How many records have settled as `outcome`, over all partitions.
    pub fn settled(&self, outcome: Outcome) -> u64 {
        self.lanes.settled(outcome)
    }

    /// What each metric is, for docs/metrics.md.
    pub fn described(&self) -> Vec<MetricDescription> {
        self.namespace.described()
    }

    /// Every metric, in the text format 0.0.4.
    pub fn render(&self) -> String {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.set(runtime.metrics().num_alive_tasks() as i64);
        }
        self.namespace.render()
    }
}

/// Whose credentials change while the service runs.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    /// The brokers.
    Kafka,
    /// The replica set.
    Mongodb,
}

impl Server {
    /// As the label has it.
    const fn as_str(self) -> &'static str {
        match self {
            Server::Kafka => "kafka",
            Server::Mongodb => "mongodb",
        }
    }
}

/// Errors, and their consequences.
#[derive(Debug)]
struct Trouble {
    retries: IntCounterVec,
    errors: IntCounterVec,
    dead_letters: IntCounterVec,
    dead_letters_open: IntGaugeVec,
    credentials_unfit: IntGaugeVec,
    fenced: IntCounter,
    breaker_open: IntGauge,
}

impl Trouble {
    fn new(namespace: &Namespace) -> Trouble {
        let dead_letters = namespace.counters(
            "dead_letters_total",
            "Records kept as dead letters.",
            &["reason"],
        );
        let dead_letters_open = namespace.gauges(
            "dead_letters_open",
            "Dead letters of the group that are open, counted every 15 seconds, up to 100,000.",
            &["reason"],
        );
        for reason in Reason::ALL {
            dead_letters.with_label_values(&[reason.as_str()]);
            dead_letters_open.with_label_values(&[reason.as_str()]);
        }
        let credentials_unfit = namespace.gauges(
            "credentials_unfit",
            "Whether the credentials in files that change are refused or cannot be read.",
            &["server"],
        );
        for server in [Server::Kafka, Server::Mongodb] {
            credentials_unfit.with_label_values(&[server.as_str()]);
        }
        Trouble {
            retries: namespace.counters(
                "retries_total",
                "Writes retried, by the reason.",
                &["reason"],
            ),
            errors: namespace.counters(
                "errors_total",
                "Errors, by stage and kind.",
                &["stage", "kind"],
            ),
            dead_letters,
            dead_letters_open,
            credentials_unfit,
            fenced: namespace.counter(
                "fenced_total",
                "Batches dropped: another worker owns the partition.",
            ),
            breaker_open: namespace
                .gauge("breaker_open", "Partitions stopped by rejections in a row."),
        }
    }
}

/// A partition that is stopped; counted until dropped.
#[derive(Debug)]
pub struct OpenBreaker(IntGauge);

impl Drop for OpenBreaker {
    fn drop(&mut self) {
        self.0.dec();
    }
}
