//! How many records the next transaction takes: half as many as the last one if it failed, twice as
//! many if not.

/// The size of a lane's transactions, in records.
#[derive(Debug)]
pub(super) struct Pace {
    records_max: usize,
    /// What `records_max` may grow to in this batch. Without, each success would cost another
    /// failure.
    batch_records_max: usize,
}

impl Pace {
    /// Without a limit yet.
    pub(super) fn new() -> Self {
        Pace {
            records_max: usize::MAX,
            batch_records_max: usize::MAX,
        }
    }

    /// The most records that the next transaction may take; at least one.
    pub(super) fn records_max(&self) -> usize {
        self.records_max
    }

    /// Begins another batch, in which transactions may grow again.
    pub(super) fn next_batch(&mut self) {
        self.batch_records_max = usize::MAX;
    }

    /// Doubles the limit: a transaction was committed.
    pub(super) fn double(&mut self) {
        self.records_max = self
            .records_max
            .saturating_mul(2)
            .min(self.batch_records_max);
    }

    /// Halves a transaction of so many `records`, which failed.
    pub(super) fn halve(&mut self, records: usize) {
        self.records_max = (records / 2).max(1);
    }

    /// As [`Pace::halve`]; no later transaction of this batch will be larger.
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
