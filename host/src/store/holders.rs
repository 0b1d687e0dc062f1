//! What each owner holds of a store, and who gives up what when room is needed.
//!
//! The owner that holds most gives up its longest unused blob, again and again until there is room:
//! so nobody loses anything to one that holds more. A blob of several owners is charged to each in
//! full. What is being written counts as held already; otherwise a large upload would push out the
//! blobs of those who hold little, just before its owner came to hold most.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use spore_transport::{BlobId, PublicKey};

/// Who holds a blob: a key, or nobody when its notes are lost.
pub(super) type Owner = Option<PublicKey>;

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    Bytes,
    /// The number of blobs.
    Count,
}

/// Every owner of a blob, in the order of what they hold. Each operation takes time with the
/// logarithm of their number and of that of their blobs.
#[derive(Default)]
pub(super) struct Holders {
    holders: HashMap<Owner, Holder>,
    by_bytes: BTreeSet<(u64, Owner)>,
    by_count: BTreeSet<(usize, Owner)>,
}

#[derive(Default)]
struct Holder {
    /// By when they were last used.
    blobs: BTreeSet<(SystemTime, BlobId)>,
    bytes: u64,
    /// What is being written.
    reserved_bytes: u64,
    reserved: usize,
}

impl Holder {
    fn bytes(&self) -> u64 {
        self.bytes.saturating_add(self.reserved_bytes)
    }

    fn count(&self) -> usize {
        self.blobs.len() + self.reserved
    }
}

impl Holders {
    /// Charges the owner for a blob.
    pub(super) fn add(&mut self, owner: Owner, id: BlobId, bytes: u64, used: SystemTime) {
        self.change(owner, |holder| {
            if holder.blobs.insert((used, id)) {
                holder.bytes += bytes;
            }
        });
    }

    /// Charges the owner for it no longer.
    pub(super) fn remove(&mut self, owner: Owner, id: BlobId, bytes: u64, used: SystemTime) {
        self.change(owner, |holder| {
            if holder.blobs.remove(&(used, id)) {
                holder.bytes -= bytes;
            }
        });
    }

    /// Notes that the owner's blob was used at another time.
    pub(super) fn touch(&mut self, owner: Owner, id: BlobId, before: SystemTime, now: SystemTime) {
        self.change(owner, |holder| {
            if holder.blobs.remove(&(before, id)) {
                holder.blobs.insert((now, id));
            }
        });
    }

    /// Charges the owner for a blob that is about to be written.
    pub(super) fn reserve(&mut self, owner: Owner, bytes: u64) {
        self.change(owner, |holder| {
            holder.reserved_bytes += bytes;
            holder.reserved += 1;
        });
    }

    /// Ends what [`reserve`](Self::reserve) began.
    pub(super) fn release(&mut self, owner: Owner, bytes: u64) {
        self.change(owner, |holder| {
            holder.reserved_bytes -= bytes;
            holder.reserved -= 1;
        });
    }

    /// Bytes of the owner's blobs.
    pub(super) fn bytes_of(&self, owner: Owner) -> u64 {
        self.holders.get(&owner).map_or(0, |holder| holder.bytes)
    }

    /// Who gives up which blob. What is nobody's goes first; then the longest unused of the owner
    /// that holds most, unless it holds nothing yet but what is being written.
    pub(super) fn victim(&self, short: Short) -> Option<(Owner, BlobId)> {
        let oldest = |owner: Owner| {
            let (_, id) = self.holders.get(&owner)?.blobs.first()?;
            Some((owner, *id))
        };
        oldest(None).or_else(|| match short {
            Short::Bytes => {
                let mut most = self.by_bytes.iter().rev();
                most.find_map(|(_, owner)| oldest(*owner))
            }
            Short::Count => {
                let mut most = self.by_count.iter().rev();
                most.find_map(|(_, owner)| oldest(*owner))
            }
        })
    }

    fn change(&mut self, owner: Owner, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(owner).or_default();
        self.by_bytes.remove(&(holder.bytes(), owner));
        self.by_count.remove(&(holder.count(), owner));
        change(holder);
        if holder.count() == 0 {
            self.holders.remove(&owner);
            return;
        }
        self.by_bytes.insert((holder.bytes(), owner));
        self.by_count.insert((holder.count(), owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: Owner = Some(PublicKey([1; 32]));
    const B: Owner = Some(PublicKey([2; 32]));

    fn id(number: u8) -> BlobId {
        BlobId([number; 32])
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn who_holds_most_gives_up_its_longest_unused() {
        let mut holders = Holders::default();
        assert_eq!(holders.victim(Short::Bytes), None);
        holders.add(A, id(1), 10, at(1));
        holders.add(B, id(2), 6, at(2));
        holders.add(B, id(3), 6, at(3));
        assert_eq!(holders.victim(Short::Bytes), Some((B, id(2))));
        holders.touch(B, id(2), at(2), at(4));
        assert_eq!(holders.victim(Short::Bytes), Some((B, id(3))));
        holders.remove(B, id(3), 6, at(3));
        assert_eq!(holders.victim(Short::Bytes), Some((A, id(1))));
        assert_eq!((holders.bytes_of(A), holders.bytes_of(B)), (10, 6));
    }

    #[test]
    fn bytes_and_number_are_counted_apart() {
        let mut holders = Holders::default();
        holders.add(A, id(1), 10, at(1));
        holders.add(B, id(2), 1, at(2));
        holders.add(B, id(3), 1, at(3));
        assert_eq!(holders.victim(Short::Bytes), Some((A, id(1))));
        assert_eq!(holders.victim(Short::Count), Some((B, id(2))));
    }

    #[test]
    fn what_is_being_written_counts_and_cannot_go() {
        let mut holders = Holders::default();
        holders.add(A, id(1), 5, at(1));
        holders.add(B, id(2), 2, at(2));
        holders.reserve(B, 4);
        assert_eq!(holders.victim(Short::Bytes), Some((B, id(2))));
        holders.remove(B, id(2), 2, at(2));
        holders.reserve(B, 4);
        assert_eq!(holders.victim(Short::Bytes), Some((A, id(1))));
        holders.release(B, 4);
        holders.release(B, 4);
        assert_eq!((holders.by_bytes.len(), holders.by_count.len()), (1, 1));
    }

    #[test]
    fn what_is_nobodys_goes_first() {
        let mut holders = Holders::default();
        holders.add(A, id(1), 10, at(1));
        holders.add(None, id(2), 1, at(2));
        for short in [Short::Bytes, Short::Count] {
            assert_eq!(holders.victim(short), Some((None, id(2))));
        }
    }
}
