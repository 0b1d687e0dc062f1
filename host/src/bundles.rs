//! Bundles in memory: those used lately, and those that calls still hold.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use spore_bundle::{Bundle, BundleId};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;

use crate::callers::KeyState;
use crate::code::Ready;
use crate::room::Total;
use crate::scheduler::lock;
use crate::weighted::Weighted;

/// A bundle whose code is compiled, as one caller has it: what a call needs. Counts against what
/// the caller may hold until it is dropped, once for all that the caller has of it.
pub struct Loaded {
    ready: Arc<Ready>,
    _charge: Arc<Charge>,
}

impl Loaded {
    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.ready.bundle
    }

    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }
}

/// A part of the bytes that one key may hold of bundles, given back when dropped.
pub(crate) struct Charge {
    total: Arc<Total>,
    bytes: u64,
}

/// What a key is charged for now, by bundle, and what its calls hold.
#[derive(Default)]
pub(crate) struct Charges {
    held: HashMap<BundleId, Weak<Charge>>,
    /// What was lent to the key. A call that finds its bundle here takes no lock that is shared with
    /// the calls of other keys.
    lent: HashMap<BundleId, Weak<Loaded>>,
    /// How many there may be before those that are over are forgotten.
    forget_at: usize,
}

/// Charges that are kept before any is forgotten.
const CHARGES_MIN: usize = 64;

impl Charge {
    /// Charges the key for a bundle of so many bytes, unless it is charged for it already.
    ///
    /// # Errors
    ///
    /// Refuses when its calls hold too many. One alone always has room.
    pub(crate) fn take(key: &KeyState, id: BundleId, bytes: u64) -> Result<Arc<Charge>, Refused> {
        let mut charges = lock(&key.charges);
        if let Some(charge) = charges.held.get(&id).and_then(Weak::upgrade) {
            return Ok(charge);
        }
        let total = key.bundles.clone();
        if let Err(all) = total.take_or_alone(bytes) {
            let what = "bytes of bundles of the key in use";
            let refused = Refused::new(RefusalCode::QueueFull, what);
            return Err(refused.past(total.limit(), all));
        }
        let charge = Arc::new(Charge { total, bytes });
        if charges.held.len() >= charges.forget_at {
            charges.held.retain(|_, charge| charge.strong_count() > 0);
            charges.lent.retain(|_, loaded| loaded.strong_count() > 0);
            charges.forget_at = CHARGES_MIN.max(2 * charges.held.len());
        }
        charges.held.insert(id, Arc::downgrade(&charge));
        Ok(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.give_back(self.bytes);
    }
}

/// Bundles that are ready to run. One that calls hold is found again after it has left the cache:
/// otherwise calls that wait in the queue could each hold a copy of their own.
pub(crate) struct Bundles {
    recent: Weighted<BundleId, Arc<Ready>>,
    all: HashMap<BundleId, Weak<Ready>>,
    bytes_max: u64,
}

impl Bundles {
    /// Keeps up to `recent_bytes` of bundles that nobody uses, and up to `bytes_max` in all.
    pub(crate) fn new(recent_bytes: u64, bytes_max: u64) -> Bundles {
        Bundles {
            recent: Weighted::new(recent_bytes),
            all: HashMap::new(),
            bytes_max,
        }
    }

    /// The bundle for a call of this key, if it is there.
    ///
    /// # Errors
    ///
    /// As [`Charge::take`].
    pub(crate) fn get(
        &mut self,
        key: &KeyState,
        id: &BundleId,
    ) -> Result<Option<Arc<Loaded>>, Refused> {
        let Some(ready) = self.ready(id) else {
            return Ok(None);
        };
        let charge = Charge::take(key, *id, ready.bytes())?;
        Ok(Some(lend(key, ready, charge)))
    }

    /// Sees to it that there is room for a bundle of so many bytes.
    ///
    /// # Errors
    ///
    /// Refuses when calls hold too many. One alone always has room.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Result<(), Refused> {
        let mut held = self.bytes();
        if held.saturating_add(bytes) > self.bytes_max {
            self.recent.clear();
            held = self.bytes();
        }
        let all = held.saturating_add(bytes);
        if held > 0 && all > self.bytes_max {
            let refused = Refused::new(RefusalCode::QueueFull, "bytes of bundles in use");
            return Err(refused.past(self.bytes_max, all));
        }
        Ok(())
    }

    /// Keeps a bundle, and gives it to the key that is charged for it.
    pub(crate) fn put(&mut self, key: &KeyState, ready: Ready, charge: Arc<Charge>) -> Arc<Loaded> {
        let id = ready.bundle.id();
        // Another request may have been faster.
        let ready = self.ready(&id).unwrap_or_else(|| {
            let ready = Arc::new(ready);
            self.all.insert(id, Arc::downgrade(&ready));
            ready
        });
        self.recent.put(id, ready.clone(), ready.bytes());
        lend(key, ready, charge)
    }

    fn ready(&mut self, id: &BundleId) -> Option<Arc<Ready>> {
        if let Some(ready) = self.recent.get(id) {
            return Some(ready);
        }
        let ready = self.all.get(id)?.upgrade()?;
        self.recent.put(*id, ready.clone(), ready.bytes());
        Some(ready)
    }

    /// Bytes of the bundles that are there. Forgets the others.
    fn bytes(&mut self) -> u64 {
        self.all.retain(|_, ready| ready.strong_count() > 0);
        let there = self.all.values().filter_map(Weak::upgrade);
        there.map(|ready| ready.bytes()).sum()
    }
}

/// The bundle that a call of the key holds at this moment, if one does.
pub(crate) fn lent(key: &KeyState, id: &BundleId) -> Option<Arc<Loaded>> {
    lock(&key.charges).lent.get(id)?.upgrade()
}

fn lend(key: &KeyState, ready: Arc<Ready>, charge: Arc<Charge>) -> Arc<Loaded> {
    let id = ready.bundle.id();
    let loaded = Arc::new(Loaded {
        ready,
        _charge: charge,
    });
    let lent = Arc::downgrade(&loaded);
    lock(&key.charges).lent.insert(id, lent);
    loaded
}
