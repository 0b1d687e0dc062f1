//! A client of the protocol that says what it is told to, in order or not.

use bytes::Bytes;
use spore_transport::message::CallLimits;
use spore_transport::message::{
    Blob, Call, Encoding, Message, Missing, MissingBlob, Received, Refused, Ship,
};
use spore_transport::{BlobId, Connection, Receiver, RefusalCode, Sender, StreamError};

use crate::outcome::soon;

/// What a message asks for to end a guest that would go on for long.
pub fn wall(milliseconds: u64) -> CallLimits {
    CallLimits {
        wall_ms: Some(milliseconds),
        ..CallLimits::default()
    }
}

/// One stream of a client without manners.
#[derive(Debug)]
pub struct Peer {
    /// What it sends
    pub sender: Sender,
    /// What the host sends
    pub receiver: Receiver,
}

impl Peer {
    /// Opens a stream.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn open(connection: &Connection) -> Peer {
        let stream = soon("a stream", connection.open())
            .await
            .expect("the connection lives");
        let (sender, receiver) = stream.split();
        Peer { sender, receiver }
    }

    /// Says something, whatever the host thinks of it.
    pub async fn say(&mut self, message: &Message) {
        // A host that has refused already stops the stream; its answer says more.
        let _ = self.sender.send(message).await;
    }

    /// Sends payload, announced or not.
    pub async fn pour(&mut self, bytes: impl Into<Bytes>) {
        let _ = self.sender.send_payload(bytes.into()).await;
    }

    /// Announces a blob and sends these bytes for it.
    pub async fn blob(&mut self, id: BlobId, encoding: Encoding, raw_bytes: u64, wire: &[u8]) {
        let wire_bytes = wire.len() as u64;
        self.say(&Message::Blob(Blob {
            id,
            encoding,
            raw_bytes,
            wire_bytes,
        }))
        .await;
        if !wire.is_empty() {
            self.pour(Bytes::copy_from_slice(wire)).await;
        }
    }

    /// Sends a blob as it is.
    pub async fn honest_blob(&mut self, bytes: &[u8]) {
        self.blob(id_of(bytes), Encoding::Raw, bytes.len() as u64, bytes)
            .await;
    }

    /// What the host says next.
    ///
    /// # Errors
    ///
    /// When the stream or the connection has ended.
    pub async fn hear(&mut self) -> Result<Received, StreamError> {
        soon("word from the host", self.receiver.recv()).await
    }

    /// The next message of the host.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn message(&mut self) -> Message {
        match self.hear().await {
            Ok(Received::Message(message)) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The blobs that the host asks for now.
    ///
    /// # Panics
    ///
    /// When it says something else.
    pub async fn missing(&mut self) -> Vec<MissingBlob> {
        match self.message().await {
            Message::Missing(Missing { blobs }) => blobs,
            other => panic!("expected to be asked for blobs, got {other:?}"),
        }
    }

    /// The refusal with which the host ends the stream.
    ///
    /// # Panics
    ///
    /// When it ends it otherwise, or refuses with another code.
    pub async fn refusal(&mut self, code: RefusalCode) -> Refused {
        loop {
            match self.hear().await {
                Ok(Received::Message(Message::Missing(_) | Message::Output(_))) => {}
                Ok(Received::Message(Message::Refused(refused))) if refused.code == code => {
                    return refused;
                }
                other => panic!("expected the refusal {}, got {other:?}", code.name()),
            }
        }
    }
}

/// The id of these bytes.
pub fn id_of(bytes: &[u8]) -> BlobId {
    BlobId(*spore_bundle::BundleId::of(bytes).as_bytes())
}

/// A call of the first callable, without arguments.
pub fn call(bundle: BlobId, args_bytes: u64) -> Message {
    let limits = CallLimits::default();
    Message::Call(Call {
        bundle,
        callable: 0,
        limits,
        seed: 0,
        args_bytes,
    })
}

/// A request to store a bundle.
pub fn ship(bundle: BlobId) -> Message {
    Message::Ship(Ship { bundle })
}
