//! `spore bake`: a plain module that begins as an image left off.

use std::path::PathBuf;

use spore_bundle::module;
use spore_client::Bundle;

use crate::exit::Failure;
use crate::output;

/// Write a plain Wasm module that begins in the state of a bundle's image
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore bake five.spore -o five.wasm

The image of the bundle, as `spore session save` makes it, becomes data segments and globals.
The module starts in that state in any Wasm runtime with WASI (preview 1), without Spore. It has
neither start function nor _initialize, since both have run, and imports nothing of Spore's: a
panic traps there without its message. Its exports are called as docs/ABI.md says.")]
pub(crate) struct Bake {
    /// A bundle with an image
    file: PathBuf,
    /// The module to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

impl Bake {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::open(&self.file)?;
        let Some(image) = bundle.inner().image() else {
            let message = format!("{} has no image to bake", self.file.display());
            return Err(Failure::usage(message)
                .help("spore session save ID -o FILE writes a bundle that has one"));
        };
        let baked = module::bake(bundle.inner().code(), image).and_then(module::detach);
        let baked = baked.map_err(|error| {
            let why = crate::exit::chain(&error);
            Failure::usage(format!("{}: {why}", self.file.display()))
        })?;
        output::write_file(&self.output, &baked)?;
        if image.index().run.is_some() {
            let what =
                "note: the image holds a run, which nothing but a host of jobs goes on with\n";
            output::to_stderr(what.as_bytes());
        }
        output::print(&format!(
            "{}\n  size    {}\n  memory  {} of it changed\n",
            self.output.display(),
            output::size(baked.len() as u64),
            output::size(image.changed_bytes()),
        ))
    }
}
