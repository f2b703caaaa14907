//! How many batches may be large at the same time, and the memory that they pass on to one another.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::record::batch::Batch;

/// The slots of all lanes. A lane that waits for one keeps its small batch as it is, and its queue fills
/// meanwhile.
#[derive(Clone, Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Batch>>>,
    keep_bytes_max: usize,
}

/// The right to hold one large batch, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    slots: Slots,
}

impl Slots {
    /// So many slots, which keep up to `keep_bytes_max` of each of their batch's buffers.
    pub fn new(count: usize, keep_bytes_max: usize) -> Self {
        Slots {
            free: Arc::new(Semaphore::new(count)),
            idle: Arc::default(),
            keep_bytes_max,
        }
    }

    /// A slot, if one is free and nobody waits for it.
    pub(super) fn try_take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.slot(permit))
    }

    /// Waits for a slot; lanes get theirs in the order in which they asked.
    pub(super) async fn take(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(self.slot(permit))
    }

    /// Gives back the memory that waits for a batch to come.
    pub(super) fn release(&self) {
        self.idle().clear();
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            _permit: permit,
            slots: self.clone(),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Batch>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Moves what `batch` holds into the memory of a batch that was large before; gives back what held it so far. A large
    /// record stays where it is, and takes that memory's place.
    pub(super) fn enlarge(&self, batch: &mut Batch) -> Batch {
        let idle = self.slots.idle().pop();
        if batch.is_larger_than(self.slots.keep_bytes_max) {
            return Batch::new(0);
        }
        let mut other = idle.unwrap_or_else(|| Batch::new(0));
        other.take_over(batch);
        std::mem::swap(&mut other, batch);
        other
    }

    /// Leaves the memory of a batch that is done with to the next one.
    pub(super) fn give_back(self, mut batch: Batch) {
        batch.restart(0, self.slots.keep_bytes_max);
        self.slots.idle().push(batch);
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
    fn a_batch_goes_on_in_the_memory_of_an_earlier_one() {
        let slots = Slots::new(1, KEEP_BYTES_MAX);
        let earlier = batch(100);
        let memory = earlier.encoded().as_ptr();
        slots.try_take().unwrap().give_back(earlier);
        let slot = slots.try_take().unwrap();
        let (mut small, expected) = (batch(50), batch(50));
        let spare = slot.enlarge(&mut small);
        assert!(spare.is_empty() && spare.entries().is_empty());
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
            let spare = slot.enlarge(&mut large);
            assert_eq!(large.encoded().as_ptr(), memory);
            assert!(spare.is_empty());
            slot.give_back(large);
            assert_eq!(slots.idle().len(), 1);
        }
    }

    #[test]
    fn what_waits_is_released_and_what_is_in_use_is_not() {
        let slots = Slots::new(2, KEEP_BYTES_MAX);
        let (one, other) = (slots.try_take().unwrap(), slots.try_take().unwrap());
        one.give_back(batch(100));
        slots.release();
        assert_eq!(slots.idle().len(), 0);
        other.give_back(batch(100));
        assert_eq!(slots.idle().len(), 1);
    }

    #[tokio::test]
    async fn who_waits_comes_before_who_tries() {
        let slots = Slots::new(1, KEEP_BYTES_MAX);
        let slot = slots.try_take().unwrap();
        let mut waiting = std::pin::pin!(slots.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(slot);
        assert!(slots.try_take().is_none());
        assert!(waiting.await.is_some());
        assert!(slots.try_take().is_some());
    }
}
