//! `spore diff`: what tells two bundles apart, to people and to scripts.

use std::fs;

use serde_json::{Value as Json, json};

use crate::common::{Jobs, User, guests, saved_after, text};

/// What is said of two files, as text and as JSON.
fn diff(user: &User, a: &str, b: &str) -> (String, Json) {
    let ended = user.spore(["diff", a, b, "--json"]);
    let json = ended.json();
    ended.ok();
    (user.spore(["diff", a, b]).ok(), json)
}

#[test]
fn one_bundle_in_two_files_is_the_same() {
    let user = User::new();
    let (near, far) = (text(&guests().hello), text(&guests().hello_far));
    fs::copy(near, user.path("copy.spore")).expect("built");
    for other in [near, "copy.spore", far] {
        let (said, json) = diff(&user, near, other);
        let id = json["a"].as_str().expect("an id");
        let expected = format!("a  {id}  {near}\nb  {id}  {other}\nthe same bundle\n");
        assert_eq!(said, expected);
        assert_eq!(json["same"], true);
        assert_eq!(json["b"], id);
        assert_eq!(json["code"]["same"], true);
        for part in ["interface", "captures"] {
            assert_eq!(json[part], json!([]), "{part}");
        }
        assert_eq!(json["memory"], Json::Null);
    }
}

#[test]
fn other_code_is_shown_with_what_became_of_the_callables() {
    let user = User::new();
    let (before, after) = (text(&guests().hello), text(&guests().trouble));
    let (said, json) = diff(&user, before, after);
    assert!(said.contains("\ncode       a "), "{said}");
    assert!(
        said.contains("\ninterface  hello::greet: only in a\n"),
        "{said}"
    );
    assert!(
        said.contains("\ninterface  hello::root: only in b\n"),
        "{said}"
    );
    assert!(!said.contains("memory"), "{said}");

    assert_eq!(
        (&json["same"], &json["code"]["same"]),
        (&json!(false), &json!(false))
    );
    assert_ne!(json["code"]["a"], json["code"]["b"]);
    let changes = json["interface"].as_array().expect("a list");
    let greet = json!({ "callable": "hello::greet", "difference": "only in a" });
    let others = changes.iter().filter(|it| it["difference"] == "only in b");
    assert!(changes.contains(&greet), "{json}");
    assert_eq!(others.count(), changes.len() - 1, "{json}");
    assert_eq!(json["captures"], json!([]));
}

#[test]
fn other_captures_are_shown_by_their_names() {
    let user = User::new();
    let closure = text(&guests().closure);
    for (factor, file) in [("3.0", "triple.spore"), ("2.0", "double.spore")] {
        let captures = format!("{{\"factor\": {factor}}}");
        user.spore(["capture", closure, "scale", &captures, "-o", file])
            .ok();
    }
    let (said, json) = diff(&user, "triple.spore", "double.spore");
    let expected = "\ncode       the same\ncaptures   factor: a 3.0, b 2.0\n";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(
        (&json["same"], &json["code"]["same"]),
        (&json!(false), &json!(true))
    );
    let factor = json!({ "capture": "factor", "a": 3.0, "b": 2.0 });
    assert_eq!(json["captures"], json!([factor]));

    // Numbers that are equal, and are written otherwise.
    for (factor, file) in [("0.0", "zero.spore"), ("-0.0", "minus.spore")] {
        let captures = format!("{{\"factor\": {factor}}}");
        user.spore(["capture", closure, "scale", &captures, "-o", file])
            .ok();
    }
    let (said, _) = diff(&user, "zero.spore", "minus.spore");
    let expected = "\ncode       the same\ncaptures   factor: a 0.0, b -0.0\n";
    assert!(said.ends_with(expected), "{said}");

    // Bound to something, and to nothing.
    let (said, json) = diff(&user, closure, "double.spore");
    let expected = "\ncaptures   a binds nothing, b binds closure::scale\n";
    assert!(said.ends_with(expected), "{said}");
    let bound = json!({ "a": null, "b": "closure::scale" });
    assert_eq!(json["captures"], json!([bound]));
}

