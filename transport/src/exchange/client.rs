//! The client's side of a stream.

use bytes::Bytes;

use super::{
    Asked, BLOCK_BYTES, BlocksAsked, MANIFEST_BYTES_MAX_DEFAULT, NotNow, OUTPUT_BYTES_MAX_DEFAULT,
    Owed, Part, ProtocolError, RESULT_BYTES_MAX_DEFAULT, Request, STATE_BYTES_MAX_DEFAULT, lengths,
    within,
};
use crate::message::{
    Description, Done, Failed, Message, MissingBlob, Output, Progress, Received, Refused, Stored,
};
use crate::session::{
    BlocksMissing, Fetched, SessionClosed, SessionOpened, SessionSaved, Sessions,
};
use crate::status::StatusReport;

/// Sizes that a client accepts, in bytes. A call should ask for the same or less in its
/// [`CallLimits`](crate::message::CallLimits), or a host with higher limits is taken for a liar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// A result, or the guest's own error; [`RESULT_BYTES_MAX_DEFAULT`]
    pub result_bytes: u64,
    /// All output of a call; [`OUTPUT_BYTES_MAX_DEFAULT`]
    pub output_bytes: u64,
    /// A manifest; [`MANIFEST_BYTES_MAX_DEFAULT`]
    pub manifest_bytes: u64,
    /// A blob, or blocks, that are fetched; [`STATE_BYTES_MAX_DEFAULT`]
    pub fetched_bytes: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            result_bytes: RESULT_BYTES_MAX_DEFAULT,
            output_bytes: OUTPUT_BYTES_MAX_DEFAULT,
            manifest_bytes: MANIFEST_BYTES_MAX_DEFAULT,
            fetched_bytes: STATE_BYTES_MAX_DEFAULT,
        }
    }
}

/// What a message from the host means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The host needs blobs. Each is to be answered with a `Blob` or an `Absent`.
    Missing(Vec<MissingBlob>),
    /// The host needs blocks of an image. It is to be answered with `Blocks`.
    BlocksMissing(BlocksMissing),
    /// The guest wrote.
    Output(Output),
    /// The guest says how far it is.
    Progress(Progress),
    /// The guest returned; `payload_bytes` follow, or it is complete when that is 0.
    Done(Done),
    /// The manifest was found; `manifest_bytes` follow, or it is complete when that is 0.
    Description(Description),
    /// A piece of the payload of the outcome.
    Payload {
        /// The piece
        bytes: Bytes,
        /// Whether the payload is complete
        last: bool,
    },
    /// The host refused. The outcome is complete.
    Refused(Refused),
    /// The guest failed. The outcome is complete.
    Failed(Failed),
    /// The bundle is stored. The outcome is complete.
    Stored(Stored),
    /// The host's report. The outcome is complete.
    Status(Box<StatusReport>),
    /// The session can be called. The outcome is complete.
    SessionOpened(SessionOpened),
    /// The session is saved. The outcome is complete.
    SessionSaved(SessionSaved),
    /// The session has ended. The outcome is complete.
    SessionClosed(SessionClosed),
    /// The sessions of this key. The outcome is complete.
    Sessions(Sessions),
    /// What was asked for; `wire_bytes` follow, or it is complete when that is 0.
    Fetched(Fetched),
    /// The host has finished its half, after the outcome.
    End,
}

/// The client's side of a stream: from request to outcome.
#[derive(Debug)]
pub struct ClientExchange {
    limits: ClientLimits,
    request: Option<Request>,
    asked: Asked,
    blocks: BlocksAsked,
    /// Payload that this side has announced and not sent.
    owed: Owed,
    output_bytes: u64,
    /// The outcome has come, except for its payload that is due.
    ended: bool,
    due: Owed,
}

