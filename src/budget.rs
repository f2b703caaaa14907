//! The bytes that all batches together may hold: a share of the one budget, lent to lanes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::reference;
use crate::document::DOCUMENT_BYTES_MAX;
use crate::fetch::{PARTITION_BYTES_MIN, QUEUE_BYTES_MAX};

/// The unit of lending, in bytes: a lane asks for this much at a time, not for each record.
const SLAB_BYTES: usize = 128 * 1024;

/// The shares of one budget, which in bytes is `bytes_max`: librdkafka's queues, and batches. The eighth
/// that is left is for fetches on their way and for what the allocator cannot give back.
pub const fn shares(bytes_max: usize) -> (usize, usize) {
    (bytes_max / 2, bytes_max / 8 * 3)
}

/// What a budget does not hold with so many partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The smallest queues there are, with records of any size.
    Queues {
        /// The budget that holds them.
        bytes_min: usize,
    },
    /// A record of 16 MiB that waits in each partition.
    LargeRecords {
        /// The budget that holds them.
        bytes_min: usize,
    },
}

/// What `bytes_max` does not hold with `partitions` assigned to one worker. A record larger than a
/// queue comes in one fetch, on top of what is queued; fetches on their way have the last eighth.
pub fn shortage(bytes_max: usize, partitions: usize) -> Option<Shortage> {
    let queues_min = partitions * PARTITION_BYTES_MIN * 2;
    let large_records_min = partitions * (DOCUMENT_BYTES_MAX + QUEUE_BYTES_MAX) / 5 * 8;
    if bytes_max < queues_min {
        Some(Shortage::Queues {
            bytes_min: queues_min,
        })
    } else if bytes_max < large_records_min {
        Some(Shortage::LargeRecords {
            bytes_min: large_records_min,
        })
    } else {
        None
    }
}

/// Says which variable to set where the memory budget does not hold `partitions`.
pub fn warn_of_shortage(budget_bytes_max: usize, partitions: usize) {
    let mib = |bytes: usize| bytes.div_ceil(1024 * 1024);
    let name = reference::BUDGET_BYTES_MAX.name;
    match shortage(budget_bytes_max, partitions) {
        Some(Shortage::Queues { bytes_min }) => tracing::warn!(
            partitions,
            budget_bytes_max,
            "the queues of so many partitions pass the memory budget: set {name} to {}MiB",
            mib(bytes_min)
        ),
        Some(Shortage::LargeRecords { bytes_min }) => tracing::warn!(
            partitions,
            budget_bytes_max,
            "records of 16 MiB would pass the memory budget if one waited in each partition: where such records may \
             come, set {name} to {}MiB",
            mib(bytes_min)
        ),
        None => {}
    }
}

/// Bytes that lanes borrow for their batches and give back once those are settled.
#[derive(Clone, Debug)]
pub struct Budget {
    slabs: Arc<Semaphore>,
    slabs_max: usize,
}

