//! What hosts log of their jobs, with the time: a job has no clock to see by how long it stood still.

use std::fmt;
use std::io::BufRead;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// The run of a job has come to a checkpoint at which it is to stop.
pub(crate) const STOPS: &str = "stops at a checkpoint";
/// The run of a job is polled next, in an instance that has its memory.
pub(crate) const GOES_ON: &str = "goes on from its image";

/// Longest time until a line is there that was written a moment ago.
const LINE_WAIT: Duration = Duration::from_secs(10);

/// In the child: writes what becomes of jobs to standard output.
pub(crate) fn write_jobs() {
    let filter = EnvFilter::new("spore_host::job=debug");
    let lines = tracing_subscriber::fmt().json().with_timer(SinceEpoch);
    lines.with_env_filter(filter).init();
}

/// The time of the system, in nanoseconds: two hosts on one machine have the same.
struct SinceEpoch;

impl FormatTime for SinceEpoch {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        write!(to, "{}", since.map_or(0, |since| since.as_nanos()))
    }
}

/// What a child logs.
pub(crate) struct Log(Receiver<String>);

impl Log {
    /// Reads it until the child ends.
    pub(crate) fn of(stdout: impl BufRead + Send + 'static) -> Log {
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody may want to know; the child is not to wait for that.
                let _ = lines.send(line);
            }
        });
        Log(log)
    }

    /// When this was logged of a job: the first time that nobody has asked for.
    pub(crate) fn when(&self, job: &str, what: &str) -> Result<Duration> {
        loop {
            let line = self.0.recv_timeout(LINE_WAIT);
            let line = line.with_context(|| format!("no host has logged that the job {what}"))?;
            let line: Value = serde_json::from_str(&line).context("a line of a host's log")?;
            let fields = &line["fields"];
            if fields["job"] == job && fields["message"] == what {
                let nanos = line["timestamp"]
                    .as_str()
                    .context("a line without a time")?;
                return Ok(Duration::from_nanos(nanos.parse()?));
            }
        }
    }
}
