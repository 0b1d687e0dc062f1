//! Codes that close connections and streams.

use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $type:ident { $( $number:literal $name:ident $text:literal; )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type {
            $(
                #[doc = $text]
                $name,
            )*
            /// A code of a later version.
            Other(u64),
        }

        impl $type {
            /// Every code of this version, in the order of numbers.
            pub const ALL: &[$type] = &[$( $type::$name, )*];

            /// The number on the wire.
            pub const fn number(self) -> u64 {
                match self {
                    $( $type::$name => $number, )*
                    $type::Other(number) => number,
                }
            }

            /// The name in documents, or `Other`.
            pub const fn name(self) -> &'static str {
                match self {
                    $( $type::$name => stringify!($name), )*
                    $type::Other(_) => "Other",
                }
            }
        }

        impl From<u64> for $type {
            fn from(number: u64) -> Self {
                match number {
                    $( $number => $type::$name, )*
                    other => $type::Other(other),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( $type::$name => f.write_str($text), )*
                    $type::Other(number) => write!(f, "code {number}"),
                }
            }
        }
    };
}

codes! {
    /// Why one side closed a connection. Numbers are never reused.
    CloseCode {
        0 Finished "nothing left to do";
        1 NotAuthorised "the key is not authorised here";
        2 Revoked "the key was revoked";
        3 ShuttingDown "the host is shutting down";
        4 TooManyConnections "too many connections";
        5 OutOfOrder "the peer broke the protocol";
        6 HostKeyRejected "the client does not trust the host's key";
        7 Internal "the peer failed";
    }
}

codes! {
    /// Why one side gave up a stream, in either direction. Numbers are never reused.
    StreamCode {
        0 Finished "nothing more is needed";
        1 Cancelled "the caller dropped the request";
        2 OutOfOrder "the peer broke the protocol";
        3 Refused "the request was refused";
        4 Internal "the peer failed";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_match_both_ways() {
        for (number, code) in (0u64..).zip(CloseCode::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(CloseCode::from(number), *code);
        }
        for (number, code) in (0u64..).zip(StreamCode::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(StreamCode::from(number), *code);
        }
        assert_eq!(CloseCode::from(99), CloseCode::Other(99));
    }
}
