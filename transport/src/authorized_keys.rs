//! The text of `authorized_keys`: which keys a host serves, and what each gets.
//!
//! ```text
//! # One key per line, then options, then a comment.
//! ed25519:… grants=data,logs wall=10s memory=64MiB running=4 queued=64 stored=1GiB # laptop
//! ```
//!
//! Text in, text out: who reads and watches the file is not decided here.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::PublicKey;
use crate::identity::PublicKeyError;
use crate::units::{
    DURATION_MIN, duration_text, parse_count, parse_duration, parse_size, size_text,
};

/// Least memory of a guest that a line may leave, in bytes: one page of Wasm.
pub const MEMORY_BYTES_MIN: u64 = 64 << 10;

/// What a key gets. Options that are absent leave the host's configuration as it is; those that are
/// there lower it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// Names of the host's grants that bundles of this key may use; none unless listed
    pub grants: Vec<String>,
    /// Longest run of a guest, at least [`DURATION_MIN`]
    pub wall: Option<Duration>,
    /// A guest's memory, in bytes, at least [`MEMORY_BYTES_MIN`]
    pub memory_bytes: Option<u64>,
    /// Calls that run at the same time
    pub running: Option<u32>,
    /// Calls that wait or run
    pub queued: Option<u32>,
    /// Blobs that the key may have stored, in bytes
    pub stored_bytes: Option<u64>,
    /// What stands behind `#`, or empty
    pub comment: String,
}

impl fmt::Display for KeyOptions {
    /// As on a line, without the key: options, then the comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.grants.is_empty() {
            words.push(format!("grants={}", self.grants.join(",")));
        }
        words.extend(
            self.wall
                .map(|wall| format!("wall={}", duration_text(wall))),
        );
        words.extend(
            self.memory_bytes
                .map(|bytes| format!("memory={}", size_text(bytes))),
        );
        words.extend(self.running.map(|running| format!("running={running}")));
        words.extend(self.queued.map(|queued| format!("queued={queued}")));
        words.extend(
            self.stored_bytes
                .map(|bytes| format!("stored={}", size_text(bytes))),
        );
        if !self.comment.is_empty() {
            words.push(format!("# {}", one_line(&self.comment)));
        }
        f.write_str(&words.join(" "))
    }
}

/// What is wrong with a line. The fault of who edited the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AuthorizedKeysError {
    /// Counted from 1
    pub line: usize,
    /// What is wrong with it
    pub problem: LineProblem,
}

/// What is wrong with a line of `authorized_keys`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// The key cannot be read.
    #[error("{0}")]
    Key(PublicKeyError),
    /// The key has a line already, so that it is unclear which options hold.
    #[error("the key stands on line {first} already")]
    DuplicateKey {
        /// The other line, counted from 1
        first: usize,
    },
    /// Not an option of this version.
    #[error(
        "unknown option {option:?}; there are grants, wall, memory, running, queued and stored"
    )]
    UnknownOption {
        /// The option
        option: String,
    },
    /// A word is no option at all.
    #[error("{word:?} is no option; one is like wall=10s, and a comment begins with #")]
    NoOption {
        /// The word
        word: String,
    },
    /// An option stands twice.
    #[error("option {option} stands twice")]
    DuplicateOption {
        /// The option
        option: &'static str,
    },
    /// An option's value cannot be read.
    #[error("option {option} has value {value:?}; it takes {expected}")]
    Value {
        /// The option
        option: &'static str,
        /// Its value
        value: String,
        /// What it takes, with an example
        expected: &'static str,
    },
    /// An option's value would let nothing run.
    #[error("option {option} has value {value:?}; the least is {least}")]
    TooLittle {
        /// The option
        option: &'static str,
        /// Its value
        value: String,
        /// The least, as one would write it
        least: String,
    },
}

/// The keys that a host serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizedKeys {
    keys: HashMap<PublicKey, KeyOptions>,
    /// As their lines follow one another
    order: Vec<PublicKey>,
}

impl AuthorizedKeys {
    /// Reads the whole text.
    ///
    /// # Errors
    ///
    /// The first line that is wrong, so that no half-understood file is ever served.
    pub fn parse(text: &str) -> Result<Self, AuthorizedKeysError> {
        let mut authorized = AuthorizedKeys::default();
        let mut lines = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let error = |problem| AuthorizedKeysError {
                line: number,
                problem,
            };
            let Some((key, options)) = parse_line(line).map_err(error)? else {
                continue;
            };
            if let Some(first) = lines.insert(key, number) {
                return Err(error(LineProblem::DuplicateKey { first }));
            }
            authorized.order.push(key);
            authorized.keys.insert(key, options);
        }
        Ok(authorized)
    }

    /// What a key gets, or nothing when it is not authorised.
    pub fn lookup(&self, key: &PublicKey) -> Option<&KeyOptions> {
        self.keys.get(key)
    }

    /// Every key with what it gets, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &KeyOptions)> {
        self.order.iter().map(|key| (key, &self.keys[key]))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is authorised.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The text with `key` authorised: its line replaced, or one added at the end. Other lines stay
