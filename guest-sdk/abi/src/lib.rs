//! The names and numbers that guests and hosts share. `docs/ABI.md` specifies them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use spore_value::Signature;

/// Version of the ABI, as manifests record it.
pub const ABI_VERSION: u32 = 1;

/// The module that Spore's imports come from.
pub const IMPORT_MODULE: &str = "spore1";
/// The module that WASI's imports come from.
pub const WASI_MODULE: &str = "wasi_snapshot_preview1";

/// Names of exports. Those that end in `/` are followed by the name of a callable, unless they say
/// otherwise.
pub mod export {
    /// The guest's memory
    pub const MEMORY: &str = "memory";
    /// Called once, before anything else
    pub const INITIALIZE: &str = "_initialize";
    /// Followed by a name: `()`, what every instance begins with
    pub const INIT: &str = "spore1:init/";
    /// Followed by a name: `()`, what a restored instance goes on with
    pub const RESTORED: &str = "spore1:restored/";
    /// `(size, align) → ptr`
    pub const ALLOC: &str = "spore1:alloc";
    /// `(ptr, size, align)`
    pub const FREE: &str = "spore1:free";
    /// `(ptr, len) → handle`
    pub const BIND: &str = "spore1:bind/";
    /// `(handle, ptr, len) → task`
    pub const START: &str = "spore1:start/";
    /// `(task) → record`
    pub const POLL: &str = "spore1:poll";
    /// `(task)`
    pub const CANCEL: &str = "spore1:cancel";
    /// `(task)`
    pub const DROP: &str = "spore1:drop";
    /// `(handle)`
    pub const UNBIND: &str = "spore1:unbind";
    /// `() → record`
    pub const DESCRIBE: &str = "spore1:describe/";
}

/// Names of imports.
pub mod import {
    /// `(done, total)`
    pub const PROGRESS: &str = "progress";
    /// `(kind, message_ptr, message_len, file_ptr, file_len, line)`
    pub const FAULT: &str = "fault";
    /// `() → 0 or 1`
    pub const STOP_WANTED: &str = "stop_wanted";
}

/// Kinds of poll records.
pub mod poll {
    /// Size of a poll record, in bytes.
    pub const RECORD_BYTES: usize = 24;
    /// The value returned
    pub const READY: u32 = 0;
    /// The guest's own error
    pub const ERROR: u32 = 1;
    /// Poll again, in turn
    pub const YIELD: u32 = 2;
    /// Poll again at a time
    pub const WAIT: u32 = 3;
    /// One item of a stream
    pub const ITEM: u32 = 4;
    /// The task was cancelled before it was ready
    pub const CANCELLED: u32 = 5;
}

/// Kinds of faults.
pub mod fault {
    /// The guest panicked
    pub const PANIC: u32 = 1;
    /// The captures could not be decoded
    pub const CAPTURES: u32 = 2;
    /// The arguments could not be decoded
    pub const ARGUMENTS: u32 = 3;
    /// Longest message a host keeps, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 4096;
    /// Longest file name a host keeps, in bytes.
    pub const FILE_BYTES_MAX: usize = 512;
}

/// What a guest says of one of its callables, and a manifest keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Crate-qualified, as in the exports.
    pub name: String,
    /// The documentation comment, or empty.
    pub docs: String,
    /// Types of captures, parameters and results.
    pub signature: Signature,
    /// Whether a run uses its captures up, so that a bind serves one start.
    pub consumes_captures: bool,
    /// Whether polls may yield.
    pub resumable: bool,
    /// Whether it emits items of the `returns` type before it ends.
    pub streams: bool,
    /// What it asks a host to let it touch, each once.
    pub grants: Vec<Grant>,
}

/// What a callable asks for by name. A host that does not grant it refuses the call.
///
/// Manifests hold it too: the order of the variants is that of their numbers, and frozen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grant {
    /// A directory of this name, seen by the guest as `/NAME`, read-only.
    Directory(String),
    /// The environment variable of this name.
    Environment(String),
    /// Clocks that show the time, instead of fixed ones.
    Clock,
    /// Random bytes from the system, instead of seeded ones.
    Random,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(name) => write!(f, "directory {name}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Clock => f.write_str("clock"),
            Self::Random => f.write_str("random bytes"),
        }
    }
}
