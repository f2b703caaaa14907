//! How many records the next transaction takes: half as many as the last one where it failed, twice as many where not.

/// The size of a lane's transactions, in records.
#[derive(Debug)]
pub(super) struct Pace {
    records_max: usize,
    /// What it may grow to again in this batch: beyond is for the next one, or each success would cost two failures.
    batch_records_max: usize,
}

impl Pace {
    /// As many records as there are.
    pub(super) fn new() -> Self {
        Pace {
            records_max: usize::MAX,
            batch_records_max: usize::MAX,
        }
    }

    /// The most records that the next transaction takes; one at least.
    pub(super) fn records_max(&self) -> usize {
        self.records_max
    }

    /// A new batch begins, in which it may grow again.
    pub(super) fn next_batch(&mut self) {
        self.batch_records_max = usize::MAX;
    }

    /// A transaction was committed.
    pub(super) fn double(&mut self) {
        self.records_max = self
            .records_max
            .saturating_mul(2)
            .min(self.batch_records_max);
    }

    /// A transaction of so many records failed; half of it may get through.
    pub(super) fn halve(&mut self, records: usize) {
        self.records_max = (records / 2).max(1);
    }

    /// As [`Pace::halve`], and no transaction of this batch will be larger.
    pub(super) fn halve_batch(&mut self, records: usize) {
        self.halve(records);
        self.batch_records_max = self.records_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_grows_no_more_in_its_batch() {
        let mut pace = Pace::new();
        pace.halve(1_000);
        pace.double();
        assert_eq!(pace.records_max(), 1_000);
        pace.halve_batch(1_000);
        pace.double();
        assert_eq!(pace.records_max(), 500);
        pace.next_batch();
        pace.double();
        assert_eq!(pace.records_max(), 1_000);
        pace.halve(1);
        assert_eq!(pace.records_max(), 1);
    }
}
