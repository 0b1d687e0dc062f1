//! Strangers who begin handshakes and do not end them, from addresses of their own and from forged
//! ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use spore_client::Identity;
use spore_host::{Limits, Setup};
use spore_tests::Local;
use spore_tests::guests::assert_serves;
use spore_tests::outcome::soon;
use spore_transport::quic::Options;
use spore_transport::{ConnectError, Connection, Connector};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address of this machine that tests otherwise do not use.
fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn start(limits: Limits) -> Local {
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    Local::start(setup, &["", ""])
}

/// A client whose packets pass through here, and reach the host from an address of choice.
struct Between {
    attempt: JoinHandle<Result<Connection, ConnectError>>,
    near: UdpSocket,
    client: SocketAddr,
    far: UdpSocket,
    host: SocketAddr,
}

impl Between {
    /// Sends the client's first packet to the host.
    async fn begin(host: SocketAddr, from: IpAddr) -> Between {
        let near = UdpSocket::bind((LOCALHOST, 0)).await.expect("a free port");
        let far = UdpSocket::bind((from, 0)).await.expect("a free port");
        let connector =
            Connector::new(&Identity::generate(), &Options::default()).expect("a free port");
        let address = near.local_addr().expect("it is bound");
        let attempt = tokio::spawn(async move { connector.connect(address).await });
        let mut between = Between {
            attempt,
            near,
            client: address,
            far,
            host,
        };
        let first = between.hear_client().await;
        between.tell_host(&first).await;
        between
    }

    async fn hear_client(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 1 << 16];
        loop {
            let received = soon("a packet of the client", self.near.recv_from(&mut packet)).await;
            let (length, client) = received.expect("received");
            // An empty one asks whether anything listens; the handshake comes from elsewhere.
            if length > 0 {
                self.client = client;
                packet.truncate(length);
                return packet;
            }
        }
    }

    async fn tell_host(&self, packet: &[u8]) {
        let sent = self.far.send_to(packet, self.host).await;
        sent.expect("sent");
    }

    async fn hear_host(&self) -> Vec<u8> {
        let mut packet = vec![0; 1 << 16];
        let received = soon("a packet of the host", self.far.recv(&mut packet)).await;
        packet.truncate(received.expect("received"));
        packet
    }

    async fn tell_client(&self, packet: &[u8]) {
        let sent = self.near.send_to(packet, self.client).await;
        sent.expect("sent");
    }

    /// Goes on until the host has taken or refused the attempt, and keeps its answer from the
    /// client. Also says whether the host wanted the address proved.
    async fn answer(&mut self) -> (Vec<u8>, bool) {
        let answer = self.hear_host().await;
        if !is_retry(&answer) {
            return (answer, false);
        }
        self.tell_client(&answer).await;
        loop {
            let packet = self.hear_client().await;
            if has_token(&packet) {
                self.tell_host(&packet).await;
                return (self.hear_host().await, true);
            }
        }
    }
}

/// Whether a packet is a Retry: a long header of type 3 (RFC 9000, section 17.2.5).
fn is_retry(packet: &[u8]) -> bool {
    packet[0] & 0xf0 == 0xf0
}

/// Whether a client's first packet brings the token of a Retry (RFC 9000, section 17.2.2).
fn has_token(packet: &[u8]) -> bool {
    let destination = usize::from(packet[5]);
    let source = usize::from(packet[6 + destination]);
    packet[7 + destination + source] != 0
}

/// Begins a handshake that its client will not end. Says whether the address had to be proved.
async fn stall(host: &Local, from: IpAddr) -> bool {
    let mut between = Between::begin(host.address, from).await;
    let (_, proved) = between.answer().await;
    between.attempt.abort();
    proved
}

/// Begins a handshake that the host must refuse.
async fn refused(host: &Local, from: IpAddr) {
    let mut between = Between::begin(host.address, from).await;
    let (answer, proved) = between.answer().await;
    assert!(
        proved,
        "nobody is refused for an address that may be forged"
    );
    between.tell_client(&answer).await;
    let error = soon("word of the refusal", between.attempt).await;
    let error = error.expect("no panic").expect_err("there is no place");
    assert!(format!("{error:?}").contains("refused"), "{error:?}");
}

#[tokio::test]
async fn handshakes_that_never_end_are_bounded_and_take_nothing_from_connections() {
    let host = start(Limits {
        connections: 2,
        handshakes: 8,
        handshakes_per_address: 8,
        ..Limits::default()
    });
    let before = host.connect(0).await;
    assert_serves(&before).await;
    // A quarter of the places is there for addresses that are not proved.
    for last in 2..=9 {
        let proved = stall(&host, address(last)).await;
        assert_eq!(proved, last > 3, "address {last}");
        if last == 8 {
            // One place is left for who proves its address, and the strangers are no connections.
            assert_serves(&host.connect(1).await).await;
        }
    }
    refused(&host, address(10)).await;
    // One that stands goes on.
    assert_serves(&before).await;
}

#[tokio::test]
async fn one_address_has_its_share_of_the_handshakes() {
    let host = start(Limits {
        handshakes_per_address: 4,
        ..Limits::default()
    });
    for attempt in 0..4 {
        assert_eq!(stall(&host, address(2)).await, attempt > 0);
    }
    refused(&host, address(2)).await;
    assert_serves(&host.connect(0).await).await;
}
