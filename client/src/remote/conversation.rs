//! One stream to a host: from the request to the answer, and what is uploaded and heard in between.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spore_bundle::StateId;
use spore_bundle::module::{Interior, Misfit};
use spore_transport::exchange::{ClientEvent, ClientExchange, ProtocolError};
use spore_transport::failure::Failure;
use spore_transport::job::{
    JobChanged, JobLeft, JobMoved, JobOffered, JobSaved, JobStarted, Jobs, Taken,
};
use spore_transport::message::{
    self, Absent, Blob, BlobKind, Encoding, Message, MissingBlob, Refused,
};
use spore_transport::packing;
use spore_transport::session::{Fetched, SessionSaved, Sessions};
use spore_transport::status::StatusReport;
use spore_transport::{BlobId, Receiver, RefusalCode, Sender, SessionId, StreamError};

use crate::call::{Broken, Finished, Outcome, Sink, Told};
use crate::callable::Parcel;
use crate::error::CallError;
use crate::stream::ITEM_WINDOW;

/// Items that were taken and that the host does not know of yet: half of the window, so that the
/// other half is on its way meanwhile.
const TAKEN_ITEMS: u64 = ITEM_WINDOW as u64 / 2;
/// The same in bytes. A host keeps items until it knows, and has room for so many bytes of them.
const TAKEN_BYTES: usize = 64 << 10;
/// The same in time: a host that waits for nothing but this is told.
const TAKEN_TIME: Duration = Duration::from_millis(20);
/// Payload that is passed on is sent when it is as much, in bytes.
const PASS_ON_BYTES: usize = 64 << 10;
/// Compression of more than this is done beside the runtime's thread, in bytes.
const PACK_HERE_MAX: usize = 16 << 10;

/// What a host answers to a request that is no call.
pub(super) enum Answer {
    Stored,
    Manifest(Bytes),
    Status(Box<StatusReport>),
    SessionOpened(SessionId),
    SessionSaved(SessionSaved),
    SessionClosed,
    Sessions(Sessions),
    Fetched(Bytes),
    JobStarted(JobStarted),
    JobChanged(JobChanged),
    JobSaved(JobSaved),
    JobForgotten,
    Jobs(Jobs),
    JobOffered(JobOffered),
    JobLeft(Box<JobLeft>),
    JobMoved(JobMoved),
    Failed(Failure),
    Refused(Refused),
}

impl Answer {
    pub(super) fn unexpected(self) -> CallError<Infallible> {
        match self {
            Answer::Refused(refused) => CallError::Refused(refused),
            Answer::Failed(failure) => CallError::Failed(failure),
            _ => unreachable!("the exchange takes only the answer to its request"),
        }
    }
}

/// One stream under way.
pub(super) struct Conversation {
    pub(super) exchange: ClientExchange,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    /// Whether the host is on this machine.
    pub(super) near: bool,
    /// Bytes of payload that were passed on and are queued.
    pub(super) passing: usize,
}

impl Conversation {
    pub(super) fn queue(&mut self, message: &Message, payload: Bytes) {
        self.exchange
            .send(message)
            .expect("the conversation sends in order");
        self.sender.queue(message);
        if !payload.is_empty() {
            self.exchange
                .send_payload(payload.len() as u64)
                .expect("announced");
            self.sender.queue_payload(payload);
        }
    }

