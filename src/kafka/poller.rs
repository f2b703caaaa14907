//! The thread that polls: it alone assigns and unassigns partitions, commits, and leaves the group.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, watch};

use super::consumer::{self, Shared};
use super::errors::code_of;
use super::handle::{Renewal, Request, forget_what_is_left};
use super::logged::log_commit;
use super::validation::seek_validated;
use super::{Consumer, Context, Handle, LaneQueue, Order};
use crate::record::{Partition, Position};
use crate::telemetry::code::Code;

/// How long one poll waits where something has happened lately: it bounds how late offsets are
/// committed.
const POLL: Duration = Duration::from_millis(50);

/// How long it waits while partitions are being claimed: each stands still until its claim has been
/// served.
const POLL_CLAIMING: Duration = Duration::from_millis(10);

/// For how long after an assignment.
const CLAIMING_FOR: Duration = Duration::from_secs(1);

/// How long it waits at rest, where the wake-ups would be a quarter of what the service takes: it
/// bounds how late a signal is seen. A rebalance ends it at once.
const POLL_AT_REST: Duration = Duration::from_millis(250);

/// For how long after an assignment, a lane's request or a settled batch another one is expected.
const RESTS_AFTER: Duration = Duration::from_secs(5);

/// For how long lanes' requests are served between two polls: one waits for librdkafka's main
/// thread, which may be waiting for a coordinator.
const SERVE_MAX: Duration = Duration::from_secs(2);

/// How long lanes that did not end in time may take to give up.
const ABANDON_DEADLINE: Duration = Duration::from_secs(1);

/// The longest that a stop waits for beyond the deadlines for what is under way: a renewal that has
/// just begun, requests of lanes, and then the leaving itself.
pub const STOP_BESIDES_MAX: Duration = POLL_AT_REST
    .saturating_add(SERVE_MAX)
    .saturating_add(ABANDON_DEADLINE.saturating_mul(2))
    .saturating_add(consumer::LEAVE_DEADLINE.saturating_mul(2));

/// What the poll thread runs.
pub struct Poller {
    consumer: Arc<Consumer>,
    shared: Shared,
    /// librdkafka's, for a consumer in place of this one.
    properties: BTreeMap<String, String>,
    /// What is to take this consumer's place, where somebody has asked for it.
    renewal: Option<Renewal>,
    requests: Receiver<Request>,
    polls: watch::Sender<u64>,
    rebalances: watch::Sender<u64>,
    /// When the poll thread was last needed.
    needed: Instant,
    /// When partitions were last assigned.
    assigned: Instant,
}

/// The lanes' handle, and what becomes the poll thread once there is a consumer.
pub fn channel() -> (Handle, Unstarted) {
    let (requests, received) = mpsc::channel();
    let (polls, polled) = watch::channel(0);
    let (rebalances, rebalanced) = watch::channel(0);
    let shared = Shared::default();
    let handle = Handle {
        consumer: Arc::clone(&shared),
        requests,
        polls: polled,
        rebalances: rebalanced,
    };
    let unstarted = Unstarted {
        shared,
        requests: received,
        polls,
        rebalances,
    };
    (handle, unstarted)
}

/// A poll thread without a consumer yet: the consumer's callbacks need the lanes' handle first.
pub struct Unstarted {
    shared: Shared,
    requests: Receiver<Request>,
    polls: watch::Sender<u64>,
    rebalances: watch::Sender<u64>,
}

impl Unstarted {
    /// Creates the consumer from librdkafka's `properties`.
    ///
    /// # Errors
    /// librdkafka's, which accepts not all of them.
    pub fn create(
        self,
        properties: BTreeMap<String, String>,
        context: Context,
    ) -> KafkaResult<Poller> {
        Ok(Poller {
            consumer: consumer::put_in_use(consumer::create(&properties, context)?, &self.shared),
            shared: self.shared,
            properties,
            renewal: None,
            requests: self.requests,
            polls: self.polls,
            rebalances: self.rebalances,
            needed: Instant::now(),
            assigned: Instant::now(),
        })
    }
}

