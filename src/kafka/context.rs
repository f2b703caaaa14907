//! librdkafka's callbacks, which run on the poll thread, and the lanes that they start and end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::watch;

use super::errors::{code_name, code_of, is_permanent};
use super::logged::{forward_log, log_assigned, log_commit, log_revoked};
use super::membership::LastError;
use super::statistics::Statistics;
use super::{NewLane, Order, Progress};
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reminder::Reminder;

/// How long no broker may be up before the worker counts as outside its group.
const CUT_OFF_AFTER: Duration = Duration::from_secs(10);

/// A lane as the poll thread knows it.
pub(super) struct Lane {
    pub(super) order: watch::Sender<Order>,
    ended: Receiver<()>,
    generation: u64,
    progress: Arc<Progress>,
}

impl Lane {
    /// Whether its task has ended.
    fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }
}

/// The consumer's callbacks. A panic in one would end the process: they pass through C.
pub struct Context {
    pub(super) metrics: Arc<Metrics>,
    start_lane: Arc<dyn Fn(NewLane) + Send + Sync>,
    revoke_deadline: Duration,
    pub(super) lanes: Mutex<HashMap<Partition, Lane>>,
    generations: AtomicU64,
    rebalances: AtomicU64,
    pub(super) joined: AtomicBool,
    /// When a drain must have ended, once one has begun.
    drain_until: Mutex<Option<Instant>>,
    pub(super) stored: AtomicBool,
    commit_failed: AtomicBool,
    pub(super) last_error: LastError,
    /// librdkafka's last statistics.
    statistics: Mutex<Statistics>,
    /// Since when no broker has been up, where librdkafka said that all are down.
    down_since: Mutex<Option<Instant>>,
    /// When what needs a person was logged last: the client repeats it without end.
    refusals: Mutex<Reminder>,
}

impl Context {
    /// Callbacks that hand new partitions to `start_lane`, and give lanes `revoke_deadline` to
    /// finish.
    pub fn new(
        metrics: Arc<Metrics>,
        revoke_deadline: Duration,
        start_lane: impl Fn(NewLane) + Send + Sync + 'static,
    ) -> Self {
        Context::begin(metrics, revoke_deadline, Arc::new(start_lane), 0)
    }

    /// Those of a consumer that takes this one's place. Generations go on: what a lane of the old
    /// one still asks for meets none of the new one's.
    pub(super) fn renewed(&self) -> Self {
        let (metrics, start_lane) = (Arc::clone(&self.metrics), Arc::clone(&self.start_lane));
        Context::begin(metrics, self.revoke_deadline, start_lane, self.assigned())
    }

