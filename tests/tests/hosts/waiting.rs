//! Requests that wait for something and are given up meanwhile: whatever it is, they end at once and
//! hold nothing.

use std::sync::LazyLock;
use std::time::Duration;

use spore_client::{Bundle, RefusalCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::assert_serves;
use spore_tests::module::slow;
use spore_tests::outcome::until;
use spore_tests::peer::{Peer, call, id_of, ship};
use spore_tests::{Local, plain as plain_bundle};
use spore_transport::message::{Blob, BlobKind, Cancel, Encoding, Message};
use spore_transport::{BlobId, CloseCode, Connection, StreamCode};

const MIB: usize = 1 << 20;

/// One whose code takes long to compile, and long to make: in that time no connection would be served.
static SLOW: LazyLock<Bundle> = LazyLock::new(|| slow(0));

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// The upload of a blob by another request of the key.
    OtherUpload,
    /// Memory for an upload.
    Room,
    /// Memory for arguments.
    Arguments,
    /// The key's turn to bring a bundle into memory.
    Turn,
    /// The compiler.
    Compilation,
}

/// How it is given up.
#[derive(Clone, Copy, Debug)]
enum End {
    Reset,
    Stop,
    Close,
}

fn id(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

/// A bundle whose state is so many bytes, each of them `fill`, a few more or less.
fn with_state(bytes: usize, fill: u8) -> Bundle {
    let weigh = plain_bundle()
        .callable(plain::weigh::HANDLE)
        .expect("it is there");
    let bound = weigh.capture(&vec![fill; bytes]).expect("bytes");
    bound.bundle()
}

/// Opens a stream, and asks for the bundle to be stored.
async fn shipping(connection: &Connection, bundle: &Bundle) -> Peer {
    let mut peer = Peer::open(connection).await;
    peer.say(&ship(id(bundle))).await;
    peer
}

/// The same, until the host asks for the manifest.
async fn asked(connection: &Connection, bundle: &Bundle) -> Peer {
    let mut peer = shipping(connection, bundle).await;
    assert_eq!(peer.missing().await.len(), 1);
    peer
}

/// The same, until the state is announced and has begun.
async fn uploading(connection: &Connection, bundle: &Bundle) -> Peer {
    let mut peer = asked(connection, bundle).await;
    peer.honest_blob(bundle.inner().manifest_bytes()).await;
    let missing = peer.missing().await;
    assert!(missing.iter().any(|blob| blob.kind == BlobKind::State));
    let state = bundle.inner().state().expect("it has captures");
    let bytes = state.len() as u64;
    peer.say(&Message::Blob(Blob {
        id: id_of(state),
        encoding: Encoding::Raw,
        raw_bytes: bytes,
        wire_bytes: bytes,
    }))
    .await;
    peer.pour(state.slice(..1_000)).await;
    peer
}

/// Uploads all that is asked for.
async fn uploaded(connection: &Connection, bundle: &Bundle, request: &Message) -> Peer {
    let mut peer = Peer::open(connection).await;
    peer.say(request).await;
    peer.missing().await;
    peer.honest_blob(bundle.inner().manifest_bytes()).await;
    peer.missing().await;
    peer.honest_blob(bundle.inner().code()).await;
    peer
}

impl Wait {
    /// Requests that are open when one waits.
    fn requests(self) -> u32 {
        match self {
            Wait::OtherUpload | Wait::Room | Wait::Arguments => 2,
            Wait::Turn => 5,
            Wait::Compilation => 1,
        }
    }

    /// Opens those requests. The last waits, on a connection of its own.
    async fn begin(self, holding: &Connection, waiting: &Connection) -> (Vec<Peer>, Peer) {
        match self {
            Wait::OtherUpload => {
                let bundle = with_state(1_000, 0);
                let first = asked(holding, &bundle).await;
                (vec![first], shipping(waiting, &bundle).await)
            }
            Wait::Room => {
                let first = uploading(holding, &with_state(MIB, 0)).await;
                (vec![first], uploading(waiting, &with_state(MIB, 1)).await)
            }
            Wait::Arguments => {
                let mut peers = [Peer::open(holding).await, Peer::open(waiting).await];
                for peer in &mut peers {
                    peer.say(&call(id(plain_bundle()), 9_000)).await;
                }
                let [first, second] = peers;
                (vec![first], second)
            }
            Wait::Turn => {
                let mut holders = Vec::new();
                for fill in 0..4 {
                    holders.push(asked(holding, &with_state(1_000, fill)).await);
                }
                (holders, shipping(waiting, &with_state(1_000, 4)).await)
            }
            Wait::Compilation => {
                let request = ship(id(&SLOW));
                (vec![], uploaded(waiting, &SLOW, &request).await)
            }
        }
    }
}

fn start(requests_per_key: u32) -> Local {
    let limits = Limits {
        requests_per_key,
        arguments_per_key: 10_000,
        uploads: 3 << 20,
        // Those who hold what others wait for hold it for as long as the test takes.
        upload_stall: Duration::from_secs(600),
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    Local::start(setup, &["", ""])
}

/// Whether the key may open another request.
async fn has_place(connection: &Connection) -> bool {
    let mut peer = Peer::open(connection).await;
    peer.say(&Message::Status).await;
    match peer.message().await {
        Message::StatusReport(_) => true,
        Message::Refused(refused) if refused.code == RefusalCode::TooManyRequests => false,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whatever_a_request_waits_for_it_ends_with_its_stream_and_with_its_connection() {
    LazyLock::force(&SLOW);
    for wait in [
        Wait::OtherUpload,
        Wait::Room,
        Wait::Arguments,
        Wait::Turn,
        Wait::Compilation,
    ] {
        for end in [End::Reset, End::Stop, End::Close] {
            let local = start(wait.requests());
            let [holding, waiting, looking] = [
                local.connection(0).await,
                local.connection(0).await,
                local.connection(0).await,
            ];
            let (_held, mut peer) = wait.begin(&holding, &waiting).await;
            until("all requests are open", || async {
                !has_place(&looking).await
            })
            .await;
            // Time to come to the wait, and to show that nothing but the client ends it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!has_place(&looking).await, "{wait:?} ended by itself");
            match end {
                End::Reset => peer.sender.reset(StreamCode::Cancelled),
                End::Stop => peer.receiver.stop(StreamCode::Cancelled),
                End::Close => waiting.close(CloseCode::Finished, ""),
            }
            until(&format!("{wait:?} ends by {end:?}"), || has_place(&looking)).await;
            if let Wait::Compilation = wait {
                let other = local.connect(1).await;
                let status = other.status().await.expect("it serves");
                assert_eq!(status.cached_code.count, 0, "the compiler was waited for");
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_waits_for_the_compiler_hears_its_cancel() {
    LazyLock::force(&SLOW);
    let local = start(8);
    let connection = local.connection(0).await;
    let mut peer = uploaded(&connection, &SLOW, &call(id(&SLOW), 0)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    peer.say(&Message::Cancel(Cancel { index: 0 })).await;
    peer.refusal(RefusalCode::Cancelled).await;
    let other = local.connect(1).await;
    let status = other.status().await.expect("it serves");
    assert_eq!(status.cached_code.count, 0, "the compiler was waited for");
    assert_serves(&other).await;
}
