//! What a fresh machine lacks.

use anyhow::{Context, Result};

use crate::run;

/// Sees to it that guests can be compiled.
pub(crate) fn wasm_target() -> Result<()> {
    rust_target("wasm32-wasip1")
}

/// Sees to it that rustc compiles for `target`.
pub(crate) fn rust_target(target: &str) -> Result<()> {
    let sysroot = run::output(run::command("rustc").args(["--print", "sysroot"]))?;
    if std::path::Path::new(&sysroot)
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir()
    {
        return Ok(());
    }
    run::run(run::command("rustup").args(["target", "add", target]))
        .with_context(|| format!("rustc cannot compile for {target}, and rustup does not add it"))
}

/// Sees to it that `program` can be run, from Debian's `package` if need be.
pub(crate) fn debian(program: &str, package: &str) -> Result<()> {
    if run::output(run::command("sh").args(["-c", &format!("command -v {program} || true")]))?
        .is_empty()
    {
        println!("installing {package}");
        run::run(run::command("apt-get").args(["update", "--quiet"]))?;
        run::run(run::command("apt-get").args(["install", "--yes", "--quiet", package]))
            .with_context(|| format!("{program} is needed: install {package}"))?;
    }
    Ok(())
}
