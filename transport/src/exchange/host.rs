//! The host's side of a stream.

use bytes::Bytes;

use super::{
    ARGS_BYTES_MAX_DEFAULT, Asked, BLOCK_BYTES, BlocksAsked, CODE_BYTES_MAX_DEFAULT,
    HELD_ITEMS_BYTES_MAX_DEFAULT, Items, MANIFEST_BYTES_MAX_DEFAULT, NotNow, Owed, Part,
    ProtocolError, Request, STATE_BYTES_MAX_DEFAULT, Watch, items_of, lengths, within,
};
use crate::BlobId;
use crate::job::{
    CallItems, JobAcknowledge, JobArrive, JobCancel, JobLeave, JobMove, JobOffer, JobOpen,
    JobPause, JobResult, JobResume, JobSave, JobStart, JobWatch, Taken,
};
use crate::message::{Blob, BlobKind, Call, Cancel, Describe, Message, Received, Ship};
use crate::session::{
    Blocks, Fetch, FetchBlocks, SessionArrive, SessionCall, SessionCallItems, SessionClose,
    SessionGiveUp, SessionOpen, SessionRestore, SessionSave, SessionTakeOver,
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
    /// Items that come with a job, decompressed; [`HELD_ITEMS_BYTES_MAX_DEFAULT`]
    pub held_items_bytes: u64,
}

impl Default for HostLimits {
    fn default() -> Self {
        HostLimits {
            args_bytes: ARGS_BYTES_MAX_DEFAULT,
            manifest_bytes: MANIFEST_BYTES_MAX_DEFAULT,
            code_bytes: CODE_BYTES_MAX_DEFAULT,
            state_bytes: STATE_BYTES_MAX_DEFAULT,
            held_items_bytes: HELD_ITEMS_BYTES_MAX_DEFAULT,
        }
    }
}

