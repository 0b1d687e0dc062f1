//! What goes wrong with hosts and calls, by whose fault it is.

use std::fmt;

use spore_transport::error as transport;
use spore_transport::exchange::ProtocolError;
use spore_transport::failure::Failure;
use spore_transport::message::Refused;
use spore_transport::{CloseCode, PublicKey, StreamError};

use crate::callable::{ArgumentsError, ResultError};
use crate::home::HomeError;

/// Why a call gave no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E: fmt::Debug> {
    /// The callable returned its own error.
    #[error("the callable returned an error: {0:?}")]
    Guest(E),
    /// The guest panicked or trapped.
    #[error("the guest {0}")]
    Failed(Failure),
    /// The host did not run it, or not to its end.
    #[error("{0}")]
    Refused(Refused),
    /// The connection was lost after the request had left: the call ran once or not at all.
    #[error("lost the host: {0}")]
    Lost(#[source] StreamError),
    /// The host could not be reached, so the call did not run.
    #[error("no connection to the host")]
    Connect(#[from] ConnectError),
    /// The deadline of the call passed. The guest was told to stop.
    #[error("the deadline passed")]
    Deadline,
    /// The arguments do not fit the callable.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// What came back is not what the callable returns.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// The host broke the protocol.
    #[error("the host broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address, or is none.
    #[error("cannot find {host}: {reason}")]
    Resolve {
        /// As it was given
        host: String,
        /// What the system says
        reason: String,
    },
    /// No address of the host could be connected to.
    #[error("cannot connect to {host}")]
    Unreachable {
        /// As it was given
        host: String,
        /// Why the last address failed
        #[source]
        source: transport::ConnectError,
    },
    /// The host closed the connection before it could be used.
    #[error("{host} closed the connection")]
    Closed {
        /// As it was given
        host: String,
        /// With which reason
        #[source]
        source: transport::ConnectionError,
    },
    /// The host's key is not known here.
    #[error(
        "the key of {host} is not known: {key}; compare it with what `spore key show --host` \
         prints there, then run `spore key trust {host} {key}`"
    )]
    UnknownHost {
        /// As it was given
        host: String,
        /// The key that the host proved
        key: PublicKey,
    },
    /// The host has another key than it is known by: it was set up anew, or it is not that host.
    #[error(
        "the key of {host} has changed: expected {expected}, it has {found}; if that is right, \
         run `spore key untrust {host}` and trust it anew"
    )]
    ChangedKey {
        /// As it was given
        host: String,
        /// The key that is pinned
        expected: PublicKey,
        /// The key that the host proved
        found: PublicKey,
    },
    /// The host does not have the key that [`Connect::trust`](crate::Connect::trust) was told of:
    /// that is the key of something else, or another machine answers in the host's place. Nothing
    /// else was known of the host, or what was known is the key that it has.
    #[error(
        "the key of {host} is {found}, and not {trusted} that was to be trusted; compare it with \
         what `spore key show --host` prints there"
    )]
    OtherKey {
        /// As it was given
        host: String,
        /// The key that was to be trusted
        trusted: PublicKey,
        /// The key that the host proved
        found: PublicKey,
    },
    /// Identity or known hosts could not be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No socket, or an identity that TLS does not take.
    #[error(transparent)]
    Bind(#[from] spore_transport::BindError),
}

impl ConnectError {
    /// Whether the host refused this client's key.
    pub fn is_not_authorised(&self) -> bool {
        let code = self.close_code();
        matches!(code, Some(CloseCode::NotAuthorised | CloseCode::Revoked))
    }

    /// Whether the host refused because it has too many connections, of this key or of all.
    pub fn is_too_many_connections(&self) -> bool {
        self.close_code() == Some(CloseCode::TooManyConnections)
    }

    /// With which code the host closed the connection, if it did.
    fn close_code(&self) -> Option<CloseCode> {
        let (ConnectError::Closed { source, .. }
        | ConnectError::Unreachable {
            source: transport::ConnectError::Connection(source),
            ..
        }) = self
        else {
            return None;
        };
        match source {
            transport::ConnectionError::Closed { code, .. } => Some(*code),
            _ => None,
        }
    }
}
