//! An instance that is there before its job goes on in it. It is made before a job comes: what takes
//! longest when one goes on from an image is then done while it still runs elsewhere. A job that leaves
//! keeps its own, in case it stays, until it is gone or as late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spore_bundle::image::Image;
use spore_transport::message::CallLimits;
use wasmtime::{Instance, Memory, Store};

use crate::bundles::Loaded;
use crate::callers::Caller;
use crate::code::Code;
use crate::events::Events;
use crate::guest::{Guest, MemoryTotals};
use crate::run::{self, Live};
use crate::session::Means;
use crate::snapshot;
use crate::wasi::{Clock, Outlet, Seed, World};
use crate::work::{Slots, slots};

/// Time for which an instance is kept for a job that does not come, with its place and its memory.
pub(crate) const WARM_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for which one waits for a place.
const PLACE_WAIT: Duration = Duration::from_millis(100);

/// An instance with the memory of an image.
pub(crate) struct Warm {
    store: Store<Guest>,
    made: Made,
    slots: Slots,
    code: Arc<Code>,
    since: Instant,
}

/// What was made.
pub(super) struct Made {
    pub(super) instance: Instance,
    pub(super) memory: Memory,
    /// What its memory is that of.
    pub(super) image: Image,
}

impl Warm {
    /// Makes one for a job of the caller's that comes ahead as this image, which fits the code. Nothing
    /// when there is no place or no memory for it now.
    pub(crate) async fn make(
        caller: &Caller,
        loaded: &Loaded,
        image: &Image,
        means: Means,
    ) -> Option<Warm> {
        let slots = slots(&caller.state, &means.instances);
        let slots = tokio::time::timeout(PLACE_WAIT, slots).await.ok()?;
        let limits = caller.limits.for_call(&CallLimits::default());
        let code = loaded.ready().code.clone();
        let nowhere = Events::new();
        // What it sees comes with the job.
        let world = World {
            outlet: Outlet::new(nowhere.clone(), 0),
            seed: Seed::of_initialiser(code.id),
            directories: Arc::new([]),
            open_files: 0,
            clock: Clock::default(),
        };
        let totals = MemoryTotals {
            of_key: caller.state.memory.clone(),
            of_host: means.memory.clone(),
        };
        let guest = Guest::new(&limits, nowhere, world, totals);
        let mut store = Store::new(&means.engine, guest);
        run::hold(&mut store);
        let made = async {
            let live = Live::enter(&mut store, &code).await?;
            let (instance, memory) = (live.instance, live.memory);
            snapshot::note_fresh(live.store, instance, memory, &code);
            snapshot::restore_memory(live.store, memory, &code, image, None).await?;
            Ok::<_, wasmtime::Error>((instance, memory))
        };
        let (instance, memory) = made.await.ok()?;
        Some(Warm {
            store,
            made: Made {
                instance,
                memory,
                image: image.clone(),
            },
            slots,
            code,
            since: Instant::now(),
        })
    }

    /// The instance of a job that has come to stand still.
    pub(super) fn stopped(store: Store<Guest>, made: Made, slots: Slots, code: Arc<Code>) -> Warm {
        Warm {
            store,
            made,
            slots,
            code,
            since: Instant::now(),
        }
    }

    /// Whether its job is late.
    pub(crate) fn is_late(&self) -> bool {
        self.since.elapsed() >= WARM_TIME_MAX
    }

    /// Whether a job can go on in it from this image.
    pub(super) fn serves(&self, code: &Arc<Code>, image: &Image) -> bool {
        Arc::ptr_eq(&self.code, code)
            && self.made.image.index().memory_pages <= image.index().memory_pages
    }

    /// Gives the instance to a guest, if it may have as much memory.
    pub(super) fn belongs_to(&mut self, mut guest: Guest) -> bool {
        let fits = guest.memory.take_over(&mut self.store.data_mut().memory);
        if fits {
            *self.store.data_mut() = guest;
        }
        fits
    }

    pub(super) fn taken(self) -> (Store<Guest>, Option<Made>, Slots) {
        (self.store, Some(self.made), self.slots)
    }
}