impl HostLimits {
    fn blob_bytes(&self, kind: BlobKind) -> u64 {
        match kind {
            BlobKind::Manifest => self.manifest_bytes,
            BlobKind::Code => self.code_bytes,
            BlobKind::State => self.state_bytes,
            BlobKind::Items => self.held_items_bytes,
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
    /// The same, of a callable that emits items.
    SessionCallItems(SessionCallItems),
    /// A session to save.
    SessionSave(SessionSave),
    /// A session to put back to its last image.
    SessionRestore(SessionRestore),
    /// A session that comes from another host.
    SessionArrive(SessionArrive),
    /// A session that was given up where it comes from.
    SessionTakeOver(SessionTakeOver),
    /// A session to give up to a copy of it elsewhere.
    SessionGiveUp(SessionGiveUp),
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
        /// Whether they are complete
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
    /// A call whose items are asked for; its arguments follow as those of a call.
    CallItems(CallItems),
    /// The client has taken the items below this one.
    Taken {
        /// The first that it has not
        below: u64,
    },
    /// A job to start; its arguments follow as those of a call.
    JobStart(JobStart),
    /// A job to start from an image.
    JobOpen(JobOpen),
    /// The jobs of the key are asked for.
    JobList,
    /// A job to watch.
    JobWatch(JobWatch),
    /// A job to pause.
    JobPause(JobPause),
    /// A job to let go on.
    JobResume(JobResume),
    /// A job to save.
    JobSave(JobSave),
    /// A job to end.
    JobCancel(JobCancel),
    /// The ending of a job is asked for.
    JobResult(JobResult),
    /// A job to forget.
    JobAcknowledge(JobAcknowledge),
    /// A job that may come.
    JobOffer(JobOffer),
    /// A job to stop and save for a move.
    JobLeave(JobLeave),
    /// A job that comes; its difference follows as the arguments of a call, if there is one.
    JobArrive(JobArrive),
    /// A step of a move.
    JobMove(JobMove),
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
    watch: Watch,
    items: Option<Items>,
    /// The outcome has been sent, except for its payload that is owed. Before, the payload of an
    /// item may be.
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
            watch: Watch::Not,
            items: None,
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
            (request, Incoming::Request) => self.begin(request),
            (Message::Taken(taken), Incoming::Open) => self.taken(taken),
            (Message::Blocks(blocks), Incoming::Open) => self.blocks(blocks),
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
        if !self.owed.is_settled() {
            return Err(not_now);
        }
        let request = self.request;
        let may = |right: fn(Request) -> bool| request.is_some_and(right);
        match message {
            Message::Missing(missing) if may(Request::needs_bundle) => {
                return self.asked.ask(missing).map_err(|_| not_now);
            }
            Message::BlocksMissing(missing)
                if may(Request::needs_bundle) && self.blocks == BlocksAsked::Not =>
            {
                let bytes = missing.missing.len().saturating_mul(BLOCK_BYTES);
                self.blocks = BlocksAsked::Open(missing.index, bytes);
                return Ok(());
            }
            Message::JobWatched(watched) if request == Some(Request::JobWatch) => {
                self.items = self.watch.begin(watched.items_from).map_err(|_| not_now)?;
                return Ok(());
            }
            // A watch begins with word of the job, or is refused.
            Message::Refused(_) => {}
            _ if !self.watch.is_open() => return Err(not_now),
            Message::Output(_) | Message::Progress(_) if may(Request::hears_guest) => {
                return Ok(());
            }
            Message::JobChanged(_) if request == Some(Request::JobWatch) => return Ok(()),
            Message::Item(item) => {
                let items = self.items.as_mut().filter(|_| item.index == 0);
                return match items.map(|items| items.announce(item.sequence)) {
                    Some(Ok(())) => {
                        self.owed = Owed(item.item_bytes);
                        Ok(())
                    }
                    _ => Err(not_now),
                };
            }
            outcome if request.is_some_and(|request| request.ends_with(outcome)) => {}
            _ => return Err(not_now),
        }
        self.ended = true;
        self.owed = Owed(message.payload_bytes());
        Ok(())
    }

    /// Says whether `bytes` of payload may be sent now, and takes them as sent.
    ///
    /// # Errors
    ///
    /// When neither the outcome nor an item announced them, which is a mistake of this program.
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

    /// Whether another item may be sent now, or the client has to take some first.
    pub fn may_send_item(&self) -> bool {
        let may = |items: &Items| items.may_send();
        !self.ended && self.owed.is_settled() && self.items.as_ref().is_some_and(may)
    }

    fn begin(&mut self, message: Message) -> Result<HostEvent, ProtocolError> {
        let Some(request) = Request::of(&message) else {
            return Err(self.unexpected(message.name()));
        };
        let bytes = message.payload_bytes();
        match &message {
            Message::JobArrive(JobArrive {
                difference: Some(difference),
                ..
            }) => difference.check()?,
            // Of other requests, only those of calls have a payload.
            _ => within(Part::Arguments, self.limits.args_bytes, bytes)?,
        }
        self.request = Some(request);
        self.watch = Watch::of(&message);
        self.items = items_of(&message);
        self.incoming = match bytes {
            0 => Incoming::Open,
            bytes => Incoming::Arguments(Owed(bytes)),
        };
        Ok(match message {
            Message::Call(call) => HostEvent::Call(call),
            Message::CallItems(call) => HostEvent::CallItems(call),
            Message::Ship(ship) => HostEvent::Ship(ship),
            Message::Describe(describe) => HostEvent::Describe(describe),
            Message::Status => HostEvent::Status,
            Message::SessionOpen(open) => HostEvent::SessionOpen(open),
            Message::SessionCall(call) => HostEvent::SessionCall(call),
            Message::SessionCallItems(call) => HostEvent::SessionCallItems(call),
            Message::SessionSave(save) => HostEvent::SessionSave(save),
            Message::SessionRestore(restore) => HostEvent::SessionRestore(restore),
            Message::SessionArrive(arrive) => HostEvent::SessionArrive(arrive),
            Message::SessionTakeOver(take) => HostEvent::SessionTakeOver(take),
            Message::SessionGiveUp(give) => HostEvent::SessionGiveUp(give),
            Message::SessionClose(close) => HostEvent::SessionClose(close),
            Message::SessionList => HostEvent::SessionList,
            Message::Fetch(fetch) => HostEvent::Fetch(fetch),
            Message::FetchBlocks(fetch) => HostEvent::FetchBlocks(fetch),
            Message::JobStart(start) => HostEvent::JobStart(start),
            Message::JobOpen(open) => HostEvent::JobOpen(open),
            Message::JobList => HostEvent::JobList,
            Message::JobWatch(watch) => HostEvent::JobWatch(watch),
            Message::JobPause(pause) => HostEvent::JobPause(pause),
            Message::JobResume(resume) => HostEvent::JobResume(resume),
            Message::JobSave(save) => HostEvent::JobSave(save),
            Message::JobCancel(cancel) => HostEvent::JobCancel(cancel),
            Message::JobResult(result) => HostEvent::JobResult(result),
            Message::JobAcknowledge(acknowledge) => HostEvent::JobAcknowledge(acknowledge),
            Message::JobOffer(offer) => HostEvent::JobOffer(offer),
            Message::JobLeave(leave) => HostEvent::JobLeave(leave),
            Message::JobArrive(arrive) => HostEvent::JobArrive(arrive),
            Message::JobMove(step) => HostEvent::JobMove(step),
            _ => unreachable!("a request, which was found above"),
        })
    }

    fn taken(&mut self, taken: Taken) -> Result<HostEvent, ProtocolError> {
        let underway = !self.owed.is_settled();
        let Some(items) = &mut self.items else {
            return Err(self.unexpected("Taken"));
        };
        if taken.index != 0 {
            return Err(ProtocolError::UnknownIndex { index: taken.index });
        }
        items.take(taken.below, underway)?;
        Ok(HostEvent::Taken { below: taken.below })
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
            (false, Incoming::Open) if !self.owed.is_settled() => "sending an item",
            (false, Incoming::Open) => "carrying out the request",
        }
    }
}
