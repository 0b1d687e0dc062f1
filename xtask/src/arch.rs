//! Hosts of other architectures, under emulation.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::demo::{Host, debug_dir};
use crate::{run, setup};

/// What bounds the search of `anneal`: emulated it takes some twenty times as long.
const ANNEAL: [&str; 2] = ["--steps", "4000000"];

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
    run::cargo(["build", "--workspace", "--all-targets"])?;
    let folder = tempfile::tempdir()?;
    let client_home = folder.path().join("client");
    let binary = debug_dir(arch.target())?.join("spore");
    let emulated = || {
        let mut command = Command::new(arch.emulator());
        command.arg(&binary);
        command
    };
    let spore = run::target_dir()?.join("debug/spore");
    let here = || Command::new(&spore);
    let began = Instant::now();
    let other = serve(&emulated, &folder.path().join("other"), &here, &client_home)?;
    println!("{:.1?} until the emulated host was ready", began.elapsed());
    let own = serve(&here, &folder.path().join("own"), &here, &client_home)?;

    let mut status = here();
    status.args(["status", &other.address, "--json"]);
    let status = run::output(status.env("SPORE_HOME", &client_home))?;
    ensure!(
        status.contains("aarch64"),
        "the host is of another architecture: {status}"
    );
    // The first two print every digit of their results. The others round, and compare the bits
    // themselves.
    for (name, options, says) in [
        ("closure-example", &[][..], ""),
        ("counter-example", &[], ""),
        ("risk-example", &[], "the same bits in all three"),
        ("anneal-example", &ANNEAL, "the same tour, bit for bit"),
        (
            "primes-example",
            &[],
            "none was repeated, and none left out",
        ),
    ] {
        let printed = same_results(name, options, &other.address, &client_home)?;
        ensure!(printed.contains(says), "{name} does not say: {says}");
    }
    // From one architecture to the other and back, beginning with either, while the job runs.
    let mut tours = Vec::new();
    for [from, to] in [[&own, &other], [&other, &own]] {
        let (from, to) = (&from.address, &to.address);
        let way = [&ANNEAL[..], &["--from", from, "--to", to, "--to", from]].concat();
        tours.push(results(&example("anneal-example", &way, &client_home)?));
        example("primes-example", &[from, to], &client_home)?;
    }
    ensure!(tours[0] == tours[1], "{} is not {}", tours[0], tours[1]);
    same_bits(&other.address, &client_home)?;
    own.stop()?;
    other.stop()
}

/// Starts a host by `host`, with its files in `home`, for the user of `client`, who trusts it from
/// then on.
fn serve(
    host: &dyn Fn() -> Command,
    home: &Path,
    client: &dyn Fn() -> Command,
    client_home: &Path,
) -> Result<Host> {
    let on_host = |arguments: &[&str]| run::output(host().args(arguments).env("SPORE_HOME", home));
    let on_client = |arguments: &[&str]| {
        let mut command = client();
        run::output(command.args(arguments).env("SPORE_HOME", client_home))
    };
    on_host(&["key", "authorize", &on_client(&["key", "show"])?])?;
    let served = Host::from(&mut host(), home)?;
    let key = on_host(&["key", "show", "--host"])?;
    on_client(&["status", &served.address, "--trust", &key])?;
    Ok(served)
}

/// Runs an example without a host and on the one at `address`, which must give the same results.
/// Gives all that it has printed in the end.
fn same_results(name: &str, options: &[&str], address: &str, client_home: &Path) -> Result<String> {
    let embedded = example(name, options, client_home)?;
    let remote = example(name, &[options, &[address]].concat(), client_home)?;
    ensure!(
        results(&remote) == results(&embedded),
        "{name} prints other results without a host"
    );
    Ok(remote)
}

/// Runs an example, and gives all that it has printed.
fn example(name: &str, arguments: &[&str], client_home: &Path) -> Result<String> {
    let program = run::target_dir()?.join("debug").join(name);
    let printed = run::output(
        Command::new(&program)
            .args(arguments)
            .env("SPORE_HOME", client_home)
            .env("RUST_BACKTRACE", "0"),
    )?;
    println!("\n$ {name} {}\n{printed}", arguments.join(" "));
    Ok(printed)
}

/// What an example has found out. What comes before an empty line says where it ran and how long it
/// took.
fn results(printed: &str) -> String {
    match printed.split_once("\n\n") {
        Some((_, results)) => results.to_owned(),
        None => printed.to_owned(),
    }
}

/// Runs the tests that compare an embedded host with the one at `address`.
fn same_bits(address: &str, client_home: &Path) -> Result<()> {
    let mut test = run::command("cargo");
    // Of the whole workspace: chosen alone, the package would have other features, and all be compiled anew.
    test.args(["test", "--workspace", "--test", "unlike"])
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
