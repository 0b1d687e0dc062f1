//! What a host says of itself.

use serde::{Deserialize, Serialize};

use crate::BlobId;
use crate::message::{MessageError, cut, within};

/// Longest name or word in a report, in bytes. Longer ones are cut when they are made.
pub const STATUS_TEXT_BYTES_MAX: usize = 256;
/// Most limits that a report lists.
pub const STATUS_LIMITS_MAX: usize = 64;
/// Most running calls that a report lists.
pub const STATUS_RUNNING_MAX: usize = 1024;

/// A limit of the host, as it holds for the key that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLimit {
    /// As in the host's configuration, with its unit: `memory_bytes`
    pub name: String,
    /// The limit
    pub value: u64,
}

/// A call of the key that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCall {
    /// Its bundle
    pub bundle: BlobId,
    /// The callable's name
    pub callable: String,
    /// Since its guest began, in milliseconds
    pub run_ms: u64,
}

/// Calls that have ended since the host started, of all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedCalls {
    /// With a value
    pub ok: u64,
    /// With the guest's own error
    pub guest_errors: u64,
    /// With a panic or a trap
    pub failed: u64,
    /// Refused
    pub refused: u64,
    /// Cancelled
    pub cancelled: u64,
}

/// What is kept, and how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many
    pub count: u64,
    /// Their bytes together
    pub bytes: u64,
}

/// What a host says of itself to an authorised key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The host's version
    pub version: String,
    /// The processor architecture
    pub architecture: String,
    /// The operating system
    pub os: String,
    /// The protocol it speaks, as in ALPN
    pub protocol: String,
    /// Threads that run guests
    pub workers: u32,
    /// At most [`STATUS_LIMITS_MAX`]
    pub limits: Vec<NamedLimit>,
    /// Compiled code in memory
    pub cached_code: Amount,
    /// Blobs on disk
    pub stored_blobs: Amount,
    /// Running calls of the key that asks, at most [`STATUS_RUNNING_MAX`]
    pub running: Vec<RunningCall>,
    /// Running calls of all keys
    pub running_count: u64,
    /// Queued calls of all keys
    pub queued: u64,
    /// Ended calls of all keys
    pub finished: FinishedCalls,
    /// Since the host started, in milliseconds
    pub uptime_ms: u64,
}

impl StatusReport {
    /// Cuts texts and lists to their limits. Call it before sending a report.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.limits.truncate(STATUS_LIMITS_MAX);
        self.running.truncate(STATUS_RUNNING_MAX);
        let names = self.limits.iter_mut().map(|limit| &mut limit.name);
        let callables = self.running.iter_mut().map(|call| &mut call.callable);
        let words = [
            &mut self.version,
            &mut self.architecture,
            &mut self.os,
            &mut self.protocol,
        ];
        names
            .chain(callables)
            .chain(words)
            .for_each(|text| cut(text, STATUS_TEXT_BYTES_MAX));
        self
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        within("StatusReport.limits", self.limits.len(), STATUS_LIMITS_MAX)?;
        within(
            "StatusReport.running",
            self.running.len(),
            STATUS_RUNNING_MAX,
        )?;
        let names = self.limits.iter().map(|limit| &limit.name);
        let callables = self.running.iter().map(|call| &call.callable);
        let words = [&self.version, &self.architecture, &self.os, &self.protocol];
        names
            .chain(callables)
            .chain(words)
            .try_for_each(|text| within("StatusReport text", text.len(), STATUS_TEXT_BYTES_MAX))
    }
}
