//! What `docs/ABI.md` says a guest sees and may use, by modules that look.

use std::sync::{Arc, Mutex};

use serde_json::json;
use spore_client::{Bundle, Failure, Host, OutputStream, RefusalCode, TrapCode};
use spore_host::Setup;
use spore_tests::guests::assert_serves;
use spore_tests::local::Both;
use spore_tests::module::{Raw, bundle_with, record};
use spore_tests::outcome::{failed, refused};
use spore_value::Type;

const DOCUMENT: &str = include_str!("../../../docs/ABI.md");

static BOTH: Both = Both::new(Setup::default);

/// Where a module leaves what it has seen.
const SEEN: u32 = 1024;

/// A bundle whose guest returns `bytes` bytes from [`SEEN`] on, each as it is.
fn looking(raw: Raw, bytes: u32) -> Bundle {
    let raw = Raw {
        poll: format!("{} {}", raw.poll, record(0, SEEN, bytes)),
        ..raw
    };
    bundle_with(raw.code(), |manifest| {
        manifest.callables[0].signature.returns = Type::Array(Box::new(Type::U8), bytes);
    })
}

/// What such a guest returns.
async fn seen(host: &Host, bundle: &Bundle, seed: u64) -> Vec<u8> {
    let run = bundle.callable("run").expect("the manifest has it");
    let seen = host.call(&run, json!([""])).seed(seed).await;
    let seen = seen.expect("it returns");
    let bytes = seen.as_array().expect("an array").iter();
    bytes
        .map(|byte| byte.as_u64().expect("a byte") as u8)
        .collect()
}

/// An argument of a function of WASI.
#[derive(Clone, Copy)]
enum Argument {
    I32(i32),
    I64(i64),
}

use Argument::{I32, I64};

/// A function of WASI, what it is called with, and the error that it answers with.
type Question<'a> = (&'a str, &'a [Argument], u8);

/// A module that asks these in turn and leaves the answers at [`SEEN`], one byte each.
fn asking(questions: &[Question]) -> Raw {
    let (mut imports, mut poll) = (String::new(), String::new());
    for (index, (function, arguments, _)) in questions.iter().enumerate() {
        let types = arguments.iter().map(|argument| match argument {
            I32(_) => "i32 ",
            I64(_) => "i64 ",
        });
        let values = arguments.iter().map(|argument| match argument {
            I32(value) => format!("(i32.const {value}) "),
            I64(value) => format!("(i64.const {value}) "),
        });
        let (types, values) = (types.collect::<String>(), values.collect::<String>());
        imports += &format!(
            r#"(import "wasi_snapshot_preview1" "{function}"
                 (func $question{index} (param {types}) (result i32)))"#
        );
        let place = SEEN as usize + index;
        poll += &format!("(i32.store8 (i32.const {place}) (call $question{index} {values}))");
    }
    Raw {
        imports,
        poll,
        ..Raw::default()
    }
}

/// The document's answer of a function: the second cell of the row that names it, or of that for
/// all that no row names.
fn documented(function: &str) -> &'static str {
    let (_, section) = DOCUMENT
        .split_once("\n### WASI without grants\n")
        .expect("the section exists");
    let section = section.split("\n### ").next().unwrap_or(section);
    let rows = || section.lines().filter(|line| line.starts_with("| "));
    let row = rows().find(|row| row.contains(&format!("`{function}`")));
    let row = row.or_else(|| rows().find(|row| row.contains("any other")));
    let row = row.expect("one of the two is there");
    row.split(" | ").nth(1).expect("rows have two cells")
}

