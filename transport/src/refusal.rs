//! Why a host does not carry out a request, as stable numbers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The caller asked for what it may not have, or with what does not fit.
    Caller,
    /// The guest's code did it.
    Guest,
    /// The host lacks something, now or by its configuration.
    Host,
    /// The program at the other end breaks the protocol.
    Peer,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Caller => "caller",
            Fault::Guest => "guest",
            Fault::Host => "host",
            Fault::Peer => "peer",
        })
    }
}

/// What the numbers of a refusal count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes
    Bytes,
    /// Milliseconds
    Milliseconds,
    /// Things that the code or the words of the refusal name
    Count,
}

/// Declares the codes once: number, name, whose fault, text.
macro_rules! codes {
    ($( $number:literal $name:ident $fault:ident $text:literal; )*) => {
        /// A stable code of a refusal. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RefusalCode {
            $(
                #[doc = $text]
                $name,
            )*
            /// A code of a later version.
            Other(u16),
        }

        impl RefusalCode {
            /// Every code of this version, in the order of numbers.
            pub const ALL: &[RefusalCode] = &[$( RefusalCode::$name, )*];

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self {
                    $( RefusalCode::$name => $number, )*
                    RefusalCode::Other(number) => number,
                }
            }

            /// The name in documents and in JSON, or `Other`.
            pub const fn name(self) -> &'static str {
                match self {
                    $( RefusalCode::$name => stringify!($name), )*
                    RefusalCode::Other(_) => "Other",
                }
            }

            /// Who can do something about it. Unknown codes are taken for the host's.
            pub const fn fault(self) -> Fault {
                match self {
                    $( RefusalCode::$name => Fault::$fault, )*
                    RefusalCode::Other(_) => Fault::Host,
                }
            }
        }

        impl From<u16> for RefusalCode {
            fn from(number: u16) -> Self {
                match number {
                    $( $number => RefusalCode::$name, )*
                    other => RefusalCode::Other(other),
                }
            }
        }

        impl fmt::Display for RefusalCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( RefusalCode::$name => f.write_str($text), )*
                    RefusalCode::Other(number) => write!(f, "refused with code {number}"),
                }
            }
        }
    };
}

codes! {
    1 NotAuthorised Caller "the key is not authorised here";
    2 Malformed Peer "a message could not be read";
    3 OutOfOrder Peer "a message came out of order";
    4 UnknownBundle Caller "the host does not have the bundle, or the key may not use it";
    5 UnknownCallable Caller "the bundle has no such callable";
    6 BlobMismatch Peer "a blob's bytes do not match its id";
    7 CodeTooLarge Caller "the code is too large";
    8 StateTooLarge Caller "the state is too large";
    9 ArgumentsTooLarge Caller "the arguments are too large";
    10 ResultTooLarge Guest "the result is too large";
    11 WallTime Guest "the guest ran longer than it may";
    12 Memory Guest "the guest asked for more memory than it may have";
    13 QueueFull Host "too many calls are queued";
    14 InvalidModule Guest "the code is not a valid module";
    15 ImportNotOffered Guest "the module imports what this host does not offer";
    16 AbiViolated Guest "the module does not keep to the ABI";
    17 InvalidManifest Guest "the manifest could not be read";
    18 WrongCaptures Caller "the captures do not fit the callable";
    19 GrantNotGiven Caller "the bundle asks for a grant that the key does not have";
    20 ShuttingDown Host "the host is shutting down";
    21 StoreFull Host "the store has no room";
    22 TooManyFunctions Guest "the module has too many functions";
    23 FunctionTooLarge Guest "a function of the module is too large";
    24 TooManyRequests Caller "the key has too many requests open";
    25 Internal Host "the host failed";
    26 WrongArguments Caller "the arguments do not fit the callable";
    27 Cancelled Caller "the call was cancelled";
    28 UnsupportedVersion Guest "the bundle is of a version that this host does not run";
    29 UploadStalled Peer "an upload stood still for too long";
    30 ManifestTooLarge Caller "the manifest is too large";
    31 BlobEncoding Peer "a blob could not be decompressed, or not to the announced size";
    32 BlobAbsent Caller "the caller does not have a blob that the bundle names";
    33 Unsupported Peer "this host does not offer the request";
    34 CompilationTime Guest "compiling the code took longer than it may";
    35 TooManyFiles Guest "the guest opened more files than it may";
    36 UnknownSession Caller "there is no such session of this key";
    37 SessionPoisoned Guest "the session was stopped within a call";
    38 SessionChanged Caller "the session has changed since it was saved";
    39 TooManySessions Caller "the key has too many sessions";
    40 NoImage Guest "the state of the guest cannot be saved";
    41 ImageMisfit Caller "the image does not fit the code";
    42 UnknownJob Caller "there is no such job of this key";
    43 NotResumable Caller "the callable is not resumable";
    44 NoCheckpoint Guest "the job reached no checkpoint in time, and goes on";
    45 JobNotEnded Caller "the job has not ended";
    46 JobEnded Caller "the job has ended";
    47 TooManyJobs Caller "the key has too many jobs";
    48 JobElsewhere Caller "the job was given up to another host";
    49 JobHere Caller "the job is on this host already";
    50 MoveUnknown Caller "the job is in no such move";
    51 MoveUnderWay Caller "the job is being moved";
    52 WrongRelease Caller "the release is that of another move";
    53 EmitsItems Caller "the callable emits items, which the request does not take";
    54 ItemTooLarge Guest "an item is too large";
    55 ItemsGone Caller "the items were taken before";
    56 ItemsTakenOver Caller "another watch has the items now";
    57 InitFailed Guest "the initialiser failed";
    58 StoreDamaged Host "what was stored is damaged";
    59 SessionHeld Caller "the session waits to be given up where it comes from";
    60 SessionElsewhere Caller "the session was given up to another host";
}

impl RefusalCode {
    /// What the limit of such a refusal counts, and what was found instead.
    pub const fn unit(self) -> Unit {
        use RefusalCode::*;
        match self {
            WallTime | CompilationTime | UploadStalled | NoCheckpoint => Unit::Milliseconds,
            CodeTooLarge | StateTooLarge | ArgumentsTooLarge | ResultTooLarge
            | FunctionTooLarge | ManifestTooLarge | StoreFull => Unit::Bytes,
            _ => Unit::Count,
        }
    }
}

impl Serialize for RefusalCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RefusalCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(RefusalCode::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_match_both_ways() {
        for (index, code) in RefusalCode::ALL.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index + 1, "{}", code.name());
            assert_eq!(RefusalCode::from(code.number()), *code);
        }
        assert_eq!(RefusalCode::from(60_000), RefusalCode::Other(60_000));
    }
}
