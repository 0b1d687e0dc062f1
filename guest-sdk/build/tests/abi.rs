//! What a compiled guest does at each export, by docs/ABI.md.

mod common;
#[path = "common/host.rs"]
mod host;

use std::sync::OnceLock;

use host::{Guest, Outcome};
use spore_abi::{Description, export, fault};
use spore_build::Built;
use spore_value::{Type, codec};

const GUEST: &str = r#"
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]
//! Everything that a synchronous callable can do.

use spore_guest::prelude::*;

/// A position
#[derive(Value)]
pub struct Position {
    /// How many
    pub shares: u32,
    /// Of what
    pub name: String,
}

/// Captures by reference can be started from many times.
#[callable]
pub fn worth(#[capture] positions: &[Position], name: &str, price: f64) -> Result<f64, String> {
    progress(1, 2);
    let found = positions.iter().find(|position| position.name == name);
    let found = found.ok_or_else(|| format!("no {name}"))?;
    progress(2, 2);
    Ok(f64::from(found.shares) * price)
}

/// Takes the captured list over.
#[callable]
pub fn append(#[capture] mut list: Vec<u8>, #[capture] again: &u8, more: Vec<u8>) -> Vec<u8> {
    list.extend(more);
    list.push(*again);
    list
}

/// Nothing at all.
#[callable]
pub fn ping() {}

/// A panic with a message that is put together.
#[callable]
pub fn index(list: &[u32], at: u32) -> u32 {
    list[at as usize]
}

/// A panic with a fixed message.
#[callable]
pub fn refuse() -> u32 {
    panic!("not today")
}

/// The names that the expansion could have taken.
pub mod start {
    use spore_guest::callable;

    /// In a module, under a name of its own
    #[callable(name = "start::bind")]
    pub fn bind(bind: bool) -> bool {
        !bind
    }

    /// What the host passes has such names too.
    #[callable(name = "start::len")]
    pub fn len(ptr: &[u8]) -> u32 {
        ptr.len() as u32
    }
}

/// A map, whose iteration needs no randomness to be the same everywhere.
#[callable]
pub fn count(words: Vec<String>) -> std::collections::HashMap<String, u32> {
    let mut counts = std::collections::HashMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    counts
}
"#;

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = common::guests("abi", &[("all-of-it", "", GUEST)]);
        spore_build::Guest::at(root.join("all-of-it"))
            .target_dir(common::target_dir())
            .build()
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

fn guest() -> Guest {
    Guest::new(built().bundle.code())
}

fn positions() -> Vec<u8> {
    codec::encode(&vec![(3u32, "AAPL".to_owned()), (4, "IBM".to_owned())]).expect("shallow")
}

fn arguments<T: spore_value::Value>(arguments: T) -> Vec<u8> {
    codec::encode(&arguments).expect("shallow")
}

#[test]
fn results_and_errors_reach_the_host() {
    let mut guest = guest();
    let handle = guest
        .bind("all_of_it::worth", &positions())
        .expect("they decode");
    let outcome = guest.start_and_poll(
        "all_of_it::worth",
        handle,
        &arguments(("IBM".to_owned(), 2.5)),
    );
    assert_eq!(
        outcome,
        Outcome::Ready(codec::encode(&10.0).expect("shallow"))
    );
    assert_eq!(guest.seen().progress, [(1, 2), (2, 2)]);

    // The same handle again, and two tasks of it at once.
    let first = guest
        .start(
            "all_of_it::worth",
            handle,
            &arguments(("AAPL".to_owned(), 1.0)),
        )
        .expect("they decode");
    let second = guest
        .start(
            "all_of_it::worth",
            handle,
            &arguments(("GOOG".to_owned(), 1.0)),
        )
        .expect("they decode");
    let no = Outcome::Error(codec::encode(&"no GOOG".to_owned()).expect("shallow"));
    assert_eq!(guest.poll(second), no);
    assert_eq!(
        guest.poll(first),
        Outcome::Ready(codec::encode(&3.0).expect("shallow"))
    );
    guest.call0(export::CANCEL, first);
    guest.call0(export::DROP, first);
    guest.call0(export::DROP, second);
    guest.call0(export::UNBIND, handle);
}

