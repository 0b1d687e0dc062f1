//! Why bytes were refused, and why a value has none.

use alloc::string::{String, ToString};
use core::fmt::Display;

/// Why a value could not be encoded. The fault is the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value is nested deeper than any decoder would follow.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting there may be, in levels.
        limit: u32,
    },
    /// A sequence or a map of a serde type does not know its length before it is written.
    #[error("a sequence or map of unknown length")]
    UnknownLength,
    /// A sequence or a map of a serde type wrote another number of elements than it announced.
    #[error("a sequence or map announced {claimed} elements and wrote {found}")]
    WrongLength {
        /// What it announced.
        claimed: usize,
        /// What it wrote.
        found: usize,
    },
    /// Two keys of a map, or two elements of a set, have the same bytes.
    #[error("two keys of a map or set have the same bytes")]
    DuplicateKey,
    /// The value refused.
    #[error("{0}")]
    Invalid(String),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Invalid(message.to_string())
    }
}

/// Why bytes could not be decoded. The fault is with whoever made the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are more bytes than [`Limits::bytes`](crate::Limits::bytes).
    #[error("{found} bytes, where {limit} are allowed")]
    TooLong {
        /// How many there are.
        found: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// A length asks for more than is left of [`Limits::elements`](crate::Limits::elements).
    #[error("{claimed} more elements claimed, where {limit} are allowed in all")]
    TooManyElements {
        /// The length found.
        claimed: u64,
        /// How many are allowed in all.
        limit: u64,
    },
    /// More values than [`Limits::work`](crate::Limits::work).
    #[error("more than {limit} units of work")]
    TooMuchWork {
        /// How much is allowed.
        limit: u64,
    },
    /// Nested deeper than [`Limits::depth`](crate::Limits::depth).
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// How many levels are allowed.
        limit: u32,
    },
    /// The bytes end within a value.
    #[error("{missing} bytes are missing")]
    Truncated {
        /// How many more the number, text or length that was being read needs.
        missing: u64,
    },
    /// Bytes are left after the value.
    #[error("{extra} bytes are left after the value")]
    Trailing {
        /// How many.
        extra: u64,
    },
    /// Two keys of a map, or two elements of a set, are the same.
    #[error("entry {index} of a map or set repeats the one before it")]
    DuplicateKey {
        /// The position of the second, from 0.
        index: u64,
    },
    /// The keys of a map, or the elements of a set, do not ascend.
    #[error("entry {index} of a map or set stands after a greater one")]
    KeyOrder {
        /// The position of the smaller one, from 0.
        index: u64,
    },
    /// A number or a length stands in a form longer than it needs.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// A number does not fit its type, or begins with a byte that no number begins with.
    #[error("a number is too wide for its type")]
    NumberTooWide,
    /// A truth value is neither 0 nor 1.
    #[error("{found} stands where 0 or 1 is expected")]
    NotBool {
        /// The byte found.
        found: u8,
    },
    /// The tag of an option is neither 0 nor 1.
    #[error("{found} stands where the 0 or 1 of an option is expected")]
    NotOption {
        /// The byte found.
        found: u8,
    },
    /// A character is not one of Unicode, in UTF-8.
    #[error("not a character")]
    NotChar,
    /// Text is not UTF-8.
    #[error("text is not UTF-8 after {valid} bytes")]
    NotText {
        /// How many bytes of the text are.
        valid: u64,
    },
    /// An enum of the type at hand has no variant of this number.
    #[error("variant {found}, where there are {variants}")]
    NoVariant {
        /// The number found.
        found: u32,
        /// How many there are, numbered from 0.
        variants: u64,
    },
    /// The type at hand refers to a definition that its table does not have.
    #[error("definition {index}, where there are {definitions}")]
    NoDefinition {
        /// The number found.
        index: u32,
        /// How many there are, numbered from 0.
        definitions: u64,
    },
    /// The type being read refused the value.
    #[error("{0}")]
    Invalid(String),
}

impl serde::de::Error for DecodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Invalid(message.to_string())
    }
}
