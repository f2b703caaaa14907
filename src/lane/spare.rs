//! The memory of a batch that is done with, kept for one that is to come.

use crate::record::batch::Batch;

/// The buffers of a batch, without its records. By default there are none.
#[derive(Debug)]
pub(super) struct Spare(Batch);

impl Spare {
    /// What `batch` leaves behind: its buffers, of each at most `keep_bytes_max`.
    pub(super) fn of(mut batch: Batch, keep_bytes_max: usize) -> Spare {
        batch.restart(0, keep_bytes_max);
        Spare(batch)
    }

    /// An empty batch in these buffers, which begins at offset `start`.
    pub(super) fn into_batch(self, start: i64) -> Batch {
        let mut batch = self.0;
        batch.restart(start, usize::MAX);
        batch
    }
}

impl Default for Spare {
    fn default() -> Self {
        Spare(Batch::new(0))
    }
}
