//! The writer of a lane: idle, or writing a batch.

use std::future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::Lanes;
use super::attempts::{LaneAttempts, Shown, Waiting};
use super::filling::Filling;
use crate::kafka::Progress;
use crate::record::Partition;
use crate::writer::{Settled, Unwritten, Writer};

/// What the writer of a lane does: one of the two at any time.
pub(super) enum Writing {
    /// It waits for a batch.
    Idle(Box<Writer>),
    /// It writes one.
    UnderWay(BoxFuture<'static, Box<Written>>, Arc<Waiting>),
}

/// A batch that the writer is through with, and what became of it.
pub(super) struct Written {
    pub(super) writer: Box<Writer>,
    pub(super) filled: Filling,
    pub(super) result: Result<Settled, Unwritten>,
}

impl Writing {
    /// Begins to write a batch, which continues while somebody [waits for it](Writing::written).
    pub(super) fn begin(
        lanes: &Lanes,
        partition: &Partition,
        progress: &Arc<Progress>,
        mut writer: Box<Writer>,
        mut filled: Filling,
    ) -> Writing {
        let health = Arc::clone(&lanes.health);
        let shown = Shown::new(lanes, partition, progress);
        let waiting = Arc::clone(&shown.waiting);
        let progress = Arc::clone(progress);
        let written = async move {
            let of_partition = &progress.metrics;
            let (records, bytes) = (filled.batch.entries().len(), filled.batch.encoded().len());
            of_partition.batch_records.observe(records as f64);
            of_partition.batch_bytes.observe(bytes as f64);
            let timer = of_partition.batch_write_duration.start_timer();
            let Filling { batch, slot, .. } = &mut filled;
            let result = writer.write(batch, LaneAttempts::new(&shown, slot)).await;
            timer.observe_duration();
            if result.is_ok() {
                health.mongodb_answered();
            }
            Box::new(Written {
                writer,
                filled,
                result,
            })
        };
        Writing::UnderWay(written.boxed(), waiting)
    }

    /// Whether no batch is being written.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Writing::Idle(_))
    }

    /// Waits until the writer is through with its batch; while it is idle, for ever.
    pub(super) async fn written(&mut self) -> Box<Written> {
        match self {
            Writing::Idle(_) => future::pending().await,
            Writing::UnderWay(written, _) => written.await,
        }
    }

    /// Whether the batch that it writes waits between two attempts.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Writing::UnderWay(_, waiting) if waiting.is_on())
    }

    /// Notices that wait, wherever it begins.
    pub(super) fn waiting(&self) -> Option<Arc<Waiting>> {
        match self {
            Writing::Idle(_) => None,
            Writing::UnderWay(_, waiting) => Some(Arc::clone(waiting)),
        }
    }
}
