//! Runs bundles in wasmtime.
//!
//! A [`Host`] compiles the code of bundles, runs each call in a fresh instance on worker threads,
//! in turn between keys, and holds it to limits. It serves a program that embeds it directly, and
//! others over QUIC through [`server`].
#![forbid(unsafe_code)]

mod background;
mod bundles;
mod callers;
mod checkpoints;
mod code;
mod compiler;
pub mod config;
mod damaged;
mod engine;
mod events;
mod grants;
mod guest;
mod host;
mod job;
mod keep;
mod limits;
mod places;
mod poll;
mod pools;
mod prepare;
mod random;
mod room;
mod run;
mod scheduler;
pub mod server;
mod session;
mod shelf;
mod snapshot;
pub mod store;
mod wasi;
mod weighted;
mod work;
mod writes;

pub use bundles::Loaded;
pub use callers::Caller;
pub use events::{Event, Finished, Outcome, Running};
pub use grants::{Allowed, Grants};
pub use host::{Host, Left, Request, Setup, StartError};
pub use job::{JobEvent, JobRequest, Watching};
pub use limits::{Limits, MEMORY_BYTES};
pub use session::{Saved, SessionRequest};
pub use shelf::{HeldFrom, Listed, Shelf, ShelfError, Shelved};

/// For `benches/`, which measures wasmtime alone as this crate sets it up.
#[doc(hidden)]
pub mod alone {
    /// The engine that a host of these limits compiles with and runs guests in.
    ///
    /// # Errors
    ///
    /// When wasmtime does not take the configuration or finds no address space.
    pub fn engine(limits: &crate::Limits) -> wasmtime::Result<wasmtime::Engine> {
        crate::engine::build(limits).map(|built| built.engine)
    }
}
