//! Learning at once that nothing listens at an address.
//!
//! A machine on which nothing listens answers a datagram with ICMP's "port unreachable". The system
//! passes that on to connected sockets only. QUIC's socket is connected to no one, since it serves
//! all peers, and so would send into the void until the time-out: beside it another one asks.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::error::ConnectError;

/// Returns once it is known that nobody can be reached at `address`; otherwise never. Cancel-safe.
///
/// The answer is not proved: who can see the datagram can make an attempt to connect fail. They can
/// by dropping its packets too. A connection that stands is not affected.
pub(super) async fn known(address: SocketAddr) -> ConnectError {
    let error = match answer(address).await {
        Err(error) => error,
        // Something is there. What it is, the handshake finds out.
        Ok(()) => std::future::pending().await,
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::NothingListens { address },
        // Without a route, or an address of its family here, the handshake would wait in vain.
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::AddrNotAvailable => ConnectError::Address {
            address,
            reason: error.to_string(),
        },
        // Only this way of asking has failed.
        _ => std::future::pending().await,
    }
}

/// Sends an empty datagram, which means nothing to QUIC and is not answered, and waits.
async fn answer(address: SocketAddr) -> io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[]).await?;
    socket.recv(&mut [0]).await?;
    Ok(())
}
