//! Compiled code, and bundles that are ready to run.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_abi::export;
use spore_bundle::image::Bound;
use spore_bundle::module::{self, Interior, Item, Misfit, RewriteError};
use spore_bundle::{AbiError, Bundle, CodeId, Image, Interface, ModuleError, ModuleLimits};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Timeout;
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport, Store};

use crate::callers::KeyState;
use crate::guest::{self, Guest};
use crate::limits::{Limits, millis};
use crate::pools::Pools;
use crate::room::{Held, Total};
use crate::scheduler::lock;
use crate::snapshot::Fresh;
use crate::weighted::Weighted;

/// A page of a guest's memory, in bytes.
const PAGE_BYTES: u64 = 64 << 10;

/// Memory of a decoded manifest for each byte of the encoded one, in bytes. The most is that of a
/// type: one byte names it, and it may lie in a box of its own, to which the allocator adds a word.
pub(crate) const DECODED_PER_BYTE: u64 = 32;

/// Captures below this size are decoded in each call, which takes less than they would of memory.
const PREPARED_BYTES_MIN: u64 = 1 << 20;

/// Calls with captures after which these are decoded once for all.
const PREPARED_AFTER: u32 = 4;

/// Code of one module, compiled and linked.
pub(crate) struct Code {
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Exports,
    /// The mutable globals that hold numbers.
    pub(crate) globals: Vec<MutableGlobal>,
    /// What state the code has, and whether an image can hold it.
    pub(crate) interior: Interior,
    /// What an instance is in which nothing has run, once one has been seen.
    pub(crate) fresh: OnceLock<Fresh>,
    /// The code as it is after an initialiser, by the initialiser's name, while it is kept.
    pub(crate) initialised: Mutex<HashMap<String, Initialised>>,
    /// What an initialiser has left, when that is what the code begins with: for instances of which
    /// images are taken, and which are of the code as it was.
    initial: OnceLock<(Image, Held)>,
    /// Of the Wasm that was compiled: a bundle's code, or that with an image put in.
    pub(crate) id: CodeId,
    /// Memory of the machine code and of the Wasm that it was made of, in bytes.
    bytes: u64,
    /// The Wasm, for other bundles that have the same; see [`Ready::share_code`].
    wasm: OnceLock<Bytes>,
    /// Whether the cache of code has it. Bundles that nobody uses are kept only as long.
    kept: AtomicBool,
    /// Counts the code once for all bundles that are there with it.
    held: Mutex<Weak<Held>>,
}

/// Code after one initialiser, while it is kept. Held while that runs: whoever wants the same waits,
/// and nobody else, for a manifest may name a function as initialiser that never ends.
pub(crate) type Initialised = Arc<tokio::sync::Mutex<Weak<Code>>>;

/// What the instances of a bundle begin as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Beginning {
    /// With the bundle's image, or with what its initialiser leaves: for calls.
    Prepared,
    /// As the code has them: an image is put into the instance, and an initialiser runs in it.
    Plain,
}

impl Code {
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// What an initialiser has left, when that is what the code begins with.
    pub(crate) fn initial(&self) -> Option<&Image> {
        self.initial.get().map(|(image, _)| image)
    }

    /// A function that the manifest names, which takes and gives nothing.
    pub(crate) fn hook(&self, name: &str) -> Result<ModuleExport, Refused> {
        // Its type was checked with the interface.
        let found = self.pre.module().get_export_index(name);
        found.ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no function {name}")))
    }

    fn hold(&self, total: &Arc<Total>) -> Arc<Held> {
        let mut held = lock(&self.held);
        held.upgrade().unwrap_or_else(|| {
            let new = Arc::new(total.hold(self.bytes));
            *held = Arc::downgrade(&new);
            new
        })
    }
}

/// A global that the host has exported for itself.
pub(crate) struct MutableGlobal {
    /// Among all globals of the code.
    pub(crate) index: u32,
    pub(crate) export: ModuleExport,
}

