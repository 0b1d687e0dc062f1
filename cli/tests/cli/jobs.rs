//! Streams of `spore run`, and `spore job`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value as Json, json};

use crate::common::{Ended, Host, PATIENCE, User, guests, signal, text};

const ID: &str = "00112233445566778899aabbccddeeff";

fn lines(text: &str) -> Vec<Json> {
    let line = |line| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

fn run<'a>(user: &User, args: impl IntoIterator<Item = &'a str>) -> Ended {
    let bundle = text(&guests().trouble);
    user.spore(["run", bundle].into_iter().chain(args))
}

/// A user, and a host of theirs that serves them.
fn served() -> (User, Host) {
    let user = User::new();
    user.spore(["key", "authorize", &user.key()]).ok();
    let host = user.host();
    user.spore(["status", &*host.address, "--trust", &*host.key])
        .ok();
    (user, host)
}

#[test]
fn items_are_lines_as_they_come() {
    let user = User::new();
    let ended = run(&user, ["counts", "[3, 100]"]);
    assert_eq!(ended.stderr, "counting\n");
    assert!(
        lines(&ended.ok())
            .into_iter()
            .eq((3..103).map(|n| json!(n)))
    );
    assert_eq!(run(&user, ["counts", "[3, 0]"]).ok(), "");

    let objects = lines(&run(&user, ["counts", "[3, 2]", "--json"]).ok());
    assert_eq!(objects[0], json!({ "item": 3, "sequence": 0 }));
    assert_eq!(objects[1], json!({ "item": 4, "sequence": 1 }));
    assert_eq!(objects[2]["result"], Json::Null);
    assert_eq!(objects[2]["host"], "embedded");
    assert!(objects[2]["timing"]["run_ns"].is_u64());
    assert_eq!(objects.len(), 3);
}

#[test]
fn an_error_comes_after_the_items() {
    let user = User::new();
    let ended = run(&user, ["falters"]);
    assert_eq!(ended.stdout, "1\n");
    let said = ended.failed(1);
    assert!(said.contains("falters returned its own error"), "{said}");
    let ended = run(&user, ["falters", "--json"]);
    assert_eq!(ended.code, Some(1));
    let objects = lines(&ended.stdout);
    assert_eq!(objects[0]["item"], 1);
    assert_eq!(objects[1]["error"]["kind"], "guest_error");
    assert_eq!(objects[1]["error"]["value"]["Negative"]["by"], 2.0);
}

