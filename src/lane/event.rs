//! What a lane waits for while it consumes.

use futures_util::future::OptionFuture;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Lanes;
use super::consuming::{Consuming, QUEUE_LOOK_EVERY};
use super::filling::Filling;
use super::slots::Slot;
use super::writing::Written;
use crate::kafka::Order;

/// What a lane waits for.
pub(super) enum Event {
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

impl Consuming<'_> {
    /// Waits for what comes first. Nothing else is lost by that: the next call waits for it.
    pub(super) async fn next_event(&mut self) -> Event {
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
}

/// The poll thread's next order. Without a poll thread there is no more to do.
async fn next_order(order: &mut watch::Receiver<Order>) -> Order {
    match order.changed().await {
        Ok(()) => *order.borrow(),
        Err(_) => Order::Finish,
    }
}
