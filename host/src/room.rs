//! Budgets of memory, counted in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a budget is counted in, in bytes: a semaphore counts 32 bits.
const UNIT_BYTES: u64 = 1024;

/// So many bytes, of which each user takes a part for a while.
pub(crate) struct Budget {
    left: Arc<Semaphore>,
    units: u32,
}

/// A part of a budget, given back when dropped.
pub(crate) type Room = OwnedSemaphorePermit;

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let units = (bytes / UNIT_BYTES).clamp(1, most);
        Budget {
            left: Arc::new(Semaphore::new(units as usize)),
            units: units as u32,
        }
    }

    /// Takes room for so many bytes, once it is there. What is larger than the whole budget takes
    /// all of it: waiting for more would never end.
    pub(crate) async fn take(&self, bytes: u64) -> Room {
        let wanted = bytes.div_ceil(UNIT_BYTES).min(u64::from(self.units)) as u32;
        let room = self.left.clone().acquire_many_owned(wanted).await;
        room.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_larger_than_the_budget_takes_all_of_it() {
        let budget = Budget::new(4096);
        let all = budget.take(u64::MAX).await;
        assert_eq!(budget.left.available_permits(), 0);
        drop(all);
        let _part = budget.take(1025).await;
        assert_eq!(budget.left.available_permits(), 2);
        let _none = budget.take(0).await;
        assert_eq!(budget.left.available_permits(), 2);
        let none = Budget::new(0);
        let _all = none.take(1 << 20).await;
    }
}
