//! Folders of users, guests compiled once for all tests, hosts as processes, and what they keep.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;

#[path = "../../../tests/src/port.rs"]
mod port;

/// Longest time that anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A user with folders of their own.
pub(crate) struct User {
    home: TempDir,
    /// What the environment says of folders.
    variables: Vec<(&'static str, PathBuf)>,
}

/// Every variable that says where files are.
const FOLDERS: [&str; 3] = ["SPORE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).expect("the command writes text");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ended {
    /// Standard output of a command that worked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Standard error of a command that failed with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        self.stderr
    }

    /// JSON on standard output, whatever the code.
    #[track_caller]
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl User {
    /// A user whose files are all in one folder.
    pub(crate) fn new() -> User {
        User::with_variables(&[("SPORE_HOME", "")])
    }

    /// A user whose environment names these folders, beneath one that is the user's own.
    pub(crate) fn with_variables(folders: &[(&'static str, &str)]) -> User {
        let home = tempfile::tempdir().expect("a folder");
        let beneath = |(variable, name): &(&'static str, &str)| (*variable, home.path().join(name));
        let variables = folders.iter().map(beneath).collect();
        User { home, variables }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spore"));
        for variable in FOLDERS {
            command.env_remove(variable);
        }
        command
            .envs(self.variables.iter().cloned())
            .env_remove("SPORE_LOG");
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn spore<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Ended {
        let output = self.command().args(args).output();
        output.expect("the command starts").into()
    }

    /// The key of the user, as they would copy it.
    pub(crate) fn key(&self) -> String {
        self.spore(["key", "show"]).ok().trim_end().to_owned()
    }

    /// Starts a host and waits until it is ready.
    pub(crate) fn host(&self) -> Host {
        self.host_at(&format!("127.0.0.1:{}", port::free_port()))
    }

    /// The same for another user, who trusts the host from then on.
    pub(crate) fn host_for(&self, user: &User) -> Host {
        self.spore(["key", "authorize", &user.key()]).ok();
        let host = self.host();
        user.spore(["key", "trust", &host.address, &host.key]).ok();
        host
    }

    /// The same at an address: that of a host which was killed.
    pub(crate) fn host_at(&self, listen: &str) -> Host {
        let log = fs::File::create(self.path("host.log")).expect("it is ours");
        let mut child = self
            .command()
            .args(["host", "--listen", listen])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the command starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it is text");
        let words: Vec<_> = line.split_whitespace().collect();
        let ["ready", address, key] = words[..] else {
            let log = fs::read_to_string(self.path("host.log"));
            panic!("{line:?}: {log:?}");
        };
        let (address, key) = (address.to_owned(), key.to_owned());
        Host {
            child,
            address,
            key,
        }
    }
}

/// A host that runs, and is killed when dropped.
pub(crate) struct Host {
    child: Child,
    pub(crate) address: String,
    pub(crate) key: String,
}

impl Host {
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end, and gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "the host does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The jobs of a user on a host.
pub(crate) struct Jobs<'a> {
    pub(crate) user: &'a User,
    pub(crate) on: &'a str,
}

impl Jobs<'_> {
    /// Starts one that stirs a number for so many rounds, and gives its id.
    pub(crate) fn stir(&self, rounds: u64) -> String {
        let bundle = text(&guests().trouble);
        let arguments = format!("[{rounds}]");
        let args = ["run", bundle, "stirs", &arguments, "--job", "--on", self.on];
        self.user.spore(args).ok().trim_end().to_owned()
    }

    /// Asks something of a job.
    pub(crate) fn ask(&self, verb: &str, id: &str, more: &[&str]) -> Ended {
        let args = ["job", verb, id, "--on", self.on];
        self.user.spore(args.iter().chain(more))
    }

    /// What the host says of a job, or null when it has none of this id.
    pub(crate) fn info(&self, id: &str) -> Json {
        let listed = self.user.spore(["job", "ls", "--json", "--on", self.on]);
        let listed = listed.json();
        let jobs = listed.as_array().expect("a list");
        let found = jobs.iter().find(|job| job["job"] == id);
        found.cloned().unwrap_or_default()
    }

    /// Waits until a job has gone through so many rounds.
    pub(crate) fn comes_to(&self, id: &str, rounds: u64) {
        until("the job goes on", || {
            self.info(id)["done"].as_u64() >= Some(rounds)
        });
    }
}

/// What stirring for so many rounds comes to, as the guest below does it.
pub(crate) fn stirred(rounds: u64) -> u64 {
    (0..rounds).fold(1, |number, round| (31 * number + round) % 1_000_003)
}

/// Writes what a session of the guest that remembers is saved as, after these calls: each a callable
/// and its arguments.
pub(crate) fn saved_after(user: &User, calls: &[[&str; 2]], file: &str) {
    let id = user.spore(["session", "open", text(&guests().keeper)]).ok();
    let id = id.trim_end();
    for [callable, arguments] in calls {
        user.spore(["session", "call", id, callable, arguments])
            .ok();
    }
    user.spore(["session", "save", id, "-o", file]).ok();
    user.spore(["session", "close", id]).ok();
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(status.expect("kill is there").success());
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bundles that tests use, built once.
pub(crate) struct Guests {
    /// Of the crate that `spore new` made
    pub(crate) hello: PathBuf,
    /// Of the same source in another folder
    pub(crate) hello_far: PathBuf,
    /// The closure example
    pub(crate) closure: PathBuf,
    /// The guest of the tests that remembers from one call to the next
    pub(crate) keeper: PathBuf,
    /// The guest below that does all kinds of things
    pub(crate) trouble: PathBuf,
    /// What the README makes of a new crate to show jobs and streams
    pub(crate) steps: PathBuf,
    /// What `spore new` and `spore build` said
    pub(crate) said: [String; 2],
}

/// What lies there in the checkout: cargo runs tests in the folder of their crate, which need not be where
/// they were compiled.
fn in_checkout(path: &str) -> PathBuf {
    let checkout = Path::new("..").canonicalize();
    checkout
        .expect("this crate lies one folder down")
        .join(path)
}

/// The source of it.
fn steps() -> String {
    let readme = fs::read_to_string(in_checkout("README.md")).expect("there is one");
    let (_, behind) = readme
        .split_once("the `src/lib.rs` of a crate that `spore new steps` made:")
        .expect("it is shown");
    let (_, source) = behind.split_once("```rust\n").expect("it is code");
    let (source, _) = source.split_once("```").expect("it ends");
    source.to_owned()
}

pub(crate) fn guests() -> &'static Guests {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    GUESTS.get_or_init(build_guests)
}

/// A callable for each way in which a call may go.
const TROUBLE: &str = r#"
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use spore_guest::prelude::*;

/// Why there is no root.
#[derive(Debug, Value)]
pub enum Wrong {
    /// The number is below zero.
    Negative { by: f64 },
}

/// The square root.
#[callable]
pub fn root(x: f64) -> Result<f64, Wrong> {
    if x < 0.0 { Err(Wrong::Negative { by: -x }) } else { Ok(x.sqrt()) }
}

#[callable]
pub fn panics(message: String) {
    panic!("{message}");
}

#[callable]
pub fn traps() {
    deeper();
}

#[inline(never)]
fn deeper() {
    std::process::abort();
}

#[callable]
pub fn spins() {
    loop {
        std::hint::spin_loop();
    }
}

#[callable]
pub fn naps(millis: u64) -> u64 {
    println!("napping");
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

#[callable]
pub fn says(out: &str, err: &str) {
    print!("{out}");
    eprint!("{err}");
}

#[callable]
pub fn stumbles() {
    print!("so far");
    panic!("no further");
}

#[callable]
pub fn steps(count: u64) {
    for step in 0..=count {
        progress(step, count);
    }
}

#[callable]
pub fn random() -> u64 {
    RandomState::new().hash_one(7)
}

#[callable]
pub fn counts(first: u64, count: u64) -> impl Iterator<Item = u64> {
    println!("counting");
    first..first + count
}

/// Emits, and has no more.
#[callable]
pub async fn falters(items: Emitter<u32>) -> Result<(), Wrong> {
    items.emit(1).await;
    Err(Wrong::Negative { by: 2.0 })
}

/// Rests between rounds.
#[callable]
pub async fn rests(rounds: u64) -> u64 {
    for round in 0..rounds {
        println!("round {round}");
        progress(round + 1, rounds);
        sleep(Duration::from_millis(20)).await;
    }
    rounds
}

/// Stirs a number round by round, and rests after each.
#[callable]
pub async fn stirs(rounds: u64) -> u64 {
    let mut number = 1_u64;
    for round in 0..rounds {
        println!("round {round}");
        number = (31 * number + round) % 1_000_003;
        progress(round + 1, rounds);
        sleep(Duration::from_millis(20)).await;
    }
    number
}

/// Reads a file of the granted directory.
#[callable(directory = "prices")]
pub fn reads(name: &str) -> String {
    std::fs::read_to_string(format!("/prices/{name}")).unwrap_or_else(|error| error.to_string())
}
"#;

fn build_guests() -> Guests {
    // The crates are made anew, what is compiled of them stays from run to run.
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spore-cli");
    let target = root.join("../../spore-guests");
    let near = root.join("near/hello");
    let far = root.join("a far/and deeper/folder/hello");
    let _ = fs::remove_dir_all(&near);
    let _ = fs::remove_dir_all(&far);
    let user = User::new();
    let new = |path: &Path| user.spore([Path::new("new"), path]).ok();
    let build = |path: &Path, out: &str| {
        let mut command = user.command();
        command.arg("build").arg(path).arg("-o").arg(root.join(out));
        let output = command.arg("--target-dir").arg(&target).output();
        Ended::from(output.expect("the command starts")).ok()
    };
    let said_new = new(&near);
    new(&far);
    // Also in a folder of somebody's workspace, with which a guest has nothing to do.
    let outer = root.join("a far/Cargo.toml");
    fs::write(outer, "[workspace]\nmembers = []\n").expect("it is ours");
    let said_build = build(&near, "near-out");
    build(&far, "far-out");

    fs::write(near.join("src/lib.rs"), TROUBLE).expect("it is ours");
    build(&near, "trouble-out");
    fs::write(near.join("src/lib.rs"), steps()).expect("it is ours");
    build(&near, "steps-out");
    let closure = in_checkout("examples/closure/guest");
    build(&closure, "closure-out");
    let keeper = in_checkout("tests/guests/keeper");
    build(&keeper, "keeper-out");
    Guests {
        hello: root.join("near-out/hello.spore"),
        hello_far: root.join("far-out/hello.spore"),
        closure: root.join("closure-out/closure.spore"),
        keeper: root.join("keeper-out/keeper.spore"),
        trouble: root.join("trouble-out/hello.spore"),
        steps: root.join("steps-out/hello.spore"),
        said: [said_new, said_build],
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("folders of tests are text")
}
