//! The host's side of a stream.

use bytes::Bytes;

use super::{
    ARGS_BYTES_MAX_DEFAULT, Asked, BLOCK_BYTES, BlocksAsked, CODE_BYTES_MAX_DEFAULT,
    MANIFEST_BYTES_MAX_DEFAULT, NotNow, Owed, Part, ProtocolError, Request,
    STATE_BYTES_MAX_DEFAULT, lengths, within,
};
use crate::BlobId;
use crate::message::{Blob, BlobKind, Call, Cancel, Describe, Message, Received, Ship};
use crate::session::{
    Blocks, Fetch, FetchBlocks, SessionCall, SessionClose, SessionOpen, SessionRestore, SessionSave,
};

/// Sizes that a host accepts, in bytes. Each is held against the announcement, before anything of
/// the payload is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Arguments of a call; [`ARGS_BYTES_MAX_DEFAULT`]
    pub args_bytes: u64,
    /// A manifest; [`MANIFEST_BYTES_MAX_DEFAULT`]
    pub manifest_bytes: u64,
    /// Code, decompressed; [`CODE_BYTES_MAX_DEFAULT`]
    pub code_bytes: u64,
    /// State, decompressed; [`STATE_BYTES_MAX_DEFAULT`]
    pub state_bytes: u64,
}

impl Default for HostLimits {
    fn default() -> Self {
        HostLimits {
            args_bytes: ARGS_BYTES_MAX_DEFAULT,
            manifest_bytes: MANIFEST_BYTES_MAX_DEFAULT,
            code_bytes: CODE_BYTES_MAX_DEFAULT,
            state_bytes: STATE_BYTES_MAX_DEFAULT,
        }
    }
}

impl HostLimits {
    fn blob_bytes(&self, kind: BlobKind) -> u64 {
        match kind {
            BlobKind::Manifest => self.manifest_bytes,
            BlobKind::Code => self.code_bytes,
            BlobKind::State => self.state_bytes,
        }
    }
}

/// What a message from the client means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostEvent {
    /// A call; `args_bytes` of arguments follow, or it is complete when that is 0.
    Call(Call),
    /// A bundle to store.
    Ship(Ship),
    /// A manifest to send back.
    Describe(Describe),
    /// A status report to make.
    Status,
    /// A session to open.
    SessionOpen(SessionOpen),
    /// A call in a session; its arguments follow as those of a call.
    SessionCall(SessionCall),
    /// A session to save.
    SessionSave(SessionSave),
    /// A session to put back to its last image.
    SessionRestore(SessionRestore),
    /// A session to end.
    SessionClose(SessionClose),
    /// The sessions of the key are asked for.
    SessionList,
    /// A blob to send back.
    Fetch(Fetch),
    /// Blocks to send back.
    FetchBlocks(FetchBlocks),
    /// The blocks that were asked for; `wire_bytes` follow.
    Blocks(Blocks),
    /// A piece of the blocks.
    BlocksBytes {
        /// The piece
        bytes: Bytes,
        /// Whether they are complete. Whether the bytes are right is not known yet.
        last: bool,
    },
    /// A piece of the arguments.
    Arguments {
        /// The piece
        bytes: Bytes,
        /// Whether the arguments are complete
        last: bool,
    },
    /// A blob that was asked for; `wire_bytes` follow, or it is complete when that is 0.
    Blob {
        /// Its announcement, within the limits
        blob: Blob,
        /// What it was asked for as
        kind: BlobKind,
    },
    /// A piece of the blob that was announced last.
    BlobBytes {
        /// The blob
        id: BlobId,
        /// The piece
        bytes: Bytes,
        /// Whether the blob is complete. Whether the bytes are right is not known yet.
        last: bool,
    },
    /// The client does not have a blob that was asked for.
    Absent {
        /// The blob
        id: BlobId,
        /// What it was asked for as
        kind: BlobKind,
    },
    /// Stop the call.
    Cancel,
    /// Something that was on its way when the outcome was sent. It means nothing any more.
    Late,
    /// The client has finished its half, after the outcome.
    End,
}

#[derive(Clone, Copy, Debug)]
enum Incoming {
    Request,
    Arguments(Owed),
    Open,
    Blob(BlobId, Owed),
    Blocks(Owed),
}

/// The host's side of a stream: from request to outcome.
#[derive(Debug)]
pub struct HostExchange {
    limits: HostLimits,
    request: Option<Request>,
    incoming: Incoming,
    asked: Asked,
    blocks: BlocksAsked,
    /// The outcome has been sent, except for its payload that is owed.
    ended: bool,
    owed: Owed,
}

impl HostExchange {
    /// A stream that the client has just opened.
    pub fn new(limits: HostLimits) -> Self {
        HostExchange {
            limits,
            request: None,
            incoming: Incoming::Request,
            asked: Asked::default(),
            blocks: BlocksAsked::default(),
            ended: false,
            owed: Owed::default(),
        }
    }

