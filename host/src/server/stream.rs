//! One stream: from its request to the outcome.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spore_bundle::{Bundle, BundleId, Limits as BundleLimits, Manifest, PartsError};
use spore_transport::exchange::{HostEvent, HostExchange, HostLimits, ProtocolError};
use spore_transport::message::{
    self, BlobKind, Call, Description, Done, Failed, Message, Missing, MissingBlob, Output,
    Progress, Refused, Stored, Timing,
};
use spore_transport::status::Amount;
use spore_transport::{
    BlobId, PublicKey, Receiver, RefusalCode, Sender, Stream, StreamCode, StreamError,
};

use super::blobs::{Blobs, Reception};
use crate::callers::Caller;
use crate::code::{Loaded, chain};
use crate::events::{Event, Finished, Outcome};
use crate::host::{Host, Request};
use crate::limits::{millis, nanos};
use crate::store::{StoreError, Verified};

/// What the streams of one connection share.
pub(super) struct Peer {
    pub(super) host: Host,
    pub(super) blobs: Arc<Blobs>,
    pub(super) key: PublicKey,
    pub(super) caller: Caller,
}

/// Why a stream ends without its outcome having been sent by the request itself.
#[derive(Debug)]
enum End {
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
    let mut serving = Serving {
        exchange: HostExchange::new(HostLimits {
            args_bytes: limits.arguments,
            code_bytes: limits.code,
            state_bytes: limits.state,
            ..HostLimits::default()
        }),
        peer,
        sender,
        receiver,
        arrived: Arrived::default(),
    };
    match serving.request().await {
        Ok(()) => {}
        Err(End::Refused(refused)) => serving.refuse(refused).await,
        Err(End::Gone(error)) => {
            tracing::debug!(error = chain(&error), "a stream ended early");
            serving.sender.reset(StreamCode::OutOfOrder);
        }
    }
}

struct Serving {
    peer: Arc<Peer>,
    exchange: HostExchange,
    sender: Sender,
    receiver: Receiver,
    arrived: Arrived,
}

/// What a request has brought along.
#[derive(Default)]
struct Arrived {
    blobs: HashMap<BlobId, Verified>,
    /// Writes of these blobs to disk.
    writes: Vec<tokio::task::JoinHandle<Result<(), StoreError>>>,
    transfer: Duration,
}

impl Serving {
    async fn request(&mut self) -> Result<(), End> {
        match self.event().await? {
            HostEvent::Call(call) => self.call(call).await,
            HostEvent::Ship(ship) => self.ship(ship.bundle).await,
            HostEvent::Describe(describe) => self.describe(describe.bundle).await,
            HostEvent::Status => self.status().await,
            _ => unreachable!("a stream begins with a request, the exchange sees to that"),
        }
    }

    /// What arrives next, unless the peer stands still for too long.
    async fn event(&mut self) -> Result<HostEvent, End> {
        let stall = self.peer.host.limits().upload_stall;
        let Ok(received) = tokio::time::timeout(stall, self.receiver.recv()).await else {
            let refused = Refused::new(RefusalCode::UploadStalled, "milliseconds");
            return Err(refused.past(millis(stall), None).into());
        };
        Ok(self.exchange.receive(received?)?)
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        self.queue(&message);
        self.flush().await
    }

    fn queue(&mut self, message: &Message) {
        self.exchange
            .send(message)
            .expect("the request sends in order");
        self.sender.queue(message);
    }