    fn begin(
        metrics: Arc<Metrics>,
        revoke_deadline: Duration,
        start_lane: Arc<dyn Fn(NewLane) + Send + Sync>,
        generations: u64,
    ) -> Self {
        Context {
            metrics,
            start_lane,
            revoke_deadline,
            lanes: Mutex::default(),
            generations: AtomicU64::new(generations),
            rebalances: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            drain_until: Mutex::default(),
            commit_failed: AtomicBool::new(false),
            last_error: LastError::default(),
            stored: AtomicBool::new(false),
            statistics: Mutex::default(),
            down_since: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Whether the worker is in its group, as far as can be known: without a broker it is no more,
    /// and librdkafka may not say so (under KIP-848 it never does).
    pub(super) fn is_joined(&self) -> bool {
        let down_since = *self.down_since.lock();
        let is_cut_off = down_since.is_some_and(|since| since.elapsed() >= CUT_OFF_AFTER);
        self.joined.load(Ordering::Relaxed) && !is_cut_off
    }

    /// Whether no broker has been up since librdkafka said that all are down.
    pub fn is_down(&self) -> bool {
        self.down_since.lock().is_some()
    }

    /// What librdkafka holds and knows of the partitions, by its last statistics.
    pub fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics.lock()
    }

    /// From now on nothing new is begun, and all that is under way must have ended by `until`.
    pub(super) fn drain(&self, until: Instant) {
        *self.drain_until.lock() = Some(until);
    }

    /// How many partitions have been assigned since the start.
    pub(super) fn assigned(&self) -> u64 {
        self.generations.load(Ordering::Relaxed)
    }

    /// How many rounds of a rebalance this consumer has answered.
    pub(super) fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Relaxed)
    }

    fn assign(&self, partitions: Vec<Partition>) {
        if self.drain_until.lock().is_some() {
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
            self.lanes.lock().insert(partition.clone(), lane);
            (self.start_lane)(NewLane {
                partition,
                order: orders,
                progress,
                alive,
            });
        }
        self.report_assigned();
    }

    /// Ends the lanes of `partitions`: by `order`, and at the deadline those that still run at
    /// once.
    pub(super) fn end_lanes(&self, partitions: &[Partition], order: Order, deadline: Duration) {
        let until = Instant::now() + deadline;
        let lanes: Vec<(Partition, Lane)> = {
            let mut all = self.lanes.lock();
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
                tracing::warn!(
                    code = %Code::BatchDropped, %partition,
                    "the deadline has passed; the batch under way is dropped and will be read again"
                );
                lane.order.send_replace(Order::Abandon);
                let _ = lane.ended.recv();
            }
        }
        self.report_assigned();
    }

    /// The records still to come in all partitions together.
    pub fn lag(&self) -> i64 {
        self.lanes
            .lock()
            .values()
            .filter_map(|lane| lane.progress.lag())
            .sum()
    }

    /// Every partition that has a lane, with its progress.
    pub(super) fn progress(&self) -> Vec<(Partition, Arc<Progress>)> {
        let lanes = self.lanes.lock();
        lanes
            .iter()
            .map(|(partition, lane)| (partition.clone(), Arc::clone(&lane.progress)))
            .collect()
    }

    /// Whether the task of a lane has not ended yet.
    pub(super) fn is_any_lane_running(&self) -> bool {
        let lanes = self.lanes.lock();
        lanes.values().any(|lane| !lane.has_ended())
    }

    pub(super) fn revoke_deadline(&self) -> Duration {
        let until = *self.drain_until.lock();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(self.revoke_deadline, |left| left.min(self.revoke_deadline))
    }

    fn report_assigned(&self) {
        let count = i64::try_from(self.lanes.lock().len());
        let count = count.expect("Kafka numbers partitions in 32 bits");
        self.metrics.assigned_partitions.set(count);
    }

    pub(super) fn generation(&self, partition: &Partition) -> Option<u64> {
        let lanes = self.lanes.lock();
        lanes.get(partition).map(|lane| lane.generation)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        // On an idle topic no later commit would make up for one that failed.
        if self.commit_failed.swap(false, Ordering::Relaxed) {
            self.stored.store(true, Ordering::Relaxed);
        }
        match Statistics::parse(statistics) {
            Ok(statistics) => {
                let again = statistics.decompressed_again;
                self.metrics.decompressed_again(again);
                for (partition, lane) in self.lanes.lock().iter() {
                    let seen = statistics.partitions.get(partition);
                    if let Some(end) = seen.and_then(|seen| seen.end) {
                        lane.progress.log_reached(end);
                    }
                }
                *self.statistics.lock() = statistics;
            }
            Err(error) => tracing::debug!(%error, "unreadable statistics"),
        }
        if self.statistics.lock().brokers_up > 0 && self.down_since.lock().take().is_some() {
            tracing::info!("Kafka answers again");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = code_of(&error);
        // The end of a partition comes by its queue, too, where its lane reads it.
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        self.metrics.errors("kafka", code_name(code));
        // That all are down follows what says why.
        if code != RDKafkaErrorCode::AllBrokersDown {
            self.last_error.note(reason);
        }
        let is_news = match code {
            // A lane says so of a topic, and the membership of the group.
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => false,
            RDKafkaErrorCode::AllBrokersDown => {
                let mut down_since = self.down_since.lock();
                let is_news = down_since.is_none();
                down_since.get_or_insert_with(Instant::now);
                is_news
            }
            _ => is_permanent(code) && self.refusals.lock().is_due(reason),
        };
        if is_news {
            tracing::warn!(code = %Code::KafkaAway, error = code_name(code), "Kafka: {reason}");
        } else {
            tracing::debug!(error = code_name(code), "Kafka: {reason}");
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
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                log_assigned(partitions.len(), self.joined.swap(true, Ordering::Relaxed));
                self.last_error.clear();
                *self.refusals.lock() = Reminder::default();
                let answer = consumer.incremental_assign(&TopicPartitionList::new());
                self.assign(partitions);
                answer
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let lost = consumer.assignment_lost();
                log_revoked(partitions.len(), lost);
                if lost {
                    self.joined.store(false, Ordering::Relaxed);
                }
                let order = if lost { Order::Abandon } else { Order::Finish };
                self.end_lanes(&partitions, order, self.revoke_deadline());
                if !lost && self.stored.swap(false, Ordering::Relaxed) {
                    // Not waited for: without a coordinator that would be for a session's time, and
                    // the client sends it before it gives the partitions up.
                    log_commit(consumer.commit_consumer_state(CommitMode::Async));
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
            tracing::error!(code = %Code::ClientFailed, %error, "the rebalance could not be answered");
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

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|element| Partition::new(element.topic(), element.partition()))
        .collect()
}
