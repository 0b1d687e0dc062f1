//! What goes wrong on connections and streams.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::frame::FrameError;
use crate::message::MessageError;
use crate::units::duration_text;
use crate::{ALPN_TEXT, CloseCode, RefusalCode, StreamCode};

/// How the peer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// Nothing was heard for the idle time-out: the peer or the network is gone.
    Idle,
    /// The peer does not know the connection any more: it has restarted.
    Reset,
    /// The handshake did not end within its time.
    Handshake,
}

impl std::fmt::Display for LostReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LostReason::Idle => "nothing was heard for the idle time-out",
            LostReason::Reset => "the peer has restarted",
            LostReason::Handshake => "the peer did not answer the handshake in time",
        })
    }
}

/// Why a connection has ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer is gone without a word. Nobody's fault that could be told from here.
    #[error("the connection was lost: {0}")]
    Lost(LostReason),
    /// The peer closed it, and said why.
    #[error("the peer closed the connection: {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The stable code
        code: CloseCode,
        /// More words for a person, or empty
        reason: String,
    },
    /// This side closed it.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The peer speaks another version of the protocol, or something else than Spore.
    #[error("the peer does not speak {ALPN_TEXT}; this program speaks no other version")]
    VersionMismatch,
    /// A key was not proved, or not with a raw Ed25519 public key.
    #[error("the TLS handshake failed with alert {alert}: {reason}")]
    Handshake {
        /// The TLS alert
        alert: u8,
        /// The words of the side that sent it
        reason: String,
    },
    /// QUIC itself was broken. The peer's fault, or a fault of the implementation.
    #[error("the QUIC connection failed: {0}")]
    Quic(String),
}

impl ConnectionError {
    /// Whether the peer is gone without a word, so that what it did last is unknown.
    pub fn is_lost(&self) -> bool {
        matches!(self, ConnectionError::Lost(_))
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be connected to from here. The caller's fault.
    #[error("cannot connect to {address}: {reason}")]
    Address {
        /// The address
        address: SocketAddr,
        /// Why not
        reason: String,
    },
    /// The machine is there, and says that no program listens at the address: the host is not
    /// running, or listens elsewhere.
    #[error("nothing listens at {address}")]
    NothingListens {
        /// The address
        address: SocketAddr,
    },
    /// Nothing came back: no machine is there, something on the way drops the packets, or the host
    /// is too busy for a handshake.
    #[error("{address} did not answer within {}", duration_text(*waited))]
    NoAnswer {
        /// The address
        address: SocketAddr,
        /// How long it was waited for
        waited: Duration,
    },
    /// The handshake failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Why an endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be bound: taken, not of this machine, or not allowed.
    #[error("cannot bind {address}")]
    Socket {
        /// The address
        address: SocketAddr,
        /// What the system says
        #[source]
        source: io::Error,
    },
    /// TLS does not take the identity.
    #[error("cannot use the identity")]
    Identity(#[source] rustls::Error),
}

/// Why a stream cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer gave up its sending half.
    #[error("the peer reset the stream: {0}")]
    Reset(StreamCode),
    /// The peer reads no more of what this side sends. What it has sent can still be read.
    #[error("the peer stopped the stream: {0}")]
    Stopped(StreamCode),
    /// This half was already finished, reset or stopped here.
    #[error("the stream is closed here")]
    ClosedHere,
    /// The connection has ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// What arrived is no frame. The peer's fault.
    #[error("the peer sent a bad frame")]
    Frame(#[from] FrameError),
    /// What arrived is no message. The peer's fault.
    #[error("the peer sent a bad message")]
    Message(#[from] MessageError),
}

impl StreamError {
    /// The refusal that tells a peer what it did, when it was the peer's doing and it can still
    /// be told.
    pub fn refusal_code(&self) -> Option<RefusalCode> {
        match self {
            // A request of a later version begins with a tag that this one does not know.
            StreamError::Frame(FrameError::UnknownTag { .. }) => Some(RefusalCode::Unsupported),
            StreamError::Frame(_) | StreamError::Message(_) => Some(RefusalCode::Malformed),
            _ => None,
        }
    }
}
