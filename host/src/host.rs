//! The host itself: workers, compiled code, limits, and calls.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::{Bundle, BundleId};
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::status::{Amount, FinishedCalls, NamedLimit, StatusReport};
use spore_transport::{BlobId, RefusalCode};
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store};

use crate::bundles::{Bundles, Charge, Loaded};
use crate::callers::{Caller, Callers, KeyState};
use crate::code::{self, Compiler};
use crate::engine;
use crate::events::{Events, Finished, Outcome, Running};
use crate::grants::Grants;
use crate::guest::{Guest, MemoryTotals};
use crate::limits::{Limits, RunLimits, millis, nanos};
use crate::room::Total;
use crate::run::{self, Run, refused};
use crate::scheduler::{Active, Scheduler, lock};
use crate::wasi::{Seed, World};

/// Time between ticks of the epoch clock while guests run: how long one may hold a worker while
/// others wait.
const TICK: Duration = Duration::from_millis(1);

/// How a host is set up. The default offers nothing and has the default limits.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What it allows.
    pub limits: Limits,
    /// What guests may be given.
    pub grants: Grants,
    /// Threads that run guests. By default as many as there are cores.
    pub workers: Option<usize>,
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
    counters: Arc<Counters>,
    workers: usize,
    began: Instant,
    stopping: AtomicBool,
    background: Background,
}

/// Calls of all keys, by how they ended, and those that have not.
#[derive(Default)]
pub(crate) struct Counters {
    queued: AtomicU32,
    running: AtomicU64,
    ok: AtomicU64,
    guest_errors: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    cancelled: AtomicU64,
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
        let handle = background.runtime.clone();
        let scheduler = Scheduler::start(workers, {
            // WASI's timers and files need a runtime; they get the background's, whose thread
            // runs no guest.
            let handle = handle.clone();
            move || {
                let handle: &'static tokio::runtime::Handle = Box::leak(Box::new(handle.clone()));
                handle.enter()
            }
        })
        .map_err(StartError::Thread)?;
        background
            .tick(scheduler.active())
            .map_err(StartError::Thread)?;
        let memory = Total::new(setup.limits.memory_total);
        let idle = Guest::new(
            &setup.limits.for_call(&CallLimits::default()),
            World {
                events: Events::new(),
                seed: Seed {
                    bundle: [0; 32],
                    callable: 0,
                    seed: 0,
                    arguments: Bytes::new(),
                },
                directories: Arc::new([]),
                open_files: 0,
            },
            MemoryTotals {
                of_key: memory.clone(),
                of_host: memory.clone(),
            },
        );
        let compiler = Compiler::new(&engine, &setup.limits, workers, cores, handle, idle)
            .map_err(StartError::Engine)?;
        Ok(Host {
            inner: Arc::new(Inner {
                scheduler,
                engine,
                compiler,
                callers: Callers::new(workers),
                memory,
                loaded: Mutex::new(Bundles::new(
                    setup.limits.blob_cache,
                    setup.limits.bundles_in_use(),
                )),
                instances: Arc::new(Semaphore::new(setup.limits.instances as usize)),
                counters: Arc::default(),
                workers,
                began: Instant::now(),
                stopping: AtomicBool::new(false),
                background,
                limits: setup.limits,
                grants: setup.grants,
            }),
        })
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

    /// The runtime of the background thread: timers, files and compilation.
    pub(crate) fn background(&self) -> &tokio::runtime::Handle {
        &self.inner.background.runtime
    }

    /// The bundle as it was loaded before, if it is kept. Says nothing of who may use it.
    ///
    /// # Errors
    ///
    /// Refuses when the caller holds too many others.
    pub fn loaded(&self, caller: &Caller, id: BundleId) -> Result<Option<Arc<Loaded>>, Refused> {
        lock(&self.inner.loaded).get(&caller.state, &id)
    }

    /// Compiles the bundle's code, unless it is kept, and keeps the result. Also says how long the
    /// compilation took, or how long another call's was waited for.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Refuses a bundle past the limits of the host, and code that cannot run here.
    pub async fn load(
        &self,
        caller: &Caller,
        bundle: &Bundle,
    ) -> Result<(Arc<Loaded>, Duration), Refused> {
        let inner = &self.inner;
        if let Some(loaded) = self.loaded(caller, bundle.id())? {
            return Ok((loaded, Duration::ZERO));
        }
        code::check_kinds(bundle.manifest())?;
        let code = bundle.code().len() as u64;
        if code > inner.limits.code {
            return Err(Refused::new(RefusalCode::CodeTooLarge, "").past(inner.limits.code, code));
        }
        let state = bundle.state().map_or(0, |state| state.len() as u64);
        if state > inner.limits.state {
            let refused = Refused::new(RefusalCode::StateTooLarge, "");
            return Err(refused.past(inner.limits.state, state));
        }
        let bytes = code::bytes(bundle);
        let key = &caller.state;
        let charge = Charge::take(key, bundle.id(), bytes)?;
        lock(&inner.loaded).make_room(bytes)?;
        let (ready, took) = inner.compiler.load(key, bundle.clone()).await?;
        let loaded = lock(&inner.loaded).put(ready, charge);
        Ok((loaded, took))
    }

