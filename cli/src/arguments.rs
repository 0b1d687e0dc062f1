//! Arguments that more than one command takes, and how they are read.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use spore_bundle::is_plain_name;
use spore_client::{BundleLimits, Dynamic, Persist, PublicKey, with_port};
use spore_transport::units::{DURATION_MIN, duration_text, parse_duration, parse_size};

use crate::exit::Failure;
use crate::{hint, output};

/// Trust in a host that is not known yet.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Trust {
    /// The key of the host, as `spore key show --host` prints it there. It is remembered
    #[arg(long = "trust", value_name = "KEY")]
    pub(crate) key: Option<PublicKey>,
}

/// The name of a host, for clap.
pub(crate) fn host(text: &str) -> Result<String, String> {
    if text.starts_with("ed25519:") {
        return Err("that is a key, and the name of a host stands here".to_owned());
    }
    let with_port = with_port(text);
    let is_host = with_port.rsplit_once(':').is_some_and(|(name, _)| {
        let is_address = name.starts_with('[') && name.ends_with(']');
        !name.is_empty() && (is_address || !name.contains([':', '/']))
    });
    match is_host {
        true => Ok(text.to_owned()),
        false => Err("a host is NAME, NAME:PORT, ADDRESS or ADDRESS:PORT".to_owned()),
    }
}

/// A duration such as `10s`, for clap. None at all is a slip: nothing is done in it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        parse_duration(text).ok_or_else(|| "a duration is like 500ms, 10s, 2m or 1h".to_owned())?;
    if duration < DURATION_MIN {
        return Err(format!("the least is {}", duration_text(DURATION_MIN)));
    }
    Ok(duration)
}

/// How often a job is made durable, `off` or a duration, for clap.
pub(crate) fn persist(text: &str) -> Result<Persist, String> {
    if text == "off" {
        return Ok(Persist::Off);
    }
    let every = duration(text).map_err(|why| format!("{why}; or it is off"))?;
    Ok(Persist::Every {
        ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A size such as `64MiB`, for clap.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "a size is like 4096, 64KiB, 64MiB or 1GiB".to_owned())
}

/// A directory to grant, `NAME=PATH`, for clap.
pub(crate) fn directory(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or("a directory is given as NAME=PATH, by the name that the guest asks for")?;
    if !is_plain_name(name) {
        return Err(format!(
            "{name:?} must consist of letters, digits, `-`, `_` and `.`, and begin with no `.`"
        ));
    }
    let path = PathBuf::from(path);
    if !path.is_dir() {
        return Err(format!("{} is no directory", path.display()));
    }
    Ok((name.to_owned(), path))
}

/// What bounds a bundle that the user names: far more than a host takes by default, since how much is
/// taken is for a host to say, and what was saved on one that takes more can be looked at.
pub(crate) const BUNDLE_LIMITS: BundleLimits = BundleLimits {
    code_bytes_max: 1 << 30,
    state_bytes_max: 1 << 30,
};

/// JSON as it stands on the command line, or `@FILE`, or `-` for standard input: a command line
/// holds 128 KiB.
pub(crate) fn json(what: &str, text: &str) -> Result<Json, Failure> {
    let from_file;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            from_file = output::read_text(path)?;
            &from_file
        }
        None if text == "-" => {
            from_file = output::read_text("-")?;
            &from_file
        }
        None => text,
    };
    let read: Result<Once, _> = serde_json::from_str(text);
    let read = read.map_err(|error| Failure::usage(format!("{what} are not JSON: {error}")));
    Ok(read?.0)
}

/// JSON in whose objects each key stands once. Of one that stands twice the last would count, and
/// whoever wrote the first would not hear of it.
struct Once(Json);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(value.into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(value.into())
            }

            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
                let mut all = Vec::new();
                while let Some(Once(each)) = from.next_element()? {
                    all.push(each);
                }
                Ok(Json::Array(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
                let mut all = serde_json::Map::new();
                while let Some(key) = from.next_key::<String>()? {
                    if all.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key {key:?} stands twice")));
                    }
                    let Once(value) = from.next_value()?;
                    all.insert(key, value);
                }
                Ok(Json::Object(all))
            }
        }
        from.deserialize_any(Each).map(Once)
    }
}

/// Whether the text names where the JSON stands instead of being it.
pub(crate) fn is_elsewhere(text: &str) -> bool {
    text == "-" || text.starts_with('@')
}

/// The captures of a callable, an object by their names, from the words on the command line; all
/// but the first are too many. `command` is the command with other captures in their place.
pub(crate) fn captures(
    callee: &Dynamic,
    words: &[&str],
    command: impl FnOnce(&str) -> String,
) -> Result<Json, Failure> {
    let [text, more @ ..] = words else {
        unreachable!("there is a first word");
    };
    let failure = match json("the captures", text) {
        Ok(Json::Object(object)) if more.is_empty() => return Ok(Json::Object(object)),
        Ok(Json::Object(_)) | Err(_) if !more.is_empty() => {
            Failure::usage("the captures are one JSON object, and several words stand there")
        }
        Ok(other) => Failure::usage(format!(
            "expected a JSON object of captures, found {}",
            hint::kind(&other)
        )),
        Err(failure) => failure,
    };
    if is_elsewhere(text) {
        return Err(failure);
    }
    let signature = callee.signature();
    Err(match hint::captures(signature, words) {
        Some(object) => failure.help(format!(
            "the captures are a JSON object by their names: {}",
            command(&output::json_line(&object))
        )),
        None => failure.help(format!(
            "the captures of {} are a JSON object by their names: {}",
            callee.name(),
            hint::captures_to_fill_in(signature)
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let good = r#"[{"a": 1, "b": {"a": [1.5, null, true, "x", -1]}}]"#;
        let read = json("the arguments", good).expect("each stands once");
        assert_eq!(read, serde_json::from_str::<Json>(good).expect("JSON"));
        for twice in [r#"[{"a": 1, "a": 2}]"#, r#"{"x": {"b": 1, "b": 1}}"#] {
            let error = json("the arguments", twice).expect_err("it stands twice");
            assert!(
                error.message().contains("stands twice"),
                "{}",
                error.message()
            );
        }
    }

    #[test]
    fn hosts_are_told_from_what_else_stands_in_their_place() {
        for good in ["board", "board:1", "127.0.0.1", "::1", "[::1]", "[::1]:1"] {
            host(good).expect(good);
        }
        for wrong in [
            "",
            ":7473",
            "board:",
            "board:65536",
            "quic://board",
            "board/spore",
            "ed25519:abc",
        ] {
            host(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_job_is_made_durable_now_and_then_or_not() {
        assert_eq!(persist("off"), Ok(Persist::Off));
        assert_eq!(persist("2s"), Ok(Persist::Every { ms: 2000 }));
        for wrong in ["", "on", "0s", "2"] {
            persist(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_directory_has_a_name_and_is_there() {
        let here = directory("data.v1=.").expect("this one");
        assert_eq!(here, ("data.v1".to_owned(), PathBuf::from(".")));
        for wrong in [
            "data",
            "=.",
            "a/b=.",
            "..=.",
            ".data=.",
            "data=./no such folder",
        ] {
            directory(wrong).expect_err(wrong);
        }
    }
}
