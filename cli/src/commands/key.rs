//! `spore key`: who one is, whom a host serves, and which hosts are trusted.

mod ls;
mod untrust;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use spore_client::{Home, PublicKey, edit_private, with_port};
use spore_host::server;
use spore_transport::authorized_keys::{self, AuthorizedKeys, AuthorizedKeysError};
use spore_transport::{HostKey, KeyOptions};

use crate::connect::home;
use crate::exit::{Exit, Failure};
use crate::{arguments, output};

/// Longest wait for a running host to read `authorized_keys`, at which it looks every
/// [`LOOK_INTERVAL`](server::LOOK_INTERVAL), and twice until it believes that no key is left.
const READ_WAIT: Duration = Duration::from_secs(10);

/// Time between looks whether it has, and in which it has told its connections then.
const READ_LOOK: Duration = Duration::from_millis(50);

/// Show, list and make keys; authorise and revoke those of others
#[derive(Args)]
#[command(after_help = "\
Example, for two machines:
  board$  spore key show --host                 prints HOSTKEY
  laptop$ spore key show                        prints KEY
  board$  spore key authorize KEY --comment laptop
  laptop$ spore status board.local --trust HOSTKEY
  board$  spore key ls
  board$  spore key revoke KEY
  laptop$ spore key untrust board.local

A host serves the keys in its authorized_keys, and a user trusts the hosts in known_hosts: each by
the name that was typed for it.")]
pub(crate) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Show(Show),
    New(New),
    Authorize(Authorize),
    Revoke(Revoke),
    Trust(Trust),
    Untrust(untrust::Untrust),
    Ls(ls::Ls),
}

impl Key {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let home = home()?;
        match self.action {
            Action::Show(command) => command.run(&home),
            Action::New(command) => command.run(&home),
            Action::Authorize(command) => command.run(&home),
            Action::Revoke(command) => command.run(&home),
            Action::Trust(command) => command.run(&home),
            Action::Untrust(command) => command.run(&home),
            Action::Ls(command) => command.run(&home),
        }
    }
}

/// Print the public key of this user, made now if there is none
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key show | ssh board.local 'xargs spore key authorize'")]
struct Show {
    /// That of the host that this user runs
    #[arg(long)]
    host: bool,
}

impl Show {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let identity = if self.host {
            home.host_identity()?
        } else {
            home.identity()?
        };
        output::print(&format!("{}\n", identity.public()))
    }
}

/// Make a key for this user, and print its public half
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key new --force        hosts must authorise the new key; the old one is lost")]
struct New {
    /// For the host that this user runs
    #[arg(long)]
    host: bool,
    /// Replace the key that there is
    #[arg(long)]
    force: bool,
}

impl New {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let path = if self.host {
            home.host_identity_path()
        } else {
            home.identity_path()
        };
        if path.symlink_metadata().is_ok() && !self.force {
            let message = format!("there is a key already: {}", path.display());
            return Err(Failure::usage(message)
                .help("--force replaces it; whoever knows it must learn the new one"));
        }
        let identity = if self.host {
            home.renew_host_identity()?
        } else {
            home.renew_identity()?
        };
        output::print(&format!("{}\n", identity.public()))
    }
}

/// Let a key use the host that this user runs. Waits until a running one has learnt of it
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key authorize ed25519:… grants=prices wall=10s memory=64MiB --comment laptop

KEY is what `spore key show` prints on the other machine, without --host.

