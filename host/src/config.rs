//! `spore.toml`: how a daemon is set up.
//!
//! ```toml
//! listen = "0.0.0.0:7473"
//! workers = 4
//! grace = "10s"
//!
//! [limits]
//! wall = "60s"
//! memory = "256MiB"
//! queue = 1024
//!
//! [grants.directories]
//! prices = "/srv/prices"
//! ```
//!
//! Every key is optional; an unknown one is an error that names it. The limits are those of
//! [`Limits`], by the same names.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use spore_bundle::is_plain_name;
use spore_transport::job::JOBS_LISTED_MAX;
use spore_transport::session::SESSIONS_LISTED_MAX;
use spore_transport::units::{DURATION_MIN, duration_text, parse_duration, parse_size, size_text};
use toml::Spanned;

use crate::grants::Grants;
use crate::host::Setup;
use crate::limits::{Limits, MEMORY_BYTES};

/// Port of a host that is told no other.
pub const PORT_DEFAULT: u16 = 7473;

/// Most threads that run guests: more than machines have cores.
const WORKERS_MAX: usize = 4096;

/// Time that running calls get to finish after SIGTERM, unless configured otherwise.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Time between two images of a running job on the disk, unless configured otherwise.
pub const JOB_PERSIST_DEFAULT: Duration = Duration::from_secs(10);

/// A daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it listens. Default: port [`PORT_DEFAULT`] of every IPv4 address.
    pub listen: SocketAddr,
    /// Threads that run guests. Default: as many as there are cores.
    pub workers: Option<usize>,
    /// Time that running calls get to finish after SIGTERM. Default: [`GRACE_DEFAULT`].
    pub grace: Duration,
    /// How often running jobs are made durable whose owners do not say; never while they run when
    /// there is none. Default: [`JOB_PERSIST_DEFAULT`]. In the file `"0s"` is never.
    pub job_persist: Option<Duration>,
    /// What it allows.
    pub limits: Limits,
    /// What guests may be given.
    pub grants: Grants,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], PORT_DEFAULT)),
            workers: None,
            grace: GRACE_DEFAULT,
            job_persist: Some(JOB_PERSIST_DEFAULT),
            limits: Limits::default(),
            grants: Grants::default(),
        }
    }
}

/// Why `spore.toml` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not what is expected; says where and why.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// A limit lets nothing through at all, or is beyond what the engine takes.
    #[error("{}limits.{name} = {value}: must be {}", at(*line), range(least, most))]
    Range {
        /// Where it stands, counted from 1; nothing when it follows from others
        line: Option<usize>,
        /// The limit's name
        name: &'static str,
        /// What it is set to
        value: Amount,
        /// Smallest value
        least: Amount,
        /// Largest value, if there is one
        most: Option<Amount>,
    },
    /// No threads for guests, or more than make sense.
    #[error("workers = {workers}: must be from 1 to {WORKERS_MAX}")]
    Workers {
        /// What it is set to
        workers: usize,
    },
    /// The name of a directory that no guest could ask for.
    #[error(
        "grants.directories: {name:?} must consist of letters, digits, `-`, `_` and `.`, and begin \
         with no `.`"
    )]
    GrantName {
        /// The name
        name: String,
    },
}

/// The value of a limit. Displayed as `spore.toml` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Amount {
    /// So many of something.
    Count(u64),
    /// So many bytes.
    Size(u64),
    /// So much time.
    Time(Duration),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Size(bytes) => f.write_str(&size_text(bytes)),
            Amount::Time(time) => f.write_str(&duration_text(time)),
        }
    }
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

fn range(least: &Amount, most: &Option<Amount>) -> String {
    match most {
        Some(most) => format!("from {least} to {most}"),
        None => format!("at least {least}"),
    }
}

