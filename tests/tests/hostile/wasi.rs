//! Guests that lie to WASI: addresses and lengths that their memory does not have. Each is answered
//! with an error number or a trap, nothing of the host's is told, and the host serves on.

use std::sync::mpsc;

use spore_bundle::Grant;
use spore_client::{Bundle, CallError, Failure, Host, RefusalCode, TrapCode};
use spore_host::{Grants, Setup};
use spore_tests::Local;
use spore_tests::guests::{assert_serves, of, wall};
use spore_tests::local::Both;
use spore_tests::module::{RUN, Raw, bundle_with, record};
use spore_tests::outcome::{refused, soon};

/// The first address that the guests' memory does not have: it is one page.
const END: i32 = 64 << 10;

/// Where a function finds what it reads, and where it may put what it gives.
const FROM: i32 = 2048;
const TO: i32 = 8192;

/// How a function answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// With a number of WASI's, 0 when all is well.
    Errno(u8),
    /// With a trap that says this.
    Trap(&'static str),
}

const SUCCESS: Answer = Answer::Errno(0);
const BAD_DESCRIPTOR: Answer = Answer::Errno(8);
const FAULT: Answer = Answer::Errno(21);
const INVALID: Answer = Answer::Errno(28);
const NAME_TOO_LONG: Answer = Answer::Errno(37);
const NO_MEMORY: Answer = Answer::Errno(48);
const NO_DIRECTORY: Answer = Answer::Errno(54);

const OUTSIDE: Answer = Answer::Trap("out of bounds");
const UNALIGNED: Answer = Answer::Trap("not aligned");

/// What a guest hands to a function, and the answer to that.
type Case<'a> = (&'a [i32], Answer);

/// A guest that calls the function with these arguments and returns the answer. Its memory has these
/// words at [`FROM`], and it may read a directory.
fn calling(function: &str, arguments: &[i32], words: &[i32]) -> Bundle {
    let types = "i32 ".repeat(arguments.len());
    let constant = |value: &i32| format!("(i32.const {value})");
    let arguments: String = arguments.iter().map(constant).collect();
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    let bytes: String = bytes.map(|byte| format!("\\{byte:02x}")).collect();
    let raw = Raw {
        imports: format!(
            r#"(import "wasi_snapshot_preview1" "{function}"
                (func $function (param {types}) (result i32)))"#
        ),
        more: format!(r#"(data (i32.const {FROM}) "{bytes}")"#),
        // A list of one byte: their number, and then it.
        poll: format!(
            "(i32.store8 (i32.const 64) (i32.const 1))
             (i32.store8 (i32.const 65) (call $function {arguments}))
             {}",
            record(0, 64, 2)
        ),
        ..Raw::default()
    };
    bundle_with(raw.code(), |manifest| {
        manifest.callables[0].grants = vec![Grant::Directory("data".to_owned())];
    })
}

/// What a guest is answered, and what it has written meanwhile.
async fn run(host: &Host, bundle: &Bundle) -> (Answer, Vec<u8>) {
    let (write, written) = mpsc::channel();
    let call = host
        .call(&of(bundle, RUN), (vec![],))
        .on_output(move |_, bytes| write.send(bytes.to_vec()).expect("the test hears"));
    let answer = match soon("the guest", call.into_future()).await {
        Ok(number) => Answer::Errno(number[0]),
        Err(CallError::Failed(Failure::Trap {
            code: TrapCode::Other,
            message,
            ..
        })) => {
            let says = |answer: &Answer| match answer {
                Answer::Trap(text) => message.contains(text),
                Answer::Errno(_) => false,
            };
            let known = [OUTSIDE, UNALIGNED].into_iter().find(says);
            known.unwrap_or_else(|| panic!("another trap: {message}"))
        }
        other => panic!("{other:?}"),
    };
    (answer, written.iter().flatten().collect())
}

