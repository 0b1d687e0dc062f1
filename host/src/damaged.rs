//! What is on the disk and cannot be read, so that its owner is told rather than that it is not there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use spore_transport::message::Refused;

use crate::scheduler::lock;

/// Sessions or jobs that cannot be read, by owner and id, and why.
pub(crate) struct Damaged<I>(Mutex<HashMap<([u8; 32], I), Refused>>);

impl<I> Default for Damaged<I> {
    fn default() -> Self {
        Damaged(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash> Damaged<I> {
    /// Notes that one cannot be read.
    pub(crate) fn put(&self, owner: [u8; 32], id: I, why: Refused) {
        lock(&self.0).insert((owner, id), why);
    }

    /// Why it cannot be read, if that is so.
    pub(crate) fn why(&self, owner: [u8; 32], id: I) -> Option<Refused> {
        lock(&self.0).get(&(owner, id)).cloned()
    }

    /// Those of an owner.
    pub(crate) fn of(&self, owner: [u8; 32]) -> Vec<(I, Refused)> {
        let all = lock(&self.0);
        let own = all.iter().filter(|((of, _), _)| *of == owner);
        own.map(|((_, id), why)| (*id, why.clone())).collect()
    }

    /// Forgets one, which its owner removes. Says whether it was one.
    pub(crate) fn forget(&self, owner: [u8; 32], id: I) -> bool {
        lock(&self.0).remove(&(owner, id)).is_some()
    }
}