#[tokio::test]
async fn wasi_answers_without_grants_as_documented() {
    /// Where answers go that are not looked at.
    const OUT: Argument = I32(512);
    const NONE: Argument = I32(0);
    /// A list of one buffer of 0 bytes: memory is all zeros there.
    const BUFFERS: [Argument; 2] = [I32(640), I32(1)];
    let [list, count] = BUFFERS;
    let questions: &[Question] = &[
        ("args_get", &[OUT, OUT], 0),
        ("environ_get", &[OUT, OUT], 0),
        ("clock_time_get", &[I32(2), I64(0), OUT], 8),
        ("clock_time_get", &[I32(3), I64(0), OUT], 8),
        ("clock_res_get", &[I32(2), OUT], 8),
        ("sched_yield", &[], 0),
        ("fd_write", &[I32(0), list, count, OUT], 8),
        ("fd_write", &[I32(1), list, count, OUT], 0),
        ("fd_write", &[I32(3), list, count, OUT], 8),
        // A buffer of a byte more than may be taken in.
        ("fd_write", &[I32(1), I32(656), I32(1), OUT], 48),
        ("fd_read", &[I32(0), list, count, OUT], 0),
        ("fd_read", &[I32(1), list, count, OUT], 8),
        ("fd_pwrite", &[I32(1), list, count, I64(0), OUT], 70),
        ("fd_pwrite", &[I32(2), list, count, I64(0), OUT], 70),
        ("fd_pwrite", &[I32(0), list, count, I64(0), OUT], 8),
        ("fd_pread", &[I32(0), list, count, I64(0), OUT], 70),
        ("fd_pread", &[I32(2), list, count, I64(0), OUT], 8),
        ("fd_seek", &[I32(0), I64(0), I32(0), OUT], 70),
        ("fd_seek", &[I32(1), I64(0), I32(1), OUT], 70),
        ("fd_tell", &[I32(2), OUT], 70),
        ("fd_tell", &[I32(3), OUT], 8),
        ("fd_prestat_get", &[I32(0), OUT], 8),
        ("fd_prestat_get", &[I32(3), OUT], 8),
        ("fd_prestat_dir_name", &[I32(0), OUT, I32(8)], 54),
        ("fd_prestat_dir_name", &[I32(3), OUT, I32(8)], 8),
        ("fd_advise", &[I32(1), I64(0), I64(0), I32(0)], 8),
        ("fd_allocate", &[I32(1), I64(0), I64(0)], 8),
        ("fd_datasync", &[I32(1)], 8),
        ("fd_sync", &[I32(1)], 8),
        ("fd_fdstat_set_flags", &[I32(1), I32(0)], 8),
        ("fd_fdstat_set_rights", &[I32(1), I64(0), I64(0)], 8),
        ("fd_filestat_set_size", &[I32(1), I64(0)], 8),
        (
            "fd_filestat_set_times",
            &[I32(1), I64(0), I64(0), I32(0)],
            8,
        ),
        ("fd_readdir", &[I32(0), OUT, I32(8), I64(0), OUT], 8),
        ("path_create_directory", &[I32(0), NONE, NONE], 8),
        ("path_filestat_get", &[I32(0), I32(0), NONE, NONE, OUT], 8),
        (
            "path_open",
            &[
                I32(0),
                I32(0),
                NONE,
                NONE,
                I32(0),
                I64(0),
                I64(0),
                I32(0),
                OUT,
            ],
            8,
        ),
        ("path_readlink", &[I32(0), NONE, NONE, OUT, I32(8), OUT], 8),
        ("path_remove_directory", &[I32(0), NONE, NONE], 8),
        ("path_rename", &[I32(0), NONE, NONE, I32(0), NONE, NONE], 8),
        ("path_symlink", &[NONE, NONE, I32(0), NONE, NONE], 8),
        ("path_unlink_file", &[I32(0), NONE, NONE], 8),
        ("sock_accept", &[I32(-1), I32(-1), I32(-1)], 57),
        (
            "sock_recv",
            &[I32(0), I32(-1), I32(-1), I32(0), OUT, OUT],
            57,
        ),
        ("sock_send", &[I32(1), list, count, I32(0), OUT], 57),
        ("sock_shutdown", &[I32(0), I32(1)], 57),
        ("proc_raise", &[I32(6)], 58),
        ("fd_renumber", &[I32(0), I32(3)], 8),
        ("fd_renumber", &[I32(2), I32(1)], 0),
        ("fd_close", &[I32(2)], 8),
        ("fd_close", &[I32(1)], 0),
        ("fd_write", &[I32(1), list, count, OUT], 8),
    ];
    for (function, _, errno) in questions {
        let answer = documented(function);
        let general = [0, 8, 28, 48].contains(errno);
        assert!(general || answer.contains(&errno.to_string()), "{function}");
    }
    let raw = Raw {
        more: r#"(data (i32.const 660) "\f9\ff\ff\07")"#.to_owned(),
        ..asking(questions)
    };
    let bundle = looking(raw, questions.len() as u32);
    for host in BOTH.hosts().await {
        let answers = seen(&host, &bundle, 0).await;
        for ((function, _, errno), answer) in questions.iter().zip(answers) {
            assert_eq!(answer, *errno, "{function}");
        }
    }
}

