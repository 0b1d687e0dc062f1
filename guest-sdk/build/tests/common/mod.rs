//! Guest crates written to disk for tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace that this crate is in: cargo runs tests in the folder of their crate, which need not be
/// where they were compiled.
pub(crate) fn workspace() -> PathBuf {
    let path = Path::new("../..").canonicalize();
    path.expect("this crate lies two folders down")
}

/// A folder for tests that stays from run to run, so that what is compiled in it does too.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("spore-build")
        .join(name);
    fs::create_dir_all(&path).expect("the folder for tests can be written");
    path
}

/// Where the guests of tests are compiled.
pub(crate) fn target_dir() -> PathBuf {
    scratch("target")
}

/// Writes a file, unless it is there with the same bytes: cargo goes by times.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("it is ours");
        fs::write(path, bytes).expect("it is ours");
    }
}

/// Writes a workspace of guest crates in the scratch folder `name`, given their names,
/// lines of dependencies, and sources. They use the SDK where it is. Returns the workspace's folder.
pub(crate) fn guests(name: &str, crates: &[(&str, &str, &str)]) -> PathBuf {
    let root = scratch(name);
    let members: Vec<_> = crates
        .iter()
        .map(|(name, ..)| format!("\"{name}\""))
        .collect();
    write(
        &root.join("Cargo.toml"),
        format!(
            "[workspace]\nresolver = \"3\"\nmembers = [{}]\n",
            members.join(", ")
        ),
    );
    pin(&root);
    let sdk = workspace().join("guest-sdk");
    for (name, dependencies, source) in crates {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\nspore-guest = {{ path = {sdk:?} }}\n{dependencies}\n"
        );
        write(&root.join(name).join("Cargo.toml"), &manifest);
        write(&root.join(name).join("src/lib.rs"), source);
    }
    root
}

/// Gives a new workspace the versions of dependencies that this one has tested.
pub(crate) fn pin(root: &Path) {
    if !root.join("Cargo.lock").exists() {
        fs::copy(workspace().join("Cargo.lock"), root.join("Cargo.lock")).expect("it is there");
    }
}

/// Copies a folder with everything in it but target folders.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is there");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type().expect("it is there").is_dir() {
            write(&to, fs::read(from).expect("it is there"));
        } else if entry.file_name() != "target" {
            copy(&from, &to);
        }
    }
}
