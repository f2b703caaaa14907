//! librdkafka's callbacks, which run on the poll thread, and the lanes that they start and end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::watch;

use super::statistics::Statistics;
use super::{NewLane, Order, Progress, code_name, is_for_good};
use crate::record::Partition;
use crate::telemetry::metrics::Metrics;

/// A lane as the poll thread knows it.
pub(super) struct Lane {
    pub(super) order: watch::Sender<Order>,
    ended: Receiver<()>,
    generation: u64,
    progress: Arc<Progress>,
}

impl Lane {
    /// Whether its task has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }
}

/// The consumer's callbacks; they run on the poll thread.
pub struct Context {
    pub(super) metrics: Arc<Metrics>,
    start_lane: Box<dyn Fn(NewLane) + Send + Sync>,
    revoke_deadline: Duration,
    pub(super) lanes: Mutex<HashMap<Partition, Lane>>,
    generations: AtomicU64,
    pub(super) joined: AtomicBool,
    /// When a drain must be over, once one has begun.
    drain_until: Mutex<Option<Instant>>,
    pub(super) stored: AtomicBool,
    commit_failed: AtomicBool,
    /// What the statistics said last of each partition.
    statistics: Mutex<Statistics>,
    told_down: AtomicBool,
}

impl Context {
    /// Callbacks that hand new partitions to `start_lane`, and give lanes `revoke_deadline` to finish.
    pub fn new(
        metrics: Arc<Metrics>,
        revoke_deadline: Duration,
        start_lane: impl Fn(NewLane) + Send + Sync + 'static,
    ) -> Self {
        Context {
            metrics,
            start_lane: Box::new(start_lane),
            revoke_deadline,
            lanes: Mutex::default(),
            generations: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            drain_until: Mutex::default(),
            commit_failed: AtomicBool::new(false),
            stored: AtomicBool::new(false),
            statistics: Mutex::default(),
            told_down: AtomicBool::new(false),
        }
    }

    /// Whether no broker has been up since librdkafka said that all are down.
    pub fn is_down(&self) -> bool {
        self.told_down.load(Ordering::Relaxed)
    }

