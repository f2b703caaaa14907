//! How many batches may be large at the same time, and the memory that they pass on to one another.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::spare::Spare;
use crate::record::batch::Batch;
use crate::writer::SHARE_BYTES_MAX;

/// How large a batch grows without a [`Slot`], and how much of each of its buffers is kept for the
/// next one; in bytes. Up to here it is written together with those of other lanes.
pub(super) const SMALL_BYTES_MAX: usize = SHARE_BYTES_MAX;

/// The slots of all lanes. A lane that waits for one keeps its small batch as it is, and its queue
/// fills meanwhile.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Spare>>>,
    keep_bytes_max: usize,
}

/// The right to hold one large batch, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    slots: Slots,
}

impl Slots {
    /// So many slots, which keep up to `keep_bytes_max` of each of their batches' buffers.
    pub fn new(count: usize, keep_bytes_max: usize) -> Self {
        Slots {
            free: Arc::new(Semaphore::new(count)),
            idle: Arc::default(),
            keep_bytes_max,
        }
    }

    /// A slot, if one is free and no lane waits for it.
    pub(super) fn try_take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.slot(permit))
    }

    /// Waits for a slot; lanes get theirs in the order in which they asked.
    pub(super) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        self.slot(permit.expect("nothing closes the semaphore"))
    }

    /// Frees the memory that is kept for batches to come.
    pub(super) fn release(&self) {
        self.idle.lock().clear();
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            _permit: permit,
            slots: self.clone(),
        }
    }
}

impl Slot {
    /// Moves what `batch` holds into the memory of an earlier large batch, and returns the memory
    /// that held it so far. A large record stays where it is, in place of that memory.
    pub(super) fn enlarge(&self, batch: &mut Batch) -> Spare {
        let idle = self.slots.idle.lock().pop().unwrap_or_default();
        if batch.is_larger_than(self.slots.keep_bytes_max) {
            return Spare::default();
        }
        let mut large = idle.into_batch(0);
        large.take_over(batch);
        Spare::of(std::mem::replace(batch, large), SMALL_BYTES_MAX)
    }

    /// Leaves the memory of a batch that is done with to the next one.
    pub(super) fn give_back(self, batch: Batch) {
        let spare = Spare::of(batch, self.slots.keep_bytes_max);
        self.slots.idle.lock().push(spare);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::record::Record;
    use crate::record::entity::{Decoder, Tombstones};
    use crate::record::mapping::Mapping;

    const KEEP_BYTES_MAX: usize = 1024;

    fn batch(text_bytes: usize) -> Batch {
        let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), Tombstones::Ignore);
        let text = "a".repeat(text_bytes);
        let json = format!(r#"{{"id":"1","kind":"Dataset","text":"{text}"}}"#);
        let record = Record {
            offset: 7,
            key: Some(b"1"),
            value: Some(json.as_bytes()),
            ..Record::default()
        };
        let mut batch = Batch::new(5);
        assert!(batch.push(&mut decoder, record));
        batch
    }

    #[test]
    fn a_batch_grows_on_in_the_memory_of_an_earlier_one() {
        let slots = Slots::new(1, KEEP_BYTES_MAX);
        let earlier = batch(100);
        let memory = earlier.encoded().as_ptr();
        slots.try_take().unwrap().give_back(earlier);
        let slot = slots.try_take().unwrap();
        let (mut small, expected) = (batch(50), batch(50));
        let spare = slot.enlarge(&mut small);
        let next = spare.into_batch(8);
        assert!(next.is_empty() && next.entries().is_empty());
        assert_eq!(next.start(), 8);
        assert_eq!(small.encoded().as_ptr(), memory);
        assert_eq!((small.start(), small.end()), (5, 8));
        assert_eq!(small.encoded(), expected.encoded());
        let (entry, other) = (&small.entries()[0], &expected.entries()[0]);
        assert_eq!(entry.decoded, other.decoded);
        assert_eq!(small.value(entry), expected.value(other));
        assert_eq!(small.id(entry), "1");
    }

    #[test]
    fn a_large_record_stays_where_it_is_and_leaves_no_more_memory_than_is_kept() {
        let slots = Slots::new(1, KEEP_BYTES_MAX);
        for _ in 0..3 {
            let slot = slots.try_take().unwrap();
            let mut large = batch(2 * KEEP_BYTES_MAX);
            let memory = large.encoded().as_ptr();
            slot.enlarge(&mut large);
            assert_eq!(large.encoded().as_ptr(), memory);
            slot.give_back(large);
            assert_eq!(slots.idle.lock().len(), 1);
        }
    }

    #[test]
    fn what_waits_is_released_and_what_is_in_use_is_not() {
        let slots = Slots::new(2, KEEP_BYTES_MAX);
        let (one, other) = (slots.try_take().unwrap(), slots.try_take().unwrap());
        one.give_back(batch(100));
        slots.release();
        assert_eq!(slots.idle.lock().len(), 0);
        other.give_back(batch(100));
        assert_eq!(slots.idle.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_lane_that_waits_comes_before_one_that_tries() {
        let slots = Slots::new(1, KEEP_BYTES_MAX);
        let slot = slots.try_take().unwrap();
        let mut waiting = std::pin::pin!(slots.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(slot);
        assert!(slots.try_take().is_none());
        drop(waiting.await);
        assert!(slots.try_take().is_some());
    }
}
