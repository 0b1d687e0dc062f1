//! The guest that is measured: callables that do next to nothing, so that what is measured is not
//! theirs.
#![forbid(unsafe_code)]

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
