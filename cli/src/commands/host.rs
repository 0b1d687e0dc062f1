//! `spore host`: serves others until it is told to stop.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use spore_client::{Home, write_private};
use spore_host::config::{Config, PORT_DEFAULT};
use spore_host::server::{Serve, Server, ServerError};
use spore_transport::quic::Options;
use spore_transport::{BindError, KeyOptions, authorized_keys};

use crate::connect::{home, runtime};
use crate::exit::{Exit, Failure, OrExit};
use crate::signals::Signals;
use crate::{logging, output};

/// Serve authorised keys until SIGTERM or Ctrl-C
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore host --listen 127.0.0.1:0
  spore host --config /etc/spore.toml --log-json

Once it serves, it writes one line to standard output:
  ready ADDRESS:PORT KEY

Its keys and configuration are host.pem, authorized_keys and spore.toml in the XDG folder of
configuration, or in SPORE_HOME. Where no key was authorised yet, the first start authorises the
user who starts it, and no one else; others with `spore key authorize KEY`. SIGTERM and Ctrl-C let
running calls finish within the configured grace time; a second one does not wait.")]
pub(crate) struct Host {
    /// Where to listen; port 0 takes a free one [default: as configured, or 0.0.0.0:7473]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The configuration [default: spore.toml in the folder of configuration]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged to standard error: error, warn, info, debug or trace [default: SPORE_LOG,
    /// or info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Log JSON, one object a line
    #[arg(long)]
    log_json: bool,
}

impl Host {
    pub(crate) fn run(self) -> Result<(), Failure> {
        logging::for_host(self.log.as_deref(), self.log_json)?;
        let home = home()?;
        let config = config(self.config.as_deref(), &home)?;
        check_grants(&config)?;
        // Held from before the keys are read: `spore key` waits for the host from here on.
        let _lock = home.lock_host()?;
        let identity = home.host_identity()?;
        let key = identity.public();
        authorize_starter(&home)?;
        let serve = Serve {
            listen: self.listen.unwrap_or(config.listen),
            identity,
            authorized_keys: home.authorized_keys_path(),
            store: home.store_path(),
            keep: home.kept_path(),
            options: Options::default(),
        };
        take_descriptors();
        let host = spore_host::Host::start(config.setup()).or_exit(Exit::Local)?;
        // This thread does the I/O, and nothing else from here on.
        runtime()?.block_on(async {
            let mut signals = Signals::catch()?;
            let mut server = Server::bind(host, serve).map_err(bind_failure)?;
            tokio::select! {
                () = server.take_up() => {}
                signal = signals.next() => {
                    tracing::info!(signal, "asked to stop");
                    return Ok(());
                }
            }
            let address = server.local_address().or_exit(Exit::Local)?;
            tracing::info!(%address, %key, "ready");
            if let Err(failure) = output::print(&format!("ready {address} {key}\n")) {
                // Who does not wait for the line may have closed standard output.
                tracing::warn!(reason = failure.message(), "the ready line is not written");
            }
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let shutdown = async {
                let _ = stopped.await;
            };
            let twice = async {
                let signal = signals.next().await;
                tracing::info!(signal, "asked to stop");
                let _ = stop.send(());
                let signal = signals.next().await;
                tracing::warn!(signal, "asked to stop again: running calls are given up");
            };
            tokio::select! {
                () = server.run(shutdown, config.grace) => {}
                () = twice => {}
            }
            Ok(())
        })
    }
}

/// Refuses a configuration that grants what is not there: a guest would fail by it, far away, and
/// its author be blamed.
fn check_grants(config: &Config) -> Result<(), Failure> {
    for (name, path) in &config.grants.directories {
        if path.is_relative() {
            let message = format!("grants.directories.{name}: {} is relative", path.display());
            return Err(Failure::usage(message).help("write the path from / on"));
        }
        if !path.is_dir() {
            let message = format!(
                "grants.directories.{name}: {} is no directory",
                path.display()
            );
            return Err(Failure::usage(message).help("make it, or take the grant out"));
        }
    }
    Ok(())
}

/// Asks the system for all the descriptors that this process may have. Guests that read files need
/// many, and by default there are few, for the sake of programs that this is none of.
fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "no more descriptors than the default");
    }
}

/// Says which address cannot be had, and where to listen instead.
fn bind_failure(error: ServerError) -> Failure {
    let ServerError::Bind(BindError::Socket { address, source }) = &error else {
        return Failure::of(Exit::Local, &error);
    };
    let (ip, port) = (address.ip(), address.port());
    match source.kind() {
        ErrorKind::AddrInUse => Failure::new(
            Exit::Local,
            format!("{address} is taken: another program listens there, perhaps another host"),
        )
        .help(format!(
            "stop it, or listen at a free port: spore host --listen {}",
            SocketAddr::new(ip, 0)
        )),
        ErrorKind::AddrNotAvailable => {
            Failure::new(Exit::Local, format!("{ip} is no address of this machine")).help(format!(
                "listen at all of its addresses: spore host --listen 0.0.0.0:{port}"
            ))
        }
        _ => Failure::of(Exit::Local, &error),
    }
}

/// Reads the configuration: the file that is named, or that in the user's folder if there is one.
pub(crate) fn config(named: Option<&Path>, home: &Home) -> Result<Config, Failure> {
    let path = named.map_or_else(|| home.config_path(), Path::to_owned);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // Only the one that was named has to be there.
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
            return Ok(Config::default());
        }
        Err(error) => {
            return Err(Failure::usage(format!(
                "cannot read {}: {error}",
                path.display()
            )));
        }
    };
    Config::parse(&text).map_err(|error| {
        Failure::usage(format!(
            "{}: {}",
            path.display(),
            crate::exit::chain(&error)
        ))
    })
}

/// Lets the user who starts a new host use it: where there is no `authorized_keys` yet.
fn authorize_starter(home: &Home) -> Result<(), Failure> {
    let path = home.authorized_keys_path();
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let key = home.identity()?.public();
    let comment = "the user who started this host first".to_owned();
    let options = KeyOptions {
        comment,
        ..KeyOptions::default()
    };
    let text = authorized_keys::authorize("", &key, &options).or_exit(Exit::Local)?;
    write_private(&path, &text)?;
    tracing::info!(%key, file = %path.display(), "the user who starts this host is authorised");
    Ok(())
}

/// `ADDRESS:PORT`, or an address alone, for clap.
fn address(text: &str) -> Result<SocketAddr, String> {
    let alone = |_| {
        text.parse()
            .map(|address: IpAddr| SocketAddr::new(address, PORT_DEFAULT))
    };
    text.parse()
        .or_else(alone)
        .map_err(|_| "an address is like 127.0.0.1:7473, 0.0.0.0:0 or [::]:7473".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        for (text, expected) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1", "127.0.0.1:7473"),
            ("[::1]:1", "[::1]:1"),
            ("::1", "[::1]:7473"),
        ] {
            assert_eq!(
                address(text).map(|address| address.to_string()),
                Ok(expected.to_owned())
            );
        }
        address("localhost:1").expect_err("a name");
    }
}
