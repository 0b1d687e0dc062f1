//! From nothing to a bundle: `new`, `build`, `inspect`, `capture`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;
use spore_bundle::{Bundle, CodeId, Limits};

use crate::common::{User, guests, text};

#[test]
fn a_new_crate_builds_and_runs_as_it_is() {
    let guests = guests();
    let [new, build] = &guests.said;
    for next in [
        "spore build",
        "spore inspect hello.spore",
        "spore run hello.spore",
    ] {
        assert!(new.contains(next), "{new}");
    }
    let user = User::new();
    let hello = text(&guests.hello);
    let captures = r#"{"greeting": "Hello"}"#;
    let ran = user.spore([
        "run",
        hello,
        "greet",
        "--captures",
        captures,
        r#"["world"]"#,
    ]);
    assert_eq!(ran.stderr, "greeting world\n");
    assert_eq!(ran.ok(), "\"Hello, world!\"\n");

    let inspected = user.spore(["inspect", hello, "--json"]).json();
    let id = inspected["bundle"].as_str().expect("an id");
    assert!(
        build.contains(&format!("  bundle  {id}\n")),
        "{build}: {id}"
    );
    assert!(
        build.contains("hello::greet(#[capture] greeting: String, name: String) -> String"),
        "{build}"
    );
}

#[test]
fn the_same_source_gives_the_same_bytes_in_any_folder() {
    let guests = guests();
    let (near, far) = (fs::read(&guests.hello), fs::read(&guests.hello_far));
    assert!(near.expect("built") == far.expect("built"), "two bundles");
}

