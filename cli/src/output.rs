//! What reaches a terminal or a pipe, and in which form.
//!
//! Names, messages and values come from files and peers. Nothing in them may act on a terminal:
//! characters that would are written as escapes.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};

use serde_json::Value as Json;

use crate::exit::{Exit, Failure, OrExit};

/// Longest value that is shown to people, in characters; `--json` has all of it.
const SHOWN_CHARS_MAX: usize = 200;

/// Longest JSON that stands on one line of a terminal, in bytes.
const TERMINAL_LINE: usize = 80;

/// Whether a terminal would act on the character instead of showing it: controls, line
/// separators, and those that change the order of the text around them.
pub(crate) fn acts(c: char) -> bool {
    spore_bundle::is_hidden(c)
}

/// Text of others on one line: characters that a terminal would act on become escapes.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    push_plain(&mut plain, text, |_| false);
    plain
}

/// Text of others that may have lines and tabs of its own.
pub(crate) struct Lines<'a>(pub(crate) &'a str);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = String::with_capacity(self.0.len());
        push_plain(&mut plain, self.0, |c| matches!(c, '\n' | '\t'));
        f.write_str(&plain)
    }
}

fn push_plain(plain: &mut String, text: &str, kept: impl Fn(char) -> bool) {
    for c in text.chars() {
        if acts(c) && !kept(c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
}

/// JSON on one line.
pub(crate) fn json_line(json: &Json) -> String {
    escaped(json.to_string(), false)
}

/// JSON on one line, cut where it becomes too long for people.
pub(crate) fn shortened(json: &Json) -> String {
    let mut shown = json_line(json);
    if let Some((end, _)) = shown.char_indices().nth(SHOWN_CHARS_MAX) {
        let whole = shown.len();
        shown.truncate(end);
        shown.push_str(&format!("… ({} in JSON)", size(whole as u64)));
    }
    shown
}

/// JSON on lines of its own, as people read it.
pub(crate) fn json_lines(json: &Json) -> String {
    escaped(format!("{json:#}"), true)
}

/// Escapes in JSON what its own rules let stand. Such characters stand in strings only, so that
/// the JSON stays the same value.
fn escaped(json: String, lines: bool) -> String {
    let stays = |c: char| !acts(c) || (lines && c == '\n');
    if json.chars().all(stays) {
        return json;
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if stays(c) {
            text.push(c);
        } else {
            write!(text, "\\u{:04x}", u32::from(c)).expect("a string takes all text");
        }
    }
    text
}

/// Writes a JSON value on standard output: on one line, but on a terminal, where it is long, in lines.
pub(crate) fn print_json(json: &Json) -> Result<(), Failure> {
    print_json_to_reader(json).map(drop)
}

/// The same, and says whether there still is a reader.
pub(crate) fn print_json_to_reader(json: &Json) -> Result<bool, Failure> {
    let mut text = json_line(json);
    if text.len() > TERMINAL_LINE && io::stdout().is_terminal() {
        text = json_lines(json);
    }
    print_to_reader(&format!("{text}\n"))
}

/// Writes text on standard output. A reader that went away, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(|_| ())
}

/// The same, and says whether there still is a reader: who has more to write can stop.
pub(crate) fn print_to_reader(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Exit::Local,
            format!("cannot write the output: {error}"),
        )),
        Ok(()) => Ok(true),
    }
}

/// Writes bytes on standard error. There is nowhere to say that it failed.
pub(crate) fn to_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Writes a file beside its place and moves it there: whole or not at all.
pub(crate) fn write_file(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder_of(path);
    let written = (|| {
        // Else the error names a temporary file.
        std::fs::metadata(folder)?;
        // As any file that a program makes: the user's mask has its say.
        let mode = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new()
            .permissions(mode)
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    written.map_err(|error| cannot_write(path, &error))
}

/// Refuses a path that cannot be written to, before anything is done whose result is to be there.
pub(crate) fn check_writable(path: &std::path::Path) -> Result<(), Failure> {
    let folder = folder_of(path);
    let tried = (|| {
        match std::fs::symlink_metadata(path) {
            Ok(_) if path.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            _ => {}
        }
        std::fs::File::open(folder)?;
        tempfile::tempfile_in(folder).map(drop)
    })();
    tried.map_err(|error| cannot_write(path, &error))
}

fn folder_of(path: &std::path::Path) -> &std::path::Path {
    match path.parent() {
        Some(folder) if folder != std::path::Path::new("") => folder,
        _ => std::path::Path::new("."),
    }
}

fn cannot_write(path: &std::path::Path, error: &io::Error) -> Failure {
    let what = format!("cannot write {}: {error}", path.display());
    Failure::new(Exit::Local, what)
}

/// Reads the text of a file, or standard input for `-`.
pub(crate) fn read_text(path: &str) -> Result<String, Failure> {
    if path == "-" {
        return io::read_to_string(io::stdin()).or_exit(Exit::Local);
    }
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))
}

/// A number of bytes as people read it: exact below 10 KiB, with one decimal above.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    if bytes >= 10 << 10 {
        for (unit, factor) in UNITS {
            if bytes >= factor {
                let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(factor));
                return format!("{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
    }
    format!("{bytes} bytes")
}

/// Rows of text with their columns aligned, each line after `indent` blanks.
pub(crate) fn table<const N: usize>(indent: usize, rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_acts_on_a_terminal() {
        let hostile = "a\u{1b}[2J\r\u{9b}\u{202e}b\u{7f}";
        assert_eq!(plain(hostile), "a\\u{1b}[2J\\r\\u{9b}\\u{202e}b\\u{7f}");
        assert_eq!(Lines("a\n\tb\u{8}").to_string(), "a\n\tb\\u{8}");
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let json = json!({ "\u{9b}a": "\u{202e}\n\u{7f}", "b": [1.5, null] });
        for text in [json_line(&json), json_lines(&json)] {
            assert!(text.chars().all(|c| c == '\n' || !acts(c)), "{text:?}");
            assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), json);
        }
        assert!(!json_line(&json).contains('\n'));
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10.0 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "long", "z"], ["abc", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(2, &rows), "  a    long  z\n  abc  b\n");
    }
}
