//! A lane between its claim and the end of it: receive, decode, batch, write, settle.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::Loan;
use super::filling::{COPIES, Filling, LARGE_COPIES, SMALL_BYTES_MAX, admission};
use super::slots::Slot;
use super::{End, Lanes};
use crate::kafka::{self, LaneQueue, Order, Progress};
use crate::record::Partition;
use crate::record::batch::Batch;
use crate::record::entity::Decoder;
use crate::telemetry::metrics::Outcome;
use crate::writer::{Settled, Unwritten, Writer};

/// How long a lane sleeps at most before it looks at its queue, should a wake-up have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How often a lane with nothing to write looks whether its checkpoint still stands where it left it: a
/// database restored under an idle topic would miss what came since until the next record.
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long the log must have ended before a lane asks for its position: control records may stand behind the last record, and
/// the position is past them. Any other record moves past them as well, and the answer takes a turn of librdkafka's main thread.
const POSITION_AFTER: Duration = Duration::from_millis(500);

/// A batch under way, with what it holds.
type Writing = BoxFuture<'static, (Writer, Filling, Result<Settled, Unwritten>)>;

/// A lane between its claim and the end of it.
pub(super) struct Consuming<'l> {
    lanes: &'l Lanes,
    partition: &'l Partition,
    order: &'l mut watch::Receiver<Order>,
    progress: &'l Arc<Progress>,
    decoder: Decoder,
    rejected_in_a_row: usize,
    /// Whether the log was seen to end behind the last record.
    at_end: bool,
    /// When to ask for the position, where the log has ended since.
    position_at: Option<Instant>,
}

impl<'l> Consuming<'l> {
    pub(super) fn new(
        lanes: &'l Lanes,
        partition: &'l Partition,
        order: &'l mut watch::Receiver<Order>,
        progress: &'l Arc<Progress>,
    ) -> Self {
        let decoder = Decoder::new(Arc::clone(&lanes.target.mapping), lanes.tombstones);
        Consuming {
            lanes,
            partition,
            order,
            progress,
            decoder,
            rejected_in_a_row: 0,
            at_end: false,
            position_at: None,
        }
    }

