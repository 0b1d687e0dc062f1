//! Who is served and who is believed, with hosts in processes of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use spore_client::{CallError, Connect, ConnectError, Host, Identity, RefusalCode};
use spore_tests::door::copy;
use spore_tests::guests::{assert_serves, of};
use spore_tests::outcome::{refused, running, soon, until};
use spore_tests::{Process, hostile};
use spore_transport::quic::Options;
use spore_transport::{CloseCode, ConnectionError, Connector, LostReason, StreamError};

/// Connects as someone, and asks for something: only then has the host seen the key.
async fn ask(connect: Connect, process: &Process) -> Result<(), Rejected> {
    let host = connect
        .to(&process.address.to_string())
        .await
        .map_err(Rejected::Connect)?;
    host.status().await.map(|_| ()).map_err(Rejected::Call)
}

#[derive(Debug)]
enum Rejected {
    Connect(ConnectError),
    Call(CallError<std::convert::Infallible>),
}

impl Rejected {
    /// Whether the host said that it does not serve the key. Which of the two says so depends on
    /// whether the close arrives before the first question leaves.
    fn is_not_authorised(&self) -> bool {
        match self {
            Rejected::Connect(error) | Rejected::Call(CallError::Connect(error)) => {
                error.is_not_authorised()
            }
            Rejected::Call(CallError::Refused(refused)) => {
                refused.code == RefusalCode::NotAuthorised
            }
            Rejected::Call(_) => false,
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_authorised_is_not_served() {
    let process = Process::start("", &[""]);
    let stranger = Identity::generate();
    let connect = Connect::new().identity(copy(&stranger)).trust(process.key);
    let rejected = ask(connect, &process).await.expect_err("it is a stranger");
    assert!(rejected.is_not_authorised(), "{rejected:?}");

    // On the wire it is a close with its code, before any answer.
    let connector = Connector::new(&stranger, &Options::default()).expect("a free port");
    let connection = connector
        .connect(process.address)
        .await
        .expect("TLS itself lets it in");
    match soon("the close", connection.closed()).await {
        ConnectionError::Closed { code, reason } => {
            assert_eq!(code, CloseCode::NotAuthorised);
            assert!(reason.contains(&stranger.public().to_string()), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_serves(&process.connect(0).await).await;
}

#[tokio::test]
async fn a_key_is_served_once_it_is_authorised_and_not_once_it_is_revoked() {
    // Attempts that fail keep their places for a while, and all of these come from one address.
    let process = Process::start("[limits]\nhandshakes_per_address = 256\n", &[""]);
    let newcomer = Identity::generate();
    let (first, second) = (process.clients[0].public(), newcomer.public());
    let connect = || Connect::new().identity(copy(&newcomer)).trust(process.key);
    assert!(
        ask(connect(), &process)
            .await
            .expect_err("not yet")
            .is_not_authorised()
    );

    process.write_authorized_keys(&format!("{first}\n{second} # newcomer\n"));
    until("the new key is served", || async {
        ask(connect(), &process).await.is_ok()
    })
    .await;

    // Revoked while it has a call running and a connection open besides.
    let host = connect()
        .to(&process.address.to_string())
        .await
        .expect("it is authorised");
    let spin = of(hostile(), hostile::announce_and_spin::HANDLE);
    let (hear, heard) = tokio::sync::oneshot::channel();
    let mut hear = Some(hear);
    let call = host.call(&spin, ()).on_output(move |_, _| {
        if let Some(hear) = hear.take() {
            hear.send(()).expect("the test waits");
        }
    });
    let call = tokio::spawn(call.into_future());
    soon("the guest runs", heard).await.expect("it prints");
    let connector = Connector::new(&newcomer, &Options::default()).expect("a free port");
    let connection = connector
        .connect(process.address)
        .await
        .expect("it is authorised");

    process.write_authorized_keys(&format!("{first}\n"));
    match soon("the close", connection.closed()).await {
        ConnectionError::Closed { code, .. } => assert_eq!(code, CloseCode::Revoked),
        other => panic!("{other:?}"),
    }
    let ended = soon("the call ends", call).await.expect("no panic");
    refused(ended, RefusalCode::NotAuthorised);
    assert!(
        ask(connect(), &process)
            .await
            .expect_err("revoked")
            .is_not_authorised()
    );

    let other = process.connect(0).await;
    until("its guest is stopped", || async {
        other.status().await.expect("it serves").running_count == 0
    })
    .await;
    assert_serves(&other).await;
}

#[tokio::test]
async fn a_slip_in_authorized_keys_locks_nobody_out_and_its_removal_everybody() {
    let process = Process::start("", &[""]);
    let host = process.connect(0).await;
    assert_serves(&host).await;
    process.write_authorized_keys("ed25519:no-key\n");
    until("the slip is logged", || {
        std::future::ready(process.log().contains("authorized_keys not used"))
    })
    .await;
    assert_serves(&host).await;
    std::fs::remove_file(process.home().authorized_keys_path()).expect("it is there");
    until("nobody is served", || async {
        matches!(ask(process.as_client(0), &process).await, Err(error) if error.is_not_authorised())
    })
    .await;
}

#[tokio::test]
async fn a_host_whose_key_is_not_known_is_not_believed_until_it_is_trusted() {
    let process = Process::start("", &[""]);
    let address = process.address.to_string();
    let folder = tempfile::tempdir().expect("a folder for tests");
    let home = spore_client::Home::at(folder.path());
    spore_client::write_private(&home.identity_path(), &process.clients[0].to_pem())
        .expect("the folder is writable");
    let connect = || Connect::new().home(home.clone());

    match connect().to(&address).await.err() {
        Some(ConnectError::UnknownHost { host, key }) => {
            assert_eq!((host, key), (address.clone(), process.key));
        }
        other => panic!("{other:?}"),
    }
    // Trusting another key than the one it has pins nothing.
    let wrong = Identity::generate().public();
    match connect().trust(wrong).to(&address).await.err() {
        Some(ConnectError::OtherKey { trusted, found, .. }) => {
            assert_eq!((trusted, found), (wrong, process.key));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(home.known_hosts().expect("readable").pinned(&address), None);

    let host = connect()
        .trust(process.key)
        .to(&address)
        .await
        .expect("it is trusted");
    assert_serves(&host).await;
    assert_eq!(
        home.known_hosts().expect("readable").pinned(&address),
        Some(process.key)
    );
    assert_serves(&connect().to(&address).await.expect("it is pinned")).await;
    // The host is known by now, and has not changed.
    let other = connect().trust(wrong).to(&address).await.err();
    assert!(
        matches!(other, Some(ConnectError::OtherKey { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn a_host_whose_key_has_changed_is_not_believed() {
    let mut process = Process::start("", &[""]);
    let address = process.address.to_string();
    let folder = tempfile::tempdir().expect("a folder for tests");
    let home = spore_client::Home::at(folder.path());
    spore_client::write_private(&home.identity_path(), &process.clients[0].to_pem())
        .expect("the folder is writable");
    home.pin_host(&address, &process.key)
        .expect("the folder is writable");
    let host = Connect::new()
        .home(home.clone())
        .to(&address)
        .await
        .expect("it is pinned");
    assert_serves(&host).await;

    // Another host at the same address: to who knows the first, an attack.
    let before = process.change_key();
    for attempt in [Some(before), None] {
        let mut connect = Connect::new().home(home.clone());
        if let Some(key) = attempt {
            connect = connect.trust(key);
        }
        match connect.to(&address).await.err() {
            Some(ConnectError::ChangedKey {
                host,
                expected,
                found,
            }) => {
                assert_eq!(
                    (host, expected, found),
                    (address.clone(), before, process.key)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // A program that was connected before notices too, and sends the other host nothing.
    match host.status().await {
        Err(CallError::Connect(ConnectError::ChangedKey { .. })) => {}
        // The old connection may not be known for lost yet.
        Err(CallError::Lost(_)) => {
            let again = host.status().await;
            assert!(
                matches!(
                    again,
                    Err(CallError::Connect(ConnectError::ChangedKey { .. }))
                ),
                "{again:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    // Trusting the new key does not replace the old one by itself.
    let connect = Connect::new().home(home.clone()).trust(process.key);
    assert!(matches!(
        connect.to(&address).await,
        Err(ConnectError::ChangedKey { .. })
    ));
    assert_eq!(
        home.known_hosts().expect("readable").pinned(&address),
        Some(before)
    );
}

/// Waits for a call that never ends by itself, after `happens` to its host.
async fn lost(
    process: &mut Process,
    host: Host,
    happens: impl FnOnce(&mut Process),
) -> (CallError<std::convert::Infallible>, Duration) {
    let spin = of(hostile(), hostile::announce_and_spin::HANDLE);
    let call = tokio::spawn(host.call(&spin, ()).into_future());
    running(&host, 1).await;
    happens(process);
    let began = Instant::now();
    let ended = soon("the call is lost", call).await.expect("no panic");
    (ended.expect_err("it had no end"), began.elapsed())
}

#[tokio::test]
async fn a_host_killed_in_a_call_is_lost_within_the_idle_time() {
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let (error, took) = lost(&mut process, host.clone(), Process::kill).await;
    match error {
        CallError::Lost(StreamError::Connection(ConnectionError::Lost(LostReason::Idle))) => {}
        other => panic!("{other:?}"),
    }
    // A moment for what comes between the timer and here.
    let idle = spore_transport::quic::IDLE_TIMEOUT_DEFAULT;
    assert!(took < idle + Duration::from_secs(3), "{took:?}");

    // Nothing there: calls do not begin.
    let nobody = host.status().await;
    assert!(matches!(nobody, Err(CallError::Connect(_))), "{nobody:?}");
    // Started again between calls: the same host goes on, with what was stored.
    process.restart();
    assert_serves(&host).await;
}

#[tokio::test]
async fn a_host_that_has_restarted_in_a_call_is_lost_at_once() {
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let (error, took) = lost(&mut process, host.clone(), |process| {
        process.kill();
        process.restart();
    })
    .await;
    match error {
        CallError::Lost(StreamError::Connection(ConnectionError::Lost(LostReason::Reset))) => {}
        other => panic!("{other:?}"),
    }
    // The next sign of life is answered by a host that knows nothing of it.
    assert!(
        took < spore_transport::quic::IDLE_TIMEOUT_DEFAULT,
        "{took:?}"
    );
    assert_serves(&host).await;
}

#[tokio::test]
async fn what_was_shipped_is_there_after_a_kill() {
    let mut process = Process::start("", &[""]);
    let bundle = hostile();
    let id = process
        .connect(0)
        .await
        .ship(bundle)
        .await
        .expect("shipped");
    process.kill();
    process.restart();
    let host = process.connect(0).await;
    let shipped = host.shipped(id).await.expect("it was acknowledged");
    let take = shipped.callable("take").expect("it is there");
    let taken = host
        .call(&take, serde_json::json!([10]))
        .await
        .expect("it runs");
    assert_eq!(taken, serde_json::json!(10));
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_finishes_what_runs_and_ends_with_0() {
    let mut process = Process::start("grace = \"20s\"", &[""]);
    let host = process.connect(0).await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    let running_call = tokio::spawn(host.call(&sleep, (5_000,)).into_future());
    running(&host, 1).await;
    process.signal("TERM");
    // What is new is refused, on the connection that there is and on others.
    until("new calls are refused", || async {
        matches!(
            host.call(&sleep, (0,)).await,
            Err(CallError::Refused(refused)) if refused.code == RefusalCode::ShuttingDown
        )
    })
    .await;
    assert!(
        process.try_connect(0).await.is_err(),
        "it takes no connections"
    );
    let slept = soon("the running call", running_call)
        .await
        .expect("no panic");
    assert_eq!(slept.expect("it was let finish"), 5_000);
    assert!(process.ended().success());
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_gives_up_what_outlasts_the_grace_time() {
    let mut process = Process::start("grace = \"200ms\"", &[""]);
    let host = process.connect(0).await;
    let spin = of(hostile(), hostile::spin::HANDLE);
    let call = tokio::spawn(host.call(&spin, ()).into_future());
    running(&host, 1).await;
    assert!(process.terminate().success());
    let ended = soon("the call ends", call).await.expect("no panic");
    match ended.expect_err("it had no end") {
        CallError::Refused(refused) => assert_eq!(refused.code, RefusalCode::ShuttingDown),
        CallError::Lost(StreamError::Connection(ConnectionError::Closed {
            code: CloseCode::ShuttingDown,
            ..
        })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_version_of_the_protocol_is_told_so() {
    let process = Process::start("", &[""]);
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port");
    let connecting = endpoint
        .connect_with(speaking(b"spore/2"), process.address, "spore")
        .expect("an address");
    match soon("the answer", connecting).await {
        // The TLS alert `no_application_protocol`.
        Err(quinn::ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(u64::from(close.error_code), 0x100 + 120, "{close}");
        }
        other => panic!("{other:?}"),
    }
    assert_serves(&process.connect(0).await).await;
}

/// A host of another release, as the command meets it.
#[tokio::test]
async fn the_command_names_a_host_of_another_version() {
    let identity = Identity::generate();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pem = PrivatePkcs8KeyDer::from_pem_slice(identity.to_pem().as_bytes());
    let key = provider
        .key_provider
        .load_private_key(pem.expect("own PEM").into())
        .expect("Ed25519");
    let public = key.public_key().expect("it has one").as_ref().to_vec();
    let certified = CertifiedKey::new(vec![public.into()], key);
    let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::new(certified));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    tls.alpn_protocols = vec![b"spore/2".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let host = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("a free port");

    let folder = tempfile::tempdir().expect("a folder");
    let mut command = std::process::Command::new(spore_tests::process::program());
    command
        .args(["status", &host.local_addr().expect("bound").to_string()])
        .args(["--trust", &identity.public().to_string(), "--json"])
        .env("SPORE_HOME", folder.path());
    let accept = async {
        let incoming = host.accept().await.expect("it is open");
        incoming.await.expect_err("no common version");
    };
    let asks = tokio::task::spawn_blocking(move || command.output());
    let (said, ()) = soon("the command's end", async { tokio::join!(asks, accept) }).await;
    let said = said.expect("no panic").expect("it runs");
    assert_eq!(said.status.code(), Some(4), "{said:?}");
    let words = String::from_utf8(said.stderr).expect("text");
    assert!(words.contains("does not speak spore/1"), "{words}");
    assert!(words.contains("the same release on both sides"), "{words}");
}

/// A client that would believe any host, and speaks this.
fn speaking(protocol: &[u8]) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    quinn::ClientConfig::new(Arc::new(crypto))
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
