//! `spore session`: instances that are kept between commands, in the user's own folder and on hosts.

use std::fs;
use std::net::UdpSocket;
use std::process::Stdio;

use serde_json::{Value as Json, json};
use spore_client::{Bundle, Connect, Home, Origin};
use spore_host::{HeldFrom, Shelf};

use crate::common::{Ended, Host, User, guests, signal, text};

const NOBODY: &str = "00112233445566778899aabbccddeeff";

/// The sessions of a user: here, or on a host.
struct Sessions<'a> {
    user: &'a User,
    on: Option<&'a str>,
}

impl Sessions<'_> {
    fn ask(&self, args: &[&str]) -> Ended {
        let on = self.on.map(|host| ["--on", host]);
        let args = ["session"].into_iter().chain(args.iter().copied());
        self.user.spore(args.chain(on.into_iter().flatten()))
    }

    fn open(&self, bundle: &str) -> String {
        self.ask(&["open", bundle]).ok().trim_end().to_owned()
    }

    fn call(&self, id: &str, callable: &str, arguments: &str) -> Ended {
        self.ask(&["call", id, callable, arguments])
    }

    /// Has a session remember a word.
    fn remember(&self, id: &str, word: &str) -> Ended {
        self.call(id, "remember", &json!([word]).to_string())
    }

    /// The words that a session remembers.
    #[track_caller]
    fn words(&self, id: &str) -> Vec<String> {
        words(&self.call(id, "recall", "[]").ok())
    }

    /// What is listed of a session.
    fn info(&self, id: &str) -> Json {
        let listed = self.ask(&["ls", "--json"]).json();
        let sessions = listed.as_array().expect("a list");
        let found = sessions.iter().find(|session| session["session"] == id);
        found.expect("it is there").clone()
    }

    fn are_none(&self) -> bool {
        self.ask(&["ls"]).ok() == "no sessions\n"
    }
}

fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).expect("a list of words")
}

fn keeper() -> &'static str {
    text(&guests().keeper)
}

/// A user who runs a host for themselves.
fn user_and_host() -> (User, Host) {
    let user = User::new();
    let host = user.host();
    user.spore(["key", "trust", &host.address, &host.key]).ok();
    (user, host)
}

#[test]
fn a_session_is_found_as_the_last_command_left_it() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    assert!(here.are_none());
    let id: &str = &here.open(keeper());
    assert_eq!(id.len(), 32, "{id}");

    let ended = here.remember(id, "one");
    assert_eq!(ended.stderr, "remembering one\n");
    assert_eq!(ended.ok(), "1\n");
    let two = r#"["two"]"#;
    let ended = here.ask(&["call", id, "keeper::remember", two, "--json"]);
    let json = ended.json();
    assert_eq!(json["result"], 2);
    assert_eq!(json["session"], id);
    assert_eq!(json["host"], "embedded");
    assert!(json["total_ns"].is_u64());
    assert_eq!(here.words(id), ["one", "two"]);

    // What does not fit the callable reaches no guest.
    let said = here.call(id, "remember", "[1]").failed(2);
    assert!(said.contains("word: expected String"), "{said}");
    let said = here.call(id, "forget", "[]").failed(2);
    assert!(said.contains("no callable \"forget\""), "{said}");
    assert_eq!(here.words(id), ["one", "two"]);

    let listed = here.ask(&["ls"]).ok();
    assert!(listed.contains(id), "{listed}");
    assert!(listed.contains("  keeper  "), "{listed}");
    let info = here.info(id);
    assert_eq!(info["name"], "keeper");
    assert_eq!(info["state"], "resting");
    assert_eq!(info["saved"], Json::Null);
    let differing = info["memory_bytes"].as_u64().expect("a number");
    assert!(differing > 0 && differing.is_multiple_of(4096), "{info}");

    let left = |folder: &str| {
        let folder = user.path("sessions").join(folder);
        fs::read_dir(folder).expect("it is there").count()
    };
    assert!(left("packs") > 0 && left("use") > 0);
    assert_eq!(here.ask(&["close", id]).ok(), "");
    assert_eq!((left("packs"), left("use")), (0, 0));
    assert!(here.are_none());
    here.call(id, "recall", "[]").failed(3);
}