/// Calls the function in each way, embedded and over QUIC. Those that succeed write this text, and no
/// other writes anything else.
async fn each(function: &str, words: &[i32], text: &str, cases: &[Case<'_>]) {
    let folder = tempfile::tempdir().expect("a folder for tests");
    let directories = [("data".to_owned(), folder.path().to_owned())].into();
    let setup = Setup {
        grants: Grants { directories },
        ..Setup::default()
    };
    let local = Local::start(setup.clone(), &["grants=data"]);
    let embedded = Host::embedded_with(setup).expect("the engine starts");
    for host in [embedded, local.connect(0).await] {
        for (arguments, expected) in cases {
            let bundle = calling(function, arguments, words);
            let (answer, written) = run(&host, &bundle).await;
            assert_eq!(answer, *expected, "{function} {arguments:?}");
            let nothing = written.is_empty() && answer != SUCCESS;
            assert!(
                nothing || written == text.as_bytes(),
                "{function} {arguments:?} wrote {written:?}"
            );
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn bytes_to_write_that_are_not_there() {
    // Where the bytes lie, and how many they are.
    const VECTORS: [[i32; 2]; 7] = [
        [FROM, 4],
        [END, 1],
        [END - 1, 2],
        [-1, 1],
        [-1, 2],
        [FROM, END],
        [FROM, -1],
    ];
    let vector = |index: i32| FROM + 4 + 8 * index;
    let text = [i32::from_le_bytes(*b"text")];
    let words = [&text, VECTORS.as_flattened()].concat();
    each(
        "fd_write",
        &words,
        "text",
        &[
            (&[1, vector(0), 1, TO], SUCCESS),
            (&[2, vector(0), 1, TO], SUCCESS),
            (&[1, vector(1), 1, TO], OUTSIDE),
            (&[1, vector(2), 1, TO], OUTSIDE),
            (&[1, vector(3), 1, TO], OUTSIDE),
            (&[1, vector(4), 1, TO], OUTSIDE),
            (&[1, vector(5), 1, TO], OUTSIDE),
            (&[1, vector(6), 1, TO], NO_MEMORY),
            // The vectors themselves,
            (&[1, END, 1, TO], OUTSIDE),
            (&[1, END - 4, 1, TO], OUTSIDE),
            (&[1, -8, 1, TO], OUTSIDE),
            (&[1, -8, 2, TO], OUTSIDE),
            (&[1, vector(0) + 1, 1, TO], UNALIGNED),
            (&[1, vector(0), -1, TO], NO_MEMORY),
            // where their number is to go,
            (&[1, vector(0), 1, END - 4], SUCCESS),
            (&[1, vector(0), 1, END], OUTSIDE),
            (&[1, vector(0), 1, -4], OUTSIDE),
            (&[1, vector(0), 1, TO + 1], UNALIGNED),
            // and who is to write them.
            (&[0, vector(0), 1, TO], BAD_DESCRIPTOR),
            (&[99, vector(0), 1, TO], BAD_DESCRIPTOR),
            (&[-1, vector(0), 1, TO], BAD_DESCRIPTOR),
        ],
    )
    .await;
}

#[tokio::test]
async fn random_bytes_for_which_there_is_no_room() {
    each(
        "random_get",
        &[],
        "",
        &[
            (&[TO, 16], SUCCESS),
            (&[END - 16, 16], SUCCESS),
            (&[END, 1], FAULT),
            (&[END - 1, 2], FAULT),
            (&[-1, 1], FAULT),
            (&[-1, 2], FAULT),
            (&[0, END + 1], FAULT),
            (&[0, -1], FAULT),
            (&[-1, -1], FAULT),
        ],
    )
    .await;
}

#[tokio::test]
async fn more_random_bytes_than_there_is_time_for() {
    const MIB: u32 = 1 << 20;
    let bytes = 200 * MIB;
    let raw = Raw {
        memory: format!(r#"(memory (export "memory") {})"#, bytes / (64 << 10)),
        imports: r#"(import "wasi_snapshot_preview1" "random_get"
            (func $random (param i32 i32) (result i32)))"#
            .to_owned(),
        poll: format!(
            "(drop (call $random (i32.const 0) (i32.const {bytes}))) {}",
            record(0, 64, 1)
        ),
        ..Raw::default()
    };
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        let call = host.call(&of(&raw.bundle(), RUN), (vec![],));
        let result = soon("the guest", call.limits(wall(10)).into_future()).await;
        assert_eq!(refused(result, RefusalCode::WallTime).limit, Some(10));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn clocks_to_wait_for_that_are_not_there() {
    const SUBSCRIPTION: i32 = 48;
    const EVENT: i32 = 32;
    const COUNT: i32 = 256;
    // Zeros are a clock that has run out.
    each(
        "poll_oneoff",
        &[],
        "",
        &[
            (&[FROM, TO, 1, COUNT], SUCCESS),
            (&[END - SUBSCRIPTION, TO, 1, COUNT], SUCCESS),
            (&[END - SUBSCRIPTION + 1, TO, 1, COUNT], FAULT),
            (&[END, TO, 1, COUNT], FAULT),
            (&[-1, TO, 1, COUNT], FAULT),
            (&[-SUBSCRIPTION, TO, 1, COUNT], FAULT),
            (&[END - SUBSCRIPTION, TO, 2, COUNT], FAULT),
            (&[FROM, END - EVENT, 1, COUNT], SUCCESS),
            (&[FROM, END - EVENT + 1, 1, COUNT], FAULT),
            (&[FROM, END, 1, COUNT], FAULT),
            (&[FROM, -1, 1, COUNT], FAULT),
            (&[FROM, END - EVENT, 2, COUNT], FAULT),
            (&[FROM, TO, 1, END - 4], SUCCESS),
            (&[FROM, TO, 1, END - 3], FAULT),
            (&[FROM, TO, 1, END], FAULT),
            (&[FROM, TO, 1, -1], FAULT),
            (&[FROM, TO, 1024, COUNT], SUCCESS),
            (&[FROM, TO, 1025, COUNT], NO_MEMORY),
            (&[FROM, TO, -1, COUNT], NO_MEMORY),
            (&[FROM, TO, 0, COUNT], INVALID),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_name_of_a_directory_for_which_there_is_no_room() {
    // The only directory, and how long its name is: `/data`.
    const DIRECTORY: i32 = 3;
    const LENGTH: i32 = 5;
    each(
        "fd_prestat_dir_name",
        &[],
        "",
        &[
            (&[DIRECTORY, TO, LENGTH], SUCCESS),
            (&[DIRECTORY, END - LENGTH, LENGTH], SUCCESS),
            // No more of the room is used than the name takes.
            (&[DIRECTORY, END - LENGTH, -1], SUCCESS),
            (&[DIRECTORY, END - LENGTH + 1, LENGTH], OUTSIDE),
            (&[DIRECTORY, END, LENGTH], OUTSIDE),
            (&[DIRECTORY, -1, LENGTH], OUTSIDE),
            (&[DIRECTORY, -LENGTH, LENGTH], OUTSIDE),
            (&[DIRECTORY, -1, -1], OUTSIDE),
            (&[DIRECTORY, TO, LENGTH - 1], NAME_TOO_LONG),
            (&[DIRECTORY, TO, 0], NAME_TOO_LONG),
            (&[1, TO, LENGTH], NO_DIRECTORY),
            (&[DIRECTORY + 1, TO, LENGTH], BAD_DESCRIPTOR),
            (&[-1, TO, LENGTH], BAD_DESCRIPTOR),
        ],
    )
    .await;
}