/// A reader that has enough, as `head` has, ends a stream that is endless.
#[test]
fn a_stream_ends_with_its_reader() {
    let user = User::new();
    let bundle = text(&guests().trouble);
    let mut child = user
        .command()
        .args(["run", bundle, "counts", "[0, 1000000000000]"])
        .args(["--wall", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "0\n");
    drop(reader);
    let began = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it goes on for nobody");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_is_asked_of_jobs_wrongly_is_usage() {
    let user = User::new();
    let said = run(&user, ["rests", "[1]", "--job"]).failed(2);
    assert!(said.contains("a host must have it"), "{said}");
    assert!(said.contains("help: add: --on HOST"), "{said}");
    for (args, expected) in [
        (&["run", "x.spore", "--persist", "1s"][..], "--job"),
        (
            &["run", "x.spore", "--job", "--deadline", "1s", "--on", "h"],
            "cannot be used with",
        ),
        (&["job", "ls"], "--on <HOST>"),
        (&["job", "pause", ID], "--on <HOST>"),
        (&["job", "pause", "1", "--on", "h"], "32 lower-case"),
        (
            &["job", "pause", ID, "--on", "h", "--within", "soon"],
            "a duration is like",
        ),
        (&["job", "save", ID, "--on", "h"], "--output <OUT>"),
        (&["job", "move", ID, "--from", "h"], "--to <HOST>"),
        (&["job", "settle", ID, "--to", "h"], "--from <HOST>"),
        (
            &["job", "watch", ID, "--on", "h", "--from", "1", "--no-items"],
            "cannot be used with",
        ),
        (&["job", "open", "no.spore", "--on", "h"], "no.spore"),
        (
            &["job", "open", "x.spore", "--on", "h", "--persist", "on"],
            "or it is off",
        ),
    ] {
        let ended = user.spore(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
    }
    // A bundle without a run is none to go on with.
    let hello = text(&guests().hello);
    let said = user.spore(["job", "open", hello, "--on", "h"]).failed(2);
    assert!(said.contains("holds no run"), "{said}");
}

#[test]
fn a_job_is_adopted_only_by_force() {
    let user = User::new();
    let said = user.spore(["job", "adopt", ID, "--on", "board"]).failed(2);
    assert!(said.contains("nothing was done"), "{said}");
    assert!(said.contains("it runs twice"), "{said}");
    assert!(said.contains("spore job settle"), "{said}");
    let command = format!("spore job adopt {ID} --on board --force");
    assert!(said.contains(&command), "{said}");
}

#[test]
fn every_verb_has_an_example() {
    let user = User::new();
    for verb in [
        "ls", "watch", "pause", "resume", "save", "open", "move", "settle", "cancel", "result",
        "adopt",
    ] {
        let said = user.spore(["job", verb, "-h"]).ok();
        assert!(said.contains(&format!("\n  spore job {verb} ")), "{said}");
    }
}

#[test]
fn a_job_from_its_start_to_its_result() {
    let (user, host) = served();
    let on = ["--on", &*host.address];
    let start = |args: &[&'static str]| {
        let started = run(&user, args.iter().copied().chain(["--job"]).chain(on));
        started.ok().trim_end().to_owned()
    };
    let job = |verb: &str, id: &str, more: &[&str]| {
        let args = ["job", verb, id].into_iter().chain(on);
        user.spore(args.chain(more.iter().copied()))
    };
    let id = start(&["rests", "[1000]"]);
    assert_eq!(id.len(), 32);
    assert_eq!(job("pause", &id, &[]).ok(), "");
    let listed = user.spore(["job", "ls"].into_iter().chain(on)).ok();
    assert!(
        listed.contains(&id) && listed.contains("paused"),
        "{listed}"
    );
    let listed = user.spore(["job", "ls", "--json"].into_iter().chain(on));
    let listed = listed.json();
    assert_eq!(listed[0]["job"], json!(id));
    assert_eq!(listed[0]["state"], "paused");
    assert_eq!(listed[0]["place"], json!({ "is": "here" }));
    assert_eq!(listed[0]["total"], 1000);

    let saved = job("save", &id, &["-o", "half.spore"]).ok();
    assert!(saved.contains("half.spore"), "{saved}");
    assert!(fs::metadata(user.path("half.spore")).is_ok());
    let opened = user.spore(
        ["job", "open", "half.spore", "--paused"]
            .into_iter()
            .chain(on),
    );
    let copy = opened.ok().trim_end().to_owned();
    assert_ne!(copy, id);
    for id in [&id, &copy] {
        assert_eq!(job("cancel", id, &[]).ok(), "");
        let said = job("result", id, &["--keep"]).failed(3);
        assert!(said.contains("the job was ended"), "{said}");
        job("result", id, &[]).failed(3);
        let said = job("result", id, &[]).failed(3);
        assert!(said.contains("spore job ls"), "{said}");
    }

    let id = start(&["rests", "[200]"]);
    let watched = job("watch", &id, &[]);
    assert!(watched.stderr.contains("round 199\n"), "{watched:?}");
    assert_eq!(watched.ok(), "200\n");
    assert_eq!(job("result", &id, &["--keep"]).ok(), "200\n");
    let ended = job("result", &id, &["--json"]).json();
    assert_eq!((&ended["result"], &ended["job"]), (&json!(200), &json!(id)));
    job("result", &id, &[]).failed(3);

    // Items are taken by whoever watches; what was not taken comes with the result.
    let id = start(&["counts", "[5, 3]"]);
    let objects = lines(&job("watch", &id, &["--json"]).ok());
    assert_eq!(objects[0], json!({ "item": 5, "sequence": 0 }));
    assert_eq!(objects[3]["result"], Json::Null);
    assert_eq!(job("result", &id, &[]).ok(), "");
    let id = start(&["falters"]);
    let ended = job("result", &id, &[]);
    assert_eq!(ended.stdout, "1\n");
    ended.failed(1);
    let said = run(&user, ["spins", "--job"].into_iter().chain(on)).failed(3);
    assert!(said.contains("not resumable"), "{said}");
}

#[test]
fn an_interrupted_watch_says_with_which_item_to_go_on() {
    let (user, host) = served();
    let on = ["--on", &*host.address];
    let started = run(
        &user,
        ["counts", "[0, 1000000000000]", "--job"]
            .into_iter()
            .chain(on),
    )
    .ok();
    let id = started.trim_end();
    let mut child = user
        .command()
        .args(["job", "watch", id])
        .args(on)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let stdout = child.stdout.take().expect("it is piped");
    let mut items = BufReader::new(stdout)
        .lines()
        .map(|line| line.expect("text"));
    assert_eq!(items.next().as_deref(), Some("0"));
    signal(child.id(), "INT");
    let last = items.last().unwrap_or_else(|| "0".to_owned());
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    let next = last.parse::<u64>().expect("a number") + 1;
    let said = ended.failed(130);
    let go_on = |next: u64| format!("spore job watch {id} --on {} --from {next}\n", host.address);
    assert!(said.contains(&go_on(next)), "{said}");
    // Nothing is forgotten for a number that nothing has.
    let beyond = user.spore(
        ["job", "watch", id, "--from", "999999999999"]
            .into_iter()
            .chain(on),
    );
    assert!(
        beyond
            .failed(2)
            .contains("no item has the number 999999999999")
    );
    // A reader that goes away, as `head` does, is told as well.
    let mut child = user
        .command()
        .args(["job", "watch", id, "--from", &next.to_string()])
        .args(on)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    reader.read_line(&mut first).expect("an item");
    drop(reader);
    assert_eq!(first, format!("{next}\n"));
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = ended.stderr;
    let (_, unread) = said.split_once("--from ").expect("it says so");
    assert!(
        unread.trim().parse::<u64>().expect("a number") > next,
        "{said}"
    );
    user.spore(["job", "cancel", id].into_iter().chain(on)).ok();
    user.spore(["job", "result", id].into_iter().chain(on))
        .failed(3);
}

/// A result that nobody has read is there for whoever asks next.
#[test]
fn a_result_without_a_reader_stays_on_the_host() {
    let (user, host) = served();
    let on = ["--on", &*host.address];
    let started = run(&user, ["rests", "[1]", "--job"].into_iter().chain(on)).ok();
    let id = started.trim_end();
    for json in [None, Some("--json")] {
        let mut child = user
            .command()
            .args(["job", "result", id])
            .args(on)
            .args(json)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        drop(child.stdout.take());
        let ended = Ended::from(child.wait_with_output().expect("it is our child"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("stays on the host"), "{ended:?}");
    }
    let result = user.spore(["job", "result", id].into_iter().chain(on));
    assert_eq!(result.ok(), "1\n");
}