impl Poller {
    /// The consumer.
    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// Subscribes, and polls until `stop` holds; then ends every lane within `drain_deadline`,
    /// commits, and leaves the group. Calls `beat` after each poll, with whether the group is
    /// joined.
    ///
    /// # Errors
    /// A fatal error of librdkafka; or that lanes had to be cut off.
    pub fn run(
        mut self,
        topics: &[String],
        stop: watch::Receiver<bool>,
        drain_deadline: Duration,
        beat: impl Fn(bool),
    ) -> anyhow::Result<()> {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)?;
        while !*stop.borrow() {
            self.poll_once()?;
            beat(self.is_joined());
            if let Some(renewal) = self.renewal.take() {
                self.renew(renewal, &topics)?;
            }
        }
        self.drain(drain_deadline, beat)
    }

    fn is_joined(&self) -> bool {
        self.consumer.context().is_joined()
    }

    /// Leaves the group, and joins it with a new consumer: what the old one holds of a partition
    /// may be what keeps it from being fetched.
    fn renew(&mut self, renewal: Renewal, topics: &[&str]) -> anyhow::Result<()> {
        let Renewal { why, properties } = renewal;
        let context = Arc::clone(self.consumer.context());
        let properties = properties.unwrap_or_else(|| self.properties.clone());
        // Before the group is left: one that cannot be made must not cost the one in use.
        let renewed = match consumer::create(&properties, context.renewed()) {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::warn!(
                    code = %Code::NewClient, why, %error,
                    "a new Kafka client could not be made; continuing with the one in use"
                );
                return Ok(());
            }
        };
        tracing::warn!(code = %Code::NewClient, why, "leaving the group, to join it with a new Kafka client");
        let finish = context.revoke_deadline();
        context.drain(Instant::now() + finish);
        let partitions: Vec<Partition> = context.lanes.lock().keys().cloned().collect();
        context.end_lanes(&partitions, Order::Finish, finish);
        self.commit_all();
        consumer::leave(&self.consumer);
        self.properties = properties;
        self.consumer = consumer::put_in_use(renewed, &self.shared);
        self.consumer.subscribe(topics)?;
        self.needed = Instant::now();
        Ok(())
    }

    fn poll_once(&mut self) -> anyhow::Result<()> {
        let wait = if self.assigned.elapsed() < CLAIMING_FOR {
            POLL_CLAIMING
        } else if self.needed.elapsed() < RESTS_AFTER {
            POLL
        } else {
            POLL_AT_REST
        };
        let assigned = self.consumer.context().assigned();
        match self.consumer.poll(wait) {
            Some(Err(error)) => self.report(&error)?,
            Some(Ok(message)) => anyhow::bail!(
                "record {}[{}] at {} arrived outside its partition's queue",
                rdkafka::Message::topic(&message),
                rdkafka::Message::partition(&message),
                rdkafka::Message::offset(&message)
            ),
            None => {}
        }
        self.polls.send_modify(|polls| *polls += 1);
        let rebalances = self.consumer.context().rebalances();
        self.rebalances
            .send_if_modified(|seen| mem::replace(seen, rebalances) != rebalances);
        if self.consumer.context().assigned() != assigned {
            self.assigned = Instant::now();
            self.needed = self.assigned;
        }
        let until = Instant::now() + SERVE_MAX;
        while Instant::now() < until
            && let Ok(request) = self.requests.try_recv()
        {
            self.serve(request);
            self.needed = Instant::now();
        }
        if self.commit_stored() {
            self.needed = Instant::now();
        }
        Ok(())
    }

    /// Begins to commit all that lanes have stored. Leaving waits for it, but not without end, as a
    /// synchronous commit does without a broker.
    fn commit_all(&self) {
        (self.consumer.context().stored).store(false, Ordering::Relaxed);
        log_commit(self.consumer.commit_consumer_state(CommitMode::Async));
    }

    /// Begins to commit what lanes have stored since the last time; `false` where that is nothing.
    fn commit_stored(&self) -> bool {
        let stored = &self.consumer.context().stored;
        let is_due = stored.swap(false, Ordering::Relaxed);
        if is_due {
            log_commit(self.consumer.commit_consumer_state(CommitMode::Async));
        }
        is_due
    }

    /// Logs an error, which the callback has counted; fails where librdkafka cannot continue.
    fn report(&self, error: &KafkaError) -> anyhow::Result<()> {
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            anyhow::bail!("librdkafka cannot continue: {code}: {reason}");
        }
        match code_of(error) {
            RDKafkaErrorCode::PollExceeded => tracing::warn!(
                code = %Code::Frozen,
                "nothing was polled for max.poll.interval.ms (was the process frozen?); \
                 rejoining the group"
            ),
            _ => tracing::debug!(%error, "an error of the Kafka client"),
        }
        Ok(())
    }

    fn serve(&mut self, request: Request) {
        let context = Arc::clone(self.consumer.context());
        match request {
            Request::Start {
                partition,
                from,
                generation,
                queue,
            } => {
                if context.generation(&partition) == Some(generation) {
                    // A lane that has ended meanwhile needs no queue.
                    let _ = queue.send(self.start(&partition, from));
                }
            }
            Request::Stop {
                partition,
                generation,
                done,
            } => {
                if context.generation(&partition) == Some(generation) {
                    // An unassigned partition's stored offset is forgotten.
                    self.commit_stored();
                    self.unassign(&partition);
                }
                let _ = done.send(());
            }
            Request::Renew(renewal) => self.renewal = Some(renewal.after(self.renewal.take())),
        }
    }

    fn start(&self, partition: &Partition, from: Position) -> KafkaResult<LaneQueue> {
        let queue = self
            .consumer
            .split_partition_queue(&partition.topic, partition.number);
        let no_queue = || KafkaError::Subscription(format!("no queue for {partition}"));
        let mut queue = queue.ok_or_else(no_queue)?;
        forget_what_is_left(&queue);
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        queue.set_nonempty_callback(move || waker.notify_one());
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(from.offset);
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
        self.consumer.incremental_assign(&list)?;
        if let Err(error) = seek_validated(&self.consumer, partition, from) {
            self.unassign(partition);
            return Err(error);
        }
        Ok(LaneQueue { queue, wake })
    }

    fn unassign(&self, partition: &Partition) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.number);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(%partition, %error, "the partition was not assigned");
        }
    }

    /// Ends every lane, commits and leaves, so that others take over within milliseconds.
    fn drain(mut self, drain_deadline: Duration, beat: impl Fn(bool)) -> anyhow::Result<()> {
        self.needed = Instant::now();
        let context = Arc::clone(self.consumer.context());
        let until = Instant::now() + drain_deadline;
        context.drain(until);
        let partitions: Vec<Partition> = context.lanes.lock().keys().cloned().collect();
        for lane in context.lanes.lock().values() {
            lane.order.send_replace(Order::Finish);
        }
        let mut in_time = true;
        while context.is_any_lane_running() {
            if Instant::now() >= until {
                in_time = false;
                break;
            }
            self.poll_once()?;
            beat(self.is_joined());
        }
        context.end_lanes(&partitions, Order::Abandon, ABANDON_DEADLINE);
        self.commit_all();
        consumer::leave(&self.consumer);
        anyhow::ensure!(
            in_time,
            "not everything under way was written before the deadline; it will be read again"
        );
        Ok(())
    }
}
