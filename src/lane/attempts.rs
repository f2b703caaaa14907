//! What a lane does about the attempts at its batch: it counts and shows those that fail, and gives
//! its slot to others while none is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Lanes;
use super::slots::{Slot, Slots};
use crate::checkpoint;
use crate::kafka::Progress;
use crate::record::Partition;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Metrics, PartitionState};
use crate::writer::{Attempts, Trouble};

/// How long a batch may fail before its partition counts as stuck: servers recover from an election
/// by themselves.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Whether a batch waits between two attempts, for the lane that fills the next one.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    now: AtomicBool,
    began: Notify,
}

impl Waiting {
    /// Whether it does now.
    pub(super) fn is_on(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// Returns once it begins to.
    pub(super) async fn begins(&self) {
        self.began.notified().await;
    }

    fn set(&self, now: bool) {
        self.now.store(now, Ordering::Relaxed);
        if now {
            self.began.notify_one();
        }
    }
}

/// Where the attempts at a batch are counted and shown.
pub(super) struct Shown {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    progress: Arc<Progress>,
    partition: Partition,
    slots: Slots,
    pub(super) waiting: Arc<Waiting>,
}

impl Shown {
    /// For the batches of `partition`.
    pub(super) fn new(lanes: &Lanes, partition: &Partition, progress: &Arc<Progress>) -> Shown {
        Shown {
            metrics: Arc::clone(&lanes.metrics),
            health: Arc::clone(&lanes.health),
            progress: Arc::clone(progress),
            partition: partition.clone(),
            slots: lanes.slots.clone(),
            waiting: Arc::default(),
        }
    }
}

/// The attempts at one batch.
pub(super) struct LaneAttempts<'b> {
    shown: &'b Shown,
    /// The batch's slot, where it is a large one.
    slot: &'b mut Option<Slot>,
    is_large: bool,
    failing_since: Option<Instant>,
    is_stuck: bool,
}

impl<'b> LaneAttempts<'b> {
    /// None has been made yet. `slot` is the batch's.
    pub(super) fn new(shown: &'b Shown, slot: &'b mut Option<Slot>) -> LaneAttempts<'b> {
        LaneAttempts {
            shown,
            is_large: slot.is_some(),
            slot,
            failing_since: None,
            is_stuck: false,
        }
    }

    fn recover(&mut self) {
        if std::mem::take(&mut self.is_stuck) {
            self.shown
                .progress
                .metrics
                .set_state(PartitionState::Running);
            self.shown
                .health
                .note(&self.shown.partition.to_string(), None);
        }
    }

    fn show(&mut self, trouble: &Trouble<'_>) {
        let Trouble {
            offset,
            records,
            bytes,
            error,
            ..
        } = *trouble;
        self.is_stuck = true;
        self.shown.progress.metrics.set_state(PartitionState::Stuck);
        let place = match trouble.collection {
            Some(collection) => format!("does not get into {collection}"),
            None => "is not accepted by MongoDB".to_owned(),
        };
        let mut why = format!(
            "its batch from offset {offset} on ({records} record(s), {bytes} bytes) {place}: {error}"
        );
        // More than one are halved until this one stands alone.
        let is_of_entities = |collection| collection != checkpoint::COLLECTION;
        if records == 1 && trouble.collection.is_some_and(is_of_entities) {
            let Partition { topic, number } = &self.shown.partition;
            why += &format!(
                "; where it is the record that MongoDB cannot take, `workflows-sink offsets resolve \
                 --topic {topic} --partition {number} --reject` makes it a dead letter"
            );
        }
        self.shown
            .health
            .note(&self.shown.partition.to_string(), Some(&why));
    }
}

impl Attempts for LaneAttempts<'_> {
    fn failed(&mut self, trouble: &Trouble<'_>) {
        self.shown.metrics.retries(trouble.cause.as_str());
        if trouble.cause.is_an_outage() && trouble.collection.is_none() && trouble.alone {
            self.shown
                .health
                .mongodb_failed(&trouble.cause.told(trouble.error));
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= STUCK_AFTER {
            self.show(trouble);
        }
    }

    fn passed(&mut self) {
        self.failing_since = None;
        self.recover();
    }

    fn pause(&mut self) {
        *self.slot = None;
        self.shown.waiting.set(true);
    }

    async fn resume(&mut self) {
        if self.is_large {
            *self.slot = Some(self.shown.slots.take().await);
        }
        self.shown.waiting.set(false);
    }
}

impl Drop for LaneAttempts<'_> {
    /// The batch is written, or nobody waits for it any more.
    fn drop(&mut self) {
        self.recover();
    }
}
