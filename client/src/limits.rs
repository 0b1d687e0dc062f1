//! What a caller allows at most.

use spore_transport::RefusalCode;
use spore_transport::message::{self, Refused};

use crate::callable::Parcel;

/// Limits that a caller sets. Each lowers the host's, none raises it, and nothing is lowered by
/// default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Wall time from the guest's first instruction to its last, in milliseconds
    pub wall_ms: Option<u64>,
    /// The guest's memory, in bytes
    pub memory_bytes: Option<u64>,
    /// The result's encoding, in bytes
    pub result_bytes: Option<u64>,
    /// Output before it is cut, in bytes, both streams together
    pub output_bytes: Option<u64>,
    /// The bundle's code, in bytes. What is larger is refused here, before anything is sent
    pub code_bytes: Option<u64>,
    /// The bundle's state, in bytes, likewise. Of an image that only the host has, the index alone
    /// is known here and counts
    pub state_bytes: Option<u64>,
}

impl CallLimits {
    /// What the host is asked for: it decides on what the guest does.
    pub(crate) fn asked(&self) -> message::CallLimits {
        message::CallLimits {
            wall_ms: self.wall_ms,
            memory_bytes: self.memory_bytes,
            result_bytes: self.result_bytes,
            output_bytes: self.output_bytes,
        }
    }

    /// Refuses a bundle that is larger than the caller allows.
    pub(crate) fn admit(&self, parcel: &Parcel) -> Result<(), Refused> {
        let code = parcel.manifest().code.bytes;
        within(RefusalCode::CodeTooLarge, code, self.code_bytes)?;
        within(
            RefusalCode::StateTooLarge,
            parcel.state_bytes(),
            self.state_bytes,
        )
    }
}

/// As a host was asked.
impl From<message::CallLimits> for CallLimits {
    fn from(asked: message::CallLimits) -> CallLimits {
        CallLimits {
            wall_ms: asked.wall_ms,
            memory_bytes: asked.memory_bytes,
            result_bytes: asked.result_bytes,
            output_bytes: asked.output_bytes,
            ..CallLimits::default()
        }
    }
}

fn within(code: RefusalCode, bytes: u64, limit: Option<u64>) -> Result<(), Refused> {
    match limit {
        Some(limit) if bytes > limit => Err(Refused::new(code, "").past(limit, bytes)),
        _ => Ok(()),
    }
}
