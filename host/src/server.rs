//! A host that serves others over QUIC.
//!
//! Everything here runs on the thread that calls [`Server::run`], which does nothing but I/O:
//! guests run on the host's workers; hashing, files and compilation beside them.

mod blobs;
mod collector;
mod handshakes;
mod jobs;
mod keys;
mod loading;
mod relay;
mod sessions;
mod stream;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spore_transport::quic::Options;
use spore_transport::{
    AuthorizedKeys, BindError, CloseCode, Connection, Identity, Incoming, Listener, PublicKey,
};

use crate::callers::KeyState;
use crate::code::chain;
use crate::host::Host;
use crate::scheduler::lock;
use crate::store::{Store, StoreError};
use blobs::Blobs;
use handshakes::{Admission, Handshake, Handshakes};
use keys::Keys;
use relay::Relay;
use stream::Peer;

pub use keys::{KeysError, LOOK_INTERVAL, is_read};

/// Time that closing connections get to tell their peers.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Time until what was kept and could not be taken up is tried anew.
const TAKE_UP_INTERVAL: Duration = Duration::from_secs(60);

/// Time between looks at what still runs, while shutting down.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Why a server could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The keys cannot be read.
    #[error("authorized_keys cannot be used")]
    Keys(#[from] KeysError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    /// The store of sessions and jobs cannot be opened.
    #[error("the store of sessions and jobs cannot be opened")]
    Keep(#[from] spore_store::OpenError),
    /// The system does not tell the address that was taken.
    #[error("no local address")]
    Address(#[source] std::io::Error),
}

/// Where a server listens, who it is, and where its files are.
#[derive(Debug)]
pub struct Serve {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Who the host is.
    pub identity: Identity,
    /// The file of keys that are served.
    pub authorized_keys: PathBuf,
    /// The folder of blobs.
    pub store: PathBuf,
    /// The folder of sessions and jobs.
    pub keep: PathBuf,
    /// What the transport allows.
    pub options: Options,
}

/// A host that listens.
pub struct Server {
    listener: Listener,
    handshakes: Arc<Handshakes>,
    shared: Shared,
    /// Whether what was kept is there.
    taken_up: bool,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    host: Host,
    keys: Keys,
    blobs: Arc<Blobs>,
    /// Connections of authorised keys.
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    strangers: Arc<Seldom>,
}

impl Server {
    /// Listens from now on. Must be called on the runtime that will run it.
    ///
    /// # Errors
    ///
    /// When the address, the keys or the store cannot be used.
    pub fn bind(host: Host, serve: Serve) -> Result<Server, ServerError> {
        let limits = host.limits();
        let store = Arc::new(Store::open(&serve.store, limits.store)?);
        host.keep_in(&serve.keep, limits.kept)?;
        let blobs = Blobs::new(store, limits.uploads, host.background().clone());
        let keys = keys::watch(serve.authorized_keys, host.background())?;
        let listener = Listener::bind(serve.listen, &serve.identity, &serve.options)?;
        let handshakes = Handshakes::new(limits.handshakes, limits.handshakes_per_address);
        Ok(Server {
            listener,
            handshakes,
            shared: Shared {
                host,
                keys,
                blobs,
                connections: Arc::default(),
                requests: Arc::default(),
                strangers: Arc::default(),
            },
            taken_up: false,
        })
    }

    /// The address that was taken.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn local_address(&self) -> Result<SocketAddr, ServerError> {
        self.listener.local_address().map_err(ServerError::Address)
    }

    /// Serves until `shutdown` is ready; then refuses what is new, lets running calls finish for
    /// at most `grace`, and closes all connections.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>, grace: Duration) {
        let mut shutdown = std::pin::pin!(shutdown);
        tokio::select! {
            () = self.take_up() => {}
            () = &mut shutdown => return,
        }
        loop {
            tokio::select! {
                incoming = self.listener.accept() => match incoming {
                    Some(incoming) => self.accept(incoming),
                    None => break,
                },
                () = &mut shutdown => break,
            }
        }
        self.listener.stop_accepting();
        let Shared { host, requests, .. } = &self.shared;
        host.refuse_new_calls();
        // Calls and jobs have the same time.
        let (halting, within) = (host.clone(), grace);
        let halted = tokio::spawn(async move { halting.halt_jobs(within).await });
        let left = host.calls_under_way();
        tracing::info!(calls = left, ?grace, "shutting down");
        let drained = async {
            while host.calls_under_way() > 0 || requests.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(calls = host.calls_under_way(), "calls are given up");
        }
        let _ = halted.await;
        // Outcomes that are still on their way get there before the connections close.
        tokio::time::sleep(DRAIN_LOOK).await;
        self.listener.close(CloseCode::ShuttingDown, "");
        let _ = tokio::time::timeout(CLOSE_TIME, self.listener.wait_idle()).await;
    }

    /// Takes up the sessions and jobs of keys that are authorised, and has those of others stand still.
    /// [`run`](Self::run) begins with it, unless it was done before: nobody is served until then.
    pub async fn take_up(&mut self) {
        if std::mem::replace(&mut self.taken_up, true) {
            return;
        }
        let Shared { host, keys, .. } = &self.shared;
        host.sweep().await;
        let mut taken_up = HashSet::new();
        let now = keys.borrow().clone();
        take_up(host, now, &mut taken_up).await;
        let (server, mut keys) = (Arc::downgrade(&self.shared.requests), keys.clone());
        let host = host.clone();
        tokio::spawn(async move {
            // Until the server is gone.
            loop {
                tokio::select! {
                    changed = keys.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(TAKE_UP_INTERVAL) => {}
                }
                if server.upgrade().is_none() {
                    return;
                }
                let now = keys.borrow_and_update().clone();
                host.halt_jobs_but(|key| {
                    let options = now.lookup(key)?;
                    Some(host.callers().of_key(key, options, host.limits()))
                });
                tokio::spawn(take_up(&host, now, &mut taken_up));
            }
        });
    }

    fn accept(&self, incoming: Incoming) {
        let from = incoming.remote_address();
        let proved = incoming.address_is_proved();
        let handshake = match self.handshakes.admit(from.ip(), proved) {
            Admission::Admitted(handshake) => handshake,
            Admission::Unproved => return incoming.ask_for_proof(),
            Admission::Full { what, limit } => {
                if let Some(unsaid) = self.shared.strangers.say() {
                    tracing::warn!(limit, %from, unsaid, "too many {what}");
                }
                return incoming.refuse();
            }
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            match incoming.accept().await {
                Ok(connection) => serve_connection(shared, connection, handshake).await,
                Err(error) => {
                    tracing::debug!(%from, error = chain(&error), "no handshake");
                    tokio::time::sleep(CLOSE_TIME).await;
                    drop(handshake);
                }
            }
        });
    }
}

