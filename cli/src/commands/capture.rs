//! `spore capture`: binds what a callable captures.

use std::path::PathBuf;

use spore_client::Bundle;

use crate::arguments::{self, BUNDLE_LIMITS};
use crate::exit::{Exit, Failure};
use crate::{hint, output};

/// Bind what a callable captures, and write the bundle that results
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore capture closure.spore scale '{\"factor\": 3.0}' -o triple.spore
  spore run triple.spore '[14.0]'")]
#[command(override_usage = "spore capture --output <OUT> <FILE> <CALLABLE> <JSON>")]
pub(crate) struct Capture {
    /// The bundle
    file: PathBuf,
    /// The callable: its name in full, or the last part
    callable: String,
    /// The captures by name: a JSON object, @FILE, or - for standard input
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    captures: Option<String>,
    /// Words too many, to say what was meant
    #[arg(hide = true, allow_negative_numbers = true)]
    more: Vec<String>,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

impl Capture {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::open_with(&self.file, &BUNDLE_LIMITS)?;
        let Some(captures) = &self.captures else {
            return Err(self.lacking(&bundle));
        };
        let callee = bundle.callable(&self.callable)?;
        let words = [captures].into_iter().chain(&self.more);
        let words: Vec<_> = words.map(String::as_str).collect();
        let captures = arguments::captures(&callee, &words, |json| {
            self.command(&self.callable, &hint::shell([json]))
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

    /// One word stands where the callable and its captures are expected.
    fn lacking(&self, bundle: &Bundle) -> Failure {
        let callables = &bundle.inner().manifest().callables;
        let named = bundle.callable(&self.callable);
        let failure = match (&named, hint::may_name_a_callable(&self.callable)) {
            (Ok(callee), _) => {
                Failure::usage(format!("the captures of {} are not given", callee.name()))
            }
            (Err(_), false) => Failure::usage("the callable is not named"),
            (Err(error), true) => return Failure::of(Exit::Usage, error),
        };
        let given = named
            .is_err()
            .then(|| hint::shell([self.callable.as_str()]));
        callables
            .iter()
            .filter(|callable| match &named {
                Ok(callee) => callee.name() == callable.name,
                Err(_) => !callable.signature.captures.is_empty(),
            })
            .fold(failure, |failure, callable| {
                let to_fill_in = || hint::captures_to_fill_in(&callable.signature);
                let captures = given.clone().unwrap_or_else(to_fill_in);
                failure.help(self.command(callable.short_name(), &captures))
            })
    }

    /// This command for another callable, with these captures as a shell takes them.
    fn command(&self, callable: &str, captures: &str) -> String {
        let start = ["spore", "capture", &self.file.to_string_lossy(), callable].map(str::to_owned);
        let start = hint::shell(start.iter().map(String::as_str));
        let end = hint::shell(["-o", &self.output.to_string_lossy()]);
        format!("{start} {captures} {end}")
    }
}
