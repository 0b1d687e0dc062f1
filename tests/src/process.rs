//! The `spore` command's host, in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use spore_client::{Identity, PublicKey};

use crate::door::Door;
use crate::outcome::PATIENCE;
use crate::port::free_port;

/// The environment variable that names another `spore` than the one beside the tests.
pub const SPORE_VARIABLE: &str = "SPORE_BIN";

/// A process that serves until it is dropped.
pub struct Process {
    door: Door,
    child: Option<Child>,
}

impl Process {
    /// Starts `spore host` with this configuration, for a new identity for each line of options.
    ///
    /// # Panics
    ///
    /// When there is no such program, or it does not say that it is ready.
    pub fn start(configuration: &str, options: &[&str]) -> Process {
        let mut door = Door::prepare(options);
        door.address.set_port(free_port());
        let path = door.home().config_path();
        std::fs::write(path, configuration).expect("the folder is writable");
        let mut process = Process { door, child: None };
        process.restart();
        process
    }

    /// Starts it again after [`kill`](Self::kill) or [`terminate`](Self::terminate), where it was.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and while it runs.
    pub fn restart(&mut self) {
        let mut child = self.spawn();
        let stdout = child.stdout.take().expect("it is piped");
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("its output can be read");
        let words: Vec<&str> = line.split_whitespace().collect();
        let &["ready", address, key] = words.as_slice() else {
            panic!(
                "it said {line:?} and not that it is ready; its log:\n{}",
                self.log()
            );
        };
        let address: SocketAddr = address.parse().expect("an address");
        assert_eq!(address, self.door.address);
        assert_eq!(key, self.door.key.to_string());
    }

    /// Starts it again, and kills it after this time, whether it is ready by then or not.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and while it runs.
    pub fn die_early(&mut self, after: Duration) {
        self.child = Some(self.spawn());
        std::thread::sleep(after);
        self.kill();
    }

    fn spawn(&self) -> Child {
        assert!(self.child.is_none(), "it runs already");
        let spore = program();
        let log = File::create(self.log_path()).expect("the folder is writable");
        let child = Command::new(&spore)
            .args(["host", "--listen", &self.door.address.to_string()])
            .env("SPORE_HOME", self.door.folder.path())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn();
        child.unwrap_or_else(|error| panic!("cannot run {}: {error}", spore.display()))
    }

    /// Kills the process as `kill -9` does.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is a child of this process");
        child.wait().expect("it was killed");
    }

    /// Kills the process and starts it again as another host at the same address. Gives the key
    /// that it had.
    ///
    /// # Panics
    ///
    /// As [`kill`](Self::kill) and [`restart`](Self::restart).
    pub fn change_key(&mut self) -> PublicKey {
        self.kill();
        let path = self.door.home().host_identity_path();
        let identity = Identity::generate();
        spore_client::write_private(&path, &identity.to_pem()).expect("the folder is writable");
        let before = std::mem::replace(&mut self.door.key, identity.public());
        self.restart();
        before
    }

    /// Asks the process to end as service managers do, and gives what it ended with.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .expect("kill is there");
        assert!(sent.success(), "no signal {name} for process {id}");
    }

    /// Waits for the process to end by itself, and gives what it ended with.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        let child = self.child.as_mut().expect("it runs");
        loop {
            if let Some(status) = child.try_wait().expect("it is a child of this process") {
                self.child = None;
                return status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "it does not end; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.door.folder.path().join("log")
    }
}

impl Deref for Process {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The `spore` command: the one that the environment names, or the one beside the tests.
///
/// # Panics
///
/// When it has not been built.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(SPORE_VARIABLE) {
        return named.into();
    }
    let test = std::env::current_exe().expect("a test has a file");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join("spore");
    assert!(
        program.is_file(),
        "{} is missing; run `cargo build --package spore-cli`, or name another in {SPORE_VARIABLE}",
        program.display()
    );
    program
}
