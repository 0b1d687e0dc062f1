//! `spore key ls`: whom the user's host serves, and which hosts the user trusts.

use clap::Args;
use serde_json::{Value as Json, json};
use spore_client::{Home, PublicKey, read_or_empty};
use spore_transport::{AuthorizedKeys, KeyOptions, KnownHosts};

use crate::exit::Failure;
use crate::output::{self, plain};

/// List the keys that the host of this user serves, with their options, and the trusted hosts
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key ls
  spore key ls --json | jq -r '.authorized[].key'")]
pub(crate) struct Ls {
    /// One JSON object: authorized, trusted
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(crate) fn run(self, home: &Home) -> Result<(), Failure> {
        let authorized = AuthorizedKeys::parse(&read_or_empty(&home.authorized_keys_path())?)
            .map_err(|error| super::bad_file(home, &error))?;
        let trusted = home.known_hosts()?;
        if self.json {
            return output::print_json(&json!({
                "authorized": authorized.iter().map(key_json).collect::<Json>(),
                "trusted": trusted.iter().map(host_json).collect::<Json>(),
            }));
        }
        output::print(&text(home, &authorized, &trusted))
    }
}

fn text(home: &Home, authorized: &AuthorizedKeys, trusted: &KnownHosts) -> String {
    let section = |what: &str, path: std::path::PathBuf, rows: Vec<[String; 2]>| {
        let rows = match rows[..] {
            [] => "  none\n".to_owned(),
            _ => output::table(2, &rows),
        };
        format!("{what} ({})\n{rows}", path.display())
    };
    let keys = authorized
        .iter()
        .map(|(key, options)| [key.to_string(), plain(&options.to_string())]);
    let hosts = trusted
        .iter()
        .map(|(host, key)| [plain(host), key.to_string()]);
    let keys = section(
        "keys that this user's host serves",
        home.authorized_keys_path(),
        keys.collect(),
    );
    let hosts = section(
        "hosts that this user trusts",
        home.known_hosts_path(),
        hosts.collect(),
    );
    format!("{keys}\n{hosts}")
}

/// A key by the names that its options have on a line, absent ones as `null`.
fn key_json((key, options): (&PublicKey, &KeyOptions)) -> Json {
    let KeyOptions {
        grants,
        wall,
        memory_bytes,
        running,
        queued,
        stored_bytes,
        comment,
    } = options;
    json!({
        "key": key.to_string(),
        "grants": grants,
        "wall_ms": wall.map(|wall| u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        "memory_bytes": memory_bytes,
        "running": running,
        "queued": queued,
        "stored_bytes": stored_bytes,
        "comment": comment,
    })
}

fn host_json((host, key): (&str, &PublicKey)) -> Json {
    json!({ "host": host, "key": key.to_string() })
}
