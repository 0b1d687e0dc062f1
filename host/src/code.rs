//! Compiled code, and bundles that are ready to run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spore_abi::export;
use spore_bundle::module::Item;
use spore_bundle::{AbiError, Bundle, CodeId, Interface, ModuleError, ModuleLimits};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport, Store};

use crate::guest::{self, Guest};
use crate::limits::Limits;
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
    engine: Engine,
    linker: Linker<Guest>,
    offered: HashSet<(String, String)>,
    limits: ModuleLimits,
    /// Memory of one guest, in bytes.
    memory: u64,
    cache: Mutex<Weighted<CodeId, Arc<Code>>>,
    /// Compilations under way; whoever wants the same code waits for the same cell.
    flights: Mutex<HashMap<CodeId, Arc<OnceCell<Compiled>>>>,
    /// Compilations at one time: as many as workers, so that memory for them is bounded.
    permits: Semaphore,
    background: Handle,
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
        Ok(Compiler {
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
            flights: Mutex::default(),
            permits: Semaphore::new(workers.max(1)),
            background,
        })
    }

    /// Compiles the bundle's code, waits while another call does, or finds it done. Also says how
    /// long that took; nothing when it was kept.
    ///
    /// Cancel-safe: whoever waits for the same code goes on with it.
    pub(crate) async fn load(&self, bundle: Bundle) -> Result<(Loaded, Duration), Refused> {
        let id = bundle.code_id();
        let kept = lock(&self.cache).get(&id);
        let (code, took) = match kept {
            Some(code) => (code, Duration::ZERO),
            None => self.compile(id, &bundle).await?,
        };
        // The module may be known from another bundle whose manifest names other callables.
        let module = code.pre.module();
        let entry = |name: &str| {
            let bind = module.get_export_index(&format!("{}{name}", export::BIND))?;
            let start = module.get_export_index(&format!("{}{name}", export::START))?;
            Some(Entry { bind, start })
        };
        let entries = bundle.manifest().callables.iter().map(|callable| {
            entry(&callable.name).ok_or_else(|| {
                Refused::new(
                    RefusalCode::AbiViolated,
                    format!("no exports for callable {}", callable.name),
                )
            })
        });
        let entries = entries.collect::<Result<_, _>>()?;
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
        let flight = lock(&self.flights).entry(id).or_default().clone();
        let compiled = flight
            .get_or_init(|| async { self.compile_here(bundle).await })
            .await
            .clone();
        if let Ok(code) = &compiled {
            let image = code.pre.module().image_range();
            let weight = (image.end as usize - image.start as usize + bundle.code().len()) as u64;
            lock(&self.cache).put(id, code.clone(), weight);
        }
        // A refusal is not kept: limits may change, and hostile code must not fill memory.
        lock(&self.flights).remove(&id);
        Ok((compiled?, began.elapsed()))
    }

    async fn compile_here(&self, bundle: &Bundle) -> Compiled {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let interface = Interface::read(bundle.code(), &self.limits).map_err(refuse_module)?;
        interface.check_abi(bundle.manifest()).map_err(refuse_abi)?;
        check_memory(&interface, self.memory)?;
        let missing = interface.imports_without(|module, name| {
            self.offered.contains(&(module.to_owned(), name.to_owned()))
        });
        if let Some(import) = missing.first() {
            return Err(Refused::new(
                RefusalCode::ImportNotOffered,
                import.to_string(),
            ));
        }
        let engine = self.engine.clone();
        let code = bundle.code().clone();
        let module = self
            .background
            .spawn_blocking(move || Module::new(&engine, &code))
            .await
            .map_err(|_| Refused::new(RefusalCode::Internal, "the compiler panicked"))?
            .map_err(|error| invalid(&error))?;
        self.link(&module).map(Arc::new)
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

    /// How much compiled code is kept: modules and bytes.
    pub(crate) fn cached(&self) -> (u64, u64) {
        let cache = lock(&self.cache);
        (cache.len() as u64, cache.weight())
    }
}

/// Refuses a module whose memory is too large from the start. The pool refuses it too, but as if
/// the module were invalid.
fn check_memory(interface: &Interface, limit: u64) -> Result<(), Refused> {
    let Some(Item::Memory(memory)) = interface.export(export::MEMORY) else { return Ok(()) };
    let bytes = memory.pages_min.saturating_mul(PAGE_BYTES);
    if bytes > limit {
        return Err(Refused::new(RefusalCode::Memory, "memory of one guest, bytes").past(limit, bytes));
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
