//! `spore key`: identities, and the files of keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::common::User;

#[test]
fn a_key_is_made_once_and_shown_bare() {
    let user = User::new();
    let shown = user.spore(["key", "show"]).ok();
    assert!(
        shown.starts_with("ed25519:") && shown.len() == 8 + 52 + 1,
        "{shown:?}"
    );
    assert_eq!(user.spore(["key", "show"]).ok(), shown);
    assert_ne!(user.spore(["key", "show", "--host"]).ok(), shown);
    let mode = fs::metadata(user.path("identity.pem"))
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_is_replaced_only_by_force() {
    let user = User::new();
    for host in [&[][..], &["--host"]] {
        let args = |args: [&'static str; 2]| args.into_iter().chain(host.iter().copied());
        let first = user.spore(args(["key", "new"])).ok();
        let said = user.spore(args(["key", "new"])).failed(2);
        assert!(said.contains("there is a key already"), "{said}");
        assert_eq!(user.spore(args(["key", "show"])).ok(), first);
        let second = user.spore(args(["key", "new"]).chain(["--force"])).ok();
        assert_ne!(second, first);
        assert_eq!(user.spore(args(["key", "show"])).ok(), second);
    }
}

#[test]
fn keys_are_authorised_with_options_and_revoked() {
    let (user, other) = (User::new(), User::new());
    let key = other.key();
    let path = user.path("authorized_keys");
    fs::write(&path, "# mine\n").expect("it is ours");
    let options = [
        "grants=prices,logs",
        "wall=10s",
        "memory=64MiB",
        "--comment",
        "laptop",
    ];
    let said = user
        .spore(["key", "authorize", &key].into_iter().chain(options))
        .ok();
    let line = format!("{key} grants=prices,logs wall=10s memory=64MiB # laptop");
    assert_eq!(said, format!("authorised: {line}\n"));
    let read = || fs::read_to_string(&path).expect("it is there");
    assert_eq!(read(), format!("# mine\n{line}\n"));
    assert_eq!(
        fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o600
    );

    let said = user.spore(["key", "authorize", &key]).ok();
    assert_eq!(said, format!("authorised: {key} # laptop\n"));
    assert_eq!(
        read(),
        format!("# mine\n{key} # laptop\n"),
        "new options take the place of old ones"
    );

    user.spore(["key", "revoke", &key]).ok();
    assert_eq!(read(), "# mine\n");
    let said = user.spore(["key", "revoke", &key]).failed(2);
    assert!(said.contains("does not authorise"), "{said}");
    assert!(said.contains("`spore key ls` lists"), "{said}");
}

/// What people give instead of a key that is authorised.
#[test]
fn what_cannot_be_revoked_is_shown_as_it_can() {
    let user = User::new();
    let (key, host) = (User::new().key(), User::new().key());
    user.spore(["key", "authorize", &key, "--comment", "laptop"])
        .ok();
    let said = user.spore(["key", "revoke", "laptop"]).failed(2);
    assert!(said.contains("\"laptop\" is no key"), "{said}");
    let help = format!("help: spore key revoke {key}\n");
    assert!(said.ends_with(&help), "{said}");
    for other in ["desk", ""] {
        let said = user.spore(["key", "revoke", other]).failed(2);
        assert!(said.contains("`spore key ls` lists"), "{said}");
        assert!(!said.contains(&key), "{said}");
    }

    user.spore(["key", "trust", "board.local", &host]).ok();
    let said = user.spore(["key", "revoke", &host]).failed(2);
    assert!(
        said.contains("spore key untrust board.local:7473"),
        "{said}"
    );
}

#[test]
fn a_host_is_forgotten_by_its_name() {
    let user = User::new();
    let (a, b) = (User::new().key(), User::new().key());
    for (host, key) in [("board.local", &a), ("10.0.0.7:1", &a), ("other", &b)] {
        user.spore(["key", "trust", host, key]).ok();
    }
    let said = user.spore(["key", "untrust", "Board.local:7473"]).ok();
    let expected = format!(
        "no longer trusted: Board.local:7473 {a}\nstill trusted, with the same key: 10.0.0.7:1\n"
    );
    assert_eq!(said, expected);
    let known = || fs::read_to_string(user.path("known_hosts")).expect("there");
    assert_eq!(known(), format!("10.0.0.7:1 {a}\nother:7473 {b}\n"));
    // By another port, or by a name that is not known, it is another host.
    for host in ["board.local", "10.0.0.7"] {
        let said = user.spore(["key", "untrust", host]).failed(2);
        assert!(said.contains(&format!("no key of {host}:7473")), "{said}");
        assert!(said.contains("`spore key ls` lists"), "{said}");
    }
    let said = user.spore(["key", "untrust", &a]).failed(2);
    assert!(said.contains("that is a key"), "{said}");
    user.spore(["key", "untrust", "10.0.0.7:1"]).ok();
    assert_eq!(known(), format!("other:7473 {b}\n"));
}

#[test]
fn what_would_not_be_read_back_is_not_written() {
    let user = User::new();
    let key = user.key();
    for (args, expected) in [
        (&["ed25519:short"][..], "52 characters"),
        (&[&key, "speed=fast"], "unknown option"),
        (&[&key, "wall=soon"], "it takes a time"),
        (&[&key, "wall=0s"], "the least is 1ms"),
        (&[&key, "memory=0"], "the least is 64KiB"),
        (&[&key, "grants", "prices"], "\"grants\" is no option"),
        (&[&key, "wall=1s\ned25519:x"], "no option"),
        (&[&key, "# wall=1s"], "no option"),
        (&[&key, "--comment", "a\nb"], "one line"),
    ] {
        let args = ["key", "authorize"].into_iter().chain(args.iter().copied());
        let said = user.spore(args).failed(2);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!user.path("authorized_keys").exists());

    fs::write(user.path("authorized_keys"), "nonsense\n").expect("it is ours");
    let said = user.spore(["key", "authorize", &key]).failed(5);
    assert!(said.contains("authorized_keys: line 1"), "{said}");
    assert_eq!(
        fs::read_to_string(user.path("authorized_keys")).expect("there"),
        "nonsense\n"
    );
}

#[test]
fn another_key_of_a_host_is_trusted_only_by_force() {
    let user = User::new();
    let (a, b) = (User::new().key(), User::new().key());
    user.spore(["key", "trust", "board.local", &a]).ok();
    user.spore(["key", "trust", "board.local:7473", &a]).ok();
    let said = user.spore(["key", "trust", &a, "board.local"]).failed(2);
    assert!(said.contains("that is a key"), "{said}");
    let said = user.spore(["key", "trust", "board.local", &b]).failed(2);
    assert!(said.contains(&a) && said.contains("--force"), "{said}");
    user.spore(["key", "trust", "board.local", &b, "--force"])
        .ok();
    let known = fs::read_to_string(user.path("known_hosts")).expect("there");
    assert_eq!(known, format!("board.local:7473 {b}\n"));
}

/// What a script does next finds the running host informed: nothing is tried twice here.
#[test]
fn a_running_host_has_read_a_change_when_the_command_ends() {
    let (board, laptop) = (User::new(), User::new());
    let key = laptop.key();
    for verb in ["authorize", "revoke"] {
        let said = board.spore(["key", verb, &key]).ok();
        assert!(!said.contains("running host"), "{said}");
    }

    let host = board.host();
    laptop
        .spore(["key", "trust", &host.address, &host.key])
        .ok();
    for _ in 0..3 {
        let said = board.spore(["key", "authorize", &key]).ok();
        let expected = "the running host has read it, and serves the key from now on\n";
        assert!(said.ends_with(expected), "{said}");
        laptop.spore(["status", &host.address]).ok();
        let said = board.spore(["key", "revoke", &key]).ok();
        let expected = "the running host has read it, and has closed the key's connections\n";
        assert!(said.ends_with(expected), "{said}");
        laptop.spore(["status", &host.address]).failed(3);
    }
    // One that does not answer to anything is not said to have.
    board.spore(["key", "authorize", &key]).ok();
    host.signal("STOP");
    let said = board.spore(["key", "revoke", &key]).failed(5);
    host.signal("CONT");
    assert!(
        said.contains("has not said in 10 s that it has read"),
        "{said}"
    );
    drop(host);
    let said = board.spore(["key", "authorize", &key]).ok();
    assert!(!said.contains("running host"), "{said}");
}

#[test]
fn the_key_of_the_host_itself_is_not_authorised() {
    let user = User::new();
    let host = user.spore(["key", "show", "--host"]).ok();
    let said = user.spore(["key", "authorize", host.trim_end()]).failed(2);
    assert!(said.contains("is the key of the host itself"), "{said}");
    assert!(said.contains("`spore key show` on that machine"), "{said}");
    assert!(!user.path("authorized_keys").exists());

    // Looking for it makes none.
    let other = User::new();
    other.spore(["key", "authorize", host.trim_end()]).ok();
    assert!(!other.path("host.pem").exists());

    // The same mix-up from the other side.
    other.spore(["key", "trust", "h:1", host.trim_end()]).ok();
    assert!(!other.path("identity.pem").exists());
    let own = other.key();
    let said = other.spore(["key", "trust", "h:2", &own]).failed(2);
    assert!(
        said.contains("is your own key, not that of a host"),
        "{said}"
    );
    assert!(said.contains("`spore key show --host`"), "{said}");
    let known = fs::read_to_string(other.path("known_hosts")).expect("there");
    assert!(!known.contains(&own), "{known}");
}

#[test]
fn a_grant_that_the_host_does_not_have_is_named() {
    let user = User::new();
    let key = User::new().key();
    let config = "[grants.directories]\nlogs = \"/var/log\"\nprices = \"/srv\"\n";
    fs::write(user.path("spore.toml"), config).expect("it is ours");
    let said = user
        .spore(["key", "authorize", &key, "grants=logs,price"])
        .failed(2);
    let first = said.lines().next().expect("a line");
    assert!(
        first.starts_with("error: the host grants no price: "),
        "{said}"
    );
    assert!(first.ends_with("spore.toml grants logs, prices"), "{said}");
    assert!(!user.path("authorized_keys").exists());
    let ended = user.spore(["key", "authorize", &key, "grants=logs,prices"]);
    assert_eq!(ended.stderr, "");
    ended.ok();

    // Another file, as the host may be started with.
    fs::write(user.path("other.toml"), "").expect("it is ours");
    let args = ["key", "authorize", &key, "grants=logs", "--config"];
    let with = |file: &'static str| user.spore(args.into_iter().chain([file]));
    let said = with("other.toml").failed(2);
    assert!(said.contains("other.toml grants nothing"), "{said}");
    let said = with("nothing.toml").failed(2);
    assert!(said.contains("cannot read nothing.toml"), "{said}");
    with("spore.toml").ok();

    // Where there is nothing to compare with, that is said, and the key authorised.
    for (text, why) in [(Some("grants = 1"), "spore.toml"), (None, "there is no ")] {
        match text {
            Some(text) => fs::write(user.path("spore.toml"), text),
            None => fs::remove_file(user.path("spore.toml")),
        }
        .expect("it is ours");
        let ended = user.spore(["key", "authorize", &key, "grants=other"]);
        let warned = "warning: whether the host grants other cannot be told: ";
        assert!(ended.stderr.starts_with(warned), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
        assert!(ended.stderr.contains("--config"), "{ended:?}");
        ended.ok();
    }
}

#[test]
fn keys_and_hosts_are_listed_as_their_files_have_them() {
    let user = User::new();
    let shown = user.spore(["key", "ls"]).ok();
    assert_eq!(shown.matches("\n  none\n").count(), 2, "{shown}");
    assert!(!user.path("identity.pem").exists(), "listing makes nothing");
    let empty = json!({ "authorized": [], "trusted": [] });
    assert_eq!(user.spore(["key", "ls", "--json"]).json(), empty);

    let keys: Vec<_> = (0..4).map(|_| User::new().key()).collect();
    let lines = format!(
        "# mine\n{} grants=b,a wall=1m memory=64MiB running=2 queued=3 stored=1GiB # a \u{1b}[1m\n{}\n",
        keys[0], keys[1]
    );
    fs::write(user.path("authorized_keys"), lines).expect("it is ours");
    user.spore(["key", "trust", "z.local", &keys[2]]).ok();
    user.spore(["key", "trust", "a.local:9", &keys[3]]).ok();

    let shown = user.spore(["key", "ls"]).ok();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let options = "grants=b,a wall=1m memory=64MiB running=2 queued=3 stored=1GiB # a \\u{1b}[1m";
    let expected = [
        format!("  {}  {options}\n  {}\n", keys[0], keys[1]),
        format!("  z.local:7473  {}\n  a.local:9     {}\n", keys[2], keys[3]),
    ];
    for expected in expected {
        assert!(shown.contains(&expected), "{expected}: {shown}");
    }
    let without = |key: &str| {
        json!({
            "key": key, "grants": [], "wall_ms": null, "memory_bytes": null, "running": null,
            "queued": null, "stored_bytes": null, "comment": "",
        })
    };
    let with = json!({
        "key": keys[0], "grants": ["b", "a"], "wall_ms": 60_000, "memory_bytes": 64 << 20,
        "running": 2, "queued": 3, "stored_bytes": 1 << 30, "comment": "a \u{1b}[1m",
    });
    assert_eq!(
        user.spore(["key", "ls", "--json"]).json(),
        json!({
            "authorized": [with, without(&keys[1])],
            "trusted": [
                { "host": "z.local:7473", "key": keys[2] },
                { "host": "a.local:9", "key": keys[3] },
            ],
        })
    );

    fs::write(user.path("authorized_keys"), "nonsense\n").expect("it is ours");
    let said = user.spore(["key", "ls"]).failed(5);
    assert!(said.contains("authorized_keys: line 1"), "{said}");
}
