//! What is done once, in an instance of its own, so that others begin with the image which that
//! leaves: a guest's initialiser, and the decoding of large captures that are used again and again.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use spore_bundle::image::Bound;
use spore_bundle::{CodeId, Image};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use wasmtime::{ModuleExport, Store};

use crate::bundles::Loaded;
use crate::callers::KeyState;
use crate::code::{Code, chain};
use crate::events::{Events, Outcome};
use crate::guest::{Guest, MemoryTotals};
use crate::limits::RunLimits;
use crate::run::{self, Live};
use crate::session::Means;
use crate::snapshot::{self, Around};
use crate::wasi::{Clock, Outlet, Seed, World};
use crate::work::Limited;

/// Something to be done for an image of what it leaves.
pub(crate) struct Preparation {
    pub(crate) means: Means,
    pub(crate) key: Arc<KeyState>,
    /// Of the code as it is.
    pub(crate) id: CodeId,
    pub(crate) code: Arc<Code>,
    pub(crate) task: Task,
    pub(crate) limits: RunLimits,
}

/// What is to be done.
pub(crate) enum Task {
    /// The initialiser of this name.
    Initialise(ModuleExport),
    /// Binding the captures of a bundle, in an instance that begins with what its initialiser has
    /// left, if it has one.
    Bind {
        loaded: Arc<Loaded>,
        callable: u32,
        initial: Option<Image>,
    },
}

impl Preparation {
    /// Does it in a fresh instance, which sees no directory and whose output goes nowhere: what it
    /// leaves is the same for whoever uses the code.
    ///
    /// # Errors
    ///
    /// When it does not come to its end; and for captures, when the guest looks at anything outside
    /// of itself, which each call is to see anew.
    pub(crate) async fn run(self) -> Result<Image, Refused> {
        let events = Events::new();
        let world = World {
            outlet: Outlet::new(events.clone(), 0),
            seed: Seed::of_initialiser(self.id),
            directories: Arc::new([]),
            open_files: 0,
            clock: Clock::default(),
        };
        let totals = MemoryTotals {
            of_key: self.key.memory.clone(),
            of_host: self.means.memory.clone(),
        };
        let guest = Guest::new(&self.limits, events.clone(), world, totals);
        let mut store = Store::new(&self.means.engine, guest);
        run::hold(&mut store);
        let mut image = None;
        let mut running = Box::pin(async {
            let left = self.leave(&mut store).await;
            let left = left.map(|taken| match taken {
                Ok(taken) => {
                    image = Some(taken);
                    Outcome::Value(Bytes::new())
                }
                Err(refused) => Outcome::Refused(refused),
            });
            run::ended_as(store.data(), left)
        });
        let limited = Limited {
            work: running.as_mut(),
            events: &events,
            began: Instant::now(),
            wall: self.limits.wall,
            timer: None,
        };
        let outcome = limited.await;
        drop(running);
        match (outcome, image) {
            (Outcome::Value(_), Some(image)) => Ok(image),
            (Outcome::Refused(refused), _) => Err(refused),
            (Outcome::Failed(failure), _) => Err(Refused::new(
                RefusalCode::InitFailed,
                format!("the guest {failure}"),
            )),
            _ => Err(Refused::new(
                RefusalCode::Internal,
                "a preparation without an image",
            )),
        }
    }

    async fn leave(&self, store: &mut Store<Guest>) -> wasmtime::Result<Result<Image, Refused>> {
        let mut live = Live::enter(store, &self.code).await?;
        let (instance, memory) = (live.instance, live.memory);
        snapshot::note_fresh(live.store, instance, memory, &self.code);
        let bound = match &self.task {
            Task::Initialise(hook) => {
                live.initialize().await?;
                live.run_init(hook, self.id).await?;
                None
            }
            Task::Bind {
                loaded,
                callable,
                initial,
            } => {
                match initial {
                    Some(image) => live.restore(image).await?,
                    None => live.initialize().await?,
                }
                let ready = loaded.ready();
                let captures = ready.bundle.captures();
                let captures = captures.map_or_else(Bytes::new, |(_, captures)| captures.clone());
                let entry = &ready.entries[*callable as usize];
                let handle = live.bind(entry, &captures).await?;
                if live.store.data().has_looked_outside() {
                    let what = "decoding the captures looks outside of the guest";
                    return Ok(Err(Refused::new(RefusalCode::Unsupported, what)));
                }
                Some(Bound {
                    callable: *callable,
                    handle,
                })
            }
        };
        let around = Around {
            bound: bound.into_iter().collect(),
            run: None,
            directories: Vec::new(),
        };
        let taken = snapshot::take(live.store, instance, memory, &self.code, around, None).await;
        Ok(taken.map_err(|error| Refused::new(RefusalCode::NoImage, chain(&error))))
    }
}