    /// Runs a callable in a fresh instance. What is wrong with the request comes as its outcome.
    pub fn call(&self, caller: &Caller, loaded: Arc<Loaded>, request: Request) -> Running {
        let events = Events::new();
        if let Err(why) = self.admit(caller, &loaded, request, &events) {
            self.inner.counters.refused.fetch_add(1, Ordering::Relaxed);
            events.finish(Finished {
                outcome: Outcome::Refused(why),
                timing: Timing::default(),
                output_cut: false,
            });
        }
        Running {
            events,
            _host: self.clone(),
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
        if inner.stopping.load(Ordering::Relaxed) {
            return Err(Refused::new(RefusalCode::ShuttingDown, ""));
        }
        let bundle = loaded.bundle();
        let manifest = bundle.manifest();
        let index = request.callable;
        let Some(callable) = manifest.callables.get(index as usize) else {
            return Err(Refused::new(
                RefusalCode::UnknownCallable,
                format!("index {index}"),
            ));
        };
        let bound = bundle.captures().map(|(index, _)| index);
        if !callable.signature.captures.is_empty() && bound != Some(index) {
            let what = format!("{} has captures, and none are bound to it", callable.name);
            return Err(Refused::new(RefusalCode::WrongCaptures, what));
        }
        let arguments = request.arguments.len() as u64;
        if arguments > inner.limits.arguments {
            let refused = Refused::new(RefusalCode::ArgumentsTooLarge, "");
            return Err(refused.past(inner.limits.arguments, arguments));
        }
        let directories = inner.grants.resolve(callable, &caller.allowed)?;
        let ticket = Ticket::queue(inner, caller)?;

        let limits = caller.limits.for_call(&request.limits);
        let world = World {
            events: events.clone(),
            seed: Seed {
                bundle: *bundle.id().as_bytes(),
                callable: index,
                seed: request.seed,
                arguments: request.arguments.clone(),
            },
            directories,
            open_files: inner.limits.open_files,
        };
        let totals = MemoryTotals {
            of_key: caller.state.memory.clone(),
            of_host: inner.memory.clone(),
        };
        let guest = Guest::new(&limits, world, totals);
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

/// A place in the queue, given back when dropped.
struct Ticket {
    counters: Arc<Counters>,
    key: Arc<KeyState>,
    running: bool,
}

impl Ticket {
    fn queue(inner: &Inner, caller: &Caller) -> Result<Ticket, Refused> {
        let full = |limit: u32, whose: &str| {
            let refused = Refused::new(RefusalCode::QueueFull, whose);
            Err(refused.past(u64::from(limit), None))
        };
        let own = caller.limits.queue_per_key;
        if caller.state.calls.fetch_add(1, Ordering::Relaxed) >= own {
            caller.state.calls.fetch_sub(1, Ordering::Relaxed);
            return full(own, "calls of the key");
        }
        let ticket = Ticket {
            counters: inner.counters.clone(),
            key: caller.state.clone(),
            running: false,
        };
        if inner.counters.queued.fetch_add(1, Ordering::Relaxed) >= inner.limits.queue {
            return full(inner.limits.queue, "calls of the host");
        }
        Ok(ticket)
    }

    fn begin(&mut self) {
        self.running = true;
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        self.counters.running.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.key.calls.fetch_sub(1, Ordering::Relaxed);
        if self.running {
            self.counters.running.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A call on its way through the workers.
struct Work {
    engine: Engine,
    instances: Arc<Semaphore>,
    key: Arc<KeyState>,
    loaded: Arc<Loaded>,
    request: Request,
    limits: RunLimits,
    events: Arc<Events>,
    ticket: Ticket,
}

impl Work {
    async fn run(self, guest: Guest) {
        let Work {
            engine,
            instances,
            key,
            loaded,
            request,
            limits,
            events,
            mut ticket,
        } = self;
        let end = EndsSomehow {
            events: events.clone(),
            counters: ticket.counters.clone(),
        };
        let queued = Instant::now();
        let mut timing = request.timing;
        let slots = async {
            let own = key.instances.take().await;
            let of_all = instances.acquire().await;
            (own, of_all.expect("the semaphore is never closed"))
        };
        let Ok(_slots) = (Interrupted {
            work: pin!(slots),
            events: &events,
        })
        .await
        else {
            timing.queue_ns = nanos(queued.elapsed());
            let outcome = refused(RefusalCode::Cancelled, "");
            end.count(&outcome);
            drop(ticket);
            end.finish(outcome, timing, false);
            return;
        };
        timing.queue_ns = nanos(queued.elapsed());
        ticket.begin();
        let bundle = loaded.bundle();
        let callable = &bundle.manifest().callables[request.callable as usize];
        let _listed = key.list(BlobId(*bundle.id().as_bytes()), &callable.name);

        let began = Instant::now();
        // The state is that of one callable; others take no captures.
        let captures = match bundle.captures() {
            Some((index, captures)) if index == request.callable => captures.clone(),
            _ => Bytes::new(),
        };
        let run = Run {
            code: &loaded.ready().code,
            entry: &loaded.ready().entries[request.callable as usize],
            captures: &captures,
            arguments: &request.arguments,
            limits,
        };
        let output = guest.output.clone();
        let mut store = Store::new(&engine, guest);
        let outcome = Limited {
            work: pin!(run::run(&mut store, &run)),
            events: &events,
            began,
            wall: limits.wall,
            timer: None,
        }
        .await;
        timing.run_ns = nanos(began.elapsed());
        // The caller has its result before the instance is taken apart, and may call again at once:
        // so what it must have room for counts as free already. That passes the bounds by the
        // instances that are taken apart just now, one for each worker.
        store.data_mut().memory.give_back();
        end.count(&outcome);
        drop((loaded, ticket));
        end.finish(outcome, timing, output.was_cut());
    }
}

/// Sees to it that a call ends with an event, also when its work is dropped.
struct EndsSomehow {
    events: Arc<Events>,
    counters: Arc<Counters>,
}

impl EndsSomehow {
    /// Counts the call as ended so. Comes before its place in the queue is free, so that whoever
    /// sees no call under way sees how all of them ended.
    fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Value(_) => &self.counters.ok,
            Outcome::Error(_) => &self.counters.guest_errors,
            Outcome::Failed(_) => &self.counters.failed,
            Outcome::Refused(why) if why.code == RefusalCode::Cancelled => &self.counters.cancelled,
            Outcome::Refused(_) => &self.counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&self, outcome: Outcome, timing: Timing, output_cut: bool) {
        self.events.finish(Finished {
            outcome,
            timing,
            output_cut,
        });
    }
}

impl Drop for EndsSomehow {
    fn drop(&mut self) {
        let code = if std::thread::panicking() {
            RefusalCode::Internal
        } else {
            RefusalCode::ShuttingDown
        };
        // Does nothing after `finish`: the first end stands.
        self.events.finish(Finished {
            outcome: refused(code, ""),
            timing: Timing::default(),
            output_cut: false,
        });
    }
}

/// Work until it is done or its call is cancelled.
struct Interrupted<'a, F> {
    work: Pin<&'a mut F>,
    events: &'a Events,
}

impl<F: Future> Future for Interrupted<'_, F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.events.is_cancelled() {
            return Poll::Ready(Err(()));
        }
        if let Poll::Ready(done) = self.work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        self.events.watch_cancel(cx.waker());
        // It may have been cancelled before it was watched.
        if self.events.is_cancelled() {
            Poll::Ready(Err(()))
        } else {
            Poll::Pending
        }
    }
}

/// A guest until it is done, its call is cancelled, or its time is up.
struct Limited<'a, F> {
    work: Pin<&'a mut F>,
    events: &'a Events,
    began: Instant,
    wall: Duration,
    /// Set up at the first wait: a call that ends within its first time slice needs none.
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<F: Future<Output = Outcome>> Future for Limited<'_, F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        if this.events.is_cancelled() {
            return Poll::Ready(refused(RefusalCode::Cancelled, ""));
        }
        if let Poll::Ready(outcome) = this.work.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        this.events.watch_cancel(cx.waker());
        if this.events.is_cancelled() {
            return Poll::Ready(refused(RefusalCode::Cancelled, ""));
        }
        let (began, wall) = (this.began, this.wall);
        let timer = this.timer.get_or_insert_with(|| {
            let left = wall.saturating_sub(began.elapsed());
            Box::pin(tokio::time::sleep(left))
        });
        if timer.as_mut().poll(cx).is_ready() || began.elapsed() >= wall {
            let refused = Refused::new(RefusalCode::WallTime, "milliseconds")
                .past(millis(wall), millis(began.elapsed()));
            return Poll::Ready(Outcome::Refused(refused));
        }
        Poll::Pending
    }
}

/// The thread beside the workers: timers, files, compilation, and the epoch clock.
struct Background {
    runtime: tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    engine: Engine,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    fn start(engine: &Engine) -> std::io::Result<Background> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .thread_name("spore-background")
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("spore-background".into())
            .spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        Ok(Background {
            runtime: handle,
            stop: Arc::default(),
            end: Some(end),
            engine: engine.clone(),
            threads: Mutex::new(vec![thread]),
        })
    }

    /// Starts the epoch clock. It rests while no guest runs.
    fn tick(&self, active: Arc<Active>) -> std::io::Result<()> {
        let (stop, engine) = (self.stop.clone(), self.engine.clone());
        let thread = std::thread::Builder::new()
            .name("spore-ticks".into())
            .spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    active.wait_until_busy(Duration::from_millis(100));
                    if active.is_busy() {
                        std::thread::sleep(TICK);
                        engine.increment_epoch();
                    }
                }
            })?;
        lock(&self.threads).push(thread);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        let current = std::thread::current().id();
        for thread in lock(&self.threads).drain(..) {
            if thread.thread().id() != current {
                let _ = thread.join();
            }
        }
    }
}
