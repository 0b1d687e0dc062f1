//! What drives quinn: endpoints and connections here, streams that carry messages in `stream`.
//!
//! Nothing here decides who is trusted. Both ends know the other's key before the first stream:
//! [`Connection::peer`]. Everything works on a tokio runtime of one thread and starts no task of
//! its own beside quinn's.

mod absence;
mod stream;

pub use stream::{Receiver, Sender, Stream};

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;

use crate::error::{BindError, ConnectError, ConnectionError, LostReason};
use crate::message::cut;
use crate::{CloseCode, Identity, PublicKey, tls};

/// How long nothing may be heard of a peer before it counts as lost, unless configured otherwise.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How often an idle connection shows that it lives, unless configured otherwise: three times
/// within the idle time-out, so that two lost packets do not end it.
pub const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(3);
/// How long a host lets a handshake take, unless configured otherwise.
pub const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long a client tries to connect to an address, unless configured otherwise.
///
/// QUIC sends its first packet again after 1 s and 3 s (RFC 9002, with the initial round trip of
/// 333 ms), so that two lost ones do not end it. An address at which nothing listens mostly ends it
/// at once.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Most streams that a client may have open at a time, unless configured otherwise.
pub const STREAMS_MAX_DEFAULT: u32 = 1024;
/// Most bytes of one stream that the peer may send ahead of reading, unless configured otherwise.
///
/// Keeps 300 MiB/s busy over a round trip of 25 ms, and leaves room for other streams of the
/// connection.
pub const STREAM_WINDOW_BYTES_DEFAULT: u32 = 8 << 20;
/// The same for all streams of a connection together. It bounds what a peer makes this side hold.
pub const CONNECTION_WINDOW_BYTES_DEFAULT: u32 = 32 << 20;
/// Most bytes of a connection that are kept for sending again until the peer has them, unless
/// configured otherwise.
pub const SEND_WINDOW_BYTES_DEFAULT: u32 = 16 << 20;
/// The socket buffers asked of the system, each way. It may give less (`net.core.rmem_max`).
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Largest datagram tried where the peer is on the same machine.
///
/// The kernel takes ten segments of one size at once from quinn, 64 KiB together at most. Elsewhere
/// quinn's default holds, which fits Ethernet and is reached in one probe.
const LOOPBACK_MTU: u16 = 6500;
/// What may be on its way at first between programs of one machine, in bytes.
///
/// No network lies between them that could be congested. Two probes of the datagrams above would
/// fill quinn's usual window by themselves, and hold back everything behind them.
const LOOPBACK_WINDOW_BYTES: u64 = 256 << 10;
/// Connection attempts that may wait for [`Listener::accept`].
pub const INCOMING_MAX: usize = 1024;
/// Bytes of waiting connection attempts together.
pub const INCOMING_BYTES_MAX: u64 = 16 << 20;
/// Enough that ids do not collide by chance.
const CONNECTION_ID_BYTES: usize = 8;
/// Longest reason taken from a peer's close, in bytes.
const REASON_BYTES_MAX: usize = 1024;
/// TLS alert `no_application_protocol` (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// Times and windows of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Silence after which a peer is lost at the latest; the lower of both sides' holds.
    /// [`IDLE_TIMEOUT_DEFAULT`]
    pub idle_timeout: Duration,
    /// Interval of signs of life, at most a third of the above; [`KEEP_ALIVE_DEFAULT`]
    pub keep_alive: Duration,
    /// Longest handshake, for a host; [`HANDSHAKE_TIMEOUT_DEFAULT`]
    pub handshake_timeout: Duration,
    /// Longest attempt to connect to one address, for a client; [`CONNECT_TIMEOUT_DEFAULT`]
    pub connect_timeout: Duration,
    /// Streams that a client may have open with this host; [`STREAMS_MAX_DEFAULT`]
    pub streams_max: u32,
    /// [`STREAM_WINDOW_BYTES_DEFAULT`]
    pub stream_window_bytes: u32,
    /// [`CONNECTION_WINDOW_BYTES_DEFAULT`]
    pub connection_window_bytes: u32,
    /// [`SEND_WINDOW_BYTES_DEFAULT`]
    pub send_window_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            idle_timeout: IDLE_TIMEOUT_DEFAULT,
            keep_alive: KEEP_ALIVE_DEFAULT,
            handshake_timeout: HANDSHAKE_TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            streams_max: STREAMS_MAX_DEFAULT,
            stream_window_bytes: STREAM_WINDOW_BYTES_DEFAULT,
            connection_window_bytes: CONNECTION_WINDOW_BYTES_DEFAULT,
            send_window_bytes: SEND_WINDOW_BYTES_DEFAULT,
        }
    }
}

