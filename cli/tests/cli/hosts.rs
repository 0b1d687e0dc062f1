//! `spore host` as a process, and everything that talks to one.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Ended, User, guests, text, until};

#[test]
fn the_walk_through_two_machines() {
    let (board, laptop) = (User::new(), User::new());
    let mut host = board.host();
    let address = &*host.address;
    assert_eq!(
        board.spore(["key", "show", "--host"]).ok().trim_end(),
        host.key
    );

    // The host is not known here, and says so with its key.
    let said = laptop.spore(["status", address]).failed(2);
    assert!(said.contains(&format!("--trust {}", host.key)), "{said}");
    // A key that is not the host's is not trusted, and not remembered.
    let other = User::new().key();
    let said = laptop
        .spore(["status", address, "--trust", &other])
        .failed(2);
    let expected = format!(
        "the host at {address} has the key {}, and --trust names {other}",
        host.key
    );
    assert!(said.contains(&expected), "{said}");
    assert!(
        said.contains(&format!("add: --trust {}", host.key)),
        "{said}"
    );
    assert!(!said.contains("your own key"), "{said}");
    let said = laptop
        .spore(["status", address, "--trust", &laptop.key()])
        .failed(2);
    assert!(said.contains("--trust names your own key"), "{said}");
    assert!(!laptop.path("known_hosts").exists());

    // This user is not known there: the refusal says what to run.
    let key = laptop.key();
    let said = laptop
        .spore(["status", address, "--trust", &host.key])
        .failed(3);
    assert!(
        said.contains(&format!("spore key authorize {key}\n")),
        "{said}"
    );
    board
        .spore(["key", "authorize", &key, "wall=7s", "--comment", "laptop"])
        .ok();

    let status = laptop.spore(["status", address, "--json"]).json();
    assert_eq!(status["host"], address);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["architecture"], std::env::consts::ARCH);
    assert_eq!(status["limits"]["wall_ms"], 7_000);
    assert_eq!(status["stored_blobs"]["count"], 0);
    let shown = laptop.spore(["status", address]).ok();
    assert!(
        shown.contains("\n  wall                    7s\n"),
        "{shown}"
    );

    // By file, with captures bound on the way.
    let closure = text(&guests().closure);
    let captures = ["--captures", r#"{"factor": 3.0}"#];
    let ran = laptop.spore(
        ["run", closure, "[14.0]", "--on", address]
            .into_iter()
            .chain(captures),
    );
    assert_eq!(ran.ok(), "42.0\n");

    // Ahead, and by id.
    laptop
        .spore([
            "capture",
            closure,
            "scale",
            r#"{"factor": 2.0}"#,
            "-o",
            "double.spore",
        ])
        .ok();
    let id = laptop.spore(["send", "double.spore", "--to", address]).ok();
    let id = id.trim_end();
    let ended = laptop.spore(["run", id, "[21.0]", "--on", address, "--json"]);
    let json = ended.json();
    assert_eq!(
        (&json["result"], &json["host"]),
        (&json!(42.0), &json!(address))
    );
    assert_eq!(
        json["timing"]["compile_ns"], 0,
        "sent ahead is compiled ahead: {json}"
    );
    ended.ok();
    let said = laptop.spore(["run", id, "cube", "--on", address]).failed(2);
    assert!(said.contains("closure::scale"), "{said}");

    // Another key has no right to it, though it knows the id.
    let said = board
        .spore(["run", id, "[1.0]", "--on", address, "--trust", &host.key])
        .failed(3);
    assert!(said.contains("does not have the bundle"), "{said}");

    let status = laptop.spore(["status", address, "--json"]).json();
    assert_eq!(status["finished"]["ok"], 2);
    assert_eq!(status["running"], json!([]));
    assert_eq!(status["cached_code"]["count"], 1);

    board.spore(["key", "revoke", &key]).ok();
    laptop.spore(["status", address]).failed(3);
    host.signal("TERM");
    assert_eq!(host.wait(), Some(0));
}

#[test]
fn a_new_host_authorises_who_starts_it_and_no_one_else() {
    let user = User::new();
    let host = user.host();
    let keys = fs::read_to_string(user.path("authorized_keys")).expect("made");
    assert!(keys.starts_with(&user.key()), "{keys}");
    assert_eq!(keys.lines().count(), 1);
    user.spore(["status", &host.address, "--trust", &host.key])
        .ok();
    drop(host);

    // A file that is there stays as it is, if it is empty too.
    fs::write(user.path("authorized_keys"), "").expect("it is ours");
    let host = user.host();
    user.spore(["status", &host.address, "--trust", &host.key])
        .failed(3);
    assert_eq!(
        fs::read_to_string(user.path("authorized_keys")).expect("there"),
        ""
    );
}

