//! A way to a host that can be cut while both ends stay: what is on it is lost, as when a cable is
//! pulled, until the client connects anew.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

/// Passes packets on between clients and a host, for as long as it is there.
pub struct Relay {
    /// Where clients connect to.
    pub address: SocketAddr,
    cutter: Cutter,
    from_host: Arc<AtomicU64>,
    _passing: JoinSet<()>,
}

/// Cuts a relay.
#[derive(Clone, Default)]
pub struct Cutter(Arc<AtomicBool>);

/// What goes to the host for one client, and what comes back.
struct Flow {
    far: Arc<UdpSocket>,
    back: AbortHandle,
}

impl Relay {
    /// Begins to pass packets on.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start(host: SocketAddr) -> Relay {
        let near = Arc::new(bound().await);
        let address = near.local_addr().expect("it is bound");
        let cutter = Cutter::default();
        let mut passing = JoinSet::new();
        let from_host = Arc::default();
        let counted = Arc::clone(&from_host);
        passing.spawn(pass(near, host, cutter.clone(), counted));
        Relay {
            address,
            cutter,
            from_host,
            _passing: passing,
        }
    }

    /// What cuts it.
    pub fn cutter(&self) -> Cutter {
        self.cutter.clone()
    }

    /// Bytes that the host has sent since it was last asked.
    pub fn sent_by_host(&self) -> u64 {
        self.from_host.swap(0, Ordering::Relaxed)
    }
}

impl Cutter {
    /// Loses from now on what belongs to the connections that there are.
    pub fn cut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_cut(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

async fn bound() -> UdpSocket {
    let free = (Ipv4Addr::LOCALHOST, 0);
    UdpSocket::bind(free).await.expect("a free port")
}

async fn pass(near: Arc<UdpSocket>, host: SocketAddr, cutter: Cutter, from_host: Arc<AtomicU64>) {
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut backs = JoinSet::new();
    let mut packet = vec![0; 1 << 16];
    loop {
        // A client that is gone answers with an error to what was sent to it.
        let Ok((length, client)) = near.recv_from(&mut packet).await else {
            continue;
        };
        let begins = is_initial(&packet[..length]);
        if cutter.has_cut() {
            for (_, flow) in flows.drain() {
                flow.back.abort();
            }
            if !begins {
                continue;
            }
            cutter.0.store(false, Ordering::Relaxed);
        }
        if begins && !flows.contains_key(&client) {
            let far = Arc::new(bound().await);
            far.connect(host).await.expect("an address of this machine");
            let back = Back {
                near: near.clone(),
                client,
                far: far.clone(),
                cutter: cutter.clone(),
                from_host: from_host.clone(),
            };
            let back = backs.spawn(back.pass());
            flows.insert(client, Flow { far, back });
        }
        if let Some(flow) = flows.get(&client) {
            // A packet may be lost on any way.
            let _ = flow.far.send(&packet[..length]).await;
        }
    }
}

/// What comes back from the host for one client.
struct Back {
    near: Arc<UdpSocket>,
    client: SocketAddr,
    far: Arc<UdpSocket>,
    cutter: Cutter,
    from_host: Arc<AtomicU64>,
}

impl Back {
    async fn pass(self) {
        let mut packet = vec![0; 1 << 16];
        loop {
            // A host that is gone answers with an error to what was sent to it.
            if let Ok(length) = self.far.recv(&mut packet).await
                && !self.cutter.has_cut()
            {
                self.from_host.fetch_add(length as u64, Ordering::Relaxed);
                let _ = self.near.send_to(&packet[..length], self.client).await;
            }
        }
    }
}

/// Whether a packet begins a connection: a long header of the type Initial, in version 1 of QUIC.
fn is_initial(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xf0 == 0xc0)
}
