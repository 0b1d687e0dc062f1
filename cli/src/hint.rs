//! What someone most likely meant who typed values without the JSON around them, something else than
//! the file of a bundle, or a command that is not for this one.
//!
//! Nothing here is run: it is shown as a command to type instead.

use std::path::Path;

use serde_json::{Map, Value as Json};
use spore_client::Bundle;
use spore_value::{Definition, Limits, Parameter, Signature, json};

use crate::exit::Failure;

/// Most words that are made into JSON. More are no slip of one who types.
const WORDS_MAX: usize = 16;

/// Digits of an id.
const ID_DIGITS: usize = 2 * spore_bundle::ids::ID_BYTES;

/// Fewest digits that may be the beginning of an id. Words such as `face` are taken for one too,
/// and what is said allows for that.
const ID_BEGINNING: usize = 4;

/// Most files of a folder that are named.
const FILES_MAX: usize = 3;

/// What a bundle is, for who does not know.
pub(crate) const A_BUNDLE: &str =
    "a bundle is a file such as hello.spore, which `spore build` makes of a crate";

/// What to give instead of a path at which no bundle can be read.
pub(crate) fn bundle(path: &Path) -> String {
    if path.is_dir() {
        let bundles = bundles_in(path);
        return match bundles[..] {
            [] if path.join("Cargo.toml").is_file() => {
                let build = shell(["spore", "build", &path.to_string_lossy()]);
                format!("that is a folder; make a bundle of the crate in it: {build}")
            }
            [] => format!("that is a folder; {A_BUNDLE}"),
            _ => format!(
                "that is a folder; give a file of it: {}",
                bundles.join(", ")
            ),
        };
    }
    let text = path.to_string_lossy();
    let whole = format!("{text}.spore");
    if Path::new(&whole).is_file() {
        return format!("there is {whole}: give that");
    }
    let digits = text.trim_end_matches(['.', '…']);
    let hexadecimal = digits.chars().all(|c| c.is_ascii_hexdigit());
    match digits.len() {
        ID_DIGITS if hexadecimal => format!(
            "if that is an id: it names what a host has, and is for calls there: spore run {} --on \
             HOST",
            digits.to_ascii_lowercase()
        ),
        ID_BEGINNING.. if hexadecimal => format!(
            "if that is the beginning of an id: all of its {ID_DIGITS} digits are needed, as \
             `spore send` printed them"
        ),
        _ => A_BUNDLE.to_owned(),
    }
}

/// Refuses a bundle that holds a run: a job's, which goes on as one.
pub(crate) fn holds_no_run(path: &Path, bundle: &Bundle) -> Result<(), Failure> {
    let image = bundle.inner().image();
    if image.is_none_or(|image| image.index().run.is_none()) {
        return Ok(());
    }
    let path = path.display().to_string();
    let words = ["spore", "job", "open", &path, "--on"];
    let message = format!("{path} holds a run, which goes on as a job");
    Err(Failure::usage(message).help(format!("run: {} HOST", shell(words))))
}

/// Some bundles in a folder, in the order of their names.
fn bundles_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut bundles: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|it| it == "spore"))
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    bundles.sort();
    bundles.truncate(FILES_MAX);
    bundles
}

/// The JSON array that the words stand for: typed one by one, or as an array whose quotes the
/// shell has taken away. Nothing when the callable of this signature does not take them.
pub(crate) fn arguments(signature: Option<&Signature>, words: &[&str]) -> Option<Json> {
    let values = match (whole(words), signature) {
        (Some(Json::Array(list)), _) => list.into_iter().map(Word::Json).collect(),
        (Some(Json::Object(object)), Some(signature)) => {
            let by_name = |it: &Parameter| object.get(&it.name).cloned().map(Word::Json);
            let values = signature.parameters.iter().map(by_name);
            values.collect::<Option<Vec<_>>>()?
        }
        _ => match inner(words, '[', ']') {
            Some(inner) => inner.split(',').map(|it| Word::text(it.trim())).collect(),
            None => words.iter().map(|word| Word::text(word)).collect(),
        },
    };
    if values.is_empty() || values.len() > WORDS_MAX {
        return None;
    }
    let Some(signature) = signature else {
        return Some(values.into_iter().map(|it| it.first()).collect());
    };
    if values.len() != signature.parameters.len() {
        return None;
    }
    let fitted = values.into_iter().zip(&signature.parameters);
    fitted
        .map(|(word, parameter)| word.of_type(parameter, &signature.definitions))
        .collect::<Option<_>>()
        .map(Json::Array)
}

