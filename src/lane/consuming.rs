//! A lane between its claim and the end of it: receive, decode, batch, write, settle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bson::Uuid;
use futures_util::future::{BoxFuture, FutureExt as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::doubt::Doubt;
use super::event::Event;
use super::hand::{Hand, Taken};
use super::slots::Slot;
use super::starving::Starving;
use super::writing::{Writing, Written};
use super::{End, Lanes};
use crate::checkpoint::Claim;
use crate::kafka::{Arrival, LaneQueue, NotStarted, Order, Progress, unpacking};
use crate::record::entity::Decoder;
use crate::record::{Partition, Position};
use crate::telemetry::code::Code;
use crate::telemetry::metrics::Outcome;
use crate::writer::{Unwritten, Writer};

/// How long a lane sleeps at most before it looks at its queue, should a wake-up have been lost.
pub(super) const QUEUE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a lane with nothing to write looks whether its checkpoint still stands where it left
/// it: a database restored under an idle topic would miss what came since until the next record.
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long the log must have ended before a lane asks for its position: control records may stand
/// behind the last record, and the position is past them. Not at once: any other record moves past
/// them as well, and the answer takes a turn of librdkafka's main thread.
const POSITION_AFTER: Duration = Duration::from_millis(500);

/// A lane between its claim and the end of it.
pub(super) struct Consuming<'l> {
    pub(super) lanes: &'l Lanes,
    pub(super) partition: &'l Partition,
    pub(super) order: &'l mut watch::Receiver<Order>,
    pub(super) progress: &'l Arc<Progress>,
    /// The id of the claim's topic.
    pub(super) topic_id: Option<Uuid>,
    /// The ids that topics of this name had before.
    pub(super) former_topic_ids: Vec<Uuid>,
    pub(super) queue: &'l LaneQueue,
    pub(super) decoder: Decoder,
    pub(super) writing: Writing,
    pub(super) hand: Hand<'l>,
    /// Set while the batch in hand waits for a slot.
    pub(super) slot: Option<BoxFuture<'l, Slot>>,
    /// Whether only what is under way may still be written.
    pub(super) finishing: bool,
    /// Whether the batch of records behind the last one cannot be read: nothing more is taken in.
    pub(super) unreadable: bool,
    /// How many batches had been refused for want of room when this lane was started.
    pub(super) refusals: u64,
    /// What the unreadable batch unpacks to, in bytes, where it may be one that was refused.
    pub(super) refused_bytes: Option<usize>,
    /// What speaks against the checkpoint, until something arrives.
    pub(super) doubt: &'l mut Doubt,
    /// The claim's position, until something arrives.
    pub(super) unconfirmed: Option<Position>,
    /// Whether the log was seen to end behind the last record.
    pub(super) at_end: bool,
    /// When to ask for the position, where the log has ended since.
    pub(super) position_at: Option<Instant>,
    /// Since when the lane waits for memory.
    pub(super) starving: Starving,
    /// When to look at the checkpoint.
    pub(super) look_at: Instant,
}

/// Consumes `partition` under the claim of `writer` until the claim ends; says why it ended.
pub(super) async fn consume(
    lanes: &Lanes,
    partition: &Partition,
    order: &mut watch::Receiver<Order>,
    progress: &Arc<Progress>,
    doubt: &mut Doubt,
    writer: Box<Writer>,
) -> End {
    let Claim {
        topic_id,
        position,
        former_topic_ids,
        ..
    } = writer.claim().clone();
    progress.settled_to(position.offset, None);
    progress.took(position.offset);
    // What was noticed under an earlier claim.
    let _ = progress.stalled().now_or_never();
    let seen = topic_id.map(|id| (partition.topic.to_string(), id));
    lanes.topic_ids.note(seen);
    let refusals = unpacking::refusals();
    let queue = match start(lanes, partition, order, position).await {
        Ok(queue) => queue,
        Err(end) => return end,
    };
    // The last owner may have died before its commit, and on an idle topic no other would follow.
    lanes.handle.store(partition, &writer.resumed());
    let consuming = Consuming {
        lanes,
        partition,
        order,
        progress,
        queue: &queue,
        decoder: Decoder::new(Arc::clone(&lanes.target.mapping), lanes.tombstones),
        writing: Writing::Idle(writer),
        hand: Hand::new(position.offset),
        topic_id,
        former_topic_ids,
        slot: None,
        finishing: false,
        unreadable: false,
        refusals,
        refused_bytes: None,
        doubt,
        unconfirmed: Some(position),
        at_end: false,
        position_at: None,
        starving: Starving::default(),
        look_at: Instant::now() + CHECKPOINT_LOOK_EVERY,
    };
    let Err(end) = consuming.run().await;
    progress.waits(false);
    end
}