#[tokio::test]
async fn what_wasi_writes_without_grants_is_as_documented() {
    let place = |offset: u32| I32((SEEN + offset) as i32);
    let questions: &[Question] = &[
        ("clock_time_get", &[I32(0), I64(1), place(64)], 0),
        ("clock_time_get", &[I32(1), I64(1), place(72)], 0),
        ("clock_res_get", &[I32(0), place(80)], 0),
        ("clock_res_get", &[I32(1), place(88)], 0),
        ("args_sizes_get", &[place(96), place(100)], 0),
        ("environ_sizes_get", &[place(104), place(108)], 0),
        ("fd_fdstat_get", &[I32(0), place(112)], 0),
        ("fd_fdstat_get", &[I32(1), place(136)], 0),
        ("fd_filestat_get", &[I32(2), place(160)], 0),
    ];
    let raw = asking(questions);
    let filled = format!(
        "(memory.fill (i32.const {SEEN}) (i32.const 0xee) (i32.const 224)) {}",
        raw.poll
    );
    let bundle = looking(
        Raw {
            poll: filled,
            ..raw
        },
        224,
    );
    for host in BOTH.hosts().await {
        let seen = seen(&host, &bundle, 0).await;
        assert_eq!(seen[..questions.len()], [0; 9], "every call succeeds");
        let number = |offset: usize| {
            u64::from_le_bytes(seen[offset..offset + 8].try_into().expect("eight bytes"))
        };
        assert_eq!(
            (number(64), number(72)),
            (946_684_800_000_000_000, 1_000_000_000_000)
        );
        assert_eq!((number(80), number(88)), (1_000_000_000, 1));
        assert_eq!((number(96), number(104)), (0, 0));
        for (offset, rights) in [(112, 2), (136, 64)] {
            // Type and flags, a gap that is left as it was, and the rights twice.
            assert_eq!(
                (seen[offset], &seen[offset + 2..offset + 4]),
                (0, &[0, 0][..])
            );
            assert_eq!((number(offset + 8), number(offset + 16)), (rights, rights));
        }
        let status = &seen[160..224];
        assert_eq!((&status[..16], status[16]), (&[0; 16][..], 0));
        assert_eq!(status[24..], [0; 40]);
    }
}

#[tokio::test]
async fn output_takes_the_first_buffer_that_is_not_empty() {
    let fd_write: Question = ("fd_write", &[I32(1), I32(32), I32(3), I32(1028)], 0);
    let raw = Raw {
        // Three buffers: none, "first" and "second".
        more: r#"(data (i32.const 32) "\00\02\00\00\00\00\00\00"
                   "\00\02\00\00\05\00\00\00" "\05\02\00\00\06\00\00\00")
                 (data (i32.const 512) "firstsecond")"#
            .to_owned(),
        ..asking(&[fd_write])
    };
    let bundle = looking(raw, 8);
    let run = bundle.callable("run").expect("the manifest has it");
    for host in BOTH.hosts().await {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let call = host
            .call(&run, json!([""]))
            .on_output(move |stream, bytes| {
                assert!(matches!(stream, OutputStream::Stdout));
                hears.lock().expect("not poisoned").extend_from_slice(bytes);
            });
        let seen = call.await.expect("it returns");
        assert_eq!(seen, json!([0, 0, 0, 0, 5, 0, 0, 0]));
        assert_eq!(*heard.lock().expect("not poisoned"), b"first");
    }
}

