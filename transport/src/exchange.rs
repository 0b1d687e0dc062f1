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
mod items;

use self::items::Items;
use crate::job::{Difference, WatchItems};
use crate::message::{BlobKind, Encoding, Message, Refused};
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
pub const STATE_BYTES_MAX_DEFAULT: u64 = 264 << 20;
/// Longest result that either side accepts unless configured otherwise, in bytes.
pub const RESULT_BYTES_MAX_DEFAULT: u64 = 64 << 20;
/// Most output of a guest that either side accepts unless configured otherwise, in bytes.
pub const OUTPUT_BYTES_MAX_DEFAULT: u64 = 1 << 20;

/// Longest encoded item that either side accepts unless configured otherwise, in bytes.
///
/// An item is held whole by the host until it is taken, and by the client until it is complete.
pub const ITEM_BYTES_MAX_DEFAULT: u64 = 16 << 20;
/// Longest blob of items that were not taken which a host accepts with a job unless configured
/// otherwise, in bytes. A host holds a longest item at most beside
/// [`HELD_BYTES_MAX`](crate::job::HELD_BYTES_MAX) of others.
pub const HELD_ITEMS_BYTES_MAX_DEFAULT: u64 = 17 << 20;

/// Longest difference between two bundles that either side accepts, in bytes. Of what differs more, the
/// parts travel.
pub const DIFFERENCE_BYTES_MAX: u64 = 16 << 20;

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
    /// An item
    Item,
    /// The items that come with a job
    HeldItems,
    /// What is otherwise in a bundle than in another
    Difference,
    /// A blob, or blocks, that a client has fetched
    Fetched,
}

