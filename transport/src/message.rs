//! Messages, and the limits on what they carry.
//!
//! The body of a message is its struct in the encoding of values. A struct never changes: what a
//! later version must say differently gets a tag of its own. A message that announces payload
//! bytes is followed by `Data` frames that total as many.

mod blob;
mod call;
mod refused;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spore_value::{DecodeError, Limits, codec};

use crate::frame::{Frame, encode_frame};
use crate::job::{
    CallItems, JobAcknowledge, JobArrive, JobCancel, JobChanged, JobForgotten, JobLeave, JobLeft,
    JobMove, JobMoved, JobOffer, JobOffered, JobOpen, JobPause, JobRefused, JobResult, JobResume,
    JobSave, JobSaved, JobStart, JobStarted, JobWatch, JobWatched, Jobs, Taken, check_window,
};
use crate::session::{
    Blocks, BlocksMissing, Fetch, FetchBlocks, Fetched, SessionArrive, SessionCall,
    SessionCallItems, SessionClose, SessionClosed, SessionGiveUp, SessionOpen, SessionOpened,
    SessionRestore, SessionSave, SessionSaved, SessionTakeOver, Sessions,
};
use crate::status::StatusReport;
use crate::tag;

pub use blob::*;
pub use call::*;
pub use refused::*;

/// Deepest nesting of a message: where a session of a list comes from, with a level to spare.
const MESSAGE_DEPTH_MAX: u32 = 8;

/// Any message of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is the message of its name")]
pub enum Message {
    Call(Call),
    Ship(Ship),
    Status,
    Blob(Blob),
    Cancel(Cancel),
    Absent(Absent),
    Describe(Describe),
    Missing(Missing),
    Output(Output),
    Progress(Progress),
    Item(Item),
    Done(Done),
    Refused(Refused),
    Failed(Failed),
    Stored(Stored),
    StatusReport(StatusReport),
    Description(Description),
    SessionOpen(SessionOpen),
    SessionCall(SessionCall),
    /// See [`SessionCallItems`].
    SessionCallItems(SessionCallItems),
    SessionSave(SessionSave),
    SessionRestore(SessionRestore),
    /// See [`SessionArrive`].
    SessionArrive(SessionArrive),
    /// See [`SessionTakeOver`].
    SessionTakeOver(SessionTakeOver),
    /// See [`SessionGiveUp`].
    SessionGiveUp(SessionGiveUp),
    SessionClose(SessionClose),
    SessionList,
    Fetch(Fetch),
    FetchBlocks(FetchBlocks),
    Blocks(Blocks),
    SessionOpened(SessionOpened),
    SessionSaved(SessionSaved),
    SessionClosed(SessionClosed),
    Sessions(Sessions),
    Fetched(Fetched),
    BlocksMissing(BlocksMissing),
    CallItems(CallItems),
    Taken(Taken),
    JobStart(JobStart),
    JobOpen(JobOpen),
    JobList,
    JobWatch(JobWatch),
    JobPause(JobPause),
    JobResume(JobResume),
    JobSave(JobSave),
    JobCancel(JobCancel),
    JobResult(JobResult),
    JobAcknowledge(JobAcknowledge),
    JobOffer(JobOffer),
    JobLeave(JobLeave),
    JobArrive(JobArrive),
    JobMove(JobMove),
    JobStarted(JobStarted),
    JobWatched(JobWatched),
    JobChanged(JobChanged),
    JobSaved(JobSaved),
    JobForgotten(JobForgotten),
    Jobs(Jobs),
    JobRefused(JobRefused),
    JobOffered(JobOffered),
    JobLeft(JobLeft),
    JobMoved(JobMoved),
}

/// What a stream yields, after frames are taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation for each message"
)]
pub enum Received {
    /// A message
    Message(Message),
    /// A piece of a payload, never empty. Pieces do not show where frames end.
    Data(Bytes),
    /// The peer will send nothing more
    End,
}

