//! Captures, tasks and descriptions in a guest. `wasm` makes addresses of them and back.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use spore_abi::{Description, fault, poll};
use spore_value::limits::{ELEMENTS_MAX_DEFAULT, WORK_MAX_DEFAULT};
use spore_value::{Limits, Value, codec};

use crate::wasm;

/// Captures behind a handle. The tasks started from them share them.
pub(crate) struct Bound(Rc<dyn Any>);

/// A run of a callable, as the host knows it.
pub(crate) struct Task {
    /// What is left to do
    run: Option<Box<dyn Run>>,
    /// What the host was told last. It reads the bytes, so they stay until it polls again.
    told: Outcome,
}

/// What is left to do of a run. It is dropped once it has told an outcome that is the last.
pub(crate) trait Run {
    /// Goes on until there is something to tell.
    fn poll(&mut self) -> Outcome;
    /// Asks it to end.
    fn cancel(&mut self);
}

/// A synchronous run, which tells one outcome.
impl<F: FnOnce() -> Outcome> Run for Option<F> {
    fn poll(&mut self) -> Outcome {
        let run = self
            .take()
            .expect("a run is dropped after its last outcome");
        run()
    }

    /// It ends at its first poll, so that there is nothing to ask of it.
    fn cancel(&mut self) {}
}

/// What there is to tell of a run.
pub struct Outcome {
    kind: u32,
    bytes: Vec<u8>,
    until: u64,
}

impl Outcome {
    /// A value that was returned.
    pub fn of_value<R: Value>(value: R) -> Self {
        Self::new(poll::READY, encoded(&value))
    }

    /// A result that was returned.
    pub fn of_result<R: Value, E: Value>(result: Result<R, E>) -> Self {
        match result {
            Ok(value) => Self::of_value(value),
            Err(error) => Self::new(poll::ERROR, encoded(&error)),
        }
    }

    /// One that is told with these bytes.
    pub(crate) fn new(kind: u32, bytes: Vec<u8>) -> Self {
        Self {
            kind,
            bytes,
            until: 0,
        }
    }

    /// The run sleeps until then.
    pub(crate) fn wait(until: u64) -> Self {
        Self {
            until,
            ..Self::new(poll::WAIT, Vec::new())
        }
    }

    /// Whether nothing comes after it.
    fn is_last(&self) -> bool {
        matches!(self.kind, poll::READY | poll::ERROR | poll::CANCELLED)
    }
}

/// Decodes captures for runs that only look at them.
pub fn bind<C: Value + 'static>(ptr: u32, len: u32) -> u32 {
    let captures: C = decoded(fault::CAPTURES, &wasm::taken(ptr, len));
    wasm::give(Bound(Rc::new(captures)))
}

/// Decodes captures for one run that uses them up.
pub fn bind_consuming<C: Value + 'static>(ptr: u32, len: u32) -> u32 {
    let captures: C = decoded(fault::CAPTURES, &wasm::taken(ptr, len));
    wasm::give(Bound(Rc::new(Cell::new(Some(captures)))))
}

/// Decodes arguments, and makes a task of calling `run` with what [`bind`] decoded.
pub fn start<C: 'static, A: Value + 'static>(
    handle: u32,
    ptr: u32,
    len: u32,
    run: fn(&C, A) -> Outcome,
) -> u32 {
    let captures: Rc<C> = lent(handle);
    let arguments: A = arguments(ptr, len);
    task(Some(move || run(&captures, arguments)))
}

/// Decodes arguments, and makes a task of calling `run` with what [`bind_consuming`] decoded.
pub fn start_consuming<C: 'static, A: Value + 'static>(
    handle: u32,
    ptr: u32,
    len: u32,
    run: fn(C, A) -> Outcome,
) -> u32 {
    let captures: C = consumed(handle);
    let arguments: A = arguments(ptr, len);
    task(Some(move || run(captures, arguments)))
}

/// What [`bind`] decoded.
pub fn lent<C: 'static>(handle: u32) -> Rc<C> {
    let bound: &Bound = wasm::lent(handle);
    Rc::downcast(Rc::clone(&bound.0)).expect("the handle is one of this callable")
}