Options lower the host's limits for this key: wall=TIME from 1ms, memory=SIZE from 64KiB,
running=COUNT from 1, queued=COUNT from 1, stored=SIZE. queued counts calls that wait or run.
grants=NAME,NAME gives it what the host's configuration grants by these names; without it the key
gets none. A key that is authorised already gets these options instead of its old ones, and keeps
its comment unless there is a new one.")]
struct Authorize {
    /// The key, as `spore key show` prints it
    key: PublicKey,
    /// What the key gets, as in the file: grants=prices wall=10s
    #[arg(value_name = "OPTION=VALUE")]
    options: Vec<String>,
    /// Whose key it is
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Where the grants are configured [default: spore.toml in the folder of configuration]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Authorize {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let options = self.options()?;
        self.check_not_the_hosts(home)?;
        self.check_grants(home, &options.grants)?;
        let path = home.authorized_keys_path();
        let line = edit_private(&path, |old| {
            let new = authorized_keys::authorize(old, &self.key, &options);
            let new = new.map_err(|error| bad_file(home, &error))?;
            let key = self.key.to_string();
            let line = new.lines().find(|line| line.starts_with(&key));
            let line = line.map(output::plain).unwrap_or_default();
            Ok::<_, Failure>((Some(new), line))
        })?;
        output::print(&format!("authorised: {line}\n"))?;
        tell_running_host(home, "serves the key from now on")
    }

    /// Refuses the key of the host itself, which nobody connects with: the usual mix-up.
    fn check_not_the_hosts(&self, home: &Home) -> Result<(), Failure> {
        // Looking must not make one.
        let is_there = home.host_identity_path().symlink_metadata().is_ok();
        if !is_there || home.host_identity()?.public() != self.key {
            return Ok(());
        }
        Err(
            Failure::usage(format!("{} is the key of the host itself", self.key))
                .help("authorise the key of who is to use it: `spore key show` on that machine")
                .help("there the host's key is trusted: `spore key trust HOST KEY`"),
        )
    }

