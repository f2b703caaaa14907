//! How many batches may be large at the same time, and the memory that they pass on to one another.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::batch::Batch;

/// The slots of all lanes. A lane that waits for one goes on filling its small batch, so that of many lanes with little
/// each makes fewer transactions of more, rather than all at once.
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
    pub(super) async fn take(self) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(self.slot(permit))
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
    /// Moves what `batch` holds into the memory of a batch that was large before; gives back what held it so far.
    pub(super) fn enlarge(&self, batch: &mut Batch) -> Batch {
        let mut small = self.slots.idle().pop().unwrap_or_else(|| Batch::new(0));
        small.take_over(batch);
        std::mem::swap(&mut small, batch);
        small
    }

    /// Leaves the memory of a batch that is done with to the next one.
    pub(super) fn give_back(self, mut batch: Batch) {
        batch.restart(0, self.slots.keep_bytes_max);
        self.slots.idle().push(batch);
    }
}
