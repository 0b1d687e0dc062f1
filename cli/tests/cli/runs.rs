//! `spore run` in a host of its own process: results, outputs, limits, and exit codes.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Ended, User, guests, signal, text};

fn trouble<'a>(user: &User, args: impl IntoIterator<Item = &'a str>) -> Ended {
    let bundle = text(&guests().trouble);
    user.spore(["run", bundle].into_iter().chain(args))
}

#[test]
fn bound_captures_make_the_callable_plain() {
    let user = User::new();
    let closure = text(&guests().closure);
    user.spore([
        "capture",
        closure,
        "closure::scale",
        r#"{"factor": 3.0}"#,
        "-o",
        "triple.spore",
    ])
    .ok();
    assert_eq!(user.spore(["run", "triple.spore", "[14.0]"]).ok(), "42.0\n");
    assert_eq!(
        user.spore(["run", "triple.spore", "scale", "[14]"]).ok(),
        "42.0\n"
    );
    fs::write(user.path("arguments.json"), "[2.0]").expect("it is ours");
    assert_eq!(
        user.spore(["run", "triple.spore", "@arguments.json"]).ok(),
        "6.0\n"
    );

    let said = user.spore(["run", closure, "[14.0]"]).failed(2);
    assert!(
        said.contains("captures factor: f64, and nothing is bound"),
        "{said}"
    );
    assert!(said.contains("--captures"), "{said}");
}

#[test]
fn what_is_given_wrongly_is_usage() {
    let user = User::new();
    for (args, expected) in [
        (&["cube", "[1]"][..], "no callable \"cube\""),
        (&["[1]"], "which callable?"),
        (&["root", "1]"], "not JSON"),
        (&["root", "[true]"], "x: expected f64"),
        (&["root", "[]"], "expected"),
        (&["root", "{}"], "expected"),
        (&["root", "@nothing.json"], "cannot read nothing.json"),
        (&["root", "[1]", "--wall", "soon"], "a duration is like"),
        (&["root", "[1]", "--wall", "0s"], "the least is 1ms"),
        (
            &["root", "[1]", "--memory", "1"],
            "--memory is from 64KiB to 4GiB",
        ),
        (
            &["root", "[1]", "--memory", "1", "--on", "h"],
            "--memory is from 64KiB to 4GiB",
        ),
        (&["root", "[1]", "--on", "h:99999"], "a host is NAME"),
        (&["root", "[1]", "--on", "https://h"], "a host is NAME"),
        (&["root", "[1]", "--to", "ed25519:a"], "that is a key"),
        (&["root", "[1]", "--dir", "srv"], "NAME=PATH"),
        (
            &["reads", "[\"x\"]", "--dir", "prices=nowhere"],
            "no directory",
        ),
    ] {
        let said = trouble(&user, args.iter().copied()).failed(2);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let id = "0".repeat(64);
    let said = user.spore(["run", &id]).failed(2);
    assert!(said.contains("--on HOST"), "{said}");
}

/// The command that a person has most likely meant is shown, and does what was meant.
#[test]
fn arguments_without_their_array_are_shown_with_it() {
    let user = User::new();
    let bundle = text(&guests().hello);
    fs::copy(bundle, user.path("hello.spore")).expect("built");
    fs::copy(&guests().trouble, user.path("trouble.spore")).expect("built");
    let hello = r#"{"greeting": "Hello"}"#;
    user.spore(["capture", "hello.spore", "greet", hello, "-o", "hi.spore"])
        .ok();
    let array = "spore run hi.spore '[\"world\"]'";
    let named = "spore run hi.spore greet '[\"world\"]'";
    for (typed, error, command) in [
        // A word that might be a callable, and one that cannot.
        (&["hi.spore", "world"][..], "no callable \"world\"", array),
        (
            &["hi.spore", "5"],
            "found 5",
            "spore run hi.spore '[\"5\"]'",
        ),
        (&["hi.spore", "greet", "world"], "are not JSON", named),
        (&["hi.spore", "greet", "\"world\""], "found text", named),
        (
            &["hi.spore", "greet", "{\"name\": \"world\"}"],
            "found an object",
            named,
        ),
        // A shell has taken the quotes away.
        (&["hi.spore", "[world]"], "are not JSON", array),
        (&["hi.spore", "greet", "[world]"], "are not JSON", named),
        (&["hi.spore", "a", "b c"], "no callable \"a\"", ""),
        (
            &["hi.spore"],
            "greet takes one JSON array: [name: String]",
            "",
        ),
        (
            &["hi.spore", "greet", "it's"],
            "are not JSON",
            r#"spore run hi.spore greet '["it'\''s"]'"#,
        ),
        (
            &["trouble.spore", "root", "9"],
            "found a number",
            "spore run trouble.spore root '[9]'",
        ),
        (
            &["trouble.spore", "root", "-9"],
            "found a number",
            "spore run trouble.spore root '[-9]'",
        ),
        (
            &["trouble.spore", "says", "a", "b"],
            "one JSON array",
            "spore run trouble.spore says '[\"a\",\"b\"]'",
        ),
        // Several callables: which one is meant cannot be told.
        (
            &["trouble.spore", "9"],
            "found 9",
            "spore run trouble.spore CALLABLE '[9]'",
        ),
        (&["trouble.spore", "cube"], "no callable \"cube\"", ""),
        (
            &["trouble.spore", "cube", "[9]"],
            "no callable \"cube\"",
            "",
        ),
        (&["trouble.spore", "root", "nine"], "are not JSON", ""),
        (&["trouble.spore", "traps", "1"], "found a number", ""),
    ] {
        let said = user.spore(["run"].iter().chain(typed)).failed(2);
        let first = said.lines().next().unwrap_or_default();
        assert!(first.contains(error), "{typed:?}: {said}");
        match command {
            "" => assert!(!said.contains("spore run"), "{typed:?}: {said}"),
            _ => assert!(said.contains(command), "{typed:?}: {said}"),
        }
    }
    let said = user
        .spore(["run", "trouble.spore", "root", "nine"])
        .failed(2);
    assert!(
        said.contains("hello::root takes one JSON array: [x: f64]"),
        "{said}"
    );
    let said = user.spore(["run", "trouble.spore", "traps", "1"]).failed(2);
    assert!(said.contains("hello::traps takes no arguments"), "{said}");

    // What is shown keeps what else was said, and runs as it stands.
    let args = ["run", "hello.spore", "greet", "world", "--captures", hello];
    let said = user.spore(args).failed(2);
    let shown = said.split_once("single quotes: ").expect("a command").1;
    let shown = shown
        .trim_end()
        .replacen("spore", env!("CARGO_BIN_EXE_spore"), 1);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &shown]).current_dir(user.path(""));
    let output = shell.env("SPORE_HOME", user.path("")).output();
    let ended = Ended::from(output.expect("a shell"));
    assert_eq!(ended.ok(), "\"Hello, world!\"\n");
}

