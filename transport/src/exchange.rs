//! What one stream carries, in order: a state machine for each side, without I/O or clocks.
//!
//! Feed a machine what arrives and it answers with an event or a [`ProtocolError`]; ask it before
//! sending, and it says whether that is in order. It checks order and budgets, and holds no
//! payload: pieces pass through it.
//!
//! ```text
//! client                                    host
//!   Call, arguments       ───────────────▶
//!                         ◀───────────────  Missing       as often as needed, no id twice
//!   Blob, bytes | Absent  ───────────────▶                one for each id
//!                         ◀───────────────  Output, Progress …
//!   Cancel                ───────────────▶                at any time
//!                         ◀───────────────  Done, value | Failed | Refused, then the end
//! ```

mod client;
mod host;

use crate::message::{BlobKind, Encoding, Refused};
use crate::{BlobId, RefusalCode};

pub use client::{ClientEvent, ClientExchange, ClientLimits};
pub use host::{HostEvent, HostExchange, HostLimits};

/// Longest encoded arguments that a host accepts unless configured otherwise, in bytes.
pub const ARGS_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Longest manifest that either side accepts unless configured otherwise, in bytes.
pub const MANIFEST_BYTES_MAX_DEFAULT: u64 = 1 << 20;
/// Longest code that a host accepts unless configured otherwise, in bytes.
pub const CODE_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Longest state that a host accepts unless configured otherwise, in bytes.
pub const STATE_BYTES_MAX_DEFAULT: u64 = 256 << 20;
/// Longest result that either side accepts unless configured otherwise, in bytes.
pub const RESULT_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Most output of a guest that either side accepts unless configured otherwise, in bytes.
pub const OUTPUT_BYTES_MAX_DEFAULT: u64 = 1 << 20;

/// What a size limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Arguments of a call
    Arguments,
    /// A manifest
    Manifest,
    /// Code
    Code,
    /// State
    State,
    /// A result, or the guest's own error
    Result,
    /// Output of a guest
    Output,
    /// A blob, or blocks, that a client has fetched
    Fetched,
}

impl From<BlobKind> for Part {
    fn from(kind: BlobKind) -> Self {
        match kind {
            BlobKind::Manifest => Part::Manifest,
            BlobKind::Code => Part::Code,
            BlobKind::State => Part::State,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Arguments => "arguments",
            Part::Manifest => "manifest",
            Part::Code => "code",
            Part::State => "state",
            Part::Result => "result",
            Part::Output => "output",
            Part::Fetched => "what was fetched",
        })
    }
}

/// What the peer did wrong on a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Something that may not come now, or never from this side.
    #[error("{received} came while {state}")]
    Unexpected {
        /// What came
        received: &'static str,
        /// What this side was doing
        state: &'static str,
    },
    /// A blob, or word of its absence, that was not asked for or has come already.
    #[error("blob {id} was not asked for")]
    NotAsked {
        /// The blob
        id: BlobId,
    },
    /// A blob that was asked for before.
    #[error("blob {id} was asked for twice")]
    AskedTwice {
        /// The blob
        id: BlobId,
    },
    /// More blobs than one request may need.
    #[error("{actual} blobs were asked for, a request needs at most {limit}")]
    TooManyBlobs {
        /// The most that may be asked for
        limit: usize,
        /// As many as were
        actual: usize,
    },
    /// Blocks that were not asked for, of another index, or not as many as were asked for.
    #[error("{bytes} bytes of blocks of {index} were not asked for")]
    BlocksNotAsked {
        /// The index
        index: BlobId,
        /// Bytes announced
        bytes: u64,
    },
    /// A call that the stream does not have.
    #[error("the stream has no call {index}")]
    UnknownIndex {
        /// The index
        index: u32,
    },
    /// More payload than was announced.
    #[error("{surplus} bytes of payload came beyond those announced")]
    Surplus {
        /// How many bytes too many
        surplus: u64,
    },
    /// Something announced larger than it may be. Nothing of it was taken.
    #[error("the {part} has {actual} bytes, at most {limit} are allowed")]
    TooLarge {
        /// What it is
        part: Part,
        /// The limit, in bytes
        limit: u64,
        /// Announced, in bytes
        actual: u64,
    },
    /// A blob whose two lengths contradict its encoding.
    #[error("a blob of {raw_bytes} bytes cannot travel as {wire_bytes} bytes in its encoding")]
    BlobLengths {
        /// Length of the blob
        raw_bytes: u64,
        /// Length announced for the way
        wire_bytes: u64,
    },
    /// The peer finished its half too early.
    #[error("the stream ended while {state}")]
    EndedEarly {
        /// What this side was doing
        state: &'static str,
    },
}

