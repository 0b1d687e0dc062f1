//! Bundles in memory: those used lately, and those that calls still hold.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use spore_bundle::BundleId;
use spore_transport::RefusalCode;
use spore_transport::message::Refused;

use crate::code::Loaded;
use crate::weighted::Weighted;

/// Loaded bundles. One that calls hold is found again after it has left the cache: otherwise calls
/// that wait in the queue could each hold a copy of their own.
pub(crate) struct Bundles {
    recent: Weighted<BundleId, Arc<Loaded>>,
    all: HashMap<BundleId, (Weak<Loaded>, u64)>,
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

    pub(crate) fn get(&mut self, id: &BundleId) -> Option<Arc<Loaded>> {
        let recent = self.recent.get(id);
        recent.or_else(|| self.all.get(id)?.0.upgrade())
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

    pub(crate) fn put(&mut self, id: BundleId, loaded: &Arc<Loaded>, bytes: u64) {
        self.all.insert(id, (Arc::downgrade(loaded), bytes));
        self.recent.put(id, loaded.clone(), bytes);
    }

    /// Bytes of the bundles that are there. Forgets the others.
    fn bytes(&mut self) -> u64 {
        self.all.retain(|_, (loaded, _)| loaded.strong_count() > 0);
        self.all.values().map(|(_, bytes)| bytes).sum()
    }
}
