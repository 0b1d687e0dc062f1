//! Bundles in memory: those used lately, and those that calls still hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use spore_bundle::{Bundle, BundleId};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;

use crate::callers::KeyState;
use crate::code::{self, Ready};
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
    /// A bundle with the code as it is, which only sessions and jobs of this key find.
    pub(crate) fn plain(key: &KeyState, ready: Ready, charge: Arc<Charge>) -> Arc<Loaded> {
        let id = ready.bundle.id();
        let loaded = Arc::new(Loaded {
            ready: Arc::new(ready),
            _charge: charge,
        });
        lock(&key.charges).plain.insert(id, Arc::downgrade(&loaded));
        loaded
    }

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

/// What a key is charged for, by bundle, and what its calls hold.
#[derive(Default)]
pub(crate) struct Charges {
    held: HashMap<BundleId, Weak<Charge>>,
    /// What was lent to the key. A call that finds its bundle here takes no lock that is shared with
    /// the calls of other keys.
    lent: HashMap<BundleId, Weak<Loaded>>,
    /// The same with the code as it is, for sessions and jobs: those of one bundle have one copy of it.
    plain: HashMap<BundleId, Weak<Loaded>>,
    /// How many there may be before those that are over are forgotten.
    forget_at: usize,
}

/// What is known of before any of it that is over is forgotten.
const FORGET_AT_MIN: usize = 64;

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
            charges.plain.retain(|_, loaded| loaded.strong_count() > 0);
            charges.forget_at = FORGET_AT_MIN.max(2 * charges.held.len());
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
    /// Kept while nobody uses them, and only while their code is: otherwise they would keep it past
    /// the bound of compiled code.
    recent: Weighted<BundleId, Arc<Ready>>,
    all: HashMap<BundleId, Weak<Ready>>,
    /// How many of these there may be before those that are over are forgotten.
    forget_at: usize,
    /// Bytes of the bundles that are there, and how many there may be.
    held: Arc<Total>,
    /// How often code has gone from its cache, and how often it had at the last look.
    evictions: Arc<AtomicU64>,
    seen: u64,
    gone: Vec<Arc<Ready>>,
}

impl Bundles {
    /// Keeps up to `recent_bytes` of bundles that nobody uses. All count in `held`.
    pub(crate) fn new(recent_bytes: u64, held: Arc<Total>, evictions: Arc<AtomicU64>) -> Bundles {
        Bundles {
            recent: Weighted::new(recent_bytes),
            all: HashMap::new(),
            forget_at: FORGET_AT_MIN,
            held,
            evictions,
            seen: 0,
            gone: Vec::new(),
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
        let charge = Charge::take(key, *id, code::bytes(&ready.bundle))?;
        Ok(Some(lend(key, ready, charge)))
    }

    /// Lets what nobody uses go, if a bundle of so many bytes has no room beside it.
    pub(crate) fn make_room(&mut self, bytes: u64) {
        if self.held.taken().saturating_add(bytes) > self.held.limit() {
            let all = self.recent.take_if(|_| true);
            self.let_go(all);
        }
    }

    /// Lets bundles go that nobody uses and whose captures were decoded once, for the room of others.
    pub(crate) fn let_prepared_go(&mut self) {
        let unused = |ready: &Arc<Ready>| ready.is_prepared() && Arc::strong_count(ready) == 1;
        let prepared = self.recent.take_if(unused);
        self.let_go(prepared);
    }

    /// Whether there is room for a bundle of so many bytes, once what had to go is freed.
    ///
    /// # Errors
    ///
    /// Refuses when calls hold too many. One alone always has room.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), Refused> {
        let (held, limit) = (self.held.taken(), self.held.limit());
        let all = held.saturating_add(bytes);
        if held > 0 && all > limit {
            let refused = Refused::new(RefusalCode::QueueFull, "bytes of bundles in use");
            return Err(refused.past(limit, all));
        }
        Ok(())
    }

    /// Keeps a bundle, and gives it to the key that is charged for it.
    pub(crate) fn put(&mut self, key: &KeyState, ready: Ready, charge: Arc<Charge>) -> Arc<Loaded> {
        let id = ready.bundle.id();
        let ready = match self.ready(&id) {
            // Another request was faster.
            Some(first) => {
                self.gone.push(Arc::new(ready));
                first
            }
            None => {
                let ready = Arc::new(ready);
                if self.all.len() >= self.forget_at {
                    self.all.retain(|_, ready| ready.strong_count() > 0);
                    self.forget_at = FORGET_AT_MIN.max(2 * self.all.len());
                }
                self.all.insert(id, Arc::downgrade(&ready));
                self.keep(&ready);
                ready
            }
        };
        lend(key, ready, charge)
    }

    /// What is not kept any more since this was asked last. To drop it takes as long as it is large:
    /// that is to be done without the lock, and not on the thread of I/O.
    pub(crate) fn take_gone(&mut self) -> Vec<Arc<Ready>> {
        let evictions = self.evictions.load(Ordering::Acquire);
        if evictions != self.seen {
            self.seen = evictions;
            let without_code = self.recent.take_if(|ready| !ready.code.is_kept());
            self.let_go(without_code);
        }
        std::mem::take(&mut self.gone)
    }

    fn ready(&mut self, id: &BundleId) -> Option<Arc<Ready>> {
        if let Some(ready) = self.recent.get(id) {
            return Some(ready);
        }
        let ready = self.all.get(id)?.upgrade()?;
        self.keep(&ready);
        Some(ready)
    }

    fn keep(&mut self, ready: &Arc<Ready>) {
        if !ready.code.is_kept() {
            return;
        }
        let id = ready.bundle.id();
        let mut gone = self.recent.put(id, ready.clone(), ready.bytes());
        // It is among them when it is too large to be kept.
        gone.retain(|gone| !Arc::ptr_eq(gone, ready));
        self.let_go(gone);
    }

    fn let_go(&mut self, gone: Vec<Arc<Ready>>) {
        for ready in gone {
            // Nobody else has it, and nobody is to find it while it is freed.
            if Arc::strong_count(&ready) == 1 {
                self.all.remove(&ready.bundle.id());
            }
            self.gone.push(ready);
        }
    }
}

/// The bundle that a call of the key holds at this moment, if one does.
pub(crate) fn lent(key: &KeyState, id: &BundleId) -> Option<Arc<Loaded>> {
    lock(&key.charges).lent.get(id)?.upgrade()
}

/// The bundle with the code as it is, if a session or a job of the key has it.
pub(crate) fn plain(key: &KeyState, id: &BundleId) -> Option<Arc<Loaded>> {
    lock(&key.charges).plain.get(id)?.upgrade()
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
