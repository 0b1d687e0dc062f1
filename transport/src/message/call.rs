//! Calls, and what comes of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::byte_string;
use crate::BlobId;
use crate::failure::Failure;

/// Most guest output in one message, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Limits that a caller asks for. Each lowers the host's, none raises it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLimits {
    /// Wall time from the guest's first instruction to its last, in milliseconds.
    pub wall_ms: Option<u64>,
    /// The guest's memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The result's encoding, in bytes.
    pub result_bytes: Option<u64>,
    /// Output before it is cut, in bytes, both streams together.
    pub output_bytes: Option<u64>,
}

/// Asks the host to call a callable. The arguments follow as payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The bundle
    pub bundle: BlobId,
    /// The callable's index in the manifest
    pub callable: u32,
    /// What the caller allows at most
    pub limits: CallLimits,
    /// Where the guest's random bytes start: the same seed gives the same bytes.
    pub seed: u64,
    /// Length of the encoded arguments that follow
    pub args_bytes: u64,
}

/// Stops one call of the stream. The outcome is [`RefusalCode::Cancelled`](crate::RefusalCode::Cancelled), or
/// what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The call's index in its stream; 0 for a single call
    pub index: u32,
}

/// Where the guest wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// What the guest wrote, in the order it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The call's index
    pub index: u32,
    /// Where it wrote
    pub stream: OutputStream,
    /// The bytes, not empty, at most [`OUTPUT_BYTES_MAX`]
    #[serde(with = "byte_string")]
    pub bytes: Bytes,
}

/// How far the guest says it is. A host may leave out all but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The call's index
    pub index: u32,
    /// What is done, in the guest's units
    pub done: u64,
    /// The whole, or 0 when the guest does not know
    pub total: u64,
}

/// One item of a callable that emits them; its bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The call's index
    pub index: u32,
    /// One more than that of the item before. The first of a run has 0.
    pub sequence: u64,
    /// Length of the encoded item that follows
    pub item_bytes: u64,
}

/// What the payload of [`Done`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The value returned
    Value,
    /// The guest's own error value
    GuestError,
}

/// Where the time of a call went, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Waiting for a worker, after everything was there
    pub queue_ns: u64,
    /// Receiving arguments and blobs
    pub transfer_ns: u64,
    /// Compiling, or waiting for another call's compilation of the same code; 0 when cached
    pub compile_ns: u64,
    /// From the guest's first instruction to its last
    pub run_ns: u64,
}

/// The guest returned. The encoded value follows as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The call's index
    pub index: u32,
    /// What the payload is
    pub outcome: Outcome,
    /// Where the time went
    pub timing: Timing,
    /// Whether output beyond its limit was left out
    pub output_cut: bool,
    /// Length of the encoded value that follows
    pub payload_bytes: u64,
}

/// The guest panicked or trapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The call's index
    pub index: u32,
    /// How
    pub failure: Failure,
    /// Where the time went
    pub timing: Timing,
    /// Whether output beyond its limit was left out
    pub output_cut: bool,
}
