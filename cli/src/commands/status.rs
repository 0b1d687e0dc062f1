//! `spore status`: what a host says of itself.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use spore_client::{StatusReport, with_port};
use spore_transport::units::{duration_text, size_text};

use crate::arguments::{self, Trust};
use crate::connect::{connect, runtime};
use crate::exit::Failure;
use crate::output::{self, plain, size};

/// Show a host: version, architecture, limits, what it keeps, and its calls
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore status board.local
  spore status board.local --json | jq .finished")]
pub(crate) struct Status {
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT
    #[arg(value_parser = arguments::host)]
    host: String,
    #[command(flatten)]
    trust: Trust,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let report = runtime()?.block_on(async {
            let host = connect(&self.host, self.trust).await?;
            let report = host.status().await;
            host.close().await;
            Ok::<_, Failure>(report?)
        })?;
        let host = with_port(&self.host);
        if self.json {
            output::print_json(&to_json(&host, &report))
        } else {
            output::print(&to_text(&host, &report))
        }
    }
}

fn to_json(host: &str, report: &StatusReport) -> Json {
    let limits: Map<_, _> = report
        .limits
        .iter()
        .map(|limit| (limit.name.clone(), limit.value.into()))
        .collect();
    let running: Json = report
        .running
        .iter()
        .map(|call| {
            json!({
                "bundle": call.bundle.to_string(),
                "callable": call.callable,
                "run_ms": call.run_ms,
            })
        })
        .collect();
    let finished = &report.finished;
    json!({
        "host": host,
        "version": report.version,
        "architecture": report.architecture,
        "os": report.os,
        "protocol": report.protocol,
        "uptime_ms": report.uptime_ms,
        "workers": report.workers,
        "cached_code": { "count": report.cached_code.count, "bytes": report.cached_code.bytes },
        "stored_blobs": { "count": report.stored_blobs.count, "bytes": report.stored_blobs.bytes },
        "running": running,
        "running_count": report.running_count,
        "queued": report.queued,
        "finished": {
            "ok": finished.ok,
            "guest_errors": finished.guest_errors,
            "failed": finished.failed,
            "refused": finished.refused,
            "cancelled": finished.cancelled,
        },
        "limits": limits,
    })
}

fn to_text(host: &str, report: &StatusReport) -> String {
    let StatusReport {
        cached_code,
        stored_blobs,
        finished,
        ..
    } = report;
    // Whole seconds: nobody reads more of it.
    let up = Duration::from_secs(report.uptime_ms / 1000);
    let mut text = format!(
        "{}: spore {} on {} {}, {}, up {}\n",
        plain(host),
        plain(&report.version),
        plain(&report.architecture),
        plain(&report.os),
        plain(&report.protocol),
        duration_text(up),
    );
    let kept = |count: u64, what: &str, bytes| format!("{count} {what}, {}", size(bytes));
    let rows = [
        ["workers", &report.workers.to_string()],
        [
            "compiled code",
            &kept(cached_code.count, "modules", cached_code.bytes),
        ],
        [
            "stored",
            &kept(stored_blobs.count, "blobs", stored_blobs.bytes),
        ],
        [
            "calls now",
            &format!("{} running, {} queued", report.running_count, report.queued),
        ],
        [
            "calls ended",
            &format!(
                "{} ok, {} with an error of the guest, {} panicked or trapped, {} refused, {} \
                 cancelled",
                finished.ok,
                finished.guest_errors,
                finished.failed,
                finished.refused,
                finished.cancelled
            ),
        ],
    ];
    text.push_str(&output::table(2, &rows.map(|row| row.map(str::to_owned))));

    if !report.running.is_empty() {
        text.push_str("\nrunning for this key\n");
        let row = |call: &spore_transport::status::RunningCall| {
            [
                plain(&call.callable),
                call.bundle.to_string(),
                format!("{} ms", call.run_ms),
            ]
        };
        let rows: Vec<_> = report.running.iter().map(row).collect();
        text.push_str(&output::table(2, &rows));
    }
    text.push_str("\nlimits for this key\n");
    let rows: Vec<_> = report
        .limits
        .iter()
        .map(|limit| limit_row(&limit.name, limit.value))
        .collect();
    text.push_str(&output::table(2, &rows));
    text
}

/// A limit by the name that `spore.toml` has for it, with the unit beside its value.
fn limit_row(name: &str, value: u64) -> [String; 2] {
    if let Some(name) = name.strip_suffix("_bytes") {
        return [plain(name), size_text(value)];
    }
    if let Some(name) = name.strip_suffix("_ms") {
        return [plain(name), duration_text(Duration::from_millis(value))];
    }
    [plain(name), value.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_they_are_configured() {
        assert_eq!(
            limit_row("memory_bytes", 256 << 20),
            ["memory", "256MiB"].map(str::to_owned)
        );
        assert_eq!(
            limit_row("wall_ms", 60_000),
            ["wall", "1m"].map(str::to_owned)
        );
        assert_eq!(limit_row("queue", 7), ["queue", "7"].map(str::to_owned));
    }

    #[test]
    fn a_host_cannot_act_on_the_terminal() {
        let report = StatusReport {
            version: "1\u{1b}[2J".to_owned(),
            ..StatusReport::default()
        };
        assert!(!to_text("h:1", &report).contains('\u{1b}'));
    }
}