/// ChaCha with 12 rounds, as section *Random bytes* has it: the words of one block.
fn chacha12(key: &[u8; 32], block: u64) -> [u32; 16] {
    const ROUNDS: usize = 12;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let mut first = [0; 16];
    for (place, bytes) in first.iter_mut().zip(b"expand 32-byte k".chunks(4)) {
        *place = word(bytes);
    }
    for (place, bytes) in first[4..].iter_mut().zip(key.chunks(4)) {
        *place = word(bytes);
    }
    first[12] = block as u32;
    first[13] = (block >> 32) as u32;

    let mut words = first;
    for round in 0..ROUNDS {
        // Columns and diagonals in turn.
        let shift = round % 2;
        for column in 0..4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|row| 4 * row + (column + row * shift) % 4);
            for (sum, other, turned, bits) in
                [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]
            {
                words[sum] = words[sum].wrapping_add(words[other]);
                words[turned] = (words[turned] ^ words[sum]).rotate_left(bits);
            }
        }
    }
    std::array::from_fn(|index| words[index].wrapping_add(first[index]))
}

#[tokio::test]
async fn random_bytes_follow_the_documented_rule() {
    const DRAWN: usize = 100;
    let questions: &[Question] = &[
        ("random_get", &[I32(SEEN as i32 + 4), I32(40)], 0),
        ("random_get", &[I32(SEEN as i32 + 44), I32(60)], 0),
    ];
    let bundle = looking(asking(questions), 4 + DRAWN as u32);
    for seed in [0, 0x0123_4567_89ab_cdef_u64] {
        // The argument is the empty list of bytes.
        let (callable, arguments) = (0_u32, [0]);
        let mut material = bundle.id().as_bytes().to_vec();
        material.extend(callable.to_le_bytes());
        material.extend(seed.to_le_bytes());
        material.extend(arguments);
        let key = blake3::derive_key("spore 1 random bytes of a call", &material);
        let words = (0..).flat_map(|block| chacha12(&key, block));
        let expected: Vec<_> = words.map(|word| word as u8).take(DRAWN).collect();
        for host in BOTH.hosts().await {
            assert_eq!(seen(&host, &bundle, seed).await[4..], expected);
        }
    }
}

#[tokio::test]
async fn waiting_reports_what_comes_first_as_documented() {
    // Each subscription is 48 bytes: its user data is its place, the rest zeros but for what is
    // given as pairs of offset and value.
    let subscription = |index: u32, fields: &[(u32, u32)]| {
        let store = |(offset, value): &(u32, u32)| {
            let place = 2048 + 48 * index + offset;
            format!("(i32.store (i32.const {place}) (i32.const {value}))")
        };
        fields.iter().map(store).collect::<String>()
    };
    let subscriptions = [
        // Relative, of the monotonic clock, a day.
        subscription(0, &[(0, 10), (16, 1), (24, 0x4e94_914f), (28, 0x4e94)]),
        // Absolute, of the realtime clock, long past.
        subscription(1, &[(0, 11), (40, 1)]),
        // A descriptor that is not open, to write.
        subscription(2, &[(0, 12), (8, 2), (16, 99)]),
    ]
    .concat();
    let events = SEEN as i32 + 8;
    let poll = |from, to, count, found| [I32(from), I32(to), I32(count), I32(found)];
    let found = SEEN as i32 + 4;
    let questions: &[Question] = &[
        ("poll_oneoff", &poll(2048, events, 3, found), 0),
        ("poll_oneoff", &poll(2048, 256, 0, 512), 28),
        ("poll_oneoff", &poll(2048, 256, 1025, 512), 48),
        ("poll_oneoff", &poll(65_500, 256, 1, 512), 21),
    ];
    assert!(DOCUMENT.contains("`poll_oneoff` takes from 1 to 1,024 subscriptions"));
    let raw = asking(questions);
    let raw = Raw {
        poll: subscriptions + &raw.poll,
        ..raw
    };
    let bundle = looking(raw, 72);
    for host in BOTH.hosts().await {
        let seen = seen(&host, &bundle, 0).await;
        assert_eq!(seen[..8], [0, 28, 48, 21, 2, 0, 0, 0]);
        let mut events = [0; 64];
        (events[0], events[10]) = (11, 0);
        (events[32], events[42], events[48]) = (12, 2, 1);
        assert_eq!(seen[8..72], events);
    }
}