/// Where the exports are that all callables share.
pub(crate) struct Exports {
    pub(crate) memory: ModuleExport,
    /// The start function, which the host runs itself.
    pub(crate) start: Option<ModuleExport>,
    pub(crate) initialize: Option<ModuleExport>,
    pub(crate) alloc: ModuleExport,
    pub(crate) poll: ModuleExport,
    pub(crate) drop: ModuleExport,
    pub(crate) unbind: ModuleExport,
}

/// Where the exports of one callable are.
pub(crate) struct Entry {
    pub(crate) bind: ModuleExport,
    pub(crate) start: ModuleExport,
    /// Whether its tasks may yield and wait.
    pub(crate) resumable: bool,
    /// Whether its tasks emit items.
    pub(crate) streams: bool,
}

/// A bundle and its compiled code.
pub(crate) struct Ready {
    pub(crate) bundle: Bundle,
    pub(crate) code: Arc<Code>,
    /// In the order of the manifest's callables.
    pub(crate) entries: Vec<Entry>,
    /// What an instance runs before captures are bound, besides what all code runs.
    pub(crate) hook: Option<Hook>,
    /// The bundle's captures, when the code begins with them bound.
    prepared: Option<Prepared>,
    /// Calls that have used the bundle's captures, as far as that matters.
    uses: AtomicU32,
    own: Held,
    _code: Arc<Held>,
}

/// Captures that were decoded once for all calls.
pub(crate) struct Prepared {
    pub(crate) bound: Bound,
    /// What they take of what the key may have of them.
    pub(crate) _room: Held,
}

/// A function of the guest's that takes and gives nothing.
pub(crate) enum Hook {
    /// The initialiser of this code, which has no images, so that each instance runs it.
    Init(ModuleExport, CodeId),
    /// What an instance that begins with an image runs.
    Restored(ModuleExport),
}

impl Ready {
    /// Counts in `total` what the bundle takes, and what its code does.
    fn new(
        bundle: Bundle,
        code: Arc<Code>,
        hook: Option<Hook>,
        total: &Arc<Total>,
    ) -> Result<Ready, Refused> {
        // The module may be known from another bundle, whose manifest names other callables.
        let entries = entries(code.pre.module(), &bundle)?;
        let wasm = code.wasm.get();
        let shared = match wasm.is_some_and(|wasm| wasm.as_ptr() == bundle.code().as_ptr()) {
            true => bundle.code().len() as u64,
            false => 0,
        };
        Ok(Ready {
            own: total.hold(bytes(&bundle) - shared),
            _code: code.hold(total),
            bundle,
            code,
            entries,
            hook,
            prepared: None,
            uses: AtomicU32::new(0),
        })
    }

    /// The same with the code that begins with its captures bound.
    pub(crate) fn with_prepared(mut self, prepared: Prepared) -> Ready {
        self.prepared = Some(prepared);
        self
    }

    /// Whether the code begins with the bundle's captures bound.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Counts a use of the bundle's captures. Says whether it is the one after which they are to be
    /// decoded once for all.
    pub(crate) fn is_worth_preparing(&self) -> bool {
        let captures = self.bundle.captures();
        let bytes = captures.map_or(0, |(_, captures)| captures.len() as u64);
        if self.prepared.is_some() || bytes < PREPARED_BYTES_MIN {
            return false;
        }
        // It is one of them alone, however many there are at one time.
        self.uses.fetch_add(1, Ordering::Relaxed) + 1 == PREPARED_AFTER
            && self.code.interior.check_imageable().is_ok()
    }

    /// Lets bundles that have the same code use the memory that this one has it in: those which come
    /// later need not read it again, and it counts once.
    pub(crate) fn share_code(&self) {
        // Code that begins with an image is none that a bundle names.
        if self.code.id == self.bundle.code_id() {
            self.code.wasm.get_or_init(|| self.bundle.code().clone());
        }
    }

    /// The handle of the callable's captures, when the code begins with an image that has them
    /// bound.
    pub(crate) fn bound(&self, callable: u32) -> Option<u32> {
        if let Some(prepared) = &self.prepared {
            let bound = prepared.bound;
            return (bound.callable == callable).then_some(bound.handle);
        }
        let bound = &self.bundle.image()?.index().bound;
        let found = bound.iter().find(|bound| bound.callable == callable)?;
        Some(found.handle)
    }

