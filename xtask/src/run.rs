//! Running other programs, with errors that say which.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Time between looks at a program that may take only so long.
const LOOK: Duration = Duration::from_millis(20);

/// A command that runs in the root of the checkout, in the environment in which this program would
/// be if cargo had not started it.
///
/// Cargo tells a program that it runs what package it belongs to. A cargo started with that in its
/// environment runs some build scripts anew (`ring` looks at them), and compiles all that depends
/// on these, at each change between `cargo …` and `cargo xtask …`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_a_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets the variable of that name for one package.
fn of_a_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || matches!(
            name,
            "CARGO_MANIFEST_DIR"
                | "CARGO_MANIFEST_PATH"
                | "CARGO_MANIFEST_LINKS"
                | "CARGO_PRIMARY_PACKAGE"
                | "OUT_DIR"
        )
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    // As cargo says now: of two checkouts with one target folder, this may have been compiled in the
    // other.
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().expect("xtask lies in the root").to_owned()
}

/// Runs to the end, with this program's output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs to the end, with this program's output. Past `longest` it is ended, with all that it has
/// started.
pub(crate) fn run_within(command: &mut Command, longest: Duration) -> Result<()> {
    let began = Instant::now();
    // In a group of its own, by which what it starts is found.
    let child = command.process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot start {command:?}"))?;
    while began.elapsed() < longest {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{command:?}: {status}");
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    let group = format!("-{}", child.id());
    run(Command::new("kill").args(["-s", "KILL", "--", &group]))?;
    child.wait()?;
    bail!("{command:?} has not ended after {longest:?}")
}

/// Runs to the end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Runs cargo to the end.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Result<()> {
    run(command("cargo").args(arguments))
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_ends_in_time_is_as_good_as_its_status() {
        let longest = Duration::from_secs(60);
        run_within(&mut sh("exit 0"), longest).expect("it has worked");
        let error = run_within(&mut sh("exit 7"), longest).expect_err("it has not");
        assert!(error.to_string().contains("exit status: 7"), "{error}");
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_has_started() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut hangs = sh("sleep 60 & sleep 60");
        let began = Instant::now();
        let error = run_within(hangs.stdout(writer), Duration::from_millis(200));
        let error = error.expect_err("it hangs");
        assert!(error.to_string().contains("has not ended"), "{error}");
        drop(hangs);
        // The end of the pipe comes when nobody is left who could write to it.
        let mut written = Vec::new();
        reader.read_to_end(&mut written).expect("it is open");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