#[test]
fn jobs_and_streams_are_as_the_readme_shows_them() {
    let steps = text(&guests().steps);
    let user = User::new();
    let pi = user.spore(["run", steps, "pi", "[1000]"]);
    let pi: f64 = pi.ok().trim().parse().expect("a number");
    assert!((pi - std::f64::consts::PI).abs() < 0.01, "{pi}");

    let mut command = user.command();
    command.args(["run", steps, "primes", "[1000000]"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the command starts");
    let items = BufReader::new(child.stdout.take().expect("it is piped"));
    let first: Vec<_> = items.lines().take(2).map(Result::unwrap).collect();
    assert_eq!(first, ["1000003", "1000033"]);
    // It ends as nobody reads any more.
    child.wait().expect("it is ours");
}

#[test]
fn a_folder_that_is_there_and_a_name_that_is_none_are_refused() {
    let user = User::new();
    fs::create_dir(user.path("there")).expect("it is ours");
    let said = user.spore(["new", "there"]).failed(2);
    assert!(said.contains("there is there already"), "{said}");
    assert_eq!(
        fs::read_dir(user.path("there"))
            .expect("it is ours")
            .count(),
        0
    );

    for there in ["there", ".", "/"] {
        let said = user.spore(["new", there]).failed(2);
        assert!(said.contains("is there already"), "{said}");
        assert!(said.contains("spore new NAME"), "{said}");
    }

    let said = user.spore(["new", "2fast"]).failed(2);
    assert!(said.contains("does not begin with a letter"), "{said}");
    assert!(!user.path("2fast").exists());
}

#[test]
fn a_folder_without_a_crate_is_named() {
    let user = User::new();
    let said = user.spore(["build", "nowhere"]).failed(2);
    assert!(
        said.contains("there is no guest crate at nowhere"),
        "{said}"
    );
    assert!(said.contains("spore new NAME"), "{said}");
}

#[test]
fn what_is_no_guest_crate_is_told_from_one() {
    let user = User::new();
    let write = |path: &str, text: &str| {
        let path = user.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is ours");
        fs::write(path, text).expect("it is ours");
    };
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n");
    write(
        "all/Cargo.toml",
        "[workspace]\nmembers = [\"program\", \"b c\"]\n",
    );
    write("all/program/Cargo.toml", &package("program"));
    write("all/program/src/main.rs", "fn main() {}\n");
    write("all/b c/Cargo.toml", &package("b"));
    write("all/b c/src/lib.rs", "");
    write("crates/one/Cargo.toml", &package("one"));
    let members = "perhaps: spore build 'all/b c', or: spore build all/program\n";
    for (path, error, help) in [
        ("all", "is of a workspace", members),
        ("all/program", "has no library", "spore new NAME"),
        (
            "all/b c",
            "the module describes no callables",
            "spore new NAME",
        ),
        (
            "crates",
            "there is no guest crate",
            "perhaps: spore build crates/one\n",
        ),
        ("all/Cargo.toml", "is a file", "give the folder"),
    ] {
        let ended = user.spore(["build", "--quiet", path]);
        assert!(matches!(ended.code, Some(2 | 5)), "{ended:?}");
        assert!(ended.stderr.contains(error), "{path}: {ended:?}");
        assert!(ended.stderr.contains(help), "{path}: {ended:?}");
    }
}

#[test]
fn inspecting_shows_all_there_is() {
    let user = User::new();
    let closure = text(&guests().closure);
    let bound = user.path("triple.spore");
    user.spore([
        "capture",
        closure,
        "scale",
        r#"{"factor": 3.0}"#,
        "-o",
        text(&bound),
    ])
    .ok();

    let shown = user.spore(["inspect", text(&bound)]).ok();
    for expected in [
        "closure::scale(#[capture] factor: f64, x: f64) -> f64\n      `x` times the captured",
        "captures of closure::scale\n  factor = 3.0\n",
        "spore1.fault: function (i32, i32, i32, i32, i32, i32) → ()",
        "spore.manifest",
        "spore.state",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }

    let json = user.spore(["inspect", text(&bound), "--json"]).json();
    assert_eq!(json["name"], "closure");
    assert_eq!(
        json["callables"][0]["parameters"],
        json!([{ "name": "x", "type": "f64" }])
    );
    assert_eq!(json["captures"]["values"], json!({ "factor": 3.0 }));
    let bytes = |each: &serde_json::Value| each["bytes"].as_u64().expect("a number");
    let sections: u64 = json["sections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(bytes)
        .sum();
    // All but the preamble of eight bytes is in a section.
    assert_eq!(json["file_bytes"], sections + 8);
    assert_eq!(
        json["file_bytes"],
        fs::metadata(&bound).expect("it is there").len()
    );
}

#[test]
fn types_and_grants_are_shown() {
    let user = User::new();
    let trouble = text(&guests().trouble);
    let shown = user.spore(["inspect", trouble]).ok();
    for expected in [
        "hello::root(x: f64) -> Result<f64, Wrong>\n      The square root.\n",
        "      needs: directory prices\n",
        "  /// Why there is no root.\n  enum Wrong {\n",
        "          by: f64,\n",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json = user.spore(["inspect", trouble, "--json"]).json();
    let callables = json["callables"].as_array().expect("a list");
    let reads = callables.iter().find(|it| it["name"] == "hello::reads");
    assert_eq!(
        reads.expect("it is there")["grants"],
        json!(["directory prices"])
    );
    assert_eq!(json["captures"], json!(null));
}

#[test]
fn a_bundle_whose_code_cannot_be_read_is_shown() {
    let user = User::new();
    let whole = fs::read(&guests().closure).expect("built");
    let whole = Bundle::decode(whole, &Limits::default()).expect("built");
    // A section of types that ends before the five that it announces.
    let code = b"\0asm\x01\0\0\0\x01\x01\x05".to_vec();
    let mut manifest = whole.manifest().clone();
    manifest.code.id = CodeId::of(&code);
    manifest.code.bytes = code.len() as u64;
    let manifest = manifest.encode().expect("it is sound");
    let odd = Bundle::from_parts(manifest, code, None).expect("the parts fit");
    fs::write(user.path("odd.spore"), odd.encode()).expect("it is ours");

    let shown = user.spore(["inspect", "odd.spore"]).ok();
    for expected in ["closure::scale(", "\nimports\n  the code cannot be read: "] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let json = user.spore(["inspect", "odd.spore", "--json"]).json();
    assert_eq!(json["bundle"], odd.id().to_string());
    assert_eq!(json["imports"], json!(null));
    assert!(json["unreadable"].is_string(), "{json}");
}

#[test]
fn a_damaged_file_is_no_bundle() {
    let user = User::new();
    let whole = fs::read(&guests().closure).expect("built");
    for (name, bytes) in [
        ("empty.spore", &[][..]),
        ("cut.spore", &whole[..whole.len() / 2]),
        ("text.spore", b"no bundle"),
    ] {
        fs::write(user.path(name), bytes).expect("it is ours");
        for command in ["inspect", "run"] {
            let said = user.spore([command, name]).failed(2);
            assert!(said.contains(name), "{command}: {said}");
        }
    }
    let said = user.spore(["inspect", "nothing.spore"]).failed(2);
    assert!(said.contains("cannot read nothing.spore"), "{said}");
    let said = user.spore(["run", "nothing.spore"]).failed(2);
    assert!(said.contains("cannot read nothing.spore"), "{said}");
    assert!(said.contains("which `spore build` makes"), "{said}");
}

/// What people give instead of a bundle, and which command or file they are told of.
#[test]
fn what_is_no_bundle_is_told_from_one() {
    let user = User::new();
    fs::create_dir_all(user.path("crate")).expect("it is ours");
    fs::create_dir_all(user.path("bundles")).expect("it is ours");
    fs::create_dir_all(user.path("empty")).expect("it is ours");
    for file in [
        "crate/Cargo.toml",
        "bundles/b.spore",
        "bundles/a.spore",
        "here.spore",
    ] {
        fs::write(user.path(file), "").expect("it is ours");
    }
    fs::write(user.path("text"), "fn main() {}").expect("it is ours");
    fs::write(user.path("plain.wasm"), b"\0asm\x01\0\0\0").expect("it is ours");
    let id = "0123abcd".repeat(8);
    let on_host = format!("spore run {id} --on HOST");
    for (given, help) in [
        ("crate", "spore build crate\n"),
        (
            "bundles",
            "give a file of it: bundles/a.spore, bundles/b.spore\n",
        ),
        ("empty", "a bundle is a file such as hello.spore"),
        ("here", "there is here.spore: give that\n"),
        (&id[..8], "all of its 64 digits are needed"),
        ("0123abcd…", "all of its 64 digits are needed"),
        (&id, &on_host),
        (&id.to_uppercase(), &on_host),
        ("nothing", "a bundle is a file such as hello.spore"),
    ] {
        for command in [
            &["inspect", given][..],
            &["run", given],
            &["run", given, "--on", "h"],
            &["send", given, "--to", "h"],
            &["send", given, "--on", "h"],
            &["capture", given, "f", "{}", "-o", "out.spore"],
        ] {
            // `run` takes an id.
            if command[0] == "run" && given == id {
                continue;
            }
            let said = user.spore(command).failed(2);
            let first = format!("error: cannot read {given}: ");
            assert!(said.starts_with(&first), "{command:?}: {said}");
            assert!(said.contains(help), "{command:?}: {said}");
        }
    }
    let said = user.spore(["run", "text"]).failed(2);
    assert!(said.contains("not a Wasm binary"), "{said}");
    assert!(said.contains("help: a bundle is a file such as"), "{said}");
    for command in ["run", "inspect"] {
        let said = user.spore([command, "plain.wasm"]).failed(2);
        let expected = "a Wasm binary without manifest is not a bundle; `spore build` makes one";
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_capture_without_its_callable_or_its_captures_is_shown_with_them() {
    let user = User::new();
    fs::copy(&guests().closure, user.path("closure.spore")).expect("built");
    let object = r#"{"factor":3.0}"#;
    for (word, error, command) in [
        (
            object,
            "the callable is not named",
            "spore capture closure.spore scale '{\"factor\":3.0}' -o out.spore",
        ),
        (
            "scale",
            "the captures of closure::scale are not given",
            "spore capture closure.spore scale '{\"factor\": …}' -o out.spore",
        ),
        ("scala", "no callable \"scala\"", ""),
    ] {
        let args = ["capture", "closure.spore", word, "-o", "out.spore"];
        let said = user.spore(args).failed(2);
        assert!(said.contains(error), "{said}");
        assert!(said.contains(command), "{said}");
        assert!(!user.path("out.spore").exists());
    }
}

#[test]
fn captures_of_the_wrong_type_are_named_with_their_path() {
    let user = User::new();
    let closure = text(&guests().closure);
    for (json, expected) in [
        (r#"{"factor": "x"}"#, "factor: expected f64"),
        (r#"{}"#, "`factor` is missing"),
        (r#"{"factor": 1.0, "more": 2}"#, "`more` is not known"),
        ("{", "not JSON"),
    ] {
        let said = user
            .spore(["capture", closure, "scale", json, "-o", "out.spore"])
            .failed(2);
        assert!(said.contains(expected), "{json}: {said}");
        assert!(!user.path("out.spore").exists());
    }
    fs::copy(closure, user.path("closure.spore")).expect("built");
    let command =
        |object: &str| format!("spore capture closure.spore scale '{object}' -o out.spore");
    for (typed, expected) in [
        (&["3.0"][..], command(r#"{"factor":3.0}"#)),
        (&["-3"], command(r#"{"factor":-3}"#)),
        (&["[3.0]"], command(r#"{"factor":3.0}"#)),
        (&["factor=3.0"], command(r#"{"factor":3.0}"#)),
        // A shell has taken the quotes away.
        (&["{factor:", "3.0}"], command(r#"{"factor":3.0}"#)),
        (&["three"], r#"by their names: '{"factor": …}'"#.to_owned()),
        (
            &["{factr:", "3.0}"],
            r#"by their names: '{"factor": …}'"#.to_owned(),
        ),
    ] {
        let start = ["capture", "closure.spore", "scale"];
        let args = start.iter().chain(typed).chain(&["-o", "out.spore"]);
        let said = user.spore(args).failed(2);
        assert!(said.contains(&expected), "{typed:?}: {said}");
        assert!(!user.path("out.spore").exists());
    }
    let said = user
        .spore(["run", "closure.spore", "[1.0]", "--captures", "3.0"])
        .failed(2);
    let expected = r#"spore run closure.spore '[1.0]' --captures '{"factor":3.0}'"#;
    assert!(said.contains(expected), "{said}");
    let said = user
        .spore(["capture", closure, "scala", "{}", "-o", "out.spore"])
        .failed(2);
    assert!(said.contains("closure::scale"), "{said}");
}
