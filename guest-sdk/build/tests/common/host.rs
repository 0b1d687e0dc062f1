//! The smallest host: follows docs/ABI.md in an interpreter, for guests that behave.
#![allow(dead_code, reason = "each test file uses its own part")]

use spore_abi::{export, fault, import, poll};
use wasmi::{Caller, Engine, Error, ExternType, Instance, Linker, Memory, Module, Store};

/// What a poll tells, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ready(Vec<u8>),
    Error(Vec<u8>),
    Yield,
    Wait(u64),
    Item(Vec<u8>),
    Cancelled,
    Fault {
        kind: u32,
        message: String,
        file: String,
        line: u32,
    },
}

/// A live instance.
pub(crate) struct Guest {
    linker: Linker<Seen>,
    module: Module,
    store: Store<Seen>,
    instance: Instance,
    memory: Memory,
}

/// What the guest told its host, and what the host answers.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) progress: Vec<(u64, u64)>,
    pub(crate) output: String,
    /// How often it asked whether to stop.
    pub(crate) checkpoints: u64,
    /// It is to stop each time that it has asked so often; never when 0.
    pub(crate) stop_every: u64,
    /// What the monotonic clock shows.
    pub(crate) clock: u64,
    fault: Option<Outcome>,
}

impl Guest {
    pub(crate) fn new(code: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, code).expect("guests are valid");
        let mut linker = Linker::<Seen>::new(&engine);
        let wasi = spore_abi::WASI_MODULE;
        linker
            .func_wrap(wasi, "random_get", |_: u32, _: u32| 0u32)
            .expect("it is defined once");
        linker
            .func_wrap(wasi, "clock_time_get", clock_time_get)
            .expect("it is defined once");
        linker
            .func_wrap(wasi, "fd_write", fd_write)
            .expect("it is defined once");
        for import in module.imports() {
            let ExternType::Func(ty) = import.ty() else {
                panic!("{} is no function", import.name())
            };
            // None of the guests of these tests needs more of WASI to end well.
            let offered = ["random_get", "clock_time_get", "fd_write"];
            if import.module() == wasi && !offered.contains(&import.name()) {
                linker
                    .func_new(import.module(), import.name(), ty.clone(), |_, _, _| {
                        Err(Error::new("no WASI here"))
                    })
                    .expect("imports have names of their own");
            }
        }
        linker
            .func_wrap(
                spore_abi::IMPORT_MODULE,
                import::PROGRESS,
                |mut caller: Caller<'_, Seen>, done: u64, total: u64| {
                    caller.data_mut().progress.push((done, total));
                },
            )
            .expect("it is defined once");
        linker
            .func_wrap(spore_abi::IMPORT_MODULE, import::FAULT, faulted)
            .expect("it is defined once");
        linker
            .func_wrap(
                spore_abi::IMPORT_MODULE,
                import::STOP_WANTED,
                |mut caller: Caller<'_, Seen>| {
                    let seen = caller.data_mut();
                    seen.checkpoints += 1;
                    let stops = seen.checkpoints.is_multiple_of(seen.stop_every);
                    u32::from(stops)
                },
            )
            .expect("it is defined once");
        let seen = Seen {
            progress: Vec::new(),
            output: String::new(),
            checkpoints: 0,
            stop_every: 0,
            clock: 1_000_000_000_000,
            fault: None,
        };
        let mut guest = Self::instance(linker, module, seen);
        guest.call0(export::INITIALIZE, ());
        guest
    }

    fn instance(linker: Linker<Seen>, module: Module, seen: Seen) -> Self {
        let mut store = Store::new(module.engine(), seen);
        let instance = linker
            .instantiate_and_start(&mut store, &module)
            .expect("imports are there");
        let memory = instance
            .get_memory(&store, export::MEMORY)
            .expect("guests have memory");
        Self {
            linker,
            module,
            store,
            instance,
            memory,
        }
    }

    /// A fresh instance with this one's memory and nothing else of it. It is not initialised again.
    pub(crate) fn moved(&self) -> Self {
        let seen = self.store.data().clone();
        let mut moved = Self::instance(self.linker.clone(), self.module.clone(), seen);
        let more = self.pages() - moved.pages();
        moved
            .memory
            .grow(&mut moved.store, more)
            .expect("the other has as much");
        let memory = moved.memory.data_mut(&mut moved.store);
        memory.copy_from_slice(self.memory.data(&self.store));
        moved
    }

    pub(crate) fn seen(&self) -> &Seen {
        self.store.data()
    }

    pub(crate) fn seen_mut(&mut self) -> &mut Seen {
        self.store.data_mut()
    }

    /// Pages of memory, of 64 KiB.
    pub(crate) fn pages(&self) -> u64 {
        self.memory.size(&self.store)
    }

    pub(crate) fn memory(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.instance.get_export(&self.store, name).is_some()
    }

    /// Binds, starts, polls, drops and unbinds.
    pub(crate) fn run(&mut self, name: &str, captures: &[u8], arguments: &[u8]) -> Outcome {
        match self.bind(name, captures) {
            Ok(handle) => {
                let outcome = self.start_and_poll(name, handle, arguments);
                if !matches!(outcome, Outcome::Fault { .. }) {
                    self.call0(export::UNBIND, handle);
                }
                outcome
            }
            Err(fault) => fault,
        }
    }

    pub(crate) fn bind(&mut self, name: &str, captures: &[u8]) -> Result<u32, Outcome> {
        let (ptr, len) = self.pass(captures);
        self.call(&format!("{}{name}", export::BIND), (ptr, len))
    }

    pub(crate) fn start_and_poll(&mut self, name: &str, handle: u32, arguments: &[u8]) -> Outcome {
        match self.start(name, handle, arguments) {
            Ok(task) => {
                let outcome = self.poll(task);
                if !matches!(outcome, Outcome::Fault { .. }) {
                    self.call0(export::DROP, task);
                }
                outcome
            }
            Err(fault) => fault,
        }
    }

    pub(crate) fn start(
        &mut self,
        name: &str,
        handle: u32,
        arguments: &[u8],
    ) -> Result<u32, Outcome> {
        let (ptr, len) = self.pass(arguments);
        self.call(&format!("{}{name}", export::START), (handle, ptr, len))
    }

    pub(crate) fn poll(&mut self, task: u32) -> Outcome {
        let record = match self.call(export::POLL, (task,)) {
            Ok(record) => record,
            Err(fault) => return fault,
        };
        assert_eq!(record % 8, 0, "poll records are aligned");
        let record = self.read(record, poll::RECORD_BYTES as u32);
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("4 bytes"));
        assert_eq!(word(12), 0);
        let until = u64::from_le_bytes(record[16..].try_into().expect("8 bytes"));
        assert!(until == 0 || word(0) == poll::WAIT);
        let bytes = self.read(word(4), word(8));
        match word(0) {
            poll::READY => Outcome::Ready(bytes),
            poll::ERROR => Outcome::Error(bytes),
            poll::ITEM => Outcome::Item(bytes),
            kind => {
                assert!(bytes.is_empty(), "records of kind {kind} have no bytes");
                match kind {
                    poll::YIELD => Outcome::Yield,
                    poll::WAIT => Outcome::Wait(until),
                    poll::CANCELLED => Outcome::Cancelled,
                    _ => panic!("there is no kind {kind}"),
                }
            }
        }
    }

    /// Calls an export that returns nothing.
    pub(crate) fn call0<P: wasmi::WasmParams>(&mut self, name: &str, params: P) {
        self.instance
            .get_typed_func::<P, ()>(&self.store, name)
            .and_then(|function| function.call(&mut self.store, params))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(crate) fn alloc(&mut self, size: u32, align: u32) -> u32 {
        self.call(export::ALLOC, (size, align))
            .expect("allocating does not trap")
    }

    pub(crate) fn free(&mut self, ptr: u32, size: u32, align: u32) {
        self.call0(export::FREE, (ptr, size, align));
    }

    fn pass(&mut self, bytes: &[u8]) -> (u32, u32) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let len = u32::try_from(bytes.len()).expect("tests pass little");
        let ptr = self.alloc(len, 1);
        self.memory
            .write(&mut self.store, ptr as usize, bytes)
            .expect("it was allocated");
        (ptr, len)
    }

    fn read(&self, ptr: u32, len: u32) -> Vec<u8> {
        self.memory.data(&self.store)[ptr as usize..][..len as usize].to_vec()
    }

    fn call<P: wasmi::WasmParams>(&mut self, name: &str, params: P) -> Result<u32, Outcome> {
        let function = self
            .instance
            .get_typed_func::<P, u32>(&self.store, name)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        function.call(&mut self.store, params).map_err(|error| {
            self.store
                .data_mut()
                .fault
                .take()
                .unwrap_or_else(|| panic!("{name}: {error}"))
        })
    }
}