    /// Memory that the bundle takes beside what it shares with others.
    pub(crate) fn bytes(&self) -> u64 {
        self.own.bytes
    }
}

/// Memory that a bundle takes.
pub(crate) fn bytes(bundle: &Bundle) -> u64 {
    let state = bundle.state().map_or(0, |state| state.len());
    let parts = (bundle.code().len() + state) as u64;
    let manifest = bundle.manifest_bytes().len() as u64 * DECODED_PER_BYTE;
    parts + manifest + bundle.image().map_or(0, Image::changed_bytes)
}

type Compiled = Result<Arc<Code>, Refused>;

/// Where a compilation is, for those who wait for it.
#[derive(Clone)]
enum Stage {
    /// It has not begun.
    Waiting,
    /// It runs since then.
    Begun(Instant),
    Ended(Compiled),
}

/// Compiles code, each once while it is kept.
pub(crate) struct Compiler {
    shop: Arc<Shop>,
    /// Compilations at one time: as many as workers, so that memory for them is bounded.
    permits: Arc<Semaphore>,
    permits_max: usize,
    /// How long one may take, and how long one may wait to begin.
    longest: Duration,
    background: Handle,
    /// Bundles that are there.
    bundles: Arc<Total>,
}

/// What it takes to compile, also for a compilation that nobody waits for any more.
struct Shop {
    engine: Engine,
    pools: Pools,
    linker: Linker<Guest>,
    offered: HashSet<(String, String)>,
    limits: ModuleLimits,
    /// Memory of one guest, in bytes.
    memory: u64,
    cache: Mutex<Weighted<CodeId, Arc<Code>>>,
    /// How often code went from the cache.
    evictions: Arc<AtomicU64>,
    /// Compilations under way; whoever wants the same code waits for the same.
    flights: Mutex<HashMap<CodeId, watch::Sender<Stage>>>,
}

impl Compiler {
    pub(crate) fn new(
        engine: &Engine,
        limits: &Limits,
        workers: usize,
        cores: usize,
        background: Handle,
        bundles: Arc<Total>,
        idle: Guest,
    ) -> wasmtime::Result<Compiler> {
        let linker = guest::linker(engine)?;
        let mut store = Store::new(engine, idle);
        let offered = linker
            .iter(&mut store)
            .map(|(module, name, _)| (module.to_owned(), name.to_owned()))
            .collect();
        let permits_max = workers.max(1);
        Ok(Compiler {
            shop: Arc::new(Shop {
                engine: engine.clone(),
                pools: Pools::new(cores),
                linker,
                offered,
                limits: ModuleLimits {
                    functions_max: limits.functions,
                    body_bytes_max: limits.function_body,
                    ..ModuleLimits::default()
                },
                memory: limits.memory,
                cache: Mutex::new(Weighted::new(limits.code_cache)),
                evictions: Arc::default(),
                flights: Mutex::default(),
            }),
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max,
            longest: limits.compilation,
            background,
            bundles,
        })
    }

    /// Compiles the bundle's code for the key, waits while another call does, or finds it done. Also
    /// says how long that took; nothing when it was kept.
    ///
    /// Cancel-safe: whoever waits for the same code goes on with it.
    pub(crate) async fn load(
        &self,
        key: &Arc<KeyState>,
        bundle: Bundle,
        beginning: Beginning,
    ) -> Result<(Ready, Duration), Refused> {
        let (id, code) = match (beginning, bundle.image()) {
            // Instances begin with the image, at the price of an empty one: its memory is mapped
            // and copied when it is written to.
            (Beginning::Prepared, Some(image)) => self.baked(&bundle, image.clone()).await?,
            _ => (bundle.code_id(), bundle.code().clone()),
        };
        let kept = lock(&self.shop.cache).get(&id);
        let (code, took) = match kept {
            Some(code) => (code, Duration::ZERO),
            None => self.compile(id, key, &bundle, code).await?,
        };
        let hook = match (beginning, bundle.image()) {
            (Beginning::Prepared, Some(_)) => bundle.manifest().restored.as_deref(),
            // Runs in the instance, or once for all: that is for the caller to say.
            _ => None,
        };
        let restored = hook.map(|name| code.hook(name)).transpose()?;
        let hook = restored.map(Hook::Restored);
        Ok((self.ready(bundle, code, hook)?, took))
    }

