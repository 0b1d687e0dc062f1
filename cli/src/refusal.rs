//! What is said of a refusal: what went beyond which limit, who set that, and what to do next.

use spore_client::{CallLimits, ConnectError, Origin, RefusalCode, Refused};
use spore_transport::Unit;
use spore_transport::units::{duration_text, size_text};

use crate::exit::{Exit, Failure};
use crate::output;

/// Who refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// A host of this process. The command has set these limits of it.
    Embedded(CallLimits),
    /// Another host. The command has asked it for these limits.
    Host(CallLimits),
    /// Nobody just now: a job has ended so.
    Job,
}

/// The failure of a request that was refused.
pub(crate) fn failure(refused: &Refused, by: By) -> Failure {
    let set = match by {
        By::Embedded(set) | By::Host(set) => set,
        By::Job => CallLimits::default(),
    };
    let setting = Setting::of(refused.code, &set);
    let is_own = refused.limit.is_some() && refused.limit == setting.set;
    let text = text(refused);
    let message = match by {
        // There is no key here that could have the grant.
        By::Embedded(_) if refused.code == RefusalCode::GrantNotGiven => {
            let grant = refused.message.split(": ").next().unwrap_or_default();
            format!("the bundle asks for what is not granted: {grant}")
        }
        By::Embedded(_) => text,
        // The host was not asked: see `CallLimits`.
        By::Host(_) if is_own && is_of_bundle(refused.code) => text,
        By::Host(_) => format!("the host refused: {text}"),
        By::Job => format!("the job was ended: {text}"),
    };
    let whose = refused
        .limit
        .map(|_| if is_own { "caller" } else { "host" });
    let failure = details(Failure::new(Exit::Refused, message), refused).detail("limit_of", whose);
    match refused.code {
        RefusalCode::NotAuthorised => not_authorised(failure),
        RefusalCode::UnknownBundle => failure.help("send it first: spore send FILE --to HOST"),
        RefusalCode::GrantNotGiven if matches!(by, By::Embedded(_)) => {
            failure.help("a directory is granted with --dir NAME=PATH, to each command anew")
        }
        RefusalCode::GrantNotGiven => failure.help(
            "a directory is granted in the host's spore.toml, under [grants.directories], and to \
             a key with `spore key authorize KEY grants=NAME` there",
        ),
        RefusalCode::TooManyRequests if !refused.message.is_empty() => connections(failure),
        RefusalCode::QueueFull | RefusalCode::ShuttingDown | RefusalCode::TooManyRequests => {
            failure.help("try again later")
        }
        RefusalCode::JobEnded => failure.help("what it has come to: spore job result JOB --on HOST"),
        RefusalCode::NotResumable => failure
            .help("a job is a run of an `async fn` that is a callable, or of one that emits items")
            .help("without --job it can be called"),
        RefusalCode::UnknownSession => failure.help(
            "`spore session ls --on HOST` shows your sessions there; one that nobody uses is closed \
             after a while, and one that was never saved does not survive its host",
        ),
        RefusalCode::SessionPoisoned => failure.help(
            "spore session restore SESSION --on HOST, if it was saved, or spore session close SESSION \
             --on HOST",
        ),
        RefusalCode::SessionHeld => failure
            .help(
                "its move broke off. This ends it, with its id there: spore session settle SESSION \
                 --from HOST --to HOST",
            )
            .help("if that host never comes back, see: spore session adopt -h"),
        RefusalCode::SessionElsewhere => failure.help(
            "it goes on there. If that move broke off, this ends it: spore session settle SESSION \
             --from HOST --to HOST",
        ),
        RefusalCode::StoreDamaged => failure.help(
            "the host's log names the file. What was saved elsewhere can be opened anew, and what cannot \
             be read is let go of with `spore session close` or `spore job result --force`",
        ),
        RefusalCode::WrongCaptures => failure.help(
            "captures are bound to a bundle before it is run or opened: spore capture FILE CALLABLE JSON \
             -o OUT",
        ),
        RefusalCode::UnknownJob => failure.help(
            "`spore job ls --on HOST` shows your jobs there; one is gone once its result was taken, or \
             when it has moved to another host",
        ),
        RefusalCode::TooManyJobs => {
            failure.help("those that have ended count until their result was taken: spore job result")
        }
        RefusalCode::NoCheckpoint => failure.help("allow more time with --within TIME"),
        RefusalCode::JobElsewhere => failure.help(
            "it has the same id there; `spore key ls` names the hosts that you know. A move that broke \
             off is ended with: spore job settle JOB --from HOST --to HOST",
        ),
        RefusalCode::MoveUnderWay => failure.help(
            "if nothing moves it just now, the move broke off, and this ends it: spore job settle JOB \
             --from HOST --to HOST",
        ),
        RefusalCode::ItemsGone => failure.help("begin with one that is left, or without --from"),
        _ if refused.limit.is_some() => setting.help(failure, by, is_own),
        _ => failure,
    }
}

