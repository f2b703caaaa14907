//! What the writer tells of an attempt that failed, and to whom.

use crate::database::errors::Cause;
use crate::record::fold::Plan;

/// Why an attempt failed that will be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'t> {
    /// Why.
    pub cause: Cause,
    /// The error's text, which may be logged.
    pub error: &'t str,
    /// The collection that it is about, where MongoDB has accepted the rest of the transaction.
    pub collection: Option<&'t str>,
    /// The offset of the first record that was to be written.
    pub offset: i64,
    /// How many records were.
    pub records: usize,
    /// Their size, in bytes of documents.
    pub bytes: usize,
    /// Whether nothing of other lanes was in the transaction, whose fault it could be.
    pub alone: bool,
}

impl Trouble<'_> {
    /// A transaction with other lanes did not commit, for a cause that may be another lane's.
    pub(super) fn of_group(cause: Cause, plan: &Plan<'_>) -> Self {
        Trouble {
            cause,
            error: "a transaction of several batches failed",
            collection: None,
            offset: plan.offsets.start,
            records: plan.records.len(),
            bytes: 0,
            alone: false,
        }
    }
}

/// Who gives the writer a batch: is told of its attempts, and may give to others what the batch
/// holds while none is under way.
pub trait Attempts: Send {
    /// An attempt failed, and will be repeated.
    fn failed(&mut self, trouble: &Trouble<'_>);

    /// An attempt succeeded; there may be more of the batch.
    fn passed(&mut self) {}

    /// No attempt is under way, until [`Attempts::resume`].
    fn pause(&mut self) {}

    /// Waits for what another attempt needs.
    fn resume(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl<F: FnMut(Cause) + Send> Attempts for F {
    fn failed(&mut self, trouble: &Trouble<'_>) {
        self(trouble.cause);
    }
}