    pub(super) async fn consume(mut self, writer: Writer) -> End {
        let (claim, resumed) = (writer.claim().clone(), writer.resumed());
        self.progress.settled_to(claim.next_offset);
        let seen = claim
            .topic_id
            .map(|id| (self.partition.topic.to_string(), id));
        self.lanes.topic_ids.saw(seen);
        let started = tokio::select! {
            _ = self.order.wait_for(|order| *order != Order::Run) => return End::Revoked,
            started = self.lanes.handle.start(self.partition, claim.next_offset) => started,
        };
        let queue = match started {
            Some(Ok(queue)) => queue,
            Some(Err(error)) => {
                tracing::warn!(partition = %self.partition, %error, "the partition could not be fetched");
                return End::Again("the partition could not be fetched");
            }
            None => return End::Revoked,
        };
        // The last owner may have died before its commit, and on an idle topic no other would follow.
        self.lanes.handle.store(self.partition, &resumed);
        // Always one of the two: the writer at rest, or a batch that it writes.
        let mut writer = Some(writer);
        let mut writing: OptionFuture<Writing> = None.into();
        let mut filling = Filling::new(Batch::new(claim.next_offset), Loan::default());
        let mut waiting: Option<BoxFuture<'_, Option<Slot>>> = None;
        let mut overflow: Option<Batch> = None;
        let mut spare: Option<Batch> = None;
        let mut pending: Option<BorrowedMessage<'_>> = None;
        let mut finishing = false;
        let mut look_at = Instant::now() + CHECKPOINT_LOOK_EVERY;
        loop {
            if !finishing
                && let Err(end) = self.fill(&queue, &mut filling, &mut overflow, &mut pending)
            {
                return end;
            }
            if finishing && writer.is_some() {
                return End::Revoked;
            }
            if filling.needs_slot() {
                if writer.is_none() {
                    // Only where nobody waits: to fill one batch while another is written is worth a slot then.
                    if let Some(slot) = self.lanes.slots.try_take() {
                        spare = Some(filling.enlarge(slot));
                        continue;
                    }
                } else if waiting.is_none() {
                    waiting = Some(self.lanes.slots.take().boxed());
                }
            }
            if filling.is_ready(self.at_end)
                && let Some(writer) = writer.take()
            {
                let next = overflow.take().unwrap_or_else(|| {
                    let mut batch = spare.take().unwrap_or_else(|| Batch::new(0));
                    batch.restart(filling.batch.end(), SMALL_BYTES_MAX);
                    batch
                });
                // What did not fit was lent for with the rest.
                let loan = filling.loan.split(next.held_bytes(LARGE_COPIES));
                let filled = std::mem::replace(&mut filling, Filling::new(next, loan));
                writing = Some(self.write(writer, filled)).into();
                continue;
            }
            let starved = pending
                .as_ref()
                .filter(|_| filling.batch.is_empty())
                .map(|message| admission(&kafka::record(message), 0));
            tokio::select! {
                Some((idle, written, result)) = &mut writing => {
                    writing = None.into();
                    match result {
                        Ok(settled) => {
                            if let Some(end) = self.settle(&written.batch, &settled) {
                                return end;
                            }
                        }
                        Err(Unwritten::Fenced(fence)) => return End::Fenced(fence),
                        Err(Unwritten::Permanent(error)) => return End::Fatal(error),
                    }
                    writer = Some(idle);
                    // A large record's memory goes before what was lent for it.
                    match written.slot {
                        Some(slot) => slot.give_back(written.batch),
                        None => {
                            let mut batch = written.batch;
                            batch.restart(0, SMALL_BYTES_MAX);
                            spare = Some(batch);
                        }
                    }
                    drop(written.loan);
                }
                Some(slot) = OptionFuture::from(waiting.as_mut()) => {
                    waiting = None;
                    match slot {
                        Some(slot) => spare = Some(filling.enlarge(slot)),
                        None => return End::Revoked,
                    }
                }
                () = tokio::time::sleep_until(filling.fill_until), if filling.slot.is_some() && writer.is_some() => {}
                changed = self.order.changed(), if !finishing => {
                    finishing = changed.is_err() || *self.order.borrow() != Order::Run;
                }
                () = self.lanes.topic_ids.differs(&self.partition.topic, claim.topic_id), if !finishing => {
                    return End::Again("the topic was deleted and made anew");
                }
                Some(()) = OptionFuture::from(self.position_at.map(tokio::time::sleep_until)), if !finishing => {
                    self.position_at = None;
                    if let Some(position) = self.lanes.handle.position(self.partition) {
                        filling.batch.reach(position);
                    }
                }
                () = tokio::time::sleep_until(look_at), if writer.is_some() && !finishing => {
                    look_at = Instant::now() + CHECKPOINT_LOOK_EVERY;
                    // A load that is over leaves its memory behind.
                    spare = None;
                    self.lanes.slots.release();
                    if let Some(idle) = &mut writer
                        && let Some(fence) = idle.check_or_switch_client(filling.batch.start()).await
                    {
                        return End::Fenced(fence);
                    }
                }
                () = self.lanes.budget.grow(&mut filling.loan, starved.unwrap_or(0)), if starved.is_some() && !finishing => {}
                () = queue.wait(LOOK_AGAIN), if pending.is_none() && filling.has_room() && !finishing => {}
            }
        }
    }