/// The JSON object that the words stand for: values in the order of the captures, `NAME=VALUE`, or
/// an object whose quotes the shell has taken away. Nothing when they are not all captures.
pub(crate) fn captures(signature: &Signature, words: &[&str]) -> Option<Json> {
    let captures = &signature.captures;
    let named = |name: &str| captures.iter().find(|it| it.name == name);
    let mut values = Map::new();
    let mut insert = |capture: &Parameter, word: Word| {
        let value = word.of_type(capture, &signature.definitions)?;
        values.insert(capture.name.clone(), value);
        Some(())
    };
    match (whole(words), inner(words, '{', '}')) {
        (Some(Json::Object(object)), _) => return Some(Json::Object(object)),
        (Some(Json::Array(list)), _) => {
            for (capture, value) in captures.iter().zip(list) {
                insert(capture, Word::Json(value))?;
            }
        }
        (_, Some(inner)) => {
            for pair in inner.split(',') {
                let (name, value) = pair.split_once(':')?;
                insert(named(name.trim())?, Word::text(value.trim()))?;
            }
        }
        _ => {
            for (index, word) in words.iter().enumerate() {
                match word.split_once('=').map(|(name, it)| (named(name), it)) {
                    Some((Some(capture), value)) => insert(capture, Word::text(value))?,
                    _ => insert(captures.get(index)?, Word::text(word))?,
                }
            }
        }
    }
    (values.len() == captures.len()).then_some(Json::Object(values))
}

/// The captures of a callable as an object to fill in.
pub(crate) fn captures_to_fill_in(signature: &Signature) -> String {
    let fields: Vec<_> = signature
        .captures
        .iter()
        .map(|it| format!("\"{}\": …", it.name))
        .collect();
    format!("'{{{}}}'", fields.join(", "))
}

/// What kind of JSON a value is, for a person.
pub(crate) fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// Whether a callable may have the name.
pub(crate) fn may_name_a_callable(word: &str) -> bool {
    let first = word.chars().next();
    first.is_some_and(|c| c.is_alphabetic() || c == '_')
        && word
            .chars()
            .all(|c| c.is_alphanumeric() || "_:-".contains(c))
        && !matches!(word, "true" | "false" | "null")
}

/// The words of a command as a shell takes them.
pub(crate) fn shell<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    let quoted = |word: &str| match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let words: Vec<_> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

/// The words together, when they are JSON that a shell has taken for several.
fn whole(words: &[&str]) -> Option<Json> {
    serde_json::from_str(&words.join(" ")).ok()
}

/// What stands between the brackets, when nothing there is nested or quoted.
fn inner(words: &[&str], open: char, close: char) -> Option<String> {
    let text = words.join(" ");
    let inner = text.trim().strip_prefix(open)?.strip_suffix(close)?;
    let simple = !inner.contains(['[', ']', '{', '}', '"']) && !inner.trim().is_empty();
    simple.then(|| inner.to_owned())
}

/// A value as it was typed.
enum Word {
    Json(Json),
    /// Text that may have been meant as JSON
    Text(String),
}

impl Word {
    fn text(text: &str) -> Word {
        Word::Text(text.to_owned())
    }

    /// What it may have been meant as, the likeliest first.
    fn meant(self) -> impl Iterator<Item = Json> {
        let (parsed, text) = match self {
            Word::Json(json) => (Some(json), None),
            Word::Text(text) => (serde_json::from_str(&text).ok(), Some(Json::String(text))),
        };
        parsed.into_iter().chain(text)
    }

    fn first(self) -> Json {
        self.meant().next().unwrap_or(Json::Null)
    }

