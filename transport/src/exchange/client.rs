//! The client's side of a stream.

use bytes::Bytes;

use super::{
    Asked, MANIFEST_BYTES_MAX_DEFAULT, NotNow, OUTPUT_BYTES_MAX_DEFAULT, Owed, Part, ProtocolError,
    RESULT_BYTES_MAX_DEFAULT, Request,
};
use crate::message::{
    Description, Done, Failed, Message, MissingBlob, Output, Progress, Received, Refused, Stored,
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
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            result_bytes: RESULT_BYTES_MAX_DEFAULT,
            output_bytes: OUTPUT_BYTES_MAX_DEFAULT,
            manifest_bytes: MANIFEST_BYTES_MAX_DEFAULT,
        }
    }
}

/// What a message from the host means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The host needs blobs. Each is to be answered with a `Blob` or an `Absent`.
    Missing(Vec<MissingBlob>),
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
    /// The host has finished its half, after the outcome.
    End,
}

/// The client's side of a stream: from request to outcome.
#[derive(Debug)]
pub struct ClientExchange {
    limits: ClientLimits,
    request: Option<Request>,
    asked: Asked,
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
        if let (Message::Cancel(cancel), Some(Request::Call)) = (message, self.request) {
            return if cancel.index == 0 {
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
        match (message, self.request) {
            (Message::Missing(missing), Some(Request::Call | Request::Ship)) => {
                self.asked.ask(&missing)?;
                Ok(ClientEvent::Missing(missing.blobs))
            }
            (Message::Output(output), Some(Request::Call)) => {
                single(output.index)?;
                let limit = self.limits.output_bytes;
                let actual = self.output_bytes + output.bytes.len() as u64;
                within(Part::Output, limit, actual)?;
                self.output_bytes = actual;
                Ok(ClientEvent::Output(output))
            }
            (Message::Progress(progress), Some(Request::Call)) => {
                single(progress.index)?;
                Ok(ClientEvent::Progress(progress))
            }
            (Message::Done(done), Some(Request::Call)) => {
                single(done.index)?;
                within(Part::Result, self.limits.result_bytes, done.payload_bytes)?;
                self.end(done.payload_bytes);
                Ok(ClientEvent::Done(done))
            }
            (Message::Failed(failed), Some(Request::Call)) => {
                single(failed.index)?;
                self.end(0);
                Ok(ClientEvent::Failed(failed))
            }
            (Message::Refused(refused), Some(_)) => {
                single(refused.index)?;
                self.end(0);
                Ok(ClientEvent::Refused(refused))
            }
            (Message::Stored(stored), Some(Request::Ship)) => {
                self.end(0);
                Ok(ClientEvent::Stored(stored))
            }
            (Message::StatusReport(report), Some(Request::Status)) => {
                self.end(0);
                Ok(ClientEvent::Status(Box::new(report)))
            }
            (Message::Description(description), Some(Request::Describe)) => {
                let bytes = description.manifest_bytes;
                within(Part::Manifest, self.limits.manifest_bytes, bytes)?;
                self.end(bytes);
                Ok(ClientEvent::Description(description))
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
