//! For build scripts of native programs.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::guest::{BuildError, Built, Guest};

/// Why [`try_embed`] embedded nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// Not called from a build script.
    #[error("OUT_DIR is not set: bundles are embedded from a build script")]
    NoOutDir,
    /// The guest was not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The bundle cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file
        path: PathBuf,
        /// Why not
        #[source]
        source: io::Error,
    },
}

/// Builds the guest crate at `path` and writes its bundle where `include_bytes!` finds it: to
/// `CRATE.spore` in `OUT_DIR`.
///
/// For build scripts. A relative path starts at the folder of the package that is being built. Cargo
/// is told to run the build script again when a source of the guest changes. When anything goes
/// wrong, the build ends with the reason.
pub fn embed(path: impl AsRef<Path>) {
    if let Err(error) = try_embed(path) {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message.push_str(&format!("\ncaused by: {error}"));
            cause = error.source();
        }
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

/// As [`embed`], for build scripts that go on after an error. Returns the bundle's path.
///
/// # Errors
/// When it is not called from a build script, the guest is not built, or the bundle is not written.
pub fn try_embed(path: impl AsRef<Path>) -> Result<PathBuf, EmbedError> {
    let path = path.as_ref();
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(EmbedError::NoOutDir)?);
    // Also when it does not build: the next try comes after a change.
    println!(
        "cargo::rerun-if-changed={}",
        path.join("Cargo.toml").display()
    );
    println!("cargo::rerun-if-changed={}", path.join("src").display());

    let guest = Guest::at(path).target_dir(target_dir(&out_dir).join("spore-guests"));
    let Built {
        bundle,
        name,
        warnings,
        sources,
    } = guest.build()?;
    for source in sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    for warning in warnings {
        let first = warning.lines().next().unwrap_or_default();
        println!("cargo::warning=guest {name}: {first}");
    }
    let file = out_dir.join(format!("{name}.spore"));
    std::fs::write(&file, bundle.encode()).map_err(|source| EmbedError::Write {
        path: file.clone(),
        source,
    })?;
    Ok(file)
}

/// The target folder of the build that `OUT_DIR` belongs to: `OUT_DIR` is
/// `TARGET/[TRIPLE/]PROFILE/build/PACKAGE/out`. What is compiled there goes with `cargo clean`.
fn target_dir(out_dir: &Path) -> &Path {
    // Cargo tags each folder that it makes as one to leave out of backups.
    let tagged = out_dir
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let profile = out_dir
        .ancestors()
        .find(|folder| folder.file_name() == Some(OsStr::new("build")))
        .and_then(Path::parent);
    tagged.or(profile).unwrap_or(out_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_target_folder_is_found() {
        let root = tempfile::tempdir().expect("a folder for tests");
        let out_dir = root
            .path()
            .join("target/x86_64/debug/build/program-0123/out");
        std::fs::create_dir_all(&out_dir).expect("it is new");
        assert_eq!(
            target_dir(&out_dir),
            root.path().join("target/x86_64/debug")
        );
        std::fs::write(root.path().join("target/CACHEDIR.TAG"), "").expect("it is there");
        assert_eq!(target_dir(&out_dir), root.path().join("target"));
    }
}
