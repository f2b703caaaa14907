//! The writer of a lane: idle, or writing a batch.

use std::future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::Lanes;
use super::filling::Filling;
use crate::database::errors::Cause;
use crate::kafka::Progress;
use crate::writer::{Settled, Unwritten, Writer};

/// What the writer of a lane does: one of the two at any time.
pub(super) enum Writing {
    /// It waits for a batch.
    Idle(Box<Writer>),
    /// It writes one.
    UnderWay(BoxFuture<'static, Box<Written>>),
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
        progress: &Arc<Progress>,
        mut writer: Box<Writer>,
        filled: Filling,
    ) -> Writing {
        let (metrics, health) = (Arc::clone(&lanes.metrics), Arc::clone(&lanes.health));
        let progress = Arc::clone(progress);
        let written = async move {
            let of_partition = &progress.metrics;
            let (records, bytes) = (filled.batch.entries().len(), filled.batch.encoded().len());
            of_partition.batch_records.observe(records as f64);
            of_partition.batch_bytes.observe(bytes as f64);
            let timer = of_partition.batch_write_duration.start_timer();
            let retried = |cause: Cause| {
                metrics.retries(cause.as_str());
                if cause.is_an_outage() {
                    health.mongodb_failed();
                }
            };
            let result = writer.write(&filled.batch, retried).await;
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
        Writing::UnderWay(written.boxed())
    }

    /// Whether no batch is being written.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Writing::Idle(_))
    }

    /// Waits until the writer is through with its batch; while it is idle, for ever.
    pub(super) async fn written(&mut self) -> Box<Written> {
        match self {
            Writing::Idle(_) => future::pending().await,
            Writing::UnderWay(written) => written.await,
        }
    }
}
