//! Bounds on memory that many share, counted in bytes: one that is waited for, and one that is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// So many bytes, of which each user has its part at once or not at all.
#[derive(Debug)]
pub(crate) struct Total {
    limit: u64,
    taken: AtomicU64,
}

impl Total {
    pub(crate) fn new(limit: u64) -> Arc<Total> {
        Arc::new(Total {
            limit,
            taken: AtomicU64::new(0),
        })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes`, or says how much would have been taken.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), u64> {
        self.take_if(bytes, |_, after| after <= self.limit)
    }

    /// The same, but what nobody else takes from may be passed by one.
    pub(crate) fn take_or_alone(&self, bytes: u64) -> Result<(), u64> {
        self.take_if(bytes, |before, after| before == 0 || after <= self.limit)
    }

    fn take_if(&self, bytes: u64, may: impl Fn(u64, u64) -> bool) -> Result<(), u64> {
        let after = |before: u64| before.saturating_add(bytes);
        let next = |before| may(before, after(before)).then(|| after(before));
        let relaxed = Ordering::Relaxed;
        let taken = self.taken.fetch_update(relaxed, relaxed, next);
        taken.map(|_| ()).map_err(after)
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are taken now.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Counts bytes that are there already, past the limit too, until what this gives is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Held {
            total: self.clone(),
            bytes,
        }
    }
}

/// Bytes that count in a total while this lives.
pub(crate) struct Held {
    total: Arc<Total>,
    pub(crate) bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_never_passed_but_by_one_alone() {
        let total = Total::new(10);
        assert_eq!(total.take(11), Err(11));
        assert_eq!(total.take_or_alone(11), Ok(()));
        assert_eq!(total.take_or_alone(1), Err(12));
        total.give_back(11);
        assert_eq!(total.take(10), Ok(()));
        assert_eq!(total.take(u64::MAX), Err(u64::MAX));
        assert_eq!(total.take(1), Err(11));
        total.give_back(1);
        assert_eq!(total.take_or_alone(1), Ok(()));
        let held = total.hold(5);
        assert_eq!((total.taken(), total.take(1)), (15, Err(16)));
        drop(held);
        assert_eq!(total.taken(), 10);
    }

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
