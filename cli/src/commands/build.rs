//! `spore build`: a guest crate becomes a bundle.

use std::path::{Path, PathBuf};

use spore_build::{BuildError, DescribeError, Guest};

use crate::exit::{Exit, Failure, OrExit};
use crate::{hint, output, signature};

/// Most crates of a folder that are named.
const CRATES_MAX: usize = 3;

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
        if let Some(target_dir) = &self.target_dir {
            guest = guest.target_dir(target_dir);
        }
        let built = guest.build().map_err(|error| self.failure(&error))?;
        for warning in &built.warnings {
            output::to_stderr(format!("{}\n", output::Lines(warning.trim_end())).as_bytes());
        }

        std::fs::create_dir_all(&self.output).or_exit(Exit::Local)?;
        // Without the `./` that a person did not write.
        let here = self.output.as_path() == Path::new(".");
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

    fn failure(&self, error: &BuildError) -> Failure {
        const NEW: &str = "`spore new NAME` makes a guest crate to begin with";
        let usage = Failure::of(Exit::Usage, error);
        match error {
            BuildError::NoManifest { .. } if self.path.is_file() => {
                let message = format!("{} is a file", self.path.display());
                Failure::usage(message).help("give the folder in which the crate's Cargo.toml is")
            }
            BuildError::NoManifest { .. } => match crates_in(&self.path) {
                Some(found) => usage.help(found),
                None => usage
                    .help("give the folder of a crate: spore build PATH")
                    .help(NEW),
            },
            BuildError::NotAPackage { .. } => match crates_in(&self.path) {
                Some(found) => usage.help(found),
                None => usage,
            },
            BuildError::NoLibrary { .. } => usage
                .help("a program is no guest: what is to be shipped has a library of its own")
                .help(NEW),
            BuildError::Manifest { .. } => usage,
            BuildError::Describe(DescribeError::NoCallables) => {
                Failure::of(Exit::Local, error).help(NEW)
            }
            _ => Failure::of(Exit::Local, error),
        }
    }
}

/// Which commands build the crates that lie in a folder, if some do.
fn crates_in(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let folders = entries.map(|entry| entry.path());
    let mut crates: Vec<_> = folders
        .filter(|folder| folder.join("Cargo.toml").is_file())
        .map(|folder| {
            // Without the `./` that a person did not write.
            let folder = folder.strip_prefix(".").unwrap_or(&folder);
            hint::shell(["spore", "build", &folder.to_string_lossy()])
        })
        .collect();
    crates.sort();
    crates.truncate(CRATES_MAX);
    (!crates.is_empty()).then(|| format!("perhaps: {}", crates.join(", or: ")))
}