    /// Takes in what has arrived, as far as the batch and the budget go.
    fn fill<'q>(
        &mut self,
        queue: &'q LaneQueue,
        filling: &mut Filling,
        overflow: &mut Option<Batch>,
        pending: &mut Option<BorrowedMessage<'q>>,
    ) -> Result<(), End> {
        let limits = &self.lanes.limits;
        while filling.has_room() {
            let message = match pending.take().map(Ok).or_else(|| queue.next()) {
                None => return Ok(()),
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    self.position_at = Some(Instant::now() + POSITION_AFTER);
                    continue;
                }
                Some(Err(error)) => return Err(self.failed(&error)),
            };
            self.at_end = false;
            self.position_at = None;
            let record = kafka::record(&message);
            let held = filling.batch.held_bytes(COPIES);
            if !self
                .lanes
                .budget
                .try_grow(&mut filling.loan, admission(&record, held))
            {
                drop(record);
                *pending = Some(message);
                filling.full = !filling.batch.is_empty();
                return Ok(());
            }
            if !filling.batch.push(&mut self.decoder, record) {
                self.progress.metrics.settled(Outcome::AlreadyApplied, 1);
                continue;
            }
            self.progress.metrics.consumed.inc();
            if filling.batch.is_larger_than(limits.flush_bytes_max) {
                if filling.batch.entries().len() > 1 {
                    *overflow = filling.batch.split_last();
                }
                filling.full = true;
            }
            filling.full |= filling.batch.entries().len() == limits.flush_records_max;
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> End {
        self.lanes.metrics.errors("fetch", "partition");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                End::Again("the offset is no longer in the log")
            }
            _ => {
                tracing::warn!(partition = %self.partition, %error, "the partition could not be read");
                End::Again("the partition could not be read")
            }
        }
    }

    fn write(&self, mut writer: Writer, filled: Filling) -> Writing {
        let (metrics, health) = (
            Arc::clone(&self.lanes.metrics),
            Arc::clone(&self.lanes.health),
        );
        let progress = Arc::clone(self.progress);
        Box::pin(async move {
            progress
                .metrics
                .batch_records
                .observe(filled.batch.entries().len() as f64);
            progress
                .metrics
                .batch_bytes
                .observe(filled.batch.encoded().len() as f64);
            let timer = progress.metrics.batch_write_duration.start_timer();
            let result = writer
                .write(&filled.batch, |cause| {
                    metrics.retries(cause.as_str());
                    if cause.is_an_outage() {
                        health.mongodb_failed();
                    }
                })
                .await;
            timer.observe_duration();
            if result.is_ok() {
                health.mongodb_answered();
            }
            (writer, filled, result)
        })
    }

    /// Stores the offset and counts; `Some` if the breaker opens.
    fn settle(&mut self, batch: &Batch, settled: &Settled) -> Option<End> {
        self.lanes.handle.store(self.partition, settled);
        let counts = settled.counts();
        let rejected = counts.rejected.len();
        for (outcome, count) in [
            (Outcome::Upserted, counts.upserted),
            (Outcome::Unchanged, counts.unchanged),
            (Outcome::Folded, counts.folded),
            (Outcome::Deleted, counts.deleted),
            (Outcome::Skipped, counts.skipped),
            (Outcome::Rejected, rejected as u64),
        ] {
            self.progress.metrics.settled(outcome, count);
        }
        for reason in &counts.rejected {
            self.lanes.metrics.dead_letter(*reason);
        }
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_millis() as i64);
        for entry in batch.entries() {
            if let Some(timestamp_ms) = entry.timestamp_ms {
                let delay_ms = now_ms.saturating_sub(timestamp_ms).max(0);
                self.progress
                    .metrics
                    .record_delay
                    .observe(delay_ms as f64 / 1000.0);
            }
        }
        self.progress.settled_to(settled.next_offset());
        let before = if counts.applied() > 0 {
            0
        } else {
            self.rejected_in_a_row
        };
        self.rejected_in_a_row =
            before + usize::try_from(counts.rejected_last).unwrap_or(usize::MAX);
        let max = self.lanes.limits.rejections_in_a_row_max;
        (max > 0 && self.rejected_in_a_row >= max).then_some(End::Breaker(self.rejected_in_a_row))
    }
}
