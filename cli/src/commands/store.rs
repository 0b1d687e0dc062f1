//! `spore store`: the blobs that the host of this user keeps on disk.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use spore_bundle::limits::MANIFEST_BYTES_MAX;
use spore_bundle::{BundleId, Manifest};
use spore_client::Home;
use spore_host::store::{Listed, Store, StoreError};
use spore_transport::BlobId;

use crate::connect::home;
use crate::exit::{Exit, Failure, OrExit};
use crate::{arguments, output};

/// List, remove and shrink the bundles that the host of this user keeps on disk
#[derive(Args)]
#[command(after_help = "\
Example:
  spore store ls
  spore store gc --max 1GiB

A bundle is stored as up to three blobs: its manifest, by the id of the bundle; its code; its
state. Code and state may be shared by bundles. `rm` and `gc` need the host to be stopped.
Sessions and jobs are not among them: see `kept` in the host's spore.toml.")]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Ls(Ls),
    Rm(Rm),
    Gc(Gc),
}

impl StoreCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let home = home()?;
        match self.action {
            Action::Ls(command) => command.run(&home),
            Action::Rm(command) => command.run(&home),
            Action::Gc(command) => command.run(&home),
        }
    }
}

/// List the blobs, the longest unused first
#[derive(Args)]
#[command(after_help = "\
Example:
  spore store ls --json | jq '.[].bytes'")]
struct Ls {
    /// One JSON array
    #[arg(long)]
    json: bool,
}

impl Ls {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let blobs = Store::look(&home.store_path()).or_exit(Exit::Local)?;
        if self.json {
            return output::print_json(&blobs.iter().map(to_json).collect());
        }
        let rows: Vec<_> = blobs
            .iter()
            .map(|blob| {
                let what = manifest(blob).map(|it| format!("{} {}", it.name, it.version));
                [
                    blob.id.to_string(),
                    output::size(blob.bytes),
                    format!("used {} ago", ago(blob.used)),
                    output::plain(&what.unwrap_or_default()),
                ]
            })
            .collect();
        let bytes = blobs.iter().map(|blob| blob.bytes).sum();
        let sum = format!("{} blobs, {}\n", blobs.len(), output::size(bytes));
        output::print(&(output::table(0, &rows) + &sum))
    }
}

fn to_json(blob: &Listed) -> Json {
    let used = blob
        .used
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let owners: Vec<_> = blob.owners.iter().map(ToString::to_string).collect();
    let bundle = manifest(blob).map(|it| json!({ "name": it.name, "version": it.version }));
    json!({
        "id": blob.id.to_string(),
        "bytes": blob.bytes,
        "used_unix_s": used.as_secs(),
        "owners": owners,
        "bundle": bundle,
    })
}

/// The manifest that the blob is, if it is one.
fn manifest(blob: &Listed) -> Option<Manifest> {
    if blob.bytes > MANIFEST_BYTES_MAX {
        return None;
    }
    let bytes = std::fs::read(&blob.path).ok()?;
    if BundleId::of(&bytes).as_bytes() != blob.id.as_bytes() {
        return None;
    }
    Manifest::decode(&bytes).ok()
}

/// How long ago, in its largest unit.
fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Remove a blob, for every key that has uploaded it
#[derive(Args)]
#[command(after_help = "\
Example:
  spore store rm 3f09…        the whole id, as `spore store ls` prints it")]
struct Rm {
    /// The id of a bundle, or of code or state
    id: BundleId,
}

impl Rm {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let store = open(home, u64::MAX)?;
        if !store
            .remove(&BlobId(*self.id.as_bytes()))
            .or_exit(Exit::Local)?
        {
            return Err(Failure::usage(format!("the store has no blob {}", self.id)));
        }
        output::print(&format!("removed {}\n", self.id))
    }
}

/// Remove blobs until the rest fits: the longest unused, of the key that holds most
#[derive(Args)]
#[command(after_help = "\
Example:
  spore store gc --max 1GiB")]
struct Gc {
    /// How much may stay [default: the store's limit in spore.toml]
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    max: Option<u64>,
    /// Where the limit is configured [default: spore.toml in the folder of configuration]
    #[arg(long, value_name = "FILE", conflicts_with = "max")]
    config: Option<PathBuf>,
}

impl Gc {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let max = match self.max {
            Some(max) => max,
            None => {
                super::host::config(self.config.as_deref(), home)?
                    .limits
                    .store
            }
        };
        let store = open(home, max)?;
        let gone = store.shrink_to(max).or_exit(Exit::Local)?;
        let (count, bytes) = store.amount();
        let ids: String = gone.iter().map(|id| format!("removed {id}\n")).collect();
        let size = output::size(bytes);
        output::print(&format!(
            "{ids}{} removed; {count} blobs left, {size}\n",
            gone.len()
        ))
    }
}

fn open(home: &Home, limit: u64) -> Result<Store, Failure> {
    Store::open(&home.store_path(), limit).map_err(|error| match error {
        StoreError::InUse { .. } => Failure::of(Exit::Local, &error)
            .help("stop it first; while it runs, it keeps within its own limit"),
        _ => Failure::of(Exit::Local, &error),
    })
}
