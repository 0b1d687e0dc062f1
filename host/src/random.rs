//! WASI's `random_get`: where the random bytes of a guest come from.
//!
//! wasmtime's own makes up to 64 MiB in memory of the host's, which no limit counts, and holds the
//! worker meanwhile; only then does it look whether the guest has room for them. This one writes
//! into the guest's memory, and lets others run in between.

use rand_chacha::rand_core::Rng;
use wasmtime::{Caller, Linker};

use crate::guest::{Guest, memory_of, slice_mut};

/// Bytes that are made before others may run. They take less than a time slice.
const PIECE_BYTES: usize = 64 << 10;

// Numbers of `errno`.
const SUCCESS: u32 = 0;
const FAULT: u32 = 21;

/// Replaces the one that the linker has.
///
/// # Errors
///
/// When the linker does not allow it.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        "wasi_snapshot_preview1",
        "random_get",
        |mut caller: Caller<'_, Guest>, (address, len): (u32, u32)| {
            Box::new(async move {
                let memory = memory_of(&mut caller)?;
                let mut made = 0;
                loop {
                    let (memory, guest) = memory.data_and_store_mut(&mut caller);
                    let Some(room) = slice_mut(memory, address, len) else {
                        return Ok(FAULT);
                    };
                    let room = &mut room[made..];
                    let piece = room.len().min(PIECE_BYTES);
                    let generator = guest.random();
                    for byte in &mut room[..piece] {
                        // Each byte takes a word of its own: the rule of docs/ABI.md.
                        *byte = generator.next_u32() as u8;
                    }
                    made += piece;
                    if piece == room.len() {
                        return Ok(SUCCESS);
                    }
                    tokio::task::yield_now().await;
                }
            })
        },
    )?;
    Ok(())
}
