//! Each example, run as its README says: alone, and against a host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spore_client::{Home, Setup, write_private};
use spore_tests::local::Local;

/// The program of an example, as `cargo build --workspace --bins` made it beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join(name);
    assert!(
        program.is_file(),
        "{} is missing; run: cargo build --workspace --bins",
        program.display()
    );
    program
}

fn run(name: &str, home: &Path, host: Option<&str>) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program(name))
        .args(host)
        .env("SPORE_HOME", home)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name}: {status}\n{stderr}");
    String::from_utf8(stdout).expect("text")
}

/// Runs an example alone and against a host, and gives what it printed in both cases.
fn run_twice(name: &str) -> [String; 2] {
    let local = Local::start(Setup::default(), &[""]);
    let folder = tempfile::tempdir().expect("a folder for tests");
    let home = Home::at(folder.path());
    let address = local.address.to_string();
    write_private(&home.identity_path(), &local.clients[0].to_pem()).expect("written");
    home.pin_host(&address, &local.key).expect("written");
    [
        run(name, folder.path(), None),
        run(name, folder.path(), Some(&address)),
    ]
}

/// The README of an example.
fn readme(example: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(example)
        .join("README.md");
    std::fs::read_to_string(path).expect("each example has one")
}

#[test]
fn closure_prints_what_its_readme_says() {
    let readme = readme("closure");
    for printed in run_twice("closure-example") {
        assert!(readme.contains(&printed), "{printed}");
    }
}

#[test]
fn counter_prints_what_its_readme_says() {
    let readme = readme("counter");
    for printed in run_twice("counter-example") {
        assert!(readme.contains(&printed), "{printed}");
    }
}

#[test]
fn risk_gives_the_figures_of_its_readme_wherever_it_runs() {
    let readme = readme("risk");
    let [alone, against_host] = run_twice("risk-example");
    for printed in [&alone, &against_host] {
        for row in ["history", "simulation"] {
            let figures = printed.lines().find(|line| line.starts_with(row));
            let figures = figures.unwrap_or_else(|| panic!("no row {row} in:\n{printed}"));
            assert!(readme.contains(figures), "not in the README: {figures}");
        }
    }
    // The program itself compares all bits and fails when they differ.
    assert!(
        against_host.contains("the same bits in all three"),
        "{against_host}"
    );
}
