//! The host itself: workers, compiled code, limits, and calls.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_transport::RefusalCode;
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::status::{Amount, FinishedCalls, NamedLimit, StatusReport};
use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::background::Background;
use crate::bundles::{Bundles, Loaded};
use crate::callers::{Caller, Callers};
use crate::compiler::Compiler;
use crate::engine;
use crate::events::{Events, Finished, Outcome, Running};
use crate::grants::Grants;
use crate::guest::{Guest, MemoryTotals};
use crate::job::{self, Jobs};
use crate::keep::Keep;
use crate::limits::{Limits, millis};
use crate::room::Total;
use crate::scheduler::{self, Scheduler};
use crate::session::{self, Means, Sessions};
use crate::wasi::{Clock, Outlet, Seed, World};
use crate::work::{Counters, Ticket, Work};

mod jobs;
mod loading;
mod moving;
mod reviving;
mod sessions;

pub use moving::Left;
pub(crate) use moving::job_saved;

/// How a host is set up. The default offers nothing and has the default limits.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What it allows.
    pub limits: Limits,
    /// What guests may be given.
    pub grants: Grants,
    /// Threads that run guests. By default as many as there are cores.
    pub workers: Option<usize>,
    /// How often a host that keeps its jobs makes those durable whose owners do not say. By default
    /// never while they run.
    pub job_persist: Option<Duration>,
}

/// Why a host could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// wasmtime does not take the configuration or finds no address space.
    #[error("the engine cannot be set up: {0:#}")]
    Engine(wasmtime::Error),
    /// The system gives no thread.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// One call, beside its bundle.
#[derive(Clone, Debug)]
pub struct Request {
    /// Index of the callable in the manifest.
    pub callable: u32,
    /// The encoded arguments.
    pub arguments: Bytes,
    /// What the caller allows at most.
    pub limits: CallLimits,
    /// Where the guest's random bytes begin.
    pub seed: u64,
    /// Whether the caller takes the items of a callable that emits them.
    pub items: bool,
    /// What went before: transfer and compilation.
    pub timing: Timing,
}

/// Runs bundles. Cheap to clone; the last clone to go, and the last call, stops the workers.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    // Declared first so that guests are gone before the engine's pool is.
    scheduler: Scheduler,
    engine: Engine,
    compiler: Compiler,
    limits: Limits,
    grants: Grants,
    callers: Callers,
    memory: Arc<Total>,
    loaded: Mutex<Bundles>,
    instances: Arc<Semaphore>,
    sessions: Sessions,
    jobs: Jobs,
    /// Where sessions and jobs are kept, if anywhere.
    keep: OnceLock<Keep>,
    /// Held by who takes up what is kept.
    reviving: tokio::sync::Mutex<()>,
    /// What is kept could not be listed, and may be another time.
    unlisted: AtomicBool,
    /// How often jobs are made durable whose owners do not say.
    job_persist: Option<Duration>,
    counters: Arc<Counters>,
    workers: usize,
    began: Instant,
    stopping: AtomicBool,
    background: Background,
}

impl Inner {
    /// What it takes to make an instance.
    fn means(&self) -> Means {
        Means {
            engine: self.engine.clone(),
            instances: self.instances.clone(),
            memory: self.memory.clone(),
            background: self.background.runtime.clone(),
        }
    }
}

