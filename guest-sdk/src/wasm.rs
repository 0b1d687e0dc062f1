//! The exports that all guests share, and the imports: where the host's numbers become memory.
//!
//! Every SAFETY reason here rests on the ABI: addresses, handles and tasks that the host passes
//! are ones that it was given and has not given back, and the host calls one export at a time. A
//! host that breaks this breaks only the guest's own memory, which is the host's to begin with.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use spore_abi::fault;

use crate::runtime::{Bound, Task};

mod host {
    #[link(wasm_import_module = "spore1")]
    unsafe extern "C" {
        pub(super) safe fn progress(done: u64, total: u64);
        pub(super) safe fn stop_wanted() -> u32;
        pub(super) fn fault(
            kind: u32,
            message: *const u8,
            message_len: usize,
            file: *const u8,
            file_len: usize,
            line: u32,
        );
    }
}

mod wasi {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    }
}

/// WASI's number of the monotonic clock.
const MONOTONIC: u32 = 1;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// A module that defines this itself and calls the constructors is linked as a library. Otherwise
/// the linker wraps each export in one that runs constructors and destructors at every call.
#[unsafe(export_name = "_initialize")]
extern "C" fn initialize() {
    // SAFETY: the host calls this once, before anything else, as constructors ask for.
    unsafe { __wasm_call_ctors() }
    std::panic::set_hook(Box::new(panicked));
}

#[unsafe(export_name = "spore1:alloc")]
extern "C" fn alloc(size: u32, align: u32) -> u32 {
    match Layout::from_size_align(size as usize, align as usize) {
        // SAFETY: the layout's size is not 0.
        Ok(layout) if size > 0 => unsafe { std::alloc::alloc(layout) }.expose_provenance() as u32,
        _ => 0,
    }
}

#[unsafe(export_name = "spore1:free")]
extern "C" fn free(ptr: u32, size: u32, align: u32) {
    if let Ok(layout) = Layout::from_size_align(size as usize, align as usize)
        && ptr != 0
        && size > 0
    {
        // SAFETY: the buffer came from `alloc` with this size and alignment.
        unsafe { std::alloc::dealloc(pointer(ptr), layout) }
    }
}

#[unsafe(export_name = "spore1:poll")]
extern "C" fn poll(task: u32) -> u32 {
    task_named(task).poll()
}

#[unsafe(export_name = "spore1:cancel")]
extern "C" fn cancel(task: u32) {
    task_named(task).cancel();
}

#[unsafe(export_name = "spore1:drop")]
extern "C" fn drop_task(task: u32) {
    // SAFETY: `give` made the number of a task, and the host forgets it now.
    drop(unsafe { Box::from_raw(pointer::<Task>(task)) });
}

#[unsafe(export_name = "spore1:unbind")]
extern "C" fn unbind(handle: u32) {
    // SAFETY: `give` made the number of bound captures, and the host forgets it now.
    drop(unsafe { Box::from_raw(pointer::<Bound>(handle)) });
}

/// The task that the host names.
fn task_named<'a>(task: u32) -> &'a mut Task {
    // SAFETY: `give` made the number of a task; no other call into the guest is running, so that
    // no other reference to it exists.
    unsafe { &mut *pointer::<Task>(task) }
}

/// Puts a value where the host can name it by a number.
pub(crate) fn give<T>(value: T) -> u32 {
    Box::into_raw(Box::new(value)).expose_provenance() as u32
}

/// The captures that the host names.
pub(crate) fn lent<'a>(handle: u32) -> &'a Bound {
    // SAFETY: `give` made the number of bound captures, which only `unbind` ends, and that not
    // while this call runs.
    unsafe { &*pointer::<Bound>(handle) }
}

/// The bytes that the host passes on.
pub(crate) fn taken(ptr: u32, len: u32) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    // SAFETY: the buffer came from `alloc(len, 1)`, which is how a vector of this capacity
    // allocates; the host has written all of it and uses it no more.
    unsafe { Vec::from_raw_parts(pointer(ptr), len as usize, len as usize) }
}

/// Tells the host how far the call is.
pub(crate) fn progress(done: u64, total: u64) {
    host::progress(done, total);
}

/// Whether the host wants the run to stop here.
pub(crate) fn stop_wanted() -> bool {
    host::stop_wanted() != 0
}

/// Nanoseconds of the monotonic clock, which `Instant` does not tell.
pub(crate) fn monotonic_clock() -> u64 {
    let mut time = 0;
    // SAFETY: the host writes the time, and only there.
    let errno = unsafe { wasi::clock_time_get(MONOTONIC, 1, &raw mut time) };
    assert_eq!(errno, 0, "there is a monotonic clock");
    time
}

/// Gives out what the standard library holds back after the last line. It does so itself only when
/// a program exits, which a guest never does. That nobody hears it is no error.
pub(crate) fn flush_output() {
    let _ = std::io::stdout().flush();
}

/// Tells the host why the guest ends, and ends it.
pub(crate) fn fault(kind: u32, message: &str, file: &str, line: u32) -> ! {
    flush_output();
    // SAFETY: the host only reads, and only what both strings hold.
    unsafe {
        host::fault(
            kind,
            message.as_ptr(),
            message.len(),
            file.as_ptr(),
            file.len(),
            line,
        );
    }
    core::arch::wasm32::unreachable()
}

fn panicked(info: &PanicHookInfo<'_>) {
    let message = info
        .payload_as_str()
        .unwrap_or("the panic's value is not text");
    let (file, line) = info
        .location()
        .map_or(("", 0), |place| (place.file(), place.line()));
    fault(fault::PANIC, message, file, line);
}

fn pointer<T>(address: u32) -> *mut T {
    std::ptr::with_exposed_provenance_mut(address as usize)
}