impl Options {
    fn transport(&self, streams: u32, loopback: bool) -> Arc<TransportConfig> {
        let keep_alive = self.keep_alive.min(self.idle_timeout / 3);
        // QUIC begins to count anew with the first packet that is sent after the last one was heard,
        // which a sign of life is at the latest.
        let silence = self.idle_timeout - keep_alive;
        let idle = IdleTimeout::try_from(silence).unwrap_or(VarInt::MAX.into());
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(keep_alive))
            .max_concurrent_bidi_streams(streams.into())
            .max_concurrent_uni_streams(0u32.into())
            .stream_receive_window(self.stream_window_bytes.into())
            .receive_window(self.connection_window_bytes.into())
            .send_window(self.send_window_bytes.into())
            .datagram_receive_buffer_size(None);
        if loopback {
            let mut mtu = MtuDiscoveryConfig::default();
            mtu.upper_bound(LOOPBACK_MTU);
            config.mtu_discovery_config(Some(mtu));
            let mut congestion = CubicConfig::default();
            congestion.initial_window(LOOPBACK_WINDOW_BYTES);
            config.congestion_controller_factory(Arc::new(congestion));
        }
        Arc::new(config)
    }
}

/// The host's end: takes connections at one address.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    near: Arc<quinn::ServerConfig>,
    far: Arc<quinn::ServerConfig>,
    handshake_timeout: Duration,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one. `[::]` takes connections over IPv4 too.
    ///
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound or the identity cannot be used.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        options: &Options,
    ) -> Result<Self, BindError> {
        let tls = tls::server_config(identity).map_err(BindError::Identity)?;
        let crypto = QuicServerConfig::try_from(tls)
            .expect("ring has the cipher suite of QUIC's first packets");
        let mut far = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        far.max_incoming(INCOMING_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX);
        let mut near = far.clone();
        far.transport_config(options.transport(options.streams_max, false));
        near.transport_config(options.transport(options.streams_max, true));

        let key = Arc::new(reset_key(identity));
        let mut config = endpoint_config(quinn::EndpointConfig::new(key));
        config.cid_generator(|| Box::new(RandomIds));

        let endpoint = endpoint(address, config, Some(far.clone()))
            .map_err(|source| BindError::Socket { address, source })?;
        Ok(Listener {
            endpoint,
            near: Arc::new(near),
            far: Arc::new(far),
            handshake_timeout: options.handshake_timeout,
        })
    }

    /// The address bound, with the port taken.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next connection attempt, or nothing once the listener is closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let incoming = self.endpoint.accept().await?;
        let config = if is_loopback(incoming.remote_address()) {
            &self.near
        } else {
            &self.far
        };
        Some(Incoming {
            incoming,
            config: config.clone(),
            timeout: self.handshake_timeout,
        })
    }

    /// Takes no new connections; those there are stay.
    pub fn stop_accepting(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Closes every connection and takes no new ones.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint
            .close(var_int(code.number()), reason.as_bytes());
    }

    /// Returns when every connection has told its peer that it is closed, or given up on it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    /// What lies beneath, with the settings for peers on the same machine: `benches/` measures
    /// quinn alone with it.
    #[doc(hidden)]
    pub fn into_quinn(self) -> (quinn::Endpoint, Arc<quinn::ServerConfig>) {
        (self.endpoint, self.near)
    }
}

/// A connection attempt. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    config: Arc<quinn::ServerConfig>,
    timeout: Duration,
}

