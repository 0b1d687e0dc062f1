//! What the end-to-end tests share: guests, hosts that they run on, and a client that lies.
//!
//! - [`guests`]: the bundles of the crates in `guests/`, and [`module`]: modules that no compiler
//!   makes. [`lanes`]: some of them that calculate.
//! - [`local`]: a host that listens from a thread of the test; [`process`]: the `spore` command's.
//!   Both are reached over QUIC through their [`door`].
//! - [`damage`]: what becomes of the files of a process that was killed.
//! - [`kept`]: sessions and jobs as their owner sees them.
//! - [`relay`]: a way to a host that can be cut.
//! - [`peer`]: a client of the protocol that says what it is told to, in order or not.
//! - [`outcome`]: takes results apart, and waits for what must come true.
#![forbid(unsafe_code)]

pub mod damage;
pub mod door;
pub mod guests;
pub mod kept;
pub mod lanes;
pub mod local;
pub mod module;
pub mod outcome;
pub mod peer;
mod port;
pub mod process;
pub mod relay;

pub use door::Door;
pub use guests::{hostile, keeper, plain, resumer};
pub use local::Local;
pub use process::Process;
