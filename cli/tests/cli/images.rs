//! Files with an image: what `spore inspect` shows of them, and what `spore bake` makes of them.

use std::cmp::Reverse;
use std::fs;

use serde_json::{Value as Json, json};
use spore_bundle::{Bundle, CodeId, Interface, Limits, ModuleLimits};

use crate::common::{User, guests, saved_after, text};

#[test]
fn captures_that_are_bound_in_an_image_are_there_in_a_run() {
    let user = User::new();
    let captures = r#"{"before": "a", "after": "b"}"#;
    let keeper = text(&guests().keeper);
    let capture = [
        "capture",
        keeper,
        "recall_between",
        captures,
        "-o",
        "bound.spore",
    ];
    user.spore(capture).ok();
    let id = user.spore(["session", "open", "bound.spore"]).ok();
    let id = id.trim_end();
    user.spore(["session", "call", id, "remember", r#"["x"]"#])
        .ok();
    user.spore(["session", "save", id, "-o", "image.spore"])
        .ok();
    let run = ["run", "image.spore", "recall_between"];
    assert_eq!(user.spore(run).json(), json!(["a", "x", "b"]));
    let host = user.host();
    let on = ["--on", &host.address, "--trust", &host.key];
    let there = user.spore(run.iter().chain(&on));
    assert_eq!(there.json(), json!(["a", "x", "b"]));
    // Others would take the place of the image.
    for said in [
        user.spore([
            "capture",
            "image.spore",
            "recall_between",
            captures,
            "-o",
            "c.spore",
        ]),
        user.spore(run.iter().chain(&["--captures", captures])),
    ] {
        let said = said.failed(2);
        assert!(said.contains("the bundle has an image"), "{said}");
    }
    assert!(!user.path("c.spore").exists());
}

#[test]
fn an_image_is_shown_with_its_sizes_blocks_and_regions() {
    let user = User::new();
    saved_after(&user, &[["fill", "[50000]"]], "filled.spore");
    let json = user.spore(["inspect", "filled.spore", "--json"]).json();
    let image = &json["image"];
    let number = |name: &str| {
        let number = image[name].as_u64();
        number.unwrap_or_else(|| panic!("{name}: {image}"))
    };
    let changed = number("changed_bytes");
    assert!(
        (40_960..number("memory_bytes")).contains(&changed),
        "{image}"
    );
    assert_eq!(number("memory_bytes") % 65_536, 0);
    assert_eq!(changed, 4096 * number("blocks"));
    assert!(number("distinct_blocks") <= number("blocks"));
    assert_eq!(
        (&image["runs"], &image["bound"]),
        (&Json::Null, &Json::Array(vec![]))
    );
    let regions = image["regions"].as_array().expect("a list");
    let regions: Vec<_> = regions
        .iter()
        .map(|it| [&it["address"], &it["bytes"]].map(|it| it.as_u64().expect("a number")))
        .collect();
    assert!(regions.is_sorted_by(|[at, bytes], [next, _]| at + bytes < *next));
    let bytes = regions.iter().map(|[_, bytes]| bytes);
    assert_eq!(bytes.sum::<u64>(), changed);
    // Of several, the one that comes first.
    let largest = regions
        .iter()
        .min_by_key(|[at, bytes]| (Reverse(*bytes), *at));
    let [largest, bytes] = largest.expect("there are some");
    assert!((40_960..=changed).contains(bytes), "{image}");

    let shown = user.spore(["inspect", "filled.spore"]).ok();
    for expected in [
        "\nimage\n  memory   ",
        " differ from a fresh instance\n",
        &format!(
            "\n  blocks   {} in {} regions, {} of them different\n",
            number("blocks"),
            regions.len(),
            number("distinct_blocks")
        ),
        &format!("\n  globals  {} changed\n", number("globals")),
        &format!("\n  largest changed regions\n    {largest:#010x}  "),
        "\n  spore.state ",
        "\n  spore.blocks ",
    ] {
        assert!(shown.contains(expected), "{expected:?}: {shown}");
    }
    assert!(!shown.contains("\n  runs "), "{shown}");

    // A bundle that never ran has none.
    let keeper = text(&guests().keeper);
    let json = user.spore(["inspect", keeper, "--json"]).json();
    assert_eq!(json["image"], Json::Null);
    let shown = user.spore(["inspect", keeper]).ok();
    assert!(!shown.contains("\nimage\n"), "{shown}");
}

/// The baked module is packed as a guest again, so that the sandbox compiles it and calls it.
#[test]
fn a_baked_module_begins_as_the_session_left_off() {
    let user = User::new();
    saved_after(&user, &[["remember", r#"["one"]"#]], "one.spore");
    let said = user.spore(["bake", "one.spore", "-o", "one.wasm"]).ok();
    assert!(said.starts_with("one.wasm\n  size    "), "{said}");
    let file = fs::read(user.path("one.spore")).expect("it was saved");
    let saved = Bundle::decode(file, &Limits::default()).expect("it was saved");
    let baked = fs::read(user.path("one.wasm")).expect("it was written");
    let initialises = |code: &[u8]| {
        let interface = Interface::read(code, &ModuleLimits::NONE).expect("a module");
        interface.export("_initialize").is_some()
    };
    assert!(initialises(saved.code()));
    assert!(!initialises(&baked), "it would forget all of it");

    let mut manifest = saved.manifest().clone();
    manifest.state = None;
    manifest.code.id = CodeId::of(&baked);
    manifest.code.bytes = baked.len() as u64;
    let manifest = manifest.encode().expect("it is sound");
    let packed = Bundle::from_parts(manifest, baked, None).expect("the parts fit");
    fs::write(user.path("baked.spore"), packed.encode()).expect("it is ours");
    let run = |bundle: &str, args: &[&str]| {
        let args = ["run", bundle].into_iter().chain(args.iter().copied());
        user.spore(args).ok()
    };
    assert_eq!(run("baked.spore", &["recall"]), "[\"one\"]\n");
    assert_eq!(run("baked.spore", &["remember", r#"["two"]"#]), "2\n");
    assert_eq!(run(text(&guests().keeper), &["recall"]), "[]\n");
}

#[test]
fn without_an_image_there_is_nothing_to_bake() {
    let user = User::new();
    let captures = r#"{"factor": 3.0}"#;
    let closure = text(&guests().closure);
    user.spore(["capture", closure, "scale", captures, "-o", "triple.spore"])
        .ok();
    for bundle in [text(&guests().keeper), "triple.spore"] {
        let said = user.spore(["bake", bundle, "-o", "no.wasm"]).failed(2);
        let expected = format!(
            "error: {bundle} has no image to bake\n\
             help: spore session save ID -o FILE writes a bundle that has one\n"
        );
        assert_eq!(said, expected);
    }
    user.spore(["bake", "missing.spore", "-o", "no.wasm"])
        .failed(2);
    assert!(!user.path("no.wasm").exists());
}
