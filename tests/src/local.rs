//! A host that listens from a thread of the test.

use std::ops::Deref;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use spore_host::server::{Serve, Server};
use spore_host::{Host, Setup};
use tokio::sync::oneshot;

use crate::door::Door;

/// Time that calls get to finish when the test is done with the host.
const GRACE: Duration = Duration::from_millis(50);

/// Silence after which the host and its clients lose each other. They share the processors with
/// compilations of the test, which may keep both from speaking for a while.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A host on a thread of its own, until it is dropped.
pub struct Local {
    /// The host itself, to look at what it does.
    pub host: Host,
    door: Door,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Local {
    /// Starts a host that serves a new identity for each line of options.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(setup: Setup, options: &[&str]) -> Local {
        let mut door = Door::prepare(options);
        door.options.idle_timeout = IDLE_TIMEOUT;
        let host = Host::start(setup).expect("the engine starts");
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let home = door.home();
        let serve = Serve {
            listen: door.address,
            identity: home.host_identity().expect("it was made before"),
            authorized_keys: home.authorized_keys_path(),
            store: home.store_path(),
            keep: home.kept_path(),
            options: door.options.clone(),
        };
        let served = host.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let server = Server::bind(served, serve).expect("a free port");
                ready
                    .send(server.local_address().expect("it is bound"))
                    .expect("the test waits");
                let stopped = async {
                    let _ = stopped.await;
                };
                server.run(stopped, GRACE).await;
            });
        });
        door.address = address.recv().expect("the server is ready");
        Local {
            host,
            door,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

/// A host twice: within this process, and over QUIC. Started when first used.
///
/// What a test says of calls holds for both.
pub struct Both<S = fn() -> Setup> {
    setup: S,
    started: OnceLock<(spore_client::Host, Local)>,
}

impl Both {
    /// Hosts set up so, for all tests of a file.
    pub const fn new(setup: fn() -> Setup) -> Both {
        Both {
            setup,
            started: OnceLock::new(),
        }
    }

    /// The embedded host, and a connection to the other.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub async fn hosts(&self) -> [spore_client::Host; 2] {
        hosts(&self.started, self.setup).await
    }
}

impl Both<Setup> {
    /// Hosts for one test, which looks at what happens on them.
    pub fn of(setup: Setup) -> Both<Setup> {
        Both {
            setup,
            started: OnceLock::new(),
        }
    }

    /// The embedded host, and a connection to the other.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub async fn hosts(&self) -> [spore_client::Host; 2] {
        hosts(&self.started, || self.setup.clone()).await
    }
}

async fn hosts(
    started: &OnceLock<(spore_client::Host, Local)>,
    setup: impl Fn() -> Setup,
) -> [spore_client::Host; 2] {
    let (embedded, local) = started.get_or_init(|| {
        let embedded = spore_client::Host::embedded_with(setup()).expect("the engine starts");
        // Each test of a file has a connection, and a runtime that takes no leave when it goes.
        let mut setup = setup();
        setup.limits.connections_per_key = 256;
        (embedded, Local::start(setup, &[""]))
    });
    [embedded.clone(), local.connect(0).await]
}

impl Deref for Local {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the host's thread panicked");
        }
    }
}