/// Why the body of a frame is no message. The peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The body is not the encoding of the message.
    #[error("unreadable {message} message")]
    Body {
        /// The message's name
        message: &'static str,
        /// What is wrong with it
        #[source]
        source: DecodeError,
    },
    /// The tag is that of no message.
    #[error("frame {tag:#04x} is no message")]
    NotAMessage {
        /// The tag
        tag: u8,
    },
    /// A field is longer than it may be.
    #[error("{field} has {actual}, at most {limit} are allowed")]
    TooLong {
        /// The field, with its message
        field: &'static str,
        /// Largest length
        limit: usize,
        /// Length found
        actual: usize,
    },
    /// A field that may not be empty is.
    #[error("{field} is empty")]
    Empty {
        /// The field, with its message
        field: &'static str,
    },
}

impl Message {
    /// The tag of the message's frame.
    pub fn tag(&self) -> u8 {
        match self {
            Message::Call(_) => tag::CALL,
            Message::Ship(_) => tag::SHIP,
            Message::Status => tag::STATUS,
            Message::Blob(_) => tag::BLOB,
            Message::Cancel(_) => tag::CANCEL,
            Message::Absent(_) => tag::ABSENT,
            Message::Describe(_) => tag::DESCRIBE,
            Message::Missing(_) => tag::MISSING,
            Message::Output(_) => tag::OUTPUT,
            Message::Progress(_) => tag::PROGRESS,
            Message::Item(_) => tag::ITEM,
            Message::Done(_) => tag::DONE,
            Message::Refused(_) => tag::REFUSED,
            Message::Failed(_) => tag::FAILED,
            Message::Stored(_) => tag::STORED,
            Message::StatusReport(_) => tag::STATUS_REPORT,
            Message::Description(_) => tag::DESCRIPTION,
            Message::SessionOpen(_) => tag::SESSION_OPEN,
            Message::SessionCall(_) => tag::SESSION_CALL,
            Message::SessionCallItems(_) => tag::SESSION_CALL_ITEMS,
            Message::SessionSave(_) => tag::SESSION_SAVE,
            Message::SessionRestore(_) => tag::SESSION_RESTORE,
            Message::SessionArrive(_) => tag::SESSION_ARRIVE,
            Message::SessionTakeOver(_) => tag::SESSION_TAKE_OVER,
            Message::SessionGiveUp(_) => tag::SESSION_GIVE_UP,
            Message::SessionClose(_) => tag::SESSION_CLOSE,
            Message::SessionList => tag::SESSION_LIST,
            Message::Fetch(_) => tag::FETCH,
            Message::FetchBlocks(_) => tag::FETCH_BLOCKS,
            Message::Blocks(_) => tag::BLOCKS,
            Message::SessionOpened(_) => tag::SESSION_OPENED,
            Message::SessionSaved(_) => tag::SESSION_SAVED,
            Message::SessionClosed(_) => tag::SESSION_CLOSED,
            Message::Sessions(_) => tag::SESSIONS,
            Message::Fetched(_) => tag::FETCHED,
            Message::BlocksMissing(_) => tag::BLOCKS_MISSING,
            Message::CallItems(_) => tag::CALL_ITEMS,
            Message::Taken(_) => tag::TAKEN,
            Message::JobStart(_) => tag::JOB_START,
            Message::JobOpen(_) => tag::JOB_OPEN,
            Message::JobList => tag::JOB_LIST,
            Message::JobWatch(_) => tag::JOB_WATCH,
            Message::JobPause(_) => tag::JOB_PAUSE,
            Message::JobResume(_) => tag::JOB_RESUME,
            Message::JobSave(_) => tag::JOB_SAVE,
            Message::JobCancel(_) => tag::JOB_CANCEL,
            Message::JobResult(_) => tag::JOB_RESULT,
            Message::JobAcknowledge(_) => tag::JOB_ACKNOWLEDGE,
            Message::JobOffer(_) => tag::JOB_OFFER,
            Message::JobLeave(_) => tag::JOB_LEAVE,
            Message::JobArrive(_) => tag::JOB_ARRIVE,
            Message::JobMove(_) => tag::JOB_MOVE,
            Message::JobStarted(_) => tag::JOB_STARTED,
            Message::JobWatched(_) => tag::JOB_WATCHED,
            Message::JobChanged(_) => tag::JOB_CHANGED,
            Message::JobSaved(_) => tag::JOB_SAVED,
            Message::JobForgotten(_) => tag::JOB_FORGOTTEN,
            Message::Jobs(_) => tag::JOBS,
            Message::JobRefused(_) => tag::JOB_REFUSED,
            Message::JobOffered(_) => tag::JOB_OFFERED,
            Message::JobLeft(_) => tag::JOB_LEFT,
            Message::JobMoved(_) => tag::JOB_MOVED,
        }
    }

