//! Who uploads what, and what comes of clients that go away meanwhile or read too slowly.

use std::time::Duration;

use spore_client::{Bundle, RefusalCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of};
use spore_tests::outcome::{refused, running, soon, until};
use spore_tests::peer::{Peer, id_of, ship};
use spore_tests::{Local, hostile, plain as plain_bundle};
use spore_transport::message::{
    Blob, BlobKind, Call, CallLimits, Encoding, Message, MissingBlob, Received,
};
use spore_transport::quic::Options;
use spore_transport::{BlobId, CloseCode, Connection, StreamCode, StreamError};

const MIB: u64 = 1 << 20;

fn id(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

/// A bundle whose state has so many bytes, a few more or less.
fn with_state(bytes: usize) -> Bundle {
    let weigh = plain_bundle()
        .callable(plain::weigh::HANDLE)
        .expect("it is there");
    weigh.capture(&vec![7; bytes]).expect("bytes").bundle()
}

/// Opens a stream and asks for a bundle to be stored.
async fn shipping(connection: &Connection, bundle: &Bundle) -> Peer {
    let mut peer = Peer::open(connection).await;
    peer.say(&ship(id(bundle))).await;
    peer
}

/// Uploads all that is asked for, and expects word that it is stored. Gives the number of blobs
/// that were asked for.
async fn upload_rest(peer: &mut Peer, bundle: &Bundle, mut asked: Vec<MissingBlob>) -> usize {
    let parts = bundle.inner();
    let mut uploaded = 0;
    loop {
        uploaded += asked.len();
        for MissingBlob { kind, .. } in asked {
            match kind {
                BlobKind::Manifest => peer.honest_blob(parts.manifest_bytes()).await,
                BlobKind::Code => peer.honest_blob(parts.code()).await,
                BlobKind::State => peer.honest_blob(parts.state().expect("captures")).await,
                BlobKind::Items => unreachable!("no bundle has items"),
            }
        }
        match peer.message().await {
            Message::Missing(missing) => asked = missing.blobs,
            Message::Stored(stored) => {
                assert_eq!(stored.bundle, id(bundle));
                return uploaded;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Like [`upload_rest`] for requests of one key of which the first has been asked: whichever of
/// them comes first to what the manifest names is asked for it, and none for what another uploads.
async fn upload_once(first: Peer, asked: Vec<MissingBlob>, others: Vec<Peer>, bundle: &Bundle) {
    let asked = std::iter::once(asked).chain(std::iter::repeat_with(Vec::new));
    let peers = std::iter::once(first).chain(others).zip(asked);
    let uploads = peers.map(async |(mut peer, asked)| upload_rest(&mut peer, bundle, asked).await);
    let uploaded: usize = futures_util::future::join_all(uploads)
        .await
        .into_iter()
        .sum();
    assert_eq!(
        uploaded, 3,
        "the manifest, the code and the state, each once"
    );
}

/// Waits until no call runs, looking from within so that nobody is woken by a question.
async fn idle(local: &Local) {
    until("no call runs", || {
        std::future::ready(local.host.calls_under_way() == 0)
    })
    .await;
}

#[tokio::test]
async fn several_requests_that_miss_a_blob_wait_for_one_upload() {
    let local = Local::start(Setup::default(), &["", ""]);
    let bundle = with_state(100_000);
    let connections = [local.connection(0).await, local.connection(0).await];
    let mut first = shipping(&connections[0], &bundle).await;
    let asked = first.missing().await;
    // The others, on the same connection and on another, are not asked for the same again.
    let mut others = Vec::new();
    for connection in [&connections[0], &connections[1], &connections[1]] {
        others.push(shipping(connection, &bundle).await);
    }
    // A request of another key is asked, since nothing of the first key's is its own.
    let mut stranger = shipping(&local.connection(1).await, &bundle).await;
    let strangers = stranger.missing().await;
    assert_eq!(strangers, asked);

    upload_once(first, asked, others, &bundle).await;
    upload_rest(&mut stranger, &bundle, strangers).await;
    let status = local.connect(0).await.status().await.expect("it serves");
    assert_eq!(
        (status.cached_code.count, status.stored_blobs.count),
        (1, 3)
    );
}

#[tokio::test]
async fn whoever_waits_takes_over_an_upload_that_was_given_up() {
    let local = Local::start(Setup::default(), &[""]);
    let bundle = with_state(100_000);
    let vanishing = local.connection(0).await;
    let staying = local.connection(0).await;
    let mut first = shipping(&vanishing, &bundle).await;
    let asked = first.missing().await;
    let mut second = shipping(&staying, &bundle).await;
    let manifest = bundle.inner().manifest_bytes();
    let bytes = manifest.len() as u64;
    first
        .say(&Message::Blob(Blob {
            id: asked[0].id,
            encoding: Encoding::Raw,
            raw_bytes: bytes,
            wire_bytes: bytes,
        }))
        .await;
    first.pour(manifest.slice(..10)).await;
    vanishing.close(CloseCode::Finished, "");
    let asked = second.missing().await;
    upload_rest(&mut second, &bundle, asked).await;
}

#[tokio::test]
async fn clients_that_vanish_in_an_upload_give_their_room_back() {
    // Room for one such upload at a time.
    let limits = Limits {
        uploads: 3 * MIB,
        state: 2 * MIB,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &[""],
    );
    let bundle = with_state(2 * MIB as usize - 10);
    let state = bundle.inner().state().expect("captures").clone();
    let raw_bytes = state.len() as u64;
    for round in 0..4 {
        let connection = local.connection(0).await;
        let mut peer = shipping(&connection, &bundle).await;
        let mut asked = peer.missing().await;
        while !asked.iter().any(|blob| blob.kind == BlobKind::State) {
            peer.honest_blob(bundle.inner().manifest_bytes()).await;
            asked = peer.missing().await;
        }
        let blob = Blob {
            id: id_of(&state),
            encoding: Encoding::Raw,
            raw_bytes,
            wire_bytes: raw_bytes,
        };
        peer.say(&Message::Blob(blob)).await;
        peer.pour(state.slice(..100_000)).await;
        match round % 2 {
            0 => connection.close(CloseCode::Finished, ""),
            _ => {
                peer.sender.reset(StreamCode::Cancelled);
                peer.receiver.stop(StreamCode::Cancelled);
            }
        }
    }
    let host = local.connect(0).await;
    soon("room for an upload", host.ship(&bundle))
        .await
        .expect("nobody else uploads");
    assert_serves(&host).await;
}

#[tokio::test]
async fn an_upload_larger_than_the_room_for_uploads_ends() {
    let limits = Limits {
        uploads: MIB,
        state: 8 * MIB,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &[""],
    );
    let host = local.connect(0).await;
    soon("an upload alone", host.ship(&with_state(4 * MIB as usize)))
        .await
        .expect("alone");
    assert_serves(&host).await;
}

#[tokio::test]
async fn a_store_without_room_refuses_to_keep_and_still_calls() {
    let limits = Limits {
        store: MIB,
        state: 8 * MIB,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &[""],
    );
    let host = local.connect(0).await;
    let bundle = with_state(2 * MIB as usize);
    let refused = refused(host.ship(&bundle).await, RefusalCode::StoreFull);
    assert_eq!(refused.limit, Some(MIB));
    let weigh = bundle.callable(plain::weigh::HANDLE).expect("it is there");
    let weigh = weigh.bound().expect("it has captures");
    assert_eq!(
        host.call(&weigh, ()).await.expect("weighed"),
        (2 * MIB, 14 * MIB)
    );
    assert_serves(&host).await;
    let stored = host.status().await.expect("it serves").stored_blobs;
    assert!(stored.bytes <= MIB, "{stored:?}");
}

#[tokio::test]
async fn a_bundle_whose_parts_push_each_other_out_is_not_stored() {
    let bundle = with_state(600_000);
    let parts = bundle.inner();
    let state = parts.state().expect("captures");
    let all = parts.manifest_bytes().len() + parts.code().len() + state.len();
    // Each fits, and not all of them.
    let limits = Limits {
        store: all as u64 - 1,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let local = Local::start(setup, &[""]);
    let watching = local.connect(0).await;
    let mut peer = shipping(&local.connection(0).await, &bundle).await;
    peer.missing().await;
    peer.honest_blob(parts.manifest_bytes()).await;
    peer.missing().await;
    peer.honest_blob(parts.code()).await;
    until("two blobs are stored", || async {
        let status = watching.status().await.expect("it serves");
        status.stored_blobs.count == 2
    })
    .await;
    peer.honest_blob(state).await;
    let refused = peer.refusal(RefusalCode::StoreFull).await;
    assert_eq!(refused.limit, Some(all as u64 - 1));
    assert_eq!(refused.actual, Some(all as u64));
    assert_serves(&watching).await;
}

#[tokio::test]
async fn another_capture_finds_its_code_in_memory() {
    let local = Local::start(Setup::default(), &["", ""]);
    let (own, other) = (local.connect(0).await, local.connect(1).await);
    let weigh = |bundle: &Bundle| {
        let weigh = bundle.callable(plain::weigh::HANDLE).expect("it is there");
        weigh.bound().expect("it has captures")
    };
    let weighed = own.call(&weigh(&with_state(10)), ()).await;
    assert_eq!(weighed.expect("weighed"), (10, 70));
    until("all is stored", || async {
        own.status().await.expect("it serves").stored_blobs.count == 3
    })
    .await;
    // Who would read it would not find it.
    let code = id_of(plain_bundle().inner().code()).to_string();
    let blobs = local.home().store_path().join("blobs");
    let path = blobs.join(&code[..2]).join(&code);
    std::fs::remove_file(&path).expect("it is there");
    let weighed = own.call(&weigh(&with_state(20)), ()).await;
    assert_eq!(weighed.expect("weighed"), (20, 140));
    assert!(!path.exists(), "it was sent again");
    // That it is in memory is no right to it: another key sends it.
    let weighed = other.call(&weigh(&with_state(30)), ()).await;
    assert_eq!(weighed.expect("weighed"), (30, 210));
    until("it is stored", || std::future::ready(path.exists())).await;
}

#[tokio::test]
async fn a_disk_that_fails_is_no_unknown_bundle() {
    // Nothing is kept in memory, so that each request reads.
    let limits = Limits {
        blob_cache: 0,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let local = Local::start(setup, &[""]);
    let host = local.connect(0).await;
    let bundle = plain_bundle();
    let id = host.ship(bundle).await.expect("shipped");
    let name = id_of(bundle.inner().manifest_bytes()).to_string();
    let blobs = local.home().store_path().join("blobs");
    let path = blobs.join(&name[..2]).join(&name);
    // A folder cannot be read as a file, even by a user who may read everything.
    std::fs::remove_file(&path).expect("it is there");
    std::fs::create_dir(&path).expect("made");
    let double = of(bundle, plain::double::HANDLE);
    for refused in [
        refused(host.shipped(id).await.map(|_| ()), RefusalCode::Internal),
        refused(host.call(&double, (1,)).await, RefusalCode::Internal),
    ] {
        assert!(refused.message.contains(&name), "{refused}");
        assert!(refused.message.contains("could not be read"), "{refused}");
    }
    // Once it is readable again all is well, and one that is gone is sent again.
    std::fs::remove_dir(&path).expect("it is there");
    std::fs::write(&path, bundle.inner().manifest_bytes()).expect("written");
    host.shipped(id).await.expect("it is there");
    assert_serves(&host).await;
    std::fs::remove_file(&path).expect("it is there");
    refused(
        host.shipped(id).await.map(|_| ()),
        RefusalCode::UnknownBundle,
    );
    assert_serves(&host).await;
}

/// Calls the hostile guest's callable of this name, with its arguments, and reads nothing.
async fn calling(connection: &Connection, name: &str, arguments: Vec<u8>) -> Peer {
    let (callable, _) = hostile().inner().callable(name).expect("it is there");
    let mut peer = Peer::open(connection).await;
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
    peer
}

/// The same of a callable that says when it runs, and hears that.
async fn heard(connection: &Connection, name: &str, arguments: Vec<u8>) -> Peer {
    let mut peer = calling(connection, name, arguments).await;
    let said = peer.message().await;
    assert!(matches!(said, Message::Output(_)), "{name}: {said:?}");
    peer
}

#[tokio::test]
async fn a_client_that_vanishes_in_a_call_stops_its_guest() {
    let local = Local::start(Setup::default(), &["", ""]);
    let watching = local.connect(0).await;
    watching.ship(hostile()).await.expect("shipped");
    let sleep = vec![0xfc, 0, 0, 0, 0x10];
    for (name, arguments) in [("announce_and_spin", vec![]), ("sleep", sleep)] {
        // It closes the connection,
        let connection = local.connection(0).await;
        let _peer = heard(&connection, name, arguments.clone()).await;
        connection.close(CloseCode::Finished, "");
        idle(&local).await;
        // it resets the stream,
        let connection = local.connection(0).await;
        let mut peer = heard(&connection, name, arguments.clone()).await;
        peer.sender.reset(StreamCode::Cancelled);
        idle(&local).await;
        // or it reads no more.
        let mut peer = heard(&connection, name, arguments).await;
        peer.sender.reset(StreamCode::Cancelled);
        peer.receiver.stop(StreamCode::Cancelled);
        idle(&local).await;
    }
    let finished = watching.status().await.expect("it serves").finished;
    assert_eq!(
        (finished.cancelled, finished.ok, finished.failed),
        (6, 0, 0)
    );
    assert_serves(&watching).await;
}

#[tokio::test]
async fn a_client_that_vanishes_without_a_word_stops_its_guest() {
    let local = Local::start(Setup::default(), &[""]);
    let watching = local.connect(0).await;
    watching.ship(hostile()).await.expect("shipped");
    let options = Options {
        idle_timeout: Duration::from_secs(2),
        ..Options::default()
    };
    // A runtime that goes takes its sockets along and says nothing to anyone.
    let (address, identity) = (local.address, spore_tests::door::copy(&local.clients[0]));
    let vanishing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ends = runtime.block_on(async {
            let connector = spore_transport::Connector::new(&identity, &options).expect("a port");
            let connection = connector.connect(address).await.expect("the host listens");
            let peer = heard(&connection, "announce_and_spin", vec![]).await;
            (connector, connection, peer)
        });
        runtime.shutdown_background();
        ends
    });
    let ends = vanishing.join().expect("no panic");
    assert_eq!(local.host.calls_under_way(), 1, "nobody told the host");
    idle(&local).await;
    drop(ends);
    assert_serves(&watching).await;
}

#[tokio::test]
async fn a_slow_reader_holds_no_worker_and_hears_all_in_the_end() {
    let setup = Setup {
        workers: Some(1),
        ..Setup::default()
    };
    let local = Local::start(setup, &["", ""]);
    let host = local.connect(0).await;
    host.ship(hostile()).await.expect("shipped");
    let small = Options {
        stream_window_bytes: 2_000,
        ..Options::default()
    };
    let connection = local.connection_with(0, &small).await;
    // Half a MiB of output, of which two thousand bytes are taken.
    let printed: u32 = 512 << 10;
    let arguments = [&[0xfc][..], &printed.to_le_bytes()].concat();
    let mut peer = calling(&connection, "print", arguments).await;
    until("the guest ended", || {
        std::future::ready(local.host.calls_under_way() == 0)
    })
    .await;
    until("the guest ran", || async {
        host.status().await.expect("it serves").finished.ok == 1
    })
    .await;
    assert_serves(&local.connect(1).await).await;
    let mut heard = 0;
    loop {
        match peer.hear().await.expect("the host goes on") {
            Received::Message(Message::Output(output)) => heard += output.bytes.len(),
            Received::Message(Message::Done(done)) => {
                assert!(!done.output_cut);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, printed as usize);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up_and_its_guest_stopped() {
    let limits = Limits {
        reader_stall: Duration::from_millis(200),
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &["", ""],
    );
    let watching = local.connect(1).await;
    local
        .connect(0)
        .await
        .ship(hostile())
        .await
        .expect("shipped");
    let small = Options {
        stream_window_bytes: 2_000,
        ..Options::default()
    };
    let connection = local.connection_with(0, &small).await;
    for name in ["chatter", "return_bytes"] {
        let arguments = match name {
            "chatter" => vec![],
            _ => [&[0xfc][..], &(1u32 << 20).to_le_bytes()].concat(),
        };
        let mut peer = calling(&connection, name, arguments).await;
        // The host says so by a reset, which needs no reader. Until then nothing is read here.
        let reset = soon("the host gives up", peer.sender.stopped()).await;
        assert_eq!(
            reset.expect("the connection lives"),
            Some(StreamCode::Refused),
            "{name}"
        );
        idle(&local).await;
        loop {
            match peer.hear().await {
                Ok(_) => {}
                Err(StreamError::Reset(code)) => break assert_eq!(code, StreamCode::Refused),
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_serves(&watching).await;
}

#[tokio::test]
async fn connections_are_bounded_for_each_key_and_in_all() {
    let limits = Limits {
        connections: 3,
        connections_per_key: 2,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &["", ""],
    );
    let first = [local.connection(0).await, local.connection(0).await];
    let third = local.connection(0).await;
    let closed = soon("the third is closed", third.closed()).await;
    assert!(
        matches!(
            closed,
            spore_transport::ConnectionError::Closed {
                code: CloseCode::TooManyConnections,
                ..
            }
        ),
        "{closed}"
    );
    let other = local.connect(1).await;
    assert_serves(&other).await;
    // Four are one too many, whoever asks; once one has gone there is room again.
    let fourth = local.connect(1).await;
    let refused = refused(
        fourth.ship(plain_bundle()).await,
        RefusalCode::TooManyRequests,
    );
    assert!(
        refused.message.contains("too many connections"),
        "{refused}"
    );
    first[0].close(CloseCode::Finished, "");
    until("room once one has gone", || async {
        let host = local.connect(0).await;
        host.status().await.is_ok()
    })
    .await;
    assert_serves(&other).await;
}

#[tokio::test]
async fn requests_of_a_key_are_bounded() {
    let limits = Limits {
        requests_per_key: 3,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &["", ""],
    );
    let connection = local.connection(0).await;
    let bundle = with_state(1_000);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(shipping(&connection, &bundle).await);
    }
    // The first is asked for the blobs, so all three are known to the host.
    let asked = open[0].missing().await;
    let mut fourth = shipping(&connection, &bundle).await;
    let refused = fourth.refusal(RefusalCode::TooManyRequests).await;
    assert_eq!(refused.limit, Some(3));
    // Another key has its own; and so has this one, once it is done.
    assert_serves(&local.connect(1).await).await;
    let others = open.split_off(1);
    let first = open.pop().expect("three are open");
    upload_once(first, asked, others, &bundle).await;
    until("room for requests", || async {
        local.connect(0).await.status().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn arguments_of_a_key_wait_for_each_other_and_arrive() {
    let limits = Limits {
        arguments_per_key: 10_000,
        ..Limits::default()
    };
    let local = Local::start(
        Setup {
            limits,
            ..Setup::default()
        },
        &[""],
    );
    let host = local.connect(0).await;
    let append = plain_bundle()
        .callable(plain::append::HANDLE)
        .expect("it is there");
    let append = append.capture(&vec![]).expect("bytes");
    // Each is more than half of what the key may have, and the last more than all of it.
    let sizes = [6_000, 7_000, 8_000, 9_000, 50_000];
    let calls = sizes.map(|size| tokio::spawn(host.call(&append, (vec![1; size],)).into_future()));
    for (size, call) in sizes.into_iter().zip(calls) {
        let appended = soon("its arguments", call).await.expect("no panic");
        assert_eq!(appended.expect("appended").len(), size);
    }
}

#[tokio::test]
async fn a_running_call_is_seen_by_its_own_key_only() {
    let local = Local::start(Setup::default(), &["", ""]);
    let (own, other) = (local.connect(0).await, local.connect(1).await);
    let spin = of(hostile(), hostile::spin::HANDLE);
    let call = tokio::spawn(own.call(&spin, ()).into_future());
    running(&own, 1).await;
    let seen = other.status().await.expect("it serves");
    assert_eq!((seen.running.len(), seen.running_count), (0, 1));
    call.abort();
    idle(&local).await;
}
