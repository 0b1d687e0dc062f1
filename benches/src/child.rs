//! Processes of this same program at the other end of a connection.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child as Process, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::log::Log;

/// The subcommand of a host.
pub(crate) const HOST: &str = "child-host";
/// The subcommand of quinn alone.
pub(crate) const ECHO: &str = "child-echo";

/// A process at the other end. It ends when this is dropped, and by itself when this process dies:
/// then its standard input ends.
pub(crate) struct Child {
    process: Process,
    stdin: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
}

impl Child {
    /// Starts this program with these arguments, and waits until it says where it listens.
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Child> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let stdin = process.stdin.take();
        let mut line = String::new();
        let read = stdout.read_line(&mut line);
        let mut child = Child {
            process,
            stdin,
            address: SocketAddr::from(([0; 4], 0)),
            log: Log::of(stdout),
        };
        read?;
        child.address = line.trim().parse().context("the other end did not start")?;
        Ok(child)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait();
    }
}

/// In the child: says where it listens.
pub(crate) fn announce(address: SocketAddr) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address}")?;
    Ok(stdout.flush()?)
}

/// In the child: ready once the parent wants it to end, or is gone.
pub(crate) fn dismissed() -> oneshot::Receiver<()> {
    let (dismiss, dismissed) = oneshot::channel();
    std::thread::spawn(move || {
        // Nothing is ever written; it ends with an end of file or an error.
        let _ = std::io::stdin().read(&mut [0]);
        let _ = dismiss.send(());
    });
    dismissed
}

/// The runtime of one thread that each side of each connection has for its I/O.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}