#[test]
fn a_session_sees_a_directory_in_the_calls_that_grant_it() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    fs::create_dir(user.path("srv")).expect("it is ours");
    fs::write(user.path("srv/goog.csv"), "2004").expect("it is ours");
    let id: &str = &here.open(text(&guests().trouble));
    let (name, grant) = (r#"["goog.csv"]"#, ["--dir", "prices=srv"]);
    let said = here.call(id, "reads", name).failed(3);
    assert!(said.contains("granted with --dir NAME=PATH"), "{said}");
    for _ in 0..2 {
        let read = here.ask(&["call", id, "reads", name, grant[0], grant[1]]);
        assert_eq!(read.ok(), "\"2004\"\n");
    }
    // It is part of what the session is from now on, here and in a copy.
    let said = here.call(id, "reads", name).failed(3);
    assert!(said.contains("prices") && said.contains("--dir"), "{said}");
    let saved = user.path("saved.spore");
    here.ask(&["save", id, "-o", text(&saved)]).ok();
    let said = here.ask(&["open", text(&saved)]).failed(3);
    assert!(said.contains("prices") && said.contains("--dir"), "{said}");
    let opened = here.ask(&["open", text(&saved), grant[0], grant[1]]).ok();
    let copy = opened.trim();
    let read = here.ask(&["call", copy, "reads", name, grant[0], grant[1]]);
    assert_eq!(read.ok(), "\"2004\"\n");
    let there = here.ask(&["open", text(&saved), grant[0], grant[1], "--on", "there"]);
    let said = there.failed(2);
    assert!(said.contains("this one is on there"), "{said}");
}

#[test]
fn commands_that_use_a_session_at_once_take_turns() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let id: &str = &here.open(keeper());
    let call = |callable: &str, arguments: Json| {
        let mut command = user.command();
        command.args(["session", "call", id, callable, &arguments.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    };
    // The first holds the session until another has said that it waits.
    let mut first = call("remember_after", json!([3000, "a"]));
    let mut said = [0; 7];
    let stderr = first.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut said).expect("the guest speaks");
    assert_eq!(&said, b"waiting");
    let others = ["b", "c"].map(|word| call("remember", json!([word])));
    let mut waited = 0;
    for child in [first].into_iter().chain(others) {
        let ended = child.wait_with_output().expect("it is our child");
        assert!(ended.status.success());
        let said = String::from_utf8_lossy(&ended.stderr);
        waited += usize::from(said.contains("waiting for another command"));
    }
    assert!(waited > 0);
    let mut words = here.words(id);
    words.sort();
    assert_eq!(words, ["a", "b", "c"]);
}

#[test]
fn a_session_on_a_host_belongs_to_who_opened_it() {
    let (board, laptop, other) = (User::new(), User::new(), User::new());
    board.spore(["key", "authorize", &other.key()]).ok();
    let host = board.host_for(&laptop);
    other.spore(["key", "trust", &host.address, &host.key]).ok();
    let on = Some(&*host.address);
    let there = Sessions { user: &laptop, on };
    assert!(there.are_none());

    let id: &str = &there.open(keeper());
    let ended = there.remember(id, "one");
    assert_eq!(ended.stderr, "remembering one\n");
    assert_eq!(ended.ok(), "1\n");
    let two = r#"["two"]"#;
    let json = there.ask(&["call", id, "remember", two, "--json"]).json();
    assert_eq!((&json["result"], &json["session"]), (&json!(2), &json!(id)));
    assert_eq!(json["host"], host.address);
    assert_eq!(there.words(id), ["one", "two"]);
    let info = there.info(id);
    assert_eq!(
        (&info["name"], &info["calls"]),
        (&json!("keeper"), &json!(3))
    );
    assert_eq!(info["saved"], Json::Null);

    // Nothing of it is on this machine, and nobody else has it.
    let here = Sessions {
        user: &laptop,
        on: None,
    };
    assert!(here.are_none());
    let said = here.call(id, "recall", "[]").failed(3);
    assert!(said.contains("one on a host needs --on HOST"), "{said}");
    let others = Sessions { user: &other, on };
    assert!(others.are_none());
    let said = others.call(id, "recall", "[]").failed(3);
    assert!(said.contains("there is no such session"), "{said}");
    others.ask(&["close", id]).failed(3);

    assert_eq!(there.ask(&["close", id]).ok(), "");
    assert!(there.are_none());
    there.call(id, "recall", "[]").failed(3);
}

