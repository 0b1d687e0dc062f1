//! Hosts that lie: the client names what they did, tells them nothing, and goes on.

use std::future::Future;

use bytes::Bytes;
use spore_client::{CallError, Connect, Host, Identity, RefusalCode};
use spore_tests::guests::of;
use spore_tests::outcome::{refused, soon};
use spore_tests::peer::{Peer, id_of};
use spore_tests::plain as plain_bundle;
use spore_transport::exchange::ProtocolError;
use spore_transport::message::{
    Absent, BlobKind, Description, Done, Message, Missing, MissingBlob, Outcome, Output,
    OutputStream, Received, Stored, Timing,
};
use spore_transport::quic::Options;
use spore_transport::{
    BlobId, CloseCode, Connection, ConnectionError, Listener, StreamCode, StreamError,
};

type Ended = Result<u64, CallError<std::convert::Infallible>>;

/// A host that takes one connection and does with its first stream what it is told to.
async fn fake<F, S>(script: S) -> (Host, tokio::task::JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
    S: FnOnce(Peer, Connection) -> F + Send + 'static,
{
    let identity = Identity::generate();
    let local = "127.0.0.1:0".parse().expect("an address");
    let listener = Listener::bind(local, &identity, &Options::default()).expect("a free port");
    let address = listener.local_address().expect("it is bound");
    let task = tokio::spawn(async move {
        let incoming = listener.accept().await.expect("a client comes");
        let connection = incoming.accept().await.expect("it proves its key");
        let (sender, receiver) = connection.accept().await.expect("it asks").split();
        let mut peer = Peer { sender, receiver };
        // What it asks is no matter.
        peer.message().await;
        script(peer, connection.clone()).await;
        connection.closed().await;
    });
    let connect = Connect::new()
        .identity(Identity::generate())
        .trust(identity.public());
    let host = connect.to(&address.to_string()).await.expect("it listens");
    (host, task)
}

/// How a call ends on a host that does this.
async fn call_on<F, S>(script: S) -> Ended
where
    F: Future<Output = ()> + Send + 'static,
    S: FnOnce(Peer, Connection) -> F + Send + 'static,
{
    let (host, task) = fake(script).await;
    let double = of(plain_bundle(), plain::double::HANDLE);
    let ended = soon("the end of a call", host.call(&double, (1,)).into_future()).await;
    drop(host);
    soon("the host's end", task).await.expect("no panic");
    ended
}

/// How a call ends on a host that says these things and waits.
async fn call_told(messages: Vec<Message>, payload: &'static [u8]) -> Ended {
    call_on(move |mut peer, _| async move {
        for message in &messages {
            peer.say(message).await;
        }
        if !payload.is_empty() {
            peer.pour(Bytes::from_static(payload)).await;
        }
        // The client resets what it does not take.
        while let Ok(Received::Message(_) | Received::Data(_)) = peer.hear().await {}
    })
    .await
}

#[track_caller]
fn broken(ended: Ended) -> ProtocolError {
    match ended {
        Err(CallError::Protocol(error)) => error,
        other => panic!("expected a broken protocol, got {other:?}"),
    }
}

fn done(index: u32, payload_bytes: u64) -> Message {
    let (outcome, timing) = (Outcome::Value, Timing::default());
    Message::Done(Done {
        index,
        outcome,
        timing,
        output_cut: false,
        payload_bytes,
    })
}

fn missing(blobs: Vec<MissingBlob>) -> Message {
    Message::Missing(Missing { blobs })
}

#[tokio::test]
async fn a_host_that_keeps_to_the_protocol_is_believed() {
    assert_eq!(
        call_told(vec![done(0, 1)], &[42]).await.expect("a value"),
        42
    );
}

#[tokio::test]
async fn answers_to_what_was_not_asked_break_the_protocol() {
    let stored = Message::Stored(Stored {
        bundle: BlobId([1; 32]),
    });
    let description = Message::Description(Description { manifest_bytes: 1 });
    for (messages, payload) in [
        (vec![stored], &[][..]),
        (vec![description], &[1]),
        (vec![Message::Status], &[]),
        (
            vec![Message::Absent(Absent {
                id: BlobId([1; 32]),
            })],
            &[],
        ),
        (vec![], &[1, 2, 3]),
        (vec![done(0, 2)], &[1, 2, 3]),
        (vec![done(0, 5), done(0, 1)], &[]),
    ] {
        broken(call_told(messages, payload).await);
    }
    let other = broken(call_told(vec![done(7, 0)], &[]).await);
    assert!(
        matches!(other, ProtocolError::UnknownIndex { index: 7 }),
        "{other}"
    );
}

#[tokio::test]
async fn a_result_announced_beyond_the_limit_is_not_taken() {
    for bytes in [(64 << 20) + 1, u64::MAX] {
        let error = broken(call_told(vec![done(0, bytes)], &[]).await);
        assert!(
            matches!(error, ProtocolError::TooLarge { actual, .. } if actual == bytes),
            "{error}"
        );
    }
}

#[tokio::test]
async fn results_that_are_no_values_of_the_type_are_named() {
    for payload in [&[][..], &[0xfd], &[1, 1]] {
        let ended = call_told(vec![done(0, payload.len() as u64)], payload).await;
        assert!(matches!(ended, Err(CallError::Result(_))), "{ended:?}");
    }
}

#[tokio::test]
async fn a_host_learns_nothing_but_the_parts_of_the_bundle() {
    let bundle = plain_bundle().inner();
    let (manifest, code) = (id_of(bundle.manifest_bytes()), id_of(bundle.code()));
    let kinds = [BlobKind::Manifest, BlobKind::Code, BlobKind::State];
    let strange = BlobId([7; 32]);
    // Another id in each of the roles, and the right ids in wrong ones.
    let mut asked: Vec<MissingBlob> = kinds
        .iter()
        .map(|kind| MissingBlob {
            id: strange,
            kind: *kind,
        })
        .collect();
    asked.push(MissingBlob {
        id: manifest,
        kind: BlobKind::Code,
    });
    asked.push(MissingBlob {
        id: code,
        kind: BlobKind::State,
    });
    for blob in asked {
        let ended = call_on(move |mut peer, _| async move {
            assert!(
                matches!(peer.hear().await, Ok(Received::Data(_))),
                "the arguments"
            );
            peer.say(&missing(vec![blob])).await;
            assert_eq!(
                peer.message().await,
                Message::Absent(Absent { id: blob.id })
            );
            peer.say(&done(0, 1)).await;
            peer.pour(vec![5]).await;
            peer.sender.finish().await.expect("finished");
        })
        .await;
        assert_eq!(ended.expect("it is no offence to ask"), 5);
    }
}

#[tokio::test]
async fn a_host_that_asks_twice_or_for_too_much_breaks_the_protocol() {
    let blob = |byte| MissingBlob {
        id: BlobId([byte; 32]),
        kind: BlobKind::State,
    };
    let twice = broken(call_told(vec![missing(vec![blob(1)]), missing(vec![blob(1)])], &[]).await);
    assert!(matches!(twice, ProtocolError::AskedTwice { .. }), "{twice}");
    let many = (0..40).map(blob).collect();
    let more = (40..80).map(blob).collect();
    let too_many = broken(call_told(vec![missing(many), missing(more)], &[]).await);
    assert!(
        matches!(
            too_many,
            ProtocolError::TooManyBlobs {
                limit: 64,
                actual: 80
            }
        ),
        "{too_many}"
    );
}

#[tokio::test]
async fn endless_output_of_a_host_is_passed_on_and_not_kept() {
    let ended = call_on(|mut peer, _| async move {
        let bytes = Bytes::from(vec![b'x'; 60_000]);
        for _ in 0..200 {
            let stream = OutputStream::Stdout;
            let output = Output {
                index: 0,
                stream,
                bytes: bytes.clone(),
            };
            peer.say(&Message::Output(output)).await;
        }
        peer.say(&done(0, 1)).await;
        peer.pour(vec![9]).await;
        peer.sender.finish().await.expect("finished");
    })
    .await;
    assert_eq!(ended.expect("a value"), 9);
}

#[tokio::test]
async fn a_host_that_goes_away_is_lost_and_the_outcome_unknown() {
    let reset = call_on(|mut peer, _| async move {
        peer.sender.reset(StreamCode::Internal);
    })
    .await;
    assert!(
        matches!(
            reset,
            Err(CallError::Lost(StreamError::Reset(StreamCode::Internal)))
        ),
        "{reset:?}"
    );
    let finished = call_on(|mut peer, _| async move {
        peer.sender.finish().await.expect("finished");
    })
    .await;
    assert!(matches!(broken(finished), ProtocolError::EndedEarly { .. }));
    let closed = call_on(|_, connection| async move {
        connection.close(CloseCode::Internal, "sorry");
    })
    .await;
    match closed {
        Err(CallError::Lost(StreamError::Connection(ConnectionError::Closed { code, .. }))) => {
            assert_eq!(code, CloseCode::Internal);
        }
        other => panic!("{other:?}"),
    }
    let revoked = call_on(|_, connection| async move {
        connection.close(CloseCode::Revoked, "");
    })
    .await;
    refused(revoked, RefusalCode::NotAuthorised);
}

#[tokio::test]
async fn a_description_of_another_bundle_is_not_believed() {
    let bytes = plain_bundle().inner().manifest_bytes().clone();
    let manifest_bytes = bytes.len() as u64;
    let (host, task) = fake(move |mut peer, _| async move {
        peer.say(&Message::Description(Description { manifest_bytes }))
            .await;
        peer.pour(bytes).await;
        peer.sender.finish().await.expect("finished");
    })
    .await;
    let other = spore_client::BundleId::of(b"another");
    let shipped = soon("the description", host.shipped(other)).await;
    refused(shipped.map(|_| ()), RefusalCode::InvalidManifest);
    drop(host);
    soon("the host's end", task).await.expect("no panic");
}
