//! One run of a callable in a fresh instance, by the ABI of `docs/ABI.md`.

use std::fmt::{self, Write};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use spore_abi::{fault, poll};
use spore_bundle::{CodeId, Image};
use spore_transport::RefusalCode;
use spore_transport::exchange::ITEM_BYTES_MAX_DEFAULT;
use spore_transport::failure::{BACKTRACE_FRAMES_MAX, BACKTRACE_NAME_BYTES_MAX, Failure, TrapCode};
use spore_transport::message::Refused;
use wasmtime::{
    Instance, Memory, ModuleExport, Store, Trap, WasmBacktrace, WasmParams, WasmResults,
};
use wasmtime_wasi::ResourceTableError;

use crate::code::{Code, Entry, Hook};
use crate::events::Outcome;
use crate::guest::{Fault, Guest, OutsideMemory, slice, slice_mut};
use crate::limits::RunLimits;
use crate::snapshot;

/// Ticks of the epoch clock before a guest lets others run.
const SLICE_TICKS: u64 = 1;

/// What a task says when it is polled.
pub(crate) enum Polled {
    /// It is ready: what came of it.
    Ended(Outcome),
    /// It is at a checkpoint.
    Yield,
    /// It sleeps until its monotonic clock shows this, in nanoseconds.
    Wait(u64),
    /// It has emitted an item.
    Item(Bytes),
}

/// What a run is made of.
pub(crate) struct Run<'a> {
    pub(crate) code: &'a Code,
    pub(crate) entry: &'a Entry,
    /// What to run before the captures are bound.
    pub(crate) hook: Option<&'a Hook>,
    /// The handle of captures that are bound already: the code begins with an image.
    pub(crate) bound: Option<u32>,
    /// The encoded captures, empty when the callable has none.
    pub(crate) captures: &'a Bytes,
    pub(crate) arguments: &'a Bytes,
    pub(crate) limits: RunLimits,
}

/// Runs a callable to its end. The store is fresh and is not used again.
///
/// Cancel-safe: dropping the future unwinds the guest.
pub(crate) async fn run(store: &mut Store<Guest>, run: &Run<'_>) -> Outcome {
    hold(store);
    let ended = drive(store, run).await;
    ended_as(store.data(), ended)
}

/// Holds what runs in the store to its limits, and to its time slices.
pub(crate) fn hold(store: &mut Store<Guest>) {
    store.limiter(|guest| &mut guest.memory);
    store.set_epoch_deadline(SLICE_TICKS);
    store.epoch_deadline_async_yield_and_update(SLICE_TICKS);
}

/// What it means to the caller that a guest ended so.
pub(crate) fn ended_as(guest: &Guest, ended: wasmtime::Result<Outcome>) -> Outcome {
    // However it ended: it did not see what it was granted, and may have panicked over that.
    if let Some(error) = guest.wasi_error.clone() {
        return refused(RefusalCode::GrantNotGiven, error);
    }
    ended.unwrap_or_else(|error| explain(guest, &error))
}

async fn drive(store: &mut Store<Guest>, run: &Run<'_>) -> wasmtime::Result<Outcome> {
    let mut guest = Live::enter(store, run.code).await?;
    guest.initialize().await?;
    match run.hook {
        Some(Hook::Init(init, code)) => guest.run_init(init, *code).await?,
        Some(Hook::Restored(restored)) => guest.run_hook(restored).await?,
        None => {}
    }
    let handle = match run.bound {
        Some(handle) => handle,
        None => guest.bind(run.entry, run.captures).await?,
    };
    let (_, outcome) = guest
        .call_callable(run.entry, handle, run.arguments, run.limits.result)
        .await?;
    Ok(outcome)
}

/// Lets others run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// An instance and the way into it.
pub(crate) struct Live<'a> {
    pub(crate) store: &'a mut Store<Guest>,
    pub(crate) instance: Instance,
    pub(crate) memory: Memory,
    pub(crate) code: &'a Code,
}

