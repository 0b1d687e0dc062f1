//! Clients that lie: each gets the refusal that names what it did, and the host serves on.

mod uploads;

use bytes::Bytes;
use spore_client::{Bundle, RefusalCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::assert_serves;
use spore_tests::outcome::{idle, running};
use spore_tests::peer::{Peer, call, ship};
use spore_tests::{Local, hostile, plain as plain_bundle};
use spore_transport::message::{
    Absent, Blob, BlobKind, Call, CallLimits, Cancel, Encoding, Message, Missing, MissingBlob,
    Received, Stored,
};
use spore_transport::{BlobId, Connection, StreamError};

const MIB: u64 = 1 << 20;

fn setup() -> Setup {
    let limits = Limits {
        arguments: 1_000,
        code: MIB,
        state: 2 * MIB,
        ..Limits::default()
    };
    Setup {
        limits,
        ..Setup::default()
    }
}

/// A host of the test's own, and a connection to it.
async fn start() -> (Local, Connection) {
    let local = Local::start(setup(), &["", ""]);
    let connection = local.connection(0).await;
    (local, connection)
}

/// The host serves both keys, on this connection and on others.
async fn serves(local: &Local, connection: &Connection) {
    let mut peer = Peer::open(connection).await;
    peer.say(&Message::Status).await;
    assert!(matches!(peer.message().await, Message::StatusReport(_)));
    for client in 0..2 {
        assert_serves(&local.connect(client).await).await;
    }
}

/// A bundle with captures, so that it has all three parts.
fn bundle() -> Bundle {
    let (index, _) = plain_bundle()
        .inner()
        .callable("weigh")
        .expect("it is there");
    let captures = spore_value::codec::encode(&vec![7u8; 5_000]).expect("shallow");
    plain_bundle()
        .inner()
        .with_captures(index, captures)
        .expect("bytes")
        .into()
}

fn id(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

/// The bytes of the part of this kind.
fn part(bundle: &Bundle, kind: BlobKind) -> Bytes {
    let bundle = bundle.inner();
    match kind {
        BlobKind::Manifest => bundle.manifest_bytes().clone(),
        BlobKind::Code => bundle.code().clone(),
        BlobKind::State => bundle.state().expect("it has captures").clone(),
        BlobKind::Items => unreachable!("no bundle has items"),
    }
}

/// Ships a bundle up to the moment when the part of this kind is asked for.
async fn until_asked(connection: &Connection, bundle: &Bundle, wanted: BlobKind) -> Peer {
    let mut peer = Peer::open(connection).await;
    peer.say(&ship(id(bundle))).await;
    loop {
        let asked = peer.missing().await;
        if asked.iter().any(|blob| blob.kind == wanted) {
            return peer;
        }
        for MissingBlob { kind, .. } in asked {
            peer.honest_blob(&part(bundle, kind)).await;
        }
    }
}

#[tokio::test]
async fn messages_out_of_order() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let id = id(&bundle);
    let blob = |id| {
        Message::Blob(Blob {
            id,
            encoding: Encoding::Raw,
            raw_bytes: 1,
            wire_bytes: 1,
        })
    };
    let openings = [
        ("a blob", vec![blob(id)]),
        ("an absence", vec![Message::Absent(Absent { id })]),
        ("a cancel", vec![Message::Cancel(Cancel { index: 0 })]),
        (
            "a host's message",
            vec![Message::Stored(Stored { bundle: id })],
        ),
        ("two requests", vec![call(id, 0), call(id, 0)]),
        (
            "a request within arguments",
            vec![call(id, 5), Message::Status],
        ),
        (
            "a blob that was not asked for",
            vec![call(id, 0), blob(BlobId([1; 32]))],
        ),
        (
            "an absence that was not asked for",
            vec![
                call(id, 0),
                Message::Absent(Absent {
                    id: BlobId([1; 32]),
                }),
            ],
        ),
        (
            "a call that there is not",
            vec![call(id, 0), Message::Cancel(Cancel { index: 1 })],
        ),
        (
            "a cancel of what is no call",
            vec![ship(id), Message::Cancel(Cancel { index: 0 })],
        ),
        (
            "a blob within a blob",
            vec![call(id, 0), blob(id), blob(id)],
        ),
        (
            "a question of the host's",
            vec![
                call(id, 0),
                Message::Missing(Missing {
                    blobs: vec![MissingBlob {
                        id,
                        kind: BlobKind::State,
                    }],
                }),
            ],
        ),
    ];
    for (what, messages) in openings {
        let mut peer = Peer::open(&connection).await;
        for message in &messages {
            peer.say(message).await;
        }
        let refused = peer.refusal(RefusalCode::OutOfOrder).await;
        assert!(!refused.message.is_empty(), "{what}");
    }
    // Payload that nothing announced.
    let mut peer = Peer::open(&connection).await;
    peer.pour(vec![1, 2, 3]).await;
    peer.refusal(RefusalCode::OutOfOrder).await;
    // A half that is finished before the outcome.
    let mut peer = Peer::open(&connection).await;
    peer.say(&call(id, 0)).await;
    peer.sender
        .finish()
        .await
        .expect("the host has not stopped it");
    peer.refusal(RefusalCode::OutOfOrder).await;
    // An answer that was given already.
    let mut peer = until_asked(&connection, &bundle, BlobKind::Code).await;
    peer.honest_blob(&part(&bundle, BlobKind::Manifest)).await;
    peer.refusal(RefusalCode::OutOfOrder).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_or_no_messages() {
    let (local, connection) = start().await;
    let identity = spore_tests::door::copy(&local.clients[0]);
    let connector =
        spore_transport::Connector::new(&identity, &Default::default()).expect("a port");
    let (endpoint, config) = connector.into_quinn();
    let raw = endpoint
        .connect_with(config, local.address, "spore")
        .expect("an address");
    let raw = raw.await.expect("the host listens");
    let call_of = |body: &[u8]| [&[0x01], &(body.len() as u32).to_le_bytes()[..], body].concat();
    for (what, bytes, number) in [
        (
            "an unknown tag",
            vec![0x7f, 0, 0, 0, 0],
            RefusalCode::Unsupported,
        ),
        (
            "a reserved tag",
            vec![0x10, 0, 0, 0, 0],
            RefusalCode::Unsupported,
        ),
        (
            "a frame that is too long",
            vec![0x03, 1, 0, 0, 0, 0],
            RefusalCode::Malformed,
        ),
        (
            "a huge frame",
            vec![0x01, 0xff, 0xff, 0xff, 0xff],
            RefusalCode::Malformed,
        ),
        (
            "empty payload",
            vec![0x05, 0, 0, 0, 0],
            RefusalCode::Malformed,
        ),
        ("half an id", call_of(&[7; 16]), RefusalCode::Malformed),
        (
            "an option that is neither",
            call_of(&[9; 60]),
            RefusalCode::Malformed,
        ),
        (
            "something after the fields",
            call_of(&[0; 60]),
            RefusalCode::Malformed,
        ),
        (
            "a stream cut within a frame",
            vec![0x01, 60, 0, 0, 0, 1],
            RefusalCode::Malformed,
        ),
        ("a stream without anything", vec![], RefusalCode::OutOfOrder),
    ] {
        let (mut send, mut receive) = raw.open_bi().await.expect("a stream");
        send.write_all(&bytes).await.expect("written");
        send.finish().expect("it is open");
        let answer = receive.read_to_end(4096).await.unwrap_or_else(|error| {
            panic!("{what}: {error}");
        });
        // Tag and length of the refusal, index 0, and the number of its code: one byte.
        assert_eq!(answer[0], 0x46, "{what}");
        assert_eq!(
            answer[5..7],
            [0, number.number() as u8],
            "{what}: {answer:?}"
        );
    }
    // A tag that may be skipped is, even one with a long body.
    let (mut send, mut receive) = raw.open_bi().await.expect("a stream");
    let skipped = [&[0x80, 100, 0, 0, 0][..], &[7; 100], &[0x03, 0, 0, 0, 0]].concat();
    send.write_all(&skipped).await.expect("written");
    let mut tag = [0];
    receive.read_exact(&mut tag).await.expect("an answer");
    assert_eq!(tag, [0x49], "a status report");
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_cancel_before_the_guest_runs() {
    let (local, connection) = start().await;
    let bundle = bundle();
    let cancel = Message::Cancel(Cancel { index: 0 });
    let mut peer = Peer::open(&connection).await;
    peer.say(&call(id(&bundle), 100)).await;
    peer.pour(vec![0; 10]).await;
    peer.say(&cancel).await;
    peer.refusal(RefusalCode::Cancelled).await;

    let mut peer = Peer::open(&connection).await;
    peer.say(&call(id(&bundle), 0)).await;
    peer.missing().await;
    peer.say(&cancel).await;
    peer.refusal(RefusalCode::Cancelled).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_cancel_while_the_guest_runs() {
    let local = Local::start(Setup::default(), &["", ""]);
    let connection = local.connection(0).await;
    let host = local.connect(0).await;
    host.ship(hostile()).await.expect("shipped");
    let hour = spore_value::codec::encode(&(3_600_000u64,)).expect("flat");
    // One that never gives up the processor by itself, and one that has done so.
    for (name, arguments, said) in [
        ("announce_and_spin", vec![], "spinning\n"),
        ("sleep", hour, "sleeping\n"),
    ] {
        let (callable, _) = hostile().inner().callable(name).expect("it is there");
        let mut peer = Peer::open(&connection).await;
        let call = Call {
            bundle: id(hostile()),
            callable,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: arguments.len() as u64,
        };
        peer.say(&Message::Call(call)).await;
        if !arguments.is_empty() {
            peer.pour(arguments).await;
        }
        match peer.message().await {
            Message::Output(output) => assert_eq!(output.bytes, said),
            other => panic!("{name}: {other:?}"),
        }
        running(&host, 1).await;
        peer.say(&Message::Cancel(Cancel { index: 0 })).await;
        peer.refusal(RefusalCode::Cancelled).await;
        idle(&host).await;
    }
    let finished = host.status().await.expect("it serves").finished;
    assert_eq!((finished.cancelled, finished.ok), (2, 0));
    serves(&local, &connection).await;
}

#[tokio::test]
async fn an_index_that_no_callable_has() {
    let (local, connection) = start().await;
    let host = local.connect(0).await;
    let bundle = bundle();
    host.ship(&bundle).await.expect("shipped");
    for callable in [
        plain_bundle().inner().manifest().callables.len() as u32,
        u32::MAX,
    ] {
        let mut peer = Peer::open(&connection).await;
        let limits = CallLimits::default();
        let call = Call {
            bundle: id(&bundle),
            callable,
            limits,
            seed: 0,
            args_bytes: 0,
        };
        peer.say(&Message::Call(call)).await;
        let refused = peer.refusal(RefusalCode::UnknownCallable).await;
        assert!(refused.message.contains(&callable.to_string()), "{refused}");
    }
    serves(&local, &connection).await;
}

#[tokio::test]
async fn arguments_that_are_no_values_of_their_types_or_claim_more_than_they_may() {
    let local = Local::start(Setup::default(), &["", ""]);
    let connection = local.connection(0).await;
    local
        .connect(0)
        .await
        .ship(plain_bundle())
        .await
        .expect("shipped");
    // A tree of left branches: each level is a byte, and the rest would follow after the last.
    let deep = |levels| [vec![1; levels], vec![0], [0, 0].repeat(levels)].concat();
    let claim = |length: u64| [&[0xfd][..], &length.to_le_bytes()].concat();
    for (name, arguments, named) in [
        ("double", vec![0xfd], "missing"),
        ("double", vec![1, 1], "left"),
        ("double", vec![0xff; 17], ""),
        ("depth", vec![7], ""),
        ("depth", deep(128), "128"),
        ("depth", deep(1 << 20), "128"),
        ("count", claim(1 << 33), "elements"),
        ("count", claim(u64::MAX), ""),
        ("weigh", claim(1 << 40), ""),
    ] {
        let (callable, _) = plain_bundle().inner().callable(name).expect("it is there");
        let mut peer = Peer::open(&connection).await;
        let call = Call {
            bundle: id(plain_bundle()),
            callable,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: arguments.len() as u64,
        };
        peer.say(&Message::Call(call)).await;
        peer.pour(arguments).await;
        if name == "weigh" {
            peer.refusal(RefusalCode::WrongCaptures).await;
            continue;
        }
        let refused = peer.refusal(RefusalCode::WrongArguments).await;
        assert!(
            refused.message.contains(named),
            "{name}: {named:?} is not in {refused}"
        );
    }
    // As deep as may be is no offence: the arguments and the last leaf are a level each.
    let (callable, _) = plain_bundle()
        .inner()
        .callable("depth")
        .expect("it is there");
    let mut peer = Peer::open(&connection).await;
    let arguments = deep(126);
    let args_bytes = arguments.len() as u64;
    let limits = CallLimits::default();
    let call = Call {
        bundle: id(plain_bundle()),
        callable,
        limits,
        seed: 0,
        args_bytes,
    };
    peer.say(&Message::Call(call)).await;
    peer.pour(arguments).await;
    let done = peer.message().await;
    assert!(matches!(done, Message::Done(_)), "{done:?}");
    assert!(matches!(peer.hear().await, Ok(Received::Data(depth)) if depth[..] == [126]));
    serves(&local, &connection).await;
}

#[tokio::test]
async fn values_that_take_too_much_work_to_decode() {
    let local = Local::start(Setup::default(), &["", ""]);
    let connection = local.connection(0).await;
    let host = local.connect(0).await;
    let limits = spore_value::Limits::default();
    // Few enough elements, of 33 values each, in a handful of bytes: of a list of what has no bytes
    // only the length is there.
    let rows = limits.work / 33 + 1;
    assert!(rows < limits.elements);
    let claim = |rows: u64| spore_value::codec::encode(&rows);
    let some = spore_value::codec::encode(&vec![[(); 32]; 5]);
    assert_eq!(claim(5).expect("flat"), some.expect("flat"));
    let (much, few) = (claim(rows).expect("flat"), claim(5).expect("flat"));
    assert!(much.len() < 10);
    let inner = plain_bundle().inner();
    let (callable, _) = inner.callable("rows").expect("it is there");
    for (captures, arguments, code) in [
        (&few, &much, RefusalCode::WrongArguments),
        (&much, &few, RefusalCode::WrongCaptures),
    ] {
        let bundle = inner.with_captures(callable, captures.clone());
        let bundle: Bundle = bundle.expect("it fits into a manifest").into();
        host.ship(&bundle).await.expect("nobody has decoded it yet");
        let mut peer = Peer::open(&connection).await;
        peer.say(&Message::Call(Call {
            bundle: id(&bundle),
            callable,
            limits: CallLimits::default(),
            seed: 0,
            args_bytes: arguments.len() as u64,
        }))
        .await;
        peer.pour(arguments.clone()).await;
        let refused = peer.refusal(code).await;
        let limit = format!("{} units of work", limits.work);
        assert!(refused.message.contains(&limit), "{refused}");
        serves(&local, &connection).await;
    }
    // What is within the limit is decoded.
    let bundle = inner.with_captures(callable, few.clone());
    let bundle: Bundle = bundle.expect("it fits into a manifest").into();
    let rows = bundle.callable(plain::rows::HANDLE).expect("it is there");
    let rows = rows.bound().expect("it has captures");
    let counted = host.call(&rows, (vec![[(); 32]; 7],)).await;
    assert_eq!(counted.expect("a little work"), 12);
}

#[tokio::test]
async fn what_comes_after_the_outcome_means_nothing() {
    let (local, connection) = start().await;
    let mut peer = Peer::open(&connection).await;
    peer.say(&Message::Status).await;
    assert!(matches!(peer.message().await, Message::StatusReport(_)));
    peer.say(&Message::Status).await;
    peer.pour(vec![0; 100_000]).await;
    match peer.hear().await {
        Ok(Received::End) | Err(StreamError::Reset(_)) => {}
        other => panic!("{other:?}"),
    }
    serves(&local, &connection).await;
}
