//! How a guest failed: a panic or a trap.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::{MessageError, cut, within};

/// Longest text of a failure, in bytes. Longer ones are cut when they are made.
pub const FAILURE_TEXT_BYTES_MAX: usize = 4096;
/// Longest file name of a panic, in bytes.
pub const FAILURE_FILE_BYTES_MAX: usize = 512;
/// Most frames of a backtrace.
pub const BACKTRACE_FRAMES_MAX: usize = 64;
/// Longest function name in a backtrace, in bytes.
pub const BACKTRACE_NAME_BYTES_MAX: usize = 256;

/// How a guest failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// It panicked.
    Panic {
        /// What it said
        message: String,
        /// The source file, or empty
        file: String,
        /// The line, or 0
        line: u32,
    },
    /// It trapped.
    Trap {
        /// Why
        code: TrapCode,
        /// The engine's words
        message: String,
        /// Names of functions, innermost first
        backtrace: Vec<String>,
    },
}

impl Failure {
    /// A panic. Texts are cut to their limits.
    pub fn panic(message: impl Into<String>, file: impl Into<String>, line: u32) -> Self {
        let (mut message, mut file) = (message.into(), file.into());
        cut(&mut message, FAILURE_TEXT_BYTES_MAX);
        cut(&mut file, FAILURE_FILE_BYTES_MAX);
        Failure::Panic {
            message,
            file,
            line,
        }
    }

    /// A trap. Texts and backtrace are cut to their limits; the innermost frames are kept.
    pub fn trap(
        code: TrapCode,
        message: impl Into<String>,
        backtrace: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut message = message.into();
        cut(&mut message, FAILURE_TEXT_BYTES_MAX);
        let backtrace = backtrace
            .into_iter()
            .take(BACKTRACE_FRAMES_MAX)
            .map(|mut name| {
                cut(&mut name, BACKTRACE_NAME_BYTES_MAX);
                name
            })
            .collect();
        Failure::Trap {
            code,
            message,
            backtrace,
        }
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        match self {
            Failure::Panic { message, file, .. } => {
                within("Failed.message", message.len(), FAILURE_TEXT_BYTES_MAX)?;
                within("Failed.file", file.len(), FAILURE_FILE_BYTES_MAX)
            }
            Failure::Trap {
                message, backtrace, ..
            } => {
                within("Failed.message", message.len(), FAILURE_TEXT_BYTES_MAX)?;
                within("Failed.backtrace", backtrace.len(), BACKTRACE_FRAMES_MAX)?;
                backtrace.iter().try_for_each(|name| {
                    within(
                        "Failed.backtrace name",
                        name.len(),
                        BACKTRACE_NAME_BYTES_MAX,
                    )
                })
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panic {
                message,
                file,
                line,
            } => {
                write!(f, "panicked: {message} ({file}:{line})")
            }
            Failure::Trap { code, message, .. } if message.is_empty() => {
                write!(f, "trapped: {code}")
            }
            Failure::Trap { code, message, .. } => write!(f, "trapped: {code}: {message}"),
        }
    }
}

macro_rules! traps {
    ($( $number:literal $name:ident $text:literal; )*) => {
        /// A stable number for why a guest trapped. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum TrapCode {
            $(
                #[doc = $text]
                $name,
            )*
            /// A code of a later version.
            Unknown(u16),
        }

        impl TrapCode {
            /// Every code of this version, in the order of numbers.
            pub const ALL: &[TrapCode] = &[$( TrapCode::$name, )*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $( TrapCode::$name => $number, )*
                    TrapCode::Unknown(number) => number,
                }
            }

            /// The name in documents and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $( TrapCode::$name => stringify!($name), )*
                    TrapCode::Unknown(_) => "Unknown",
                }
            }
        }

        impl From<u16> for TrapCode {
            fn from(number: u16) -> Self {
                match number {
                    $( $number => TrapCode::$name, )*
                    other => TrapCode::Unknown(other),
                }
            }
        }

        impl fmt::Display for TrapCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( TrapCode::$name => f.write_str($text), )*
                    TrapCode::Unknown(number) => write!(f, "trap {number}"),
                }
            }
        }
    };
}

traps! {
    1 Unreachable "unreachable code was reached";
    2 MemoryOutOfBounds "memory access out of bounds";
    3 TableOutOfBounds "table access out of bounds";
    4 IndirectCallToNull "indirect call to null";
    5 BadSignature "indirect call of the wrong type";
    6 IntegerOverflow "integer overflow";
    7 DivisionByZero "integer division by zero";
    8 BadConversion "conversion to integer out of range";
    9 StackOverflow "stack overflow";
    10 Exit "the guest exited";
    11 Other "another trap";
}

impl Serialize for TrapCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TrapCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(TrapCode::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_traps_match_both_ways() {
        for (index, code) in TrapCode::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1, "{}", code.name());
            assert_eq!(TrapCode::from(code.number()), *code);
        }
        assert_eq!(TrapCode::from(999), TrapCode::Unknown(999));
    }

    #[test]
    fn texts_are_cut_at_characters() {
        let long = "é".repeat(FAILURE_TEXT_BYTES_MAX);
        let names = std::iter::repeat_n(format!("a{long}"), BACKTRACE_FRAMES_MAX + 1);
        let failure = Failure::trap(TrapCode::Other, long.clone(), names);
        failure.check().expect("within its limits");
        let Failure::Trap {
            message, backtrace, ..
        } = failure
        else {
            unreachable!()
        };
        assert_eq!(message.len(), FAILURE_TEXT_BYTES_MAX);
        assert_eq!(backtrace.len(), BACKTRACE_FRAMES_MAX);
        assert_eq!(backtrace[0].len(), BACKTRACE_NAME_BYTES_MAX - 1);
        Failure::panic(long.clone(), long, 1)
            .check()
            .expect("within its limits");
    }
}