    /// What librdkafka holds and knows of the partitions, by its last statistics.
    pub fn statistics(&self) -> MutexGuard<'_, Statistics> {
        lock(&self.statistics)
    }

    /// From now on nothing new is begun, and all that is under way must be done by `until`.
    pub(super) fn drain(&self, until: Instant) {
        *lock(&self.drain_until) = Some(until);
    }

    /// How many partitions have been assigned since the start.
    pub(super) fn assigned(&self) -> u64 {
        self.generations.load(Ordering::Relaxed)
    }

    fn assign(&self, partitions: Vec<Partition>) {
        if lock(&self.drain_until).is_some() {
            return;
        }
        for partition in partitions {
            let (order, orders) = watch::channel(Order::Run);
            let (alive, ended) = mpsc::channel();
            let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
            let metrics = self.metrics.partition(&partition.topic, partition.number);
            let progress = Arc::new(Progress::new(metrics));
            let lane = Lane {
                order,
                ended,
                generation,
                progress: Arc::clone(&progress),
            };
            lock(&self.lanes).insert(partition.clone(), lane);
            (self.start_lane)(NewLane {
                partition,
                order: orders,
                progress,
                alive,
            });
        }
        self.tell_assigned();
    }

    /// Ends the lanes of `partitions`: with `order`, and whoever is not done at the deadline at once.
    pub(super) fn end_lanes(&self, partitions: &[Partition], order: Order, deadline: Duration) {
        let until = Instant::now() + deadline;
        let lanes: Vec<(Partition, Lane)> = {
            let mut all = lock(&self.lanes);
            partitions
                .iter()
                .filter_map(|p| all.remove_entry(p))
                .collect()
        };
        for (_, lane) in &lanes {
            lane.order.send_replace(order);
        }
        for (partition, lane) in &lanes {
            let left = until.saturating_duration_since(Instant::now());
            if lane.ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!(%partition, "the deadline has passed; the batch under way is dropped and will be read again");
                lane.order.send_replace(Order::Abandon);
                let _ = lane.ended.recv();
            }
        }
        self.tell_assigned();
    }

    /// The records still to come in all partitions together.
    pub fn lag(&self) -> i64 {
        lock(&self.lanes)
            .values()
            .filter_map(|lane| lane.progress.lag())
            .sum()
    }

    fn revoke_deadline(&self) -> Duration {
        let left =
            lock(&self.drain_until).map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(self.revoke_deadline, |left| left.min(self.revoke_deadline))
    }

    fn tell_assigned(&self) {
        let count = lock(&self.lanes).len();
        self.metrics
            .assigned_partitions
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn generation(&self, partition: &Partition) -> Option<u64> {
        lock(&self.lanes).get(partition).map(|lane| lane.generation)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::debug!(target: "librdkafka", facility, "{message}")
            }
            _ => tracing::trace!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // On an idle topic no later commit would make up for one that failed.
        if self.commit_failed.swap(false, Ordering::Relaxed) {
            self.stored.store(true, Ordering::Relaxed);
        }
        match Statistics::parse(statistics) {
            Ok(statistics) => {
                self.metrics
                    .decompressed_again(statistics.decompressed_again);
                for (partition, lane) in lock(&self.lanes).iter() {
                    if let Some(end) = statistics
                        .partitions
                        .get(partition)
                        .and_then(|seen| seen.end)
                    {
                        lane.progress.log_ends(end);
                    }
                }
                *lock(&self.statistics) = statistics;
            }
            Err(error) => tracing::debug!(%error, "unreadable statistics"),
        }
        if lock(&self.statistics).brokers_up > 0 && self.told_down.swap(false, Ordering::Relaxed) {
            tracing::info!("Kafka answers again");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes by its queue, too, where its lane reads it.
        let code = error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        self.metrics.errors("kafka", code_name(code));
        let all_down = code == RDKafkaErrorCode::AllBrokersDown;
        if is_for_good(code) || (all_down && !self.told_down.swap(true, Ordering::Relaxed)) {
            tracing::warn!(code = code_name(code), "Kafka: {reason}");
        } else {
            tracing::debug!(code = code_name(code), "Kafka: {reason}");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = partitions(list);
        self.metrics.rebalance();
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(count = partitions.len(), "partitions assigned");
                self.joined.store(true, Ordering::Relaxed);
                let answer = consumer.incremental_assign(&TopicPartitionList::new());
                self.assign(partitions);
                answer
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let lost = consumer.assignment_lost();
                tracing::info!(count = partitions.len(), lost, "partitions revoked");
                if lost {
                    self.joined.store(false, Ordering::Relaxed);
                }
                let order = if lost { Order::Abandon } else { Order::Finish };
                self.end_lanes(&partitions, order, self.revoke_deadline());
                if !lost && self.stored.swap(false, Ordering::Relaxed) {
                    log_commit(consumer.commit_consumer_state(CommitMode::Sync));
                }
                consumer.assignment().and_then(|assigned| {
                    let mut both = TopicPartitionList::new();
                    for partition in &partitions {
                        if assigned
                            .find_partition(&partition.topic, partition.number)
                            .is_some()
                        {
                            both.add_partition(&partition.topic, partition.number);
                        }
                    }
                    consumer.incremental_unassign(&both)
                })
            }
            other => Err(KafkaError::Rebalance(other.into())),
        };
        if let Err(error) = result {
            tracing::error!(%error, "the rebalance could not be answered");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        let failed = result
            .as_ref()
            .err()
            .and_then(KafkaError::rdkafka_error_code);
        if failed.is_some_and(|code| code != RDKafkaErrorCode::NoOffset) {
            self.commit_failed.store(true, Ordering::Relaxed);
        }
        log_commit(result);
    }
}

/// Offsets committed for people and tools; the checkpoint does not depend on them.
pub(super) fn log_commit(result: KafkaResult<()>) {
    match result.as_ref().map_err(KafkaError::rdkafka_error_code) {
        Ok(()) | Err(Some(RDKafkaErrorCode::NoOffset)) => {}
        _ => tracing::debug!(
            ?result,
            "offsets were not committed; a later commit or the checkpoint makes up for it"
        ),
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|element| Partition::new(element.topic(), element.partition()))
        .collect()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
