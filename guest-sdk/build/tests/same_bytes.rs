//! The same source gives the same bytes, whatever folder it is in.

mod common;

use std::fs;
use std::path::Path;

use spore_build::{Built, Guest};

const GUEST: &str = r#"
use spore_guest::prelude::*;

mod deeper;

/// The words of `text`, sorted.
#[callable]
pub fn words(#[capture] stop: &[String], text: &str) -> Vec<String> {
    deeper::words(stop, text)
}
"#;

/// Panics in it would carry the paths of a crate from the registry and of a file that the build
/// script wrote, which cargo passes to the compiler as they are on this machine.
const MODULE: &str = r#"
include!(concat!(env!("OUT_DIR"), "/made.rs"));

pub(crate) fn words(stop: &[String], text: &str) -> Vec<String> {
    let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
    words.retain(|word| !stop.contains(word));
    words.sort();
    assert!(words[0] != include_str!("../refused.txt").trim());
    let mut encoded = vec![0; words.len()];
    data_encoding::BASE64.encode_mut(text.as_bytes(), &mut encoded);
    words.truncate(made(encoded.len()));
    words
}
"#;

const BUILD_SCRIPT: &str = r#"
fn main() {
    let made = "fn made(limit: usize) -> usize { assert!(limit < 9, \"at {limit}\"); limit }";
    let out_dir = std::env::var("OUT_DIR").unwrap();
    std::fs::write(std::path::Path::new(&out_dir).join("made.rs"), made).unwrap();
}
"#;

/// A guest crate that carries the SDK's sources, as one that `spore new` makes.
fn guest_with_sdk(root: &Path) {
    let manifest = "[package]\nname = \"words\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\n\
                    [workspace]\nexclude = [\"sdk\"]\n\n\
                    [dependencies]\ndata-encoding = \"2\"\nspore-guest = { path = \"sdk/guest-sdk\" }\n";
    common::write(&root.join("Cargo.toml"), manifest);
    common::write(&root.join("src/lib.rs"), GUEST);
    common::write(&root.join("src/deeper.rs"), MODULE);
    common::write(&root.join("refused.txt"), "refused\n");
    common::write(&root.join("build.rs"), BUILD_SCRIPT);
    common::pin(root);

    let workspace = common::workspace();
    let members = [
        "value",
        "value/derive",
        "guest-sdk",
        "guest-sdk/abi",
        "guest-sdk/macros",
    ];
    for member in members {
        let (from, to) = (workspace.join(member), root.join("sdk").join(member));
        common::copy(&from.join("src"), &to.join("src"));
        let manifest = fs::read(from.join("Cargo.toml")).expect("it is there");
        common::write(&to.join("Cargo.toml"), manifest);
    }
    let manifest = fs::read_to_string(workspace.join("Cargo.toml")).expect("it is there");
    let start = manifest
        .find("members = [")
        .expect("the workspace has members");
    let end = start + manifest[start..].find(']').expect("the list ends") + 1;
    let manifest = format!(
        "{}members = {members:?}{}",
        &manifest[..start],
        &manifest[end..]
    );
    common::write(&root.join("sdk/Cargo.toml"), &manifest);
}

fn build(root: &Path) -> Built {
    Guest::at(root)
        .build()
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_same_source_gives_the_same_bytes_in_any_folder() {
    let folder = common::scratch("same-bytes");
    let near = folder.join("near");
    let far = folder.join("a folder/of another/depth/words-2");
    for root in [&near, &far] {
        guest_with_sdk(root);
    }
    let (near, far) = (build(&near), build(&far));
    assert_eq!(near.name, "words");
    assert_eq!(near.bundle.id(), far.bundle.id());
    assert_eq!(near.bundle.encode(), far.bundle.encode());

    let code = near.bundle.code();
    let home = std::env::home_dir().expect("there is one");
    for path in [&folder, &home, &common::workspace()] {
        let path = path.to_str().expect("it is text").as_bytes();
        let found = code.windows(path.len()).position(|window| window == path);
        assert_eq!(found, None, "{} is in the module", path.escape_ascii());
    }
    // Without these the test would prove nothing.
    for name in [
        "/cargo/registry/data-encoding-",
        "/target/wasm32-wasip1/",
        "src/deeper.rs",
    ] {
        let name = name.as_bytes();
        assert!(
            code.windows(name.len()).any(|window| window == name),
            "{}",
            name.escape_ascii()
        );
    }

    // What calls for another build, of which one file is named in the source only.
    let root = folder.canonicalize().expect("it is there").join("near");
    for source in [
        "src",
        "Cargo.toml",
        "Cargo.lock",
        "refused.txt",
        "sdk/value/src",
    ] {
        assert!(
            near.sources.contains(&root.join(source)),
            "{source}: {:?}",
            near.sources
        );
    }
    assert!(!near.sources.contains(&root), "the target folder is in it");
}
