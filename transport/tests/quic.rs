//! Two ends over the loopback interface, in one process and on one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use spore_transport::message::*;
use spore_transport::quic::Options;
use spore_transport::*;

use crate::common::{LOCAL, raw_client, raw_host, rustls_key};

mod common;

struct Ends {
    host: Connection,
    client: Connection,
    listener: Listener,
    identities: (Identity, Identity),
}

fn short_idle() -> Options {
    Options {
        idle_timeout: Duration::from_secs(2),
        keep_alive: Duration::from_millis(500),
        ..Options::default()
    }
}

async fn ends(options: &Options) -> Ends {
    let identities = (Identity::generate(), Identity::generate());
    let listener = Listener::bind(LOCAL, &identities.0, options).expect("a free port");
    let connector = Connector::new(&identities.1, options).expect("a free port");
    let address = listener.local_address().expect("bound");
    let host = async { listener.accept().await.expect("open").accept().await };
    let (host, client) = tokio::join!(host, connector.connect(address));
    let (host, client) = (host.expect("a client"), client.expect("a host"));
    Ends {
        host,
        client,
        listener,
        identities,
    }
}

fn call(args_bytes: u64) -> Message {
    let limits = CallLimits::default();
    let bundle = BlobId([7; 32]);
    Message::Call(Call {
        bundle,
        callable: 1,
        limits,
        seed: 2,
        args_bytes,
    })
}

fn done(payload_bytes: u64) -> Message {
    Message::Done(Done {
        index: 0,
        outcome: Outcome::Value,
        timing: Timing::default(),
        output_cut: false,
        payload_bytes,
    })
}

/// Reads `length` bytes of payload.
async fn payload(receiver: &mut Receiver, length: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(length);
    while payload.len() < length {
        match receiver.recv().await.expect("a payload") {
            Received::Data(piece) => payload.extend_from_slice(&piece),
            other => panic!("{other:?} in a payload"),
        }
    }
    assert_eq!(payload.len(), length);
    payload
}

#[tokio::test]
async fn each_end_knows_the_key_of_the_other() {
    let ends = ends(&Options::default()).await;
    assert_eq!(ends.client.peer(), ends.identities.0.public());
    assert_eq!(ends.host.peer(), ends.identities.1.public());
    assert_eq!(
        ends.client.remote_address(),
        ends.listener.local_address().expect("bound")
    );
    assert!(ends.host.remote_address().ip().is_loopback());
}

#[tokio::test]
async fn a_call_and_its_result_cross() {
    let ends = ends(&Options::default()).await;
    let host = async {
        let (mut sender, mut receiver) = ends.host.accept().await.expect("a stream").split();
        assert_eq!(
            receiver.recv().await.expect("a call"),
            Received::Message(call(5))
        );
        assert_eq!(payload(&mut receiver, 5).await, b"hello");
        sender.queue(&done(6));
        sender.queue_payload(Bytes::from_static(b"result"));
        sender.finish().await.expect("a reader");
        assert_eq!(receiver.recv().await.expect("the end"), Received::End);
    };
    let client = async {
        let (mut sender, mut receiver) = ends.client.open().await.expect("a stream").split();
        sender.queue(&call(5));
        sender.queue_payload(Bytes::from_static(b"hello"));
        sender.flush().await.expect("a reader");
        assert_eq!(
            receiver.recv().await.expect("done"),
            Received::Message(done(6))
        );
        assert_eq!(payload(&mut receiver, 6).await, b"result");
        assert_eq!(receiver.recv().await.expect("the end"), Received::End);
        sender.finish().await.expect("a reader");
    };
    tokio::join!(host, client);
}

#[tokio::test]
async fn a_large_payload_goes_there_and_back() {
    const LENGTH: usize = 64 << 20;
    let ends = ends(&Options::default()).await;
    let sent: Vec<u8> = (0..LENGTH).map(|index| ((index * 31) >> 7) as u8).collect();
    let sent = Bytes::from(sent);
    let host = async {
        let (mut sender, mut receiver) = ends.host.accept().await.expect("a stream").split();
        receiver.recv().await.expect("a call");
        let args = payload(&mut receiver, LENGTH).await;
        sender.queue(&done(LENGTH as u64));
        sender.queue_payload(args.into());
        sender.finish().await.expect("a reader");
        let _ = receiver.recv().await;
    };
    let client = async {
        let (mut sender, mut receiver) = ends.client.open().await.expect("a stream").split();
        sender.queue(&call(LENGTH as u64));
        sender.queue_payload(sent.clone());
        sender.flush().await.expect("a reader");
        receiver.recv().await.expect("done");
        let result = payload(&mut receiver, LENGTH).await;
        assert!(result == sent, "the bytes changed on the way");
        sender.finish().await.expect("a reader");
    };
    tokio::join!(host, client);
}