#[test]
fn a_call_that_fails_poisons_a_session_until_it_is_restored() {
    let (user, host) = user_and_host();
    for on in [None, Some(&*host.address)] {
        let sessions = Sessions { user: &user, on };
        let id: &str = &sessions.open(keeper());
        sessions.remember(id, "one").ok();
        let saved = sessions.ask(&["save", id, "-o", "one.spore"]).ok();
        sessions.remember(id, "two").ok();
        let half = r#"["half"]"#;
        let said = sessions.call(id, "panic_after", half).failed(1);
        assert!(said.contains("the guest panicked: half done"), "{said}");
        let elsewhere = on.map_or(&*host.address, |_| "here");

        // It says so, and gives nothing away of what is half done.
        let why = "the session was stopped within a call: the guest panicked: half done";
        for args in [
            &["call", id, "recall"][..],
            &["save", id, "-o", "half.spore"],
            &["move", id, "--to", elsewhere],
        ] {
            let said = sessions.ask(args).failed(3);
            assert!(said.contains(why), "{args:?}: {said}");
        }
        assert!(!user.path("half.spore").exists());
        let listed = sessions.ask(&["ls"]).ok();
        assert!(
            listed.contains("poisoned, saved: the guest panicked"),
            "{listed}"
        );
        let info = sessions.info(id);
        assert_eq!(info["state"], "poisoned");
        let image = info["saved"].as_str().expect("it was saved");
        assert!(saved.contains(image), "{saved}");

        assert_eq!(sessions.ask(&["restore", id]).ok(), "");
        assert_eq!(sessions.words(id), ["one"]);
        assert_ne!(sessions.info(id)["state"], "poisoned");
        assert_eq!(sessions.remember(id, "three").ok(), "2\n");
        sessions.ask(&["close", id]).ok();
    }
}

#[test]
fn a_poisoned_session_that_was_never_saved_can_only_be_closed() {
    let (user, host) = user_and_host();
    let trouble = text(&guests().trouble);
    for on in [None, Some(&*host.address)] {
        let sessions = Sessions { user: &user, on };
        let id: &str = &sessions.open(trouble);
        let said = sessions.call(id, "traps", "[]").failed(1);
        assert!(said.contains("the guest trapped: unreachable"), "{said}");
        assert!(said.contains("\n  at hello::deeper\n"), "{said}");
        let said = sessions.call(id, "root", "[4]").failed(3);
        assert!(said.contains("within a call: the guest trapped"), "{said}");
        let said = sessions.ask(&["restore", id]).failed(3);
        assert!(said.contains("was never saved"), "{said}");
        assert_eq!(sessions.info(id)["state"], "poisoned");
        assert_eq!(sessions.ask(&["close", id]).ok(), "");
        assert!(sessions.are_none());
    }
}

/// The guest's own error is a value like any other.
#[test]
fn an_error_that_a_guest_returns_leaves_its_session_whole() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let id: &str = &here.open(text(&guests().trouble));
    let ended = here.ask(&["call", id, "root", "[-4]", "--json"]);
    let json = ended.json();
    assert_eq!(json["error"]["kind"], "guest_error");
    assert_eq!(json["error"]["value"], json!({ "Negative": { "by": 4.0 } }));
    ended.failed(1);
    assert_eq!(here.call(id, "root", "[4]").ok(), "2.0\n");
}