    /// Takes what has arrived.
    ///
    /// # Errors
    ///
    /// When the client breaks the protocol or passes a limit. The stream is over then: send
    /// [`ProtocolError::refusal`], finish, and stop reading.
    pub fn receive(&mut self, received: Received) -> Result<HostEvent, ProtocolError> {
        if self.ended {
            return Ok(match received {
                Received::End => HostEvent::End,
                _ => HostEvent::Late,
            });
        }
        let message = match received {
            Received::Message(message) => message,
            Received::Data(piece) => return self.payload(piece),
            Received::End => {
                return Err(ProtocolError::EndedEarly {
                    state: self.state(),
                });
            }
        };
        match (message, self.incoming) {
            (Message::Call(call), Incoming::Request) => {
                self.arguments(Request::Call, call.args_bytes)?;
                Ok(HostEvent::Call(call))
            }
            (Message::SessionCall(call), Incoming::Request) => {
                self.arguments(Request::SessionCall, call.args_bytes)?;
                Ok(HostEvent::SessionCall(call))
            }
            (Message::SessionOpen(open), Incoming::Request) => {
                self.open(Request::SessionOpen, HostEvent::SessionOpen(open))
            }
            (Message::SessionSave(save), Incoming::Request) => {
                self.open(Request::SessionSave, HostEvent::SessionSave(save))
            }
            (Message::SessionRestore(restore), Incoming::Request) => {
                self.open(Request::SessionRestore, HostEvent::SessionRestore(restore))
            }
            (Message::SessionClose(close), Incoming::Request) => {
                self.open(Request::SessionClose, HostEvent::SessionClose(close))
            }
            (Message::SessionList, Incoming::Request) => {
                self.open(Request::SessionList, HostEvent::SessionList)
            }
            (Message::Fetch(fetch), Incoming::Request) => {
                self.open(Request::Fetch, HostEvent::Fetch(fetch))
            }
            (Message::FetchBlocks(fetch), Incoming::Request) => {
                self.open(Request::Fetch, HostEvent::FetchBlocks(fetch))
            }
            (Message::Blocks(blocks), Incoming::Open) => self.blocks(blocks),
            (Message::Ship(ship), Incoming::Request) => {
                self.open(Request::Ship, HostEvent::Ship(ship))
            }
            (Message::Describe(describe), Incoming::Request) => {
                self.open(Request::Describe, HostEvent::Describe(describe))
            }
            (Message::Status, Incoming::Request) => self.open(Request::Status, HostEvent::Status),
            (Message::Blob(blob), Incoming::Open) => self.blob(blob),
            (Message::Absent(absent), Incoming::Open) => {
                let kind = self.asked.answer(absent.id)?;
                Ok(HostEvent::Absent {
                    id: absent.id,
                    kind,
                })
            }
            (Message::Cancel(Cancel { index }), _)
                if self.request.is_some_and(Request::runs_guest) =>
            {
                match index {
                    0 => Ok(HostEvent::Cancel),
                    index => Err(ProtocolError::UnknownIndex { index }),
                }
            }
            (message, _) => Err(self.unexpected(message.name())),
        }
    }

    /// Says whether `message` may be sent now, and takes it as sent.
    ///
    /// # Errors
    ///
    /// When it is out of order, which is a mistake of this program.
    pub fn send(&mut self, message: &Message) -> Result<(), NotNow> {
        let not_now = NotNow {
            message: message.name(),
            state: self.state(),
        };
        if self.ended {
            return Err(not_now);
        }
        let is = |request| self.request == Some(request);
        let outcome = match message {
            Message::Missing(missing) if self.request.is_some_and(Request::needs_bundle) => {
                return self.asked.ask(missing).map_err(|_| not_now);
            }
            Message::BlocksMissing(missing)
                if self.request.is_some_and(Request::needs_bundle)
                    && self.blocks == BlocksAsked::Not =>
            {
                let bytes = missing.missing.len().saturating_mul(BLOCK_BYTES);
                self.blocks = BlocksAsked::Open(missing.index, bytes);
                return Ok(());
            }
            Message::Output(_) | Message::Progress(_)
                if self.request.is_some_and(Request::runs_guest) =>
            {
                return Ok(());
            }
            Message::Refused(_) => true,
            Message::Failed(_) => self.request.is_some_and(Request::runs_guest),
            Message::Done(_) => self.request.is_some_and(Request::is_call),
            Message::Stored(_) => is(Request::Ship),
            Message::StatusReport(_) => is(Request::Status),
            Message::Description(_) => is(Request::Describe),
            Message::SessionOpened(_) => is(Request::SessionOpen) || is(Request::SessionRestore),
            Message::SessionSaved(_) => is(Request::SessionSave),
            Message::SessionClosed(_) => is(Request::SessionClose),
            Message::Sessions(_) => is(Request::SessionList),
            Message::Fetched(_) => is(Request::Fetch),
            _ => false,
        };
        if !outcome {
            return Err(not_now);
        }
        self.ended = true;
        self.owed = Owed(message.payload_bytes());
        Ok(())
    }