#[tokio::test]
async fn many_streams_run_at_a_time() {
    let ends = ends(&Options::default()).await;
    let (host, client) = (ends.host.clone(), ends.client.clone());
    tokio::spawn(async move {
        while let Ok(stream) = host.accept().await {
            tokio::spawn(async move {
                let (mut sender, mut receiver) = stream.split();
                receiver.recv().await.expect("a call");
                sender.queue(&done(0));
                sender.finish().await.expect("a reader");
                receiver.stop(StreamCode::Finished);
            });
        }
    });
    // More than may be open at a time, so that streams are given back.
    for _ in 0..20 {
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    let (mut sender, mut receiver) = client.open().await.expect("open").split();
                    sender.send(&call(0)).await.expect("a reader");
                    assert_eq!(
                        receiver.recv().await.expect("done"),
                        Received::Message(done(0))
                    );
                    // The host may have stopped reading before.
                    let _ = sender.finish().await;
                })
            })
            .collect();
        for call in calls {
            call.await.expect("a call");
        }
    }
}

#[tokio::test]
async fn a_close_arrives_with_code_and_reason() {
    let ends = ends(&Options::default()).await;
    let mut stream = ends.client.open().await.expect("a stream");
    stream.sender.send(&Message::Status).await.expect("sent");
    ends.host.close(CloseCode::NotAuthorised, "ask for access");
    let expected = ConnectionError::Closed {
        code: CloseCode::NotAuthorised,
        reason: "ask for access".into(),
    };
    assert_eq!(ends.client.closed().await, expected);
    assert_eq!(ends.client.close_reason(), Some(expected.clone()));
    assert_eq!(ends.host.closed().await, ConnectionError::ClosedHere);
    match stream.receiver.recv().await {
        Err(StreamError::Connection(error)) => assert_eq!(error, expected),
        other => panic!("{other:?}"),
    }
    match ends.client.open().await {
        Err(error) => assert_eq!(error, expected),
        Ok(_) => panic!("a stream on a closed connection"),
    }
}

#[tokio::test]
async fn a_reset_and_a_stop_are_seen() {
    let ends = ends(&Options::default()).await;
    let mut ours = ends.client.open().await.expect("a stream");
    ours.sender.send(&Message::Status).await.expect("sent");
    let mut theirs = ends.host.accept().await.expect("a stream");
    theirs.receiver.recv().await.expect("the request");
    ours.sender.reset(StreamCode::OutOfOrder);
    let error = theirs.receiver.recv().await.expect_err("reset");
    assert!(
        matches!(error, StreamError::Reset(StreamCode::OutOfOrder)),
        "{error}"
    );

    ours.receiver.stop(StreamCode::Cancelled);
    assert_eq!(
        theirs.sender.stopped().await,
        Ok(Some(StreamCode::Cancelled))
    );
    let error = theirs.sender.send(&done(0)).await.expect_err("stopped");
    assert!(
        matches!(error, StreamError::Stopped(StreamCode::Cancelled)),
        "{error}"
    );
}

