//! What cargo says of the crate, and of the crates beside it that it is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cargo::Cargo;
use crate::guest::BuildError;

/// A guest crate on disk.
pub(crate) struct Project {
    /// Its `Cargo.toml`
    pub(crate) manifest: PathBuf,
    /// The name of its library, as the compiler has it
    pub(crate) crate_name: String,
    pub(crate) version: String,
    pub(crate) workspace_root: PathBuf,
    /// The target folder of its workspace
    pub(crate) target_dir: PathBuf,
    /// The crate and those that it reaches by path
    pub(crate) local: Vec<Local>,
}

/// A crate that comes from a path.
pub(crate) struct Local {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Where its library and its build script begin
    pub(crate) roots: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Clone, Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Clone, Deserialize)]
struct Dependency {
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Project {
    /// Reads the crate whose `Cargo.toml` is at `manifest`, an absolute path.
    pub(crate) fn read(cargo: &Cargo, manifest: PathBuf) -> Result<Self, BuildError> {
        let Metadata {
            packages,
            workspace_root,
            target_directory,
        } = metadata(cargo, &manifest)?;
        let mut known: BTreeMap<PathBuf, Package> = packages
            .into_iter()
            .map(|package| (package.manifest_path.clone(), package))
            .collect();
        let package = known
            .get(&manifest)
            .ok_or_else(|| BuildError::NotAPackage {
                manifest: manifest.clone(),
            })?;
        let library = package
            .targets
            .iter()
            .find(|target| target.is_library())
            .ok_or_else(|| BuildError::NoLibrary {
                manifest: manifest.clone(),
            })?;
        let crate_name = library.name.replace('-', "_");
        let version = package.version.clone();
        let local = local(cargo, &manifest, &mut known)?;
        Ok(Self {
            manifest,
            crate_name,
            version,
            workspace_root,
            target_dir: target_directory,
            local,
        })
    }

    /// Files and folders whose change may change what is built, as far as they are known before
    /// it is.
    pub(crate) fn sources(&self) -> BTreeSet<PathBuf> {
        let mut sources = BTreeSet::from([
            self.workspace_root.join("Cargo.toml"),
            self.workspace_root.join("Cargo.lock"),
        ]);
        for Local { folder, roots, .. } in &self.local {
            sources.insert(folder.join("Cargo.toml"));
            for root in roots {
                match root.parent() {
                    // Everything below it, so that a new module counts too.
                    Some(parent) if parent != folder => sources.insert(parent.to_owned()),
                    // The folder itself would have the target folder in it.
                    _ => sources.insert(root.clone()),
                };
            }
        }
        sources
    }
}

impl Target {
    fn is_library(&self) -> bool {
        let libraries = ["lib", "rlib", "dylib", "cdylib", "staticlib"];
        self.kind
            .iter()
            .any(|kind| libraries.contains(&kind.as_str()))
    }

    fn is_compiled(&self) -> bool {
        let others = ["proc-macro", "custom-build"];
        self.is_library() || self.kind.iter().any(|kind| others.contains(&kind.as_str()))
    }
}

/// The crate at `manifest` and all that it reaches by path, itself first.
fn local(
    cargo: &Cargo,
    manifest: &Path,
    known: &mut BTreeMap<PathBuf, Package>,
) -> Result<Vec<Local>, BuildError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([manifest.to_owned()]);
    let mut next = vec![manifest.to_owned()];
    while let Some(manifest) = next.pop() {
        if !known.contains_key(&manifest) {
            // It lies outside the workspaces seen so far.
            let others = metadata(cargo, &manifest)?.packages.into_iter();
            known.extend(others.map(|package| (package.manifest_path.clone(), package)));
        }
        let Some(Package {
            name,
            targets,
            dependencies,
            ..
        }) = known.get(&manifest)
        else {
            continue;
        };
        let dependencies = dependencies
            .iter()
            .filter(|each| each.kind.as_deref() != Some("dev"));
        for path in dependencies.filter_map(|each| each.path.as_ref()) {
            let manifest = path.join("Cargo.toml");
            if seen.insert(manifest.clone()) {
                next.push(manifest);
            }
        }
        found.push(Local {
            name: name.clone(),
            folder: manifest.parent().unwrap_or(Path::new("/")).to_owned(),
            roots: targets
                .iter()
                .filter(|t| t.is_compiled())
                .map(|t| t.src_path.clone())
                .collect(),
        });
    }
    Ok(found)
}

fn metadata(cargo: &Cargo, manifest: &Path) -> Result<Metadata, BuildError> {
    // Without dependencies nothing is fetched: those of other members and other targets are not
    // needed, and may not be there.
    let mut command = cargo.command("metadata", manifest);
    command.args(["--format-version", "1", "--no-deps"]);
    let output = cargo.output(command)?;
    if !output.status.success() {
        return Err(BuildError::Manifest {
            manifest: manifest.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    serde_json::from_slice(&output.stdout).map_err(BuildError::CargoOutput)
}