#[test]
fn a_saved_session_opened_again_is_a_copy_that_goes_its_own_way() {
    let (user, host) = user_and_host();
    for on in [None, Some(&*host.address)] {
        let sessions = Sessions { user: &user, on };
        let id: &str = &sessions.open(keeper());
        sessions.remember(id, "one").ok();
        let said = sessions.ask(&["save", id, "-o", "one.spore"]).ok();
        assert!(said.starts_with("one.spore\n  bundle  "), "{said}");
        let file = fs::read(user.path("one.spore")).expect("it was written");

        let copy: &str = &sessions.open("one.spore");
        assert_ne!(copy, id);
        sessions.remember(id, "left").ok();
        sessions.remember(copy, "right").ok();
        assert_eq!(sessions.words(id), ["one", "left"]);
        assert_eq!(sessions.words(copy), ["one", "right"]);
        // Each is saved as what it is, and restored to what it was saved as.
        sessions.ask(&["save", copy, "-o", "two.spore"]).ok();
        sessions.ask(&["restore", id]).ok();
        assert_eq!(sessions.words(id), ["one"]);
        assert_eq!(sessions.words(copy), ["one", "right"]);

        // The file is as it was, wherever it is opened, and in a call without a session.
        assert_eq!(fs::read(user.path("one.spore")).expect("there"), file);
        for on in [None, Some(&*host.address)] {
            let elsewhere = Sessions { user: &user, on };
            let id: &str = &elsewhere.open("one.spore");
            assert_eq!(elsewhere.words(id), ["one"]);
            elsewhere.ask(&["close", id]).ok();
        }
        let ran = user.spore(["run", "two.spore", "recall"]).ok();
        assert_eq!(words(&ran), ["one", "right"]);
    }
}

#[test]
fn a_session_of_nobody_is_refused() {
    let (user, host) = user_and_host();
    for (on, expected) in [
        (None, "there is no session"),
        (Some(&*host.address), "there is no such session"),
    ] {
        let sessions = Sessions { user: &user, on };
        for args in [
            &["call", NOBODY, "recall"][..],
            &["save", NOBODY, "-o", "nobody.spore"],
            &["restore", NOBODY],
            &["move", NOBODY, "--to", &host.address],
            &["close", NOBODY],
        ] {
            let said = sessions.ask(args).failed(3);
            assert!(said.contains(expected), "{args:?}: {said}");
            assert!(said.contains(NOBODY), "{args:?}: {said}");
        }
        assert!(!user.path("nobody.spore").exists());
        let ended = sessions.ask(&["call", NOBODY, "recall", "--json"]);
        let json = ended.json();
        assert_eq!(json["error"]["kind"], "refused");
        if on.is_some() {
            assert_eq!(json["error"]["name"], "UnknownSession");
        }
        ended.failed(3);
        // What is no id at all is a slip of who types it.
        let said = sessions.call("one", "recall", "[]").failed(2);
        assert!(said.contains("32 lower-case hexadecimal"), "{said}");
        assert!(sessions.are_none());
    }
}

