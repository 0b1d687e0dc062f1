//! What guests link: callables, their values, and the ABI on the guest's side.
//!
//! A guest is an ordinary library crate, built for `wasm32-wasip1`:
//!
//! ```
//! use spore_guest::prelude::*;
//!
//! /// `x` times the captured factor.
//! #[callable]
//! pub fn scale(#[capture] factor: f64, x: f64) -> f64 {
//!     factor * x
//! }
//! # fn main() {}
//! ```
//!
//! [`callable`] exports the function for hosts, by the ABI that `docs/ABI.md` specifies. Compiled
//! for any other target the same crate gives a program a typed [`Handle`], here `scale::HANDLE`, and
//! the function can be called directly. Values are what implements [`Value`]; one derive makes a
//! type one.
//!
//! What a guest prints reaches the caller while the call runs, line by line, and so does
//! [`progress`]; what follows the last line does when the call ends, also by a panic. A panic reaches
//! the caller as message, file and line.
//!
//! The crate is to be known under its own name in the guest's `Cargo.toml`, since what the macro
//! expands to names it.

// Linking exports and calling the host cannot be done without unsafe code; `wasm` has all of it.
#![deny(unsafe_code)]

extern crate self as spore_guest;

mod describing;
mod handle;
#[cfg(target_family = "wasm")]
mod runtime;
#[cfg(target_family = "wasm")]
mod wasm;

pub use handle::{Handle, NoCaptures};
pub use spore_abi::{Description, Grant};
pub use spore_guest_macros::callable;
pub use spore_value as value;
pub use spore_value::Value;

/// What most guests use: `use spore_guest::prelude::*`.
pub mod prelude {
    pub use crate::{Value, callable, progress};
}

/// Tells the caller how far the call is.
///
/// `done` of `total` steps, in any unit; a `total` of 0 says that it is not known. The caller may
/// see fewer of them than were told. In a native program it does nothing.
pub fn progress(done: u64, total: u64) {
    #[cfg(target_family = "wasm")]
    wasm::progress(done, total);
    #[cfg(not(target_family = "wasm"))]
    let _ = (done, total);
}

/// What [`callable`] expands to calls. No part of the crate's interface.
#[doc(hidden)]
pub mod __rt {
    pub use crate::describing::Describing;
    #[cfg(target_family = "wasm")]
    pub use crate::runtime::{Outcome, bind, bind_consuming, describe, start, start_consuming};
}
