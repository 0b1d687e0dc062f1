//! `spore capture`: binds what a callable captures.

use std::path::PathBuf;

use spore_client::Bundle;

use crate::exit::Failure;
use crate::{arguments, output};

/// Bind what a callable captures, and write the bundle that results
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore capture closure.spore scale '{\"factor\": 3.0}' -o triple.spore
  spore run triple.spore '[14.0]'")]
pub(crate) struct Capture {
    /// The bundle
    file: PathBuf,
    /// The callable: its name in full, or the last part
    callable: String,
    /// The captures by name: a JSON object, @FILE, or - for standard input
    #[arg(value_name = "JSON")]
    captures: String,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

impl Capture {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let captures = arguments::json("the captures", &self.captures)?;
        let bound = Bundle::open(&self.file)?
            .callable(&self.callable)?
            .capture(&captures)?;
        let bundle = bound.bundle().expect("it was opened from a file");
        let file = bundle.inner().encode();
        output::write_file(&self.output, &file)?;
        output::print(&format!(
            "{}\n  bundle  {}\n  size    {}\n",
            self.output.display(),
            bundle.id(),
            output::size(file.len() as u64)
        ))
    }
}