impl From<BlobKind> for Part {
    fn from(kind: BlobKind) -> Self {
        match kind {
            BlobKind::Manifest => Part::Manifest,
            BlobKind::Code => Part::Code,
            BlobKind::State => Part::State,
            BlobKind::Items => Part::HeldItems,
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
            Part::Item => "item",
            Part::HeldItems => "list of items",
            Part::Difference => "difference",
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
    /// An item that is not the next.
    #[error("item {found} came, {expected} is next")]
    ItemOutOfSequence {
        /// The sequence number of the next
        expected: u64,
        /// The one that came
        found: u64,
    },
    /// More items than may come ahead of those that were taken.
    #[error("an item came {window} or more ahead of those that were taken")]
    ItemsAhead {
        /// How many may
        window: u64,
    },
    /// Items from another place than was asked for, or though none were asked for.
    #[error("items come from {found:?}, asked for was {asked:?}")]
    ItemsFrom {
        /// The first that was asked for, if one was
        asked: Option<u64>,
        /// The first that comes
        found: Option<u64>,
    },
    /// Items are said to be taken that were not sent, or were taken before.
    #[error("items below {below} are said to be taken; {taken} were, and {sent} sent")]
    TakenOutside {
        /// The first that is not
        below: u64,
        /// The first that was not taken until now
        taken: u64,
        /// The first that was not sent
        sent: u64,
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
                Part::State | Part::HeldItems | Part::Difference => RefusalCode::StateTooLarge,
                Part::Result | Part::Output | Part::Item | Part::Fetched => RefusalCode::OutOfOrder,
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
    CallItems,
    Ship,
    Status,
    Describe,
    SessionOpen,
    SessionCall,
    SessionSave,
    SessionRestore,
    SessionArrive,
    SessionTakeOver,
    SessionGiveUp,
    SessionClose,
    SessionList,
    Fetch,
    JobStart,
    JobList,
    JobWatch,
    JobControl,
    JobSave,
    JobResult,
    JobAcknowledge,
    JobOffer,
    JobLeave,
    JobArrive,
    JobMove,
}

impl Request {
    /// The request that a message is, if it may begin a stream.
    fn of(message: &Message) -> Option<Request> {
        Some(match message {
            Message::Call(_) => Request::Call,
            Message::CallItems(_) => Request::CallItems,
            Message::Ship(_) => Request::Ship,
            Message::Status => Request::Status,
            Message::Describe(_) => Request::Describe,
            Message::SessionOpen(_) => Request::SessionOpen,
            Message::SessionCall(_) | Message::SessionCallItems(_) => Request::SessionCall,
            Message::SessionSave(_) => Request::SessionSave,
            Message::SessionRestore(_) => Request::SessionRestore,
            Message::SessionArrive(_) => Request::SessionArrive,
            Message::SessionTakeOver(_) => Request::SessionTakeOver,
            Message::SessionGiveUp(_) => Request::SessionGiveUp,
            Message::SessionClose(_) => Request::SessionClose,
            Message::SessionList => Request::SessionList,
            Message::Fetch(_) | Message::FetchBlocks(_) => Request::Fetch,
            Message::JobStart(_) | Message::JobOpen(_) => Request::JobStart,
            Message::JobList => Request::JobList,
            Message::JobWatch(_) => Request::JobWatch,
            Message::JobPause(_) | Message::JobResume(_) | Message::JobCancel(_) => {
                Request::JobControl
            }
            Message::JobSave(_) => Request::JobSave,
            Message::JobResult(_) => Request::JobResult,
            Message::JobAcknowledge(_) => Request::JobAcknowledge,
            Message::JobOffer(_) => Request::JobOffer,
            Message::JobLeave(_) => Request::JobLeave,
            Message::JobArrive(_) => Request::JobArrive,
            Message::JobMove(_) => Request::JobMove,
            _ => return None,
        })
    }

    /// Whether a guest runs for it, which stops when the request is given up.
    fn runs_guest(self) -> bool {
        matches!(
            self,
            Request::Call
                | Request::CallItems
                | Request::SessionOpen
                | Request::SessionArrive
                | Request::SessionCall
        )
    }

    /// Whether it brings what a guest says.
    fn hears_guest(self) -> bool {
        self.runs_guest() || self == Request::JobWatch
    }

    /// Whether it may end with a value.
    fn brings_value(self) -> bool {
        matches!(
            self,
            Request::Call
                | Request::CallItems
                | Request::SessionCall
                | Request::JobWatch
                | Request::JobResult
        )
    }

    /// Whether it is for a session that is not there yet.
    fn opens_session(self) -> bool {
        matches!(self, Request::SessionOpen | Request::SessionArrive)
    }

    /// Whether it may end with a failure of the guest.
    fn brings_failure(self) -> bool {
        self.brings_value() || self.opens_session()
    }

    /// Whether it brings the ending of a job.
    fn brings_ending(self) -> bool {
        matches!(self, Request::JobWatch | Request::JobResult)
    }

    /// Whether it is about a bundle that the host may lack.
    fn needs_bundle(self) -> bool {
        matches!(
            self,
            Request::Call
                | Request::CallItems
                | Request::Ship
                | Request::SessionOpen
                | Request::SessionArrive
                | Request::JobStart
                | Request::JobOffer
                | Request::JobArrive
        )
    }

    /// Whether this message ends it, other than a refusal.
    fn ends_with(self, message: &Message) -> bool {
        match message {
            Message::Done(_) => self.brings_value(),
            Message::Failed(_) => self.brings_failure(),
            Message::JobRefused(_) => self.brings_ending(),
            Message::Stored(_) => self == Request::Ship,
            Message::StatusReport(_) => self == Request::Status,
            Message::Description(_) => self == Request::Describe,
            Message::SessionOpened(_) => {
                self.opens_session()
                    || matches!(self, Request::SessionRestore | Request::SessionTakeOver)
            }
            Message::SessionSaved(_) => self == Request::SessionSave,
            Message::SessionClosed(_) => {
                matches!(self, Request::SessionClose | Request::SessionGiveUp)
            }
            Message::Sessions(_) => self == Request::SessionList,
            Message::Fetched(_) => self == Request::Fetch,
            Message::JobStarted(_) => self == Request::JobStart,
            Message::JobChanged(_) => self == Request::JobControl,
            Message::JobSaved(_) => self == Request::JobSave,
            Message::JobForgotten(_) => self == Request::JobAcknowledge,
            Message::Jobs(_) => self == Request::JobList,
            Message::JobOffered(_) => self == Request::JobOffer,
            Message::JobLeft(_) => self == Request::JobLeave,
            Message::JobMoved(_) => matches!(self, Request::JobArrive | Request::JobMove),
            _ => false,
        }
    }
}

/// Whether a watch is told of its job already, and where its items begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// The stream is no watch.
    Not,
    /// These items were asked for, and nothing has come.
    Asked(Option<WatchItems>),
    Begun,
}

impl Watch {
    fn of(message: &Message) -> Watch {
        match message {
            Message::JobWatch(watch) => Watch::Asked(watch.items),
            _ => Watch::Not,
        }
    }

    /// Takes the first answer, and gives the items that come.
    fn begin(&mut self, found: Option<u64>) -> Result<Option<Items>, ProtocolError> {
        let Watch::Asked(asked) = *self else {
            return Err(ProtocolError::Unexpected {
                received: "JobWatched",
                state: "no watch begins",
            });
        };
        let items = match (asked, found) {
            (None, None) => None,
            (Some(asked), Some(found)) if asked.from.is_none_or(|from| from == found) => {
                Some(Items::new(found, asked.window))
            }
            _ => {
                return Err(ProtocolError::ItemsFrom {
                    asked: asked.and_then(|asked| asked.from),
                    found,
                });
            }
        };
        *self = Watch::Begun;
        Ok(items)
    }

    /// Whether what a job says may come now.
    fn is_open(self) -> bool {
        !matches!(self, Watch::Asked(_))
    }
}

/// The items that come from the start, without a first answer.
fn items_of(message: &Message) -> Option<Items> {
    match message {
        Message::CallItems(items) => Some(Items::new(0, items.window)),
        Message::SessionCallItems(items) => Some(Items::new(0, items.window)),
        _ => None,
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

impl Difference {
    /// Whether it may come.
    fn check(&self) -> Result<(), ProtocolError> {
        within(Part::Difference, DIFFERENCE_BYTES_MAX, self.raw_bytes)?;
        lengths(self.encoding, self.raw_bytes, self.wire_bytes)
    }
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
