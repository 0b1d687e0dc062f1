//! Spore itself: a host in a process of its own, and the program that calls it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use spore_client::{Bundle, Callable, Connect, Home, Host, Identity, NoCaptures, embedded_bundle};
use spore_host::server::{Serve, Server};
use spore_transport::quic::Options;
use tempfile::TempDir;

use crate::child::{self, Child};
use crate::log::{self, Log};

/// The callable that gives back its bytes.
pub(crate) type EchoCallable = Callable<NoCaptures, (Vec<u8>,), Vec<u8>, std::convert::Infallible>;

/// The bundle of the guest that is measured.
pub(crate) fn bundle() -> Bundle {
    embedded_bundle!("bench_guest")
}

/// The code of that bundle.
pub(crate) fn code() -> Result<Bytes> {
    let bundle = include_bytes!(concat!(env!("OUT_DIR"), "/bench_guest.spore"));
    let bundle = spore_bundle::Bundle::decode(&bundle[..], &spore_bundle::Limits::default())?;
    Ok(bundle.code().clone())
}

pub(crate) fn echo_callable() -> Result<EchoCallable> {
    Ok(bundle().callable(bench_guest::echo::HANDLE)?)
}

/// A host with default limits, in a process of its own.
pub(crate) fn serve(folder: &Path) -> Result<()> {
    let home = Home::at(folder);
    log::write_jobs();
    child::runtime()?.block_on(async {
        let host = spore_host::Host::start(spore_host::Setup::default())?;
        let serve = Serve {
            listen: ([127, 0, 0, 1], 0).into(),
            identity: home.host_identity()?,
            authorized_keys: home.authorized_keys_path(),
            store: home.store_path(),
            keep: home.kept_path(),
            options: Options::default(),
        };
        let server = Server::bind(host, serve)?;
        child::announce(server.local_address()?)?;
        let dismissed = child::dismissed();
        let shutdown = async {
            let _ = dismissed.await;
        };
        server.run(shutdown, Duration::ZERO).await;
        Ok(())
    })
}

/// A connection to a host in a process of its own.
pub(crate) struct Remote {
    pub(crate) host: Host,
    // The process goes before its folder does.
    child: Child,
    _folder: TempDir,
}

impl Remote {
    /// Starts the host and connects to it. Call it on the runtime that is to do the I/O.
    pub(crate) async fn start() -> Result<Remote> {
        Remote::start_for(Identity::generate()).await
    }

    /// The same for this client.
    pub(crate) async fn start_for(identity: Identity) -> Result<Remote> {
        let folder = tempfile::tempdir()?;
        let home = Home::at(folder.path());
        let host_key = home.host_identity()?.public();
        let authorized = format!("{}\n", identity.public());
        spore_client::write_private(&home.authorized_keys_path(), &authorized)?;
        let child = Child::start(&[child::HOST.as_ref(), folder.path().as_os_str()])?;
        let connect = Connect::new().identity(identity).trust(host_key);
        let host = connect.to(&child.address.to_string()).await?;
        Ok(Remote {
            host,
            child,
            _folder: folder,
        })
    }

    /// What the host logs of its jobs.
    pub(crate) fn log(&self) -> &Log {
        &self.child.log
    }
}

/// Calls a second, `flight` at a time, for this long.
pub(crate) async fn rate(
    host: &Host,
    callable: &EchoCallable,
    length: usize,
    flight: usize,
    time: Duration,
) -> Result<f64> {
    let began = Instant::now();
    let work = (0..flight).map(|_| {
        let (host, callable) = (host.clone(), callable.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while began.elapsed() < time {
                host.call(&callable, (vec![0; length],)).await?;
                count += 1;
            }
            anyhow::Ok(count)
        })
    });
    let mut count = 0;
    for work in work.collect::<Vec<_>>() {
        count += work.await??;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