    /// Writes what is queued, unless the reader takes nothing for too long.
    async fn flush(&mut self) -> Result<(), End> {
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
            let _ = self.flush().await;
            let _ = self.sender.finish().await;
        }
        self.receiver.stop(StreamCode::Refused);
    }

    async fn call(&mut self, call: Call) -> Result<(), End> {
        let began = Instant::now();
        let arguments = self.arguments(call.args_bytes).await?;
        self.arrived.transfer = began.elapsed();
        let (loaded, compile) = self.loaded(call.bundle).await?;
        let request = Request {
            callable: call.callable,
            arguments,
            limits: call.limits,
            seed: call.seed,
            timing: Timing {
                transfer_ns: nanos(self.arrived.transfer),
                compile_ns: nanos(compile),
                ..Timing::default()
            },
        };
        self.arrived = Arrived::default();
        let mut running = self.peer.host.call(&self.peer.caller, loaded, request);
        let mut open = true;
        loop {
            // Only the guest's own time bounds this wait; `running` stops it when this is dropped.
            let event = tokio::select! {
                biased;
                event = running.next() => event,
                received = self.receiver.recv(), if open => {
                    match self.exchange.receive(received?)? {
                        HostEvent::Cancel => running.cancel(),
                        HostEvent::End => open = false,
                        _ => {}
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
                Event::Finished(finished) => return self.outcome(finished).await,
            }
        }
    }

    async fn outcome(&mut self, finished: Finished) -> Result<(), End> {
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
        if !payload.is_empty() {
            self.exchange
                .send_payload(payload.len() as u64)
                .expect("announced");
            self.sender.queue_payload(payload);
        }
        self.flush().await?;
        self.sender.finish().await?;
        Ok(())
    }

    /// The arguments of a call. One piece is passed on as it came.
    async fn arguments(&mut self, bytes: u64) -> Result<Bytes, End> {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let mut whole = BytesMut::new();
        loop {
            match self.event().await? {
                HostEvent::Arguments { bytes, last: true } if whole.is_empty() => return Ok(bytes),
                HostEvent::Arguments { bytes, last } => {
                    whole.extend_from_slice(&bytes);
                    if last {
                        return Ok(whole.freeze());
                    }
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => unreachable!("only arguments and word to stop may come before they are whole"),
            }
        }
    }

    async fn ship(&mut self, bundle: BlobId) -> Result<(), End> {
        let manifest = self.manifest(bundle).await?;
        let parts = parts(&manifest);
        self.obtain(&parts).await?;
        // Compiling now tells a bad module from a good one, and the first call finds it done.
        let assembled = self.assemble(bundle, &parts).await?;
        self.peer.host.load(&assembled).await?;
        for write in std::mem::take(&mut self.arrived.writes) {
            match write.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(store_refusal(&error).into()),
                Err(_) => return Err(Refused::new(RefusalCode::Internal, "a write failed").into()),
            }
        }
        self.send(Message::Stored(Stored { bundle })).await?;
        self.sender.finish().await?;
        Ok(())
    }

    async fn describe(&mut self, bundle: BlobId) -> Result<(), End> {
        let Some(manifest) = self.read(bundle).await? else {
            return Err(Refused::new(RefusalCode::UnknownBundle, bundle.to_string()).into());
        };
        let bytes = manifest.bytes().clone();
        self.queue(&Message::Description(Description {
            manifest_bytes: bytes.len() as u64,
        }));
        self.exchange
            .send_payload(bytes.len() as u64)
            .expect("announced");
        self.sender.queue_payload(bytes);
        self.flush().await?;
        self.sender.finish().await?;
        Ok(())
    }

    async fn status(&mut self) -> Result<(), End> {
        let (count, bytes) = self.peer.blobs.store.amount();
        let mut report = self.peer.host.status(&self.peer.caller);
        report.stored_blobs = Amount { count, bytes };
        self.send(Message::StatusReport(report.cut())).await?;
        self.sender.finish().await?;
        Ok(())
    }

    /// The bundle, compiled: kept from another call, from the store, or from the client.
    async fn loaded(&mut self, id: BlobId) -> Result<(Arc<Loaded>, Duration), End> {
        if let Some(loaded) = self.peer.host.loaded(BundleId::from(id.0)) {
            let bundle = loaded.bundle();
            let parts = parts(bundle.manifest());
            let has = |id: &BlobId| self.peer.blobs.has(&self.peer.key, id);
            if has(&id) && parts.iter().all(|(part, _)| has(part)) {
                return Ok((loaded, Duration::ZERO));
            }
        }
        let began = Instant::now();
        let manifest = self.manifest(id).await?;
        let parts = parts(&manifest);
        self.obtain(&parts).await?;
        let bundle = self.assemble(id, &parts).await?;
        self.arrived.transfer += began.elapsed();
        Ok(self.peer.host.load(&bundle).await?)
    }

    /// The manifest, checked against what this host accepts.
    async fn manifest(&mut self, id: BlobId) -> Result<Manifest, End> {
        self.obtain(&[(id, BlobKind::Manifest)]).await?;
        let Some(blob) = self.read(id).await? else {
            return Err(Refused::new(RefusalCode::UnknownBundle, id.to_string()).into());
        };
        let manifest = Manifest::decode(blob.bytes())
            .map_err(|error| refuse_parts(&PartsError::Manifest(error)))?;
        let limits = self.peer.host.limits();
        let limits = BundleLimits {
            code_bytes_max: limits.code,
            state_bytes_max: limits.state,
        };
        limits
            .admit(&manifest)
            .map_err(|error| refuse_parts(&error))?;
        Ok(manifest)
    }

    async fn read(&self, id: BlobId) -> Result<Option<Verified>, End> {
        if let Some(blob) = self.arrived.blobs.get(&id) {
            return Ok(Some(blob.clone()));
        }
        let (blobs, key) = (self.peer.blobs.clone(), self.peer.key);
        let read = self
            .peer
            .host
            .background()
            .spawn_blocking(move || blobs.read(&key, &id))
            .await;
        match read {
            Ok(Ok(blob)) => Ok(blob),
            Ok(Err(error)) => {
                tracing::error!(error = chain(&error), "a blob was not read");
                // It is asked for again.
                Ok(None)
            }
            Err(_) => Err(Refused::new(RefusalCode::Internal, "a read failed").into()),
        }
    }

    async fn assemble(&self, id: BlobId, parts: &[(BlobId, BlobKind)]) -> Result<Bundle, End> {
        let gone = || Refused::new(RefusalCode::UnknownBundle, "a part was evicted meanwhile");
        let manifest = self.read(id).await?.ok_or_else(gone)?;
        let mut code = None;
        let mut state = None;
        for (part, kind) in parts {
            let blob = self.read(*part).await?.ok_or_else(gone)?;
            match kind {
                BlobKind::Manifest => {}
                BlobKind::Code => code = Some(blob),
                BlobKind::State => state = Some(blob),
            }
        }
        let code = code.ok_or_else(gone)?;
        // Each part is `Verified` against the id that this very manifest names.
        Bundle::dangerous_from_checked_parts(
            manifest.bytes().clone(),
            code.bytes().clone(),
            state.map(|state| state.bytes().clone()),
        )
        .map_err(|error| refuse_parts(&error).into())
    }

    /// Sees to it that the key has these blobs here, from the client if need be. Two requests of
    /// one key that miss the same blob wait for one upload.
    async fn obtain(&mut self, wanted: &[(BlobId, BlobKind)]) -> Result<(), End> {
        loop {
            let (blobs, key) = (self.peer.blobs.clone(), self.peer.key);
            let missing =
                |id: &BlobId| !self.arrived.blobs.contains_key(id) && !blobs.has(&key, id);
            let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).filter(missing).collect();
            if ids.is_empty() {
                return Ok(());
            }
            let claims = blobs.claim(key, &ids);
            if !claims.mine.is_empty() {
                let kind = |id: BlobId| wanted.iter().find(|(wanted, _)| *wanted == id);
                let asked = claims.mine.iter().filter_map(|claim| kind(claim.id()));
                let asked = asked
                    .map(|(id, kind)| MissingBlob {
                        id: *id,
                        kind: *kind,
                    })
                    .collect();
                self.upload(Missing { blobs: asked }).await?;
            }
            drop(claims.mine);
            for mut other in claims.others {
                // It ends when the claim goes, with the blob or without.
                while other.changed().await.is_ok() {}
            }
        }
    }

    async fn upload(&mut self, missing: Missing) -> Result<(), End> {
        let message = Message::Missing(missing);
        // A blob that was asked for on this stream and vanished again cannot be asked for twice.
        if self.exchange.send(&message).is_err() {
            return Err(
                Refused::new(RefusalCode::StoreFull, "a blob was evicted meanwhile").into(),
            );
        }
        self.sender.queue(&message);
        self.flush().await?;
        let mut arriving: Option<Reception> = None;
        while self.exchange.blobs_open() > 0 || arriving.is_some() {
            match self.event().await? {
                HostEvent::Blob { blob, .. } => {
                    let reception = self.peer.blobs.receive(blob).await?;
                    match blob.wire_bytes {
                        0 => self.arrive(reception).await?,
                        _ => arriving = Some(reception),
                    }
                }
                HostEvent::BlobBytes { bytes, last, .. } => {
                    let reception = arriving.as_mut().expect("announced before its bytes");
                    reception.push(bytes).await;
                    if last {
                        let reception = arriving.take().expect("it has just taken a piece");
                        self.arrive(reception).await?;
                    }
                }
                HostEvent::Absent { id, kind } => {
                    let code = match kind {
                        BlobKind::Manifest => RefusalCode::UnknownBundle,
                        BlobKind::Code | BlobKind::State => RefusalCode::BlobAbsent,
                    };
                    return Err(Refused::new(code, id.to_string()).into());
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn arrive(&mut self, reception: Reception) -> Result<(), End> {
        let (blob, room) = reception.finish().await?;
        let write = self.peer.blobs.put(self.peer.key, blob.clone(), Some(room));
        self.arrived.writes.push(write);
        self.arrived.blobs.insert(blob.id(), blob);
        Ok(())
    }
}

/// The blobs that a manifest names.
fn parts(manifest: &Manifest) -> Vec<(BlobId, BlobKind)> {
    let code = (BlobId(*manifest.code.id.as_bytes()), BlobKind::Code);
    let state = manifest
        .state
        .map(|state| (BlobId(*state.id.as_bytes()), BlobKind::State));
    std::iter::once(code).chain(state).collect()
}

fn refuse_parts(error: &PartsError) -> Refused {
    match error {
        PartsError::CodeTooLarge { bytes, limit } => {
            Refused::new(RefusalCode::CodeTooLarge, "").past(*limit, *bytes)
        }
        PartsError::StateTooLarge { bytes, limit } => {
            Refused::new(RefusalCode::StateTooLarge, "").past(*limit, *bytes)
        }
        PartsError::Unsupported(_) => Refused::new(RefusalCode::UnsupportedVersion, chain(error)),
        PartsError::Manifest(spore_bundle::ManifestError::UnknownVersion { .. })
        | PartsError::Manifest(spore_bundle::ManifestError::UnknownAbi { .. }) => {
            Refused::new(RefusalCode::UnsupportedVersion, chain(error))
        }
        PartsError::Manifest(_) => Refused::new(RefusalCode::InvalidManifest, chain(error)),
        _ => Refused::new(RefusalCode::InvalidModule, chain(error)),
    }
}

fn store_refusal(error: &StoreError) -> Refused {
    match error {
        StoreError::Full { bytes, limit } => {
            Refused::new(RefusalCode::StoreFull, "").past(*limit, *bytes)
        }
        _ => Refused::new(RefusalCode::Internal, "the blob could not be stored"),
    }
}