    /// A bundle with the code that its instances are made of.
    pub(crate) fn ready(
        &self,
        bundle: Bundle,
        code: Arc<Code>,
        hook: Option<Hook>,
    ) -> Result<Ready, Refused> {
        Ready::new(bundle, code, hook, &self.bundles)
    }

    /// The bundle as it is after its initialiser, which has left this image.
    ///
    /// Cancel-safe, as [`load`](Self::load).
    pub(crate) async fn load_initialised(
        &self,
        key: &Arc<KeyState>,
        bundle: &Bundle,
        image: Image,
    ) -> Result<Arc<Code>, Refused> {
        let (code, _) = self.load_prepared(key, bundle, image.clone()).await?;
        let bytes = image.changed_bytes();
        code.initial
            .get_or_init(|| (image, self.bundles.hold(bytes)));
        Ok(code)
    }

    /// The bundle's code beginning with this image, which an instance of it has left. Also says how
    /// long its compilation took.
    pub(crate) async fn load_prepared(
        &self,
        key: &Arc<KeyState>,
        bundle: &Bundle,
        image: Image,
    ) -> Result<(Arc<Code>, Duration), Refused> {
        let (id, code) = self.baked(bundle, image).await?;
        let kept = lock(&self.shop.cache).get(&id);
        match kept {
            Some(code) => Ok((code, Duration::ZERO)),
            None => self.compile(id, key, bundle, code).await,
        }
    }

    /// The Wasm of code that is kept, if a bundle shares it.
    pub(crate) fn wasm(&self, id: &CodeId) -> Option<Bytes> {
        lock(&self.shop.cache).get(id)?.wasm.get().cloned()
    }

    /// Notes that code is used: what is called from memory all day is not what goes first.
    pub(crate) fn used(&self, code: &Code) {
        lock(&self.shop.cache).get(&code.id);
    }

    /// Counts how often code went from the cache.
    pub(crate) fn evictions(&self) -> Arc<AtomicU64> {
        self.shop.evictions.clone()
    }

    async fn compile(
        &self,
        id: CodeId,
        key: &Arc<KeyState>,
        bundle: &Bundle,
        code: Bytes,
    ) -> Result<(Arc<Code>, Duration), Refused> {
        let began = Instant::now();
        // Each bundle is checked by itself: one with a wrong manifest must not have the others of
        // the same code refused, whose compilation they share.
        let (shop, checked) = (self.shop.clone(), bundle.clone());
        self.background
            .spawn_blocking(move || shop.check(&checked))
            .await
            .map_err(|_| Refused::new(RefusalCode::Internal, "the check panicked"))??;
        // One that is under way is joined, whoever began it.
        let under_way = lock(&self.shop.flights)
            .get(&id)
            .map(watch::Sender::subscribe);
        if let Some(flight) = under_way {
            return Ok((self.land(flight).await?, began.elapsed()));
        }
        // The key's own turn comes first. A key that waits for it has begun nothing that others
        // could come to wait for.
        let turn = key.compilations.clone().acquire_owned();
        let Ok(turn) = self.within(self.longest, turn).await else {
            let refused = Refused::new(RefusalCode::QueueFull, "compilations of the key");
            return Err(refused.past(key.compilations_max as u64, None));
        };
        let turn = TurnOfKey {
            _permit: turn.expect("the semaphore is never closed"),
            _key: key.clone(),
        };
        // It may have ended while this waited.
        let kept = lock(&self.shop.cache).get(&id);
        if let Some(compiled) = kept {
            return Ok((compiled, began.elapsed()));
        }
        let flight = self.flight(id, &code, turn);
        Ok((self.land(flight).await?, began.elapsed()))
    }

