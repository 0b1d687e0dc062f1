//! The text of `known_hosts`: which key a client has pinned for each host.
//!
//! ```text
//! HOST:PORT ed25519:…  # comment
//! ```
//!
//! Text in, text out: who reads and writes the file is not decided here.

use std::collections::HashMap;

use crate::PublicKey;
use crate::identity::PublicKeyError;

/// What is known of a host's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// The key is the pinned one.
    Known,
    /// Another key is pinned: the host was set up anew, or this is another host.
    Changed {
        /// The pinned key
        expected: PublicKey,
    },
    /// No key is pinned for the address.
    Unknown,
}

/// What is wrong with a line. The fault of who edited the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct KnownHostsError {
    /// Counted from 1
    pub line: usize,
    /// What is wrong with it
    pub problem: KnownHostsProblem,
}

/// What is wrong with a line of `known_hosts`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KnownHostsProblem {
    /// The address is not a host and a port.
    #[error("{address:?} is no address; one is like host:7473 or [::1]:7473")]
    Address {
        /// What stands in its place
        address: String,
    },
    /// The key is missing.
    #[error("no key stands after the address")]
    NoKey,
    /// The key cannot be read.
    #[error("{0}")]
    Key(PublicKeyError),
    /// Something stands after the key.
    #[error("{word:?} stands after the key; comments begin with #")]
    Extra {
        /// What stands there
        word: String,
    },
    /// The address has a line already.
    #[error("the address stands on line {first} already")]
    DuplicateAddress {
        /// The other line, counted from 1
        first: usize,
    },
}

/// The keys that a client has pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownHosts {
    keys: HashMap<String, PublicKey>,
    /// The addresses, as their lines follow one another
    order: Vec<String>,
}

impl KnownHosts {
    /// Reads the whole text.
    ///
    /// # Errors
    ///
    /// The first line that is wrong, so that no pinned key is ever passed over.
    pub fn parse(text: &str) -> Result<Self, KnownHostsError> {
        let mut known = KnownHosts::default();
        let mut lines = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let error = |problem| KnownHostsError {
                line: number,
                problem,
            };
            let Some((address, key)) = parse_line(line).map_err(error)? else {
                continue;
            };
            if let Some(first) = lines.insert(address.clone(), number) {
                return Err(error(KnownHostsProblem::DuplicateAddress { first }));
            }
            known.order.push(address.clone());
            known.keys.insert(address, key);
        }
        Ok(known)
    }

    /// What is known of `key` at `address`, which is `HOST:PORT` as the caller wrote it. Upper and
    /// lower case are the same.
    pub fn lookup(&self, address: &str, key: &PublicKey) -> HostKey {
        match self.pinned(address) {
            Some(pinned) if pinned == *key => HostKey::Known,
            Some(expected) => HostKey::Changed { expected },
            None => HostKey::Unknown,
        }
    }

    /// Every address, as `HOST:PORT` in lower case, with its key, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PublicKey)> {
        self.order
            .iter()
            .map(|address| (address.as_str(), &self.keys[address]))
    }

    /// The key pinned for `address`.
    pub fn pinned(&self, address: &str) -> Option<PublicKey> {
        self.keys.get(&address.to_ascii_lowercase()).copied()
    }
}

/// The text with `key` pinned for `address`: its line replaced, or one added at the end. Other
/// lines stay as they are.
///
/// # Errors
///
/// When the text cannot be read as it is, or `address` is no address.
pub fn add(text: &str, address: &str, key: &PublicKey) -> Result<String, KnownHostsError> {
    KnownHosts::parse(text)?;
    let address = address.to_ascii_lowercase();
    let added = format!("{address} {key}");
    let mut lines: Vec<&str> = text.lines().collect();
    match lines
        .iter()
        .position(|line| line_address(line).as_deref() == Some(&*address))
    {
        Some(index) => lines[index] = &added,
        None => lines.push(&added),
    }
    let edited: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    KnownHosts::parse(&edited)?;
    Ok(edited)
}