    /// Refuses grants that the host does not have. Where its configuration cannot be read here,
    /// says so.
    fn check_grants(&self, home: &Home, grants: &[String]) -> Result<(), Failure> {
        if grants.is_empty() {
            return Ok(());
        }
        let path = self.config.clone().unwrap_or_else(|| home.config_path());
        let file = path.display();
        let untold = |why: String| {
            let names = grants.join(", ");
            let text = format!(
                "warning: whether the host grants {names} cannot be told: {why}\n\
                 help: name the host's configuration with --config FILE\n"
            );
            output::to_stderr(output::Lines(&text).to_string().as_bytes());
        };
        if self.config.is_none() && path.symlink_metadata().is_err() {
            untold(format!("there is no {file}"));
            return Ok(());
        }
        let config = match super::host::config(self.config.as_deref(), home) {
            Ok(config) => config,
            Err(failure) if self.config.is_none() => {
                untold(failure.message().to_owned());
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let has = config.grants.directories;
        let unknown: Vec<_> = grants
            .iter()
            .filter(|name| !has.contains_key(*name))
            .map(String::as_str)
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let has: Vec<_> = has.keys().map(String::as_str).collect();
        let granted = match has[..] {
            [] => "nothing".to_owned(),
            _ => has.join(", "),
        };
        Err(Failure::usage(format!(
            "the host grants no {}: {file} grants {granted}",
            unknown.join(", ")
        ))
        .help(format!(
            "a directory is granted in {file}, under [grants.directories]; --config names another \
             file"
        )))
    }

    /// Reads the options as a line of the file has them.
    fn options(&self) -> Result<KeyOptions, Failure> {
        let is_word = |word: &&String| word.contains(['#', '\n', '\r']) || word.trim() != *word;
        if let Some(word) = self.options.iter().find(is_word) {
            return Err(Failure::usage(format!("{word:?} is no option")));
        }
        let line = format!("{} {}", self.key, self.options.join(" "));
        let keys = AuthorizedKeys::parse(&line).map_err(|error| Failure::usage(error.problem))?;
        let mut options = keys.lookup(&self.key).cloned().unwrap_or_default();
        options.comment = self.comment.clone().unwrap_or_default();
        if options.comment.chars().any(output::acts) {
            return Err(Failure::usage("a comment is one line of plain text"));
        }
        Ok(options)
    }
}

/// Take the right to use the host from a key. Waits until a running one has closed its connections
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key revoke ed25519:…")]
struct Revoke {
    /// The key
    key: String,
}

impl Revoke {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let path = home.authorized_keys_path();
        let (key, new) = edit_private(&path, |old| {
            let key = self.key(old)?;
            let Some(new) = authorized_keys::revoke(old, &key) else {
                let message = format!("{} does not authorise {key}", path.display());
                let trusted = home.known_hosts().unwrap_or_default();
                let host = trusted.iter().find(|(_, trusted)| **trusted == key);
                return Err(Failure::usage(message).help(match host {
                    Some((host, _)) => {
                        format!("it is the key of a host that you trust: spore key untrust {host}")
                    }
                    None => "`spore key ls` lists the keys that it does".to_owned(),
                }));
            };
            Ok((Some(new.clone()), (key, new)))
        })?;
        if let Err(error) = AuthorizedKeys::parse(&new) {
            // The host would go on with the keys that it knows, this one among them.
            return Err(bad_file(home, &error)
                .help("a host does not read the file, and serves the key, until that is mended"));
        }
        output::print(&format!("revoked: {key}\n"))?;
        tell_running_host(home, "has closed the key's connections")
    }

    /// Reads the key. Where another word stands, `authorized` may have it as a comment.
    fn key(&self, authorized: &str) -> Result<PublicKey, Failure> {
        self.key.parse::<PublicKey>().map_err(|error| {
            let failure = Failure::usage(format!("{:?} is no key: {error}", self.key));
            let keys = AuthorizedKeys::parse(authorized).unwrap_or_default();
            let meant: Vec<_> = keys
                .iter()
                .filter(|(_, options)| options.comment == self.key && !self.key.is_empty())
                .map(|(key, _)| format!("spore key revoke {key}"))
                .collect();
            match meant[..] {
                [] => failure.help("`spore key ls` lists the keys that are authorised"),
                _ => meant.into_iter().fold(failure, Failure::help),
            }
        })
    }
}

/// Waits until a host that runs has read the file again, so that what comes next finds it done.
fn tell_running_host(home: &Home, done: &str) -> Result<(), Failure> {
    // One that starts later reads the file as it is now.
    if !home.host_runs() {
        return Ok(());
    }
    let path = home.authorized_keys_path();
    let began = Instant::now();
    while !server::is_read(&path) {
        if !home.host_runs() {
            return Ok(());
        }
        if began.elapsed() >= READ_WAIT {
            let what = format!(
                "the running host has not said in {} s that it has read the change",
                READ_WAIT.as_secs()
            );
            return Err(Failure::new(Exit::Local, what)
                .help("the file is changed, and the host may go by what it has read before")
                .help("its log says why; it reads the file when it is started again"));
        }
        std::thread::sleep(READ_LOOK);
    }
    std::thread::sleep(READ_LOOK);
    output::print(&format!("the running host has read it, and {done}\n"))
}

fn bad_file(home: &Home, error: &AuthorizedKeysError) -> Failure {
    let path = home.authorized_keys_path();
    Failure::new(Exit::Local, format!("{}: {error}", path.display()))
}

/// Remember the key of a host, instead of giving --trust the first time
#[derive(Args)]
#[command(after_help = "\
Example:
  spore key trust board.local ed25519:…

Trust is by the name of the host as it is typed: its address, or another name for it, has to be
trusted too before it is used. `spore key untrust HOST` takes it back.")]
struct Trust {
    /// The host, as other commands will name it
    #[arg(value_parser = arguments::host)]
    host: String,
    /// Its key, as `spore key show --host` prints it there
    key: PublicKey,
    /// Replace another key that the host is known by
    #[arg(long)]
    force: bool,
}

impl Trust {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let host = with_port(&self.host);
        // Looking must not make one.
        let is_there = home.identity_path().symlink_metadata().is_ok();
        if is_there && home.identity()?.public() == self.key {
            return Err(Failure::usage(format!(
                "{} is your own key, not that of a host",
                self.key
            ))
            .help("trust what `spore key show --host` prints on the host's machine"));
        }
        if let HostKey::Changed { expected } = home.known_hosts()?.lookup(&host, &self.key)
            && !self.force
        {
            return Err(
                Failure::usage(format!("{host} is known by another key: {expected}"))
                    .help("if the host was set up anew, add --force"),
            );
        }
        home.pin_host(&host, &self.key)?;
        output::print(&format!("trusted: {host} {}\n", self.key))
    }
}