    /// The name in the frame table.
    pub fn name(&self) -> &'static str {
        tag_name(self.tag())
    }

    /// Bytes of payload that follow the message.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Message::Call(call) => call.args_bytes,
            Message::Blob(blob) => blob.wire_bytes,
            Message::Item(item) => item.item_bytes,
            Message::Done(done) => done.payload_bytes,
            Message::Description(description) => description.manifest_bytes,
            Message::SessionCall(call) => call.args_bytes,
            Message::SessionCallItems(items) => items.call.args_bytes,
            Message::Blocks(blocks) => blocks.wire_bytes,
            Message::Fetched(fetched) => fetched.wire_bytes,
            Message::CallItems(items) => items.call.args_bytes,
            Message::JobStart(start) => start.call.args_bytes,
            Message::JobLeft(left) => left.difference.map_or(0, |it| it.wire_bytes),
            Message::JobArrive(arrive) => arrive.difference.map_or(0, |it| it.wire_bytes),
            _ => 0,
        }
    }

    /// Appends the message's frame. The payload is the caller's to send.
    ///
    /// # Panics
    ///
    /// When a field is longer than its limit. Texts cannot be: their constructors cut them.
    pub fn encode(&self, into: &mut BytesMut) {
        match self {
            Message::Call(body) => put(tag::CALL, body, into),
            Message::Ship(body) => put(tag::SHIP, body, into),
            Message::Status => encode_frame(tag::STATUS, &[], into),
            Message::Blob(body) => put(tag::BLOB, body, into),
            Message::Cancel(body) => put(tag::CANCEL, body, into),
            Message::Absent(body) => put(tag::ABSENT, body, into),
            Message::Describe(body) => put(tag::DESCRIBE, body, into),
            Message::Missing(body) => put(tag::MISSING, body, into),
            Message::Output(body) => put(tag::OUTPUT, body, into),
            Message::Progress(body) => put(tag::PROGRESS, body, into),
            Message::Item(body) => put(tag::ITEM, body, into),
            Message::Done(body) => put(tag::DONE, body, into),
            Message::Refused(body) => put(tag::REFUSED, body, into),
            Message::Failed(body) => put(tag::FAILED, body, into),
            Message::Stored(body) => put(tag::STORED, body, into),
            Message::StatusReport(body) => put(tag::STATUS_REPORT, body, into),
            Message::Description(body) => put(tag::DESCRIPTION, body, into),
            Message::SessionOpen(body) => put(tag::SESSION_OPEN, body, into),
            Message::SessionCall(body) => put(tag::SESSION_CALL, body, into),
            Message::SessionCallItems(body) => put(tag::SESSION_CALL_ITEMS, body, into),
            Message::SessionSave(body) => put(tag::SESSION_SAVE, body, into),
            Message::SessionRestore(body) => put(tag::SESSION_RESTORE, body, into),
            Message::SessionArrive(body) => put(tag::SESSION_ARRIVE, body, into),
            Message::SessionTakeOver(body) => put(tag::SESSION_TAKE_OVER, body, into),
            Message::SessionGiveUp(body) => put(tag::SESSION_GIVE_UP, body, into),
            Message::SessionClose(body) => put(tag::SESSION_CLOSE, body, into),
            Message::SessionList => encode_frame(tag::SESSION_LIST, &[], into),
            Message::Fetch(body) => put(tag::FETCH, body, into),
            Message::FetchBlocks(body) => put(tag::FETCH_BLOCKS, body, into),
            Message::Blocks(body) => put(tag::BLOCKS, body, into),
            Message::SessionOpened(body) => put(tag::SESSION_OPENED, body, into),
            Message::SessionSaved(body) => put(tag::SESSION_SAVED, body, into),
            Message::SessionClosed(body) => put(tag::SESSION_CLOSED, body, into),
            Message::Sessions(body) => put(tag::SESSIONS, body, into),
            Message::Fetched(body) => put(tag::FETCHED, body, into),
            Message::BlocksMissing(body) => put(tag::BLOCKS_MISSING, body, into),
            Message::CallItems(body) => put(tag::CALL_ITEMS, body, into),
            Message::Taken(body) => put(tag::TAKEN, body, into),
            Message::JobStart(body) => put(tag::JOB_START, body, into),
            Message::JobOpen(body) => put(tag::JOB_OPEN, body, into),
            Message::JobList => encode_frame(tag::JOB_LIST, &[], into),
            Message::JobWatch(body) => put(tag::JOB_WATCH, body, into),
            Message::JobPause(body) => put(tag::JOB_PAUSE, body, into),
            Message::JobResume(body) => put(tag::JOB_RESUME, body, into),
            Message::JobSave(body) => put(tag::JOB_SAVE, body, into),
            Message::JobCancel(body) => put(tag::JOB_CANCEL, body, into),
            Message::JobResult(body) => put(tag::JOB_RESULT, body, into),
            Message::JobAcknowledge(body) => put(tag::JOB_ACKNOWLEDGE, body, into),
            Message::JobOffer(body) => put(tag::JOB_OFFER, body, into),
            Message::JobLeave(body) => put(tag::JOB_LEAVE, body, into),
            Message::JobArrive(body) => put(tag::JOB_ARRIVE, body, into),
            Message::JobMove(body) => put(tag::JOB_MOVE, body, into),
            Message::JobStarted(body) => put(tag::JOB_STARTED, body, into),
            Message::JobWatched(body) => put(tag::JOB_WATCHED, body, into),
            Message::JobChanged(body) => put(tag::JOB_CHANGED, body, into),
            Message::JobSaved(body) => put(tag::JOB_SAVED, body, into),
            Message::JobForgotten(body) => put(tag::JOB_FORGOTTEN, body, into),
            Message::Jobs(body) => put(tag::JOBS, body, into),
            Message::JobRefused(body) => put(tag::JOB_REFUSED, body, into),
            Message::JobOffered(body) => put(tag::JOB_OFFERED, body, into),
            Message::JobLeft(body) => put(tag::JOB_LEFT, body, into),
            Message::JobMoved(body) => put(tag::JOB_MOVED, body, into),
        }
    }

    /// Reads the body of a frame other than `Data`.
    ///
    /// # Errors
    ///
    /// When the body is not the encoding of the message, or a field passes its limit.
    pub fn decode(tag: u8, body: &[u8]) -> Result<Message, MessageError> {
        let message = match tag {
            tag::CALL => Message::Call(get(tag, body)?),
            tag::SHIP => Message::Ship(get(tag, body)?),
            tag::STATUS => Message::Status,
            tag::BLOB => Message::Blob(get(tag, body)?),
            tag::CANCEL => Message::Cancel(get(tag, body)?),
            tag::ABSENT => Message::Absent(get(tag, body)?),
            tag::DESCRIBE => Message::Describe(get(tag, body)?),
            tag::MISSING => Message::Missing(get(tag, body)?),
            tag::OUTPUT => Message::Output(get(tag, body)?),
            tag::PROGRESS => Message::Progress(get(tag, body)?),
            tag::ITEM => Message::Item(get(tag, body)?),
            tag::DONE => Message::Done(get(tag, body)?),
            tag::REFUSED => Message::Refused(get(tag, body)?),
            tag::FAILED => Message::Failed(get(tag, body)?),
            tag::STORED => Message::Stored(get(tag, body)?),
            tag::STATUS_REPORT => Message::StatusReport(get(tag, body)?),
            tag::DESCRIPTION => Message::Description(get(tag, body)?),
            tag::SESSION_OPEN => Message::SessionOpen(get(tag, body)?),
            tag::SESSION_CALL => Message::SessionCall(get(tag, body)?),
            tag::SESSION_CALL_ITEMS => Message::SessionCallItems(get(tag, body)?),
            tag::SESSION_SAVE => Message::SessionSave(get(tag, body)?),
            tag::SESSION_RESTORE => Message::SessionRestore(get(tag, body)?),
            tag::SESSION_ARRIVE => Message::SessionArrive(get(tag, body)?),
            tag::SESSION_TAKE_OVER => Message::SessionTakeOver(get(tag, body)?),
            tag::SESSION_GIVE_UP => Message::SessionGiveUp(get(tag, body)?),
            tag::SESSION_CLOSE => Message::SessionClose(get(tag, body)?),
            tag::SESSION_LIST => Message::SessionList,
            tag::FETCH => Message::Fetch(get(tag, body)?),
            tag::FETCH_BLOCKS => Message::FetchBlocks(get(tag, body)?),
            tag::BLOCKS => Message::Blocks(get(tag, body)?),
            tag::SESSION_OPENED => Message::SessionOpened(get(tag, body)?),
            tag::SESSION_SAVED => Message::SessionSaved(get(tag, body)?),
            tag::SESSION_CLOSED => Message::SessionClosed(get(tag, body)?),
            tag::SESSIONS => Message::Sessions(get(tag, body)?),
            tag::FETCHED => Message::Fetched(get(tag, body)?),
            tag::BLOCKS_MISSING => Message::BlocksMissing(get(tag, body)?),
            tag::CALL_ITEMS => Message::CallItems(get(tag, body)?),
            tag::TAKEN => Message::Taken(get(tag, body)?),
            tag::JOB_START => Message::JobStart(get(tag, body)?),
            tag::JOB_OPEN => Message::JobOpen(get(tag, body)?),
            tag::JOB_LIST => Message::JobList,
            tag::JOB_WATCH => Message::JobWatch(get(tag, body)?),
            tag::JOB_PAUSE => Message::JobPause(get(tag, body)?),
            tag::JOB_RESUME => Message::JobResume(get(tag, body)?),
            tag::JOB_SAVE => Message::JobSave(get(tag, body)?),
            tag::JOB_CANCEL => Message::JobCancel(get(tag, body)?),
            tag::JOB_RESULT => Message::JobResult(get(tag, body)?),
            tag::JOB_ACKNOWLEDGE => Message::JobAcknowledge(get(tag, body)?),
            tag::JOB_OFFER => Message::JobOffer(get(tag, body)?),
            tag::JOB_LEAVE => Message::JobLeave(get(tag, body)?),
            tag::JOB_ARRIVE => Message::JobArrive(get(tag, body)?),
            tag::JOB_MOVE => Message::JobMove(get(tag, body)?),
            tag::JOB_STARTED => Message::JobStarted(get(tag, body)?),
            tag::JOB_WATCHED => Message::JobWatched(get(tag, body)?),
            tag::JOB_CHANGED => Message::JobChanged(get(tag, body)?),
            tag::JOB_SAVED => Message::JobSaved(get(tag, body)?),
            tag::JOB_FORGOTTEN => Message::JobForgotten(get(tag, body)?),
            tag::JOBS => Message::Jobs(get(tag, body)?),
            tag::JOB_REFUSED => Message::JobRefused(get(tag, body)?),
            tag::JOB_OFFERED => Message::JobOffered(get(tag, body)?),
            tag::JOB_LEFT => Message::JobLeft(get(tag, body)?),
            tag::JOB_MOVED => Message::JobMoved(get(tag, body)?),
            _ => return Err(MessageError::NotAMessage { tag }),
        };
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Message::Missing(missing) => {
                within("Missing.blobs", missing.blobs.len(), MISSING_MAX)?;
                not_empty("Missing.blobs", missing.blobs.len())
            }
            Message::Output(output) => {
                within("Output.bytes", output.bytes.len(), OUTPUT_BYTES_MAX)?;
                not_empty("Output.bytes", output.bytes.len())
            }
            Message::Refused(refused) => refused.check(),
            Message::JobRefused(ended) => ended.refused.check(),
            Message::Jobs(jobs) => jobs.check(),
            Message::JobWatched(watched) => watched.check(),
            Message::CallItems(items) => check_window("CallItems.window", items.window),
            Message::SessionCallItems(items) => {
                check_window("SessionCallItems.window", items.window)
            }
            Message::JobWatch(JobWatch {
                items: Some(items), ..
            }) => check_window("JobWatch.window", items.window),
            Message::Failed(failed) => failed.failure.check(),
            Message::StatusReport(report) => report.check(),
            Message::Sessions(sessions) => sessions.check(),
            Message::FetchBlocks(fetch) => fetch.wanted.check("FetchBlocks.wanted"),
            Message::BlocksMissing(blocks) => blocks.missing.check("BlocksMissing.missing"),
            _ => Ok(()),
        }
    }
}

