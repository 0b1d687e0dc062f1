//! Ports for hosts that are started again where they were. The tests of the command have this file too.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that nobody has, and that systems give to nobody who does not ask for it: a client may connect
/// while a host is down, and must not have its port when it starts again.
///
/// # Panics
///
/// When each is taken.
pub(crate) fn free_port() -> u16 {
    /// Below those that systems give.
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Tests of several processes at one time hardly meet: each has a hundred ports before the next one's.
    let own = (std::process::id() % 200) as u16 * 100;
    let mut ports = (0..COUNT).map(|_| {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed) % COUNT;
        FIRST + (own + tried) % COUNT
    });
    let free = |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    ports.find(free).expect("some port is free")
}