#[tokio::test]
async fn what_ends_a_guest_is_as_documented() {
    let exit = |status: u32| {
        let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
        let raw = Raw {
            imports: import.to_owned(),
            poll: format!("(call $exit (i32.const {status}))"),
            ..Raw::default()
        };
        looking(raw, 1)
    };
    let asks = |function, arguments: &[Argument]| looking(asking(&[(function, arguments, 0)]), 1);
    let time_at = |place| asks("clock_time_get", &[I32(0), I64(0), I32(place)]);
    let cases = [
        (exit(3), TrapCode::Exit),
        (exit(125), TrapCode::Exit),
        (exit(126), TrapCode::Other),
        // No clock.
        (
            asks("clock_time_get", &[I32(4), I64(0), I32(0)]),
            TrapCode::Other,
        ),
        (asks("clock_res_get", &[I32(4), I32(0)]), TrapCode::Other),
        // Beyond the memory, and at an odd address.
        (time_at(65_536), TrapCode::Other),
        (time_at(1), TrapCode::Other),
    ];
    for host in BOTH.hosts().await {
        for (bundle, expected) in &cases {
            let run = bundle.callable("run").expect("the manifest has it");
            match failed(host.call(&run, json!([""])).await) {
                Failure::Trap { code, .. } => assert_eq!(code, *expected),
                other => panic!("{other:?}"),
            }
        }
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn each_documented_feature_can_be_used() {
    for (feature, more) in [
        (
            "mutable-global",
            r#"(global (export "g") (mut i32) (i32.const 0))"#,
        ),
        (
            "saturating-float-to-int",
            "(func (drop (i32.trunc_sat_f32_s (f32.const 1))))",
        ),
        (
            "sign-extension",
            "(func (drop (i32.extend8_s (i32.const 1))))",
        ),
        (
            "multi-value",
            "(func (result i32 i32) (i32.const 1) (i32.const 2))",
        ),
        (
            "bulk-memory",
            r#"(data $d "d") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        ),
        (
            "bulk-memory-opt",
            "(func (memory.copy (i32.const 0) (i32.const 0) (i32.const 1)))",
        ),
        (
            "reference-types",
            "(table 1 funcref) (func (result funcref) (table.get (i32.const 0)))",
        ),
        ("simd", "(func (drop (i8x16.neg (v128.const i64x2 1 2))))"),
        (
            "relaxed-simd",
            "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
        ),
        ("tail-call", "(func $f (return_call $f))"),
        (
            "extended-const",
            "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        ),
        ("floats", "(func (drop (f64.sqrt (f64.const 2))))"),
    ] {
        assert!(DOCUMENT.contains(&format!("`{feature}`")), "{feature}");
        let bundle = Raw {
            more: more.to_owned(),
            ..Raw::default()
        }
        .bundle();
        let run = bundle.callable("run").expect("the manifest has it");
        for host in BOTH.hosts().await {
            let result = host.call(&run, json!([""])).await;
            assert_eq!(result.expect(feature), json!(""));
        }
    }
}

#[tokio::test]
async fn code_that_uses_anything_else_is_refused() {
    for more in [
        "(table 1 externref)",
        "(table 1 funcref) (table 1 funcref)",
        "(type (struct))",
        "(func (drop (i32.atomic.load (i32.const 0))))",
        "(tag)",
        "(func (param i64 i64) (result i64 i64)
           (i64.mul_wide_u (local.get 0) (local.get 1)))",
        "(func (param (ref func)))",
    ] {
        let bundle = Raw {
            more: more.to_owned(),
            ..Raw::default()
        }
        .bundle();
        let run = bundle.callable("run").expect("the manifest has it");
        for host in BOTH.hosts().await {
            let refused = refused(
                host.call(&run, json!([""])).await,
                RefusalCode::InvalidModule,
            );
            assert_ne!(refused.message, "", "{more}");
        }
    }
}

#[tokio::test]
async fn relaxed_instructions_give_what_is_documented() {
    // 1 + 2⁻²³; its square, rounded to a float, loses the last bit that a fused product keeps.
    let near = "(f32x4.splat (f32.const 0x1.000002p0))";
    let less = "(f32x4.splat (f32.const -0x1.000004p0))";
    let more = "(f32x4.splat (f32.const 0x1.000004p0))";
    let fused = format!("(f32x4.relaxed_madd {near} {near} {less})");
    let negated = format!("(f32x4.relaxed_nmadd {near} {near} {more})");
    let pairs = [
        (
            "(i8x16.relaxed_swizzle (v128.const i64x2 0x0706050403020100 -1)
               (v128.const i8x16 0 16 127 128 255 15 31 8 0 1 2 3 4 5 6 7))",
            "(i8x16.swizzle (v128.const i64x2 0x0706050403020100 -1)
               (v128.const i8x16 0 16 127 128 255 15 31 8 0 1 2 3 4 5 6 7))",
        ),
        (
            "(i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 nan 1e20 -1e20 1.5))",
            "(i32x4.trunc_sat_f32x4_s (v128.const f32x4 nan 1e20 -1e20 1.5))",
        ),
        (
            "(i32x4.relaxed_trunc_f32x4_u (v128.const f32x4 nan 1e20 -1 1.5))",
            "(i32x4.trunc_sat_f32x4_u (v128.const f32x4 nan 1e20 -1 1.5))",
        ),
        (
            "(i32x4.relaxed_trunc_f64x2_s_zero (v128.const f64x2 nan 1e20))",
            "(i32x4.trunc_sat_f64x2_s_zero (v128.const f64x2 nan 1e20))",
        ),
        (
            "(i32x4.relaxed_trunc_f64x2_u_zero (v128.const f64x2 -1 1e20))",
            "(i32x4.trunc_sat_f64x2_u_zero (v128.const f64x2 -1 1e20))",
        ),
        (fused.as_str(), "(f32x4.splat (f32.const 0x1p-46))"),
        (negated.as_str(), "(f32x4.splat (f32.const -0x1p-46))"),
        (
            "(i8x16.relaxed_laneselect (v128.const i64x2 -1 -1) (v128.const i64x2 0 0)
               (v128.const i64x2 0x0f0f0f0f8f8f8f8f 0x70707070f0f0f0f0))",
            "(v128.const i64x2 0x0f0f0f0f8f8f8f8f 0x70707070f0f0f0f0)",
        ),
        (
            "(f32x4.relaxed_min (v128.const f32x4 -0 0 nan 1) (v128.const f32x4 0 -0 1 nan))",
            "(f32x4.min (v128.const f32x4 -0 0 nan 1) (v128.const f32x4 0 -0 1 nan))",
        ),
        (
            "(f64x2.relaxed_max (v128.const f64x2 -0 1) (v128.const f64x2 0 nan))",
            "(f64x2.max (v128.const f64x2 -0 1) (v128.const f64x2 0 nan))",
        ),
        (
            "(i16x8.relaxed_q15mulr_s (i16x8.splat (i32.const -32768))
               (i16x8.splat (i32.const -32768)))",
            "(i16x8.splat (i32.const 32767))",
        ),
        (
            "(i16x8.relaxed_dot_i8x16_i7x16_s (i8x16.splat (i32.const -1))
               (i8x16.splat (i32.const -128)))",
            "(i16x8.splat (i32.const 256))",
        ),
        (
            "(i16x8.relaxed_dot_i8x16_i7x16_s (i8x16.splat (i32.const -128))
               (i8x16.splat (i32.const -128)))",
            "(i16x8.splat (i32.const -32768))",
        ),
        (
            "(i32x4.relaxed_dot_i8x16_i7x16_add_s (i8x16.splat (i32.const -128))
               (i8x16.splat (i32.const -128)) (i32x4.splat (i32.const 1)))",
            "(i32x4.splat (i32.const 65537))",
        ),
    ];
    let mut poll = String::new();
    for (index, (relaxed, expected)) in pairs.iter().enumerate() {
        let place = SEEN as usize + 32 * index;
        poll += &format!("(v128.store (i32.const {place}) {relaxed})");
        poll += &format!("(v128.store (i32.const {}) {expected})", place + 16);
    }
    let raw = Raw {
        poll,
        ..Raw::default()
    };
    let bundle = looking(raw, 32 * pairs.len() as u32);
    for host in BOTH.hosts().await {
        let seen = seen(&host, &bundle, 0).await;
        for ((relaxed, _), found) in pairs.iter().zip(seen.chunks(32)) {
            assert_eq!(found[..16], found[16..], "{relaxed}");
        }
    }
}