fn clock_time_get(mut caller: Caller<'_, Seen>, clock: u32, _: u64, place: u32) -> u32 {
    assert_eq!(clock, 1, "no test asks for another clock");
    let now = caller.data().clock.to_le_bytes();
    write(&mut caller, place, &now);
    0
}

fn fd_write(mut caller: Caller<'_, Seen>, _: u32, buffers: u32, count: u32, place: u32) -> u32 {
    let mut written = 0;
    for buffer in (0..count).map(|index| buffers + 8 * index) {
        let [ptr, len] = [buffer, buffer + 4].map(|place| {
            let bytes = read(&caller, place, 4);
            u32::from_le_bytes(bytes.try_into().expect("4 bytes"))
        });
        let text = String::from_utf8(read(&caller, ptr, len)).expect("tests write text");
        caller.data_mut().output.push_str(&text);
        written += len;
    }
    write(&mut caller, place, &written.to_le_bytes());
    0
}

fn memory_of(caller: &Caller<'_, Seen>) -> Memory {
    caller
        .get_export(export::MEMORY)
        .and_then(|export| export.into_memory())
        .expect("guests have memory")
}

fn read(caller: &Caller<'_, Seen>, ptr: u32, len: u32) -> Vec<u8> {
    memory_of(caller).data(caller)[ptr as usize..][..len as usize].to_vec()
}

fn write(caller: &mut Caller<'_, Seen>, ptr: u32, bytes: &[u8]) {
    let memory = memory_of(caller).data_mut(caller);
    memory[ptr as usize..][..bytes.len()].copy_from_slice(bytes);
}

fn faulted(
    mut caller: Caller<'_, Seen>,
    kind: u32,
    message: u32,
    message_len: u32,
    file: u32,
    file_len: u32,
    line: u32,
) {
    let text = |ptr: u32, len: u32| {
        String::from_utf8(read(&caller, ptr, len)).expect("messages are UTF-8")
    };
    let (message, file) = (text(message, message_len), text(file, file_len));
    assert!([fault::PANIC, fault::CAPTURES, fault::ARGUMENTS].contains(&kind));
    caller.data_mut().fault = Some(Outcome::Fault {
        kind,
        message,
        file,
        line,
    });
}
