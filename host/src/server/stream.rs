//! One stream: from its request to the outcome.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spore_bundle::limits::MANIFEST_BYTES_MAX;
use spore_bundle::{Bundle, BundleId};
use spore_transport::exchange::{HostEvent, HostExchange, HostLimits, ProtocolError};
use spore_transport::message::{
    self, Call, Description, Done, Failed, Item, Message, Output, Progress, Refused, Stored, Timing,
};
use spore_transport::status::Amount;
use spore_transport::{
    BlobId, ConnectionError, PublicKey, Receiver, RefusalCode, Sender, Stream, StreamCode,
    StreamError,
};
use tokio::sync::OwnedSemaphorePermit;

use super::blobs::{Blobs, UploadRoom};
use super::loading::store_refusal;
use super::relay::Relay;
use crate::background::FreedBeside;
use crate::bundles::Loaded;
use crate::callers::Caller;
use crate::code::chain;
use crate::events::{Event, Finished, Outcome, Running};
use crate::host::{Host, Request};
use crate::limits::{millis, nanos};
use crate::store::{StoreError, Verified};

/// Slowest that a peer may send what it has announced, in bytes a second, the time of a stall aside.
/// One that sends a byte now and then would hold its memory for days.
const UPLOAD_RATE_MIN: u64 = 16 << 10;

const NEVER_CLOSED: &str = "the semaphore is never closed";

/// Payload that is written at one time, so that a reader who takes it slowly is told from one who
/// takes nothing.
const WRITE_BYTES: usize = 1 << 20;

/// The same of what lies in pieces, of which the first are on their way while the next are queued.
const PIECES_BYTES: usize = 128 << 10;

/// Time that the last outcomes of a host which shuts down get to arrive.
const ARRIVAL_TIME: Duration = Duration::from_secs(1);

/// What the streams of one connection share.
pub(super) struct Peer {
    pub(super) host: Host,
    pub(super) blobs: Arc<Blobs>,
    pub(super) key: PublicKey,
    pub(super) caller: Caller,
    /// Whether the client is on this machine.
    pub(super) near: bool,
    /// From the workers to the thread of the connection.
    pub(super) relay: Relay,
    /// Requests of all keys that are open.
    pub(super) requests: Arc<AtomicU32>,
}

/// An open request, counted while this lives.
struct Open<'a>(&'a Peer);

