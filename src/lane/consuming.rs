//! A lane between its claim and the end of it: receive, decode, batch, write, settle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bson::Uuid;
use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::doubt::Doubt;
use super::filling::Filling;
use super::hand::{Hand, Taken};
use super::slots::Slot;
use super::starving::Starving;
use super::writing::{Writing, Written};
use super::{End, Lanes};
use crate::checkpoint::Claim;
use crate::kafka::{Arrival, LaneQueue, NotStarted, Order, Progress, unpacking};
use crate::record::batch::Batch;
use crate::record::entity::Decoder;
use crate::record::{Partition, Position};
use crate::telemetry::metrics::Outcome;
use crate::writer::{Settled, Unwritten, Writer};

/// How long a lane sleeps at most before it looks at its queue, should a wake-up have been lost.
const QUEUE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often a lane with nothing to write looks whether its checkpoint still stands where it left
/// it: a database restored under an idle topic would miss what came since until the next record.
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long the log must have ended before a lane asks for its position: control records may stand
/// behind the last record, and the position is past them. Not at once: any other record moves past
/// them as well, and the answer takes a turn of librdkafka's main thread.
const POSITION_AFTER: Duration = Duration::from_millis(500);

/// What a lane waits for.
enum Event {
    /// The writer is through with its batch.
    Written(Box<Written>),
    /// It is the turn of a batch that waited for a slot.
    Slot(Slot),
    /// The poll thread has given an order.
    Ordered(Order),
    /// The topic has another id than the claim, or one where the claim has none.
    OtherTopicId,
    /// The log has gone on, and nothing is delivered.
    Stalled,
    /// The log ended a while ago, and nothing came behind the last record.
    LogStillEnded,
    /// The lane has waited for memory for a while.
    Starved,
    /// It is time to look at the checkpoint.
    CheckpointDue,
    /// There may be more to take in, or the batch may be ready.
    Woken,
}

/// A lane between its claim and the end of it.
struct Consuming<'l> {
    lanes: &'l Lanes,
    partition: &'l Partition,
    order: &'l mut watch::Receiver<Order>,
    progress: &'l Arc<Progress>,
    /// The id of the claim's topic.
    topic_id: Option<Uuid>,
    /// The ids that topics of this name had before.
    former_topic_ids: Vec<Uuid>,
    queue: &'l LaneQueue,
    decoder: Decoder,
    writing: Writing,
    hand: Hand<'l>,
    /// Set while the batch in hand waits for a slot.
    slot: Option<BoxFuture<'l, Slot>>,
    /// Whether only what is under way may still be written.
    finishing: bool,
    /// Whether the batch of records behind the last one cannot be read: nothing more is taken in.
    unreadable: bool,
    /// How many batches had been refused for want of room when this lane was started.
    refusals: u64,
    /// What the unreadable batch unpacks to, in bytes, where it may be one that was refused.
    refused_bytes: Option<usize>,
    /// What speaks against the checkpoint, until something arrives.
    doubt: &'l mut Doubt,
    /// The claim's position, until something arrives.
    unconfirmed: Option<Position>,
    /// Whether the log was seen to end behind the last record.
    at_end: bool,
    /// When to ask for the position, where the log has ended since.
    position_at: Option<Instant>,
    /// Since when the lane waits for memory.
    starving: Starving,
    /// When to look at the checkpoint.
    look_at: Instant,
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
    let started = tokio::select! {
        _ = order.wait_for(|order| *order != Order::Run) => return End::Revoked,
        started = lanes.handle.start(partition, position) => started,
    };
    let queue = match started {
        Ok(queue) => queue,
        Err(NotStarted::Revoked) => return End::Revoked,
        Err(NotStarted::Failed(error)) => {
            tracing::warn!(%partition, %error, "the partition could not be fetched");
            return End::Reclaim("the partition could not be fetched");
        }
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
            _ => {
                let partition = self.partition;
                tracing::warn!(%partition, %error, "the partition could not be read");
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

    /// Waits for what comes first. Nothing else is lost by that: the next call waits for it.
    async fn next_event(&mut self) -> Event {
        let Lanes {
            budget, topic_ids, ..
        } = self.lanes;
        let topic = &self.partition.topic;
        let is_running = !self.finishing;
        let is_idle = self.writing.is_idle();
        let waiting = self.writing.waiting();
        let holds_slot = self.hand.filling.slot.is_some();
        let starved = self.hand.starved();
        let starved_at = self.starving.note(
            starved.is_some() && is_idle,
            self.lanes,
            self.partition,
            self.progress,
        );
        let reads =
            self.hand.unadmitted.is_none() && self.hand.filling.has_room() && !self.unreadable;
        self.progress.waits(reads && is_idle);
        let Filling {
            loan,
            slot,
            fill_until,
            ..
        } = &mut self.hand.filling;
        let lent = starved.map(|bytes| budget.grow(loan, bytes));
        tokio::select! {
            written = self.writing.written() => Event::Written(written),
            Some(slot) = OptionFuture::from(self.slot.as_mut()) => Event::Slot(slot),
            order = next_order(self.order), if is_running => Event::Ordered(order),
            () = topic_ids.differs(topic, self.topic_id, &self.former_topic_ids), if is_running => {
                Event::OtherTopicId
            }
            () = self.progress.stalled(), if is_running && is_idle => Event::Stalled,
            Some(()) = OptionFuture::from(self.position_at.map(sleep_until)), if is_running => {
                Event::LogStillEnded
            }
            () = sleep_until(self.look_at), if is_idle && is_running => Event::CheckpointDue,
            () = sleep_until(*fill_until), if is_idle && slot.is_some() => Event::Woken,
            Some(()) = OptionFuture::from(waiting.as_ref().map(|w| w.begins())), if holds_slot => {
                Event::Woken
            }
            Some(()) = OptionFuture::from(starved_at.map(sleep_until)), if is_running => {
                Event::Starved
            }
            Some(()) = OptionFuture::from(lent), if is_running => Event::Woken,
            () = self.queue.wait(QUEUE_LOOK_EVERY), if reads && is_running => Event::Woken,
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
        self.count(&settled);
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

    fn count(&self, settled: &Settled) {
        let counts = settled.counts();
        for (outcome, count) in [
            (Outcome::Upserted, counts.upserted),
            (Outcome::Unchanged, counts.unchanged),
            (Outcome::Folded, counts.folded),
            (Outcome::Deleted, counts.deleted),
            (Outcome::Skipped, counts.skipped),
            (Outcome::Rejected, counts.rejected.len() as u64),
        ] {
            self.progress.metrics.settled(outcome, count);
        }
        for reason in &counts.rejected {
            self.lanes.metrics.dead_letter(*reason);
        }
    }

    /// How long each record before `next_offset` took from its own time until now.
    fn observe_delays(&self, batch: &Batch, next_offset: i64) {
        // A clock that stands before 1970 shows no delay.
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_millis() as i64);
        let settled = (batch.entries().iter()).take_while(|entry| entry.offset < next_offset);
        let timestamps_ms = settled.map(|entry| entry.timestamp_ms);
        for timestamp_ms in timestamps_ms.flatten() {
            let delay_ms = now_ms.saturating_sub(timestamp_ms).max(0);
            let delay = &self.progress.metrics.record_delay;
            delay.observe(delay_ms as f64 / 1000.0);
        }
    }
}

/// The poll thread's next order. Without a poll thread there is no more to do.
async fn next_order(order: &mut watch::Receiver<Order>) -> Order {
    match order.changed().await {
        Ok(()) => *order.borrow(),
        Err(_) => Order::Finish,
    }
}
