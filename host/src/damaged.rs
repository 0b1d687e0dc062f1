//! What is on the disk and was not taken up, so that its owner is told rather than that it is not
//! there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use spore_transport::job::Custody;
use spore_transport::message::Refused;

use crate::keep::KeepError;
use crate::scheduler::lock;

/// Sessions or jobs that were not taken up, by owner and id.
pub(crate) struct Damaged<I>(Mutex<HashMap<([u8; 32], I), Damage>>);

/// Why something was not taken up.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) why: Refused,
    /// Whether it is whole on the disk: then it is tried anew.
    pub(crate) is_passing: bool,
    /// Where a job is, if that can be read.
    pub(crate) custody: Option<Custody>,
}

impl Damage {
    /// It cannot be read.
    pub(crate) fn unreadable(error: &KeepError) -> Damage {
        Damage {
            why: error.refusal(),
            is_passing: false,
            custody: None,
        }
    }

    /// It can be read, and may not or cannot be used now.
    pub(crate) fn passing(why: Refused) -> Damage {
        Damage {
            why,
            is_passing: true,
            custody: None,
        }
    }
}

impl<I> Default for Damaged<I> {
    fn default() -> Self {
        Damaged(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash> Damaged<I> {
    pub(crate) fn put(&self, owner: [u8; 32], id: I, damage: Damage) {
        lock(&self.0).insert((owner, id), damage);
    }

    pub(crate) fn get(&self, owner: [u8; 32], id: I) -> Option<Damage> {
        lock(&self.0).get(&(owner, id)).cloned()
    }

    /// Those of an owner.
    pub(crate) fn of(&self, owner: [u8; 32]) -> Vec<(I, Damage)> {
        let all = lock(&self.0);
        let own = all.iter().filter(|((of, _), _)| *of == owner);
        own.map(|((_, id), damage)| (*id, damage.clone())).collect()
    }

    /// Whether something of an owner's is to be tried anew.
    pub(crate) fn has_passing(&self, owner: [u8; 32]) -> bool {
        let all = lock(&self.0);
        all.iter()
            .any(|((of, _), damage)| *of == owner && damage.is_passing)
    }

    /// Forgets one: it was taken up, or is not on the disk any more.
    pub(crate) fn forget(&self, owner: [u8; 32], id: I) {
        lock(&self.0).remove(&(owner, id));
    }
}