impl Incoming {
    /// Where it comes from. May be forged, unless [`address_is_proved`](Self::address_is_proved).
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.incoming.remote_address())
    }

    /// Whether who sent it has shown that it receives at its address.
    pub fn address_is_proved(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Asks for a proof of the address and forgets the attempt (QUIC Retry). An honest client comes
    /// back with the proof, a round trip later; a forged address costs one small packet.
    pub fn ask_for_proof(self) {
        // It fails where a proof was given. A packet that cannot be sent is as good as a lost one:
        // the client tries again.
        let _ = self.incoming.retry();
    }

    /// Completes the handshake, in which the client proves its key. Run it beside others: a peer
    /// can make it last as long as the handshake time-out.
    ///
    /// # Errors
    ///
    /// When the client speaks another version, proves no key, or does not answer.
    pub async fn accept(self) -> Result<Connection, ConnectionError> {
        let connecting = self
            .incoming
            .accept_with(self.config)
            .map_err(connection_error)?;
        Connection::established(connecting, self.timeout).await
    }

    /// Turns it away without a handshake. The client sees a refused connection.
    pub fn refuse(self) {
        self.incoming.refuse();
    }
}

/// The client's end: makes connections.
#[derive(Clone, Debug)]
pub struct Connector {
    endpoint: quinn::Endpoint,
    near: quinn::ClientConfig,
    far: quinn::ClientConfig,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

impl Connector {
    /// Binds a free port for all connections to come.
    ///
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system gives no port or the identity cannot be used.
    pub fn new(identity: &Identity, options: &Options) -> Result<Self, BindError> {
        let tls = tls::client_config(identity).map_err(BindError::Identity)?;
        let crypto = QuicClientConfig::try_from(tls)
            .expect("ring has the cipher suite of QUIC's first packets");
        let mut far = quinn::ClientConfig::new(Arc::new(crypto));
        let mut near = far.clone();
        // Hosts open no streams.
        far.transport_config(options.transport(0, false));
        near.transport_config(options.transport(0, true));

        let config = || endpoint_config(quinn::EndpointConfig::default());
        // One socket serves both families. Where IPv6 is off, IPv4 remains.
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let endpoint = endpoint((Ipv6Addr::UNSPECIFIED, 0).into(), config(), None)
            .or_else(|_| endpoint(address, config(), None))
            .map_err(|source| BindError::Socket { address, source })?;
        Ok(Connector {
            endpoint,
            near,
            far,
            connect_timeout: options.connect_timeout,
            idle_timeout: options.idle_timeout,
        })
    }

    /// Connects to the host at `address`. Compare [`Connection::peer`] with the key that is
    /// expected before anything is sent. Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// When the host cannot be reached, speaks another version or proves no key. Where nothing
    /// listens at the address and its machine says so, that is at once. That the host does not
    /// serve this client's key shows only once the connection is used: see
    /// [`CloseCode::NotAuthorised`].
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        let config = if is_loopback(address) {
            &self.near
        } else {
            &self.far
        };
        let connecting = self
            .endpoint
            .connect_with(config.clone(), address, "spore")
            .map_err(|error| ConnectError::Address {
                address,
                reason: error.to_string(),
            })?;
        let handshake = Connection::established(connecting, self.connect_timeout);
        let connection = tokio::select! {
            connection = handshake => connection,
            error = absence::known(address) => return Err(error),
        };
        let no_answer = |waited| ConnectError::NoAnswer { address, waited };
        connection.map_err(|error| match error {
            ConnectionError::Lost(LostReason::Handshake) => no_answer(self.connect_timeout),
            ConnectionError::Lost(LostReason::Idle) => no_answer(self.idle_timeout),
            error => error.into(),
        })
    }

    /// Returns when every connection has told its peer that it is closed, or given up on it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    /// As [`Listener::into_quinn`].
    #[doc(hidden)]
    pub fn into_quinn(self) -> (quinn::Endpoint, quinn::ClientConfig) {
        (self.endpoint, self.near)
    }
}

/// A connection whose ends have proved their keys. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    connection: quinn::Connection,
    peer: PublicKey,
}