impl ClientExchange {
    /// A stream that is about to be opened.
    pub fn new(limits: ClientLimits) -> Self {
        ClientExchange {
            limits,
            request: None,
            asked: Asked::default(),
            blocks: BlocksAsked::default(),
            owed: Owed::default(),
            output_bytes: 0,
            ended: false,
            due: Owed::default(),
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
        if let Message::Cancel(cancel) = message {
            let runs = self.request.is_some_and(Request::runs_guest);
            return if runs && cancel.index == 0 {
                Ok(())
            } else {
                Err(not_now)
            };
        }
        if !self.owed.is_settled() {
            return Err(not_now);
        }
        match (message, self.request) {
            (Message::Call(_), None) => self.request = Some(Request::Call),
            (Message::Ship(_), None) => self.request = Some(Request::Ship),
            (Message::Status, None) => self.request = Some(Request::Status),
            (Message::Describe(_), None) => self.request = Some(Request::Describe),
            (Message::SessionOpen(_), None) => self.request = Some(Request::SessionOpen),
            (Message::SessionCall(_), None) => self.request = Some(Request::SessionCall),
            (Message::SessionSave(_), None) => self.request = Some(Request::SessionSave),
            (Message::SessionRestore(_), None) => self.request = Some(Request::SessionRestore),
            (Message::SessionClose(_), None) => self.request = Some(Request::SessionClose),
            (Message::SessionList, None) => self.request = Some(Request::SessionList),
            (Message::Fetch(_) | Message::FetchBlocks(_), None) => {
                self.request = Some(Request::Fetch);
            }
            (Message::Blocks(blocks), Some(_)) => {
                if self.blocks != BlocksAsked::Open(blocks.index, blocks.raw_bytes) {
                    return Err(not_now);
                }
                self.blocks = BlocksAsked::Answered;
            }
            (Message::Blob(blob), Some(_)) => {
                self.asked.answer(blob.id).map_err(|_| not_now)?;
            }
            (Message::Absent(absent), Some(_)) => {
                self.asked.answer(absent.id).map_err(|_| not_now)?;
            }
            _ => return Err(not_now),
        }
        self.owed = Owed(message.payload_bytes());
        Ok(())
    }

    /// Says whether `bytes` of payload may be sent now, and takes them as sent.
    ///
    /// # Errors
    ///
    /// When they were not announced, which is a mistake of this program.
    pub fn send_payload(&mut self, bytes: u64) -> Result<(), NotNow> {
        let not_now = NotNow {
            message: "Data",
            state: self.state(),
        };
        self.owed.take(bytes).map(|_| ()).map_err(|_| not_now)
    }

    /// Takes what has arrived.
    ///
    /// # Errors
    ///
    /// When the host breaks the protocol or passes a limit. The stream is over then: reset it with
    /// [`StreamCode::OutOfOrder`](crate::StreamCode::OutOfOrder).
    pub fn receive(&mut self, received: Received) -> Result<ClientEvent, ProtocolError> {
        let message = match received {
            Received::Data(bytes) => {
                if !self.ended || self.due.is_settled() {
                    return Err(self.unexpected("Data"));
                }
                let last = self
                    .due
                    .take(bytes.len() as u64)
                    .map_err(|surplus| ProtocolError::Surplus { surplus })?;
                return Ok(ClientEvent::Payload { bytes, last });
            }
            Received::End if self.is_finished() => return Ok(ClientEvent::End),
            Received::End => {
                return Err(ProtocolError::EndedEarly {
                    state: self.state(),
                });
            }
            Received::Message(message) => message,
        };
        let name = message.name();
        if self.ended {
            return Err(self.unexpected(name));
        }
        let Some(request) = self.request else {
            return Err(self.unexpected(name));
        };
        match message {
            Message::Missing(missing) if request.needs_bundle() => {
                self.asked.ask(&missing)?;
                Ok(ClientEvent::Missing(missing.blobs))
            }
            Message::BlocksMissing(missing)
                if request.needs_bundle() && self.blocks == BlocksAsked::Not =>
            {
                let bytes = missing.missing.len().saturating_mul(BLOCK_BYTES);
                self.blocks = BlocksAsked::Open(missing.index, bytes);
                Ok(ClientEvent::BlocksMissing(missing))
            }
            Message::Output(output) if request.runs_guest() => {
                single(output.index)?;
                let limit = self.limits.output_bytes;
                let actual = self.output_bytes + output.bytes.len() as u64;
                within(Part::Output, limit, actual)?;
                self.output_bytes = actual;
                Ok(ClientEvent::Output(output))
            }
            Message::Progress(progress) if request.runs_guest() => {
                single(progress.index)?;
                Ok(ClientEvent::Progress(progress))
            }
            Message::Done(done) if request.is_call() => {
                single(done.index)?;
                within(Part::Result, self.limits.result_bytes, done.payload_bytes)?;
                self.end(done.payload_bytes);
                Ok(ClientEvent::Done(done))
            }
            Message::Failed(failed) if request.runs_guest() => {
                single(failed.index)?;
                self.end(0);
                Ok(ClientEvent::Failed(failed))
            }
            Message::Refused(refused) => {
                single(refused.index)?;
                self.end(0);
                Ok(ClientEvent::Refused(refused))
            }
            Message::Stored(stored) if request == Request::Ship => {
                self.end(0);
                Ok(ClientEvent::Stored(stored))
            }
            Message::StatusReport(report) if request == Request::Status => {
                self.end(0);
                Ok(ClientEvent::Status(Box::new(report)))
            }
            Message::Description(description) if request == Request::Describe => {
                let bytes = description.manifest_bytes;
                within(Part::Manifest, self.limits.manifest_bytes, bytes)?;
                self.end(bytes);
                Ok(ClientEvent::Description(description))
            }
            Message::SessionOpened(opened)
                if matches!(request, Request::SessionOpen | Request::SessionRestore) =>
            {
                self.end(0);
                Ok(ClientEvent::SessionOpened(opened))
            }
            Message::SessionSaved(saved) if request == Request::SessionSave => {
                self.end(0);
                Ok(ClientEvent::SessionSaved(saved))
            }
            Message::SessionClosed(closed) if request == Request::SessionClose => {
                self.end(0);
                Ok(ClientEvent::SessionClosed(closed))
            }
            Message::Sessions(sessions) if request == Request::SessionList => {
                self.end(0);
                Ok(ClientEvent::Sessions(sessions))
            }
            Message::Fetched(fetched) if request == Request::Fetch => {
                let Fetched {
                    encoding,
                    raw_bytes,
                    wire_bytes,
                } = fetched;
                within(Part::Fetched, self.limits.fetched_bytes, raw_bytes)?;
                lengths(encoding, raw_bytes, wire_bytes)?;
                self.end(wire_bytes);
                Ok(ClientEvent::Fetched(fetched))
            }
            _ => Err(self.unexpected(name)),
        }
    }

    /// Whether the outcome and its payload have come, so that the client may finish its half.
    pub fn is_finished(&self) -> bool {
        self.ended && self.due.is_settled()
    }

    fn end(&mut self, payload_bytes: u64) {
        self.ended = true;
        self.due = Owed(payload_bytes);
    }

    fn unexpected(&self, received: &'static str) -> ProtocolError {
        ProtocolError::Unexpected {
            received,
            state: self.state(),
        }
    }

    fn state(&self) -> &'static str {
        match self.request {
            _ if self.ended && self.due.is_settled() => "the outcome has come",
            _ if self.ended => "receiving the payload of the outcome",
            _ if !self.owed.is_settled() => "sending a payload",
            None => "nothing was requested",
            Some(_) if self.asked.unanswered() > 0 => "answering for blobs",
            Some(_) => "waiting for the outcome",
        }
    }
}

fn single(index: u32) -> Result<(), ProtocolError> {
    if index == 0 {
        Ok(())
    } else {
        Err(ProtocolError::UnknownIndex { index })
    }
}
