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
//! # Runs that are stopped and continued
//!
//! A callable that is an `async fn` is *resumable*: at each [`checkpoint`], and while it [`sleep`]s,
//! its whole run is a block of memory, which a host can save, move to another host, and continue
//! there to the same result. [`join!`] and [`select!`] run several branches of it in turns.
//!
//! ```
//! use spore_guest::prelude::*;
//!
//! /// The sum of the first `count` numbers, slowly.
//! #[callable]
//! pub async fn sum(count: u64) -> u64 {
//!     let mut sum = 0;
//!     for n in 1..=count {
//!         sum += n;
//!         checkpoint().await;
//!     }
//!     sum
//! }
//! # fn main() {}
//! ```
//!
//! # Streams
//!
//! A callable that returns an iterator, or takes an [`Emitter`], sends items while it runs, each when
//! its caller is ready for it:
//!
//! ```
//! use spore_guest::prelude::*;
//!
//! /// The squares of all numbers from `first` on.
//! #[callable]
//! pub fn squares(first: u64) -> impl Iterator<Item = u64> {
//!     (first..).map(|n| n * n)
//! }
//! # fn main() {}
//! ```
//!
//! # What is done once
//!
//! [`init`] marks a function that runs before the first call, and whose work every instance begins
//! with; [`restored`] one that runs when an instance goes on from a saved image.
//!
//! The crate is to be known under its own name in the guest's `Cargo.toml`, since what the macro
//! expands to names it.

// Linking exports and calling the host cannot be done without unsafe code; `wasm` has all of it.
#![deny(unsafe_code)]

extern crate self as spore_guest;

mod branches;
mod describing;
mod emitter;
#[cfg(target_family = "wasm")]
mod executor;
mod handle;
#[cfg(not(target_family = "wasm"))]
pub mod native;
mod pauses;
#[cfg(target_family = "wasm")]
mod runtime;
#[cfg(target_family = "wasm")]
mod wasm;
#[cfg_attr(target_family = "wasm", path = "world/guest.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "world/native.rs")]
mod world;

pub use emitter::{Emit, Emitter};
pub use handle::{Handle, NoCaptures, Plain, Resumable, Streaming};
pub use pauses::{Checkpoint, Sleep, checkpoint, sleep};
pub use spore_abi::{Description, Grant};
pub use spore_guest_macros::{callable, init, restored};
pub use spore_value as value;
pub use spore_value::Value;

/// What most guests use: `use spore_guest::prelude::*`.
pub mod prelude {
    pub use crate::{
        Emitter, Value, callable, checkpoint, init, join, progress, restored, select, sleep,
    };
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
    pub use crate::branches::{Branch, Join, Nothing, Race, Raced};
    pub use crate::describing::Describing;
    #[cfg(target_family = "wasm")]
    pub use crate::executor::{emit_all, emit_all_of, resumable, streaming};
    #[cfg(target_family = "wasm")]
    pub use crate::runtime::{
        Outcome, arguments, bind, bind_consuming, consumed, describe, hook, lent, start,
        start_consuming,
    };
}
