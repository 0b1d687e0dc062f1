//! Each example, run as its README says: alone, and against a host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spore_client::{Home, Setup, write_private};
use spore_tests::local::Local;
use tempfile::TempDir;

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

fn run(name: &str, home: &Path, arguments: &[&str]) -> String {
    run_hearing(name, home, arguments).0
}

/// What an example prints, and what it says on standard error meanwhile.
fn run_hearing(name: &str, home: &Path, arguments: &[&str]) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program(name))
        .args(arguments)
        .env("SPORE_HOME", home)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name}: {status}\n{stderr}");
    let stdout = String::from_utf8(stdout).expect("text");
    (stdout, stderr.into_owned())
}

/// The folder of a user whom these hosts know as their first client, and who knows them.
fn user(hosts: &[&Local]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for tests");
    let home = Home::at(folder.path());
    let identity = hosts[0].clients[0].to_pem();
    write_private(&home.identity_path(), &identity).expect("written");
    for host in hosts {
        let address = host.address.to_string();
        home.pin_host(&address, &host.key).expect("written");
    }
    folder
}

/// Runs an example alone and against a host, and gives what it printed in both cases.
fn run_twice(name: &str) -> [String; 2] {
    let local = Local::start(Setup::default(), &[""]);
    let home = user(&[&local]);
    let address = local.address.to_string();
    [
        run(name, home.path(), &[]),
        run(name, home.path(), &[&address]),
    ]
}

/// Two hosts, and the folder of a user whom both serve.
async fn two_hosts() -> (Local, Local, TempDir) {
    let one = Local::start(Setup::default(), &[""]);
    let other = Local::start(Setup::default(), &[]);
    other.authorize(&one.clients[0]).await;
    let home = user(&[&one, &other]);
    (one, other, home)
}

/// The README of an example.
fn readme(example: &str) -> String {
    // Cargo runs tests in the folder of their crate, which need not be where they were compiled.
    let path = Path::new("../examples").join(example).join("README.md");
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

#[tokio::test]
async fn anneal_finds_the_tour_of_its_readme_wherever_it_is_stopped() {
    let readme = readme("anneal");
    let (one, other, home) = two_hosts().await;
    let (one, other) = (one.address.to_string(), other.address.to_string());
    // A tenth of the steps will do but for once.
    let fewer = "2000000";
    for (arguments, stops) in [
        (&["--steps", fewer][..], 1),
        (&["--steps", fewer, &one], 1),
        (&["--from", &one, "--to", &other, "--to", &one], 2),
    ] {
        let (printed, shown) = run_hearing("anneal-example", home.path(), arguments);
        // Its progress is shown: how often depends on how fast it is.
        assert!(shown.matches(" %").count() > 2, "{shown}");
        let (way, found) = printed.split_once("\n\n").expect("an empty line");
        assert_eq!(way.matches(": goes on from ").count(), stops, "{way}");
        // The program itself compares all bits and fails when they differ.
        let is_whole = !arguments.contains(&fewer);
        assert_eq!(readme.contains(found), is_whole, "in the README: {found}");
    }
}

#[tokio::test]
async fn primes_prints_what_its_readme_says() {
    let readme = readme("primes");
    let (one, other, home) = two_hosts().await;
    let (one, other) = (one.address.to_string(), other.address.to_string());
    let names = [one.as_str(), &other];
    for arguments in [&[], &names[..1], &names] {
        let printed = run("primes-example", home.path(), arguments);
        assert!(readme.contains(&printed), "{printed}");
    }
}