    /// The bundle's code, beginning with an image, and what that is kept under.
    async fn baked(&self, bundle: &Bundle, image: Image) -> Result<(CodeId, Bytes), Refused> {
        let (bundle, memory) = (bundle.clone(), self.shop.memory);
        let baking = self.background.spawn_blocking(move || {
            check_image_memory(&image, memory)?;
            let baked = module::bake(bundle.code(), &image).map_err(refuse_rewrite)?;
            Ok((CodeId::of(&baked), Bytes::from(baked)))
        });
        baking
            .await
            .map_err(|_| Refused::new(RefusalCode::Internal, "the image could not be baked"))?
    }

    /// The compilation of this code that is under way, or one that begins now.
    fn flight(&self, id: CodeId, code: &Bytes, turn: TurnOfKey) -> watch::Receiver<Stage> {
        let mut flights = lock(&self.shop.flights);
        if let Some(flight) = flights.get(&id) {
            return flight.subscribe();
        }
        let (flight, waiting) = watch::channel(Stage::Waiting);
        flights.insert(id, flight.clone());
        let (shop, permits, code) = (self.shop.clone(), self.permits.clone(), code.clone());
        self.background.spawn(async move {
            let Some(permit) = shop.permit(&permits, id, &flight).await else {
                return;
            };
            flight.send_replace(Stage::Begun(Instant::now()));
            let compiling = shop.clone();
            let compiling = tokio::task::spawn_blocking(move || compiling.compile(id, &code));
            let compiled = compiling.await.unwrap_or_else(|_| {
                Err(Refused::new(RefusalCode::Internal, "the compiler panicked"))
            });
            // A refusal is not kept: limits may change, and hostile code must not fill memory.
            lock(&shop.flights).remove(&id);
            flight.send_replace(Stage::Ended(compiled));
            // A compiler cannot be stopped. Until it ends it counts, waited for or not.
            drop((permit, turn));
        });
        waiting
    }

    /// Waits for a compilation, as long as it may take.
    async fn land(&self, mut flight: watch::Receiver<Stage>) -> Compiled {
        let queued = Instant::now();
        loop {
            let stage = flight.borrow_and_update().clone();
            let (since, late) = match stage {
                Stage::Waiting => {
                    let refused = Refused::new(RefusalCode::QueueFull, "compilations");
                    (queued, refused.past(self.permits_max as u64, None))
                }
                Stage::Begun(at) => {
                    let refused = Refused::new(RefusalCode::CompilationTime, "milliseconds");
                    (at, refused.past(millis(self.longest), None))
                }
                Stage::Ended(compiled) => return compiled,
            };
            let left = self.longest.saturating_sub(since.elapsed());
            match self.within(left, flight.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    return Err(Refused::new(
                        RefusalCode::Internal,
                        "the compiler was stopped",
                    ));
                }
                Err(_) => return Err(late),
            }
        }
    }

    fn within<F: Future>(&self, longest: Duration, work: F) -> Timeout<F> {
        // Whoever embeds a host may wait on a runtime without a clock.
        let _clock = self.background.enter();
        tokio::time::timeout(longest, work)
    }

    /// How much compiled code is kept: modules and bytes.
    pub(crate) fn cached(&self) -> (u64, u64) {
        let cache = lock(&self.shop.cache);
        (cache.len() as u64, cache.weight())
    }
}

/// One of the compilations that a key may have at one time. Keeps the key known meanwhile: one that
/// went away and came back would get new ones.
struct TurnOfKey {
    _permit: OwnedSemaphorePermit,
    _key: Arc<KeyState>,
}

impl Shop {
    /// Waits until a compilation may begin; gives up once nobody waits for it any more.
    async fn permit(
        &self,
        permits: &Arc<Semaphore>,
        id: CodeId,
        flight: &watch::Sender<Stage>,
    ) -> Option<OwnedSemaphorePermit> {
        let mut permit = pin!(permits.clone().acquire_owned());
        loop {
            tokio::select! {
                permit = &mut permit => return permit.ok(),
                () = flight.closed() => {
                    // Whoever comes to wait for it does so under this lock.
                    let mut flights = lock(&self.flights);
                    if flight.is_closed() {
                        flights.remove(&id);
                        return None;
                    }
                }
            }
        }
    }

