//! How a command ends: its exit code, and what is said on standard error.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use serde_json::{Map, Value as Json};
use spore_bundle::{DecodeError, SectionError};
use spore_client::{ArgumentsError, BindError, CallError, ConnectError, Failure as GuestFailure};
use spore_client::{CallLimits, FindError, HomeError, OpenError, PublicKey};
use spore_transport::{ConnectError as TransportError, ConnectionError};

use crate::output::{self, Lines};
use crate::{hint, refusal};

/// The exit codes, for `--help`. The README has the same table.
pub(crate) const HELP: &str = "\
Example:
  spore new hello && cd hello && spore build
  spore run hello.spore greet '[\"world\"]' --captures '{\"greeting\": \"Hello\"}'

Exit codes:
  0    it worked
  1    the guest returned its own error, panicked or trapped
  2    usage: wrong arguments, JSON of the wrong type, an unknown callable, a file that is no bundle,
       a host whose key is not known or not the one that --trust names
  3    the host refused
  4    the host could not be reached, or was lost
  5    another failure here: a file that cannot be written, a guest that does not compile, a deadline,
       a host's changed key
  130  interrupted with Ctrl-C

Files live in the XDG folders, or all under SPORE_HOME when it is set.";

/// Why a command ended, as the number that scripts see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The guest returned its own error, panicked or trapped.
    Guest = 1,
    /// What the command was given does not fit.
    Usage = 2,
    /// The host refused.
    Refused = 3,
    /// The host could not be reached, or was lost.
    Lost = 4,
    /// Anything else on this machine.
    Local = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// A command's failure: what is said of it, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Debug)]
struct Parts {
    exit: Exit,
    /// For scripts: the kind of failure in the JSON of `run --json`
    kind: &'static str,
    message: String,
    /// What to do next, each a line
    help: Vec<String>,
    /// Names of functions, innermost first
    backtrace: Vec<String>,
    /// More for scripts than the message
    details: Map<String, Json>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        let kind = match exit {
            Exit::Guest => "guest",
            Exit::Usage => "usage",
            Exit::Refused => "refused",
            Exit::Lost => "lost",
            Exit::Local => "local",
            Exit::Interrupted => "interrupted",
        };
        Failure(Box::new(Parts {
            exit,
            kind,
            message: message.to_string(),
            help: Vec::new(),
            backtrace: Vec::new(),
            details: Map::new(),
        }))
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Of an error and its causes.
    pub(crate) fn of(exit: Exit, error: &dyn Error) -> Failure {
        Failure::new(exit, chain(error))
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, help: impl fmt::Display) -> Failure {
        self.0.help.push(help.to_string());
        self
    }

    /// Whether the command is to end with this code.
    pub(crate) fn is(&self, exit: Exit) -> bool {
        self.0.exit == exit
    }

