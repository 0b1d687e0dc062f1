//! Guests that cannot be built, and what their authors are told.

mod common;

use std::path::Path;

use spore_build::{BuildError, DescribeError, Guest};

fn refusal(guest: &Path) -> BuildError {
    Guest::at(guest)
        .target_dir(common::target_dir())
        .build()
        .err()
        .unwrap_or_else(|| panic!("{} was built", guest.display()))
}

#[test]
fn a_folder_without_a_manifest() {
    let folder = common::scratch("empty");
    let refusal = refusal(&folder);
    assert!(matches!(&refusal, BuildError::NoManifest { path } if *path == folder));
    assert!(refusal.to_string().contains("Cargo.toml"), "{refusal}");
}

#[test]
fn a_manifest_of_no_guest() {
    let root = common::guests("no-guest", &[("program", "", "")]);
    assert!(matches!(refusal(&root), BuildError::NotAPackage { .. }));

    std::fs::rename(
        root.join("program/src/lib.rs"),
        root.join("program/src/main.rs"),
    )
    .expect("it was written");
    let no_library = refusal(&root.join("program"));
    assert!(
        matches!(no_library, BuildError::NoLibrary { .. }),
        "{no_library:?}"
    );

    let broken = common::scratch("broken");
    common::write(&broken.join("Cargo.toml"), "[package]\nname = 3\n");
    match refusal(&broken) {
        BuildError::Manifest { message, .. } => assert!(message.contains("name"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_compiler_says_is_passed_on() {
    let root = common::guests(
        "does-not-compile",
        &[
            ("broken", "", "pub fn f() -> u32 { \"text\" }"),
            ("lonely", "", "pub fn f() -> u32 { 1 }"),
            (
                "panics",
                "",
                "use spore_guest::value::{Describer, Type, Value};\n\
                 use spore_guest::callable;\n\
                 pub struct Odd;\n\
                 impl Value for Odd {\n\
                     fn describe(_: &mut Describer) -> Type { panic!(\"odd\") }\n\
                     fn serialize_value<S: spore_guest::value::__private::serde::Serializer>(&self, s: S)\n\
                         -> Result<S::Ok, S::Error> { s.serialize_unit() }\n\
                     fn deserialize_value<'de, D: spore_guest::value::__private::serde::Deserializer<'de>>(_: D)\n\
                         -> Result<Self, D::Error> { Ok(Odd) }\n\
                 }\n\
                 #[callable]\n\
                 pub fn odd(_odd: Odd) {}\n",
            ),
        ],
    );
    match refusal(&root.join("broken")) {
        BuildError::Compile { messages } => {
            assert!(messages.contains("mismatched types"), "{messages}");
            assert!(messages.contains("src/lib.rs:1:"), "{messages}");
        }
        other => panic!("{other:?}"),
    }
    let lonely = refusal(&root.join("lonely"));
    assert!(
        matches!(lonely, BuildError::Describe(DescribeError::NoCallables)),
        "{lonely:?}"
    );
    match refusal(&root.join("panics")) {
        BuildError::Describe(DescribeError::Import { name, .. }) => assert_eq!(name, "panics::odd"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dependency_that_is_not_there() {
    let root = common::scratch("missing-dependency");
    let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\n\n[workspace]\n\n\
                    [dependencies]\nnowhere = { path = \"nowhere\" }\n";
    common::write(&root.join("Cargo.toml"), manifest);
    common::write(&root.join("src/lib.rs"), "");
    let refusal = refusal(&root);
    assert!(
        matches!(&refusal, BuildError::Compile { messages: text } | BuildError::Manifest { message: text, .. } if text.contains("nowhere")),
        "{refusal:?}"
    );
}
