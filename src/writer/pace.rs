//! How many records the next transaction takes: half as many as the last one where it failed, twice as many where not.

/// The size of a lane's transactions, in records.
#[derive(Debug)]
pub(super) struct Pace {
    records_max: usize,
    /// Now that some of this batch did not get through: growing again is for the next batch, or each success would cost two
    /// failures.
    of_batch: usize,
}

impl Pace {
    /// As many records as there are.
    pub(super) fn new() -> Self {
        Pace {
            records_max: usize::MAX,
            of_batch: usize::MAX,
        }
    }

    /// The most records that the next transaction takes; one at least.
    pub(super) fn records_max(&self) -> usize {
        self.records_max
    }

    /// The next batch is another one.
    pub(super) fn next_batch(&mut self) {
        self.of_batch = usize::MAX;
    }

    /// A transaction was committed.
    pub(super) fn double(&mut self) {
        self.records_max = self.records_max.saturating_mul(2).min(self.of_batch);
    }

    /// A transaction of so many records failed, and half of it may not.
    pub(super) fn halve(&mut self, records: usize) {
        self.records_max = (records / 2).max(1);
    }

    /// As [`Pace::halve`], and no transaction of this batch will be larger.
    pub(super) fn halve_batch(&mut self, records: usize) {
        self.halve(records);
        self.of_batch = self.records_max;
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