    /// Says first what it is about.
    pub(crate) fn about(mut self, what: &str) -> Failure {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What went wrong, without what to do next.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// For scripts: names the kind of failure, where the exit code does not.
    pub(crate) fn kind(mut self, kind: &'static str) -> Failure {
        self.0.kind = kind;
        self
    }

    /// For scripts: adds more than the message says.
    pub(crate) fn detail(mut self, name: &str, value: impl Into<Json>) -> Failure {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// The guest's own error, from its JSON.
    pub(crate) fn guest_error(callable: &str, error: Json) -> Failure {
        let message = format!(
            "{callable} returned its own error: {}",
            output::json_line(&error)
        );
        Failure::new(Exit::Guest, message)
            .kind("guest_error")
            .detail("value", error)
    }

    /// For scripts, as `run --json` prints it.
    pub(crate) fn json(&self) -> Json {
        let mut object = Map::new();
        object.insert("kind".to_owned(), self.0.kind.into());
        object.insert("message".to_owned(), self.0.message.as_str().into());
        object.extend(self.0.details.clone());
        Json::Object(object)
    }

    /// Says what went wrong on standard error, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let mut text = format!("error: {}\n", Lines(self.0.message.trim_end()));
        for name in &self.0.backtrace {
            text.push_str(&format!("  at {}\n", output::plain(name)));
        }
        for help in &self.0.help {
            text.push_str(&format!("help: {}\n", output::plain(help)));
        }
        output::to_stderr(text.as_bytes());
        ExitCode::from(self.0.exit as u8)
    }
}

/// An error and its causes in one line, without saying anything twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Gives the errors of others an exit code.
pub(crate) trait OrExit<T> {
    /// Ends the command with `exit` and what the error says.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Error + 'static> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(exit, &error))
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Failure {
        let failure = Failure::of(Exit::Local, &error);
        match error {
            HomeError::HostRuns { .. } => failure.help(
                "stop it, or give the other one a folder of its own: SPORE_HOME=DIR spore host",
            ),
            _ => failure,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let failure = Failure::of(Exit::Usage, &error);
        match error {
            OpenError::Read { path, .. } => failure.help(hint::bundle(&path)),
            OpenError::Decode {
                source: DecodeError::Sections(SectionError::NotWasm),
                ..
            } => failure.help(hint::A_BUNDLE),
            _ => failure,
        }
    }
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Failure {
        Failure::of(Exit::Usage, &error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Failure {
        Failure::of(Exit::Usage, &error)
    }
}

impl From<ArgumentsError> for Failure {
    fn from(error: ArgumentsError) -> Failure {
        Failure::of(Exit::Usage, &error)
    }
}

/// The failure of a request that calls nothing. It may have been carried out: asking again could start
/// another job, or open another session.
impl From<CallError<std::convert::Infallible>> for Failure {
    fn from(error: CallError<std::convert::Infallible>) -> Failure {
        match error {
            CallError::Lost(ref lost) => lost_host(lost).help(
                "once the host is back, `spore job ls` and `spore session ls` show what is there",
            ),
            error => call_failure(error, |never| match never {}),
        }
    }
}

fn lost_host(lost: &dyn Error) -> Failure {
    Failure::new(Exit::Lost, format!("lost the host: {}", chain(lost)))
}

/// The failure of a call, given that of the guest's own error.
pub(crate) fn call_failure<E: fmt::Debug + 'static>(
    error: CallError<E>,
    guest: impl FnOnce(E) -> Failure,
) -> Failure {
    match error {
        CallError::Guest(error) => guest(error),
        CallError::Failed(failure) => guest_failure(failure),
        CallError::Refused(refused) => {
            refusal::failure(&refused, refusal::By::Host(CallLimits::default()))
        }
        CallError::JobEnded(refused) => refusal::failure(&refused, refusal::By::Job),
        CallError::Find(error) => error.into(),
        CallError::NoItems { .. } => Failure::of(Exit::Usage, &error),
        CallError::Connect(error) => connect_failure(error),
        CallError::Arguments(error) => error.into(),
        CallError::Lost(ref lost) => {
            lost_host(lost).help("the call ran once or not at all; it was not repeated")
        }
        CallError::Deadline => Failure::new(
            Exit::Local,
            "the deadline passed; the guest was told to stop",
        )
        .kind("deadline"),
        // What came back is no value of the bundle's type: the guest's doing, since a host that
        // keeps to the protocol passes it on as it is.
        CallError::Result(ref error) => Failure::of(Exit::Guest, error).kind("result"),
        CallError::Protocol(ref error) => {
            let message = format!("the host broke the protocol: {}", chain(error));
            Failure::new(Exit::Lost, message).kind("protocol")
        }
        ref other => Failure::of(Exit::Local, other),
    }
}

fn guest_failure(failure: GuestFailure) -> Failure {
    let message = format!("the guest {failure}");
    let of = |kind| Failure::new(Exit::Guest, &message).kind(kind);
    match failure {
        GuestFailure::Panic {
            message,
            file,
            line,
        } => of("panic")
            .detail("text", message)
            .detail("file", file)
            .detail("line", line),
        GuestFailure::Trap {
            code,
            message,
            backtrace,
        } => {
            let mut failure = of("trap")
                .detail("trap", code.name())
                .detail("text", message)
                .detail("backtrace", backtrace.clone());
            failure.0.backtrace = backtrace;
            failure
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        connect_failure(error)
    }
}

/// The failure of a host whose key is not known; `or` is what else may be done than to trust it.
pub(crate) fn unknown_host(host: &str, key: &PublicKey, or: &str) -> Failure {
    Failure::usage(format!("{host} has a key that is not known here: {key}"))
        .kind("unknown_host")
        .detail("key", key.to_string())
        .help("compare it with what `spore key show --host` prints on that machine")
        .help(format!(
            "if it is the same, run: spore key trust {host} {key}{or}"
        ))
}

fn connect_failure(error: ConnectError) -> Failure {
    if let Some(failure) = refusal::of_connection(&error) {
        return failure;
    }
    match &error {
        ConnectError::UnknownHost { host, key } => unknown_host(host, key, ""),
        ConnectError::ChangedKey {
            host,
            expected,
            found,
        } => {
            let message = format!(
                "{host} has another key than it is known by: expected {expected}, found {found}"
            );
            Failure::new(Exit::Local, message)
                .kind("changed_key")
                .detail("expected", expected.to_string())
                .detail("found", found.to_string())
                .help("it was set up anew, or another machine answers in its place")
                .help(format!(
                    "if `spore key show --host` prints the new key there, run: spore key trust \
                     {host} {found} --force"
                ))
        }
        ConnectError::OtherKey {
            host,
            trusted,
            found,
        } => other_key(host, trusted, found),
        ConnectError::Resolve { .. } => Failure::of(Exit::Lost, &error)
            .kind("unreachable")
            .help("a host is NAME, NAME:PORT, ADDRESS or ADDRESS:PORT"),
        ConnectError::Unreachable {
            source: TransportError::Connection(ConnectionError::VersionMismatch),
            ..
        } => Failure::of(Exit::Lost, &error)
            .kind("version")
            .help("the two speak no common version: install the same release on both sides"),
        ConnectError::Unreachable { host, .. } => Failure::of(Exit::Lost, &error)
            .kind("unreachable")
            .help(format!(
                "is `spore host` running there, and is {host} its address? It prints that as it \
                 starts"
            )),
        ConnectError::Closed { .. } => Failure::of(Exit::Lost, &error).kind("unreachable"),
        _ => Failure::of(Exit::Local, &error),
    }
}

/// `--trust` named a key that the host does not have.
fn other_key(host: &str, trusted: &PublicKey, found: &PublicKey) -> Failure {
    let failure = Failure::usage(format!(
        "the host at {host} has the key {found}, and --trust names {trusted}"
    ))
    .kind("other_key")
    .detail("trusted", trusted.to_string())
    .detail("found", found.to_string());
    let own = crate::connect::home().and_then(|home| Ok(home.identity()?.public()));
    let failure = match own {
        Ok(own) if own == *trusted => {
            failure.help("--trust names your own key, not that of a host")
        }
        _ => failure,
    };
    failure
        .help("compare it with what `spore key show --host` prints on that machine")
        .help(format!(
            "if the host's key is the same, add: --trust {found}"
        ))
        .help("if it is not, another machine answers in the host's place")
}

/// The end of a command that Ctrl-C ended.
pub(crate) fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted; the guest was told to stop")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spore_client::{RefusalCode, Refused, TrapCode};

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[test]
    fn causes_follow_once() {
        assert_eq!(chain(&Outer(Inner)), "outer: inner");
    }

    #[test]
    fn failures_of_calls_are_told_apart() {
        let exit = |error: CallError<Json>| {
            call_failure(error, |json| Failure::guest_error("a::b", json))
                .0
                .exit
        };
        assert_eq!(exit(CallError::Guest(json!("no"))), Exit::Guest);
        let trap = GuestFailure::trap(TrapCode::Unreachable, "", ["f".to_owned()]);
        assert_eq!(exit(CallError::Failed(trap)), Exit::Guest);
        let refused = Refused::new(RefusalCode::Memory, "");
        assert_eq!(exit(CallError::Refused(refused)), Exit::Refused);
        let lost = spore_transport::StreamError::ClosedHere;
        assert_eq!(exit(CallError::Lost(lost)), Exit::Lost);
        assert_eq!(exit(CallError::Deadline), Exit::Local);
    }

    #[test]
    fn scripts_see_the_numbers_of_a_refusal() {
        let refused = Refused::new(RefusalCode::Memory, "").past(10, 11);
        let json = call_failure::<Json>(CallError::Refused(refused), |_| unreachable!()).json();
        assert_eq!(json["kind"], "refused");
        assert_eq!(json["name"], "Memory");
        assert_eq!((&json["limit"], &json["actual"]), (&json!(10), &json!(11)));
    }
}
