//! Identities, messages and per-stream state machines.
//!
//! `docs/PROTOCOL.md` specifies what travels. The layers here, innermost first:
//!
//! - [`identity`], [`authorized_keys`], [`known_hosts`]: who is who, as keys and as text. Files are
//!   read and written elsewhere.
//! - [`frame`], [`tag`], [`message`]: bytes to messages and back, every length held against a limit.
//! - [`exchange`]: the order of one stream, as a state machine for each side, without I/O or clocks.
//! - [`job::custody`]: which host has a job that moves, as what a host writes down of it.
//! - [`packing`]: what shrinks on its way.
//! - [`quic`]: the one module that drives quinn.
//!
//! ```
//! use spore_transport::exchange::{ClientEvent, ClientExchange, ClientLimits};
//! use spore_transport::quic::Options;
//! use spore_transport::{Connector, Identity, Listener, Message};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (host, client) = (Identity::generate(), Identity::generate());
//! let listener = Listener::bind("127.0.0.1:0".parse()?, &host, &Options::default())?;
//! let address = listener.local_address()?;
//! # let allowed = client.public();
//! # tokio::spawn(async move {
//! #     let incoming = listener.accept().await.expect("it listens");
//! #     let connection = incoming.accept().await.expect("the client is sound");
//! #     assert_eq!(connection.peer(), allowed);
//! #     let mut stream = connection.accept().await.expect("the client asks");
//! #     stream.receiver.recv().await.expect("it asks one thing");
//! #     let report = spore_transport::status::StatusReport { workers: 2, ..Default::default() };
//! #     stream.sender.queue(&Message::StatusReport(report));
//! #     stream.sender.finish().await.expect("the client hears it");
//! #     connection.closed().await;
//! # });
//!
//! let connection = Connector::new(&client, &Options::default())?.connect(address).await?;
//! assert_eq!(connection.peer(), host.public()); // Before anything is sent.
//!
//! let mut stream = connection.open().await?;
//! let mut exchange = ClientExchange::new(ClientLimits::default());
//! exchange.send(&Message::Status)?;
//! stream.sender.send(&Message::Status).await?;
//! match exchange.receive(stream.receiver.recv().await?)? {
//!     ClientEvent::Status(report) => println!("{} workers", report.workers),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod authorized_keys;
pub mod close;
pub mod error;
pub mod exchange;
pub mod failure;
pub mod frame;
mod id;
pub mod identity;
pub mod job;
pub mod known_hosts;
pub mod message;
pub mod packing;
pub mod quic;
pub mod refusal;
pub mod session;
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
pub use job::JobId;
pub use known_hosts::{HostKey, KnownHosts};
pub use message::{Message, Received};
pub use quic::{Connection, Connector, Incoming, Listener, Receiver, Sender, Stream};
pub use refusal::{Fault, RefusalCode, Unit};
pub use session::SessionId;
