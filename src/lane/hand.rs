//! What a lane holds beside the batch that is being written: the batch that it fills, what did not
//! fit into it, and memory for the next one.

use std::mem;

use rdkafka::message::BorrowedMessage;

use super::budget::{Budget, Loan};
use super::filling::{COPIES, Filling, LARGE_COPIES, admission};
use super::slots::{SMALL_BYTES_MAX, Slot, Slots};
use super::spare::Spare;
use crate::config::Limits;
use crate::kafka;
use crate::record::batch::Batch;
use crate::record::entity::Decoder;

/// What a lane has in hand. Its messages are borrowed from the lane's queue.
pub(super) struct Hand<'q> {
    /// The batch that is filled.
    pub(super) filling: Filling,
    /// What made that batch too large: the first record of the next one.
    overflow: Option<Batch>,
    /// Memory for the next batch.
    spare: Spare,
    /// A message for which no memory could be lent yet.
    pub(super) unadmitted: Option<BorrowedMessage<'q>>,
}

/// What became of a message.
pub(super) enum Taken {
    /// It is part of the batch.
    Consumed,
    /// The batch begins behind it.
    AlreadyApplied,
    /// It waits, since no memory can be lent for it now.
    Unadmitted,
}

impl Hand<'_> {
    /// An empty hand, whose first batch begins at offset `start`.
    pub(super) fn new(start: i64) -> Self {
        Hand {
            filling: Filling::new(Batch::new(start), Loan::default()),
            overflow: None,
            spare: Spare::default(),
            unadmitted: None,
        }
    }

    /// Whether nothing in it is left to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.batch.is_empty() && self.overflow.is_none() && self.unadmitted.is_none()
    }

    /// The memory that must be lent before an empty batch can begin, in bytes. A batch that holds
    /// something is written first.
    pub(super) fn starved(&self) -> Option<usize> {
        let message = self.unadmitted.as_ref()?;
        let is_empty = self.filling.batch.is_empty();
        is_empty.then(|| admission(&kafka::record(message), 0))
    }

    /// Moves the batch into the memory of an earlier large one.
    pub(super) fn enlarge(&mut self, slot: Slot) {
        self.spare = self.filling.enlarge(slot);
    }

    /// Hands over the batch to be written and begins the next one: with what did not fit, else in
    /// the spare memory.
    pub(super) fn next_batch(&mut self) -> Filling {
        let next = match self.overflow.take() {
            Some(overflow) => overflow,
            None => mem::take(&mut self.spare).into_batch(self.filling.batch.end()),
        };
        // The loan covers what did not fit as well.
        let loan = self.filling.loan.split(next.held_bytes(LARGE_COPIES));
        mem::replace(&mut self.filling, Filling::new(next, loan))
    }

    /// Keeps the memory of a batch that has been written for the next one; repays what was lent.
    pub(super) fn recycle(&mut self, written: Filling) {
        let Filling {
            batch, loan, slot, ..
        } = written;
        match slot {
            Some(slot) => slot.give_back(batch),
            None => self.spare = Spare::of(batch, SMALL_BYTES_MAX),
        }
        // A large record's memory is freed before what was lent for it is lent again.
        drop(loan);
    }

    /// Frees the memory that waits for batches to come, in this lane and in all `slots`.
    pub(super) fn release(&mut self, slots: &Slots) {
        self.spare = Spare::default();
        slots.release();
    }
}

impl<'q> Hand<'q> {
    /// Takes a message into the batch, if memory can be lent for it. The batch is full afterwards
    /// where it reaches a limit, or where it must be written before more memory can be lent.
    pub(super) fn take_in(
        &mut self,
        message: BorrowedMessage<'q>,
        budget: &Budget,
        limits: &Limits,
        decoder: &mut Decoder,
    ) -> Taken {
        let Filling {
            batch, loan, full, ..
        } = &mut self.filling;
        let record = kafka::record(&message);
        let bytes = admission(&record, batch.held_bytes(COPIES));
        if !budget.try_grow(loan, bytes) {
            drop(record);
            self.unadmitted = Some(message);
            *full = !batch.is_empty();
            return Taken::Unadmitted;
        }
        if !batch.push(decoder, record) {
            return Taken::AlreadyApplied;
        }
        if batch.is_larger_than(limits.flush_bytes_max) {
            if batch.entries().len() > 1 {
                self.overflow = batch.split_last();
            }
            *full = true;
        }
        *full |= batch.entries().len() == limits.flush_records_max;
        Taken::Consumed
    }
}

#[cfg(test)]
mod tests {
    use super::super::filling::tests::push;
    use super::*;

    #[test]
    fn the_next_batch_begins_at_the_end_of_the_one_before_and_in_spare_memory() {
        let mut hand = Hand::new(5);
        push(&mut hand.filling.batch, 7, 100);
        let first = hand.next_batch();
        assert_eq!((first.batch.start(), first.batch.end()), (5, 8));
        assert_eq!(hand.filling.batch.start(), 8);
        let memory = first.batch.encoded().as_ptr();
        hand.recycle(first);
        push(&mut hand.filling.batch, 8, 100);
        assert_eq!(hand.next_batch().batch.end(), 9);
        push(&mut hand.filling.batch, 9, 50);
        assert_eq!(hand.filling.batch.encoded().as_ptr(), memory);
    }

    #[test]
    fn what_did_not_fit_is_the_first_of_the_next_batch_and_keeps_its_loan() {
        let (mut hand, budget) = (Hand::new(0), Budget::new(16 * 1024 * 1024));
        push(&mut hand.filling.batch, 0, 100);
        push(&mut hand.filling.batch, 1, 200_000);
        let held_bytes = hand.filling.batch.held_bytes(LARGE_COPIES);
        assert!(budget.try_grow(&mut hand.filling.loan, held_bytes));
        hand.overflow = hand.filling.batch.split_last();
        let filled = hand.next_batch();
        assert_eq!(filled.batch.end(), 1);
        let batch = &hand.filling.batch;
        assert_eq!((batch.start(), batch.end()), (1, 2));
        hand.recycle(filled);
        assert!(budget.lent_bytes() >= hand.filling.batch.held_bytes(LARGE_COPIES));
    }
}
