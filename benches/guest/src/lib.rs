//! The guest that is measured: callables that do next to nothing, so that what is measured is not
//! theirs.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard};

use spore_guest::prelude::*;

/// The bytes given.
#[callable]
pub fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// How many bytes were captured, with `at` added.
#[callable]
pub fn length(#[capture] bytes: &[u8], at: u64) -> u64 {
    bytes.len() as u64 + at
}

static FILLED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Fills so many bytes with what no other `salt` gives.
#[callable]
pub fn fill(bytes: u32, salt: u32) {
    *filled_bytes() = vec![0; bytes as usize];
    write(bytes as usize, salt);
}

/// Fills the first of these bytes again.
#[callable]
pub fn fill_begin(bytes: u32, salt: u32) {
    write(bytes as usize, salt);
}

/// How many bytes are filled.
#[callable]
pub fn filled() -> u32 {
    filled_bytes().len() as u32
}

/// Writes to so many pages of 4 KiB: of those that are filled, or of new ones.
#[callable]
pub fn touch(pages: u32) -> u32 {
    let mut bytes = filled_bytes();
    let length = pages as usize * PAGE_BYTES;
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
    for page in bytes.chunks_exact_mut(PAGE_BYTES).take(pages as usize) {
        page[0] ^= 1;
    }
    pages
}

/// Goes from checkpoint to checkpoint.
#[callable]
pub async fn rounds(count: u32) -> u32 {
    for _ in 0..count {
        checkpoint().await;
    }
    count
}

/// Fills so many bytes, and then writes to the first so many of its pages before each checkpoint, and
/// says so right behind it, until it is cancelled.
#[callable]
pub async fn roam(bytes: u32, pages: u32) {
    fill(bytes, 1);
    for round in 1.. {
        for page in filled_bytes()
            .chunks_exact_mut(PAGE_BYTES)
            .take(pages as usize)
        {
            page[0] = page[0].wrapping_add(1);
        }
        checkpoint().await;
        progress(round, 0);
    }
}

const PAGE_BYTES: usize = 4096;

fn filled_bytes() -> MutexGuard<'static, Vec<u8>> {
    FILLED.lock().expect("calls come one by one")
}

/// Numbers that differ in each page, and from one `salt` to another.
fn write(bytes: usize, salt: u32) {
    let mut state = u64::from(salt) | 1 << 40;
    for piece in filled_bytes()[..bytes].chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes());
    }
}
