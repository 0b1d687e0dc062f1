//! What is on the disk and was not taken up, so that its owner is told rather than that it is not
//! there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use spore_transport::message::Refused;

use crate::keep::KeepError;
use crate::scheduler::lock;

/// Sessions or jobs that were not taken up, by owner and id.
pub(crate) struct Damaged<I, P>(Mutex<HashMap<Owned<I>, Damage<P>>>);

/// An id of an owner's.
type Owned<I> = ([u8; 32], I);

/// Why something was not taken up.
#[derive(Clone, Debug)]
pub(crate) struct Damage<P> {
    pub(crate) why: Refused,
    /// Whether it is whole on the disk: then it is tried anew.
    pub(crate) is_passing: bool,
    /// Where it is among the hosts that it moves between, if that can be read.
    pub(crate) place: Option<P>,
}

impl<P> Damage<P> {
    /// It cannot be read.
    pub(crate) fn unreadable(error: &KeepError) -> Damage<P> {
        Damage {
            why: error.refusal(),
            is_passing: false,
            place: None,
        }
    }

    /// It can be read, and may not or cannot be used now.
    pub(crate) fn passing(why: Refused) -> Damage<P> {
        Damage {
            why,
            is_passing: true,
            place: None,
        }
    }

    /// It is there by what its record tells. Nothing when the record has gone meanwhile: so has the rest.
    pub(crate) fn at(self, place: Result<P, KeepError>) -> Option<Damage<P>> {
        match place {
            Err(KeepError::Missing(_)) => None,
            place => Some(Damage {
                place: place.ok(),
                ..self
            }),
        }
    }
}

impl<I, P> Default for Damaged<I, P> {
    fn default() -> Self {
        Damaged(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash, P: Clone> Damaged<I, P> {
    pub(crate) fn put(&self, owner: [u8; 32], id: I, damage: Damage<P>) {
        lock(&self.0).insert((owner, id), damage);
    }

    pub(crate) fn get(&self, owner: [u8; 32], id: I) -> Option<Damage<P>> {
        lock(&self.0).get(&(owner, id)).cloned()
    }

    /// Those of an owner.
    pub(crate) fn of(&self, owner: [u8; 32]) -> Vec<(I, Damage<P>)> {
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
