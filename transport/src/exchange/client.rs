//! The client's side of a stream.

use bytes::Bytes;

use super::{
    Asked, BLOCK_BYTES, BlocksAsked, ITEM_BYTES_MAX_DEFAULT, Items, MANIFEST_BYTES_MAX_DEFAULT,
    NotNow, OUTPUT_BYTES_MAX_DEFAULT, Owed, Part, ProtocolError, RESULT_BYTES_MAX_DEFAULT, Request,
    STATE_BYTES_MAX_DEFAULT, Watch, items_of, lengths, within,
};
use crate::job::{
    JobChanged, JobForgotten, JobLeft, JobMoved, JobOffered, JobRefused, JobSaved, JobStarted,
    JobWatched, Jobs,
};
use crate::message::{
    Description, Done, Failed, Item, Message, MissingBlob, Output, Progress, Received, Refused,
    Stored,
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
    /// An item; [`ITEM_BYTES_MAX_DEFAULT`]
    pub item_bytes: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            result_bytes: RESULT_BYTES_MAX_DEFAULT,
            output_bytes: OUTPUT_BYTES_MAX_DEFAULT,
            manifest_bytes: MANIFEST_BYTES_MAX_DEFAULT,
            fetched_bytes: STATE_BYTES_MAX_DEFAULT,
            item_bytes: ITEM_BYTES_MAX_DEFAULT,
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
    /// An item; `item_bytes` follow, or it is complete when that is 0. Say that it was
    /// [`Taken`](crate::job::Taken) when the program has it, and more can come.
    Item(Item),
    /// A piece of the payload of an item.
    ItemBytes {
        /// The item
        sequence: u64,
        /// The piece
        bytes: Bytes,
        /// Whether the item is complete
        last: bool,
    },
    /// The job is there. The outcome is complete.
    JobStarted(JobStarted),
    /// The job is watched: what it says follows.
    JobWatched(Box<JobWatched>),
    /// How the job is now. It completes the outcome, but for a watch, which goes on.
    JobChanged(JobChanged),
    /// The job is saved. The outcome is complete.
    JobSaved(JobSaved),
    /// The job is forgotten. The outcome is complete.
    JobForgotten(JobForgotten),
    /// The jobs of this key. The outcome is complete.
    Jobs(Jobs),
    /// The job ended with a refusal. The outcome is complete.
    JobRefused(JobRefused),
    /// The job may come. The outcome is complete.
    JobOffered(JobOffered),
    /// The job is stopped and saved. Its difference follows, if there is one; or the outcome is complete.
    JobLeft(Box<JobLeft>),
    /// The step of a move is done. The outcome is complete.
    JobMoved(JobMoved),
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
    watch: Watch,
    items: Option<Items>,
    /// The sequence number of the item whose payload is due, while the outcome has not come.
    item: u64,
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
            watch: Watch::Not,
            items: None,
            item: 0,
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
        if let Message::Taken(taken) = message {
            let underway = !self.due.is_settled();
            let items = self.items.as_mut().filter(|_| taken.index == 0);
            let took = items.map(|items| items.take(taken.below, underway));
            return match took {
                Some(Ok(())) => Ok(()),
                _ => Err(not_now),
            };
        }
        match (message, self.request) {
            (request, None) => {
                self.request = Some(Request::of(request).ok_or(not_now)?);
                self.items = items_of(request);
                self.watch = Watch::of(request);
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
                if self.due.is_settled() {
                    return Err(self.unexpected("Data"));
                }
                let last = self
                    .due
                    .take(bytes.len() as u64)
                    .map_err(|surplus| ProtocolError::Surplus { surplus })?;
                return Ok(match self.ended {
                    true => ClientEvent::Payload { bytes, last },
                    false => ClientEvent::ItemBytes {
                        sequence: self.item,
                        bytes,
                        last,
                    },
                });
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
        if !self.due.is_settled() {
            return Err(self.unexpected(name));
        }
        if request.ends_with(&message) && self.watch.is_open() {
            return self.outcome(message);
        }
        match message {
            Message::Refused(_) => self.outcome(message),
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
            Message::JobWatched(watched) if request == Request::JobWatch => {
                self.items = self.watch.begin(watched.items_from)?;
                Ok(ClientEvent::JobWatched(Box::new(watched)))
            }
            _ if !self.watch.is_open() => Err(self.unexpected(name)),
            Message::Output(output) if request.hears_guest() => {
                single(output.index)?;
                let limit = self.limits.output_bytes;
                let actual = self.output_bytes.saturating_add(output.bytes.len() as u64);
                within(Part::Output, limit, actual)?;
                self.output_bytes = actual;
                Ok(ClientEvent::Output(output))
            }
            Message::Progress(progress) if request.hears_guest() => {
                single(progress.index)?;
                Ok(ClientEvent::Progress(progress))
            }
            Message::Item(item) => {
                single(item.index)?;
                let Some(items) = &mut self.items else {
                    return Err(self.unexpected(name));
                };
                within(Part::Item, self.limits.item_bytes, item.item_bytes)?;
                items.announce(item.sequence)?;
                self.item = item.sequence;
                self.due = Owed(item.item_bytes);
                Ok(ClientEvent::Item(item))
            }
            Message::JobChanged(changed) if request == Request::JobWatch => {
                Ok(ClientEvent::JobChanged(changed))
            }
            _ => Err(self.unexpected(name)),
        }
    }

    /// Takes a message that ends the request.
    fn outcome(&mut self, message: Message) -> Result<ClientEvent, ProtocolError> {
        let payload_bytes = message.payload_bytes();
        let event = match message {
            Message::Refused(refused) => {
                single(refused.index)?;
                ClientEvent::Refused(refused)
            }
            Message::Done(done) => {
                single(done.index)?;
                within(Part::Result, self.limits.result_bytes, payload_bytes)?;
                ClientEvent::Done(done)
            }
            Message::Failed(failed) => {
                single(failed.index)?;
                ClientEvent::Failed(failed)
            }
            Message::Stored(stored) => ClientEvent::Stored(stored),
            Message::StatusReport(report) => ClientEvent::Status(Box::new(report)),
            Message::Description(description) => {
                within(Part::Manifest, self.limits.manifest_bytes, payload_bytes)?;
                ClientEvent::Description(description)
            }
            Message::SessionOpened(opened) => ClientEvent::SessionOpened(opened),
            Message::SessionSaved(saved) => ClientEvent::SessionSaved(saved),
            Message::SessionClosed(closed) => ClientEvent::SessionClosed(closed),
            Message::Sessions(sessions) => ClientEvent::Sessions(sessions),
            Message::Fetched(fetched) => {
                let Fetched {
                    encoding,
                    raw_bytes,
                    wire_bytes,
                } = fetched;
                within(Part::Fetched, self.limits.fetched_bytes, raw_bytes)?;
                lengths(encoding, raw_bytes, wire_bytes)?;
                ClientEvent::Fetched(fetched)
            }
            Message::JobStarted(started) => ClientEvent::JobStarted(started),
            Message::JobChanged(changed) => ClientEvent::JobChanged(changed),
            Message::JobSaved(saved) => ClientEvent::JobSaved(saved),
            Message::JobForgotten(forgotten) => ClientEvent::JobForgotten(forgotten),
            Message::Jobs(jobs) => ClientEvent::Jobs(jobs),
            Message::JobRefused(ended) => {
                single(ended.refused.index)?;
                ClientEvent::JobRefused(ended)
            }
            Message::JobOffered(offered) => ClientEvent::JobOffered(offered),
            Message::JobLeft(left) => {
                left.difference.map_or(Ok(()), |it| it.check())?;
                ClientEvent::JobLeft(Box::new(left))
            }
            Message::JobMoved(moved) => ClientEvent::JobMoved(moved),
            other => return Err(self.unexpected(other.name())),
        };
        self.end(payload_bytes);
        Ok(event)
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
            _ if !self.due.is_settled() => "receiving an item",
            None => "nothing was requested",
            Some(_) if self.asked.unanswered() > 0 => "answering for blobs",
            Some(_) if !self.watch.is_open() => "waiting for word of the job",
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