    fn of_type(self, parameter: &Parameter, definitions: &[Definition]) -> Option<Json> {
        let limits = Limits::default();
        self.meant()
            .find(|value| json::from_json(&parameter.ty, definitions, value, &limits).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spore_value::Type;

    fn signature(captures: &[(&str, Type)], parameters: &[(&str, Type)]) -> Signature {
        let all = |list: &[(&str, Type)]| {
            let one = |(name, ty): &(&str, Type)| Parameter {
                name: (*name).to_owned(),
                ty: ty.clone(),
            };
            list.iter().map(one).collect()
        };
        Signature {
            captures: all(captures),
            parameters: all(parameters),
            returns: Type::Unit,
            error: None,
            definitions: Vec::new(),
        }
    }

    #[test]
    fn bare_words_become_an_array_by_their_types() {
        let one = |ty| signature(&[], &[("x", ty)]);
        let two = signature(&[], &[("name", Type::String), ("times", Type::U32)]);
        for (signature, words, expected) in [
            (one(Type::String), &["world"][..], Some(json!(["world"]))),
            (one(Type::String), &["5"], Some(json!(["5"]))),
            (one(Type::String), &["\"a b\""], Some(json!(["a b"]))),
            (one(Type::F64), &["5"], Some(json!([5]))),
            (one(Type::F64), &["-1.5"], Some(json!([-1.5]))),
            (one(Type::F64), &["five"], None),
            (one(Type::F64), &["1", "2"], None),
            (one(Type::F64), &["{\"x\": 1}"], Some(json!([1]))),
            (one(Type::F64), &["{\"y\": 1}"], None),
            (two.clone(), &["world", "2"], Some(json!(["world", 2]))),
            (two.clone(), &["[world,", "2]"], Some(json!(["world", 2]))),
            (two.clone(), &["[\"it's\",", "2]"], Some(json!(["it's", 2]))),
            (two, &["[[world],", "2]"], None),
            (signature(&[], &[]), &["5"], None),
        ] {
            assert_eq!(arguments(Some(&signature), words), expected, "{words:?}");
        }
        assert_eq!(arguments(None, &["a", "5"]), Some(json!(["a", 5])));
        assert_eq!(arguments(None, &["a"; WORDS_MAX + 1]), None);
    }

    #[test]
    fn bare_captures_become_an_object_by_their_names() {
        let one = signature(&[("greeting", Type::String)], &[]);
        let two = signature(&[("a", Type::F64), ("b", Type::String)], &[]);
        for (signature, words, expected) in [
            (&one, &["Hello"][..], Some(json!({ "greeting": "Hello" }))),
            (&one, &["greeting=a=b"], Some(json!({ "greeting": "a=b" }))),
            (&one, &["a=b"], Some(json!({ "greeting": "a=b" }))),
            (
                &one,
                &["{greeting:", "Hi}"],
                Some(json!({ "greeting": "Hi" })),
            ),
            (&one, &["{greting:", "Hi}"], None),
            (&one, &["\"Hi\""], Some(json!({ "greeting": "Hi" }))),
            (&two, &["[1,", "\"x\"]"], Some(json!({ "a": 1, "b": "x" }))),
            (&two, &["b=2", "a=1"], Some(json!({ "b": "2", "a": 1 }))),
            (&two, &["1"], None),
            (&two, &["x", "y"], None),
        ] {
            assert_eq!(captures(signature, words), expected, "{words:?}");
        }
        assert_eq!(captures_to_fill_in(&two), r#"'{"a": …, "b": …}'"#);
    }

    #[test]
    fn a_shell_reads_back_the_same_words() {
        let words = ["run", "a b.spore", r#"["it's"]"#, "", "--on", "h:1"];
        let expected = r#"run 'a b.spore' '["it'\''s"]' '' --on h:1"#;
        assert_eq!(shell(words), expected);
        let said = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {expected}")])
            .output()
            .expect("a shell");
        assert_eq!(
            String::from_utf8_lossy(&said.stdout),
            words.join("\n") + "\n"
        );
    }

    #[test]
    fn names_are_told_from_values() {
        for name in ["greet", "hello::greet", "_a1"] {
            assert!(may_name_a_callable(name), "{name}");
        }
        for value in ["5", "-1.5", "true", "null", "\"a\"", "a b", "{}", ""] {
            assert!(!may_name_a_callable(value), "{value}");
        }
    }
}
