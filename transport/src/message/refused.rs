//! Refusals of requests.

use serde::{Deserialize, Serialize};

use super::{MessageError, cut, within};
use crate::{RefusalCode, Unit};

/// Longest text of a refusal, in bytes. Longer ones are cut when they are made.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;

/// The request was not carried out, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The call's index; 0 for what is no call
    pub index: u32,
    /// Why, as a stable number
    pub code: RefusalCode,
    /// More words for a person, or empty; at most [`REFUSAL_TEXT_BYTES_MAX`] bytes
    pub message: String,
    /// The limit that was passed, in the unit of its kind: bytes, milliseconds or a count
    pub limit: Option<u64>,
    /// What was found instead, when it is known
    pub actual: Option<u64>,
}

impl Refused {
    /// A refusal of call 0. The text is cut to [`REFUSAL_TEXT_BYTES_MAX`].
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        cut(&mut message, REFUSAL_TEXT_BYTES_MAX);
        Refused {
            index: 0,
            code,
            message,
            limit: None,
            actual: None,
        }
    }

    /// Adds the limit that was passed, and what was found instead.
    #[must_use]
    pub fn past(mut self, limit: u64, actual: impl Into<Option<u64>>) -> Self {
        self.limit = Some(limit);
        self.actual = actual.into();
        self
    }

    pub(super) fn check(&self) -> Result<(), MessageError> {
        let length = self.message.len();
        within("Refused.message", length, REFUSAL_TEXT_BYTES_MAX)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        let unit = match self.code.unit() {
            Unit::Milliseconds => " ms",
            Unit::Bytes | Unit::Count => "",
        };
        match (self.limit, self.actual) {
            (Some(limit), Some(actual)) => write!(f, " ({actual}{unit}, limit {limit}{unit})"),
            (Some(limit), None) => write!(f, " (limit {limit}{unit})"),
            _ => Ok(()),
        }
    }
}
