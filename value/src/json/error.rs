//! Why JSON was refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::codec::EncodeError;

/// Why JSON is not a value of its type. The fault is with whoever wrote the JSON, unless the reason
/// is [`JsonReason::NoDefinition`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", Place(path))]
pub struct JsonError {
    /// Where, as in `.positions[3].weight`; empty for the whole value. The name of a capture or
    /// parameter comes first: `book.positions[3].weight`.
    pub path: String,
    /// What is wrong there.
    pub reason: JsonReason,
}

/// What is wrong with JSON at some place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonReason {
    /// Another kind of JSON stands there.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The type, and its form in JSON where that is not plain.
        expected: String,
        /// What was found, cut short.
        found: String,
    },
    /// The struct, or the callable, knows no such name.
    #[error("`{name}` is not known, only {}", Names(known))]
    UnknownName {
        /// The name found.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A name is left out that is not an `Option`.
    #[error("`{name}` is missing, of type {ty}")]
    MissingName {
        /// The name.
        name: String,
        /// Its type.
        ty: String,
    },
    /// Two keys of a map, or two elements of a set, are the same.
    #[error("two keys or elements are the same")]
    Duplicate,
    /// The value would be more than [`Limits::bytes`](crate::Limits::bytes).
    #[error("the value takes more than {limit} bytes")]
    TooLong {
        /// How many are allowed.
        limit: u64,
    },
    /// More elements than [`Limits::elements`](crate::Limits::elements).
    #[error("more than {limit} elements")]
    TooManyElements {
        /// How many are allowed.
        limit: u64,
    },
    /// More values than [`Limits::work`](crate::Limits::work).
    #[error("more than {limit} values")]
    TooMuchWork {
        /// How many are allowed.
        limit: u64,
    },
    /// Nested deeper than [`Limits::depth`](crate::Limits::depth).
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// How many levels are allowed.
        limit: u32,
    },
    /// The type refers to a definition that its table does not have.
    #[error("the type refers to definition {index}, where there are {definitions}")]
    NoDefinition {
        /// The number found.
        index: u32,
        /// How many there are, numbered from 0.
        definitions: u64,
    },
}

impl From<EncodeError> for JsonReason {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooDeep { limit } => Self::TooDeep { limit },
            // The writer of bytes refuses nothing else: lengths and types are this module's.
            _ => Self::Duplicate,
        }
    }
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() {
            "the value"
        } else {
            self.0
        })
    }
}

/// Most names that a message lists.
const NAMES_MAX: usize = 16;

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("that there are none");
        }
        for (index, name) in self.0.iter().take(NAMES_MAX).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}`{name}`")?;
        }
        match self.0.len().checked_sub(NAMES_MAX) {
            None | Some(0) => {}
            Some(more) => write!(formatter, " and {more} more")?,
        }
        Ok(())
    }
}