    /// Says whether `bytes` of payload may be sent now, and takes them as sent.
    ///
    /// # Errors
    ///
    /// When the outcome did not announce them, which is a mistake of this program.
    pub fn send_payload(&mut self, bytes: u64) -> Result<(), NotNow> {
        let not_now = NotNow {
            message: "Data",
            state: self.state(),
        };
        self.owed.take(bytes).map(|_| ()).map_err(|_| not_now)
    }

    /// Whether the outcome and its payload have been sent, so that the host may finish its half.
    pub fn is_finished(&self) -> bool {
        self.ended && self.owed.is_settled()
    }

    /// Whether the outcome has begun, so that no other may be sent.
    pub fn has_outcome(&self) -> bool {
        self.ended
    }

    /// How many blobs were asked for and have not been announced or denied. Blocks that were asked
    /// for count as one.
    pub fn blobs_open(&self) -> usize {
        let blocks = matches!(self.blocks, BlocksAsked::Open(..));
        self.asked.unanswered() + usize::from(blocks)
    }

    fn arguments(&mut self, request: Request, bytes: u64) -> Result<(), ProtocolError> {
        within(Part::Arguments, self.limits.args_bytes, bytes)?;
        self.request = Some(request);
        self.incoming = match bytes {
            0 => Incoming::Open,
            bytes => Incoming::Arguments(Owed(bytes)),
        };
        Ok(())
    }

    fn blocks(&mut self, blocks: Blocks) -> Result<HostEvent, ProtocolError> {
        let Blocks {
            index,
            encoding,
            raw_bytes,
            wire_bytes,
        } = blocks;
        if self.blocks != BlocksAsked::Open(index, raw_bytes) {
            return Err(ProtocolError::BlocksNotAsked {
                index,
                bytes: raw_bytes,
            });
        }
        within(Part::State, self.limits.state_bytes, raw_bytes)?;
        lengths(encoding, raw_bytes, wire_bytes)?;
        self.blocks = BlocksAsked::Answered;
        if wire_bytes > 0 {
            self.incoming = Incoming::Blocks(Owed(wire_bytes));
        }
        Ok(HostEvent::Blocks(blocks))
    }

    fn open(&mut self, request: Request, event: HostEvent) -> Result<HostEvent, ProtocolError> {
        self.request = Some(request);
        self.incoming = Incoming::Open;
        Ok(event)
    }

    fn blob(&mut self, blob: Blob) -> Result<HostEvent, ProtocolError> {
        let Blob {
            id,
            encoding,
            raw_bytes,
            wire_bytes,
        } = blob;
        let kind = self.asked.kind(id).ok_or(ProtocolError::NotAsked { id })?;
        within(kind.into(), self.limits.blob_bytes(kind), raw_bytes)?;
        lengths(encoding, raw_bytes, wire_bytes)?;
        self.asked.answer(id)?;
        if wire_bytes > 0 {
            self.incoming = Incoming::Blob(id, Owed(wire_bytes));
        }
        Ok(HostEvent::Blob { blob, kind })
    }

    fn payload(&mut self, bytes: Bytes) -> Result<HostEvent, ProtocolError> {
        let length = bytes.len() as u64;
        let surplus = |surplus| ProtocolError::Surplus { surplus };
        let (event, last) = match &mut self.incoming {
            Incoming::Arguments(owed) => {
                let last = owed.take(length).map_err(surplus)?;
                (HostEvent::Arguments { bytes, last }, last)
            }
            Incoming::Blob(id, owed) => {
                let last = owed.take(length).map_err(surplus)?;
                (
                    HostEvent::BlobBytes {
                        id: *id,
                        bytes,
                        last,
                    },
                    last,
                )
            }
            Incoming::Blocks(owed) => {
                let last = owed.take(length).map_err(surplus)?;
                (HostEvent::BlocksBytes { bytes, last }, last)
            }
            Incoming::Request | Incoming::Open => return Err(self.unexpected("Data")),
        };
        if last {
            self.incoming = Incoming::Open;
        }
        Ok(event)
    }

    fn unexpected(&self, received: &'static str) -> ProtocolError {
        ProtocolError::Unexpected {
            received,
            state: self.state(),
        }
    }

    fn state(&self) -> &'static str {
        match (self.ended, self.incoming) {
            (true, _) if self.owed.is_settled() => "the outcome has been sent",
            (true, _) => "the payload of the outcome is being sent",
            (false, Incoming::Request) => "waiting for a request",
            (false, Incoming::Arguments(_)) => "receiving arguments",
            (false, Incoming::Blob(..)) => "receiving a blob",
            (false, Incoming::Blocks(_)) => "receiving blocks",
            (false, Incoming::Open) if self.blobs_open() > 0 => "waiting for blobs",
            (false, Incoming::Open) => "carrying out the request",
        }
    }
}
