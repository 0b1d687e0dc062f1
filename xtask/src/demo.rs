//! The walk through two machines, on one: a host and a client with a folder each.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{run, setup};

/// Time within which the walk must be over in CI. It takes seconds: only one that hangs takes so
/// long.
const WALK_TIME: Duration = Duration::from_secs(180);

/// Builds what the walk needs, and walks.
pub(crate) fn demo() -> Result<()> {
    let began = Instant::now();
    setup::wasm_target()?;
    step("the Wasm target is there", began);

    let began = Instant::now();
    println!("building; the first time takes some minutes, most of them for wasmtime");
    run::cargo([
        "build",
        "--quiet",
        "--package",
        "spore-cli",
        "--package",
        "risk-example",
    ])?;
    step("built the spore command, the guest and its program", began);
    walk()
}

/// Walks in a process of its own, which is ended with all that it has started when it takes too
/// long.
pub(crate) fn walk_in_time() -> Result<()> {
    let mut xtask = run::command(run::target_dir()?.join("debug/xtask"));
    run::run_within(xtask.args(["demo", "--built"]), WALK_TIME)
}

/// Walks with what is built.
pub(crate) fn walk() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (host_home, client_home) = (folder.path().join("host"), folder.path().join("client"));
    let bin = run::target_dir()?.join("debug");
    let on_host = |arguments: &[&str]| spore(&bin, &host_home, arguments);
    let on_client = |arguments: &[&str]| spore(&bin, &client_home, arguments);

    let began = Instant::now();
    let client_key = on_client(&["key", "show"])?;
    on_host(&["key", "authorize", &client_key])?;
    step(&format!("authorised the client {client_key}"), began);

    let began = Instant::now();
    let host = Host::start(&bin, &host_home)?;
    step(
        &format!(
            "started a host, process {}, at {}",
            host.child.id(),
            host.address
        ),
        began,
    );

    let began = Instant::now();
    let host_key = on_host(&["key", "show", "--host"])?;
    on_client(&["status", &host.address, "--trust", &host_key])?;
    step(&format!("trusted the host {host_key}"), began);

    let began = Instant::now();
    println!("\n$ risk-example {}", host.address);
    run::run(
        Command::new(bin.join("risk-example"))
            .arg(&host.address)
            .env("SPORE_HOME", &client_home)
            .env("RUST_BACKTRACE", "0"),
    )?;
    println!();
    step("shipped the risk example and ran it in three places", began);

    let began = Instant::now();
    host.stop()?;
    step("stopped the host", began);
    Ok(())
}

fn step(what: &str, began: Instant) {
    println!("{:>9.1?}  {what}", began.elapsed());
}

fn spore(bin: &Path, home: &Path, arguments: &[&str]) -> Result<String> {
    run::output(
        Command::new(bin.join("spore"))
            .args(arguments)
            .env("SPORE_HOME", home),
    )
}

/// A host in a process of its own, ended when this goes.
pub(crate) struct Host {
    child: Child,
    pub(crate) address: String,
}

impl Host {
    /// Starts `spore host` and waits until it says that it is ready.
    pub(crate) fn start(bin: &Path, home: &Path) -> Result<Host> {
        Host::from(&mut Command::new(bin.join("spore")), home)
    }

    /// The same, for a command that runs the program in some other way.
    pub(crate) fn from(command: &mut Command, home: &Path) -> Result<Host> {
        let mut child = command
            .args(["host", "--listen", "127.0.0.1:0", "--log", "warn"])
            .env("SPORE_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut host = Host {
            child,
            address: String::new(),
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        ensure!(
            words.next() == Some("ready"),
            "the host did not start: {line}"
        );
        host.address = words
            .next()
            .context("no address in the ready line")?
            .to_owned();
        Ok(host)
    }

    /// Asks the host to end, and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        run::run(Command::new("kill").args(["-TERM", &id]))?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After `stop` it has ended and both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of the debug build for a target.
pub(crate) fn debug_dir(target: &str) -> Result<PathBuf> {
    Ok(run::target_dir()?.join(target).join("debug"))
}