impl Config {
    /// Reads the text of `spore.toml`.
    ///
    /// # Errors
    ///
    /// Names the key, the line, and what is expected there.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let file: File = toml::from_str(text)?;
        let defaults = Config::default();
        let halved = Halved::of(&file.limits);
        let lines = file.limits.lines(text);
        let config = Config {
            listen: file.listen.unwrap_or(defaults.listen),
            workers: file.workers.map(|workers| workers as usize),
            job_persist: match file.job_persist {
                Some(every) if every.0.is_zero() => None,
                Some(every) => Some(every.0),
                None => Some(JOB_PERSIST_DEFAULT),
            },
            grace: file.grace.map_or(defaults.grace, |grace| grace.0),
            limits: file.limits.over(halved.over(defaults.limits)),
            grants: Grants {
                directories: file.grants.directories,
            },
        };
        config.check(&lines)?;
        Ok(config)
    }

    /// What the host itself needs of this.
    pub fn setup(&self) -> Setup {
        Setup {
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            workers: self.workers,
            job_persist: self.job_persist,
        }
    }

    /// Refuses what lets nothing through, since the host would look sound, and what the engine does
    /// not take. `lines` are those of the limits that are given.
    fn check(&self, lines: &BTreeMap<&'static str, usize>) -> Result<(), ConfigError> {
        let limits = &self.limits;
        if let Some(workers) = self.workers
            && !(1..=WORKERS_MAX).contains(&workers)
        {
            return Err(ConfigError::Workers { workers });
        }
        let times = [
            ("wall", limits.wall),
            ("upload_stall", limits.upload_stall),
            ("compilation", limits.compilation),
            ("reader_stall", limits.reader_stall),
            ("session_idle", limits.session_idle),
        ];
        let times =
            times.map(|(name, time)| (name, Amount::Time(time), Amount::Time(DURATION_MIN)));
        let sizes = [
            ("arguments_per_key", limits.arguments_per_key),
            ("memory_total", limits.memory_total),
            ("memory_per_key", limits.memory_per_key),
            ("uploads", limits.uploads),
            ("store", limits.store),
            ("result", limits.result),
            ("code", limits.code),
            ("function_body", limits.function_body.into()),
        ];
        let sizes = sizes.map(|(name, bytes)| (name, Amount::Size(bytes), Amount::Size(1)));
        let counts = [
            ("functions", limits.functions),
            ("connections", limits.connections),
            ("connections_per_key", limits.connections_per_key),
            ("requests_per_key", limits.requests_per_key),
        ];
        let count = |count: u32| Amount::Count(count.into());
        let counts = counts.map(|(name, value)| (name, count(value), count(1)));
        let open = times.into_iter().chain(sizes).chain(counts);
        let open = open.map(|(name, value, least)| (name, value, least, None));

        let between = |name, value, range: RangeInclusive<u64>, amount: fn(u64) -> Amount| {
            let (least, most) = range.into_inner();
            (name, amount(value), amount(least), Some(amount(most)))
        };
        let size = |name, value, range| between(name, value, range, Amount::Size);
        let count = |name, value: u32, range| between(name, value.into(), range, Amount::Count);
        let closed = [
            size("memory", limits.memory, MEMORY_BYTES),
            size("stack", limits.stack, 64 << 10..=64 << 20),
            count("instances", limits.instances, 1..=10_000),
            count("instances_per_key", limits.instances_per_key, 1..=10_000),
            count("queue", limits.queue, 1..=1 << 20),
            count("queue_per_key", limits.queue_per_key, 1..=1 << 20),
            count("handshakes", limits.handshakes, 1..=1 << 16),
            count(
                "handshakes_per_address",
                limits.handshakes_per_address,
                1..=1 << 16,
            ),
            count("table_elements", limits.table_elements, 1..=10_000_000),
            // What a list would not hold could not be found.
            count(
                "sessions_per_key",
                limits.sessions_per_key,
                0..=SESSIONS_LISTED_MAX as u64,
            ),
            count(
                "jobs_per_key",
                limits.jobs_per_key,
                0..=JOBS_LISTED_MAX as u64,
            ),
        ];
        for (name, value, least, most) in open.chain(closed) {
            if value < least || most.is_some_and(|most| value > most) {
                return Err(ConfigError::Range {
                    line: lines.get(name).copied(),
                    name,
                    value,
                    least,
                    most,
                });
            }
        }
        let mut names = self.grants.directories.keys();
        match names.find(|name| !is_plain_name(name)) {
            Some(name) => Err(ConfigError::GrantName { name: name.clone() }),
            None => Ok(()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    workers: Option<u32>,
    job_persist: Option<Span>,
    grace: Option<Span>,
    limits: LimitsFile,
    grants: GrantsFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GrantsFile {
    directories: BTreeMap<String, PathBuf>,
}

/// A duration such as `"60s"` or `"500ms"`.
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a duration such as \"60s\""))?;
        let wrong = || D::Error::custom(format!("{text:?} is no duration such as \"60s\""));
        parse_duration(&text).map(Span).ok_or_else(wrong)
    }
}

