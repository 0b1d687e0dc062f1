//! `cargo xtask …`: everything that a newcomer or CI runs.
#![forbid(unsafe_code)]

mod arch;
mod demo;
mod install;
mod run;
mod setup;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and shows Spore.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Ships the risk example to a host in another process and shows what that takes.
    Demo {
        /// Takes what is built already.
        #[arg(long)]
        built: bool,
    },
    /// Builds every guest from source and runs all tests.
    Test {
        /// Runs the examples on a host of this architecture under emulation instead, and from there
        /// to one of this machine and back.
        #[arg(long)]
        arch: Option<arch::Arch>,
        /// Only runs the tests that kill: hosts so many times while they save sessions and jobs; among
        /// all tests that is 200 times. Prints what that counted.
        #[arg(long, conflicts_with_all = ["arch", "rest"])]
        kills: Option<u32>,
        /// Passed on to the tests.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Measures each figure beside its floor.
    Bench {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
        /// Only figures whose name contains this.
        filter: Option<String>,
    },
    /// Installs the command from a copy of the checkout and uses it without; not part of `ci`, since
    /// everything in the copy is compiled anew.
    Install,
    /// Checks format, lints and documentation, then runs all tests and the demo.
    Ci,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo { built: false } => demo::demo(),
        Task::Demo { built: true } => demo::walk(),
        Task::Test {
            arch: Some(arch), ..
        } => arch::test(arch),
        Task::Test {
            kills: Some(kills), ..
        } => kill(kills),
        Task::Test { rest, .. } => test(&rest, &[]),
        Task::Bench { json, filter } => bench(json, filter.as_deref()),
        Task::Install => install::install(),
        Task::Ci => ci(),
    }
}

/// Where the number of tests is set that run at one time.
const THREADS: &str = "RUST_TEST_THREADS";

/// The variable that says how often the tests called `kill` do so.
const KILLS: &str = "SPORE_KILLS";

fn kill(kills: u32) -> Result<()> {
    let only = ["--test", "kill", "--", "--nocapture"].map(str::to_owned);
    test(&only, &[(KILLS, kills.to_string())])
}

fn test(rest: &[String], variables: &[(&str, String)]) -> Result<()> {
    setup::wasm_target()?;
    // The end-to-end tests start the command as a host, and the examples' programs. All targets, so
    // that dependencies are compiled with the same features as for the tests, once.
    run::cargo(["build", "--workspace", "--all-targets"])?;
    let spore = run::target_dir()?.join("debug/spore");
    let mut test = run::command("cargo");
    test.args(["test", "--workspace"])
        .args(rest)
        .env("SPORE_BIN", spore)
        .envs(variables.iter().map(|(name, value)| (name, value)));
    if std::env::var_os(THREADS).is_none() {
        // Most of them wait for hosts, clocks and disks.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        test.env(THREADS, (2 * cores).to_string());
    }
    run::run(&mut test)
}

fn bench(json: bool, filter: Option<&str>) -> Result<()> {
    setup::wasm_target()?;
    let mut bench = run::command("cargo");
    bench.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "spore-bench",
        "--",
    ]);
    if json {
        bench.arg("--json");
    }
    bench.args(filter);
    run::run(&mut bench)
}

fn ci() -> Result<()> {
    setup::wasm_target()?;
    run::cargo(["fmt", "--all", "--check"])?;
    run::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])?;
    let mut doc = run::command("cargo");
    doc.args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    run::run(&mut doc)?;
    // A client that only talks to other hosts does without wasmtime.
    run::cargo([
        "check",
        "--package",
        "spore-client",
        "--no-default-features",
    ])?;
    let tree = run::output(run::command("cargo").args([
        "tree",
        "--package",
        "spore-client",
        "--no-default-features",
        "--edges",
        "normal",
    ]))?;
    anyhow::ensure!(
        !tree.contains("wasmtime"),
        "spore-client without features depends on wasmtime"
    );
    test(&[], &[])?;
    demo::walk_in_time()
}