/// Whether a limit is one on the size of a bundle's parts.
fn is_of_bundle(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::CodeTooLarge | RefusalCode::StateTooLarge)
}

/// The failure of a callable that needs directories which this command does not grant.
pub(crate) fn not_granted(callable: &str, directories: &[&str]) -> Failure {
    let names = directories.join(", ");
    let message = format!("{callable} needs directories that are not granted: {names}");
    let refused = Refused::new(RefusalCode::GrantNotGiven, "");
    let failure = details(Failure::new(Exit::Refused, message), &refused);
    let options = directories.iter().map(|name| format!(" --dir {name}=PATH"));
    failure.help(format!("add:{}", options.collect::<String>()))
}

/// The failure of a connection that the host does not take.
pub(crate) fn of_connection(error: &ConnectError) -> Option<Failure> {
    let failure = || Failure::of(Exit::Refused, error);
    if error.is_not_authorised() {
        return Some(not_authorised(failure()));
    }
    error
        .is_too_many_connections()
        .then(|| connections(failure()))
}

/// The failure of a session here that a move has left held, or has taken elsewhere.
pub(crate) fn of_move(code: RefusalCode, what: Origin) -> Failure {
    let refused = Refused::new(code, what.to_string());
    failure(&refused, By::Embedded(CallLimits::default()))
}

/// For scripts: the numbers of a refusal.
fn details(failure: Failure, refused: &Refused) -> Failure {
    failure
        .detail("code", refused.code.number())
        .detail("name", refused.code.name())
        .detail("fault", refused.code.fault().to_string())
        .detail("limit", refused.limit)
        .detail("actual", refused.actual)
}

/// The refusal in one line, with its numbers as people write them.
fn text(refused: &Refused) -> String {
    let code = refused.code;
    let mut text = match what(refused) {
        "" => code.to_string(),
        // The code's own words speak of requests, and this of connections.
        what if code == RefusalCode::TooManyRequests => what.to_owned(),
        what => format!("{code}: {what}"),
    };
    let unit = unit(refused);
    match (refused.limit, refused.actual) {
        (Some(limit), Some(actual)) => {
            let (limit, actual) = (set(unit, limit), found(unit, actual));
            text.push_str(&format!(" ({actual}, limit {limit})"));
        }
        (Some(limit), None) => text.push_str(&format!(" (limit {})", set(unit, limit))),
        (None, _) => {}
    }
    text
}

/// The host's words, without the unit that is written with the numbers.
fn what(refused: &Refused) -> &str {
    let message = &*refused.message;
    message.strip_suffix(", bytes").unwrap_or(message)
}

/// What the numbers of a refusal count.
fn unit(refused: &Refused) -> Unit {
    match refused.code.unit() {
        // Memory has elements of tables too, and a queue calls or bytes: the words say which.
        Unit::Count if refused.message.contains("bytes") => Unit::Bytes,
        unit => unit,
    }
}

/// A limit, as one would set it.
fn set(unit: Unit, limit: u64) -> String {
    match unit {
        Unit::Bytes => size_text(limit),
        Unit::Milliseconds => duration_text(std::time::Duration::from_millis(limit)),
        Unit::Count => limit.to_string(),
    }
}

/// What was found, which is no round number.
fn found(unit: Unit, actual: u64) -> String {
    match unit {
        Unit::Bytes => output::size(actual),
        _ => set(unit, actual),
    }
}

/// Where a limit is set.
#[derive(Default)]
struct Setting {
    /// The key of `spore.toml`, where the code stands for one limit only
    key: Option<&'static str>,
    /// The option on a line of `authorized_keys`
    word: Option<&'static str>,
    /// The option of `spore run`
    option: Option<&'static str>,
    /// What the command has set
    set: Option<u64>,
}

impl Setting {
    fn of(code: RefusalCode, set: &CallLimits) -> Setting {
        let key = |key| Setting {
            key: Some(key),
            ..Setting::default()
        };
        match code {
            RefusalCode::WallTime => Setting {
                word: Some("wall"),
                option: Some("--wall TIME"),
                set: set.wall_ms,
                ..key("wall")
            },
            RefusalCode::Memory => Setting {
                key: None,
                word: Some("memory"),
                option: Some("--memory SIZE"),
                set: set.memory_bytes,
            },
            RefusalCode::ResultTooLarge => Setting {
                option: Some("--result SIZE"),
                set: set.result_bytes,
                ..key("result")
            },
            RefusalCode::StoreFull => Setting {
                word: Some("stored"),
                ..key("store")
            },
            RefusalCode::CodeTooLarge => Setting {
                option: Some("--code SIZE"),
                set: set.code_bytes,
                ..key("code")
            },
            RefusalCode::StateTooLarge => Setting {
                option: Some("--state SIZE"),
                set: set.state_bytes,
                ..key("state")
            },
            RefusalCode::ArgumentsTooLarge => key("arguments"),
            RefusalCode::TooManyFunctions => key("functions"),
            RefusalCode::FunctionTooLarge => key("function_body"),
            RefusalCode::CompilationTime => key("compilation"),
            RefusalCode::TooManyFiles => key("open_files"),
            RefusalCode::UploadStalled => key("upload_stall"),
            _ => Setting::default(),
        }
    }

