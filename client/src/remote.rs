//! A host at the other end of a connection.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spore_bundle::{Bundle, BundleId, Manifest, StateId};
use spore_transport::exchange::{
    ClientEvent, ClientExchange, ClientLimits, ProtocolError, RESULT_BYTES_MAX_DEFAULT,
};
use spore_transport::failure::Failure;
use spore_transport::job::{
    JobChanged, JobLeft, JobMoved, JobOffered, JobSaved, JobStarted, Jobs, Taken,
};
use spore_transport::message::{
    self, Absent, Blob, BlobKind, Call, Describe, Encoding, Message, MissingBlob, Refused, Ship,
};
use spore_transport::quic::Options;
use spore_transport::session::{Fetched, SessionSaved, Sessions};
use spore_transport::status::StatusReport;
use spore_transport::{
    BlobId, CloseCode, Connection, ConnectionError, Connector, HostKey, Identity, PublicKey,
    Receiver, RefusalCode, Sender, SessionId, StreamError,
};

use crate::call::{Broken, Finished, Outcome, Request, Sink, Told};
use crate::callable::{Parcel, Shipped};
use crate::error::{CallError, ConnectError};
use crate::home::Home;
use crate::host::Host;
use crate::stream::ITEM_WINDOW;

/// Port of a host that is named without one.
pub const PORT_DEFAULT: u16 = 7473;

/// Bounds of the wait for what is left to send before a close, a round trip in between.
const SETTLE_TIME_MIN: Duration = Duration::from_millis(2);
const SETTLE_TIME_MAX: Duration = Duration::from_millis(100);
/// Time for word of a close to leave this machine.
const CLOSE_TIME: Duration = Duration::from_millis(10);
/// Blobs smaller than this travel as they are, in bytes.
const COMPRESS_FROM: usize = 512;
/// Items that were taken and that the host does not know of yet: half of the window, so that the
/// other half is on its way meanwhile.
const TAKEN_ITEMS: u64 = ITEM_WINDOW as u64 / 2;
/// The same in bytes. A host keeps items until it knows, and has room for so many bytes of them.
const TAKEN_BYTES: usize = 64 << 10;
/// The same in time: a host that waits for nothing but this is told.
const TAKEN_TIME: Duration = Duration::from_millis(20);
/// Compression of more than this is done beside the runtime's thread, in bytes.
const COMPRESS_HERE_MAX: usize = 16 << 10;
/// A large blob whose first bytes do not shrink is sent as it is.
const SAMPLE_BYTES: usize = 128 << 10;
/// zstd's level for blobs on their way: faster than most networks.
const ZSTD_LEVEL: i32 = 1;

/// How to connect. By default: as the user of this process, to hosts in `known_hosts`.
#[derive(Debug, Default)]
pub struct Connect {
    home: Option<Home>,
    identity: Option<Identity>,
    trust: Option<PublicKey>,
    options: Options,
}

impl Connect {
    /// The defaults.
    pub fn new() -> Connect {
        Connect::default()
    }

    /// Takes identity and known hosts from these folders.
    pub fn home(mut self, home: Home) -> Self {
        self.home = Some(home);
        self
    }

    /// Connects as this identity instead of the user's.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Trusts this key of the host, which must come from elsewhere than the network. With an
    /// identity of its own the connection uses no files; otherwise the key is pinned in
    /// `known_hosts`.
    pub fn trust(mut self, key: PublicKey) -> Self {
        self.trust = Some(key);
        self
    }