#[tokio::test]
async fn a_dropped_stream_is_reset_and_not_finished() {
    let ends = ends(&Options::default()).await;
    let mut ours = ends.client.open().await.expect("a stream");
    ours.sender.send(&call(0)).await.expect("sent");
    let mut theirs = ends.host.accept().await.expect("a stream");
    theirs.receiver.recv().await.expect("the call");
    drop(ours);
    let error = theirs.receiver.recv().await.expect_err("reset");
    assert!(
        matches!(error, StreamError::Reset(StreamCode::Cancelled)),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_an_error() {
    let ends = ends(&Options::default()).await;
    let raw = quinn_stream(&ends).await;
    let (mut send, mut theirs) = raw;
    send.write_all(&[tag::CALL, 9, 0, 0, 0, 1])
        .await
        .expect("sent");
    send.finish().expect("open");
    let error = theirs.receiver.recv().await.expect_err("truncated");
    assert!(matches!(
        error,
        StreamError::Frame(frame::FrameError::Truncated { missing: 8 })
    ));
    assert_eq!(error.refusal_code(), Some(RefusalCode::Malformed));
}

fn client_key(identity: &Identity) -> Arc<AlwaysResolvesClientRawPublicKeys> {
    Arc::new(AlwaysResolvesClientRawPublicKeys::new(rustls_key(identity)))
}

/// A second connection whose client writes what it likes.
async fn quinn_stream(ends: &Ends) -> (quinn::SendStream, Stream) {
    let tls = raw_client(ALPN, client_key(&ends.identities.1));
    let address = ends.listener.local_address().expect("bound");
    let client = async {
        let endpoint = quinn::Endpoint::client(LOCAL).expect("a free port");
        let connection = endpoint
            .connect_with(tls, address, "x")
            .expect("an address")
            .await;
        let connection = connection.expect("a host");
        let (mut send, recv) = connection.open_bi().await.expect("a stream");
        send.write_all(&[]).await.expect("open");
        // Held open for the length of the test.
        std::mem::forget((recv, endpoint, connection));
        send
    };
    let host = async {
        let incoming = ends.listener.accept().await.expect("open");
        incoming.accept().await.expect("a client")
    };
    let (mut send, host) = tokio::join!(client, host);
    // The host learns of a stream with its first byte: an unknown frame that is skipped.
    send.write_all(&[0xFF, 0, 0, 0, 0]).await.expect("sent");
    let stream = host.accept().await.expect("a stream");
    std::mem::forget(host);
    (send, stream)
}

#[tokio::test]
async fn another_version_is_told_so_on_both_sides() {
    let identity = Identity::generate();
    let listener = Listener::bind(LOCAL, &identity, &Options::default()).expect("a free port");
    let address = listener.local_address().expect("bound");
    let host = async { listener.accept().await.expect("open").accept().await };
    let client = async {
        let endpoint = quinn::Endpoint::client(LOCAL).expect("a free port");
        let tls = raw_client(b"spore/2", client_key(&Identity::generate()));
        endpoint
            .connect_with(tls, address, "x")
            .expect("an address")
            .await
    };
    let (host, client) = tokio::join!(host, client);
    let error = host.expect_err("no common version");
    assert_eq!(error, ConnectionError::VersionMismatch);
    assert!(error.to_string().contains("spore/1"), "{error}");
    assert!(client.is_err());
}

/// A host of another version, against our connector.
#[tokio::test]
async fn a_host_of_another_version_is_a_version_mismatch() {
    let key = AlwaysResolvesServerRawPublicKeys::new(rustls_key(&Identity::generate()));
    let host = raw_host(b"spore/2", Arc::new(key));
    let address = host.local_addr().expect("bound");
    let connector =
        Connector::new(&Identity::generate(), &Options::default()).expect("a free port");
    let accept = async { host.accept().await.expect("open").await };
    let (_, client) = tokio::join!(accept, connector.connect(address));
    match client {
        Err(ConnectError::Connection(error)) => {
            assert_eq!(error, ConnectionError::VersionMismatch);
        }
        other => panic!("{other:?}"),
    }
}

/// A host that is killed after its first connection, and the connection to it.
async fn killed_host(identity: &Identity, options: &Options) -> (Connection, SocketAddr) {
    let identity = identity.clone();
    let options = options.clone();
    let connector = Connector::new(&Identity::generate(), &options).expect("a free port");
    let (address_known, address) = tokio::sync::oneshot::channel();
    let host = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let held = runtime.block_on(async {
            let listener = Listener::bind(LOCAL, &identity, &options).expect("a free port");
            address_known
                .send(listener.local_address().expect("bound"))
                .expect("a test");
            let connection = listener.accept().await.expect("open").accept().await;
            (connection.expect("a client"), listener)
        });
        // Without the runtime nothing is sent any more, no word of farewell either.
        drop(runtime);
        drop(held);
    });
    let address = address.await.expect("bound");
    let connection = connector.connect(address).await.expect("a host");
    while !host.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (connection, address)
}

#[tokio::test]
async fn a_host_that_is_killed_is_lost_within_the_idle_time() {
    let (connection, _) = killed_host(&Identity::generate(), &short_idle()).await;
    let mut stream = connection.open().await.expect("a stream");
    stream.sender.send(&call(0)).await.expect("sent");
    let error = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
    assert_eq!(error, Ok(ConnectionError::Lost(LostReason::Idle)));
    let error = stream.receiver.recv().await.expect_err("lost");
    assert!(matches!(error, StreamError::Connection(error) if error.is_lost()));
}

#[tokio::test]
async fn a_host_that_has_restarted_says_so_at_once() {
    let identity = Identity::generate();
    let (connection, address) = killed_host(&identity, &Options::default()).await;
    let _again = Listener::bind(address, &identity, &Options::default()).expect("free again");
    let mut stream = connection.open().await.expect("a stream");
    stream.sender.send(&call(0)).await.expect("sent");
    let error = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await;
    assert_eq!(error, Ok(ConnectionError::Lost(LostReason::Reset)));
}

