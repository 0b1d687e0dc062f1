//! What goes wrong with hosts and calls, by whose fault it is.

use std::convert::Infallible;
use std::fmt;

use spore_transport::error as transport;
use spore_transport::exchange::ProtocolError;
use spore_transport::failure::Failure;
use spore_transport::message::Refused;
use spore_transport::{CloseCode, PublicKey, StreamError};

use crate::callable::{ArgumentsError, FindError, ResultError};
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
    /// The job ended with a refusal: it passed a limit, was cancelled, or the host could not go on
    /// with it. A refusal of what was asked about the job is [`Refused`](Self::Refused).
    #[error("the job was ended: {0}")]
    JobEnded(Refused),
    /// The connection was lost after the request had left: the call ran once or not at all.
    #[error("lost the host: {0}")]
    Lost(#[source] StreamError),
    /// The host could not be reached, so the call did not run.
    #[error("no connection to the host")]
    Connect(#[from] ConnectError),
    /// The deadline of the call passed. The guest was told to stop.
    #[error("the deadline passed")]
    Deadline,
    /// The callable emits no items: it is to be called.
    #[error("{callable} emits no items")]
    NoItems {
        /// The callable
        callable: String,
    },
    /// The bundle, or that of the job, has no such callable or one of other types.
    #[error(transparent)]
    Find(#[from] FindError),
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

impl<E: fmt::Debug> CallError<E> {
    /// The error of a request that no guest answers.
    pub(crate) fn from_never(error: CallError<Infallible>) -> CallError<E> {
        match error {
            CallError::Guest(never) => match never {},
            CallError::Failed(failure) => CallError::Failed(failure),
            CallError::Refused(refused) => CallError::Refused(refused),
            CallError::JobEnded(refused) => CallError::JobEnded(refused),
            CallError::Lost(error) => CallError::Lost(error),
            CallError::Connect(error) => CallError::Connect(error),
            CallError::Deadline => CallError::Deadline,
            CallError::NoItems { callable } => CallError::NoItems { callable },
            CallError::Find(error) => CallError::Find(error),
            CallError::Arguments(error) => CallError::Arguments(error),
            CallError::Result(error) => CallError::Result(error),
            CallError::Protocol(error) => CallError::Protocol(error),
        }
    }

    /// Whether the host was lost or not reached, so that it may answer when it is asked again.
    pub(crate) fn is_passing(&self) -> bool {
        use ConnectError::{Closed, Resolve, Unreachable};
        match self {
            CallError::Lost(_) => true,
            CallError::Connect(error) => {
                matches!(error, Closed { .. } | Resolve { .. } | Unreachable { .. })
                    && !error.is_not_authorised()
            }
            _ => false,
        }
    }
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