/// A size such as `"256MiB"`, or a number of bytes.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        let written = Written::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a size such as \"256MiB\""))?;
        match written {
            Written::Bytes(bytes) => Ok(Size(bytes)),
            Written::Text(text) => {
                let wrong = || D::Error::custom(format!("{text:?} is no size such as \"256MiB\""));
                parse_size(&text).map(Size).ok_or_else(wrong)
            }
        }
    }
}

/// The shares of one key that follow from totals: a half, where only the total is given.
struct Halved {
    queue: Option<u32>,
    instances: Option<u32>,
    memory: Option<u64>,
}

impl Halved {
    fn of(file: &LimitsFile) -> Halved {
        fn half<T, H>(total: &Option<Spanned<T>>, half: impl FnOnce(&T) -> H) -> Option<H> {
            total.as_ref().map(|total| half(total.get_ref()))
        }
        Halved {
            queue: half(&file.queue, |queue| queue.div_ceil(2)),
            instances: half(&file.instances, |instances| instances.div_ceil(2)),
            memory: half(&file.memory_total, |total| total.0.div_ceil(2)),
        }
    }

    fn over(self, mut limits: Limits) -> Limits {
        let Halved {
            queue,
            instances,
            memory,
        } = self;
        limits.queue_per_key = queue.unwrap_or(limits.queue_per_key);
        limits.instances_per_key = instances.unwrap_or(limits.instances_per_key);
        limits.memory_per_key = memory.unwrap_or(limits.memory_per_key);
        limits
    }
}

/// Declares the limits of the file once: name and kind.
macro_rules! limits_file {
    ($( $name:ident: $kind:ty, )*) => {
        /// Every key of `[limits]`.
        #[cfg(test)]
        const LIMIT_KEYS: &[&str] = &[$( stringify!($name), )*];

        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct LimitsFile {
            $( $name: Option<Spanned<$kind>>, )*
        }

        impl LimitsFile {
            /// These limits, and `others` where none is given.
            fn over(self, mut others: Limits) -> Limits {
                $( if let Some(value) = self.$name { others.$name = value.into_inner().into(); } )*
                others
            }

            /// The lines of those that are given, counted from 1.
            fn lines(&self, text: &str) -> BTreeMap<&'static str, usize> {
                let mut lines = BTreeMap::new();
                $( if let Some(value) = &self.$name {
                    let before = &text.as_bytes()[..value.span().start];
                    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                    lines.insert(stringify!($name), line);
                } )*
                lines
            }
        }
    };
}

limits_file! {
    wall: Span,
    memory: Size,
    result: Size,
    output: Size,
    arguments: Size,
    arguments_per_key: Size,
    code: Size,
    state: Size,
    functions: u32,
    function_body: Size32,
    table_elements: u32,
    open_files: u32,
    stack: Size,
    queue: u32,
    queue_per_key: u32,
    instances: u32,
    instances_per_key: u32,
    memory_total: Size,
    memory_per_key: Size,
    sessions_per_key: u32,
    session_idle: Span,
    session_images_per_key: Size,
    prepared: Size,
    jobs_per_key: u32,
    kept: Size,
    code_cache: Size,
    blob_cache: Size,
    store: Size,
    uploads: Size,
    connections: u32,
    connections_per_key: u32,
    handshakes: u32,
    handshakes_per_address: u32,
    requests_per_key: u32,
    upload_stall: Span,
    compilation: Span,
    reader_stall: Span,
}

/// A size that Wasm counts in 32 bits.
struct Size32(u32);

impl<'de> Deserialize<'de> for Size32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Size(bytes) = Size::deserialize(deserializer)?;
        let wrong = |_| D::Error::custom(format!("{} is more than 4GiB", size_text(bytes)));
        u32::try_from(bytes).map(Size32).map_err(wrong)
    }
}