#[test]
fn an_unknown_key_of_the_configuration_is_named_with_its_file() {
    let user = User::new();
    fs::write(user.path("spore.toml"), "[limits]\nmemmory = 1\n").expect("it is ours");
    let said = user.spore(["host", "--listen", "127.0.0.1:0"]).failed(2);
    assert!(
        said.contains("spore.toml") && said.contains("`memmory`"),
        "{said}"
    );

    let said = user.spore(["host", "--config", "other.toml"]).failed(2);
    assert!(said.contains("cannot read other.toml"), "{said}");
    let said = user.spore(["host", "--listen", "nowhere"]).failed(2);
    assert!(said.contains("an address is like"), "{said}");
    let said = user.spore(["host", "--log", "a=b=c"]).failed(2);
    assert!(said.contains("no level for logs"), "{said}");
}

#[test]
fn the_configuration_grants_and_limits() {
    let user = User::new();
    fs::create_dir(user.path("srv")).expect("it is ours");
    fs::write(user.path("srv/goog.csv"), "2004").expect("it is ours");
    let srv = user.path("srv");
    let config = format!(
        "[limits]\nwall = \"2s\"\n[grants.directories]\nprices = {:?}\n",
        text(&srv)
    );
    fs::write(user.path("spore.toml"), config).expect("it is ours");
    let host = user.host();
    let run = |args: &[&str]| {
        let start = [
            "run",
            text(&guests().trouble),
            "--on",
            &host.address,
            "--trust",
            &host.key,
        ];
        user.spore(start.iter().chain(args))
    };
    let said = run(&["reads", r#"["goog.csv"]"#]).failed(3);
    assert!(
        said.contains("directory prices") && said.contains("grants=NAME"),
        "{said}"
    );
    user.spore(["key", "authorize", &user.key(), "grants=prices"])
        .ok();
    assert_eq!(run(&["reads", r#"["goog.csv"]"#]).ok(), "\"2004\"\n");
    // A caller lowers limits and never raises them.
    let said = run(&["spins", "--wall", "60s"]).failed(3);
    assert!(
        said.contains("the host refused: the guest ran longer than it may (")
            && said.contains("s, limit 2s)\n"),
        "{said}"
    );
    let place = "the host set that limit: `wall` under [limits] of its spore.toml, or wall= on the";
    assert!(said.contains(place), "{said}");
    assert!(said.contains("--wall only lowers it"), "{said}");
    let own = run(&["spins", "--wall", "200ms", "--json"]);
    assert_eq!(own.json()["error"]["limit_of"], "caller", "{own:?}");
    let said = own.failed(3);
    let help = "this command set that limit: allow more with --wall TIME, up to what the host";
    assert!(said.contains(help), "{said}");
    let ended = run(&["spins", "--json"]);
    assert_eq!(ended.json()["error"]["limit_of"], "host", "{ended:?}");
    let said = run(&["says", r#"["0123", ""]"#, "--output", "2"]);
    assert!(
        said.stderr.contains("01\nwarning: ") && said.stderr.contains("--output only lowers it"),
        "{said:?}"
    );
    let said = run(&["reads", r#"["x"]"#, "--dir", "prices=srv"]).failed(2);
    assert!(said.contains("cannot be used with"), "{said}");
}

/// Both ends of a mistake in a number: what is configured, and what a key is given.
#[test]
fn a_number_out_of_range_is_named_with_its_line_and_its_range() {
    let user = User::new();
    let start = || user.spore(["host", "--listen", "127.0.0.1:0"]);
    for (limit, expected) in [
        (
            "memory = \"5GiB\"",
            "spore.toml: line 3: limits.memory = 5GiB: must be from 64KiB to 4GiB\n",
        ),
        (
            "wall = \"0s\"",
            "spore.toml: line 3: limits.wall = 0ms: must be at least 1ms\n",
        ),
    ] {
        let text = format!("[limits]\nqueue = 7\n{limit}\n");
        fs::write(user.path("spore.toml"), text).expect("it is ours");
        let said = start().failed(2);
        assert!(said.contains(expected), "{said}");
    }
    fs::remove_file(user.path("spore.toml")).expect("it is ours");
    let keys = format!("# mine\n{} memory=0\n", user.key());
    fs::write(user.path("authorized_keys"), keys).expect("it is ours");
    let said = start().failed(5);
    let expected = "line 2: option memory has value \"0\"; the least is 64KiB";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn too_many_connections_are_told_from_too_many_requests() {
    let user = User::new();
    let limits = "[limits]\nconnections_per_key = 1\n";
    fs::write(user.path("spore.toml"), limits).expect("it is ours");
    let host = user.host();
    let mut command = user.command();
    command.args(["run", text(&guests().trouble), "naps", "[60000]"]);
    command.args(["--on", &host.address, "--trust", &host.key]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    let ended = user.spore(["status", &host.address]);
    let _ = child.kill();
    let _ = child.wait();
    let said = ended.failed(3);
    let expected = "error: the host refused: too many connections: the key may have 1\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(!said.contains("requests"), "{said}");
    for help in ["has one: end some", "`connections_per_key`"] {
        assert!(said.contains(help), "{said}");
    }
}

#[test]
fn sigterm_lets_running_calls_finish() {
    let user = User::new();
    let mut host = user.host();
    let mut command = user.command();
    command.args([
        "run",
        text(&guests().trouble),
        "naps",
        "[1500]",
        "--on",
        &host.address,
    ]);
    command
        .args(["--trust", &host.key])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    host.signal("TERM");
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert_eq!(ended.ok(), "1500\n");
    assert_eq!(host.wait(), Some(0));
}

#[test]
fn sigterm_gives_up_calls_after_the_grace_time() {
    let user = User::new();
    fs::write(user.path("spore.toml"), "grace = \"200ms\"\n").expect("it is ours");
    let mut host = user.host();
    let mut command = user.command();
    command.args([
        "run",
        text(&guests().trouble),
        "spins",
        "--on",
        &host.address,
    ]);
    command
        .args(["--trust", &host.key])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    until("the guest runs", || {
        let status = user.spore(["status", &host.address, "--json"]);
        status.code == Some(0) && status.json()["running"][0]["callable"] == "hello::spins"
    });
    let began = Instant::now();
    host.signal("TERM");
    assert_eq!(host.wait(), Some(0));
    // The guest may loop for a minute: neither side waits for that.
    assert!(began.elapsed() < Duration::from_secs(40));
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert!(matches!(ended.code, Some(3 | 4)), "{ended:?}");
    assert!(ended.stderr.contains("shutting down"), "{ended:?}");
}

#[test]
fn a_changed_host_key_is_not_trusted() {
    let user = User::new();
    let host = user.host();
    let other = User::new().key();
    user.spore(["key", "trust", &host.address, &other]).ok();
    for trust in [&[][..], &["--trust", &host.key]] {
        let args = ["status", &host.address]
            .into_iter()
            .chain(trust.iter().copied());
        let said = user.spore(args).failed(5);
        assert!(said.contains(&other) && said.contains(&host.key), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
}

#[test]
fn a_host_that_is_not_there_is_unreachable() {
    let user = User::new();
    let ended = user.spore([
        "run",
        text(&guests().hello),
        "--captures",
        r#"{"greeting": ""}"#,
        "--on",
        "no such host",
        "--json",
        r#"["x"]"#,
    ]);
    assert_eq!(ended.json()["error"]["kind"], "unreachable");
    let said = ended.failed(4);
    assert!(said.contains("no such host"), "{said}");

    // A machine that is there, and no host on it.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let said = user.spore(["status", &address]).failed(4);
    let expected = format!("cannot connect to {address}: nothing listens at {address}\n");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("is `spore host` running there"), "{said}");
}

/// A name leads to several addresses, of which a host may listen at one only.
#[test]
fn every_address_of_a_name_is_tried() {
    let user = User::new();
    let host = user.host();
    let port = host.address.rsplit(':').next().expect("a port");
    let name = format!("localhost:{port}");
    user.spore(["status", &name, "--trust", &host.key]).ok();
}

#[test]
fn what_a_host_could_not_give_or_say_is_refused_as_it_starts() {
    let user = User::new();
    let said = user.spore(["host", "--log", "loud"]).failed(2);
    assert!(said.contains("levels are error, warn"), "{said}");
    let config = user.path("spore.toml");
    for (path, why) in [
        ("/nowhere/at/all", "is no directory"),
        ("here", "is relative"),
    ] {
        let text = format!("[grants.directories]\nprices = {path:?}\n");
        std::fs::write(&config, text).expect("it is ours");
        let config = config.to_str().expect("text");
        let said = user.spore(["host", "--config", config]).failed(2);
        assert!(said.contains("grants.directories.prices"), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_host_on_a_taken_address_says_where_else_to_listen() {
    let (user, other) = (User::new(), User::new());
    let host = user.host();
    let said = other.spore(["host", "--listen", &host.address]).failed(5);
    assert!(
        said.contains(&format!("{} is taken", host.address)),
        "{said}"
    );
    let help = "help: stop it, or listen at a free port: spore host --listen 127.0.0.1:0\n";
    assert!(said.ends_with(help), "{said}");
    // An address for documentation, which no machine has.
    let said = other
        .spore(["host", "--listen", "192.0.2.1:7473"])
        .failed(5);
    assert!(
        said.contains("192.0.2.1 is no address of this machine"),
        "{said}"
    );
    assert!(said.contains("--listen 0.0.0.0:7473"), "{said}");

    // Another host of the same folder, on whatever address.
    let said = user.spore(["host", "--listen", "127.0.0.1:0"]).failed(5);
    assert!(
        said.contains("a host of this user is running already"),
        "{said}"
    );
    assert!(said.contains("SPORE_HOME=DIR spore host"), "{said}");
    user.spore(["status", &host.address, "--trust", &host.key])
        .ok();
}

#[test]
fn a_host_that_dies_is_lost() {
    let user = User::new();
    let host = user.host();
    let mut command = user.command();
    command.args(["run", text(&guests().trouble), "naps", "[60000]", "--json"]);
    command.args(["--on", &host.address, "--trust", &host.key]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = [0; 7];
    let stderr = child.stderr.as_mut().expect("it is piped");
    std::io::Read::read_exact(stderr, &mut first).expect("the guest speaks");
    host.signal("KILL");
    let ended = Ended::from(child.wait_with_output().expect("it is our child"));
    assert_eq!(ended.json()["error"]["kind"], "lost");
    let said = ended.failed(4);
    assert!(
        said.contains("lost the host") && said.contains("once or not at all"),
        "{said}"
    );
}

#[test]
fn a_cancelled_call_is_stopped_at_the_host() {
    let user = User::new();
    let host = user.host();
    let trouble = text(&guests().trouble);
    // Compiled before, so that the deadline comes to a guest that runs.
    user.spore(["send", trouble, "--to", &host.address, "--trust", &host.key])
        .ok();
    let run = [
        "run",
        trouble,
        "spins",
        "--on",
        &host.address,
        "--trust",
        &host.key,
    ];
    user.spore(run.into_iter().chain(["--deadline", "500ms"]))
        .failed(5);
    until("the guest is stopped", || {
        let status = user.spore(["status", &host.address, "--json"]).json();
        status["running_count"] == 0 && status["finished"]["cancelled"] == 1
    });
}

/// A host keeps the place of a connection that ends without a word until its time-out.
#[test]
fn every_command_takes_its_leave() {
    let user = User::new();
    let host = user.host();
    let hello = text(&guests().hello);
    let captures = r#"{"greeting": "Hello"}"#;
    for _ in 0..5 {
        user.spore([
            "run",
            hello,
            r#"["x"]"#,
            "--captures",
            captures,
            "--on",
            &host.address,
            "--trust",
            &host.key,
        ])
        .ok();
    }
    user.spore(["status", &host.address]).ok();
    let taken = || {
        let log = fs::read_to_string(user.path("host.log")).expect("it is there");
        log.matches("nothing left to do").count()
    };
    // One that a time-out has ended says something else.
    until("all connections are closed", || taken() == 6);
}

#[test]
fn a_host_serves_without_standard_output() {
    let user = User::new();
    let log = fs::File::create(user.path("log")).expect("it is ours");
    let mut command = user.command();
    command.args(["host", "--listen", "127.0.0.1:0", "--log-json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ready = || {
        let log = fs::read_to_string(user.path("log")).expect("it is there");
        log.lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let fields = &line["fields"];
            (fields["message"] == "ready").then(|| fields["address"].as_str().map(str::to_owned))?
        })
    };
    until("the host is ready", || ready().is_some());
    let address = ready().expect("it is");
    let key = user.spore(["key", "show", "--host"]).ok();
    let status = user.spore(["status", &address, "--trust", key.trim_end()]);
    let _ = child.kill();
    let _ = child.wait();
    status.ok();
}
