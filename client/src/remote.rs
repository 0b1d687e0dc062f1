//! A host at the other end of a connection.

mod conversation;
mod jobs;
mod moves;
mod sessions;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spore_bundle::{Bundle, BundleId, Manifest};
use spore_transport::exchange::{ClientExchange, ClientLimits, RESULT_BYTES_MAX_DEFAULT};
use spore_transport::message::{Call, Describe, Message, Refused, Ship};
use spore_transport::quic::Options;
use spore_transport::status::StatusReport;
use spore_transport::{
    BlobId, CloseCode, Connection, ConnectionError, Connector, HostKey, Identity, PublicKey,
    RefusalCode, StreamError,
};

use self::conversation::{Answer, Conversation};
use crate::call::{Broken, Finished, Request, Sink};
use crate::callable::{Parcel, Shipped};
use crate::error::{CallError, ConnectError};
use crate::home::Home;
use crate::host::Host;

/// Port of a host that is named without one.
pub const PORT_DEFAULT: u16 = 7473;

/// Bounds of the wait for what is left to send before a close, a round trip in between.
const SETTLE_TIME_MIN: Duration = Duration::from_millis(2);
const SETTLE_TIME_MAX: Duration = Duration::from_millis(100);
/// Time for word of a close to leave this machine.
const CLOSE_TIME: Duration = Duration::from_millis(10);

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
        let near = connection.is_near();
        Ok(Conversation {
            exchange: ClientExchange::new(limits),
            sender,
            receiver,
            near,
            passing: 0,
        })
    }

    pub(crate) async fn run(
        &self,
        parcel: &Parcel,
        request: Request,
        sink: &mut Sink,
    ) -> Result<Finished, Broken> {
        let (call, limits) = call_of(parcel, &request);
        let mut conversation = self.conversation(limits).await?;
        let call = Message::Call(call);
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
        answer.map_err(told_broken)
    }
}

/// The call that a request asks for, and what is taken in answer to it.
fn call_of(parcel: &Parcel, request: &Request) -> (Call, ClientLimits) {
    // A host may be set up for larger results than a caller expects who says nothing.
    let mut limits = request.limits.asked();
    let result_bytes = *limits.result_bytes.get_or_insert(RESULT_BYTES_MAX_DEFAULT);
    let call = Call {
        bundle: BlobId(*parcel.id.as_bytes()),
        callable: request.callable,
        limits,
        // Equal calls are equal everywhere, unless they are told apart.
        seed: request.seed.unwrap_or(0),
        args_bytes: request.arguments.len() as u64,
    };
    // Output is passed on as it comes, so that no amount of it is kept here.
    let limits = ClientLimits {
        result_bytes,
        output_bytes: u64::MAX,
        ..ClientLimits::default()
    };
    (call, limits)
}

/// Why there is no answer.
fn told_broken(broken: Broken) -> CallError<Infallible> {
    match refusal_of(&broken) {
        Some(refused) => CallError::Refused(refused),
        None => broken.into(),
    }
}

/// A refusal that no answer says: found before code was sent to the host, or a close of the connection
/// that says that the host does not serve this key.
fn refusal_of(broken: &Broken) -> Option<Refused> {
    if let Broken::Refused(refused) = broken {
        return Some(refused.clone());
    }
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

/// Parts that make no bundle, which a host has sent.
fn parts_refused(error: &spore_bundle::PartsError) -> CallError<Infallible> {
    CallError::Refused(Refused::new(RefusalCode::ImageMisfit, error.to_string()))
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
}
