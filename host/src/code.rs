//! Compiled code, and bundles that are ready to run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_abi::export;
use spore_bundle::module::Item;
use spore_bundle::{AbiError, Bundle, CodeId, Interface, ModuleError, ModuleLimits};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Timeout;
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport, Store};

use crate::guest::{self, Guest};
use crate::limits::{Limits, millis};
use crate::scheduler::lock;
use crate::weighted::Weighted;

/// A page of a guest's memory, in bytes.
const PAGE_BYTES: u64 = 64 << 10;

/// Code of one module, compiled and linked.
pub(crate) struct Code {
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Exports,
}

/// Where the exports are that all callables share.
pub(crate) struct Exports {
    pub(crate) memory: ModuleExport,
    pub(crate) initialize: Option<ModuleExport>,
    pub(crate) alloc: ModuleExport,
    pub(crate) poll: ModuleExport,
}

/// Where the exports of one callable are.
pub(crate) struct Entry {
    pub(crate) bind: ModuleExport,
    pub(crate) start: ModuleExport,
}

/// A bundle whose code is compiled: what a call needs.
pub struct Loaded {
    pub(crate) bundle: Bundle,
    pub(crate) code: Arc<Code>,
    /// In the order of the manifest's callables.
    pub(crate) entries: Vec<Entry>,
}

impl Loaded {
    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
}

type Compiled = Result<Arc<Code>, Refused>;

/// Compiles code, each once while it is kept.
pub(crate) struct Compiler {
    shop: Arc<Shop>,
    /// Compilations under way; whoever wants the same code waits for the same cell.
    flights: Mutex<HashMap<CodeId, Arc<OnceCell<Compiled>>>>,
    /// Compilations at one time: as many as workers, so that memory for them is bounded.
    permits: Arc<Semaphore>,
    permits_max: usize,
    /// How long one may take, and how long one may wait to begin.
    longest: Duration,
    background: Handle,
}

/// What it takes to compile, also for a compilation that nobody waits for any more.
struct Shop {
    engine: Engine,
    linker: Linker<Guest>,
    offered: HashSet<(String, String)>,
    limits: ModuleLimits,
    /// Memory of one guest, in bytes.
    memory: u64,
    cache: Mutex<Weighted<CodeId, Arc<Code>>>,
}

impl Compiler {
    pub(crate) fn new(
        engine: &Engine,
        limits: &Limits,
        workers: usize,
        background: Handle,
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
                linker,
                offered,
                limits: ModuleLimits {
                    functions_max: limits.functions,
                    body_bytes_max: limits.function_body,
                    ..ModuleLimits::default()
                },
                memory: limits.memory,
                cache: Mutex::new(Weighted::new(limits.code_cache)),
            }),
            flights: Mutex::default(),
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max,
            longest: limits.compilation,
            background,
        })
    }

    /// Compiles the bundle's code, waits while another call does, or finds it done. Also says how
    /// long that took; nothing when it was kept.
    ///
    /// Cancel-safe: whoever waits for the same code goes on with it.
    pub(crate) async fn load(&self, bundle: Bundle) -> Result<(Loaded, Duration), Refused> {
        let id = bundle.code_id();
        let kept = lock(&self.shop.cache).get(&id);
        let (code, took) = match kept {
            Some(code) => (code, Duration::ZERO),
            None => self.compile(id, &bundle).await?,
        };
        // The module may be known from another bundle, whose manifest names other callables.
        let entries = entries(code.pre.module(), &bundle)?;
        Ok((
            Loaded {
                bundle,
                code,
                entries,
            },
            took,
        ))
    }

    async fn compile(&self, id: CodeId, bundle: &Bundle) -> Result<(Arc<Code>, Duration), Refused> {
        let began = Instant::now();
        // Each bundle is checked by itself: one with a wrong manifest must not have the others of
        // the same code refused, whose compilation they share.
        let (shop, checked) = (self.shop.clone(), bundle.clone());
        self.background
            .spawn_blocking(move || shop.check(&checked))
            .await
            .map_err(|_| Refused::new(RefusalCode::Internal, "the check panicked"))??;
        let flight = lock(&self.flights).entry(id).or_default().clone();
        let compiled = flight
            .get_or_init(|| self.compile_here(id, bundle.code().clone()))
            .await
            .clone();
        // A refusal is not kept: limits may change, and hostile code must not fill memory.
        lock(&self.flights).remove(&id);
        Ok((compiled?, began.elapsed()))
    }

    async fn compile_here(&self, id: CodeId, code: Bytes) -> Compiled {
        let Ok(permit) = self.within(self.permits.clone().acquire_owned()).await else {
            let refused = Refused::new(RefusalCode::QueueFull, "compilations");
            return Err(refused.past(self.permits_max as u64, None));
        };
        let permit = permit.expect("the semaphore is never closed");
        if let Some(code) = lock(&self.shop.cache).get(&id) {
            return Ok(code);
        }
        let shop = self.shop.clone();
        let compiling = self.background.spawn_blocking(move || {
            let compiled = shop.compile(id, &code);
            // A compiler cannot be stopped. Until it ends it counts, waited for or not.
            drop(permit);
            compiled
        });
        match self.within(compiling).await {
            Ok(compiled) => compiled
                .map_err(|_| Refused::new(RefusalCode::Internal, "the compiler panicked"))?,
            Err(_) => {
                let refused = Refused::new(RefusalCode::CompilationTime, "milliseconds");
                Err(refused.past(millis(self.longest), None))
            }
        }
    }

    fn within<F: Future>(&self, work: F) -> Timeout<F> {
        // Whoever embeds a host may wait on a runtime without a clock.
        let _clock = self.background.enter();
        tokio::time::timeout(self.longest, work)
    }

    /// How much compiled code is kept: modules and bytes.
    pub(crate) fn cached(&self) -> (u64, u64) {
        let cache = lock(&self.shop.cache);
        (cache.len() as u64, cache.weight())
    }
}

impl Shop {
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

    /// Compiles code and keeps the result. Blocks.
    fn compile(&self, id: CodeId, code: &[u8]) -> Compiled {
        let began = Instant::now();
        let module = Module::new(&self.engine, code).map_err(|error| invalid(&error))?;
        tracing::info!(code = %id, bytes = code.len(), took = ?began.elapsed(), "compiled");
        let compiled = self.link(&module).map(Arc::new)?;
        let image = module.image_range();
        let weight = (image.end as usize - image.start as usize + code.len()) as u64;
        lock(&self.cache).put(id, compiled.clone(), weight);
        Ok(compiled)
    }

    fn link(&self, module: &Module) -> Result<Code, Refused> {
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
            initialize: module.get_export_index(export::INITIALIZE),
            alloc: find(export::ALLOC)?,
            poll: find(export::POLL)?,
        };
        Ok(Code { pre, exports })
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
            })
        })
        .collect()
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