/// as they are, and so does its own comment when there is no new one.
///
/// # Errors
///
/// When the text cannot be read as it is, or the options cannot be written so that they read back.
pub fn authorize(
    text: &str,
    key: &PublicKey,
    options: &KeyOptions,
) -> Result<String, AuthorizedKeysError> {
    let before = AuthorizedKeys::parse(text)?;
    let mut options = options.clone();
    if options.comment.is_empty()
        && let Some(before) = before.lookup(key)
    {
        options.comment.clone_from(&before.comment);
    }
    let added = format!("{key} {options}").trim_end().to_owned();
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| line_key(line) == Some(*key)) {
        Some(index) => lines[index] = &added,
        None => lines.push(&added),
    }
    let edited = join(&lines);
    AuthorizedKeys::parse(&edited)?;
    Ok(edited)
}

/// The text without `key`, or nothing when it has no line. Other lines stay as they are.
///
/// A line that cannot be read elsewhere does not keep a key from being revoked.
pub fn revoke(text: &str, key: &PublicKey) -> Option<String> {
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| line_key(line) != Some(*key))
        .collect();
    (kept.len() < text.lines().count()).then(|| join(&kept))
}

fn join(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn split_comment(line: &str) -> (&str, &str) {
    line.split_once('#')
        .map_or((line, ""), |(words, comment)| (words, comment.trim()))
}

fn line_key(line: &str) -> Option<PublicKey> {
    split_comment(line)
        .0
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn parse_line(line: &str) -> Result<Option<(PublicKey, KeyOptions)>, LineProblem> {
    let (words, comment) = split_comment(line);
    let mut words = words.split_whitespace();
    let Some(key) = words.next() else {
        return Ok(None);
    };
    let key = key.parse().map_err(LineProblem::Key)?;
    let mut options = KeyOptions {
        comment: comment.to_owned(),
        ..KeyOptions::default()
    };
    for word in words {
        let no_option = || LineProblem::NoOption {
            word: word.to_owned(),
        };
        let (name, value) = word.split_once('=').ok_or_else(no_option)?;
        match name {
            "grants" => {
                let names = grants(value)?;
                if !options.grants.is_empty() {
                    return Err(LineProblem::DuplicateOption { option: "grants" });
                }
                options.grants = names;
            }
            "wall" => {
                set(&mut options.wall, "wall", value, DURATION, parse_duration)?;
                at_least(options.wall, "wall", value, DURATION_MIN, duration_text)?;
            }
            "memory" => {
                let memory = &mut options.memory_bytes;
                set(memory, "memory", value, SIZE, parse_size)?;
                at_least(*memory, "memory", value, MEMORY_BYTES_MIN, size_text)?;
            }
            "running" => set(&mut options.running, "running", value, PLACES, parse_places)?,
            "queued" => set(&mut options.queued, "queued", value, PLACES, parse_places)?,
            "stored" => set(&mut options.stored_bytes, "stored", value, SIZE, parse_size)?,
            name => {
                return Err(LineProblem::UnknownOption {
                    option: name.to_owned(),
                });
            }
        }
    }
    Ok(Some((key, options)))
}

/// A count of places, of which there is one at least: calls would wait for ever, or all be refused.
fn parse_places(text: &str) -> Option<u32> {
    parse_count(text).filter(|places| *places > 0)
}

const DURATION: &str = "a time, like 500ms, 10s, 2m or 1h";
const SIZE: &str = "a size, like 4096, 64KiB, 64MiB or 1GiB";
const PLACES: &str = "a number from 1 to 4294967295";
const GRANTS: &str = "names of grants, like data,logs";

fn set<T>(
    slot: &mut Option<T>,
    option: &'static str,
    value: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<(), LineProblem> {
    let parsed = parse(value).ok_or_else(|| LineProblem::Value {
        option,
        value: value.to_owned(),
        expected,
    })?;
    match slot.replace(parsed) {
        Some(_) => Err(LineProblem::DuplicateOption { option }),
        None => Ok(()),
    }
}

fn at_least<T: PartialOrd>(
    parsed: Option<T>,
    option: &'static str,
    value: &str,
    least: T,
    text: impl FnOnce(T) -> String,
) -> Result<(), LineProblem> {
    if parsed.is_none_or(|parsed| parsed >= least) {
        return Ok(());
    }
    Err(LineProblem::TooLittle {
        option,
        value: value.to_owned(),
        least: text(least),
    })
}

fn grants(value: &str) -> Result<Vec<String>, LineProblem> {
    let names: Vec<String> = value.split(',').map(str::to_owned).collect();
    if names.iter().any(|name| name.is_empty()) {
        let value = value.to_owned();
        return Err(LineProblem::Value {
            option: "grants",
            value,
            expected: GRANTS,
        });
    }
    Ok(names)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);

    fn problem(line: &str) -> LineProblem {
        let text = format!("# heading\n\n{A} {line}\n");
        let error = AuthorizedKeys::parse(&text).expect_err("a wrong line");
        assert_eq!(error.line, 3);
        error.problem
    }

    #[test]
    fn reads_every_option() {
        let text = format!(
            "\n  # office\n{A} grants=data,logs wall=10s memory=64MiB running=4 queued=64 \
             stored=1GiB # laptop # old\n{B}\n"
        );
        let keys = AuthorizedKeys::parse(&text).expect("a good file");
        let expected = KeyOptions {
            grants: vec!["data".into(), "logs".into()],
            wall: Some(Duration::from_secs(10)),
            memory_bytes: Some(64 << 20),
            running: Some(4),
            queued: Some(64),
            stored_bytes: Some(1 << 30),
            comment: "laptop # old".into(),
        };
        assert_eq!(keys.lookup(&A), Some(&expected));
        assert_eq!(keys.lookup(&B), Some(&KeyOptions::default()));
        assert_eq!(keys.lookup(&PublicKey([3; 32])), None);
        assert_eq!(keys.len(), 2);
        let listed: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
        assert_eq!(listed, [A, B]);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(
            problem("memroy=1MiB"),
            LineProblem::UnknownOption {
                option: "memroy".into()
            }
        );
        assert_eq!(
            problem("root"),
            LineProblem::NoOption {
                word: "root".into()
            }
        );
        assert_eq!(
            problem("wall=1s wall=2s"),
            LineProblem::DuplicateOption { option: "wall" }
        );
        assert_eq!(
            problem("grants=a grants=b"),
            LineProblem::DuplicateOption { option: "grants" }
        );
        for (line, expected) in [
            ("wall=10", DURATION),
            ("wall=-1s", DURATION),
            ("wall=18446744073709551615h", DURATION),
            ("memory=64MB", SIZE),
            ("memory=", SIZE),
            ("running=4294967296", PLACES),
            ("running=0", PLACES),
            ("queued=4k", PLACES),
            ("queued=0", PLACES),
            ("grants=", GRANTS),
            ("grants=a,,b", GRANTS),
        ] {
            let (option, value) = line.split_once('=').expect("an option");
            match problem(line) {
                LineProblem::Value {
                    option: o,
                    value: v,
                    expected: e,
                } => {
                    assert_eq!((o, v.as_str(), e), (option, value, expected));
                }
                other => panic!("{line}: {other}"),
            }
        }
        for (line, expected) in [
            ("wall=0s", "option wall has value \"0s\"; the least is 1ms"),
            (
                "memory=0",
                "option memory has value \"0\"; the least is 64KiB",
            ),
            (
                "memory=65535",
                "option memory has value \"65535\"; the least is 64KiB",
            ),
        ] {
            assert_eq!(problem(line).to_string(), expected);
        }
        for line in ["wall=1ms", "memory=64KiB"] {
            AuthorizedKeys::parse(&format!("{A} {line}")).expect(line);
        }
        let twice = AuthorizedKeys::parse(&format!("{A}\n{B}\n{A} wall=1s"));
        let problem = LineProblem::DuplicateKey { first: 1 };
        assert_eq!(twice, Err(AuthorizedKeysError { line: 3, problem }));
    }

    #[test]
    fn editing_keeps_other_lines() {
        let text = format!("# office\n{A} wall=1s # laptop\n\n# end");
        let options = KeyOptions {
            grants: vec!["data".into()],
            wall: Some(Duration::from_millis(1500)),
            memory_bytes: Some(3 << 20),
            comment: "desk\nroot".into(),
            ..KeyOptions::default()
        };
        let with_b = authorize(&text, &B, &options).expect("a good file");
        assert_eq!(
            with_b,
            format!("{text}\n{B} grants=data wall=1500ms memory=3MiB # desk root\n")
        );
        let replaced = authorize(&with_b, &A, &KeyOptions::default()).expect("a good file");
        let line = format!("{A} # laptop");
        assert_eq!(replaced.lines().nth(1), Some(line.as_str()));
        assert_eq!(replaced.lines().count(), with_b.lines().count());

        let without = revoke(&with_b, &B).expect("B has a line");
        assert_eq!(without, format!("{text}\n"));
        assert_eq!(revoke(&text, &B), None);
        let broken = format!("nonsense\n{A} what=1\n");
        assert_eq!(revoke(&broken, &A), Some("nonsense\n".into()));
    }

    #[test]
    fn grants_that_would_not_read_back_are_refused() {
        let options = KeyOptions {
            grants: vec!["a b".into()],
            ..KeyOptions::default()
        };
        assert!(authorize("", &A, &options).is_err());
    }

    proptest! {
        #[test]
        fn options_read_back(wall in proptest::option::of(1u64..1 << 40),
                             memory in proptest::option::of(MEMORY_BYTES_MIN..1 << 50),
                             stored in proptest::option::of(0u64..1 << 50),
                             running: Option<u32>, queued: Option<u32>) {
            let options = KeyOptions {
                wall: wall.map(Duration::from_millis),
                memory_bytes: memory,
                stored_bytes: stored,
                running,
                queued,
                ..KeyOptions::default()
            };
            let text = authorize("", &A, &options).expect("an empty file");
            let keys = AuthorizedKeys::parse(&text).expect("own text");
            prop_assert_eq!(keys.lookup(&A), Some(&options));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = AuthorizedKeys::parse(&text);
            let _ = revoke(&text, &A);
        }
    }
}
