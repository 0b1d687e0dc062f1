//! Checkpoints of resumable callables: where the executor of a guest asks whether to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a run that may stop shares with those who want it to. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoints(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    reached: AtomicU64,
    resting: AtomicBool,
}

impl Checkpoints {
    /// The guest is at a checkpoint. Says whether it is to stop there.
    pub(crate) fn reach(&self) -> bool {
        // Whoever counts looks now and then, and only whether it is another number.
        self.0.reached.fetch_add(1, Ordering::Relaxed);
        self.0.stop.load(Ordering::Relaxed)
    }

    /// The run stands where an image can be taken as well as at a checkpoint: it waits, or has an item.
    pub(crate) fn pass(&self) {
        self.0.reached.fetch_add(1, Ordering::Relaxed);
    }

    /// Has the run stop at its next checkpoint, or no longer.
    pub(crate) fn want_stop(&self, wanted: bool) {
        self.0.stop.store(wanted, Ordering::Relaxed);
    }

    /// Whether the run waits outside of the guest, which takes none of the guest's time.
    pub(crate) fn rest(&self, resting: bool) {
        self.0.resting.store(resting, Ordering::Relaxed);
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.0.resting.load(Ordering::Relaxed)
    }

    /// How many were reached or passed so far.
    pub(crate) fn reached(&self) -> u64 {
        self.0.reached.load(Ordering::Relaxed)
    }
}