#[test]
fn a_session_moves_from_host_to_host_and_home() {
    let (laptop, board, tower) = (User::new(), User::new(), User::new());
    let (from, to) = (board.host_for(&laptop), tower.host_for(&laptop));
    let at = |on| Sessions { user: &laptop, on };
    let (here, there, beyond) = (at(None), at(Some(&*from.address)), at(Some(&*to.address)));
    let moved = |sessions: &Sessions, id: &str, to: &str| {
        let said = sessions.ask(&["move", id, "--to", to]).ok();
        said.trim_end().to_owned()
    };

    let first: &str = &there.open(keeper());
    there.remember(first, "board").ok();
    // To where nobody is, it does not go.
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let nowhere = free.local_addr().expect("bound").to_string();
    drop(free);
    let said = there.ask(&["move", first, "--to", &nowhere]).failed(4);
    assert!(said.contains("nothing listens"), "{said}");
    assert_eq!(there.words(first), ["board"]);

    let second: &str = &moved(&there, first, &to.address);
    assert!(there.are_none());
    there.call(first, "recall", "[]").failed(3);
    assert_eq!(beyond.remember(second, "tower").ok(), "2\n");

    let third: &str = &moved(&beyond, second, "here");
    assert!(beyond.are_none());
    assert_eq!(here.remember(third, "laptop").ok(), "3\n");

    let fourth: &str = &moved(&here, third, &from.address);
    assert!(here.are_none());
    assert_eq!(there.words(fourth), ["board", "tower", "laptop"]);

    // One that is half done stays where it is, and is opened nowhere.
    there.call(fourth, "panic_after", r#"["half"]"#).failed(1);
    let said = there.ask(&["move", fourth, "--to", &to.address]).failed(3);
    assert!(said.contains("was stopped within a call"), "{said}");
    assert!(beyond.are_none());
    assert_eq!(there.info(fourth)["state"], "poisoned");
    // What it came as is on the disk there, and is what it is restored to.
    there.ask(&["restore", fourth]).ok();
    assert_eq!(there.words(fourth), ["board", "tower", "laptop"]);
}

#[test]
fn a_move_that_broke_off_is_settled_or_adopted() {
    let (laptop, board) = (User::new(), User::new());
    let host = board.host_for(&laptop);
    let at = |on| Sessions { user: &laptop, on };
    let (here, there) = (at(None), at(Some(&*host.address)));
    let first: &str = &here.open(keeper());
    here.remember(first, "laptop").ok();

    // As a command that is killed leaves it, before the session is gone here, and after.
    let hold = |id: &str| {
        here.ask(&["save", id, "-o", "now.spore"]).ok();
        let bundle = Bundle::open(laptop.path("now.spore")).expect("it is there");
        let from = Origin {
            session: id.parse().expect("an id"),
            host: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let connect = Connect::new().home(Home::at(laptop.path("")));
            let host = connect.to(&host.address).await;
            let held = host.expect("it serves this user").open_session(&bundle);
            let held = held.arriving(from).await;
            held.expect("it is held").id().to_string()
        })
    };
    let settle = |id: &str, from: &str, to: &str| {
        laptop.spore(["session", "settle", id, "--from", from, "--to", to])
    };
    let held = hold(first);
    let listed = there.ask(&["ls"]).ok();
    assert!(
        listed.contains(&format!("held, saved: session {first} of a program")),
        "{listed}"
    );
    assert_eq!(there.info(&held)["held"]["session"], first);
    let said = there.call(&held, "recall", "[]").failed(3);
    assert!(
        said.contains("waits to be given up") && said.contains("spore session settle SESSION"),
        "{said}"
    );
    let said = there.ask(&["close", &held]).failed(3);
    assert!(said.contains("may be all that there is"), "{said}");
    let settled = settle(first, "here", &host.address).ok();
    assert_eq!(settled, format!("{first} here\n"));
    assert!(there.are_none());
    assert_eq!(here.words(first), ["laptop"]);
    let held = hold(first);
    there.ask(&["close", &held, "--force"]).ok();
    assert!(there.are_none());

    let held = hold(first);
    let shelf = || Shelf::open(&laptop.path("sessions"), 1 << 30).expect("it is ours");
    let to = Origin {
        session: held.parse().expect("an id"),
        host: Some(host.key.parse().expect("a key")),
    };
    let gave_up = shelf().give_up(first.parse().expect("an id"), to);
    gave_up.expect("it is there");
    let said = here.call(first, "recall", "[]").failed(3);
    assert!(said.contains("was given up to another host"), "{said}");
    assert!(here.ask(&["ls"]).ok().contains("given up to session"));
    let settled = settle(first, "here", &host.address).ok();
    assert_eq!(settled, format!("{held} {}\n", host.address));
    assert!(here.are_none());
    assert_eq!(there.words(&held), ["laptop"]);
    let said = settle(first, "here", &host.address).failed(3);
    assert!(said.contains("does not have session"), "{said}");

    // What comes here is held here until the host has given it up.
    there.ask(&["save", &held, "-o", "there.spore"]).ok();
    let bundle = Bundle::open(laptop.path("there.spore")).expect("it is there");
    let from = HeldFrom {
        session: held.parse().expect("an id"),
        host: host.key.parse().expect("a key"),
        bundle: bundle.id(),
    };
    let kept = shelf().keep(NOBODY.parse().expect("an id"), bundle.inner(), Some(from));
    kept.expect("kept");
    let id = NOBODY;
    assert_eq!(here.info(id)["held"]["host"], host.key);
    here.call(id, "recall", "[]").failed(3);
    let settled = settle(&held, &host.address, "here").ok();
    assert_eq!(settled, format!("{id} here\n"));
    assert_eq!(here.words(id), ["laptop"]);

    // A person decides when the other never comes back.
    assert!(there.are_none());
    let said = here.ask(&["adopt", id, "--force"]).failed(3);
    assert!(said.contains("nothing was done"), "{said}");
    let held = hold(id);
    let said = there.ask(&["adopt", &held]).failed(2);
    assert!(
        said.contains("it is on both from then on") && said.contains("--force"),
        "{said}"
    );
    there.ask(&["adopt", &held, "--force"]).ok();
    assert_eq!(there.words(&held), ["laptop"]);
    assert_eq!(here.words(id), ["laptop"]);
}

