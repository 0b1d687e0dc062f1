//! Spore beside its floors, in one run. `README.md` says what each figure is.
#![forbid(unsafe_code)]

mod alone;
mod child;
mod echo;
mod figure;
mod generated;
mod log;
mod measure;
mod product;
mod statistics;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures Spore and, in the same run, what it is built on.
#[derive(Parser)]
#[command(name = "spore-bench")]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Only figures whose name contains this.
    filter: Option<String>,
}

/// The processes at the other end, which this program starts of itself.
#[derive(Subcommand)]
enum Child {
    /// Serves as a host.
    #[command(hide = true, name = child::HOST)]
    Host {
        /// The folder of its files.
        folder: PathBuf,
    },
    /// Answers as quinn alone.
    #[command(hide = true, name = child::ECHO)]
    Echo,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.child {
        Some(Child::Host { folder }) => product::serve(&folder),
        Some(Child::Echo) => echo::serve(),
        None => {
            let filter = arguments.filter.unwrap_or_default();
            let report = measure::all(&filter)?;
            if arguments.json {
                println!("{:#}", report.to_json());
            } else {
                print!("{report}");
            }
            Ok(())
        }
    }
}