#[test]
fn tasks_can_be_dropped_before_they_run() {
    let mut guest = guest();
    let handle = guest
        .bind("all_of_it::worth", &positions())
        .expect("they decode");
    let task = guest
        .start(
            "all_of_it::worth",
            handle,
            &arguments(("IBM".to_owned(), 1.0)),
        )
        .expect("they decode");
    guest.call0(export::DROP, task);
    guest.call0(export::UNBIND, handle);
    assert!(guest.seen().progress.is_empty());
}

#[test]
fn nothing_is_passed_as_nothing() {
    assert_eq!(
        guest().run("all_of_it::ping", &[], &[]),
        Outcome::Ready(vec![])
    );
}

#[test]
fn captures_by_value_are_used_up() {
    let mut guest = guest();
    let captures = codec::encode(&(vec![1u8, 2], 9u8)).expect("shallow");
    let handle = guest
        .bind("all_of_it::append", &captures)
        .expect("they decode");
    let outcome = guest.start_and_poll("all_of_it::append", handle, &arguments((vec![3u8],)));
    assert_eq!(
        outcome,
        Outcome::Ready(codec::encode(&vec![1u8, 2, 3, 9]).expect("shallow"))
    );

    let Err(Outcome::Fault { kind, message, .. }) =
        guest.start("all_of_it::append", handle, &arguments((vec![3u8],)))
    else {
        panic!("captures were used twice")
    };
    assert_eq!((kind, message.contains("consumes")), (fault::PANIC, true));
}

#[test]
fn panics_arrive_with_message_file_and_line() {
    let line = |text: &str| {
        let at = GUEST
            .lines()
            .position(|line| line.contains(text))
            .expect("the guest has it");
        at as u32 + 1
    };
    assert_eq!(
        guest().run("all_of_it::index", &[], &arguments((vec![1u32], 5u32))),
        Outcome::Fault {
            kind: fault::PANIC,
            message: "index out of bounds: the len is 1 but the index is 5".to_owned(),
            file: "all-of-it/src/lib.rs".to_owned(),
            line: line("list[at as usize]"),
        }
    );
    assert_eq!(
        guest().run("all_of_it::refuse", &[], &[]),
        Outcome::Fault {
            kind: fault::PANIC,
            message: "not today".to_owned(),
            file: "all-of-it/src/lib.rs".to_owned(),
            line: line("not today"),
        }
    );
}

#[test]
fn what_cannot_be_decoded_is_a_fault_of_its_own() {
    let fault_of = |outcome| match outcome {
        Outcome::Fault { kind, message, .. } => (kind, message),
        other => panic!("{other:?}"),
    };
    let (kind, message) = fault_of(guest().run("all_of_it::worth", &[5], &[]));
    assert_eq!(kind, fault::CAPTURES);
    assert!(message.contains("missing"), "{message}");
    let (kind, message) = fault_of(guest().run("all_of_it::index", &[], &[0, 0, 0]));
    assert_eq!(kind, fault::ARGUMENTS);
    assert!(message.contains("left"), "{message}");
    // Nothing where something is expected, and something where nothing is.
    assert_eq!(
        fault_of(guest().run("all_of_it::index", &[], &[])).0,
        fault::ARGUMENTS
    );
    assert_eq!(
        fault_of(guest().run("all_of_it::ping", &[1], &[])).0,
        fault::CAPTURES
    );
    // A list that claims more than its bytes can hold costs nothing.
    let claim = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(
        fault_of(guest().run("all_of_it::count", &[], &claim)).0,
        fault::ARGUMENTS
    );
}

#[test]
fn handles_of_other_callables_are_refused() {
    let mut guest = guest();
    let handle = guest
        .bind("all_of_it::ping", &[])
        .expect("there is nothing to decode");
    let outcome = guest.start(
        "all_of_it::worth",
        handle,
        &arguments(("IBM".to_owned(), 1.0)),
    );
    let Err(Outcome::Fault { kind, message, .. }) = outcome else {
        panic!("it was taken")
    };
    assert_eq!((kind, message.contains("handle")), (fault::PANIC, true));
}