impl From<Size32> for u32 {
    fn from(size: Size32) -> u32 {
        size.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> u64 {
        size.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").expect("empty"), Config::default());
    }

    #[test]
    fn what_is_given_replaces_the_default() {
        let text = "listen = \"127.0.0.1:0\"\nworkers = 3\n[limits]\nwall = \"2s\"\nmemory = \"1MiB\"\n\
                    stack = 65536\n[grants.directories]\nprices = \"/srv/prices\"\n";
        let config = Config::parse(text).expect("right");
        assert_eq!(config.workers, Some(3));
        assert_eq!(config.limits.wall, Duration::from_secs(2));
        assert_eq!(config.limits.memory, 1 << 20);
        assert_eq!(config.limits.stack, 65_536);
        assert_eq!(config.limits.result, Limits::default().result);
        assert_eq!(
            config.grants.directories["prices"],
            PathBuf::from("/srv/prices")
        );
    }

    /// The table of limits that people read has every key, with its default.
    #[test]
    fn the_readme_has_every_limit_with_its_default() {
        let readme = include_str!("../../cli/README.md");
        let mut rows = readme.lines().filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
            Some((key, rest.split_once("` | ")?.0))
        });
        for key in LIMIT_KEYS {
            let (_, default) = rows.find(|(name, _)| name == key).expect(key);
            let text = format!("[limits]\n{key} = {default}");
            let config = Config::parse(&text).expect(key);
            assert_eq!(config, Config::default(), "{key} = {default}");
        }
    }

    #[test]
    fn one_key_gets_a_half_of_a_total_unless_it_is_given_its_own() {
        let limits = |text: &str| Config::parse(text).expect("right").limits;
        let halved = limits("[limits]\nqueue = 101\ninstances = 20\nmemory_total = \"2GiB\"");
        assert_eq!(halved.queue_per_key, 51);
        assert_eq!(halved.instances_per_key, 10);
        assert_eq!(halved.memory_per_key, 1 << 30);
        let given = limits("[limits]\nqueue = 100\nqueue_per_key = 90");
        assert_eq!(given.queue_per_key, 90);
    }

    #[test]
    fn an_unknown_key_is_named() {
        for (text, key) in [
            ("lisen = \"127.0.0.1:0\"", "lisen"),
            ("[limits]\nmemmory = 1", "memmory"),
            ("[grants]\nenvironment = {}", "environment"),
        ] {
            let message = Config::parse(text).expect_err("unknown").to_string();
            assert!(
                message.contains(&format!("unknown field `{key}`")),
                "{message}"
            );
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        for (text, expected) in [
            ("workers = 0", "workers = 0: must be from 1 to 4096"),
            ("workers = 4097", "workers = 4097: must be from 1 to 4096"),
            (
                "[limits]\nwall = \"0s\"",
                "line 2: limits.wall = 0ms: must be at least 1ms",
            ),
            (
                "[limits]\n\nconnections = 0",
                "line 3: limits.connections = 0: must be at least 1",
            ),
            (
                "limits = { uploads = 0 }",
                "line 1: limits.uploads = 0: must be at least 1",
            ),
            (
                "[limits]\nqueue = 2\nmemory = 65535",
                "line 3: limits.memory = 65535: must be from 64KiB to 4GiB",
            ),
            (
                "[limits]\nmemory = \"5GiB\"",
                "line 2: limits.memory = 5GiB: must be from 64KiB to 4GiB",
            ),
            (
                "[limits]\nstack = \"65MiB\"",
                "line 2: limits.stack = 65MiB: must be from 64KiB to 64MiB",
            ),
            (
                "[limits]\ninstances = 10001",
                "line 2: limits.instances = 10001: must be from 1 to 10000",
            ),
        ] {
            let message = Config::parse(text).expect_err(text).to_string();
            assert_eq!(message, expected);
        }
        for (text, expected) in [
            ("[limits]\nwall = \"soon\"", "no duration such as \"60s\""),
            ("[limits]\nwall = 60", "a duration such as \"60s\""),
            ("[limits]\nmemory = \"1GB\"", "no size such as \"256MiB\""),
            (
                "[limits]\nfunction_body = \"5GiB\"",
                "5GiB is more than 4GiB",
            ),
        ] {
            let message = Config::parse(text).expect_err(text).to_string();
            assert!(message.contains("line 2"), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn directories_have_the_names_that_guests_ask_for() {
        let grant = |name: &str| format!("[grants.directories]\n{name:?} = \"/srv\"");
        for name in ["prices", "prices.v1", "a-b_c"] {
            let config = Config::parse(&grant(name)).expect(name);
            assert!(config.grants.directories.contains_key(name));
        }
        for name in ["", ".", "..", ".prices", "a/b", "a b"] {
            let message = Config::parse(&grant(name)).expect_err(name).to_string();
            assert!(message.contains(&format!("{name:?}")), "{message}");
        }
    }
}