    /// Says who set the limit, and how to get more.
    fn help(&self, failure: Failure, by: By, is_own: bool) -> Failure {
        let Setting {
            key, word, option, ..
        } = self;
        if let (true, Some(option)) = (is_own, option) {
            let most = match by {
                By::Embedded(_) | By::Job => "",
                By::Host(_) => ", up to what the host allows",
            };
            return failure.help(format!(
                "this command set that limit: allow more with {option}{most}"
            ));
        }
        if let By::Job = by {
            let option = option.map_or(String::new(), |option| {
                format!(", or {option} with which the job was started")
            });
            return failure.help(format!("the host set that limit{option}"));
        }
        let mut place = match key {
            Some(key) => format!("`{key}` under [limits] of its spore.toml"),
            None => "under [limits] of its spore.toml".to_owned(),
        };
        if let By::Embedded(_) = by {
            return failure.help(format!(
                "no option sets that limit here; on a host it is {place}"
            ));
        }
        if let Some(word) = word {
            place.push_str(&format!(
                ", or {word}= on the line of your key in its authorized_keys"
            ));
        }
        // Who has not used the option need not know of it, and may have none.
        let used = option.filter(|_| self.set.is_some());
        let lower = match used.and_then(|option| option.split(' ').next()) {
            Some(option) => format!("; {option} only lowers it"),
            None => String::new(),
        };
        failure
            .help(format!("the host set that limit: {place}"))
            .help(format!(
                "`spore status HOST` shows what holds for you{lower}"
            ))
    }
}

/// Says what takes up connections.
fn connections(failure: Failure) -> Failure {
    failure
        .help("every command and program that uses the host has one: end some, or try again later")
        .help(
            "the host sets how many: `connections_per_key` and `connections` under [limits] of its \
             spore.toml",
        )
}

/// Says which command on the host's machine authorises this user.
fn not_authorised(failure: Failure) -> Failure {
    match crate::connect::home().and_then(|home| Ok(home.identity()?.public())) {
        Ok(key) => failure.help(format!(
            "on the host's machine, run: spore key authorize {key}"
        )),
        Err(_) => failure.help("on the host's machine, run: spore key authorize KEY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(code: RefusalCode, message: &str) -> Refused {
        Refused::new(code, message).past(64 << 10, (1 << 20) + 1)
    }

    #[test]
    fn numbers_have_their_units() {
        use RefusalCode::*;
        for (refused, expected) in [
            (
                Refused::new(WallTime, "").past(60_000, 60_001),
                "the guest ran longer than it may (60001ms, limit 1m)",
            ),
            (
                refused(Memory, "memory of one guest, bytes"),
                "the guest asked for more memory than it may have: memory of one guest (1.1 MiB, \
                 limit 64KiB)",
            ),
            (
                refused(Memory, "table elements"),
                "the guest asked for more memory than it may have: table elements (1048577, limit \
                 65536)",
            ),
            (
                refused(CodeTooLarge, ""),
                "the code is too large (1.1 MiB, limit 64KiB)",
            ),
            (
                Refused::new(QueueFull, "calls of the key").past(512, None),
                "too many calls are queued: calls of the key (limit 512)",
            ),
            (
                Refused::new(TooManyRequests, "").past(9, None),
                "the key has too many requests open (limit 9)",
            ),
            (
                Refused::new(TooManyRequests, "too many connections: the key may have 16"),
                "too many connections: the key may have 16",
            ),
            (Refused::new(Cancelled, ""), "the call was cancelled"),
        ] {
            assert_eq!(text(&refused), expected);
        }
    }

    #[test]
    fn a_limit_is_of_who_set_it() {
        let set = CallLimits {
            memory_bytes: Some(64 << 10),
            ..CallLimits::default()
        };
        let asked_for_more = CallLimits {
            memory_bytes: Some(1 << 30),
            ..CallLimits::default()
        };
        let memory = || refused(RefusalCode::Memory, "memory of one guest, bytes");
        for (refused, by, whose) in [
            (memory(), By::Embedded(set), json!("caller")),
            (memory(), By::Host(set), json!("caller")),
            (memory(), By::Host(asked_for_more), json!("host")),
            (memory(), By::Host(CallLimits::default()), json!("host")),
            (
                refused(RefusalCode::CodeTooLarge, ""),
                By::Embedded(set),
                json!("host"),
            ),
            (
                Refused::new(RefusalCode::Memory, ""),
                By::Host(CallLimits::default()),
                json!(null),
            ),
        ] {
            assert_eq!(failure(&refused, by).json()["limit_of"], whose, "{by:?}");
        }
    }
}