#[test]
fn calls_leave_no_memory_behind() {
    let mut guest = guest();
    let mut run = || {
        let words = arguments((vec!["spore".repeat(2000); 20],));
        guest.run("all_of_it::count", &[], &words);
        guest.run(
            "all_of_it::worth",
            &positions(),
            &arguments(("GOOG".to_owned(), 1.0)),
        );
        guest.pages()
    };
    let pages = run();
    for _ in 0..50 {
        assert_eq!(run(), pages);
    }
}

#[test]
fn buffers_are_allocated_aligned_and_given_back() {
    let mut guest = guest();
    for align in [1, 2, 4, 8, 16] {
        let ptr = guest.alloc(100, align);
        assert!(ptr != 0 && ptr.is_multiple_of(align));
        guest.free(ptr, 100, align);
    }
    assert_eq!(guest.alloc(u32::MAX - 8, 1), 0, "more than there is");
    assert_eq!(guest.alloc(0, 1), 0);
    assert_eq!(guest.alloc(8, 3), 0, "no alignment");
}

#[test]
fn exports_are_those_of_the_abi() {
    let guest = guest();
    for name in [
        export::POLL,
        export::DROP,
        export::CANCEL,
        export::UNBIND,
        export::INITIALIZE,
    ] {
        assert!(guest.has(name), "{name}");
    }
    assert!(guest.has("spore1:bind/all_of_it::start::bind"));
    assert!(
        !guest.has("spore1:poll.command_export"),
        "the linker wrapped the exports"
    );
}

#[test]
fn functions_with_awkward_names_run() {
    let outcome = guest().run("all_of_it::start::bind", &[], &arguments((true,)));
    assert_eq!(outcome, Outcome::Ready(vec![0]));
    let outcome = guest().run("all_of_it::start::len", &[], &arguments((vec![7u8, 8],)));
    assert_eq!(outcome, Outcome::Ready(vec![2]));
}

#[test]
fn the_bundle_describes_the_callables() {
    let Built {
        bundle,
        name,
        warnings,
        ..
    } = built();
    assert_eq!(name, "all_of_it");
    assert!(warnings.is_empty(), "{warnings:?}");
    let described = spore_build::describe(bundle.code()).expect("it is what build did");
    let names: Vec<_> = described.iter().map(|each| each.name.as_str()).collect();
    let expected = [
        "append",
        "count",
        "index",
        "ping",
        "refuse",
        "start::bind",
        "start::len",
        "worth",
    ];
    assert_eq!(names, expected.map(|name| format!("all_of_it::{name}")));
    let Description {
        docs,
        signature,
        consumes_captures,
        ..
    } = &described[7];
    assert_eq!(
        docs,
        "Captures by reference can be started from many times."
    );
    assert!(!consumes_captures);
    assert!(described[0].consumes_captures);
    assert_eq!(
        signature.captures[0].ty,
        Type::List(Box::new(Type::Named(0)))
    );
    assert_eq!(signature.definitions[0].name, "Position");
    assert_eq!(
        (&signature.returns, &signature.error),
        (&Type::F64, &Some(Type::String))
    );
    assert_eq!(bundle.manifest().callables.len(), described.len());
}

#[test]
fn a_guest_may_depend_on_a_guest() {
    let inner = "#[spore_guest::callable] pub fn twice(x: u32) -> u32 { 2 * x }";
    let outer = "#[spore_guest::callable]
                 pub fn four_times(x: u32) -> u32 { inner::twice(inner::twice(x)) }";
    let members = [
        ("inner", "", inner),
        ("outer", "inner = { path = \"../inner\" }", outer),
    ];
    let root = common::guests("guest-of-guest", &members);
    let built = spore_build::Guest::at(root.join("outer"))
        .target_dir(common::target_dir())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut guest = Guest::new(built.bundle.code());
    for (name, result) in [("outer::four_times", 12u32), ("inner::twice", 6)] {
        let outcome = guest.run(name, &[], &arguments((3u32,)));
        assert_eq!(
            outcome,
            Outcome::Ready(codec::encode(&result).expect("shallow")),
            "{name}"
        );
    }
    assert!(
        built
            .sources
            .iter()
            .any(|source| source.ends_with("inner/src"))
    );
}
