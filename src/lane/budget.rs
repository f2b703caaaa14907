//! The bytes that all batches together may hold: a share of the memory budget, lent to lanes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of lending, in bytes: a lane asks for this much at a time, not for each record.
const SLAB_BYTES: usize = 128 * 1024;

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

    /// Enlarges `loan` to at least `bytes`; `false` if that much is not free now.
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

    /// Waits until `bytes` can be lent. Only for a lane whose batch is still empty: it first gives
    /// back what it has been lent, since lanes that wait for each other's share would wait for
    /// ever. A lane that asks for more than the whole budget gets the whole budget.
    pub async fn grow(&self, loan: &mut Loan, bytes: usize) {
        if self.missing(loan, bytes) == 0 {
            return;
        }
        *loan = Loan::default();
        let whole = self.missing(loan, bytes);
        let permit = Arc::clone(&self.slabs).acquire_many_owned(whole).await;
        loan.add(permit.expect("nothing closes the semaphore"));
    }

    fn missing(&self, loan: &Loan, bytes: usize) -> u32 {
        let wanted = bytes.div_ceil(SLAB_BYTES).min(self.slabs_max);
        let missing = wanted.saturating_sub(loan.slabs());
        u32::try_from(missing)
            .expect("a budget of less than 512 TiB: the configuration allows 1 TiB")
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