impl Open<'_> {
    fn count(peer: &Peer) -> (Open<'_>, bool) {
        let limit = peer.caller.limits.requests_per_key;
        let before = peer.caller.state.requests.fetch_add(1, Ordering::Relaxed);
        peer.requests.fetch_add(1, Ordering::Relaxed);
        (Open(peer), before < limit)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.caller.state.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a stream ends without its outcome having been sent by the request itself.
#[derive(Debug)]
pub(super) enum End {
    /// The request is refused.
    Refused(Refused),
    /// The peer is gone, or broke the stream: nothing can be sent.
    Gone(StreamError),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> End {
        End::Refused(refused)
    }
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> End {
        End::Refused(error.refusal())
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> End {
        match error.refusal_code() {
            Some(code) => End::Refused(Refused::new(code, chain(&error))),
            None => End::Gone(error),
        }
    }
}

/// Serves one stream to its end.
pub(super) async fn serve(peer: Arc<Peer>, stream: Stream) {
    let limits = peer.host.limits();
    let (sender, receiver) = stream.split();
    let (_open, has_place) = Open::count(&peer);
    let mut serving = Serving {
        exchange: HostExchange::new(HostLimits {
            args_bytes: limits.arguments,
            code_bytes: limits.code,
            state_bytes: limits.state,
            ..HostLimits::default()
        }),
        peer: peer.clone(),
        sender,
        receiver,
        arrived: Arrived::default(),
        keeps_code_alone: false,
        due: None,
    };
    let served = if has_place {
        serving.request().await
    } else {
        let limit = u64::from(peer.caller.limits.requests_per_key);
        Err(Refused::new(RefusalCode::TooManyRequests, "")
            .past(limit, None)
            .into())
    };
    match served {
        Ok(()) => {}
        Err(End::Refused(refused)) => serving.refuse(refused).await,
        Err(End::Gone(error)) => {
            tracing::debug!(error = chain(&error), "a stream ended early");
            serving.sender.reset(StreamCode::OutOfOrder);
        }
    }
    if peer.host.refuses_new_calls() {
        // The connection closes once no request is open, and takes with it what has not arrived.
        let _ = tokio::time::timeout(ARRIVAL_TIME, serving.sender.stopped()).await;
    }
}

pub(super) struct Serving {
    pub(super) peer: Arc<Peer>,
    pub(super) exchange: HostExchange,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) arrived: Arrived,
    /// Whether nothing but code of what comes is to be among the blobs: the rest is of one moment of one
    /// run, and kept with that.
    pub(super) keeps_code_alone: bool,
    /// When what the peer has announced must all have come.
    pub(super) due: Option<Instant>,
}

/// What a request has brought along.
#[derive(Default)]
pub(super) struct Arrived {
    pub(super) blobs: HashMap<BlobId, Verified>,
    /// Room of those that are not written to disk.
    pub(super) rooms: Vec<UploadRoom>,
    /// Writes of these blobs to disk.
    pub(super) writes: Vec<tokio::task::JoinHandle<Result<(), StoreError>>>,
    pub(super) transfer: Duration,
}

impl Serving {
    async fn request(&mut self) -> Result<(), End> {
        match self.event().await? {
            HostEvent::Call(call) => self.call(call, false).await,
            HostEvent::Ship(ship) => self.ship(ship.bundle).await,
            HostEvent::Describe(describe) => self.describe(describe.bundle).await,
            HostEvent::Status => self.status().await,
            HostEvent::SessionOpen(open) => self.session_open(open, None).await,
            HostEvent::SessionCall(call) => self.session_call(call, false).await,
            HostEvent::SessionCallItems(call) => self.session_call(call.call, true).await,
            HostEvent::SessionSave(save) => self.session_save(save).await,
            HostEvent::SessionRestore(restore) => self.session_restore(restore).await,
            HostEvent::SessionArrive(arrive) => {
                self.session_open(arrive.open, Some(arrive.from)).await
            }
            HostEvent::SessionTakeOver(take) => self.session_take_over(take).await,
            HostEvent::SessionGiveUp(give) => self.session_give_up(give).await,
            HostEvent::SessionClose(close) => self.session_close(close).await,
            HostEvent::SessionList => self.session_list().await,
            HostEvent::Fetch(fetch) => self.fetch(fetch).await,
            HostEvent::FetchBlocks(fetch) => self.fetch_blocks(fetch).await,
            HostEvent::CallItems(call) => self.call(call.call, true).await,
            HostEvent::JobStart(start) => self.job_start(start).await,
            HostEvent::JobOpen(open) => self.job_open(open).await,
            HostEvent::JobList => self.job_list().await,
            HostEvent::JobWatch(watch) => self.job_watch(watch).await,
            HostEvent::JobPause(pause) => self.job_pause(pause).await,
            HostEvent::JobResume(resume) => self.job_resume(resume).await,
            HostEvent::JobSave(save) => self.job_save(save).await,
            HostEvent::JobCancel(cancel) => self.job_cancel(cancel).await,
            HostEvent::JobResult(result) => self.job_result(result).await,
            HostEvent::JobAcknowledge(acknowledge) => self.job_acknowledge(acknowledge).await,
            HostEvent::JobOffer(offer) => self.job_offer(offer).await,
            HostEvent::JobLeave(leave) => self.job_leave(leave).await,
            HostEvent::JobArrive(arrive) => self.job_arrive(arrive).await,
            HostEvent::JobMove(step) => self.job_move(step).await,
            _ => unreachable!("a stream begins with a request, the exchange sees to that"),
        }
    }

    /// What arrives next, unless the peer stands still for too long, or wants no answer any more.
    pub(super) async fn event(&mut self) -> Result<HostEvent, End> {
        // A peer that sends faster than this reads would otherwise hold the thread.
        tokio::task::consume_budget().await;
        let stall = self.peer.host.limits().upload_stall;
        let left = |due: Instant| due.saturating_duration_since(Instant::now());
        let wait = self.due.map_or(stall, |due| stall.min(left(due)));
        let next = async {
            tokio::select! {
                biased;
                received = self.receiver.recv() => Ok(received),
                stopped = self.sender.stopped() => Err(given_up(stopped)),
            }
        };
        let Ok(received) = tokio::time::timeout(wait, next).await else {
            let refused = Refused::new(RefusalCode::UploadStalled, "");
            return Err(refused.past(millis(stall), None).into());
        };
        Ok(self.exchange.receive(received??)?)
    }

    /// Gives the peer time for so many bytes, from now on.
    pub(super) fn expect_bytes(&mut self, bytes: u64) {
        let stall = self.peer.host.limits().upload_stall;
        self.due = Some(Instant::now() + stall + Duration::from_secs(bytes / UPLOAD_RATE_MIN));
    }

    /// Waits for what others have to do first, unless the peer gives the request up meanwhile: by
    /// word to stop, by a reset of either half, or as its connection ends. Nothing else of the peer's
    /// may be on its way.
    pub(super) async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        // Usually there is nothing to wait for.
        if let Poll::Ready(done) = poll_once(work.as_mut()).await {
            return Ok(done);
        }
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                received = self.receiver.recv() => {
                    if self.exchange.receive(received?)? == HostEvent::Cancel {
                        return Err(Refused::new(RefusalCode::Cancelled, "").into());
                    }
                }
                stopped = self.sender.stopped() => return Err(given_up(stopped)),
            }
        }
    }

    /// The same while payload of the peer's may be on its way. It stays where it is, and word to stop
    /// behind it.
    pub(super) async fn wait_unread<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll_once(work.as_mut()).await {
            return Ok(done);
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            broken = self.receiver.broken_off() => Err(broken.into()),
            stopped = self.sender.stopped() => Err(given_up(stopped)),
        }
    }

    /// The key's turn to bring a bundle into memory.
    pub(super) async fn turn_to_load(&mut self) -> Result<OwnedSemaphorePermit, End> {
        let turn = self.peer.caller.state.loading.clone().acquire_owned();
        Ok(self.wait_for(turn).await?.expect(NEVER_CLOSED))
    }

    /// Compiles a bundle, or finds it compiled.
    pub(super) async fn load(&mut self, bundle: Bundle) -> Result<(Arc<Loaded>, Duration), End> {
        let peer = self.peer.clone();
        // If it is refused, nobody else has its manifest.
        let bundle = FreedBeside::new(bundle, peer.host.background());
        let loading = async move { peer.host.load(&peer.caller, &bundle).await };
        let (loaded, took) = self.wait_for(loading).await??;
        loaded.ready().share_code();
        Ok((loaded, took))
    }

    /// Does what takes time beside the thread of I/O.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, End> {
        let done = self.peer.host.background().spawn_blocking(work).await;
        done.map_err(|_| Refused::new(RefusalCode::Internal, "it panicked").into())
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), End> {
        self.queue(&message);
        self.flush().await
    }

    pub(super) fn queue(&mut self, message: &Message) {
        self.exchange
            .send(message)
            .expect("the request sends in order");
        self.sender.queue(message);
    }

    /// Writes what is queued, unless the reader takes nothing for too long.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let stall = self.peer.host.limits().reader_stall;
        match tokio::time::timeout(stall, self.sender.flush()).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => {
                let refused = Refused::new(RefusalCode::UploadStalled, "the reader takes nothing");
                Err(refused.past(millis(stall), None).into())
            }
        }
    }

    async fn refuse(&mut self, refused: Refused) {
        tracing::info!(key = %self.peer.key, code = refused.code.name(), %refused, "refused");
        let message = Message::Refused(refused);
        if self.exchange.has_outcome() || self.exchange.send(&message).is_err() {
            self.sender.reset(StreamCode::Refused);
        } else {
            self.sender.queue(&message);
            // Finishing waits for a reader too, and has no time of its own.
            match self.flush().await {
                Ok(()) => drop(self.sender.finish().await),
                Err(_) => self.sender.reset(StreamCode::Refused),
            }
        }
        self.receiver.stop(StreamCode::Refused);
    }

    /// Runs a call; with `items`, of a callable that emits them.
    async fn call(&mut self, call: Call, items: bool) -> Result<(), End> {
        let began = Instant::now();
        let key = self.peer.caller.state.clone();
        let room = key.arguments.take(call.args_bytes);
        let _room = self.wait_unread(room).await?;
        let arguments = self.arguments(call.args_bytes).await?;
        self.arrived.transfer = began.elapsed();
        let (loaded, compile) = self.loaded(call.bundle).await?;
        let request = Request {
            callable: call.callable,
            arguments,
            limits: call.limits,
            seed: call.seed,
            items,
            timing: Timing {
                transfer_ns: nanos(self.arrived.transfer),
                compile_ns: nanos(compile),
                ..Timing::default()
            },
        };
        self.forget_arrived();
        let mut running = self.peer.host.call(&self.peer.caller, loaded, request);
        let finished = self.follow(&mut running).await?;
        self.outcome(finished).await
    }

    /// Passes on what a guest says, until its call has ended.
    pub(super) async fn follow(&mut self, running: &mut Running) -> Result<Finished, End> {
        loop {
            tokio::task::consume_budget().await;
            let next = running.next_for(!self.exchange.may_send_item());
            // Only the guest's own time bounds this wait.
            let event = tokio::select! {
                biased;
                event = self.peer.relay.through(next) => event,
                received = self.receiver.recv() => {
                    match self.exchange.receive(received?)? {
                        HostEvent::Cancel => running.cancel(),
                        // The exchange has noted it: more items may be sent.
                        HostEvent::Taken { .. } => {}
                        _ => unreachable!("before the outcome nothing else may come"),
                    }
                    continue;
                }
            };
            match event {
                Event::Output(stream, bytes) => {
                    self.queue(&Message::Output(Output {
                        index: 0,
                        stream,
                        bytes,
                    }));
                    self.flush().await?;
                }
                Event::Progress(done, total) => {
                    self.queue(&Message::Progress(Progress {
                        index: 0,
                        done,
                        total,
                    }));
                    self.flush().await?;
                }
                Event::Item(sequence, item) => self.item(sequence, item).await?,
                Event::Finished(finished) => return Ok(finished),
            }
        }
    }

    pub(super) async fn outcome(&mut self, finished: Finished) -> Result<(), End> {
        let Finished {
            outcome,
            timing,
            output_cut,
        } = finished;
        let done = |outcome, payload: &Bytes| {
            let payload_bytes = payload.len() as u64;
            Message::Done(Done {
                index: 0,
                outcome,
                timing,
                output_cut,
                payload_bytes,
            })
        };
        let (message, payload) = match outcome {
            Outcome::Value(value) => (done(message::Outcome::Value, &value), value),
            Outcome::Error(error) => (done(message::Outcome::GuestError, &error), error),
            Outcome::Failed(failure) => (
                Message::Failed(Failed {
                    index: 0,
                    failure,
                    timing,
                    output_cut,
                }),
                Bytes::new(),
            ),
            Outcome::Refused(refused) => return Err(refused.into()),
        };
        self.queue(&message);
        self.payload(payload).await
    }

    /// Passes an item on, for which the client has said that it has room.
    pub(super) async fn item(&mut self, sequence: u64, item: Bytes) -> Result<(), End> {
        self.queue(&Message::Item(Item {
            index: 0,
            sequence,
            item_bytes: item.len() as u64,
        }));
        self.bytes(item).await
    }

    /// Sends the payload of the outcome, if it has one, and ends the stream.
    pub(super) async fn payload(&mut self, payload: Bytes) -> Result<(), End> {
        self.bytes(payload).await?;
        self.sender.finish().await?;
        Ok(())
    }

    /// Sends a payload that was announced.
    async fn bytes(&mut self, mut payload: Bytes) -> Result<(), End> {
        self.exchange
            .send_payload(payload.len() as u64)
            .expect("announced");
        while payload.len() > WRITE_BYTES {
            self.sender.queue_payload(payload.split_to(WRITE_BYTES));
            self.flush().await?;
        }
        self.sender.queue_payload(payload);
        self.flush().await
    }

    /// Sends the payload of the outcome, which need not lie in one piece.
    pub(super) async fn payload_of(
        &mut self,
        pieces: impl Iterator<Item = Bytes>,
    ) -> Result<(), End> {
        let mut queued = 0;
        for piece in pieces {
            self.exchange
                .send_payload(piece.len() as u64)
                .expect("announced");
            queued += piece.len();
            self.sender.queue_payload(piece);
            if queued >= PIECES_BYTES {
                queued = 0;
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.sender.finish().await?;
        Ok(())
    }

    /// What follows a request as the arguments of a call do, piece by piece.
    pub(super) async fn pieces(
        &mut self,
        bytes: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), End> {
        if bytes == 0 {
            return Ok(());
        }
        self.expect_bytes(bytes);
        loop {
            match self.event().await? {
                HostEvent::Arguments { bytes, last } => {
                    take(&bytes);
                    if last {
                        self.due = None;
                        return Ok(());
                    }
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => unreachable!("only these and word to stop may come before they are whole"),
            }
        }
    }

    /// The arguments of a call. One piece is passed on as it came.
    pub(super) async fn arguments(&mut self, bytes: u64) -> Result<Bytes, End> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        self.expect_bytes(bytes);
        let mut whole = BytesMut::new();
        loop {
            match self.event().await? {
                HostEvent::Arguments { bytes, last: true } if whole.is_empty() => {
                    self.due = None;
                    return Ok(bytes);
                }
                HostEvent::Arguments { bytes: piece, last } => {
                    if whole.is_empty() {
                        whole.reserve(usize::try_from(bytes).unwrap_or(0));
                    }
                    whole.extend_from_slice(&piece);
                    if last {
                        self.due = None;
                        return Ok(whole.freeze());
                    }
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => unreachable!("only arguments and word to stop may come before they are whole"),
            }
        }
    }

    async fn ship(&mut self, bundle: BlobId) -> Result<(), End> {
        let _turn = self.turn_to_load().await?;
        let named = self.manifest(bundle).await?;
        self.obtain(&named.parts).await?;
        // What is promised here rests on the disk: code is read from there, also when it is in memory.
        let assembled = self.assemble(&named, None).await?;
        let state = assembled.state().map_or(0, Bytes::len);
        let bytes = assembled.manifest_bytes().len() + assembled.code().len() + state;
        // Compiling now tells a bad module from a good one, and the first call finds it done.
        self.load(assembled).await?;
        let mut writes = std::mem::take(&mut self.arrived.writes);
        let ids = || {
            let parts = named.parts.iter().map(|(id, _)| id);
            std::iter::once(&bundle).chain(parts)
        };
        let (blobs, key) = (self.peer.blobs.clone(), self.peer.key);
        let is_stored = |id: &BlobId| blobs.store.may_use(&key, id);
        for id in ids() {
            let stored = is_stored(id);
            if !stored && !self.arrived.blobs.contains_key(id) {
                // It came with another request and is on its way to the disk. That write may fail,
                // and what is promised here rests on this one.
                let gone = || Refused::new(RefusalCode::StoreFull, "a blob was evicted meanwhile");
                let blob = self.read(*id).await?.ok_or_else(gone)?;
                writes.push(self.peer.blobs.put(self.peer.key, blob, None));
            }
        }
        for write in writes {
            match self.wait_for(write).await? {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(store_refusal(&error).into()),
                Err(_) => return Err(Refused::new(RefusalCode::Internal, "a write failed").into()),
            }
        }
        // A part may have had to go for another.
        if !ids().all(is_stored) {
            let (limit, bytes) = (blobs.store.limit(), bytes as u64);
            let refused = match bytes > limit {
                true => Refused::new(RefusalCode::StoreFull, "bytes of the parts together")
                    .past(limit, bytes),
                false => Refused::new(RefusalCode::StoreFull, "a part was evicted meanwhile"),
            };
            return Err(refused.into());
        }
        self.send(Message::Stored(Stored { bundle })).await?;
        self.sender.finish().await?;
        Ok(())
    }

    async fn describe(&mut self, bundle: BlobId) -> Result<(), End> {
        let _turn = self.turn_to_load().await?;
        // The key may have a blob of the name that is no manifest.
        let is_manifest = |blob: &Verified| blob.bytes().len() as u64 <= MANIFEST_BYTES_MAX;
        let bytes = match self.read(bundle).await?.filter(is_manifest) {
            Some(manifest) => manifest.bytes().clone(),
            // Sessions and jobs keep theirs when the store does not.
            None => {
                let (host, caller) = (&self.peer.host, &self.peer.caller);
                let own = host.own_manifest(caller, BundleId::from(bundle.0));
                own.ok_or_else(|| Refused::new(RefusalCode::UnknownBundle, bundle.to_string()))?
            }
        };
        self.queue(&Message::Description(Description {
            manifest_bytes: bytes.len() as u64,
        }));
        self.payload(bytes).await
    }

    async fn status(&mut self) -> Result<(), End> {
        let (count, bytes) = self.peer.blobs.store.amount();
        let mut report = self.peer.host.status(&self.peer.caller);
        report.stored_blobs = Amount { count, bytes };
        self.send(Message::StatusReport(report.cut())).await?;
        self.sender.finish().await?;
        Ok(())
    }
}

/// What comes of a first look at a future.
async fn poll_once<F: Future>(mut work: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await
}

/// What it means that the peer stopped the half that it is to read.
fn given_up(stopped: Result<Option<StreamCode>, ConnectionError>) -> End {
    End::Gone(match stopped {
        Ok(code) => StreamError::Stopped(code.unwrap_or(StreamCode::Finished)),
        Err(lost) => lost.into(),
    })
}