#[test]
fn an_interrupted_call_leaves_a_session_here_as_it_was() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let id: &str = &here.open(text(&guests().trouble));
    let mut command = user.command();
    command.args(["session", "call", id, "naps", "[60000]"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Once the guest speaks, it runs.
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    signal(child.id(), "INT");
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("the session is as it was before the call"),
        "{ended:?}"
    );
    assert_eq!(here.info(id)["state"], "resting");
    assert_eq!(here.call(id, "naps", "[0]").ok(), "0\n");
}

#[test]
fn a_call_goes_on_when_its_client_is_lost() {
    let (user, host) = user_and_host();
    let there = Sessions {
        user: &user,
        on: Some(&host.address),
    };
    let id: &str = &there.open(keeper());
    // Longer than it takes a host to notice.
    let arguments = r#"[16000, "a"]"#;
    let mut child = user
        .command()
        .args(["session", "call", id, "remember_after", arguments])
        .args(["--on", &host.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    signal(child.id(), "KILL");
    child.wait().expect("it is our child");
    // In its turn.
    assert_eq!(there.words(id), ["a"]);
}

#[test]
fn a_session_here_that_cannot_be_read_is_listed_and_can_be_closed() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let [lost, whole] = [here.open(keeper()), here.open(keeper())];
    here.remember(&lost, "one").ok();
    let packs = fs::read_dir(user.path("sessions/packs")).expect("it is there");
    let packs = packs.map(|pack| pack.expect("it can be read").path());
    let last = packs.max().expect("there are some");
    let mut bytes = fs::read(&last).expect("it is there");
    // In the first of the blocks that the call has changed.
    bytes[6000] ^= 1;
    fs::write(&last, &bytes).expect("it can be changed");
    for id in [&lost, &whole] {
        assert_eq!(here.info(id)["state"], "resting");
    }
    let said = here.call(&lost, "recall", "[]").failed(5);
    assert!(said.contains("damaged"), "{said}");
    assert!(
        said.contains(&format!("spore session close {lost}")),
        "{said}"
    );
    here.ask(&["close", &lost]).ok();
    assert_eq!(here.words(&whole), Vec::<String>::new());
}

#[test]
fn what_cannot_be_written_to_its_file_is_not_saved() {
    let (user, host) = user_and_host();
    for on in [None, Some(&*host.address)] {
        let sessions = Sessions { user: &user, on };
        let id: &str = &sessions.open(keeper());
        sessions.remember(id, "one").ok();
        sessions.ask(&["save", id, "-o", "one.spore"]).ok();
        sessions.remember(id, "two").ok();
        let said = sessions.ask(&["save", id, "-o", "none/two.spore"]);
        let said = said.failed(5);
        assert!(said.contains("cannot write none/two.spore"), "{said}");
        sessions.ask(&["restore", id]).ok();
        assert_eq!(sessions.words(id), ["one"]);
        // Over what is there.
        sessions.remember(id, "three").ok();
        sessions.ask(&["save", id, "-o", "one.spore"]).ok();
        let copy = sessions.open("one.spore");
        assert_eq!(sessions.words(&copy), ["one", "three"]);
    }
}

#[test]
fn a_call_past_its_time_says_which_option_allows_more() {
    let user = User::new();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let id: &str = &here.open(text(&guests().trouble));
    let said = here
        .ask(&["call", id, "spins", "[]", "--wall", "50ms"])
        .failed(3);
    assert!(said.contains("allow more with --wall TIME"), "{said}");
}

#[test]
fn a_host_that_is_not_known_is_to_be_trusted_before_a_session_moves_there() {
    let user = User::new();
    let host = user.host();
    let here = Sessions {
        user: &user,
        on: None,
    };
    let id: &str = &here.open(keeper());
    let said = here.ask(&["move", id, "--to", &host.address]).failed(2);
    let trust = format!("spore key trust {} {}", host.address, host.key);
    assert!(said.contains(&trust), "{said}");
    assert!(!said.contains("--trust"), "{said}");
    assert!(here.words(id).is_empty(), "it is here");
}
