//! `spore job`: what is asked of a job that runs.

use serde_json::{Value as Json, json};

use crate::common::{Jobs, User, guests, stirred, text};

/// Of a job that runs for eight seconds.
const ROUNDS: u64 = 400;

/// Of one that ends only when it is told to.
const ENDLESS: u64 = 1_000_000;

const NOBODY: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_job_is_told_of_at_once_and_goes_on_without_its_command() {
    let (board, laptop) = (User::new(), User::new());
    let host = board.host_for(&laptop);
    let jobs = Jobs {
        user: &laptop,
        on: &host.address,
    };
    let bundle = text(&guests().trouble);
    let arguments = format!("[{ROUNDS}]");
    let args = ["run", bundle, "stirs", &arguments, "--job", "--json"];
    let started = laptop.spore(args.into_iter().chain(["--on", &host.address]));
    assert_eq!(started.stderr, "");
    let started = started.json();
    assert_eq!(started["host"], host.address);
    let id = started["job"].as_str().expect("an id");
    let info = jobs.info(id);
    assert_eq!(info["state"], "running");
    assert_eq!(info["callable"], "hello::stirs");
    assert_eq!(info["place"], json!({ "is": "here" }));

    // Whoever looks later hears the rest of it.
    jobs.comes_to(id, 2);
    let expected = format!("{}\n", stirred(ROUNDS));
    let watched = jobs.ask("watch", id, &[]);
    let last = format!("round {}\n", ROUNDS - 1);
    assert!(watched.stderr.contains(&last), "{watched:?}");
    assert!(!watched.stderr.contains("round 0\n"), "{watched:?}");
    assert_eq!(watched.ok(), expected);

    let info = jobs.info(id);
    assert_eq!(
        (&info["state"], &info["ending"]),
        (&json!("ended"), &json!("value"))
    );
    assert_eq!(info["done"], ROUNDS);
    assert_eq!(jobs.ask("result", id, &[]).ok(), expected);
    assert_eq!(jobs.info(id), Json::Null);
}

#[test]
fn a_paused_job_stands_still_until_it_is_resumed() {
    let (board, laptop) = (User::new(), User::new());
    let host = board.host_for(&laptop);
    let jobs = Jobs {
        user: &laptop,
        on: &host.address,
    };
    let id = &jobs.stir(ROUNDS);
    jobs.comes_to(id, 2);
    let paused = jobs.ask("pause", id, &[]);
    assert_eq!(paused.stderr, "the job is paused\n");
    assert_eq!(paused.ok(), "");
    let info = jobs.info(id);
    assert_eq!(info["state"], "paused");
    // Another goes through several rounds meanwhile.
    jobs.comes_to(&jobs.stir(ROUNDS), 3);
    assert_eq!(jobs.info(id)["done"], info["done"]);
    assert_eq!(jobs.ask("pause", id, &[]).ok(), "", "it is already");

    assert_eq!(jobs.ask("resume", id, &[]).ok(), "");
    assert_eq!(jobs.info(id)["state"], "running");
    let expected = format!("{}\n", stirred(ROUNDS));
    assert_eq!(jobs.ask("result", id, &[]).ok(), expected);
}

#[test]
fn a_job_that_was_cancelled_has_that_as_its_result() {
    let (board, laptop) = (User::new(), User::new());
    let host = board.host_for(&laptop);
    let jobs = Jobs {
        user: &laptop,
        on: &host.address,
    };
    let id = &jobs.stir(ENDLESS);
    for _ in 0..2 {
        let cancelled = jobs.ask("cancel", id, &[]);
        assert_eq!(cancelled.stderr, "the job is ended: cancelled\n");
        assert_eq!(cancelled.ok(), "");
    }
    let info = jobs.info(id);
    assert_eq!(
        (&info["state"], &info["ending"]),
        (&json!("ended"), &json!("cancelled"))
    );
    for verb in ["pause", "resume"] {
        let said = jobs.ask(verb, id, &[]).failed(3);
        assert!(said.contains("the job has ended"), "{verb}: {said}");
    }
    let ended = jobs.ask("result", id, &["--json"]);
    let json = ended.json();
    assert_eq!(json["error"]["kind"], "refused");
    assert_eq!(json["error"]["name"], "Cancelled");
    assert_eq!(
        (&json["job"], &json["host"]),
        (&json!(id), &json!(host.address))
    );
    ended.failed(3);
    assert_eq!(jobs.info(id), Json::Null, "its result was taken");
}

#[test]
fn a_job_of_nobody_is_refused() {
    let (board, laptop) = (User::new(), User::new());
    let host = board.host_for(&laptop);
    let jobs = Jobs {
        user: &laptop,
        on: &host.address,
    };
    for (verb, more) in [
        ("watch", &[][..]),
        ("pause", &[]),
        ("resume", &[]),
        ("save", &["-o", "nobody.spore"]),
        ("cancel", &[]),
        ("result", &[]),
        ("adopt", &["--force"]),
    ] {
        let said = jobs.ask(verb, NOBODY, more).failed(3);
        let expected = format!("there is no such job of this key: {NOBODY}\n");
        assert!(said.contains(&expected), "{verb}: {said}");
        assert!(said.contains("help: `spore job ls"), "{verb}: {said}");
    }
    assert!(!laptop.path("nobody.spore").exists());
}
