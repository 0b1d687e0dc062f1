//! The first contact with a host: the question on a terminal, and what is said elsewhere.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::common::{Ended, PATIENCE, User};

const QUESTION: &str = "Trust it from now on? [y/N] ";

/// A command at a terminal of its own, which the program `script` of util-linux makes.
struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// Runs `spore` with these arguments, which need no quotes.
    fn spore(user: &User, args: &[&str]) -> Terminal {
        let command = format!("'{}' {}", env!("CARGO_BIN_EXE_spore"), args.join(" "));
        // The file for what is shown is not needed; `--return` passes the exit code on.
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
        script
            .env("SPORE_HOME", user.path(""))
            .current_dir(user.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = script
            .spawn()
            .expect("`script` is there: of the package bsdutils or util-linux");
        let mut stdout = child.stdout.take().expect("it is piped");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            keyboard: child.stdin.take(),
            child,
            screen,
            shown: String::new(),
        }
    }

    /// Waits until the question stands there.
    fn asked(&mut self) {
        while !self.shown.ends_with(QUESTION) {
            let more = self.screen.recv_timeout(PATIENCE);
            let more = more.unwrap_or_else(|_| panic!("no question: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Types, and waits for the end of the command. Everything that was shown is its output.
    fn types(mut self, text: &str) -> Ended {
        let mut keyboard = self.keyboard.take().expect("nothing was typed yet");
        keyboard.write_all(text.as_bytes()).expect("it is read");
        keyboard.flush().expect("it is read");
        while let Ok(more) = self.screen.recv_timeout(PATIENCE) {
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
        drop(keyboard);
        Ended {
            code: self.child.wait().expect("it is our child").code(),
            stdout: std::mem::take(&mut self.shown),
            stderr: String::new(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After `types` it has ended and both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_yes_on_a_terminal_pins_the_host() {
    for yes in ["y\n", "YES\n"] {
        let user = User::new();
        let host = user.host();
        let mut terminal = Terminal::spore(&user, &["status", &host.address]);
        terminal.asked();
        let asked = terminal.shown.clone();
        assert!(
            asked.contains(&format!("{} is not known here", host.address)),
            "{asked}"
        );
        assert!(asked.contains(&host.key), "{asked}");
        assert!(asked.contains("spore key show --host"), "{asked}");
        assert!(!user.path("known_hosts").exists(), "it was only asked");

        let ended = terminal.types(yes);
        assert!(ended.stdout.contains("limits for this key"), "{ended:?}");
        ended.ok();
        let pinned = std::fs::read_to_string(user.path("known_hosts")).expect("pinned");
        assert_eq!(pinned, format!("{} {}\n", host.address, host.key));

        // From now on nothing is asked, on a terminal or elsewhere.
        user.spore(["status", &host.address]).ok();
        let ended = Terminal::spore(&user, &["status", &host.address]).types("");
        assert!(!ended.stdout.contains("Trust it"), "{ended:?}");
        ended.ok();
    }
}

#[test]
fn anything_but_a_yes_does_not() {
    let user = User::new();
    let host = user.host();
    // The last is Ctrl-D, the end of what is typed.
    for no in ["n\n", "\n", "yess\n", "\u{4}"] {
        let mut terminal = Terminal::spore(&user, &["status", &host.address]);
        terminal.asked();
        let ended = terminal.types(no);
        assert_eq!(ended.code, Some(2), "{no:?}: {ended:?}");
        let said = "has a key that is not known here";
        assert!(ended.stdout.contains(said), "{no:?}: {ended:?}");
        assert!(!user.path("known_hosts").exists(), "{no:?}");
    }
}

/// A key given with `--trust` is an answer already.
#[test]
fn nothing_is_asked_where_a_key_is_given() {
    let user = User::new();
    let host = user.host();
    let other = User::new().key();
    for (key, code) in [(&other, 2), (&host.key, 0)] {
        let ended = Terminal::spore(&user, &["status", &host.address, "--trust", key]).types("");
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(!ended.stdout.contains("Trust it"), "{ended:?}");
    }
}

#[test]
fn without_a_terminal_the_key_and_the_next_command_are_shown() {
    let user = User::new();
    let host = user.host();
    let said = user.spore(["status", &host.address]).failed(2);
    assert!(!said.contains("Trust it"), "{said}");
    let (address, key) = (&host.address, &host.key);
    for expected in [
        format!("{address} has a key that is not known here: {key}"),
        "`spore key show --host`".to_owned(),
        format!("spore key trust {address} {key}"),
        format!("--trust {key}"),
    ] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    // Typed as it is shown, the command does what it says.
    user.spore(["key", "trust", address, key]).ok();
    user.spore(["status", address]).ok();
}
