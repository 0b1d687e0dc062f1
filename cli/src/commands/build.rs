//! `spore build`: a guest crate becomes a bundle.

use std::path::PathBuf;

use spore_build::{BuildError, Guest};

use crate::exit::{Exit, Failure, OrExit};
use crate::{output, signature};

/// Compile a guest crate into a bundle
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore build hello -o out        writes out/hello.spore

The same source gives the same bytes in any folder, with the same toolchain.")]
pub(crate) struct Build {
    /// The folder of the crate
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The folder to write the bundle to, as CRATE.spore
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Compile in this folder instead of the crate's target folder
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Say nothing of cargo's progress
    #[arg(short, long)]
    quiet: bool,
}

impl Build {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut guest = Guest::at(&self.path).show_progress(!self.quiet);
        if let Some(target_dir) = self.target_dir {
            guest = guest.target_dir(target_dir);
        }
        let built = guest.build().map_err(|error| match &error {
            BuildError::NoManifest { .. }
            | BuildError::Manifest { .. }
            | BuildError::NotAPackage { .. }
            | BuildError::NoLibrary { .. } => Failure::of(Exit::Usage, &error),
            _ => Failure::of(Exit::Local, &error),
        })?;
        for warning in &built.warnings {
            output::to_stderr(format!("{}\n", output::Lines(warning.trim_end())).as_bytes());
        }

        std::fs::create_dir_all(&self.output).or_exit(Exit::Local)?;
        // Without the `./` that a person did not write.
        let here = self.output.as_path() == std::path::Path::new(".");
        let folder = if here { PathBuf::new() } else { self.output };
        let path = folder.join(format!("{}.spore", built.name));
        let file = built.bundle.encode();
        output::write_file(&path, &file)?;

        let callables = &built.bundle.manifest().callables;
        let mut text = format!(
            "{}\n  bundle  {}\n  size    {}\n",
            path.display(),
            built.bundle.id(),
            output::size(file.len() as u64)
        );
        for callable in callables {
            text.push_str(&format!("  {}\n", signature::line(callable)));
        }
        output::print(&text)
    }
}
