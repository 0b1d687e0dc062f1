//! Takes the paths of this machine out of what the compiler writes.
//!
//! Messages of panics carry paths of source files. Cargo passes those of the guest's own workspace
//! relative to its root; the others are absolute, and become names that are the same everywhere.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::cargo::Toolchain;
use crate::guest::BuildError;
use crate::project::Project;

/// What paths become.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remap {
    /// By the paths of this machine
    names: BTreeMap<PathBuf, String>,
}

impl Remap {
    /// What is known before the target folder is chosen.
    pub(crate) fn new(project: &Project, toolchain: &Toolchain) -> Self {
        let mut names = BTreeMap::new();
        for local in &project.local {
            if !local.folder.starts_with(&project.workspace_root) {
                names.insert(local.folder.clone(), format!("/path/{}", local.name));
            }
        }
        names.insert(project.workspace_root.clone(), "/guest".to_owned());
        // The compiler writes `/rustc/COMMIT` for the standard library, but the real path when
        // the component `rust-src` is there.
        if let Some(commit) = &toolchain.commit {
            let sources = toolchain.sysroot.join("lib/rustlib/src/rust");
            names.insert(sources, format!("/rustc/{commit}"));
        }
        for home in cargo_homes() {
            names.insert(home.join("git/checkouts"), "/cargo/git".to_owned());
            // Each registry and each mirror has a folder, named by its address.
            let registries = std::fs::read_dir(home.join("registry/src"));
            for registry in registries.into_iter().flatten().flatten() {
                names.insert(registry.path(), "/cargo/registry".to_owned());
            }
        }
        Self { names }
    }

    /// A name for what is compiled with these. Guests that share it can share a target folder:
    /// with other flags cargo would compile every dependency again.
    pub(crate) fn key(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.names.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// The flags, as cargo wants them in `CARGO_ENCODED_RUSTFLAGS`.
    ///
    /// Build scripts write sources into the target folder too.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub(crate) fn flags(&self, target_dir: &Path) -> Result<String, BuildError> {
        let mut names: Vec<(&Path, &str)> = self
            .names
            .iter()
            .map(|(path, name)| (path.as_path(), name.as_str()))
            .collect();
        names.push((target_dir, "/target"));
        // The compiler takes the last that fits: folders come before what is in them.
        names.sort_by_key(|(path, _)| path.components().count());
        let mut flags = String::new();
        for (path, name) in names {
            let text = path.to_str();
            let text = text.ok_or_else(|| BuildError::PathNotText {
                path: path.to_owned(),
            })?;
            if !flags.is_empty() {
                flags.push('\u{1f}');
            }
            flags.push_str(&format!("--remap-path-prefix={text}={name}"));
        }
        Ok(flags)
    }
}

/// Where cargo keeps what it has fetched, as it is written and as it really is.
fn cargo_homes() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let mut homes: Vec<_> = home.into_iter().collect();
    if let Some(real) = homes.first().and_then(|home| home.canonicalize().ok())
        && !homes.contains(&real)
    {
        homes.push(real);
    }
    homes
}