    /// Refuses what need not be compiled to be refused. Blocks.
    fn check(&self, bundle: &Bundle) -> Result<(), Refused> {
        let interface = Interface::read(bundle.code(), &self.limits).map_err(refuse_module)?;
        interface.check_abi(bundle.manifest()).map_err(refuse_abi)?;
        check_memory(&interface, self.memory)?;
        let missing = interface.imports_without(|module, name| {
            self.offered.contains(&(module.to_owned(), name.to_owned()))
        });
        match missing.first() {
            Some(import) => Err(Refused::new(
                RefusalCode::ImportNotOffered,
                import.to_string(),
            )),
            None => Ok(()),
        }
    }

    /// Compiles code, with what the host must see inside, and keeps the result. Blocks.
    fn compile(&self, id: CodeId, code: &[u8]) -> Compiled {
        // Another compilation may have ended between the look at the cache and the begin of this.
        if let Some(code) = lock(&self.cache).get(&id) {
            return Ok(code);
        }
        let began = Instant::now();
        // As it came, since what is added could make valid what is not: a second start section goes
        // with the first.
        Module::validate(&self.engine, code).map_err(|error| invalid(&error))?;
        let interior = Interior::read(code).map_err(refuse_module)?;
        let instrumented = module::instrument(code, &interior).map_err(refuse_rewrite)?;
        let module = self
            .pools
            .run(|| Module::new(&self.engine, &instrumented))
            .map_err(|_| Refused::new(RefusalCode::Internal, "no threads to compile with"))?
            .map_err(|error| invalid(&error))?;
        tracing::info!(code = %id, bytes = code.len(), took = ?began.elapsed(), "compiled");
        let image = module.image_range();
        let bytes = (image.end as usize - image.start as usize + code.len()) as u64;
        let compiled = self.link(&module, interior, id, bytes).map(Arc::new)?;
        let gone = lock(&self.cache).put(id, compiled.clone(), bytes);
        for code in &gone {
            code.kept.store(false, Ordering::Release);
        }
        // After the marks: whoever sees the count sees them.
        self.evictions
            .fetch_add(gone.len() as u64, Ordering::Release);
        Ok(compiled)
    }

    fn link(
        &self,
        module: &Module,
        interior: Interior,
        id: CodeId,
        bytes: u64,
    ) -> Result<Code, Refused> {
        let pre = self
            .linker
            .instantiate_pre(module)
            .map_err(|error| invalid(&error))?;
        let find = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no export {name}")))
        };
        let exports = Exports {
            memory: find(export::MEMORY)?,
            start: module.get_export_index(module::PRIVATE_START),
            initialize: module.get_export_index(export::INITIALIZE),
            alloc: find(export::ALLOC)?,
            poll: find(export::POLL)?,
            drop: find(export::DROP)?,
            unbind: find(export::UNBIND)?,
        };
        let globals = interior.mutable_globals().map(|(index, _)| {
            let export = find(&format!("{}{index}", module::PRIVATE_GLOBAL))?;
            Ok(MutableGlobal { index, export })
        });
        Ok(Code {
            pre,
            exports,
            globals: globals.collect::<Result<_, Refused>>()?,
            interior,
            fresh: OnceLock::new(),
            initialised: Mutex::default(),
            initial: OnceLock::new(),
            id,
            bytes,
            wasm: OnceLock::new(),
            kept: AtomicBool::new(true),
            held: Mutex::default(),
        })
    }
}

/// The exports of each callable, which must be functions of the ABI's types.
fn entries(module: &Module, bundle: &Bundle) -> Result<Vec<Entry>, Refused> {
    let find = |prefix: &str, callable: &str, parameters: usize| {
        let name = format!("{prefix}{callable}");
        let fits = module.get_export(&name).is_some_and(|ty| {
            ty.func().is_some_and(|ty| {
                (ty.params().len(), ty.results().len()) == (parameters, 1)
                    && ty.params().chain(ty.results()).all(|ty| ty.is_i32())
            })
        });
        let index = module.get_export_index(&name).filter(|_| fits);
        index.ok_or_else(|| Refused::new(RefusalCode::AbiViolated, format!("no function {name}")))
    };
    let callables = bundle.manifest().callables.iter();
    callables
        .map(|callable| {
            Ok(Entry {
                bind: find(export::BIND, &callable.name, 2)?,
                start: find(export::START, &callable.name, 3)?,
                resumable: callable.resumable,
                streams: callable.streams,
            })
        })
        .collect()
}