    /// Sends what is queued. A host that stops reading has an answer on its way, which says more
    /// than the failure to send.
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        match self.sender.flush().await {
            Ok(()) | Err(StreamError::Stopped(_)) => Ok(()),
            Err(error) => Err(Broken::Lost(error)),
        }
    }

    pub(super) async fn event(&mut self) -> Result<ClientEvent, Broken> {
        let received = self.receiver.recv().await.map_err(Broken::Lost)?;
        Ok(self.exchange.receive(received)?)
    }

    pub(super) async fn call(
        &mut self,
        call: &Message,
        arguments: Bytes,
        parcel: &Parcel,
        sink: &mut Sink,
    ) -> Result<Finished, Broken> {
        self.queue(call, arguments);
        self.flush().await?;
        let mut taken = Taking::default();
        loop {
            match self.told(Some(parcel), &mut taken).await? {
                Told::Output(stream, bytes) => sink.output(stream, &bytes),
                Told::Progress(done, total) => sink.progress(done, total),
                Told::Ended(finished) => return Ok(finished),
                Told::Refused(refused) => return Ok(Finished::refused(refused)),
                _ => unreachable!("the exchange takes only what answers a call"),
            }
        }
    }

    /// The next thing that is told of a run. Not cancel-safe.
    pub(super) async fn told(
        &mut self,
        parcel: Option<&Parcel>,
        taken: &mut Taking,
    ) -> Result<Told, Broken> {
        let told = loop {
            match self.event_saying(taken).await? {
                ClientEvent::Missing(blobs) => self.upload(blobs, parcel).await?,
                ClientEvent::BlocksMissing(missing) => {
                    self.upload_blocks(&missing, parcel).await?;
                }
                ClientEvent::Output(output) => {
                    return Ok(Told::Output(output.stream, output.bytes));
                }
                ClientEvent::Progress(progress) => {
                    return Ok(Told::Progress(progress.done, progress.total));
                }
                ClientEvent::JobChanged(changed) => return Ok(Told::Changed(changed)),
                ClientEvent::Item(item) => {
                    let bytes = self.payload(item.item_bytes).await?;
                    return Ok(Told::Item(item.sequence, bytes));
                }
                ClientEvent::Done(done) => {
                    let value = self.payload(done.payload_bytes).await?;
                    let outcome = match done.outcome {
                        message::Outcome::Value => Outcome::Value(value),
                        message::Outcome::GuestError => Outcome::Error(value),
                    };
                    break Told::Ended(Finished {
                        outcome,
                        timing: done.timing,
                        output_cut: done.output_cut,
                    });
                }
                ClientEvent::Failed(failed) => {
                    break Told::Ended(Finished {
                        outcome: Outcome::Failed(failed.failure),
                        timing: failed.timing,
                        output_cut: failed.output_cut,
                    });
                }
                ClientEvent::JobRefused(ended) => {
                    break Told::Ended(Finished::refused(ended.refused));
                }
                ClientEvent::Refused(refused) => break Told::Refused(refused),
                _ => unreachable!("the exchange takes only what is told of a run"),
            }
        };
        self.end().await;
        Ok(told)
    }

    /// The next event. If it is long in coming, the host is told which items were taken.
    async fn event_saying(&mut self, taken: &mut Taking) -> Result<ClientEvent, Broken> {
        if taken.is_unsaid() {
            match tokio::time::timeout(TAKEN_TIME, self.event()).await {
                Ok(event) => return event,
                Err(_) => self.say_taken(taken).await?,
            }
        }
        self.event().await
    }

    pub(super) async fn say_taken(&mut self, taken: &mut Taking) -> Result<(), Broken> {
        let below = taken.say();
        self.queue(&Message::Taken(Taken { index: 0, below }), Bytes::new());
        self.flush().await
    }

    pub(super) async fn ask(
        &mut self,
        message: Message,
        payload: Bytes,
        parcel: Option<&Parcel>,
        sink: &mut Sink,
    ) -> Result<Answer, Broken> {
        self.queue(&message, payload);
        self.flush().await?;
        self.answer(parcel, sink).await
    }

    /// Waits for the answer. Of a job that leaves, what makes its bundle comes after it in
    /// [pieces](Self::piece).
    pub(super) async fn answer(
        &mut self,
        parcel: Option<&Parcel>,
        sink: &mut Sink,
    ) -> Result<Answer, Broken> {
        let answer = loop {
            match self.event().await? {
                ClientEvent::Missing(blobs) => self.upload(blobs, parcel).await?,
                ClientEvent::BlocksMissing(missing) => {
                    self.upload_blocks(&missing, parcel).await?;
                }
                ClientEvent::Output(output) => sink.output(output.stream, &output.bytes),
                ClientEvent::Progress(progress) => sink.progress(progress.done, progress.total),
                ClientEvent::SessionOpened(opened) => break Answer::SessionOpened(opened.session),
                ClientEvent::SessionSaved(saved) => break Answer::SessionSaved(saved),
                ClientEvent::SessionClosed(_) => break Answer::SessionClosed,
                ClientEvent::Sessions(sessions) => break Answer::Sessions(sessions),
                ClientEvent::Failed(failed) => break Answer::Failed(failed.failure),
                ClientEvent::Fetched(fetched) => {
                    let payload = self.payload(fetched.wire_bytes).await?;
                    break Answer::Fetched(unpack(&fetched, payload)?);
                }
                ClientEvent::JobStarted(started) => break Answer::JobStarted(started),
                ClientEvent::JobChanged(changed) => break Answer::JobChanged(changed),
                ClientEvent::JobSaved(saved) => break Answer::JobSaved(saved),
                ClientEvent::JobForgotten(_) => break Answer::JobForgotten,
                ClientEvent::Jobs(jobs) => break Answer::Jobs(jobs),
                ClientEvent::JobOffered(offered) => break Answer::JobOffered(offered),
                ClientEvent::JobLeft(left) => break Answer::JobLeft(left),
                ClientEvent::JobMoved(moved) => break Answer::JobMoved(moved),
                ClientEvent::Stored(_) => break Answer::Stored,
                ClientEvent::Status(report) => break Answer::Status(report),
                ClientEvent::Refused(refused) => break Answer::Refused(refused),
                ClientEvent::Description(description) => {
                    break Answer::Manifest(self.payload(description.manifest_bytes).await?);
                }
                _ => unreachable!("the exchange takes only what answers the request"),
            }
        };
        self.end().await;
        Ok(answer)
    }

    /// The next piece of the payload of the outcome, and whether it is the last.
    pub(super) async fn piece(&mut self) -> Result<(Bytes, bool), Broken> {
        match self.event().await? {
            ClientEvent::Payload { bytes, last } => Ok((bytes, last)),
            _ => unreachable!("the exchange takes only the payload that is owed"),
        }
    }

    /// Queues a message whose payload follows [piece by piece](Self::pass_on).
    pub(super) fn announce(&mut self, message: &Message) {
        self.exchange
            .send(message)
            .expect("the conversation sends in order");
        self.sender.queue(message);
    }

    /// Queues a piece of payload, and sends what is queued when that is much or the last. A payload is
    /// no longer than was announced.
    pub(super) async fn pass_on(&mut self, piece: Bytes, last: bool) -> Result<(), Broken> {
        self.exchange
            .send_payload(piece.len() as u64)
            .expect("announced");
        self.passing += piece.len();
        self.sender.queue_payload(piece);
        if last || self.passing >= PASS_ON_BYTES {
            self.passing = 0;
            self.flush().await?;
        }
        Ok(())
    }

    /// The payload of an item or of the outcome. One piece is passed on as it came.
    async fn payload(&mut self, bytes: u64) -> Result<Bytes, Broken> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let mut whole = BytesMut::new();
        loop {
            match self.event().await? {
                ClientEvent::Payload { bytes, last }
                | ClientEvent::ItemBytes { bytes, last, .. } => {
                    if last && whole.is_empty() {
                        return Ok(bytes);
                    }
                    whole.extend_from_slice(&bytes);
                    if last {
                        return Ok(whole.freeze());
                    }
                }
                _ => unreachable!("the exchange takes only the payload that is owed"),
            }
        }
    }

    /// Finishes this half; the outcome is here, so a failure changes nothing.
    pub(super) async fn end(&mut self) {
        let _ = self.sender.finish().await;
    }

    async fn upload(
        &mut self,
        blobs: Vec<MissingBlob>,
        parcel: Option<&Parcel>,
    ) -> Result<(), Broken> {
        // Before anything of it is sent.
        if let Some(parcel) = parcel.filter(|parcel| parcel.imaged) {
            for MissingBlob { id, kind } in &blobs {
                if *kind == BlobKind::Code
                    && let Some(code) = part(parcel, *id, *kind)
                {
                    check_imageable(code).await?;
                }
            }
        }
        for MissingBlob { id, kind } in blobs {
            match parcel.and_then(|parcel| part(parcel, id, kind)) {
                Some(bytes) => {
                    let raw_bytes = bytes.len() as u64;
                    let (encoding, payload) = self.pack(bytes).await;
                    let wire_bytes = payload.len() as u64;
                    let blob = Blob {
                        id,
                        encoding,
                        raw_bytes,
                        wire_bytes,
                    };
                    self.queue(&Message::Blob(blob), payload);
                }
                None => self.queue(&Message::Absent(Absent { id }), Bytes::new()),
            }
            // The host waits for the first only so long, and packing the next may take its time.
            self.flush().await?;
        }
        Ok(())
    }

    /// Compresses what shrinks. To a host on this machine nothing is compressed: that would cost
    /// more than it saves.
    pub(super) async fn pack(&self, bytes: Bytes) -> (Encoding, Bytes) {
        if self.near {
            return (Encoding::Raw, bytes);
        }
        if bytes.len() <= PACK_HERE_MAX {
            return packing::pack(bytes);
        }
        let raw = bytes.clone();
        tokio::task::spawn_blocking(move || packing::pack(bytes))
            .await
            .unwrap_or((Encoding::Raw, raw))
    }
}

