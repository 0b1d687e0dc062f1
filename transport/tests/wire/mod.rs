//! Messages, and the wire between two state machines.

use bytes::BytesMut;
use spore_transport::frame::FrameReader;
use spore_transport::message::*;
use spore_transport::{BlobId, Message, Received};

/// The bundle that everything here is about.
pub(crate) const BUNDLE: BlobId = BlobId([1; 32]);

/// A call of its first callable.
pub(crate) fn call(args_bytes: u64) -> Message {
    let limits = CallLimits::default();
    Message::Call(Call {
        bundle: BUNDLE,
        callable: 0,
        limits,
        seed: 0,
        args_bytes,
    })
}

/// Word that these blobs are missing.
pub(crate) fn missing(blobs: &[(BlobId, BlobKind)]) -> Message {
    let blobs = blobs
        .iter()
        .map(|&(id, kind)| MissingBlob { id, kind })
        .collect();
    Message::Missing(Missing { blobs })
}

/// Payload of so many bytes.
pub(crate) fn data(length: usize) -> Received {
    Received::Data(vec![0; length].into())
}

/// A message as it comes out at the other end.
pub(crate) fn across(message: Message) -> Received {
    let mut wire = BytesMut::new();
    message.encode(&mut wire);
    let mut reader = FrameReader::new();
    reader.push(wire.freeze());
    let frame = reader.next().expect("a good frame").expect("a whole frame");
    reader.end().expect("nothing left");
    let received = Received::from_frame(frame).expect("a good message");
    assert_eq!(received, Received::Message(message));
    received
}