/// The text without the line of `address`, or nothing when it has none.
pub fn remove(text: &str, address: &str) -> Option<String> {
    let address = address.to_ascii_lowercase();
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| line_address(line).as_deref() != Some(&*address))
        .collect();
    (kept.len() < text.lines().count()).then(|| kept.iter().flat_map(|line| [line, "\n"]).collect())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#')
        .next()
        .unwrap_or_default()
        .split_whitespace()
}

fn line_address(line: &str) -> Option<String> {
    words(line).next().map(str::to_ascii_lowercase)
}

fn parse_line(line: &str) -> Result<Option<(String, PublicKey)>, KnownHostsProblem> {
    let mut words = words(line);
    let Some(address) = words.next() else {
        return Ok(None);
    };
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.contains([':', '[', ']']);
        !host.is_empty() && (plain || bracketed) && port.parse::<u16>().is_ok()
    });
    if !is_address {
        return Err(KnownHostsProblem::Address {
            address: address.to_owned(),
        });
    }
    let key = words.next().ok_or(KnownHostsProblem::NoKey)?;
    let key = key.parse().map_err(KnownHostsProblem::Key)?;
    match words.next() {
        Some(word) => Err(KnownHostsProblem::Extra {
            word: word.to_owned(),
        }),
        None => Ok(Some((address.to_ascii_lowercase(), key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);

    #[test]
    fn tells_known_changed_and_unknown_apart() {
        let text = format!("# mine\nOffice:4747 {A} # desk\n[::1]:4747 {B}\n");
        let hosts = KnownHosts::parse(&text).expect("a good file");
        assert_eq!(hosts.lookup("office:4747", &A), HostKey::Known);
        assert_eq!(
            hosts.lookup("OFFICE:4747", &B),
            HostKey::Changed { expected: A }
        );
        assert_eq!(hosts.lookup("office:4748", &A), HostKey::Unknown);
        assert_eq!(hosts.lookup("[::1]:4747", &B), HostKey::Known);
        let listed: Vec<_> = hosts.iter().collect();
        assert_eq!(listed, [("office:4747", &A), ("[::1]:4747", &B)]);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (line, expected) in [
            (
                "office",
                KnownHostsProblem::Address {
                    address: "office".into(),
                },
            ),
            (
                ":1",
                KnownHostsProblem::Address {
                    address: ":1".into(),
                },
            ),
            (
                "::1:1",
                KnownHostsProblem::Address {
                    address: "::1:1".into(),
                },
            ),
            (
                "office:65536",
                KnownHostsProblem::Address {
                    address: "office:65536".into(),
                },
            ),
            ("office:1", KnownHostsProblem::NoKey),
            (
                "office:1 rsa:x",
                KnownHostsProblem::Key(PublicKeyError::Prefix),
            ),
        ] {
            let error = KnownHosts::parse(&format!("\n{line}\n")).expect_err(line);
            assert_eq!(
                error,
                KnownHostsError {
                    line: 2,
                    problem: expected
                }
            );
        }
        let extra = KnownHosts::parse(&format!("office:1 {A} {B}")).expect_err("an extra word");
        assert_eq!(
            extra.problem,
            KnownHostsProblem::Extra {
                word: B.to_string()
            }
        );
        let twice = KnownHosts::parse(&format!("office:1 {A}\nOFFICE:1 {B}"));
        let problem = KnownHostsProblem::DuplicateAddress { first: 1 };
        assert_eq!(twice, Err(KnownHostsError { line: 2, problem }));
    }

    #[test]
    fn editing_keeps_other_lines() {
        let text = format!("# mine\noffice:1 {A} # desk\n");
        let added = add(&text, "Home:2", &B).expect("a good file");
        assert_eq!(added, format!("{text}home:2 {B}\n"));
        let replaced = add(&added, "office:1", &B).expect("a good file");
        assert_eq!(replaced, format!("# mine\noffice:1 {B}\nhome:2 {B}\n"));
        assert_eq!(remove(&added, "HOME:2"), Some(text.clone()));
        assert_eq!(remove(&text, "home:2"), None);
        assert!(add(&text, "no port", &B).is_err());
    }
}
