//! Compilation: each module once while it is kept, as many at one time as there are workers.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_abi::export;
use spore_bundle::image::BLOCK_BYTES;
use spore_bundle::module::{self, Interior, Item};
use spore_bundle::{Bundle, CodeId, Image, Interface, ModuleLimits};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Timeout;
use wasmtime::{Engine, Linker, Module, Store};

use crate::callers::KeyState;
use crate::code::{
    Code, Hook, PAGE_BYTES, PreparedRoom, Ready, check_image_memory, invalid, refuse_abi,
    refuse_module, refuse_rewrite,
};
use crate::guest::{self, Guest};
use crate::limits::{Limits, millis};
use crate::pools::Pools;
use crate::room::{Held, Total};
use crate::scheduler::lock;
use crate::weighted::Weighted;

/// What the instances of a bundle begin as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Beginning {
    /// With the bundle's image, or with what its initialiser leaves: for calls.
    Prepared,
    /// As the code has them: an image is put into the instance, and an initialiser runs in it.
    Plain,
}

type Compiled = Result<Arc<Code>, Refused>;

/// Whether compiled code is kept for others.
#[derive(Clone, Copy, Debug)]
enum Keep {
    Yes,
    No,
}

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
    /// Captures that are decoded once, and how many of them there are.
    prepared: Arc<Total>,
    prepared_count: Arc<AtomicU64>,
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
            prepared: Total::new(limits.prepared),
            prepared_count: Arc::default(),
        })
    }

    /// Room for captures that take so many bytes once they are decoded for all calls.
    pub(crate) fn prepared_room(&self, bytes: u64) -> Result<Held, Refused> {
        let total = &self.prepared;
        total.take(bytes).map_err(|all| {
            let what = "captures that are decoded once, bytes";
            Refused::new(RefusalCode::StateTooLarge, what).past(total.limit(), all)
        })?;
        let held = total.hold(bytes);
        total.give_back(bytes);
        Ok(held)
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
            None => self.compile(id, key, &bundle, code, Keep::Yes).await?,
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
        let (id, code) = self.baked(bundle, image.clone()).await?;
        let kept = lock(&self.shop.cache).get(&id);
        let code = match kept {
            Some(code) => code,
            None => self.compile(id, key, bundle, code, Keep::Yes).await?.0,
        };
        let room = self.bundles.hold(image.changed_bytes());
        code.set_initial(image, room);
        Ok(code)
    }

    /// The bundle's code beginning with this image, which an instance of it has left, for whoever asks
    /// alone. Also says how long its compilation took.
    pub(crate) async fn load_prepared(
        &self,
        key: &Arc<KeyState>,
        bundle: &Bundle,
        image: Image,
        room: Held,
    ) -> Result<(Arc<Code>, PreparedRoom, Duration), Refused> {
        let (id, code) = self.baked(bundle, image).await?;
        let (code, took) = self.compile(id, key, bundle, code, Keep::No).await?;
        Ok((code, PreparedRoom::new(room, &self.prepared_count), took))
    }

    /// The Wasm of code that is kept, if a bundle shares it.
    pub(crate) fn wasm(&self, id: &CodeId) -> Option<Bytes> {
        lock(&self.shop.cache).get(id)?.shared_wasm()
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
        keep: Keep,
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
        let flight = self.flight(id, &code, turn, keep);
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
    fn flight(
        &self,
        id: CodeId,
        code: &Bytes,
        turn: TurnOfKey,
        keep: Keep,
    ) -> watch::Receiver<Stage> {
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
            let compiling = tokio::task::spawn_blocking(move || compiling.compile(id, &code, keep));
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
                    let refused = Refused::new(RefusalCode::CompilationTime, "");
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
        let prepared = self.prepared_count.load(Ordering::Relaxed);
        (
            cache.len() as u64 + prepared,
            cache.weight() + self.prepared.taken(),
        )
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

    /// Compiles code, with what the host must see inside, and keeps the result if that is wanted.
    /// Blocks.
    fn compile(&self, id: CodeId, code: &[u8], keep: Keep) -> Compiled {
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
        // Else the first call would wait until its memory is laid out, which an image makes large.
        module
            .initialize_copy_on_write_image()
            .map_err(|error| Refused::new(RefusalCode::Internal, error.to_string()))?;
        tracing::info!(code = %id, bytes = code.len(), took = ?began.elapsed(), "compiled");
        let image = module.image_range();
        let machine_code = (image.end as usize - image.start as usize) as u64;
        // Memory that instances begin with is kept to map it into them, and to compare it with theirs.
        let begins_with = interior.laid_out_blocks() * BLOCK_BYTES as u64;
        let bytes = machine_code + begins_with.max(code.len() as u64);
        let compiled = Code::new(&self.linker, &module, interior, id, bytes).map(Arc::new)?;
        if let Keep::No = keep {
            return Ok(compiled);
        }
        let gone = lock(&self.cache).put(id, compiled.clone(), bytes);
        for code in &gone {
            code.let_go();
        }
        // After the marks: whoever sees the count sees them.
        self.evictions
            .fetch_add(gone.len() as u64, Ordering::Release);
        Ok(compiled)
    }
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