impl<'a> Live<'a> {
    /// A fresh instance. Nothing has run in it.
    pub(crate) async fn enter(
        store: &'a mut Store<Guest>,
        code: &'a Code,
    ) -> wasmtime::Result<Live<'a>> {
        let instance = code.pre.instantiate_async(&mut *store).await?;
        let memory = instance
            .get_module_export(&mut *store, &code.exports.memory)
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(|| wasmtime::Error::msg("no memory"))?;
        Ok(Live {
            store,
            instance,
            memory,
            code,
        })
    }

    /// Runs what runs before anything else.
    pub(crate) async fn initialize(&mut self) -> wasmtime::Result<()> {
        let exports = &self.code.exports;
        for function in [&exports.start, &exports.initialize].into_iter().flatten() {
            self.call::<(), ()>(function, ()).await?;
        }
        Ok(())
    }

    /// Puts an image into the instance, instead of what runs before anything else.
    pub(crate) async fn restore(&mut self, image: &Image) -> wasmtime::Result<()> {
        self.restore_over(image, None).await
    }

    /// The same where the memory of another image was put in before.
    pub(crate) async fn restore_over(
        &mut self,
        image: &Image,
        ahead: Option<&Image>,
    ) -> wasmtime::Result<()> {
        let (instance, memory) = (self.instance, self.memory);
        snapshot::restore(self.store, instance, memory, self.code, image, ahead).await
    }

    /// Binds captures, and gives their handle.
    pub(crate) async fn bind(&mut self, entry: &Entry, captures: &[u8]) -> wasmtime::Result<u32> {
        let (ptr, len) = self.pass(captures).await?;
        self.call(&entry.bind, (ptr, len)).await
    }

    /// Runs an initialiser of this code. It sees the same whatever the instance is for.
    pub(crate) async fn run_init(
        &mut self,
        hook: &ModuleExport,
        code: CodeId,
    ) -> wasmtime::Result<()> {
        let before = self.store.data_mut().turn_to_initialiser(code);
        let ran = self.run_hook(hook).await;
        self.store.data_mut().turn_back(before);
        ran
    }

    /// Runs a function that takes and gives nothing.
    pub(crate) async fn run_hook(&mut self, hook: &ModuleExport) -> wasmtime::Result<()> {
        self.call::<(), ()>(hook, ()).await
    }

    /// Starts a run and polls it to its end. Gives the task, which holds the outcome in the guest.
    /// Items go to the guest's caller as they come.
    pub(crate) async fn call_callable(
        &mut self,
        entry: &Entry,
        handle: u32,
        arguments: &[u8],
        result_max: u64,
    ) -> wasmtime::Result<(u32, Outcome)> {
        let task = self.start(entry, handle, arguments).await?;
        let mut items = 0;
        loop {
            match self.poll(entry, task, result_max).await? {
                Polled::Ended(outcome) => return Ok((task, outcome)),
                Polled::Yield => yield_now().await,
                Polled::Wait(until) => self.wait_until(until).await,
                Polled::Item(bytes) => {
                    let events = self.store.data().events.clone();
                    events.item(items, bytes).await;
                    items += 1;
                }
            }
        }
    }

    /// Starts a run, and gives its task.
    pub(crate) async fn start(
        &mut self,
        entry: &Entry,
        handle: u32,
        arguments: &[u8],
    ) -> wasmtime::Result<u32> {
        let (ptr, len) = self.pass(arguments).await?;
        self.call(&entry.start, (handle, ptr, len)).await
    }

    /// Runs a task until there is something to say of it.
    pub(crate) async fn poll(
        &mut self,
        entry: &Entry,
        task: u32,
        result_max: u64,
    ) -> wasmtime::Result<Polled> {
        let record: u32 = self.call(&self.code.exports.poll, task).await?;
        self.polled(entry, record, result_max)
    }

    /// Lets time pass until the guest's monotonic clock shows `until`, and moves it there.
    pub(crate) async fn wait_until(&mut self, until: u64) {
        let left = until.saturating_sub(self.store.data().clock_ns());
        tokio::time::sleep(Duration::from_nanos(left)).await;
        self.store.data().clock().move_to(until);
    }

    /// Ends a task.
    pub(crate) async fn drop_task(&mut self, task: u32) -> wasmtime::Result<()> {
        self.call(&self.code.exports.drop, task).await
    }

    /// Frees captures.
    pub(crate) async fn unbind(&mut self, handle: u32) -> wasmtime::Result<()> {
        self.call(&self.code.exports.unbind, handle).await
    }

    async fn call<P, R>(&mut self, export: &ModuleExport, params: P) -> wasmtime::Result<R>
    where
        P: WasmParams + Sync,
        R: WasmResults + Sync,
    {
        let function = self
            .instance
            .get_module_export(&mut *self.store, export)
            .and_then(wasmtime::Extern::into_func)
            .ok_or_else(|| wasmtime::Error::msg("an export is not a function"))?;
        function
            .typed::<P, R>(&mut *self.store)?
            .call_async(&mut *self.store, params)
            .await
    }

    /// Copies bytes into a buffer of the guest's.
    async fn pass(&mut self, bytes: &[u8]) -> wasmtime::Result<(u32, u32)> {
        if bytes.is_empty() {
            return Ok((0, 0));
        }
        let len = u32::try_from(bytes.len())?;
        let ptr: u32 = self.call(&self.code.exports.alloc, (len, 1u32)).await?;
        if ptr == 0 {
            return Err(NoRoom(len).into());
        }
        let buffer = slice_mut(self.memory.data_mut(&mut *self.store), ptr, len);
        buffer.ok_or(OutsideMemory)?.copy_from_slice(bytes);
        Ok((ptr, len))
    }

    /// Reads the poll record at `address`.
    fn polled(&self, entry: &Entry, address: u32, result_max: u64) -> wasmtime::Result<Polled> {
        let memory = self.memory.data(&*self.store);
        let record = slice(memory, address, poll::RECORD_BYTES as u32).ok_or(OutsideMemory)?;
        let field = |at: usize| {
            u32::from_le_bytes(
                record[at..at + 4]
                    .try_into()
                    .expect("four bytes of the record"),
            )
        };
        let (kind, ptr, len) = (field(0), field(4), field(8));
        match kind {
            poll::READY | poll::ERROR => {}
            poll::ITEM if entry.streams => {}
            poll::YIELD if entry.resumable => return Ok(Polled::Yield),
            poll::WAIT if entry.resumable => {
                let until = &record[16..24];
                let until = until.try_into().expect("eight bytes of the record");
                return Ok(Polled::Wait(u64::from_le_bytes(until)));
            }
            poll::CANCELLED if entry.resumable || entry.streams => {
                return Ok(Polled::Ended(refused(RefusalCode::Cancelled, "")));
            }
            _ => return Err(UnexpectedKind(kind).into()),
        }
        let (code, longest) = match kind {
            poll::ITEM => (
                RefusalCode::ItemTooLarge,
                result_max.min(ITEM_BYTES_MAX_DEFAULT),
            ),
            _ => (RefusalCode::ResultTooLarge, result_max),
        };
        if u64::from(len) > longest {
            let refused = Refused::new(code, "").past(longest, u64::from(len));
            return Ok(Polled::Ended(Outcome::Refused(refused)));
        }
        let bytes = Bytes::copy_from_slice(slice(memory, ptr, len).ok_or(OutsideMemory)?);
        Ok(match kind {
            poll::READY => Polled::Ended(Outcome::Value(bytes)),
            poll::ERROR => Polled::Ended(Outcome::Error(bytes)),
            _ => Polled::Item(bytes),
        })
    }
}