impl Host {
    /// Starts workers and everything beside them.
    ///
    /// # Errors
    ///
    /// When wasmtime or the system refuse.
    pub fn start(mut setup: Setup) -> Result<Host, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = setup.workers.unwrap_or(cores).max(1);
        let built = engine::build(&setup.limits).map_err(StartError::Engine)?;
        if built.instances < setup.limits.instances {
            tracing::warn!(
                instances = built.instances,
                "fewer instances: addresses are short here"
            );
            setup.limits.instances = built.instances;
            // One key must not have all of the few.
            let half = built.instances.div_ceil(2);
            setup.limits.instances_per_key = setup.limits.instances_per_key.min(half);
        }
        tracing::debug!(workers, reservation = built.reservation, "engine ready");
        let engine = built.engine;
        let background = Background::start(&engine).map_err(StartError::Thread)?;
        // WASI's timers and files need a runtime, whose thread runs no guest.
        let waits = background.guests.clone();
        let scheduler = Scheduler::start(workers, move |work| {
            let _entered = waits.enter();
            work();
        })
        .map_err(StartError::Thread)?;
        background
            .tick(scheduler.active())
            .map_err(StartError::Thread)?;
        let memory = Total::new(setup.limits.memory_total);
        let idle = Guest::new(
            &setup.limits.for_call(&CallLimits::default()),
            Events::new(),
            World {
                outlet: Outlet::new(Events::new(), 0),
                seed: Seed {
                    bundle: [0; 32],
                    callable: 0,
                    seed: 0,
                    arguments: Bytes::new(),
                },
                directories: Arc::new([]),
                open_files: 0,
                clock: Clock::default(),
            },
            MemoryTotals {
                of_key: memory.clone(),
                of_host: memory.clone(),
            },
        );
        let bundles = Total::new(setup.limits.bundles_in_use());
        let compiler = Compiler::new(
            &engine,
            &setup.limits,
            workers,
            cores,
            background.runtime.clone(),
            bundles.clone(),
            idle,
        )
        .map_err(StartError::Engine)?;
        let loaded = Bundles::new(setup.limits.blob_cache, bundles, compiler.evictions());
        let inner = Arc::new(Inner {
            scheduler,
            engine,
            compiler,
            callers: Callers::new(workers),
            memory,
            loaded: Mutex::new(loaded),
            instances: Arc::new(Semaphore::new(setup.limits.instances as usize)),
            sessions: Sessions::default(),
            jobs: Jobs::default(),
            keep: OnceLock::new(),
            reviving: tokio::sync::Mutex::default(),
            unlisted: AtomicBool::default(),
            job_persist: setup.job_persist,
            counters: Arc::default(),
            workers,
            began: Instant::now(),
            stopping: AtomicBool::new(false),
            background,
            limits: setup.limits,
            grants: setup.grants,
        });
        let looking = look_round(Arc::downgrade(&inner));
        inner.background.runtime.spawn(looking);
        Ok(Host { inner })
    }

    /// The limits of the host.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The caller that a program is which embeds this host: every limit and grant of the host's.
    pub fn embedding_caller(&self) -> Caller {
        self.inner.callers.embedded(&self.inner.limits)
    }

    /// The callers of this host, one for each key.
    pub(crate) fn callers(&self) -> &Callers {
        &self.inner.callers
    }

    /// The runtime of the host's own work: uploads, the store and compilation.
    pub(crate) fn background(&self) -> &tokio::runtime::Handle {
        &self.inner.background.runtime
    }

    /// Runs a callable in a fresh instance. What is wrong with the request comes as its outcome.
    pub fn call(&self, caller: &Caller, loaded: Arc<Loaded>, request: Request) -> Running {
        let events = Events::new();
        match self.admit(caller, &loaded, request, &events) {
            Ok(()) => Running::new(events, self.clone()),
            Err(why) => self.refused(why),
        }
    }

    fn admit(
        &self,
        caller: &Caller,
        loaded: &Arc<Loaded>,
        request: Request,
        events: &Arc<Events>,
    ) -> Result<(), Refused> {
        let inner = &self.inner;
        self.check_open()?;
        let bundle = loaded.bundle();
        let manifest = bundle.manifest();
        let index = request.callable;
        let Some(callable) = manifest.callables.get(index as usize) else {
            return Err(Refused::new(
                RefusalCode::UnknownCallable,
                format!("index {index}"),
            ));
        };
        if callable.streams && !request.items {
            return Err(Refused::new(RefusalCode::EmitsItems, callable.name.clone()));
        }
        if bundle.image().and_then(job::run_in).is_some() {
            let what = "the bundle holds a run, which goes on as a job";
            return Err(Refused::new(RefusalCode::Unsupported, what));
        }
        let captured = bundle.captures().map(|(index, _)| index) == Some(index);
        if captured && loaded.ready().is_worth_preparing() {
            self.prepare_captures(caller, loaded);
        }
        let bound = captured || loaded.ready().bound(index).is_some();
        if !callable.signature.captures.is_empty() && !bound {
            let what = format!("{} has captures, and none are bound to it", callable.name);
            return Err(Refused::new(RefusalCode::WrongCaptures, what));
        }
        self.check_arguments(&request.arguments)?;
        let image = bundle.image();
        let grants = &inner.grants;
        let directories = grants.of_call(manifest, callable, &caller.allowed, image)?;
        let ticket = Ticket::queue(&inner.counters, inner.limits.queue, caller)?;

        let limits = caller.limits.for_call(&request.limits);
        let world = World {
            outlet: Outlet::new(events.clone(), limits.output),
            seed: Seed {
                bundle: *bundle.id().as_bytes(),
                callable: index,
                seed: request.seed,
                arguments: request.arguments.clone(),
            },
            directories,
            open_files: inner.limits.open_files,
            clock: bundle
                .image()
                .map_or_else(Clock::default, |image| Clock::at(image.index().clock_ns)),
        };
        let totals = MemoryTotals {
            of_key: caller.state.memory.clone(),
            of_host: inner.memory.clone(),
        };
        let guest = Guest::new(&limits, events.clone(), world, totals);
        let work = Work {
            engine: inner.engine.clone(),
            instances: inner.instances.clone(),
            key: caller.state.clone(),
            loaded: loaded.clone(),
            request,
            limits,
            events: events.clone(),
            ticket,
        };
        inner.scheduler.spawn(caller.turn, work.run(guest));
        Ok(())
    }

    /// A call that is refused at once.
    fn refused(&self, why: Refused) -> Running {
        self.inner.counters.refused.fetch_add(1, Ordering::Relaxed);
        let events = Events::new();
        events.finish(Finished {
            outcome: Outcome::Refused(why),
            timing: Timing::default(),
            output_cut: false,
        });
        Running::new(events, self.clone())
    }

    /// Does what takes a worker's time there.
    async fn on_worker<T: Send + 'static>(
        &self,
        turn: scheduler::Turn,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refused> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.inner.scheduler.spawn(turn, async move {
            // Nobody may be left to hear of it.
            let _ = done.send(work.await);
        });
        result
            .await
            .map_err(|_| Refused::new(RefusalCode::Internal, "the work was dropped"))
    }

    /// Does what must not end half-way because whoever asked for it has gone.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refused>> + Send + 'static,
    ) -> Result<T, Refused> {
        let done = self.background().spawn(work).await;
        done.unwrap_or_else(|_| Err(Refused::new(RefusalCode::Internal, "it was given up")))
    }

    fn check_open(&self) -> Result<(), Refused> {
        if self.inner.stopping.load(Ordering::Relaxed) {
            return Err(Refused::new(RefusalCode::ShuttingDown, ""));
        }
        Ok(())
    }

    fn check_arguments(&self, arguments: &Bytes) -> Result<(), Refused> {
        let (limit, bytes) = (self.inner.limits.arguments, arguments.len() as u64);
        if bytes > limit {
            return Err(Refused::new(RefusalCode::ArgumentsTooLarge, "").past(limit, bytes));
        }
        Ok(())
    }

    /// Refuses new calls from now on. Those under way go on.
    pub fn refuse_new_calls(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn refuses_new_calls(&self) -> bool {
        self.inner.stopping.load(Ordering::Relaxed)
    }

    /// Calls that are queued or running.
    pub fn calls_under_way(&self) -> u64 {
        let counters = &self.inner.counters;
        u64::from(counters.queued.load(Ordering::Relaxed))
            + counters.running.load(Ordering::Relaxed)
    }

    /// What the host says of itself to a caller. It knows of no store; a server adds that.
    pub fn status(&self, caller: &Caller) -> StatusReport {
        let inner = &self.inner;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &inner.counters;
        let (modules, bytes) = inner.compiler.cached();
        let limit = |(name, value): (&str, u64)| NamedLimit {
            name: name.to_owned(),
            value,
        };
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
            protocol: spore_transport::ALPN_TEXT.to_owned(),
            workers: u32::try_from(inner.workers).unwrap_or(u32::MAX),
            limits: caller.limits.named().into_iter().map(limit).collect(),
            cached_code: Amount {
                count: modules,
                bytes,
            },
            stored_blobs: Amount::default(),
            running: caller.state.running(),
            running_count: count(&counters.running),
            queued: u64::from(counters.queued.load(Ordering::Relaxed)),
            finished: FinishedCalls {
                ok: count(&counters.ok),
                guest_errors: count(&counters.guest_errors),
                failed: count(&counters.failed),
                refused: count(&counters.refused),
                cancelled: count(&counters.cancelled),
            },
            uptime_ms: millis(inner.began.elapsed()),
        }
    }
}

/// Has sessions rest and end when it is time, until the host is gone.
async fn look_round(host: Weak<Inner>) {
    loop {
        tokio::time::sleep(session::LOOK_INTERVAL).await;
        let Some(inner) = host.upgrade() else { return };
        for session in inner.sessions.every() {
            // Whoever waits for a place gets that of a session which does nothing.
            let others_wait =
                inner.instances.available_permits() == 0 || session.key.instances.are_taken();
            if session.is_over() {
                sessions::close_unused(&inner, &session);
            } else if session.is_to_rest(others_wait) {
                let resting = session::rest(session.turn());
                inner.scheduler.spawn(session.key.turn(), resting);
            }
        }
        jobs::look(&inner);
    }
}
