//! Identities, messages and per-stream state machines.
#![forbid(unsafe_code)]

pub mod authorized_keys;
pub mod close;
pub mod error;
pub mod exchange;
pub mod failure;
pub mod frame;
mod id;
pub mod identity;
pub mod known_hosts;
pub mod message;
pub mod quic;
pub mod refusal;
pub mod status;
pub mod tag;
mod tls;
pub mod units;

/// The protocol and its version, as TLS negotiates it.
pub const ALPN: &[u8] = ALPN_TEXT.as_bytes();
/// [`ALPN`] as text.
pub const ALPN_TEXT: &str = "spore/1";

pub use authorized_keys::{AuthorizedKeys, KeyOptions};
pub use close::{CloseCode, StreamCode};
pub use error::{BindError, ConnectError, ConnectionError, LostReason, StreamError};
pub use id::BlobId;
pub use identity::{Identity, PublicKey};
pub use known_hosts::{HostKey, KnownHosts};
pub use message::{Message, Received};
pub use quic::{Connection, Connector, Incoming, Listener, Receiver, Sender, Stream};
pub use refusal::{Fault, RefusalCode};
