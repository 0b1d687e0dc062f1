//! Items that a job has emitted and that were not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use spore_transport::job::{HELD_BYTES_MAX, HELD_ITEMS_MAX, HeldItems};

use crate::room::{Held, Total};

/// Items by sequence number, from 0.
pub(crate) struct Items {
    /// What the key has held for it, in which they count.
    total: Arc<Total>,
    /// The sequence number of the first that is held.
    first: u64,
    held: VecDeque<(Bytes, Held)>,
    bytes: u64,
    /// Items below this one are in a durable image, and may leave a host that keeps its jobs.
    durable: u64,
    /// Items below this one are in an image that is durable or being written.
    written: u64,
    /// Items below this one were taken of an earlier run of the same, and are not held.
    skipped: u64,
    /// Which watch has them.
    watch: u64,
}

impl Items {
    /// None, after so many. They count in `total`.
    pub(crate) fn after(emitted: u64, total: Arc<Total>) -> Items {
        Items {
            total,
            first: emitted,
            held: VecDeque::new(),
            bytes: 0,
            durable: emitted,
            written: emitted,
            skipped: 0,
            watch: 0,
        }
    }

    /// Those of a job that has come here: all of them are durable.
    pub(crate) fn held(items: &HeldItems, total: Arc<Total>) -> Items {
        let mut held = Items::after(items.first, total);
        for (_, item) in items.iter() {
            held.push(item.clone());
        }
        held.durable = held.emitted();
        held.written = held.durable;
        held
    }

    /// Those that are held, to go with the job.
    pub(crate) fn to_held(&self) -> HeldItems {
        HeldItems::new(self.first, self.held.iter().map(|(item, _)| item.clone()))
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
        if self.emitted() < self.skipped {
            // All that are held were taken with it.
            self.first += 1;
            return;
        }
        // Past the limit too: the guest is held to it before its next, and others with it.
        let room = self.total.hold(item.len() as u64);
        self.bytes += room.bytes;
        self.held.push_back((item, room));
    }

    /// Whether the guest may go on to its next.
    pub(crate) fn has_room(&self) -> bool {
        (self.held.len() as u64) < HELD_ITEMS_MAX && self.bytes < HELD_BYTES_MAX
    }

    /// Whether some wait only for an image that holds that they were emitted, and is not being written.
    pub(crate) fn wait_for_image(&self) -> bool {
        self.written < self.emitted()
    }

    /// An image is being written in which so many were emitted.
    pub(crate) fn set_written(&mut self, emitted: u64) {
        self.written = self.written.max(emitted);
    }

    /// The image that was being written is not.
    pub(crate) fn set_not_written(&mut self) {
        self.written = self.durable;
    }

    /// An image is durable in which so many were emitted.
    pub(crate) fn set_durable(&mut self, emitted: u64) {
        self.durable = self.durable.max(emitted);
        self.written = self.written.max(emitted);
    }

    /// The item of this number, if it may leave; `held_back` until it is durable.
    pub(crate) fn get(&self, number: u64, held_back: bool) -> Option<Bytes> {
        if held_back && number >= self.durable {
            return None;
        }
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.held.get(at).map(|(item, _)| item.clone())
    }

    /// Forgets the items below this one, which were taken: also those that are emitted only now, by a
    /// run that was begun or gone on with again.
    pub(crate) fn taken(&mut self, below: u64) {
        self.skipped = self.skipped.max(below);
        while self.first < below {
            let Some((_, room)) = self.held.pop_front() else {
                break;
            };
            self.bytes -= room.bytes;
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

    fn none() -> Items {
        Items::after(0, Total::new(0))
    }

    #[test]
    fn items_are_held_until_they_are_taken() {
        let mut items = none();
        for byte in 0..3 {
            items.push(Bytes::from(vec![byte]));
        }
        assert_eq!(items.emitted(), 3);
        assert_eq!(items.total.taken(), 3);
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
        items.taken(5);
        assert_eq!((items.first(), items.emitted()), (3, 3));
        assert_eq!(items.total.taken(), 0);
        for byte in 3..6 {
            items.push(Bytes::from(vec![byte]));
        }
        assert_eq!((items.first(), items.emitted()), (5, 6));
        assert_eq!(items.get(5, false).as_deref(), Some(&[5][..]));
    }

    #[test]
    fn the_guest_waits_when_nobody_takes_them() {
        let mut items = none();
        while items.has_room() {
            items.push(Bytes::new());
        }
        assert_eq!(items.emitted(), HELD_ITEMS_MAX);
        items.taken(1);
        assert!(items.has_room());
        items.push(Bytes::from(vec![0; HELD_BYTES_MAX as usize]));
        assert!(!items.has_room());
    }

    #[test]
    fn items_move_with_their_job() {
        let mut items = none();
        for byte in 0..3 {
            items.push(Bytes::from(vec![byte]));
        }
        items.taken(1);
        let moved = Items::held(&items.to_held(), Total::new(0));
        assert_eq!((moved.first(), moved.emitted()), (1, 3));
        assert_eq!(moved.get(2, true).as_deref(), Some(&[2][..]));
    }
}
