//! A guest crate, and building it.

use std::io;
use std::path::{Path, PathBuf};

use spore_bundle::{Bundle, ModuleLimits, PackError};

use crate::cargo::{Cargo, Compiled, TARGET};
use crate::project::Project;
use crate::remap::Remap;
use crate::sandbox::{self, DescribeError};

/// A guest crate on disk, to be built.
#[derive(Clone, Debug)]
pub struct Guest {
    path: PathBuf,
    target_dir: Option<PathBuf>,
    show_progress: bool,
}

/// What [`Guest::build`] made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Built {
    /// The guest's code with its manifest, and no state.
    pub bundle: Bundle,
    /// The name of the crate as the compiler has it, such as `my_guest` for the package
    /// `my-guest`. A bundle's file is named after it.
    pub name: String,
    /// The compiler's warnings about the guest and the crates it reaches by path, as it rendered
    /// them.
    pub warnings: Vec<String>,
    /// Files and folders whose change calls for building again.
    pub sources: Vec<PathBuf>,
}

/// Why a guest was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no `Cargo.toml`.
    #[error("there is no guest crate at {}: {} is missing", .path.display(), .path.join("Cargo.toml").display())]
    NoManifest {
        /// Where it was looked for
        path: PathBuf,
    },
    /// Cargo refuses the crate's `Cargo.toml`.
    #[error("cargo cannot read {}:\n{message}", .manifest.display())]
    Manifest {
        /// The file
        manifest: PathBuf,
        /// What cargo says
        message: String,
    },
    /// The `Cargo.toml` is of a workspace and of no crate.
    #[error("{} is of a workspace: give the folder of one of its members", .manifest.display())]
    NotAPackage {
        /// The file
        manifest: PathBuf,
    },
    /// The crate has no library.
    #[error("{} has no library: callables stand in its src/lib.rs", .manifest.display())]
    NoLibrary {
        /// The crate's `Cargo.toml`
        manifest: PathBuf,
    },
    /// Cargo or the compiler could not be started.
    #[error("cannot run `{program}`; install Rust with rustup, https://rustup.rs")]
    Spawn {
        /// The program
        program: String,
        /// Why not
        #[source]
        source: io::Error,
    },
    /// The compiler does not answer.
    #[error("rustc says:\n{message}")]
    Rustc {
        /// What it says
        message: String,
    },
    /// The toolchain cannot compile for WebAssembly.
    #[error(
        "the Rust toolchain in {} lacks the target of guests; add it with `rustup target add \
         {TARGET}`", .sysroot.display()
    )]
    NoTarget {
        /// Where the toolchain is
        sysroot: PathBuf,
    },
    /// A path that has to be taken out of the code is not text.
    #[error("the path {} is not UTF-8; cargo can take no such path", .path.display())]
    PathNotText {
        /// The path
        path: PathBuf,
    },
    /// Cargo printed what it never prints.
    #[error("cargo's description of the crate cannot be read")]
    CargoOutput(#[source] serde_json::Error),
    /// The guest does not compile.
    #[error("the guest does not compile:\n{messages}")]
    Compile {
        /// The compiler's errors as it rendered them, or what cargo printed
        messages: String,
    },
    /// What was compiled cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file
        path: PathBuf,
        /// Why not
        #[source]
        source: io::Error,
    },
    /// The guest does not say what its callables are.
    #[error("the guest's callables cannot be described")]
    Describe(#[source] DescribeError),
    /// The guest makes no sound bundle.
    #[error("the guest cannot be packed")]
    Pack(#[source] PackError),
}

impl Guest {
    /// The guest crate in the folder `path`, which has its `Cargo.toml`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            target_dir: None,
            show_progress: false,
        }
    }

    /// Compiles in the folder `dir` instead of `spore-guests` in the target folder of the guest's
    /// workspace.
    ///
    /// It is never a target folder that an outer cargo uses: the two would wait for each other.
    /// Several guests may share it.
    #[must_use]
    pub fn target_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self {
            target_dir: Some(dir.into()),
            ..self
        }
    }

    /// Passes cargo's progress on to standard error while it works. Off by default.
    #[must_use]
    pub fn show_progress(self, show: bool) -> Self {
        Self {
            show_progress: show,
            ..self
        }
    }

    /// Compiles the guest and packs its bundle.
    ///
    /// The profile is `release`, set the same way whatever the workspace says, for one module that
    /// is optimised as a whole and keeps its names. No path of this machine is in the module, so
    /// that the same source gives the same bytes in any folder: the *source* is all that is in the
    /// folder of the guest's workspace. A crate that the guest reaches by a path outside that
    /// folder has to be at the same path to give the same bytes. Flags for the compiler, in the
    /// environment or in cargo's configuration, are not used.
    ///
    /// # Errors
    /// When anything is missing, the guest does not compile, or its callables cannot be had.
    pub fn build(&self) -> Result<Built, BuildError> {
        let manifest = self.manifest()?;
        let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
        let cargo = Cargo::new(folder, self.show_progress);
        let toolchain = cargo.toolchain()?;
        let project = Project::read(&cargo, manifest)?;

        let base = match &self.target_dir {
            Some(dir) => std::path::absolute(dir).map_err(|source| BuildError::Read {
                path: dir.clone(),
                source,
            })?,
            None => project.target_dir.join("spore-guests"),
        };
        let mut remap = Remap::new(&project, &toolchain);
        let compiled = loop {
            let target_dir = base.join(remap.key());
            let compiled =
                cargo.compile(&project.manifest, &target_dir, &remap.flags(&target_dir)?)?;
            // The first build on a machine fetches crates into folders that were not there.
            let now = Remap::new(&project, &toolchain);
            if now == remap {
                break compiled;
            }
            remap = now;
        };
        Self::pack(project, compiled)
    }

    fn pack(project: Project, compiled: Compiled) -> Result<Built, BuildError> {
        let Compiled {
            wasm,
            warnings,
            sources: files,
        } = compiled;
        let code = std::fs::read(&wasm).map_err(|source| BuildError::Read {
            path: wasm.clone(),
            source,
        })?;
        let descriptions = sandbox::describe(&code).map_err(BuildError::Describe)?;
        let mut sources = project.sources();
        let more: Vec<_> = files
            .into_iter()
            .filter(|file| !sources.iter().any(|source| file.starts_with(source)))
            .collect();
        sources.extend(more);
        let Project {
            crate_name: name,
            version,
            ..
        } = project;
        // How large code may be is for hosts to say, which can be told to take more.
        let bundle = Bundle::pack_within(&ModuleLimits::NONE, code, &name, &version, descriptions)
            .map_err(BuildError::Pack)?;
        Ok(Built {
            bundle,
            name,
            warnings,
            sources: sources.into_iter().collect(),
        })
    }

    /// The real path of the crate's `Cargo.toml`.
    fn manifest(&self) -> Result<PathBuf, BuildError> {
        let missing = || BuildError::NoManifest {
            path: self.path.clone(),
        };
        let manifest = self
            .path
            .join("Cargo.toml")
            .canonicalize()
            .map_err(|_| missing())?;
        if manifest.is_file() {
            Ok(manifest)
        } else {
            Err(missing())
        }
    }
}
