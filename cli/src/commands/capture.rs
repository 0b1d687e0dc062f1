//! `spore capture`: binds what a callable captures.

use std::path::PathBuf;

use spore_client::Bundle;

use crate::arguments::{self, BUNDLE_LIMITS};
use crate::exit::Failure;
use crate::{hint, output};

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
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    captures: String,
    /// Words too many, to say what was meant
    #[arg(hide = true, allow_negative_numbers = true)]
    more: Vec<String>,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

impl Capture {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let callee = Bundle::open_with(&self.file, &BUNDLE_LIMITS)?.callable(&self.callable)?;
        let words = [&self.captures].into_iter().chain(&self.more);
        let words: Vec<_> = words.map(String::as_str).collect();
        let captures = arguments::captures(&callee, &words, |json| {
            let (file, output) = (self.file.to_string_lossy(), self.output.to_string_lossy());
            let words = [
                "spore",
                "capture",
                &file,
                &self.callable,
                json,
                "-o",
                &output,
            ];
            hint::shell(words)
        })?;
        let bound = callee.capture(&captures)?;
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
