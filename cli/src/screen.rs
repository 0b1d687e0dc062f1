//! What a guest says while it runs: its output on standard error, its progress as a bar.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value as Json;
use spore_client::OutputStream;

use crate::exit::Failure;
use crate::output;

/// Longest line that waits for its end while a bar is drawn, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Time between steps of a bar without an end.
const SPIN: Duration = Duration::from_millis(100);

/// Shows one call. Clones show the same.
///
/// Where standard error is no terminal, the guest's bytes are passed on as they are and progress
/// is dropped. On a terminal, characters that it would act on are shown as escapes.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<State>>);

struct State {
    terminal: bool,
    stdout: Visible,
    stderr: Visible,
    /// The bar, from the guest's first word of its progress
    bar: Option<ProgressBar>,
    /// A line that is not whole yet, held back while a bar is drawn
    line: String,
    /// Whether a line of the guest's has not ended yet
    in_line: bool,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen(Arc::new(Mutex::new(State {
            terminal: io::stderr().is_terminal(),
            stdout: Visible::default(),
            stderr: Visible::default(),
            bar: None,
            line: String::new(),
            in_line: false,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the guest has written.
    pub(crate) fn output(&self, stream: OutputStream, bytes: &[u8]) {
        let mut state = self.state();
        if !state.terminal {
            if let Some(last) = bytes.last() {
                state.in_line = *last != b'\n';
            }
            output::to_stderr(bytes);
            return;
        }
        let text = match stream {
            OutputStream::Stdout => state.stdout.push(bytes),
            OutputStream::Stderr => state.stderr.push(bytes),
        };
        state.show(&text);
    }

    /// Shows how far the guest is; a `total` of 0 is unknown.
    pub(crate) fn progress(&self, done: u64, total: u64) {
        let mut state = self.state();
        if !state.terminal {
            return;
        }
        if state.bar.is_none() && state.in_line {
            state.in_line = false;
            output::to_stderr(b"\n");
        }
        let is_first = state.bar.is_none();
        let bar = state.bar.get_or_insert_with(|| ProgressBar::new(total));
        if total == 0 {
            bar.set_style(style("{spinner} {pos} [{elapsed}]"));
            bar.enable_steady_tick(SPIN);
        } else {
            bar.set_style(style("{wide_bar} {pos}/{len} [{elapsed}, {eta} left]"));
            bar.set_length(total);
        }
        bar.set_position(done);
        if is_first {
            // What was done before is no measure of how fast it goes on.
            bar.reset_eta();
        }
    }

    /// Writes a JSON value on a line of standard output, above the bar. Says whether there still is a
    /// reader.
    pub(crate) fn print_json(&self, json: &Json) -> Result<bool, Failure> {
        let line = output::json_line(json) + "\n";
        self.above_bar(|| output::print_to_reader(&line))
    }

    /// Says something on a line of standard error, above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.above_bar(|| output::to_stderr(format!("{text}\n").as_bytes()));
    }

    fn above_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut state = self.state();
        if state.terminal && std::mem::take(&mut state.in_line) {
            output::to_stderr(b"\n");
        }
        match &state.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Clears the bar. On a terminal also ends the guest's last line.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        if !state.terminal {
            return;
        }
        let rest = [state.stdout.finish(), state.stderr.finish()].concat();
        state.show(&rest);
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        let line = std::mem::take(&mut state.line);
        state.show(&line);
        drop(state);
        self.end_line();
    }

    /// Ends the guest's last line, so that what this command says begins on one of its own.
    pub(crate) fn end_line(&self) {
        if std::mem::take(&mut self.state().in_line) {
            output::to_stderr(b"\n");
        }
    }
}

impl State {
    fn show(&mut self, text: &str) {
        let Some(bar) = &self.bar else {
            if let Some(last) = text.chars().next_back() {
                self.in_line = last != '\n';
                output::to_stderr(text.as_bytes());
            }
            return;
        };
        // A bar takes the line that the cursor is on: only whole lines go above it.
        self.line.push_str(text);
        let end = self.line.rfind('\n').map_or(0, |end| end + 1);
        let mut whole: String = self.line.drain(..end).collect();
        if self.line.len() > LINE_BYTES_MAX {
            whole.push_str(&std::mem::take(&mut self.line));
            whole.push('\n');
        }
        if !whole.is_empty() {
            bar.suspend(|| output::to_stderr(whole.as_bytes()));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is right")
}

/// Makes bytes of a guest visible: text stays, except for what a terminal would act on.
#[derive(Default)]
struct Visible {
    /// The beginning of a character that is not whole yet
    begun: Vec<u8>,
}

impl Visible {
    fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut shown = String::with_capacity(all.len());
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (good, wrong) = match std::str::from_utf8(rest) {
                Ok(text) => (text.len(), 0),
                Err(error) => match error.error_len() {
                    Some(wrong) => (error.valid_up_to(), wrong),
                    None => {
                        // Cut off within a character: the rest of it comes next.
                        self.begun = rest[error.valid_up_to()..].to_vec();
                        rest = &rest[..error.valid_up_to()];
                        (rest.len(), 0)
                    }
                },
            };
            let (text, after) = rest.split_at(good);
            let text = std::str::from_utf8(text).expect("it was just checked");
            shown.push_str(&output::Lines(text).to_string());
            shown.extend(after[..wrong].iter().map(|byte| format!("\\x{byte:02x}")));
            rest = &after[wrong..];
        }
        shown
    }

    /// What was cut off for good.
    fn finish(&mut self) -> String {
        let begun = std::mem::take(&mut self.begun);
        begun.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_and_controls_are_shown() {
        let mut visible = Visible::default();
        assert_eq!(visible.push("a\tü\n".as_bytes()), "a\tü\n");
        assert_eq!(
            visible.push(b"\x1b]0;title\x07\r"),
            "\\u{1b}]0;title\\u{7}\\r"
        );
        assert_eq!(visible.push(b"\xff\x9bok"), "\\xff\\x9bok");
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut visible = Visible::default();
        let euro = "€".as_bytes();
        assert_eq!(visible.push(&euro[..1]), "");
        assert_eq!(visible.push(&euro[1..2]), "");
        assert_eq!(visible.push(&euro[2..]), "€");
        assert_eq!(visible.push(&euro[..2]), "");
        assert_eq!(visible.finish(), "\\xe2\\x82");
        // A control of two bytes must not slip through in halves.
        assert_eq!(visible.push(b"\xc2"), "");
        assert_eq!(visible.push(b"\x9b2J"), "\\u{9b}2J");
    }
}
