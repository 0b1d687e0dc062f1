//! wasmtime alone: the engine as a host sets it up, the same imports, and nothing else.
//!
//! Calls are synchronous: without a stack of their own to switch to, guests start sooner than on a
//! host, which must be able to suspend them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_abi::{IMPORT_MODULE, export, import, poll};
use wasmtime::{
    Engine, InstancePre, Linker, Memory, Module, ModuleExport, Result, Store, ensure, format_err,
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

/// Ticks before a guest would be interrupted: nobody ticks.
const NEVER: u64 = u64::MAX / 2;

/// What guests that look at nothing leave unopened, here as on a host.
#[derive(Default)]
pub(crate) struct World(Option<WasiP1Ctx>);

impl World {
    fn wasi(&mut self) -> &mut WasiP1Ctx {
        self.0
            .get_or_insert_with(|| WasiCtxBuilder::new().build_p1())
    }
}

/// The engine of a host with default limits.
pub(crate) fn engine() -> anyhow::Result<Engine> {
    own(spore_host::alone::engine(&spore_host::Limits::default()))
}

/// Compiles a module, and forgets it.
pub(crate) fn compile(engine: &Engine, code: &[u8]) -> anyhow::Result<()> {
    own(Module::new(engine, code)).map(drop)
}

/// wasmtime's error is no standard one.
fn own<T>(result: Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow::Error::from_boxed(error.into()))
}

/// One callable of a module, linked.
#[derive(Clone)]
pub(crate) struct Alone(Arc<Linked>);

/// An instance that has returned, still whole: taking it down is a part of some figures only.
pub(crate) struct Returned {
    _value: Bytes,
    _store: Store<World>,
}

impl Alone {
    pub(crate) fn new(engine: &Engine, code: &[u8], callable: &str) -> anyhow::Result<Alone> {
        own(Linked::new(engine, code, callable)).map(|linked| Alone(Arc::new(linked)))
    }

    /// Runs the callable in a fresh instance, by the ABI.
    pub(crate) fn run(&self, captures: &[u8], arguments: &[u8]) -> anyhow::Result<Returned> {
        own(self.0.run(captures, arguments))
    }

    /// Copies bytes into a fresh instance, and does no more.
    pub(crate) fn pass(&self, bytes: &[u8]) -> anyhow::Result<Store<World>> {
        own(self.0.pass(bytes))
    }

    /// Calls a second that `threads` threads make together, fresh instances all, for this long.
    pub(crate) fn rate(
        &self,
        arguments: &[u8],
        threads: usize,
        time: Duration,
    ) -> anyhow::Result<f64> {
        let count = AtomicU64::new(0);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                while began.elapsed() < time {
                    self.run(&[], arguments)?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut ended = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            ended.try_for_each(|ended| ended)
        })?;
        Ok(count.into_inner() as f64 / began.elapsed().as_secs_f64())
    }
}

struct Linked {
    engine: Engine,
    pre: InstancePre<World>,
    memory: ModuleExport,
    initialize: Option<ModuleExport>,
    alloc: ModuleExport,
    bind: ModuleExport,
    start: ModuleExport,
    poll: ModuleExport,
}

impl Linked {
    fn new(engine: &Engine, code: &[u8], callable: &str) -> Result<Linked> {
        let module = Module::new(engine, code)?;
        let mut linker: Linker<World> = Linker::new(engine);
        p1::add_to_linker_sync(&mut linker, World::wasi)?;
        linker.func_wrap(
            IMPORT_MODULE,
            import::PROGRESS,
            |_done: u64, _total: u64| {},
        )?;
        linker.func_wrap(IMPORT_MODULE, import::STOP_WANTED, || 0u32)?;
        let fault = |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {};
        linker.func_wrap(IMPORT_MODULE, import::FAULT, fault)?;
        let pre = linker.instantiate_pre(&module)?;
        let find = |name: &str| {
            let index = module.get_export_index(name);
            index.ok_or_else(|| format_err!("no export {name}"))
        };
        Ok(Linked {
            engine: engine.clone(),
            memory: find(export::MEMORY)?,
            initialize: module.get_export_index(export::INITIALIZE),
            alloc: find(export::ALLOC)?,
            bind: find(&format!("{}{callable}", export::BIND))?,
            start: find(&format!("{}{callable}", export::START))?,
            poll: find(export::POLL)?,
            pre,
        })
    }

    fn run(&self, captures: &[u8], arguments: &[u8]) -> Result<Returned> {
        let mut live = self.instance()?;
        let passed = live.pass(&self.alloc, captures)?;
        let handle: u32 = live.call(&self.bind, passed)?;
        let (ptr, len) = live.pass(&self.alloc, arguments)?;
        let task: u32 = live.call(&self.start, (handle, ptr, len))?;
        let record: u32 = live.call(&self.poll, task)?;
        Ok(Returned {
            _value: live.value(record)?,
            _store: live.store,
        })
    }

    fn pass(&self, bytes: &[u8]) -> Result<Store<World>> {
        let mut live = self.instance()?;
        live.pass(&self.alloc, bytes)?;
        Ok(live.store)
    }

    /// A fresh instance, initialised.
    fn instance(&self) -> Result<Live> {
        let mut store = Store::new(&self.engine, World::default());
        store.set_epoch_deadline(NEVER);
        let instance = self.pre.instantiate(&mut store)?;
        let memory = instance
            .get_module_export(&mut store, &self.memory)
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(|| format_err!("no memory"))?;
        let mut live = Live {
            store,
            instance,
            memory,
        };
        if let Some(initialize) = &self.initialize {
            live.call::<(), ()>(initialize, ())?;
        }
        Ok(live)
    }
}

struct Live {
    store: Store<World>,
    instance: wasmtime::Instance,
    memory: Memory,
}

impl Live {
    fn call<P, R>(&mut self, export: &ModuleExport, params: P) -> Result<R>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        let function = self
            .instance
            .get_module_export(&mut self.store, export)
            .and_then(wasmtime::Extern::into_func)
            .ok_or_else(|| format_err!("an export is not a function"))?;
        function
            .typed::<P, R>(&self.store)?
            .call(&mut self.store, params)
    }

    fn pass(&mut self, alloc: &ModuleExport, bytes: &[u8]) -> Result<(u32, u32)> {
        if bytes.is_empty() {
            return Ok((0, 0));
        }
        let len = u32::try_from(bytes.len())?;
        let ptr: u32 = self.call(alloc, (len, 1u32))?;
        ensure!(ptr != 0, "the guest has no room for {len} bytes");
        self.memory.write(&mut self.store, ptr as usize, bytes)?;
        Ok((ptr, len))
    }

    fn value(&self, record: u32) -> Result<Bytes> {
        let memory = self.memory.data(&self.store);
        let field = |at: usize| -> Result<u32> {
            let at = record as usize + at;
            let bytes = memory
                .get(at..at + 4)
                .ok_or_else(|| format_err!("no record"))?;
            Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        ensure!(field(0)? == poll::READY, "the guest was not ready");
        let start = field(4)? as usize;
        let value = memory.get(start..start + field(8)? as usize);
        Ok(Bytes::copy_from_slice(
            value.ok_or_else(|| format_err!("no value"))?,
        ))
    }
}