/// The guest's allocator gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("the guest has no room for {0} bytes")]
struct NoRoom(u32);

/// A task said what its callable does not do.
#[derive(Debug, thiserror::Error)]
#[error("poll record of kind {0}, which the callable does not have")]
struct UnexpectedKind(u32);

pub(crate) fn refused(code: RefusalCode, message: impl Into<String>) -> Outcome {
    Outcome::Refused(Refused::new(code, message))
}

/// Says what an error in a guest means to its caller.
fn explain(guest: &Guest, error: &wasmtime::Error) -> Outcome {
    if let Some(denied) = guest.memory.denied {
        let refused = Refused::new(RefusalCode::Memory, denied.what);
        return Outcome::Refused(refused.past(denied.limit, denied.asked));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        let refused = Refused::new(RefusalCode::TooManyFiles, "");
        return Outcome::Refused(refused.past(u64::from(guest.open_files()), None));
    }
    if let Some(Fault {
        kind,
        message,
        file,
        line,
    }) = &guest.fault
    {
        return match *kind {
            fault::CAPTURES => refused(RefusalCode::WrongCaptures, message),
            fault::ARGUMENTS => refused(RefusalCode::WrongArguments, message),
            fault::PANIC => Outcome::Failed(Failure::panic(message, file, *line)),
            other => refused(
                RefusalCode::AbiViolated,
                format!("fault of kind {other}: {message}"),
            ),
        };
    }
    if error.is::<OutsideMemory>() || error.is::<UnexpectedKind>() || error.is::<NoRoom>() {
        // Around it stands where in the guest that was.
        return refused(RefusalCode::AbiViolated, error.root_cause().to_string());
    }
    let trap = error.downcast_ref::<Trap>();
    let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>();
    let (code, message) = match (trap, exit) {
        (Some(trap), _) => (trap_code(*trap), String::new()),
        (None, Some(exit)) => (TrapCode::Exit, format!("with status {}", exit.0)),
        (None, None) => (TrapCode::Other, error.root_cause().to_string()),
    };
    Outcome::Failed(Failure::trap(code, message, backtrace(error)))
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let name = |frame: &wasmtime::FrameInfo| {
        let mut name = Name(String::new());
        // It fails once the name is long enough.
        let _ = match frame.func_name() {
            Some(found) => write!(name, "{:#}", rustc_demangle::demangle(found)),
            None => write!(name, "function {}", frame.func_index()),
        };
        name.0
    };
    let frames = backtrace.frames().iter();
    frames.take(BACKTRACE_FRAMES_MAX).map(name).collect()
}

/// A function's name, only as long as it may be: a mangled one may stand for a megabyte.
struct Name(String);

impl fmt::Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = BACKTRACE_NAME_BYTES_MAX - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

fn trap_code(trap: Trap) -> TrapCode {
    match trap {
        Trap::UnreachableCodeReached => TrapCode::Unreachable,
        Trap::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapCode::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapCode::IndirectCallToNull,
        Trap::BadSignature => TrapCode::BadSignature,
        Trap::IntegerOverflow => TrapCode::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapCode::DivisionByZero,
        Trap::BadConversionToInteger => TrapCode::BadConversion,
        Trap::StackOverflow => TrapCode::StackOverflow,
        _ => TrapCode::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_while_it_is_written() {
        let mut name = Name(String::new());
        write!(name, "a").expect("room");
        let long = "é".repeat(BACKTRACE_NAME_BYTES_MAX);
        write!(name, "{long}").expect_err("no room");
        assert_eq!(name.0.len(), BACKTRACE_NAME_BYTES_MAX - 1);
    }
}