#[tokio::test]
async fn who_does_not_answer_is_given_up_after_the_time_out() {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let connector = Connector::new(&Identity::generate(), &options).expect("a free port");
    let mute = std::net::UdpSocket::bind(LOCAL).expect("a free port");
    let there = mute.local_addr().expect("bound");
    match connector.connect(there).await {
        Err(ConnectError::NoAnswer { address, waited }) => {
            assert_eq!((address, waited), (there, options.connect_timeout));
        }
        other => panic!("{other:?}"),
    }
}

/// Before the time-out, over either family.
#[tokio::test]
async fn an_address_at_which_nothing_listens_is_told_at_once() {
    let connector =
        Connector::new(&Identity::generate(), &Options::default()).expect("a free port");
    for local in ["127.0.0.1:0", "[::1]:0"] {
        // A machine may be without IPv6.
        let Ok(free) = std::net::UdpSocket::bind(local) else {
            assert_ne!(local, "127.0.0.1:0");
            continue;
        };
        let nowhere = free.local_addr().expect("bound");
        drop(free);
        match connector.connect(nowhere).await {
            Err(ConnectError::NothingListens { address }) => assert_eq!(address, nowhere),
            other => panic!("{other:?}"),
        }
    }
}

/// A listener must not be told from a free port by the question alone, and not be disturbed by it.
#[tokio::test]
async fn a_host_takes_no_notice_of_empty_datagrams() {
    let ends = ends(&Options::default()).await;
    let address = ends.listener.local_address().expect("bound");
    let asking = std::net::UdpSocket::bind(LOCAL).expect("a free port");
    for _ in 0..100 {
        asking.send_to(&[], address).expect("sent");
    }
    let mut stream = ends.client.open().await.expect("a stream");
    stream.sender.send(&call(0)).await.expect("sent");
    let mut theirs = ends.host.accept().await.expect("a stream");
    theirs.receiver.recv().await.expect("the call");
    asking.set_nonblocking(true).expect("a socket");
    let answer = asking.recv(&mut [0; 64]).expect_err("no answer");
    assert_eq!(answer.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_flush_that_was_dropped_goes_on() {
    let options = Options {
        stream_window_bytes: 64 << 10,
        ..Options::default()
    };
    let ends = ends(&options).await;
    let sent: Vec<u8> = (0..1 << 20).map(|index: u32| (index >> 5) as u8).collect();
    let mut ours = ends.client.open().await.expect("a stream");
    ours.sender.queue(&call(sent.len() as u64));
    ours.sender.queue_payload(sent.clone().into());
    let dropped = tokio::time::timeout(Duration::from_millis(50), ours.sender.flush()).await;
    assert!(dropped.is_err(), "the window is smaller than the payload");
    let host = async {
        let mut theirs = ends.host.accept().await.expect("a stream");
        theirs.receiver.recv().await.expect("the call");
        payload(&mut theirs.receiver, sent.len()).await
    };
    let (received, flushed) = tokio::join!(host, ours.sender.flush());
    flushed.expect("a reader");
    assert!(received == sent, "the bytes changed on the way");
}

#[tokio::test]
async fn a_client_waits_for_a_stream_past_the_limit() {
    let options = Options {
        streams_max: 2,
        ..Options::default()
    };
    let ends = ends(&options).await;
    let first = ends.client.open().await.expect("a stream");
    let _second = ends.client.open().await.expect("a stream");
    let third = ends.client.open();
    tokio::pin!(third);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut third).await;
    assert!(early.is_err(), "two may be open");
    drop(first);
    // The host lets go of the stream that was given up, and a place is free.
    let host = async {
        let mut stream = ends.host.accept().await.expect("a stream");
        stream.receiver.recv().await.expect_err("reset");
    };
    let ((), third) = tokio::join!(host, third);
    third.expect("a stream");
}

/// Past as many as are taken on trust, clients prove their address first and get in all the same.
#[tokio::test]
async fn many_clients_connect() {
    const CLIENTS: usize = 260;
    let listener =
        Listener::bind(LOCAL, &Identity::generate(), &Options::default()).expect("a free port");
    let address = listener.local_address().expect("bound");
    let connector =
        Connector::new(&Identity::generate(), &Options::default()).expect("a free port");
    let mut open = Vec::new();
    for _ in 0..CLIENTS {
        let host = async { listener.accept().await.expect("open").accept().await };
        let (host, client) = tokio::join!(host, connector.connect(address));
        open.push((host.expect("a client"), client.expect("a host")));
    }
    assert!(open.iter().all(|(host, _)| host.close_reason().is_none()));
}

#[tokio::test]
async fn a_host_opens_no_streams() {
    let ends = ends(&Options::default()).await;
    let opened = tokio::time::timeout(Duration::from_millis(50), ends.host.open()).await;
    assert!(opened.is_err(), "the client allows none");
}