    /// Time without a sign of life after which the host counts as lost. Default 10 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self.options.keep_alive = self.options.keep_alive.min(timeout / 3);
        self
    }

    /// Connects to `NAME[:PORT]` or `ADDRESS[:PORT]`.
    ///
    /// # Errors
    ///
    /// When the host cannot be reached, or is not trusted.
    pub async fn to(self, host: &str) -> Result<Host, ConnectError> {
        let home = match (self.home, &self.identity, &self.trust) {
            (Some(home), ..) => Some(home),
            (None, Some(_), Some(_)) => None,
            (None, ..) => Some(Home::from_environment()?),
        };
        let identity = match (self.identity, &home) {
            (Some(identity), _) => identity,
            (None, Some(home)) => home.identity()?,
            (None, None) => unreachable!("without an identity there is a home"),
        };
        let remote = Remote(Arc::new(Inner {
            connector: Connector::new(&identity, &self.options)?,
            host: with_port(host),
            home,
            trust: self.trust,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }));
        remote.connection().await?;
        Ok(Host::remote(remote))
    }
}

/// `host` with the default port, unless it names one.
pub fn with_port(host: &str) -> String {
    let has_port = match host.rsplit_once(':') {
        // A bare IPv6 address has colons and no port.
        Some((before, port)) => {
            port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']'))
        }
        None => false,
    };
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{PORT_DEFAULT}"),
        Err(_) if has_port => host.to_owned(),
        Err(_) => format!("{host}:{PORT_DEFAULT}"),
    }
}

mod jobs;
mod moves;
mod sessions;

#[derive(Clone)]
pub(crate) struct Remote(Arc<Inner>);

struct Inner {
    connector: Connector,
    host: String,
    home: Option<Home>,
    trust: Option<PublicKey>,
    current: Mutex<Option<Connection>>,
    /// Held while connecting, so that calls that find no connection make one and not many.
    connecting: tokio::sync::Mutex<()>,
}