/// Takes up what was kept of keys that are authorised: once for each, and what could not be then.
fn take_up(
    host: &Host,
    keys: Arc<AuthorizedKeys>,
    taken_up: &mut HashSet<PublicKey>,
) -> impl Future<Output = ()> + use<> {
    let authorised = keys.iter().map(|(key, _)| *key);
    let new: HashSet<PublicKey> = authorised
        .filter(|key| taken_up.insert(*key) || host.has_passing(key))
        .collect();
    let host = host.clone();
    async move {
        if new.is_empty() {
            return;
        }
        host.revive(|key| {
            let options = keys.lookup(key).filter(|_| new.contains(key))?;
            Some(host.callers().of_key(key, options, host.limits()))
        })
        .await;
    }
}

/// Says at most once a second what strangers can make happen as often as they like.
#[derive(Default)]
struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether it is to be said now, and how often it was not since the last time.
    fn say(&self) -> Option<u64> {
        let (last, unsaid) = &mut *lock(&self.0);
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            *unsaid += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(unsaid))
    }
}

/// One of a bounded number of places, given back when dropped.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(places: &Arc<AtomicU32>, limit: u32) -> Option<Place> {
        let place = Place(places.clone());
        (places.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the connections of one key.
struct KeyPlace(Arc<KeyState>);

impl KeyPlace {
    fn take(key: &Arc<KeyState>, limit: u32) -> Option<KeyPlace> {
        let place = KeyPlace(key.clone());
        (key.connections.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for KeyPlace {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection while its key is authorised. Until that is known it has its place among
/// the handshakes, and then one among the connections.
async fn serve_connection(shared: Shared, connection: Connection, handshake: Handshake) {
    let Shared {
        host,
        mut keys,
        blobs,
        connections,
        requests,
        strangers,
    } = shared;
    let key = connection.peer();
    let (from, near) = (connection.remote_address(), connection.is_near());
    let relay = Relay::start();
    let peer = |keys: &mut Keys| {
        let keys = keys.borrow_and_update().clone();
        keys.lookup(&key).map(|options| {
            let caller = host.callers().of_key(&key, options, host.limits());
            Arc::new(Peer {
                host: host.clone(),
                blobs: blobs.clone(),
                key,
                caller,
                near,
                relay: relay.clone(),
                requests: requests.clone(),
            })
        })
    };
    let Some(mut current) = peer(&mut keys) else {
        if let Some(unsaid) = strangers.say() {
            tracing::warn!(%key, %from, unsaid, "not authorised");
        }
        connection.close(CloseCode::NotAuthorised, &format!("key {key}"));
        // The close reaches the peer before the connection is dropped; and one who may not come in
        // has its place among the handshakes for a while, so that it cannot begin thousands.
        tokio::time::sleep(CLOSE_TIME).await;
        return;
    };
    let too_many = |whose: &str, limit: u32| {
        tracing::warn!(%key, %from, whose, limit, "too many connections");
        let reason = format!("the {whose} may have {limit}");
        connection.close(CloseCode::TooManyConnections, &reason);
    };
    let limit = host.limits().connections_per_key;
    let Some(_place_of_key) = KeyPlace::take(&current.caller.state, limit) else {
        return too_many("key", limit);
    };
    let limit = host.limits().connections;
    let Some(_place) = Place::take(&connections, limit) else {
        return too_many("host", limit);
    };
    drop(handshake);
    tracing::info!(%key, %from, "connected");
    let mut watching = true;
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Ok(stream) => {
                    tokio::spawn(stream::serve(current.clone(), stream));
                }
                Err(error) => {
                    tracing::info!(%key, %from, reason = chain(&error), "disconnected");
                    return;
                }
            },
            changed = keys.changed(), if watching => {
                watching = changed.is_ok();
                match peer(&mut keys) {
                    Some(peer) => current = peer,
                    None => {
                        tracing::warn!(%key, %from, "revoked");
                        connection.close(CloseCode::Revoked, &format!("key {key}"));
                        return;
                    }
                }
            }
        }
    }
}
