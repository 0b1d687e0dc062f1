//! Items that a job has emitted and that were not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;
use spore_transport::job::HeldItems;

/// Items that are held at most before the guest waits.
const HELD_MAX: usize = 64;

/// The same in bytes. One item alone may have more.
const HELD_BYTES_MAX: usize = 256 << 10;

/// Items by sequence number, from 0.
#[derive(Debug, Default)]
pub(crate) struct Items {
    /// The sequence number of the first that is held.
    first: u64,
    held: VecDeque<Bytes>,
    bytes: usize,
    /// Items below this one are in a durable image, and may leave a host that keeps its jobs.
    durable: u64,
    /// Which watch has them.
    watch: u64,
}

impl Items {
    /// None, after so many.
    pub(crate) fn after(emitted: u64) -> Items {
        Items {
            first: emitted,
            durable: emitted,
            ..Items::default()
        }
    }

    /// Those of a job that has come here: all of them are durable.
    pub(crate) fn held(items: &HeldItems) -> Items {
        let held: VecDeque<Bytes> = items.iter().map(|(_, item)| item.clone()).collect();
        Items {
            first: items.first,
            bytes: held.iter().map(Bytes::len).sum(),
            durable: items.first + held.len() as u64,
            held,
            watch: 0,
        }
    }

    /// Those that are held, to go with the job.
    pub(crate) fn to_held(&self) -> HeldItems {
        HeldItems::new(self.first, self.held.iter().cloned())
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many there have been.
    pub(crate) fn emitted(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    pub(crate) fn push(&mut self, item: Bytes) {
        self.bytes += item.len();
        self.held.push_back(item);
    }

    /// Whether the guest may go on to its next.
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < HELD_MAX && self.bytes < HELD_BYTES_MAX
    }

    /// Whether some wait only for an image that holds that they were emitted.
    pub(crate) fn wait_for_image(&self) -> bool {
        self.durable < self.emitted()
    }

    /// An image is durable in which so many were emitted.
    pub(crate) fn set_durable(&mut self, emitted: u64) {
        self.durable = self.durable.max(emitted);
    }

    /// The item of this number, if it may leave; `held_back` until it is durable.
    pub(crate) fn get(&self, number: u64, held_back: bool) -> Option<Bytes> {
        if held_back && number >= self.durable {
            return None;
        }
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.held.get(at).cloned()
    }

    /// Forgets the items below this one, which were taken.
    pub(crate) fn taken(&mut self, below: u64) {
        while self.first < below {
            let Some(item) = self.held.pop_front() else {
                break;
            };
            self.bytes -= item.len();
            self.first += 1;
        }
    }

    /// Gives the items to a new watch, and its number.
    pub(crate) fn take_over(&mut self) -> u64 {
        self.watch += 1;
        self.watch
    }

    /// Whether a watch still has the items.
    pub(crate) fn belong_to(&self, watch: u64) -> bool {
        self.watch == watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_held_until_they_are_taken() {
        let mut items = Items::default();
        for byte in 0..3 {
            items.push(Bytes::from(vec![byte]));
        }
        assert_eq!(items.emitted(), 3);
        assert_eq!(
            items.get(0, true),
            None,
            "no image holds that it was emitted"
        );
        assert_eq!(items.get(2, false).as_deref(), Some(&[2][..]));
        items.set_durable(2);
        assert_eq!(items.get(1, true).as_deref(), Some(&[1][..]));
        assert_eq!(items.get(2, true), None);
        items.taken(2);
        assert_eq!(items.get(1, false), None, "it was taken");
        assert_eq!((items.first(), items.emitted()), (2, 3));
        items.taken(100);
        assert_eq!((items.first(), items.emitted()), (3, 3));
    }

    #[test]
    fn the_guest_waits_when_nobody_takes_them() {
        let mut items = Items::default();
        while items.has_room() {
            items.push(Bytes::new());
        }
        assert_eq!(items.emitted(), HELD_MAX as u64);
        items.taken(1);
        assert!(items.has_room());
        items.push(Bytes::from(vec![0; HELD_BYTES_MAX]));
        assert!(!items.has_room());
    }

    #[test]
    fn items_move_with_their_job() {
        let mut items = Items::default();
        for byte in 0..3 {
            items.push(Bytes::from(vec![byte]));
        }
        items.taken(1);
        let moved = Items::held(&items.to_held());
        assert_eq!((moved.first(), moved.emitted()), (1, 3));
        assert_eq!(moved.get(2, true).as_deref(), Some(&[2][..]));
    }
}