/// What [`bind_consuming`] decoded.
pub fn consumed<C: 'static>(handle: u32) -> C {
    let captures: Rc<Cell<Option<C>>> = lent(handle);
    captures
        .take()
        .expect("captures that a run consumes are started from once")
}

/// Decodes arguments.
pub fn arguments<A: Value>(ptr: u32, len: u32) -> A {
    decoded(fault::ARGUMENTS, &wasm::taken(ptr, len))
}

/// Runs a function that is no callable.
pub fn hook(function: fn()) {
    function();
    wasm::flush_output();
}

/// Encodes a description. Returns the address of its address and length.
pub fn describe(description: Description) -> u32 {
    static RECORD: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
    // `expect` would put the `Debug` of every error into every guest.
    let Ok(bytes) = codec::encode_serde(&description) else {
        panic!("a description is nested too deep");
    };
    let bytes: &'static [u8] = bytes.leak();
    RECORD[0].store(address(bytes.as_ptr()), Relaxed);
    RECORD[1].store(length(bytes), Relaxed);
    address(&raw const RECORD)
}

/// A poll record, laid out as the ABI has it. Atomics are plain stores in a guest, which has one
/// thread, and spare unsafe code.
#[repr(C, align(8))]
struct Record {
    kind: AtomicU32,
    ptr: AtomicU32,
    len: AtomicU32,
    zero: AtomicU32,
    until: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == poll::RECORD_BYTES);

impl Task {
    /// Runs the task until there is something to tell, or tells the last again. Returns the address
    /// of the poll record.
    pub(crate) fn poll(&mut self) -> u32 {
        static RECORD: Record = Record {
            kind: AtomicU32::new(poll::READY),
            ptr: AtomicU32::new(0),
            len: AtomicU32::new(0),
            zero: AtomicU32::new(0),
            until: AtomicU64::new(0),
        };
        if let Some(run) = &mut self.run {
            self.told = run.poll();
            if self.told.is_last() {
                self.run = None;
            }
            // The others come when the guest says so, and a yield when the host does: a run that was
            // stopped would give out what one that was not holds back.
            if self.told.kind != poll::YIELD {
                wasm::flush_output();
            }
        }
        RECORD.kind.store(self.told.kind, Relaxed);
        RECORD.ptr.store(address(self.told.bytes.as_ptr()), Relaxed);
        RECORD.len.store(length(&self.told.bytes), Relaxed);
        RECORD.until.store(self.told.until, Relaxed);
        address(&raw const RECORD)
    }

    /// Asks the run to end.
    pub(crate) fn cancel(&mut self) {
        if let Some(run) = &mut self.run {
            run.cancel();
        }
    }
}

pub(crate) fn task(run: impl Run + 'static) -> u32 {
    wasm::give(Task {
        run: Some(Box::new(run)),
        told: Outcome::new(poll::READY, Vec::new()),
    })
}

pub(crate) fn encoded<T: Value>(value: &T) -> Vec<u8> {
    match codec::encode(value) {
        Ok(bytes) => bytes,
        Err(error) => panic!("the value returned cannot be encoded: {error}"),
    }
}

/// Decodes what the host passed, or ends the guest.
fn decoded<T: Value>(what: u32, bytes: &[u8]) -> T {
    match codec::decode(bytes, &limits(bytes.len() as u64)) {
        Ok(value) => value,
        Err(error) => wasm::fault(what, &error.to_string(), "", 0),
    }
}

/// The host has bounded the bytes already and bounds memory and time, so these only keep a few
/// bytes from claiming much: whatever takes a byte or more for each element passes.
fn limits(bytes: u64) -> Limits {
    Limits::default()
        .with_bytes(bytes)
        .with_elements(bytes.max(ELEMENTS_MAX_DEFAULT))
        .with_work(bytes.saturating_mul(4).max(WORK_MAX_DEFAULT))
}

fn address<T>(ptr: *const T) -> u32 {
    ptr.addr() as u32
}

fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}