impl ProtocolError {
    /// The refusal with which a host answers.
    pub fn refusal(&self) -> Refused {
        let code = match self {
            ProtocolError::TooLarge { part, .. } => match part {
                Part::Arguments => RefusalCode::ArgumentsTooLarge,
                Part::Manifest => RefusalCode::ManifestTooLarge,
                Part::Code => RefusalCode::CodeTooLarge,
                Part::State => RefusalCode::StateTooLarge,
                Part::Result | Part::Output | Part::Fetched => RefusalCode::OutOfOrder,
            },
            ProtocolError::BlobLengths { .. } => RefusalCode::BlobEncoding,
            _ => RefusalCode::OutOfOrder,
        };
        let refused = Refused::new(code, self.to_string());
        match self {
            ProtocolError::TooLarge { limit, actual, .. } => refused.past(*limit, *actual),
            ProtocolError::TooManyBlobs { limit, actual } => {
                refused.past(*limit as u64, *actual as u64)
            }
            _ => refused,
        }
    }
}

/// This side was about to send what is not in order: a mistake of the program, not of the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} may not be sent while {state}")]
pub struct NotNow {
    /// What was to be sent
    pub message: &'static str,
    /// What this side was doing
    pub state: &'static str,
}

/// Payload that is still owed, by one side or the other.
#[derive(Clone, Copy, Debug, Default)]
struct Owed(u64);

impl Owed {
    /// Counts a piece. Says whether it was the last, or by how much it is too long.
    fn take(&mut self, piece: u64) -> Result<bool, u64> {
        self.0 = self.0.checked_sub(piece).ok_or_else(|| piece - self.0)?;
        Ok(self.0 == 0)
    }

    fn is_settled(self) -> bool {
        self.0 == 0
    }
}

/// The blobs that a host has asked for on a stream.
#[derive(Debug, Default)]
struct Asked {
    blobs: Vec<(BlobId, BlobKind, bool)>,
}

impl Asked {
    /// Records a request, or says what is wrong with it.
    fn ask(&mut self, missing: &crate::message::Missing) -> Result<(), ProtocolError> {
        let actual = self.blobs.len() + missing.blobs.len();
        let limit = crate::message::MISSING_MAX;
        if actual > limit {
            return Err(ProtocolError::TooManyBlobs { limit, actual });
        }
        for blob in &missing.blobs {
            if self.blobs.iter().any(|(id, ..)| *id == blob.id) {
                return Err(ProtocolError::AskedTwice { id: blob.id });
            }
            self.blobs.push((blob.id, blob.kind, false));
        }
        Ok(())
    }

    /// Records an answer, or says that there was no question. The kind is that of the question.
    fn answer(&mut self, id: BlobId) -> Result<BlobKind, ProtocolError> {
        let open =
            |(asked, _, answered): &&mut (BlobId, BlobKind, bool)| *asked == id && !*answered;
        let (_, kind, answered) = self
            .blobs
            .iter_mut()
            .find(open)
            .ok_or(ProtocolError::NotAsked { id })?;
        *answered = true;
        Ok(*kind)
    }

    fn kind(&self, id: BlobId) -> Option<BlobKind> {
        self.blobs
            .iter()
            .find(|(asked, _, answered)| *asked == id && !answered)
            .map(|b| b.1)
    }

    fn unanswered(&self) -> usize {
        self.blobs.iter().filter(|(.., answered)| !answered).count()
    }
}

/// What a stream was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Call,
    Ship,
    Status,
    Describe,
    SessionOpen,
    SessionCall,
    SessionSave,
    SessionRestore,
    SessionClose,
    SessionList,
    Fetch,
}

impl Request {
    /// Whether a guest runs for it, and says something meanwhile.
    fn runs_guest(self) -> bool {
        matches!(
            self,
            Request::Call | Request::SessionOpen | Request::SessionCall
        )
    }

    /// Whether it ends with a value.
    fn is_call(self) -> bool {
        matches!(self, Request::Call | Request::SessionCall)
    }

    /// Whether it is about a bundle that the host may lack.
    fn needs_bundle(self) -> bool {
        matches!(self, Request::Call | Request::Ship | Request::SessionOpen)
    }
}

/// Blocks that a host has asked for on a stream: once at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BlocksAsked {
    #[default]
    Not,
    /// Of this index, so many bytes.
    Open(BlobId, u64),
    Answered,
}

/// Size of a block of an image, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// Whether the two lengths of what travels agree. What does not shrink travels raw, so the limit on
/// the one bounds the other.
fn lengths(encoding: Encoding, raw_bytes: u64, wire_bytes: u64) -> Result<(), ProtocolError> {
    let fits = match encoding {
        Encoding::Raw => wire_bytes == raw_bytes,
        Encoding::Zstd => wire_bytes <= raw_bytes,
    };
    if !fits {
        return Err(ProtocolError::BlobLengths {
            raw_bytes,
            wire_bytes,
        });
    }
    Ok(())
}

fn within(part: Part, limit: u64, actual: u64) -> Result<(), ProtocolError> {
    if actual > limit {
        Err(ProtocolError::TooLarge {
            part,
            limit,
            actual,
        })
    } else {
        Ok(())
    }
}