impl Remote {
    /// The connection, made anew when it was lost.
    async fn connection(&self) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let _connecting = self.0.connecting.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let connection = self.connect().await?;
        *self.current() = Some(connection.clone());
        Ok(connection)
    }

    /// Closes the connection, and gives the runtime time to send word of it.
    pub(crate) async fn close(&self) {
        let Some(connection) = self.current().take() else {
            return;
        };
        // quinn sends no close while the congestion window is full and anything is left to send
        // (its issue 2785), and the end of the last stream still is: it needs a round trip.
        let round_trip = connection
            .round_trip()
            .clamp(SETTLE_TIME_MIN, SETTLE_TIME_MAX);
        tokio::time::sleep(round_trip).await;
        connection.close(CloseCode::Finished, "");
        drop(connection);
        // The host's answer is not needed: what is lost on the way, its time-out finds.
        let _ = tokio::time::timeout(CLOSE_TIME, self.0.connector.wait_idle()).await;
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Option<Connection> {
        self.current()
            .clone()
            .filter(|connection| connection.close_reason().is_none())
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let host = &self.0.host;
        let resolve = |reason: String| ConnectError::Resolve {
            host: host.clone(),
            reason,
        };
        let addresses = tokio::net::lookup_host(host).await;
        let addresses = addresses.map_err(|error| resolve(error.to_string()))?;
        let mut last = None;
        for address in addresses {
            match self.0.connector.connect(address).await {
                Ok(connection) => {
                    if let Err(error) = self.check_key(&connection) {
                        connection.close(CloseCode::HostKeyRejected, "");
                        drop(connection);
                        // A program that ends now would leave its place at the host taken.
                        let idle = self.0.connector.wait_idle();
                        let _ = tokio::time::timeout(CLOSE_TIME, idle).await;
                        return Err(error);
                    }
                    return Ok(connection);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(source) => ConnectError::Unreachable {
                host: host.clone(),
                source,
            },
            None => resolve("it has no address".to_owned()),
        })
    }

    /// Compares the host's key with what is known of it, before anything is sent.
    fn check_key(&self, connection: &Connection) -> Result<(), ConnectError> {
        let Inner {
            host, home, trust, ..
        } = &*self.0;
        let found = connection.peer();
        let pinned = match home {
            Some(home) => home.known_hosts()?.lookup(host, &found),
            None => HostKey::Unknown,
        };
        match (pinned, *trust) {
            (HostKey::Changed { expected }, _) => Err(ConnectError::ChangedKey {
                host: host.clone(),
                expected,
                found,
            }),
            (_, Some(trusted)) if trusted != found => Err(ConnectError::OtherKey {
                host: host.clone(),
                trusted,
                found,
            }),
            (HostKey::Known, _) => Ok(()),
            (HostKey::Unknown, Some(_)) => match home {
                Some(home) => Ok(home.pin_host(host, &found)?),
                None => Ok(()),
            },
            (HostKey::Unknown, None) => Err(ConnectError::UnknownHost {
                host: host.clone(),
                key: found,
            }),
        }
    }

    /// Opens a stream, on a new connection if the old one was lost: nothing has been sent yet.
    async fn conversation(&self, limits: ClientLimits) -> Result<Conversation, Broken> {
        let connection = self.connection().await.map_err(Broken::Connect)?;
        let (stream, connection) = match connection.open().await {
            Ok(stream) => (stream, connection),
            Err(_) => {
                let connection = self.connection().await.map_err(Broken::Connect)?;
                let closed = |source| {
                    Broken::Connect(ConnectError::Closed {
                        host: self.0.host.clone(),
                        source,
                    })
                };
                (connection.open().await.map_err(closed)?, connection)
            }
        };
        let (sender, receiver) = stream.split();
        let near = connection.remote_address().ip().is_loopback();
        Ok(Conversation {
            exchange: ClientExchange::new(limits),
            sender,
            receiver,
            near,
        })
    }

    pub(crate) async fn run(
        &self,
        parcel: &Parcel,
        request: Request,
        sink: &mut Sink,
    ) -> Result<Finished, Broken> {
        // A host may be set up for larger results than a caller expects who says nothing.
        let mut asked = request.limits;
        let result_bytes = *asked.result_bytes.get_or_insert(RESULT_BYTES_MAX_DEFAULT);
        // Output is passed on as it comes, so that no amount of it is kept here.
        let limits = ClientLimits {
            result_bytes,
            output_bytes: u64::MAX,
            ..ClientLimits::default()
        };
        let mut conversation = self.conversation(limits).await?;
        let call = Message::Call(Call {
            bundle: BlobId(*parcel.id.as_bytes()),
            callable: request.callable,
            limits: asked,
            // Equal calls are equal everywhere, unless they are told apart.
            seed: request.seed.unwrap_or(0),
            args_bytes: request.arguments.len() as u64,
        });
        let called = conversation
            .call(&call, request.arguments, parcel, sink)
            .await;
        called.or_else(|broken| match refusal_of(&broken) {
            Some(refused) => Ok(Finished::refused(refused)),
            None => Err(broken),
        })
    }

    pub(crate) async fn ship(&self, bundle: &Bundle) -> Result<BundleId, CallError<Infallible>> {
        let message = Message::Ship(Ship {
            bundle: BlobId(*bundle.id().as_bytes()),
        });
        let parcel = Parcel::from(bundle.clone());
        match self.ask(message, Some(&parcel)).await? {
            Answer::Stored => Ok(bundle.id()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn shipped(&self, id: BundleId) -> Result<Shipped, CallError<Infallible>> {
        let message = Message::Describe(Describe {
            bundle: BlobId(*id.as_bytes()),
        });
        let bytes = match self.ask(message, None).await? {
            Answer::Manifest(bytes) => bytes,
            other => return Err(other.unexpected()),
        };
        let refuse =
            |what: String| CallError::Refused(Refused::new(RefusalCode::InvalidManifest, what));
        if BundleId::of(&bytes) != id {
            return Err(refuse(format!(
                "the host sent another manifest than that of {id}"
            )));
        }
        let manifest = Manifest::decode(&bytes).map_err(|error| refuse(error.to_string()))?;
        Ok(Shipped {
            parcel: Parcel::shipped(id, manifest),
        })
    }

    pub(crate) async fn status(&self) -> Result<StatusReport, CallError<Infallible>> {
        match self.ask(Message::Status, None).await? {
            Answer::Status(report) => Ok(*report),
            other => Err(other.unexpected()),
        }
    }

    async fn ask(
        &self,
        message: Message,
        parcel: Option<&Parcel>,
    ) -> Result<Answer, CallError<Infallible>> {
        self.ask_hearing(message, Bytes::new(), parcel, &mut Sink::default())
            .await
    }

    /// As [`ask`](Self::ask), with a payload, for a request that runs a guest.
    async fn ask_hearing(
        &self,
        message: Message,
        payload: Bytes,
        parcel: Option<&Parcel>,
        sink: &mut Sink,
    ) -> Result<Answer, CallError<Infallible>> {
        let limits = ClientLimits {
            output_bytes: u64::MAX,
            ..ClientLimits::default()
        };
        let mut conversation = self.conversation(limits).await?;
        let answer = conversation.ask(message, payload, parcel, sink).await;
        answer.map_err(|broken| match refusal_of(&broken) {
            Some(refused) => CallError::Refused(refused),
            None => broken.into(),
        })
    }
}

/// A close of the connection that says that the host does not serve this key.
fn refusal_of(broken: &Broken) -> Option<Refused> {
    let Broken::Lost(StreamError::Connection(ConnectionError::Closed { code, reason })) = broken
    else {
        return None;
    };
    match code {
        CloseCode::NotAuthorised => Some(Refused::new(RefusalCode::NotAuthorised, reason)),
        CloseCode::Revoked => Some(Refused::new(
            RefusalCode::NotAuthorised,
            format!("{code}: {reason}"),
        )),
        CloseCode::TooManyConnections => Some(Refused::new(
            RefusalCode::TooManyRequests,
            format!("{code}: {reason}"),
        )),
        _ => None,
    }
}

/// What a host answers to a request that is no call.
enum Answer {
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
    fn unexpected(self) -> CallError<Infallible> {
        match self {
            Answer::Refused(refused) => CallError::Refused(refused),
            Answer::Failed(failure) => CallError::Failed(failure),
            _ => unreachable!("the exchange takes only the answer to its request"),
        }
    }
}

/// One stream under way.
struct Conversation {
    exchange: ClientExchange,
    sender: Sender,
    receiver: Receiver,
    /// Whether the host is on this machine.
    near: bool,
}

impl Conversation {
    fn queue(&mut self, message: &Message, payload: Bytes) {
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
    async fn flush(&mut self) -> Result<(), Broken> {
        match self.sender.flush().await {
            Ok(()) | Err(StreamError::Stopped(_)) => Ok(()),
            Err(error) => Err(Broken::Lost(error)),
        }
    }

    async fn event(&mut self) -> Result<ClientEvent, Broken> {
        let received = self.receiver.recv().await.map_err(Broken::Lost)?;
        Ok(self.exchange.receive(received)?)
    }

    async fn call(
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
    async fn told(&mut self, parcel: Option<&Parcel>, taken: &mut Taking) -> Result<Told, Broken> {
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

    async fn say_taken(&mut self, taken: &mut Taking) -> Result<(), Broken> {
        let below = taken.say();
        self.queue(&Message::Taken(Taken { index: 0, below }), Bytes::new());
        self.flush().await
    }

    async fn ask(
        &mut self,
        message: Message,
        payload: Bytes,
        parcel: Option<&Parcel>,
        sink: &mut Sink,
    ) -> Result<Answer, Broken> {
        self.queue(&message, payload);
        self.flush().await?;
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
    async fn end(&mut self) {
        let _ = self.sender.finish().await;
    }

    async fn upload(
        &mut self,
        blobs: Vec<MissingBlob>,
        parcel: Option<&Parcel>,
    ) -> Result<(), Broken> {
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
    async fn pack(&self, bytes: Bytes) -> (Encoding, Bytes) {
        if self.near || bytes.len() < COMPRESS_FROM {
            return (Encoding::Raw, bytes);
        }
        if bytes.len() <= COMPRESS_HERE_MAX {
            return compress(bytes);
        }
        let raw = bytes.clone();
        tokio::task::spawn_blocking(move || compress(bytes))
            .await
            .unwrap_or((Encoding::Raw, raw))
    }
}

fn compress(bytes: Bytes) -> (Encoding, Bytes) {
    let shrinks = |bytes: &[u8]| {
        zstd::bulk::compress(bytes, ZSTD_LEVEL)
            .ok()
            .filter(|packed| packed.len() < bytes.len() / 8 * 7)
    };
    if bytes.len() > SAMPLE_BYTES && shrinks(&bytes[..SAMPLE_BYTES]).is_none() {
        return (Encoding::Raw, bytes);
    }
    match shrinks(&bytes) {
        Some(packed) => (Encoding::Zstd, packed.into()),
        None => (Encoding::Raw, bytes),
    }
}

/// What was fetched, decompressed: exactly as long as announced, which was held against the limit.
fn unpack(fetched: &Fetched, payload: Bytes) -> Result<Bytes, Broken> {
    let lengths = ProtocolError::BlobLengths {
        raw_bytes: fetched.raw_bytes,
        wire_bytes: fetched.wire_bytes,
    };
    let raw = match fetched.encoding {
        Encoding::Raw => payload,
        Encoding::Zstd => {
            let bytes = usize::try_from(fetched.raw_bytes).unwrap_or(usize::MAX);
            match zstd::bulk::decompress(&payload, bytes) {
                Ok(raw) => raw.into(),
                Err(_) => return Err(Broken::Protocol(lengths)),
            }
        }
    };
    if raw.len() as u64 != fetched.raw_bytes {
        return Err(Broken::Protocol(lengths));
    }
    Ok(raw)
}

/// Parts that make no bundle, which a host has sent.
fn parts_refused(error: &spore_bundle::PartsError) -> CallError<Infallible> {
    CallError::Refused(Refused::new(RefusalCode::ImageMisfit, error.to_string()))
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
fn blob_id(bytes: &[u8]) -> BlobId {
    BlobId(*StateId::of(bytes).as_bytes())
}

/// Items that the program has taken, and which of them the host knows of.
#[derive(Default)]
struct Taking {
    /// Those below this one.
    below: u64,
    said: u64,
    /// Of those that the host does not know of.
    bytes: usize,
}

impl Taking {
    /// Those below `first` were taken before.
    fn from(first: u64) -> Taking {
        Taking {
            below: first,
            said: first,
            bytes: 0,
        }
    }

    /// The program has an item of this number and size.
    fn take(&mut self, sequence: u64, bytes: usize) {
        self.below = sequence + 1;
        self.bytes += bytes;
    }

    fn is_unsaid(&self) -> bool {
        self.below > self.said
    }

    /// Whether it is time to tell the host.
    fn is_due(&self) -> bool {
        self.below - self.said >= TAKEN_ITEMS || self.bytes >= TAKEN_BYTES
    }

    fn say(&mut self) -> u64 {
        self.said = self.below;
        self.bytes = 0;
        self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        for (given, expected) in [
            ("board.local", "board.local:7473"),
            ("board.local:9", "board.local:9"),
            ("127.0.0.1", "127.0.0.1:7473"),
            ("::1", "[::1]:7473"),
            ("[::1]", "[::1]:7473"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(with_port(given), expected);
        }
    }

    #[test]
    fn what_does_not_shrink_travels_as_it_is() {
        let (encoding, packed) = compress(Bytes::from(vec![7; 1 << 20]));
        assert_eq!(encoding, Encoding::Zstd);
        assert!(packed.len() < 1000);
        let noise: Vec<u8> = (0..4096u32).flat_map(noise_of).collect();
        let (encoding, same) = compress(Bytes::from(noise.clone()));
        assert_eq!((encoding, &same[..]), (Encoding::Raw, &noise[..]));
    }

    /// Bytes without a pattern that zstd could find.
    fn noise_of(number: u32) -> [u8; 32] {
        *BundleId::of(&number.to_le_bytes()).as_bytes()
    }
}
