//! Signals that ask the command to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure, OrExit};

/// SIGTERM and Ctrl-C, caught from now on: the system's own way to end the process no longer
/// holds.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called on a runtime with I/O.
    pub(crate) fn catch() -> Result<Signals, Failure> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).or_exit(Exit::Local)?,
            interrupt: signal(SignalKind::interrupt()).or_exit(Exit::Local)?,
        })
    }

    /// Waits for the next, and names it. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
