//! `spore key untrust`: forgets the key of a host.

use clap::Args;
use spore_client::{Home, with_port};

use crate::exit::Failure;
use crate::{arguments, output};

/// Forget the key of a host: it is asked about, or has to be given, the next time
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key untrust board.local

A host that is known by several names is forgotten by this one.")]
pub(crate) struct Untrust {
    /// The host, by the name that it is trusted by
    #[arg(value_parser = arguments::host)]
    host: String,
}

impl Untrust {
    pub(crate) fn run(self, home: &Home) -> Result<(), Failure> {
        let host = with_port(&self.host);
        let trusted = home.known_hosts()?;
        let Some(key) = trusted.pinned(&host) else {
            let path = home.known_hosts_path();
            let message = format!("{} has no key of {host}", path.display());
            return Err(Failure::usage(message).help(
                "`spore key ls` lists the hosts that are trusted, each by its name as typed",
            ));
        };
        home.unpin_host(&host)?;
        let mut text = format!("no longer trusted: {host} {key}\n");
        // Who forgets a host may not know that it has other names.
        for (name, other) in home.known_hosts()?.iter() {
            if *other == key {
                text.push_str(&format!("still trusted, with the same key: {name}\n"));
            }
        }
        output::print(&output::Lines(&text).to_string())
    }
}