/// What was fetched, decompressed: exactly as long as announced, which was held against the limit.
fn unpack(fetched: &Fetched, payload: Bytes) -> Result<Bytes, Broken> {
    let lengths = ProtocolError::BlobLengths {
        raw_bytes: fetched.raw_bytes,
        wire_bytes: fetched.wire_bytes,
    };
    let raw = packing::unpack(fetched.encoding, payload, fetched.raw_bytes);
    raw.ok_or(Broken::Protocol(lengths))
}

/// Refuses code that has no images, as a host would once it has all of it. What else is wrong with the
/// code is for the host to say.
async fn check_imageable(code: Bytes) -> Result<(), Broken> {
    let check = move || Interior::read(&code).map_or(Ok(()), |code| code.check_imageable());
    match tokio::task::spawn_blocking(check).await {
        Ok(Err(obstacle)) => {
            let why = Misfit::from(obstacle).to_string();
            Err(Broken::Refused(Refused::new(RefusalCode::NoImage, why)))
        }
        _ => Ok(()),
    }
}

/// The part of a parcel that a host asks for. Only what the parcel is made of, and what it is asked
/// for as: a host learns nothing else.
fn part(parcel: &Parcel, id: BlobId, kind: BlobKind) -> Option<Bytes> {
    if kind == BlobKind::Items {
        let items = parcel.items.as_ref();
        return items.filter(|items| blob_id(items) == id).cloned();
    }
    let bundle = parcel.whole()?;
    match kind {
        BlobKind::Manifest if id.0 == *bundle.id().as_bytes() => {
            Some(bundle.manifest_bytes().clone())
        }
        BlobKind::Code if id.0 == *bundle.code_id().as_bytes() => Some(bundle.code().clone()),
        BlobKind::State if Some(id.0) == bundle.state_id().map(<[u8; 32]>::from) => {
            bundle.state().cloned()
        }
        _ => None,
    }
}

/// The name of a blob that is no part of a bundle.
pub(super) fn blob_id(bytes: &[u8]) -> BlobId {
    BlobId(*StateId::of(bytes).as_bytes())
}

/// Items that the program has taken, and which of them the host knows of.
#[derive(Default)]
pub(super) struct Taking {
    /// Those below this one.
    below: u64,
    said: u64,
    /// Of those that the host does not know of.
    bytes: usize,
}

impl Taking {
    /// Those below `first` were taken before.
    pub(super) fn from(first: u64) -> Taking {
        Taking {
            below: first,
            said: first,
            bytes: 0,
        }
    }

    /// The program has an item of this number and size.
    pub(super) fn take(&mut self, sequence: u64, bytes: usize) {
        self.below = sequence + 1;
        self.bytes += bytes;
    }

    fn is_unsaid(&self) -> bool {
        self.below > self.said
    }

    /// Whether it is time to tell the host.
    pub(super) fn is_due(&self) -> bool {
        self.below - self.said >= TAKEN_ITEMS || self.bytes >= TAKEN_BYTES
    }

    fn say(&mut self) -> u64 {
        self.said = self.below;
        self.bytes = 0;
        self.below
    }
}