impl Received {
    /// Takes a frame apart.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`].
    pub fn from_frame(frame: Frame) -> Result<Received, MessageError> {
        match frame {
            Frame::Whole { tag, body } => Message::decode(tag, &body).map(Received::Message),
            Frame::Data(piece) => Ok(Received::Data(piece)),
        }
    }

    /// What it is, for messages to people.
    pub fn name(&self) -> &'static str {
        match self {
            Received::Message(message) => message.name(),
            Received::Data(_) => "Data",
            Received::End => "end of stream",
        }
    }
}

/// Cuts a text to at most `limit` bytes, at a character.
pub(crate) fn cut(text: &mut String, limit: usize) {
    text.truncate(text.floor_char_boundary(limit));
}

pub(crate) fn within(field: &'static str, actual: usize, limit: usize) -> Result<(), MessageError> {
    if actual > limit {
        Err(MessageError::TooLong {
            field,
            limit,
            actual,
        })
    } else {
        Ok(())
    }
}

pub(crate) fn not_empty(field: &'static str, actual: usize) -> Result<(), MessageError> {
    if actual == 0 {
        Err(MessageError::Empty { field })
    } else {
        Ok(())
    }
}

fn tag_name(tag: u8) -> &'static str {
    tag::lookup(tag)
        .expect("every message has a row in the table")
        .name
}

fn put<T: Serialize>(tag: u8, body: &T, into: &mut BytesMut) {
    let body = codec::encode_serde(body).expect("messages are made of encodable fields");
    encode_frame(tag, &body, into);
}

fn get<T: DeserializeOwned>(tag: u8, body: &[u8]) -> Result<T, MessageError> {
    // The length of the body was held against its tag at the header. Elements take a byte each,
    // and the structs around them are few.
    let bytes = body.len() as u64;
    let limits = Limits::default()
        .with_bytes(bytes)
        .with_elements(bytes)
        .with_work(4 * bytes + 64)
        .with_depth(MESSAGE_DEPTH_MAX);
    codec::decode_serde(body, &limits).map_err(|source| MessageError::Body {
        message: tag_name(tag),
        source,
    })
}

/// `Bytes` as one string of bytes: serde takes vectors of bytes one by one.
pub(crate) mod byte_string {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer, de::Visitor};
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct ByteString;
        impl Visitor<'_> for ByteString {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }
        }
        from.deserialize_byte_buf(ByteString)
    }
}
