//! Both ends prove their keys, and who does not is not connected.

use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::pki_types::CertificateDer;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use spore_transport::quic::Options;
use spore_transport::*;

use crate::common::{LOCAL, raw_client, raw_host, raw_key, rustls_key};

mod common;

// TLS alerts (RFC 8446, section 6).
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const DECRYPT_ERROR: u8 = 51;

/// Proofs that prove no Ed25519 key, and the alert that answers each. All are shown as what the two
/// ends have agreed on, a raw public key, so that it is the other end that has to tell.
fn forgeries() -> Vec<(&'static str, Arc<CertifiedKey>, u8)> {
    let own = rustls_key(&Identity::generate());
    let theirs = rustls_key(&Identity::generate());
    let forged = CertifiedKey::new(theirs.cert.clone(), own.key.clone());
    let both = [&own.cert[..], &theirs.cert[..]].concat();
    let two = CertifiedKey::new(both, own.key.clone());
    vec![
        (
            "a key of another's, signed for by its own",
            Arc::new(forged),
            DECRYPT_ERROR,
        ),
        ("a certificate", certified(&own), BAD_CERTIFICATE),
        ("a key of another kind", p256_key(), BAD_CERTIFICATE),
        ("two keys", Arc::new(two), BAD_CERTIFICATE),
    ]
}

#[tokio::test]
async fn a_host_that_does_not_prove_its_key_is_not_connected_to() {
    let raw = |key| Arc::new(AlwaysResolvesServerRawPublicKeys::new(key));
    // Otherwise such a host is as good as ours: with a key of its own it is connected to.
    let identity = Identity::generate();
    let connected = connect_to(raw(rustls_key(&identity))).await;
    let connected = connected.expect("it has proved it");
    assert_eq!(connected.peer(), identity.public());

    for (what, key, expected) in forgeries() {
        match connect_to(raw(key)).await {
            Err(ConnectError::Connection(ConnectionError::Handshake { alert, .. })) => {
                assert_eq!(alert, expected, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// A host as the web has them: that it has a certificate shows before it shows it.
#[tokio::test]
async fn a_host_that_has_nothing_but_a_certificate_is_not_connected_to() {
    let key = certified(&rustls_key(&Identity::generate()));
    match connect_to(Arc::new(SingleCertAndKey::from(key))).await {
        Err(ConnectError::Connection(ConnectionError::Handshake { alert, .. })) => {
            assert_eq!(alert, HANDSHAKE_FAILURE);
        }
        other => panic!("{other:?}"),
    }
}

/// Connects our connector to a host that shows this.
async fn connect_to(key: Arc<dyn ResolvesServerCert>) -> Result<Connection, ConnectError> {
    let host = raw_host(ALPN, key);
    let address = host.local_addr().expect("bound");
    let connector =
        Connector::new(&Identity::generate(), &Options::default()).expect("a free port");
    let accept = async { host.accept().await.expect("open").await };
    let (_, connected) = tokio::join!(accept, connector.connect(address));
    connected
}

#[tokio::test]
async fn a_client_that_does_not_prove_its_key_does_not_get_in() {
    let raw = |key| Arc::new(AlwaysResolvesClientRawPublicKeys::new(key));
    let identity = Identity::generate();
    let (host, _) = connect_from(raw(rustls_key(&identity))).await;
    assert_eq!(host.expect("it has proved it").peer(), identity.public());

    for (what, key, expected) in forgeries() {
        let (host, _) = connect_from(raw(key)).await;
        match host {
            Err(ConnectionError::Handshake { alert, .. }) => assert_eq!(alert, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_without_a_key_does_not_get_in() {
    let (host, client) = connect_from(Arc::new(NoKey)).await;
    let error = host.expect_err("no key");
    assert!(
        matches!(error, ConnectionError::Handshake { .. }),
        "{error}"
    );
    // A client may think that it is connected before the host has said no.
    let error = match client {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert!(
        matches!(error, quinn::ConnectionError::ConnectionClosed(_)),
        "{error}"
    );
}

/// Connects a client that shows this to our listener, and gives what each end makes of it.
async fn connect_from(
    key: Arc<dyn ResolvesClientCert>,
) -> (
    Result<Connection, ConnectionError>,
    Result<quinn::Connection, quinn::ConnectionError>,
) {
    let listener =
        Listener::bind(LOCAL, &Identity::generate(), &Options::default()).expect("a free port");
    let address = listener.local_address().expect("bound");
    let endpoint = quinn::Endpoint::client(LOCAL).expect("a free port");
    let connecting = endpoint.connect_with(raw_client(ALPN, key), address, "x");
    let host = async { listener.accept().await.expect("open").accept().await };
    tokio::join!(host, connecting.expect("an address"))
}

/// Offers raw public keys, and then has none.
#[derive(Debug)]
struct NoKey;

impl ResolvesClientCert for NoKey {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A P-256 key, which signs as what it is whether the peer takes that or not.
fn p256_key() -> Arc<CertifiedKey> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let pkcs8 = pkcs8.expect("the system gives random bytes");
    let key = raw_key(pkcs8.as_ref().to_vec().into());
    let unasked = Arc::new(SignsUnasked(key.key.clone()));
    Arc::new(CertifiedKey::new(key.cert.clone(), unasked))
}

#[derive(Debug)]
struct SignsUnasked(Arc<dyn SigningKey>);

impl SigningKey for SignsUnasked {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let own = [SignatureScheme::ECDSA_NISTP256_SHA256];
        self.0.choose_scheme(&own)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

/// The same key in an X.509 certificate that it has signed itself (RFC 5280, RFC 8410).
fn certified(key: &CertifiedKey) -> Arc<CertifiedKey> {
    let ed25519 = der(0x30, &[&[0x06, 3, 0x2B, 0x65, 0x70]]);
    let common_name = der(0x30, &[&[0x06, 3, 0x55, 4, 3], &der(0x0C, &[b"spore"])]);
    let name = der(0x30, &[&der(0x31, &[&common_name])]);
    let [from, to] = [b"000101000000Z", b"491231235959Z"].map(|time| der(0x17, &[time]));
    let signed = [
        &der(0xA0, &[&[2, 1, 2]])[..],
        &[2, 1, 1],
        &ed25519,
        &name,
        &der(0x30, &[&from, &to]),
        &name,
        &key.cert[0],
    ];
    let signed = der(0x30, &signed);
    let signer = key.key.choose_scheme(&[SignatureScheme::ED25519]);
    let signature = signer.expect("its own").sign(&signed).expect("signed");
    let parts = [&signed[..], &ed25519, &der(0x03, &[&[0], &signature])];
    let certificate = CertificateDer::from(der(0x30, &parts));
    ParsedCertificate::try_from(&certificate).expect("it is a certificate");
    Arc::new(CertifiedKey::new(vec![certificate], key.key.clone()))
}

/// One element of DER (X.690).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).expect("all of it is short");
    let head = match length {
        ..0x80 => vec![tag, length],
        _ => vec![tag, 0x81, length],
    };
    [head, content].concat()
}
