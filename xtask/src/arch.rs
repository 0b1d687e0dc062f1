//! Hosts of other architectures, under emulation.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::demo::{Host, debug_dir};
use crate::{run, setup};

/// An architecture that hosts are tested on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit Arm
    Aarch64,
}

impl Arch {
    /// A static target: qemu's user mode does not start threads of dynamic programs.
    fn target(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    fn emulator(self) -> &'static str {
        match self {
            Arch::Aarch64 => "qemu-aarch64",
        }
    }

    fn c_compiler(self) -> (&'static str, &'static str) {
        match self {
            Arch::Aarch64 => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        }
    }
}

/// Builds the host for `arch`, starts it under emulation, and runs the tests of unlike machines
/// from here.
pub(crate) fn test(arch: Arch) -> Result<()> {
    setup::wasm_target()?;
    setup::rust_target(arch.target())?;
    setup::debian(arch.emulator(), "qemu-user")?;
    setup::debian(arch.c_compiler().0, arch.c_compiler().1)?;
    build(arch)?;

    let folder = tempfile::tempdir()?;
    let (host_home, client_home) = (folder.path().join("host"), folder.path().join("client"));
    let binary = debug_dir(arch.target())?.join("spore");
    let emulated = || {
        let mut command = Command::new(arch.emulator());
        command.arg(&binary);
        command
    };
    let on_host =
        |arguments: &[&str]| run::output(emulated().args(arguments).env("SPORE_HOME", &host_home));
    run::cargo(["build", "--workspace", "--all-targets"])?;
    let spore = run::target_dir()?.join("debug/spore");
    let on_client = |arguments: &[&str]| {
        run::output(
            Command::new(&spore)
                .args(arguments)
                .env("SPORE_HOME", &client_home),
        )
    };

    on_host(&["key", "authorize", &on_client(&["key", "show"])?])?;
    let began = Instant::now();
    let host = Host::from(&mut emulated(), &host_home)?;
    println!("{:.1?} until the emulated host was ready", began.elapsed());
    on_client(&[
        "status",
        &host.address,
        "--trust",
        &on_host(&["key", "show", "--host"])?,
    ])?;

    let status = on_client(&["status", &host.address, "--json"])?;
    ensure!(
        status.contains("aarch64"),
        "the host is of another architecture: {status}"
    );
    // The first prints every digit of its result. The second rounds, and compares the bits itself.
    for (example, says) in [
        ("closure-example", ""),
        ("risk-example", "the same bits in all three"),
    ] {
        let printed = same_results(example, &host.address, &client_home)?;
        ensure!(printed.contains(says), "{example} does not say: {says}");
    }
    same_bits(&host.address, &client_home)?;
    host.stop()
}

/// Runs an example without a host and on the one at `address`, which must give the same results.
/// Gives all that it has printed in the end.
fn same_results(example: &str, address: &str, client_home: &Path) -> Result<String> {
    let program = run::target_dir()?.join("debug").join(example);
    let printed = |host: Option<&str>| {
        run::output(
            Command::new(&program)
                .args(host)
                .env("SPORE_HOME", client_home)
                .env("RUST_BACKTRACE", "0"),
        )
    };
    let embedded = printed(None)?;
    let remote = printed(Some(address))?;
    println!("\n$ {example} {address}\n{remote}");
    // What comes before an empty line says where it ran and how long it took.
    let results = |printed: &str| match printed.split_once("\n\n") {
        Some((_, results)) => results.to_owned(),
        None => printed.to_owned(),
    };
    ensure!(
        results(&remote) == results(&embedded),
        "{example} prints other results without a host:\n{embedded}"
    );
    Ok(remote)
}

/// Runs the tests that compare an embedded host with the one at `address`.
fn same_bits(address: &str, client_home: &Path) -> Result<()> {
    let mut test = run::command("cargo");
    test.args(["test", "--package", "spore-tests", "--test", "unlike"])
        .env("SPORE_UNLIKE_HOST", address)
        .env("SPORE_HOME", client_home);
    run::run(&mut test)
}

fn build(arch: Arch) -> Result<()> {
    let target = arch.target();
    let variable = target.to_uppercase().replace('-', "_");
    let mut build = run::command("cargo");
    build
        .args(["build", "--package", "spore-cli", "--target", target])
        .env(format!("CARGO_TARGET_{variable}_LINKER"), "rust-lld")
        .env(
            format!("CC_{}", target.replace('-', "_")),
            arch.c_compiler().0,
        );
    run::run(&mut build)
}