impl Connection {
    async fn established(
        connecting: quinn::Connecting,
        timeout: Duration,
    ) -> Result<Self, ConnectionError> {
        let connection = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| ConnectionError::Lost(LostReason::Handshake))?
            .map_err(connection_error)?;
        let chain: Box<Vec<CertificateDer<'static>>> = connection
            .peer_identity()
            .and_then(|identity| identity.downcast().ok())
            .expect("TLS ends no handshake without the peer's key");
        let peer = chain
            .first()
            .and_then(|key| tls::public_key(key))
            .expect("the verifiers take Ed25519 keys only");
        Ok(Connection { connection, peer })
    }

    /// The key that the other end has proved to hold.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Where the other end is now; it may move.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    /// Whether the peer is on the same machine.
    pub fn is_near(&self) -> bool {
        is_loopback(self.connection.remote_address())
    }

    /// Round-trip time as estimated now.
    pub fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// Opens a stream, for the client. Waits while as many are open as the host allows. The host
    /// learns of it with the first message. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn open(&self) -> Result<Stream, ConnectionError> {
        let halves = self.connection.open_bi().await.map_err(connection_error)?;
        Ok(Stream::new(halves))
    }

    /// The next stream that the client opens, for the host. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub async fn accept(&self) -> Result<Stream, ConnectionError> {
        let halves = self
            .connection
            .accept_bi()
            .await
            .map_err(connection_error)?;
        Ok(Stream::new(halves))
    }

    /// Closes the connection at once, all its streams included, and tells the peer why. What was
    /// sent and has not arrived may be lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.connection
            .close(var_int(code.number()), reason.as_bytes());
    }

    /// Why the connection has ended, or nothing while it lives.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.connection.close_reason().map(connection_error)
    }

    /// Waits for the end of the connection, and says why. Cancel-safe.
    pub async fn closed(&self) -> ConnectionError {
        connection_error(self.connection.closed().await)
    }
}

fn endpoint(
    address: SocketAddr,
    config: quinn::EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Small buffers cost speed, not correctness, so a system that gives less is no error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    quinn::Endpoint::new(config, server, socket.into(), Arc::new(quinn::TokioRuntime))
}

fn endpoint_config(mut config: quinn::EndpointConfig) -> quinn::EndpointConfig {
    config
        .max_udp_payload_size(LOOPBACK_MTU)
        .expect("above QUIC's least");
    config
}

/// The key that lets a host which has restarted tell old connections that it has forgotten them.
/// Otherwise their peers would wait for the idle time-out.
fn reset_key(identity: &Identity) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.pkcs8().secret_pkcs8_der());
    hmac::Key::new(
        hmac::HMAC_SHA256,
        hmac::sign(&secret, b"spore/1 stateless reset").as_ref(),
    )
}

/// Connection ids without a mark of this process. quinn's own have one, and answer no packet
/// whose id lacks it: after a restart that would be all of them.
#[derive(Debug)]
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        SystemRandom::new()
            .fill(&mut id)
            .expect("the system gives random bytes");
        quinn::ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn var_int(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn connection_error(error: quinn::ConnectionError) -> ConnectionError {
    match error {
        quinn::ConnectionError::VersionMismatch => ConnectionError::VersionMismatch,
        quinn::ConnectionError::TransportError(error) => {
            quic_error(error.code, error.reason.clone(), &error)
        }
        quinn::ConnectionError::ConnectionClosed(close) => {
            quic_error(close.error_code, reason_text(&close.reason), &close)
        }
        quinn::ConnectionError::ApplicationClosed(close) => ConnectionError::Closed {
            code: close.error_code.into_inner().into(),
            reason: reason_text(&close.reason),
        },
        quinn::ConnectionError::Reset => ConnectionError::Lost(LostReason::Reset),
        quinn::ConnectionError::TimedOut => ConnectionError::Lost(LostReason::Idle),
        quinn::ConnectionError::LocallyClosed => ConnectionError::ClosedHere,
        error @ quinn::ConnectionError::CidsExhausted => ConnectionError::Quic(error.to_string()),
    }
}

/// QUIC reports TLS alerts as error codes of a range of their own (RFC 9001, section 4.8).
fn quic_error(
    code: quinn::TransportErrorCode,
    reason: String,
    whole: &dyn std::fmt::Display,
) -> ConnectionError {
    match u64::from(code).checked_sub(0x100).map(u8::try_from) {
        Some(Ok(ALERT_NO_APPLICATION_PROTOCOL)) => ConnectionError::VersionMismatch,
        Some(Ok(alert)) => ConnectionError::Handshake { alert, reason },
        _ => ConnectionError::Quic(whole.to_string()),
    }
}

fn reason_text(reason: &[u8]) -> String {
    let mut text =
        String::from_utf8_lossy(&reason[..reason.len().min(REASON_BYTES_MAX)]).into_owned();
    cut(&mut text, REASON_BYTES_MAX);
    text
}