/// What one batch has borrowed; given back when dropped.
#[derive(Debug, Default)]
pub struct Loan {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes_max`, at least one slab.
    pub fn new(bytes_max: usize) -> Self {
        let slabs_max = (bytes_max / SLAB_BYTES).max(1);
        Budget {
            slabs: Arc::new(Semaphore::new(slabs_max)),
            slabs_max,
        }
    }

    /// The bytes lent out now.
    pub fn lent_bytes(&self) -> usize {
        (self.slabs_max - self.slabs.available_permits()) * SLAB_BYTES
    }

    /// Enlarges `loan` to at least `bytes`, if that much is free now.
    pub fn try_grow(&self, loan: &mut Loan, bytes: usize) -> bool {
        let missing = self.missing(loan, bytes);
        if missing == 0 {
            return true;
        }
        match Arc::clone(&self.slabs).try_acquire_many_owned(missing) {
            Ok(permit) => {
                loan.add(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits until `bytes` can be lent. Only for a lane whose batch is still empty: what it has been
    /// lent it gives back first, since lanes that wait for each other's share would wait for ever.
    /// More than the whole budget is lent as the whole budget.
    pub async fn grow(&self, loan: &mut Loan, bytes: usize) {
        if self.missing(loan, bytes) == 0 {
            return;
        }
        *loan = Loan::default();
        let whole = self.missing(loan, bytes);
        if let Ok(permit) = Arc::clone(&self.slabs).acquire_many_owned(whole).await {
            loan.add(permit);
        }
    }

    fn missing(&self, loan: &Loan, bytes: usize) -> u32 {
        let wanted = bytes.div_ceil(SLAB_BYTES).min(self.slabs_max);
        u32::try_from(wanted.saturating_sub(loan.slabs())).unwrap_or(u32::MAX)
    }
}

impl Loan {
    /// Hands over what `bytes` need, or as much as there is.
    pub fn split(&mut self, bytes: usize) -> Loan {
        let slabs = bytes.div_ceil(SLAB_BYTES).min(self.slabs());
        let permit = self.permit.as_mut().and_then(|held| held.split(slabs));
        Loan { permit }
    }

    fn slabs(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_default_budget_holds_the_largest_records_of_twelve_partitions_and_no_more() {
        assert_eq!(shortage(384 * MIB, 12), None);
        let short = Shortage::LargeRecords {
            bytes_min: of_large_records(24),
        };
        assert_eq!(shortage(384 * MIB, 24), Some(short));
        assert!(matches!(
            shortage(256 * MIB, 12),
            Some(Shortage::LargeRecords { .. })
        ));
        assert_eq!(shortage(64 * MIB, 0), None);
    }

    /// A record of 16 MiB and a full queue for each, in five eighths of the budget.
    fn of_large_records(partitions: usize) -> usize {
        partitions * (16 * MIB + QUEUE_BYTES_MAX) / 5 * 8
    }

    #[test]
    fn more_partitions_than_the_smallest_queues_allow_are_told_first() {
        let queue = 448 * 1024;
        assert_eq!(
            shortage(384 * MIB, 439),
            Some(Shortage::Queues {
                bytes_min: 439 * queue * 2
            })
        );
        assert!(matches!(
            shortage(384 * MIB, 438),
            Some(Shortage::LargeRecords { .. })
        ));
    }

    #[test]
    fn the_figure_to_set_is_enough() {
        for partitions in 1..2_000 {
            match shortage(64 * MIB, partitions) {
                Some(Shortage::Queues { bytes_min }) => assert!(matches!(
                    shortage(bytes_min, partitions),
                    Some(Shortage::LargeRecords { .. })
                )),
                Some(Shortage::LargeRecords { bytes_min }) => {
                    assert_eq!(shortage(bytes_min, partitions), None);
                }
                None => assert!(partitions <= 2),
            }
        }
    }

    #[test]
    fn a_loan_is_given_back_when_dropped() {
        let budget = Budget::new(4 * SLAB_BYTES);
        let mut loan = Loan::default();
        assert!(budget.try_grow(&mut loan, 3 * SLAB_BYTES));
        assert!(
            budget.try_grow(&mut loan, 2 * SLAB_BYTES),
            "a loan that is large enough stays as it is"
        );
        assert_eq!(budget.lent_bytes(), 3 * SLAB_BYTES);
        let mut other = Loan::default();
        assert!(!budget.try_grow(&mut other, 2 * SLAB_BYTES));
        drop(loan);
        assert!(budget.try_grow(&mut other, 2 * SLAB_BYTES));
    }

    #[test]
    fn a_part_of_a_loan_outlives_the_rest() {
        let budget = Budget::new(8 * SLAB_BYTES);
        let mut loan = Loan::default();
        assert!(budget.try_grow(&mut loan, 5 * SLAB_BYTES));
        let part = loan.split(SLAB_BYTES + 1);
        assert_eq!(budget.lent_bytes(), 5 * SLAB_BYTES);
        drop(loan);
        assert_eq!(budget.lent_bytes(), 2 * SLAB_BYTES);
        drop(part);
        assert_eq!(budget.lent_bytes(), 0);

        let mut loan = Loan::default();
        assert!(budget.try_grow(&mut loan, SLAB_BYTES));
        let all = loan.split(9 * SLAB_BYTES);
        drop(loan);
        assert_eq!(budget.lent_bytes(), SLAB_BYTES, "no more than there is");
        drop(all);
        drop(Loan::default().split(SLAB_BYTES));
        assert_eq!(budget.lent_bytes(), 0);
    }

    #[tokio::test]
    async fn lanes_that_wait_do_not_wait_for_each_other() {
        let budget = Budget::new(4 * SLAB_BYTES);
        let (mut one, mut two) = (Loan::default(), Loan::default());
        assert!(budget.try_grow(&mut one, SLAB_BYTES));
        assert!(budget.try_grow(&mut two, SLAB_BYTES));
        let in_turn = async {
            let grow = async |mut loan: Loan| {
                budget.grow(&mut loan, 4 * SLAB_BYTES).await;
                assert_eq!(budget.lent_bytes(), 4 * SLAB_BYTES);
            };
            tokio::join!(grow(one), grow(two));
        };
        let deadline = std::time::Duration::from_secs(10);
        tokio::time::timeout(deadline, in_turn).await.unwrap();
        assert_eq!(budget.lent_bytes(), 0);
    }

    #[tokio::test]
    async fn a_loan_that_is_large_enough_is_kept() {
        let budget = Budget::new(4 * SLAB_BYTES);
        let mut loan = Loan::default();
        assert!(budget.try_grow(&mut loan, 3 * SLAB_BYTES));
        budget.grow(&mut loan, 2 * SLAB_BYTES).await;
        assert_eq!(budget.lent_bytes(), 3 * SLAB_BYTES);
        assert!(
            budget.try_grow(&mut loan, 3 * SLAB_BYTES + 1),
            "a slab is lent whole"
        );
        assert_eq!(budget.lent_bytes(), 4 * SLAB_BYTES);
    }

    #[tokio::test]
    async fn more_than_the_budget_is_lent_as_the_whole_of_it() {
        let budget = Budget::new(2 * SLAB_BYTES);
        let mut loan = Loan::default();
        let deadline = std::time::Duration::from_secs(10);
        let grown = budget.grow(&mut loan, 100 * SLAB_BYTES);
        tokio::time::timeout(deadline, grown).await.unwrap();
        assert_eq!(budget.lent_bytes(), 2 * SLAB_BYTES);
    }
}