/// The queue of the partition, which is fetched from `position` on.
async fn start(
    lanes: &Lanes,
    partition: &Partition,
    order: &mut watch::Receiver<Order>,
    position: Position,
) -> Result<LaneQueue, End> {
    let started = tokio::select! {
        _ = order.wait_for(|order| *order != Order::Run) => return Err(End::Revoked),
        started = lanes.handle.start(partition, position) => started,
    };
    started.map_err(|not_started| match not_started {
        NotStarted::Revoked => End::Revoked,
        NotStarted::Failed(error) => {
            tracing::warn!(
                code = %Code::ClaimedAgain, %partition, %error,
                "the partition could not be fetched"
            );
            End::Reclaim("the partition could not be fetched")
        }
    })
}

impl Consuming<'_> {
    async fn run(mut self) -> Result<Infallible, End> {
        loop {
            if !self.finishing {
                self.fill()?;
            } else if self.writing.is_idle() {
                return Err(End::Revoked);
            }
            if self.unreadable && self.writing.is_idle() && self.hand.is_empty() {
                let offset = self.hand.filling.batch.start();
                return Err(match self.refused_bytes {
                    Some(bytes) => End::NoRoom { offset, bytes },
                    None => End::Unreadable(offset),
                });
            }
            if self.writing.is_waiting() {
                // Other lanes' batches may get through.
                self.hand.filling.slot = None;
            }
            if self.hand.filling.needs_slot() && self.seek_slot() {
                continue;
            }
            if self.hand.filling.is_ready(self.at_end || self.unreadable)
                && let Writing::Idle(writer) = self.writing
            {
                let filled = self.hand.next_batch();
                self.writing =
                    Writing::begin(self.lanes, self.partition, self.progress, writer, filled);
                continue;
            }
            match self.next_event().await {
                Event::Written(written) => self.settle(*written)?,
                Event::Slot(slot) => {
                    self.slot = None;
                    self.hand.enlarge(slot);
                }
                Event::Ordered(order) => self.finishing = order != Order::Run,
                Event::OtherTopicId => {
                    return Err(End::Reclaim("the topic was seen with another id"));
                }
                Event::Stalled => {
                    return Err(End::Reclaim(
                        "nothing was delivered though the log has gone on",
                    ));
                }
                Event::Starved => {
                    self.starving
                        .show(self.lanes, self.partition, self.progress);
                }
                Event::LogStillEnded => self.step_past_control_records(),
                Event::CheckpointDue => self.look_at_checkpoint().await?,
                Event::Woken => {}
            }
        }
    }

    /// Takes in what has arrived, as far as the batch and the budget go.
    fn fill(&mut self) -> Result<(), End> {
        while self.hand.filling.has_room() {
            let arrival = match self.hand.unadmitted.take() {
                Some(message) => Arrival::Message(message),
                None if self.unreadable => return Ok(()),
                None => self.queue.next(),
            };
            let message = match arrival {
                Arrival::Message(message) => message,
                Arrival::Nothing => return Ok(()),
                Arrival::LogEnd => {
                    self.confirm();
                    self.at_end = true;
                    self.position_at = Some(Instant::now() + POSITION_AFTER);
                    continue;
                }
                Arrival::Unreadable(error) => {
                    let partition = self.partition;
                    self.refused_bytes = unpacking::refused_since(self.refusals);
                    let kind = match self.refused_bytes {
                        Some(_) => "no_room",
                        None => "unreadable",
                    };
                    self.lanes.metrics.errors("fetch", kind);
                    tracing::debug!(%partition, %error, "a batch of records cannot be read");
                    self.unreadable = true;
                    self.lanes.claimant.note_refused(self.partition, false);
                    continue;
                }
                Arrival::Error(error) => return Err(self.failed(&error)),
            };
            self.confirm();
            self.at_end = false;
            self.position_at = None;
            let Lanes { budget, limits, .. } = self.lanes;
            match self
                .hand
                .take_in(message, budget, limits, &mut self.decoder)
            {
                Taken::Consumed => {
                    self.progress.metrics.consumed.inc();
                    self.progress.took(self.hand.filling.batch.end());
                }
                Taken::AlreadyApplied => {
                    self.progress.metrics.settled(Outcome::AlreadyApplied, 1);
                }
                Taken::Unadmitted => return Ok(()),
            }
        }
        Ok(())
    }

    /// Something has arrived: the log has what stands before the claim's position.
    fn confirm(&mut self) {
        if self.unconfirmed.take().is_some() {
            self.doubt.clear();
            self.lanes.claimant.note_refused(self.partition, false);
        }
    }

    fn failed(&self, error: &KafkaError) -> End {
        self.lanes.metrics.errors("fetch", "partition");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let partition = self.partition;
                tracing::debug!(%partition, %error, "the log does not have the offset");
                End::OffsetLost(self.unconfirmed)
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => End::Refused,
            _ => {
                let partition = self.partition;
                tracing::warn!(
                    code = %Code::ClaimedAgain, %partition, %error,
                    "the partition could not be read"
                );
                End::Reclaim("the partition could not be read")
            }
        }
    }

    /// Takes a slot for the batch in hand, or begins to wait for one; `true` if it has one now.
    fn seek_slot(&mut self) -> bool {
        let slots = &self.lanes.slots;
        match self.writing {
            Writing::Idle(_) => {
                self.slot.get_or_insert_with(|| slots.take().boxed());
                false
            }
            // Only where no lane waits: there, filling one batch while another is written is worth
            // a slot.
            Writing::UnderWay(..) if self.writing.is_waiting() => false,
            Writing::UnderWay(..) => match slots.try_take() {
                Some(slot) => {
                    self.hand.enlarge(slot);
                    true
                }
                None => false,
            },
        }
    }

    fn step_past_control_records(&mut self) {
        self.position_at = None;
        if let Some(position) = self.lanes.handle.position(self.partition) {
            self.hand.filling.batch.reach(position);
            self.progress.took(self.hand.filling.batch.end());
        }
    }

    /// Looks whether the checkpoint of an idle lane still is the claim's, and frees the memory that
    /// a load has left behind.
    async fn look_at_checkpoint(&mut self) -> Result<(), End> {
        self.look_at = Instant::now() + CHECKPOINT_LOOK_EVERY;
        self.hand.release(&self.lanes.slots);
        let start = self.hand.filling.batch.start();
        if let Writing::Idle(writer) = &mut self.writing
            && let Some(fence) = writer.check_or_switch_client(start).await
        {
            return Err(End::Fenced(fence));
        }
        Ok(())
    }

    /// Takes note of a batch that is settled; the writer is idle again.
    fn settle(&mut self, written: Written) -> Result<(), End> {
        let Written {
            writer,
            filled,
            result,
        } = written;
        let settled = result.map_err(|unwritten| match unwritten {
            Unwritten::Fenced(fence) => End::Fenced(fence),
            Unwritten::Permanent(error) => End::Permanent(error),
        })?;
        self.lanes.handle.store(self.partition, &settled);
        self.count(&filled.batch, &settled);
        self.observe_delays(&filled.batch, settled.next_offset());
        let oldest = self.hand.filling.batch.entries().first();
        let oldest_ms = oldest.and_then(|entry| entry.timestamp_ms);
        self.progress.settled_to(settled.next_offset(), oldest_ms);
        if settled.is_halted() {
            return Err(End::Reclaim("too many records in a row were rejected"));
        }
        self.writing = Writing::Idle(writer);
        self.hand.recycle(filled);
        Ok(())
    }
}