#[test]
fn a_guests_own_error_is_typed() {
    let user = User::new();
    assert_eq!(trouble(&user, ["root", "[9]"]).ok(), "3.0\n");
    let ended = trouble(&user, ["root", "[-4]"]);
    assert_eq!(ended.stdout, "");
    let said = ended.failed(1);
    let own = r#"hello::root returned its own error: {"Negative":{"by":4.0}}"#;
    assert_eq!(said, format!("error: {own}\n"));

    let ended = trouble(&user, ["root", "[-4]", "--json"]);
    let json = ended.json();
    assert_eq!(json["error"]["kind"], "guest_error");
    assert_eq!(json["error"]["value"], json!({ "Negative": { "by": 4.0 } }));
    ended.failed(1);
}

#[test]
fn panics_and_traps_say_where() {
    let user = User::new();
    let ended = trouble(&user, ["panics", r#"["out of \u001b[31mluck"]"#, "--json"]);
    assert_eq!(ended.json()["error"]["kind"], "panic");
    assert_eq!(ended.json()["error"]["text"], "out of \u{1b}[31mluck");
    assert!(ended.stdout.contains(r"\u001b[31m"), "{ended:?}");
    let said = ended.failed(1);
    let last = said.lines().last().expect("a line");
    assert!(
        last.starts_with("error: the guest panicked: out of "),
        "{said}"
    );
    assert!(last.contains("src/lib.rs:"), "{said}");
    assert!(!last.contains('\u{1b}'), "{said:?}");

    let ended = trouble(&user, ["traps", "--json"]);
    assert_eq!(ended.json()["error"]["kind"], "trap");
    assert_eq!(ended.json()["error"]["trap"], "Unreachable");
    let said = ended.failed(1);
    assert!(said.contains("error: the guest trapped: "), "{said}");
    assert!(said.contains("  at hello::deeper"), "{said}");
}

#[test]
fn limits_and_deadlines_end_a_loop() {
    let user = User::new();
    let ended = trouble(&user, ["spins", "--wall", "200ms", "--json"]);
    let json = ended.json();
    assert_eq!(json["error"]["name"], "WallTime", "{json}");
    assert_eq!(json["error"]["limit"], 200, "{json}");
    ended.failed(3);

    let said = trouble(&user, ["spins", "--deadline", "200ms"]).failed(5);
    assert!(said.contains("the deadline passed"), "{said}");
}

/// The help of the command and its README say the same of exit codes.
#[test]
fn the_exit_codes_are_documented_alike() {
    let help = User::new().spore(["-h"]).ok();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(&help);
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## Exit codes").expect("it is there");
    let mut rows = 0;
    for line in section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
    {
        let Some((code, meaning)) = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |")?.split_once(" | "))
        else {
            break;
        };
        let row = words(&format!("{code} {meaning}"));
        assert!(help.contains(&row), "{row}\nis not in\n{help}");
        rows += 1;
    }
    assert_eq!(rows, 7);
}

#[test]
fn a_key_to_trust_needs_a_host_that_has_it() {
    let key = User::new().spore(["key", "show"]).ok();
    let ended = trouble(&User::new(), ["naps", "[0]", "--trust", key.trim()]);
    assert!(ended.failed(2).contains("add: --on HOST"));
}

#[test]
fn ctrl_c_ends_the_guest() {
    let user = User::new();
    let mut command = user.command();
    command.args(["run", text(&guests().trouble), "naps", "[60000]"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Once the guest speaks, it runs.
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    assert_eq!(&first, b"napping");
    let began = Instant::now();
    signal(child.id(), "INT");
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("error: interrupted"), "{ended:?}");
}

#[test]
fn output_is_passed_on_as_it_is_and_cut_at_its_limit() {
    let user = User::new();
    let ended = trouble(&user, ["says", r#"["a\u001b[1m\n", "b\r"]"#]);
    assert_eq!(ended.stderr, "a\u{1b}[1m\nb\r", "no terminal, no escapes");
    assert_eq!(ended.ok(), "null\n");

    let ended = trouble(
        &user,
        ["says", r#"["0123456789\n", ""]"#, "--output", "4", "--json"],
    );
    assert_eq!(ended.stderr, "0123");
    assert_eq!(ended.json()["output_cut"], true);
    ended.ok();

    // What the command says itself begins on a line of its own.
    let warning = "warning: the guest's output went beyond its limit and was cut\n\
                   help: allow more with --output SIZE\n";
    for (cut, line) in [("4", "0123\n"), ("11", "0123456789\n")] {
        let args = ["says", r#"["0123456789\n", "more"]"#, "--output", cut];
        let ended = trouble(&user, args);
        assert_eq!(ended.stderr, format!("{line}{warning}"));
        ended.ok();
    }
    let said = trouble(&user, ["stumbles"]).failed(1);
    assert!(
        said.starts_with("so far\nerror: the guest panicked"),
        "{said}"
    );
}

#[test]
fn a_bundle_that_is_larger_than_was_allowed_is_not_run() {
    let user = User::new();
    let said = trouble(&user, ["root", "[9]", "--code", "1KiB"]).failed(3);
    assert!(
        said.contains("the code is too large") && said.contains("allow more with --code SIZE"),
        "{said}"
    );
    trouble(&user, ["root", "[9]", "--code", "1MiB", "--state", "0"]).ok();
    let host = user.host();
    let on = ["--on", &host.address, "--trust", &host.key];
    let run = [
        "run",
        text(&guests().trouble),
        "root",
        "[9]",
        "--code",
        "1KiB",
    ];
    let said = user.spore([&run[..], &on[..]].concat()).failed(3);
    assert!(
        said.starts_with("error: the code is too large") && said.contains("up to what the host"),
        "it was not sent: {said}"
    );
}

#[test]
fn one_object_has_result_timing_and_host() {
    let user = User::new();
    let ended = trouble(&user, ["root", "[9]", "--json"]);
    let json = ended.json();
    assert_eq!(json["result"], 3.0);
    assert_eq!(json["host"], "embedded");
    assert_eq!(json["output_cut"], false);
    let timing = |name: &str| {
        json["timing"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert!(timing("run_ns") > 0);
    assert!(timing("compile_ns") > 0);
    assert!(timing("total_ns") >= timing("run_ns") + timing("compile_ns"));
    timing("queue_ns");
    timing("transfer_ns");

    let ended = trouble(&user, ["cube", "--json"]);
    assert_eq!(ended.json()["error"]["kind"], "usage");
    ended.failed(2);
}

#[test]
fn a_seed_gives_the_same_random_bytes_again() {
    let user = User::new();
    let random = |seed: &str| trouble(&user, ["random", "--seed", seed]).ok();
    assert_eq!(random("1"), random("1"));
    assert_ne!(random("1"), random("2"));
}

#[test]
fn a_directory_is_seen_when_it_is_granted() {
    let user = User::new();
    fs::create_dir(user.path("srv")).expect("it is ours");
    fs::write(user.path("srv/goog.csv"), "2004").expect("it is ours");
    let args = ["reads", r#"["goog.csv"]"#];
    assert_eq!(
        trouble(&user, args.into_iter().chain(["--dir", "prices=srv"])).ok(),
        "\"2004\"\n"
    );
    let said = trouble(&user, args).failed(3);
    assert_eq!(
        said,
        "error: hello::reads needs directories that are not granted: prices\n\
         help: add: --dir prices=PATH\n"
    );
    let json = trouble(&user, args.into_iter().chain(["--json"])).json();
    assert_eq!(json["error"]["kind"], "refused");
    assert_eq!(json["error"]["name"], "GrantNotGiven");
    // Another one is not the one.
    let said = trouble(&user, args.into_iter().chain(["--dir", "price=srv"])).failed(3);
    assert!(said.contains("--dir prices=PATH"), "{said}");
}

/// In a host of its own process the limits are the command's own, and so is the way to more.
#[test]
fn a_limit_of_the_command_names_its_option() {
    let user = User::new();
    for (args, error, option) in [
        (
            &["spins", "--wall", "200ms"][..],
            "error: the guest ran longer than it may (",
            "--wall TIME",
        ),
        (
            &["root", "[4]", "--memory", "64KiB"],
            "error: the guest asked for more memory than it may have: memory of one guest (",
            "--memory SIZE",
        ),
        (
            &["root", "[4]", "--result", "4"],
            "error: the result is too large (8 bytes, limit 4)\n",
            "--result SIZE",
        ),
    ] {
        let ended = trouble(&user, args.iter().copied().chain(["--json"]));
        assert_eq!(ended.json()["error"]["limit_of"], "caller", "{ended:?}");
        let said = ended.failed(3);
        assert!(said.starts_with(error), "{said}");
        let help = format!("help: this command set that limit: allow more with {option}\n");
        assert!(said.ends_with(&help), "{said}");
    }
}

#[test]
fn progress_stays_off_what_is_no_terminal() {
    let user = User::new();
    let ended = trouble(&user, ["steps", "[100]"]);
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.ok(), "null\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let user = User::new();
    let mut command = user.command();
    command.args(["inspect", text(&guests().trouble)]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn every_command_has_an_example() {
    let user = User::new();
    for command in [
        &["new"][..],
        &["build"],
        &["inspect"],
        &["capture"],
        &["diff"],
        &["bake"],
        &["run"],
        &["send"],
        &["session"],
        &["session", "open"],
        &["session", "call"],
        &["session", "ls"],
        &["session", "save"],
        &["session", "restore"],
        &["session", "move"],
        &["session", "close"],
        &["job"],
        &["host"],
        &["key"],
        &["key", "show"],
        &["key", "new"],
        &["key", "authorize"],
        &["key", "revoke"],
        &["key", "trust"],
        &["key", "untrust"],
        &["key", "ls"],
        &["status"],
        &["store"],
        &["store", "ls"],
        &["store", "rm"],
        &["store", "gc"],
    ] {
        let help = user.spore(command.iter().copied().chain(["-h"])).ok();
        assert!(help.contains("\nExample"), "{command:?}: {help}");
    }
    let help = user.spore(["--help"]).ok();
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  ", "130"] {
        assert!(help.contains(&format!("\n  {code}")), "{code}: {help}");
    }
    user.spore(["sing"]).failed(2);
}
