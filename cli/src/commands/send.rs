//! `spore send`: ships a bundle ahead of its first call.

use std::path::PathBuf;

use spore_client::Bundle;

use crate::arguments::{self, BUNDLE_LIMITS, Trust};
use crate::connect::{connect, runtime};
use crate::exit::Failure;
use crate::output;

/// Ship a bundle to a host ahead of its first call, and print its id
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  id=$(spore send triple.spore --to board.local)
  spore run $id '[14.0]' --on board.local")]
pub(crate) struct Send {
    /// The bundle
    file: PathBuf,
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT
    // `run` has it as --on, and one is easily typed for the other.
    #[arg(long, value_name = "HOST", alias = "on", value_parser = arguments::host)]
    to: String,
    #[command(flatten)]
    trust: Trust,
}

impl Send {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::open_with(&self.file, &BUNDLE_LIMITS)?;
        let id = runtime()?.block_on(async {
            let host = connect(&self.to, self.trust).await?;
            let id = host.ship(&bundle).await;
            host.close().await;
            Ok::<_, Failure>(id?)
        })?;
        output::print(&format!("{id}\n"))
    }
}