#[test]
fn memory_that_differs_is_shown_by_its_regions() {
    let user = User::new();
    let fill = ["fill", "[50000]"];
    saved_after(&user, &[fill], "filled.spore");
    saved_after(&user, &[fill, ["poke", "[20000, 9]"]], "poked.spore");
    let (said, json) = diff(&user, "filled.spore", "poked.spore");
    assert_eq!(
        (&json["same"], &json["code"]["same"]),
        (&json!(false), &json!(true))
    );
    assert!(
        said.contains("\ncode       the same\nmemory     "),
        "{said}"
    );
    let memory = &json["memory"];
    assert_eq!(memory["pages"]["a"], memory["pages"]["b"]);
    let bytes = memory["bytes"].as_u64().expect("a number");
    // The byte's block, and what the call itself has touched.
    assert!((4096..32_768).contains(&bytes), "{json}");
    let regions = memory["regions"].as_array().expect("a list");
    let sizes = regions
        .iter()
        .map(|it| it["bytes"].as_u64().expect("a number"));
    assert_eq!(sizes.sum::<u64>(), bytes);
    let count = format!(" differ, in {} regions\n", regions.len());
    assert!(said.contains(&count), "{said}");
    for region in regions {
        let address = region["address"].as_u64().expect("a number");
        assert!(said.contains(&format!("  {address:#010x}  ")), "{said}");
    }

    // An image that has grown, and none at all.
    saved_after(&user, &[], "fresh.spore");
    let (said, json) = diff(&user, "fresh.spore", "filled.spore");
    let pages = &json["memory"]["pages"];
    assert!(pages["a"].as_u64() < pages["b"].as_u64(), "{json}");
    let grown = format!(
        "\nmemory     a has {} pages, b {}\n",
        pages["a"], pages["b"]
    );
    assert!(said.contains(&grown), "{said}");
    let (said, json) = diff(&user, text(&guests().keeper), "filled.spore");
    assert!(
        said.ends_with("\nmemory     only b has an image\n"),
        "{said}"
    );
    assert_eq!(json["memory"], json!({ "only": "b" }));
}

#[test]
fn what_an_image_has_beside_its_memory_is_told_apart() {
    let user = User::new();
    let host = user.host();
    user.spore(["key", "trust", &host.address, &host.key]).ok();
    let jobs = Jobs {
        user: &user,
        on: &host.address,
    };
    let id: &str = &jobs.stir(1000);
    jobs.comes_to(id, 1);
    jobs.ask("save", id, &["-o", "run.spore"]).ok();
    jobs.ask("cancel", id, &[]).ok();
    let session = user
        .spore(["session", "open", text(&guests().trouble)])
        .ok();
    user.spore(["session", "save", session.trim_end(), "-o", "rest.spore"])
        .ok();
    let (said, json) = diff(&user, "run.spore", "rest.spore");
    assert!(
        said.contains("\nruns       a hello::stirs, b nothing\n"),
        "{said}"
    );
    assert!(said.contains("\nrandom     a drew "), "{said}");
    let beside = &json["beside_memory"];
    assert_eq!(
        beside["runs"],
        json!({ "a": { "callable": "hello::stirs", "items": 0 }, "b": null })
    );
    assert_eq!(beside["sees"], json!({ "a": [], "b": [] }));
    let (said, json) = diff(&user, "rest.spore", "rest.spore");
    assert!(!said.contains("runs"), "{said}");
    assert_eq!(
        json["beside_memory"]["runs"],
        json!({ "a": null, "b": null })
    );
}

#[test]
fn a_file_that_is_no_bundle_is_named() {
    let user = User::new();
    let hello = text(&guests().hello);
    fs::write(user.path("text.spore"), "no bundle").expect("it is ours");
    for other in ["missing.spore", "text.spore"] {
        for args in [["diff", hello, other], ["diff", other, hello]] {
            let said = user.spore(args).failed(2);
            assert!(said.contains(other), "{said}");
        }
    }
}
