//! What someone does who installs the command and throws the checkout away.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{run, setup};

/// Installs the command from a copy of what git tracks, removes the copy, and goes from nothing to
/// a result with what was installed. The build is that of the development profile: what is
/// installed is the same, and dependencies are compiled already.
pub(crate) fn install() -> Result<()> {
    setup::wasm_target()?;
    let folder = tempfile::tempdir()?;
    let (copy, root) = (folder.path().join("checkout"), folder.path().join("root"));
    copy_tracked(&copy)?;
    run::run(
        run::command("cargo")
            .args(["install", "--locked", "--debug", "--path"])
            .arg(copy.join("cli"))
            .arg("--root")
            .arg(&root)
            .env("CARGO_TARGET_DIR", run::target_dir()?),
    )?;
    fs::remove_dir_all(&copy)?;

    let spore = root.join("bin/spore");
    let work = folder.path().join("work");
    fs::create_dir(&work)?;
    let in_folder = |folder: &Path, arguments: &[&str]| {
        println!("$ spore {}", arguments.join(" "));
        let said = run::output(
            Command::new(&spore)
                .args(arguments)
                .current_dir(folder)
                .env("SPORE_HOME", work.join("home"))
                // A guest finds its own place, wherever this program builds.
                .env_remove("CARGO_TARGET_DIR"),
        )?;
        println!("{said}");
        Ok::<_, anyhow::Error>(said)
    };
    in_folder(&work, &["new", "hello"])?;
    let hello = work.join("hello");
    in_folder(&hello, &["build"])?;
    let captures = r#"{"greeting": "Hello"}"#;
    in_folder(
        &hello,
        &[
            "capture",
            "hello.spore",
            "greet",
            captures,
            "-o",
            "hi.spore",
        ],
    )?;
    let result = in_folder(&hello, &["run", "hi.spore", r#"["world"]"#])?;
    ensure!(
        result == r#""Hello, world!""#,
        "the guest returned {result}"
    );
    Ok(())
}

/// Copies what git tracks, as it is now: what the build needs besides is missing for others too.
fn copy_tracked(to: &Path) -> Result<()> {
    let names = run::output(run::command("git").args(["ls-files", "-z"]))?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (run::root().join(name), to.join(name));
        let parent = to.parent().expect("a file lies in a folder");
        fs::create_dir_all(parent)?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}