/// Refuses an image with more memory than one guest may have.
pub(crate) fn check_image_memory(image: &Image, limit: u64) -> Result<(), Refused> {
    let bytes = u64::from(image.index().memory_pages) * PAGE_BYTES;
    if bytes > limit {
        let refused = Refused::new(RefusalCode::Memory, "memory of one guest, bytes");
        return Err(refused.past(limit, bytes));
    }
    Ok(())
}

/// Refuses a module whose memory is too large from the start. The pool refuses it too, but as if
/// the module were invalid.
fn check_memory(interface: &Interface, limit: u64) -> Result<(), Refused> {
    let Some(Item::Memory(memory)) = interface.export(export::MEMORY) else {
        return Ok(());
    };
    let bytes = memory.pages_min.saturating_mul(PAGE_BYTES);
    if bytes > limit {
        return Err(
            Refused::new(RefusalCode::Memory, "memory of one guest, bytes").past(limit, bytes),
        );
    }
    Ok(())
}

fn invalid(error: &wasmtime::Error) -> Refused {
    Refused::new(RefusalCode::InvalidModule, format!("{error:#}"))
}

fn refuse_abi(error: AbiError) -> Refused {
    Refused::new(RefusalCode::AbiViolated, error.to_string())
}

/// Why code was not rewritten, as a refusal.
pub(crate) fn refuse_rewrite(error: RewriteError) -> Refused {
    match error {
        RewriteError::Module(error) => refuse_module(error),
        RewriteError::Misfit(misfit) => refuse_misfit(&misfit),
        RewriteError::Fragmented { pieces, limit } => {
            let refused = Refused::new(RefusalCode::ImageMisfit, "pieces of changed memory");
            refused.past(limit as u64, pieces as u64)
        }
        error => Refused::new(RefusalCode::InvalidModule, chain(&error)),
    }
}

/// Why an image is none of the code's, as a refusal.
pub(crate) fn refuse_misfit(misfit: &Misfit) -> Refused {
    let code = match misfit {
        Misfit::Obstacle(_) => RefusalCode::NoImage,
        _ => RefusalCode::ImageMisfit,
    };
    Refused::new(code, misfit.to_string())
}

fn refuse_module(error: ModuleError) -> Refused {
    let message = chain(&error);
    match error {
        ModuleError::TooMany {
            what: "functions",
            count,
            limit,
        } => Refused::new(RefusalCode::TooManyFunctions, "").past(u64::from(limit), count),
        ModuleError::BodyTooLarge {
            index,
            bytes,
            limit,
        } => Refused::new(RefusalCode::FunctionTooLarge, format!("function {index}"))
            .past(u64::from(limit), bytes),
        _ => Refused::new(RefusalCode::InvalidModule, message),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use spore_bundle::{Callable, Grant};
    use spore_value::{Definition, Field, Parameter, Type, Variant};

    use super::DECODED_PER_BYTE;

    /// What the allocator takes for a text of a few bytes.
    const TEXT_BYTES: usize = 32;

    #[test]
    fn what_is_charged_for_a_manifest_is_no_less_than_it_takes() {
        // Each with the fewest bytes that it is encoded as: a name has a length and a letter.
        for (what, memory, encoded) in [
            ("type in a box", size_of::<Type>() + size_of::<usize>(), 1),
            ("grant", size_of::<Grant>(), 1),
            ("parameter", size_of::<Parameter>() + TEXT_BYTES, 3),
            ("field", size_of::<Field>() + TEXT_BYTES, 4),
            ("variant", size_of::<Variant>() + TEXT_BYTES, 4),
            ("definition", size_of::<Definition>() + TEXT_BYTES, 5),
            ("callable", size_of::<Callable>() + TEXT_BYTES, 13),
        ] {
            let charged = encoded * DECODED_PER_BYTE as usize;
            assert!(
                memory <= charged,
                "{what}: {memory} bytes, {charged} charged"
            );
        }
    }
}
