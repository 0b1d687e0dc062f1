//! Modules that no compiler makes: each is refused by name, and the host serves on.

use serde_json::{Value, json};
use spore_client::{Bundle, CallError, CallLimits, Failure, Host, RefusalCode, TrapCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, wall};
use spore_tests::local::Both;
use spore_tests::module::{Raw, bundle_of, bundle_with, record, slow};
use spore_tests::outcome::{failed, refused, soon, until};

const MIB: u64 = 1 << 20;

fn setup() -> Setup {
    let limits = Limits {
        memory: 16 * MIB,
        functions: 2_000,
        function_body: 64 << 10,
        table_elements: 1_000,
        code: MIB,
        ..Limits::default()
    };
    Setup {
        limits,
        ..Setup::default()
    }
}

static BOTH: Both = Both::new(setup);

async fn hosts() -> [Host; 2] {
    BOTH.hosts().await
}

async fn run(host: &Host, bundle: &Bundle) -> Result<Value, CallError<Value>> {
    let run = bundle.callable("run").expect("the manifest has it");
    // A byte of input, so that the guest is asked for a buffer.
    soon(
        "the raw guest",
        host.call(&run, json!(["AA=="]))
            .limits(wall(200))
            .into_future(),
    )
    .await
}

/// Each of these bundles is refused with its code, by words that contain the text; then the host
/// still serves.
async fn each_is_refused(bundles: impl IntoIterator<Item = (Bundle, RefusalCode, &'static str)>) {
    let hosts = hosts().await;
    for (bundle, code, text) in bundles {
        for host in &hosts {
            let refused = refused(run(host, &bundle).await, code);
            assert!(
                refused.message.contains(text),
                "{text:?} is not in {:?}",
                refused.message
            );
            assert_serves(host).await;
        }
    }
}

#[tokio::test]
async fn the_raw_guest_itself_is_sound() {
    for host in hosts().await {
        let bundle = Raw::default().bundle();
        assert_eq!(run(&host, &bundle).await.expect("it is sound"), json!(""));
        let id = host.ship(&bundle).await.expect("it is sound");
        assert_eq!(id, bundle.id());
    }
}

#[tokio::test]
async fn what_is_not_valid_wasm_is_refused() {
    use RefusalCode::InvalidModule;
    let preamble = b"\0asm\x01\0\0\0";
    // A type section that claims a million types and has none.
    let lying = [preamble.as_slice(), &[1, 4, 0xc0, 0x84, 0x3d, 0x60]].concat();
    // Adds two numbers of different types.
    let untyped = Raw {
        poll: "(i32.add (i32.const 1) (i64.const 1))".into(),
        ..Raw::default()
    };
    let no_such_local = Raw {
        poll: "(local.get 7)".into(),
        ..Raw::default()
    };
    let two_starts = Raw {
        more: "(start 1)".into(),
        ..Raw::default()
    };
    let threads = Raw {
        more: "(func (drop (i32.atomic.load (i32.const 0))))".into(),
        ..Raw::default()
    };
    let exceptions = Raw {
        more: "(tag)".into(),
        ..Raw::default()
    };
    each_is_refused([
        (bundle_of(lying), InvalidModule, ""),
        (untyped.bundle(), InvalidModule, "type mismatch"),
        (no_such_local.bundle(), InvalidModule, "unknown local"),
        (two_starts.bundle(), InvalidModule, "start"),
        (threads.bundle(), InvalidModule, "threads"),
        (exceptions.bundle(), InvalidModule, "exceptions"),
    ])
    .await;
}

#[tokio::test]
async fn imports_that_no_host_offers_are_refused_by_name() {
    let import = |text: &str| {
        Raw {
            imports: text.into(),
            ..Raw::default()
        }
        .bundle()
    };
    let code = RefusalCode::ImportNotOffered;
    each_is_refused([
        (
            import(r#"(import "env" "system" (func (param i32)))"#),
            code,
            "env.system",
        ),
        (
            import(r#"(import "spore1" "read_key" (func))"#),
            code,
            "spore1.read_key",
        ),
        (
            import(r#"(import "wasi_snapshot_preview1" "sock_connect" (func))"#),
            code,
            "wasi_snapshot_preview1.sock_connect",
        ),
        (
            import(r#"(import "env" "table" (table 1 funcref))"#),
            code,
            "env.table",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_offered_import_of_another_type_is_refused() {
    let imports = r#"(import "spore1" "progress" (func (param f32)))"#.to_owned();
    let bundle = Raw {
        imports,
        ..Raw::default()
    }
    .bundle();
    each_is_refused([(bundle, RefusalCode::InvalidModule, "spore1::progress")]).await;
}

#[tokio::test]
async fn modules_without_the_abi_are_refused_with_what_they_lack() {
    let code = RefusalCode::AbiViolated;
    let without = |name: &str| {
        let text = Raw::default().text().replace(name, "elsewhere");
        bundle_of(wat::parse_str(text).expect("the text is a module"))
    };
    let nameless_memory = Raw {
        memory: "(memory 1)".into(),
        ..Raw::default()
    }
    .bundle();
    let retyped = Raw::default().text().replace(
        r#""spore1:free") (param i32 i32 i32)"#,
        r#""spore1:free") (param i32)"#,
    );
    let retyped = bundle_of(wat::parse_str(retyped).expect("the text is a module"));
    let memory64 = Raw {
        memory: r#"(memory (export "memory") i64 1)"#.into(),
        ..Raw::default()
    };
    let other_name = bundle_with(Raw::default().code(), |manifest| {
        manifest.callables[0].name = "raw::walk".to_owned();
    });
    let code64 = memory64
        .text()
        .replace("(i32.store (i32.const", "(i32.store (i64.const");
    let memory64 = bundle_of(wat::parse_str(code64).expect("the text is a module"));
    each_is_refused([
        (without("spore1:alloc"), code, "spore1:alloc"),
        (without("spore1:poll"), code, "spore1:poll"),
        (
            without("spore1:bind/raw::run"),
            code,
            "spore1:bind/raw::run",
        ),
        (
            without("spore1:start/raw::run"),
            code,
            "spore1:start/raw::run",
        ),
        (nameless_memory, code, "memory"),
        (retyped, code, "spore1:free"),
        (memory64, code, "64-bit memory"),
    ])
    .await;
    // Here the name by which the callable is looked up is the other one.
    for host in hosts().await {
        let walk = other_name.callable("walk").expect("the manifest has it");
        let refused = refused(host.call(&walk, json!([""])).await, code);
        assert!(refused.message.contains("raw::walk"), "{refused}");
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn pointers_and_lengths_that_lie_are_refused() {
    let code = RefusalCode::AbiViolated;
    let poll = |poll: &str| {
        Raw {
            poll: poll.into(),
            ..Raw::default()
        }
        .bundle()
    };
    let alloc = |alloc: &str| {
        Raw {
            alloc: alloc.into(),
            ..Raw::default()
        }
        .bundle()
    };
    let outside = "outside of its memory";
    each_is_refused([
        // The poll record: past the end, across the end, at the last address.
        (poll("(i32.const 65536)"), code, outside),
        (poll("(i32.const 65520)"), code, outside),
        (poll("(i32.const -1)"), code, outside),
        // The result: past the end, one byte across it, and a sum that overflows 32 bits.
        (poll(&record(0, 65_536, 1)), code, outside),
        (poll(&record(0, 65_535, 2)), code, outside),
        (poll(&record(0, u32::MAX, 2)), code, outside),
        (poll(&record(0, u32::MAX - 9, 10 << 20)), code, outside),
        (poll(&record(1, 70_000, 1)), code, outside),
        // The buffer for the arguments: none, and one outside.
        (alloc("(i32.const 0)"), code, "no room for 2 bytes"),
        (alloc("(i32.const 65536)"), code, outside),
        (alloc("(i32.const 65535)"), code, outside),
        (alloc("(i32.const -1)"), code, outside),
    ])
    .await;
}

#[tokio::test]
async fn an_empty_result_may_point_to_the_end_of_memory_and_not_past_it() {
    for host in hosts().await {
        let at_end = Raw {
            poll: record(0, 65_536, 0),
            ..Raw::default()
        }
        .bundle();
        // No bytes are no value of the type, so it is the client that refuses them.
        let result = run(&host, &at_end).await;
        assert!(matches!(result, Err(CallError::Result(_))), "{result:?}");
        let past_it = Raw {
            poll: record(0, 65_537, 0),
            ..Raw::default()
        }
        .bundle();
        refused(run(&host, &past_it).await, RefusalCode::AbiViolated);
    }
}

#[tokio::test]
async fn a_result_that_claims_more_than_it_has_is_refused_by_the_client() {
    let claims = Raw {
        more: r#"(data (i32.const 64) "\fd\ff\ff\ff\ff\ff\ff\ff\ff" "\fc\ff\ff\ff\7f")"#.into(),
        ..Raw::default()
    };
    for host in hosts().await {
        for (ptr, len) in [(64, 9), (73, 5), (64, 1)] {
            let bundle = Raw {
                poll: record(0, ptr, len),
                ..claims.clone()
            }
            .bundle();
            let result = run(&host, &bundle).await;
            assert!(matches!(result, Err(CallError::Result(_))), "{result:?}");
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn polls_of_another_kind_are_refused() {
    let code = RefusalCode::AbiViolated;
    let kind = |kind| {
        Raw {
            poll: record(kind, 64, 1),
            ..Raw::default()
        }
        .bundle()
    };
    each_is_refused([
        (kind(2), code, "kind 2"),
        (kind(3), code, "kind 3"),
        (kind(4), code, "kind 4"),
        (kind(77), code, "kind 77"),
        (kind(u32::MAX), code, "kind 4294967295"),
    ])
    .await;
}

/// A guest that says why it is about to trap, with these arguments.
fn fault(arguments: [i32; 6], then: &str) -> Bundle {
    let arguments = arguments
        .map(|argument| format!("(i32.const {argument})"))
        .join(" ");
    Raw {
        imports: r#"(import "spore1" "fault" (func $fault (param i32 i32 i32 i32 i32 i32)))"#
            .into(),
        poll: format!("(call $fault {arguments}) {then}"),
        ..Raw::default()
    }
    .bundle()
}

#[tokio::test]
async fn faults_that_lie_are_refused() {
    let code = RefusalCode::AbiViolated;
    let outside = "outside of its memory";
    each_is_refused([
        (fault([1, 65_536, 1, 0, 0, 0], "unreachable"), code, outside),
        (fault([1, -1, 2, 0, 0, 0], "unreachable"), code, outside),
        (fault([1, 0, -1, 0, 0, 0], "unreachable"), code, outside),
        (fault([1, 0, 0, 65_530, 7, 0], "unreachable"), code, outside),
        (fault([9, 0, 0, 0, 0, 0], "unreachable"), code, "kind 9"),
        (
            fault([2, 0, 0, 0, 0, 0], "unreachable"),
            RefusalCode::WrongCaptures,
            "",
        ),
        (
            fault([3, 0, 0, 0, 0, 0], "unreachable"),
            RefusalCode::WrongArguments,
            "",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_fault_with_bytes_that_are_no_text_is_a_panic_with_replacements() {
    let raw = fault([1, 1024, 3, 1024, 1, 7], "unreachable");
    let loud = Raw {
        imports: r#"(import "spore1" "fault" (func $fault (param i32 i32 i32 i32 i32 i32)))"#
            .into(),
        more: r#"(data (i32.const 1024) "\ff\fe!")"#.into(),
        alloc: "(i32.const 2048)".into(),
        poll: "(call $fault (i32.const 1) (i32.const 1024) (i32.const 3) (i32.const 1024)
                 (i32.const 1) (i32.const 7)) unreachable"
            .into(),
        ..Raw::default()
    };
    for host in hosts().await {
        assert!(matches!(
            failed(run(&host, &raw).await),
            Failure::Panic { line: 7, .. }
        ));
        let failure = failed(run(&host, &loud.bundle()).await);
        let expected = Failure::panic("\u{fffd}\u{fffd}!", "\u{fffd}", 7);
        assert_eq!(failure, expected);
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn memory_declared_beyond_the_limit_is_refused_with_the_limit() {
    let memory = |text: &str| {
        Raw {
            memory: text.into(),
            ..Raw::default()
        }
        .bundle()
    };
    for host in hosts().await {
        for text in [
            r#"(memory (export "memory") 257)"#,
            r#"(memory (export "memory") 65536)"#,
        ] {
            let refused = refused(run(&host, &memory(text)).await, RefusalCode::Memory);
            assert_eq!(refused.limit, Some(16 * MIB));
            assert!(
                refused.actual.is_some_and(|asked| asked > 16 * MIB),
                "{refused}"
            );
        }
        // As much as there may be, and the right to ask for more, is no offence.
        let fits = memory(r#"(memory (export "memory") 256 65536)"#);
        assert_eq!(run(&host, &fits).await.expect("it fits"), json!(""));
        // A caller who allows less refuses it too, when the instance is made.
        let run = fits.callable("run").expect("the manifest has it");
        let less = CallLimits {
            memory_bytes: Some(MIB),
            ..CallLimits::default()
        };
        let result = host.call(&run, json!([""])).limits(less).await;
        assert_eq!(refused(result, RefusalCode::Memory).limit, Some(MIB));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn tables_beyond_the_limit_are_refused() {
    let declared = Raw {
        more: "(table 1001 funcref)".into(),
        ..Raw::default()
    };
    let huge = Raw {
        more: "(table 10000000 funcref)".into(),
        ..Raw::default()
    };
    each_is_refused([
        (declared.bundle(), RefusalCode::InvalidModule, "table"),
        (huge.bundle(), RefusalCode::InvalidModule, "table"),
    ])
    .await;
    let grown = Raw {
        more: "(table $t 1 funcref)".into(),
        poll: format!(
            "(drop (table.grow $t (ref.null func) (i32.const 1000))) {}",
            record(0, 64, 1)
        ),
        ..Raw::default()
    };
    for host in hosts().await {
        let refused = refused(run(&host, &grown.bundle()).await, RefusalCode::Memory);
        assert_eq!((refused.limit, refused.actual), (Some(1_000), Some(1_001)));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn what_runs_before_the_callable_is_held_to_the_same_limits() {
    let forever = "(func $f (loop (br 0)))";
    let start_loops = Raw {
        more: format!("{forever} (start $f)"),
        ..Raw::default()
    };
    let initialize_loops = Raw {
        more: forever.replace("$f", r#"(export "_initialize")"#),
        ..Raw::default()
    };
    let alloc_loops = Raw {
        alloc: "(loop (br 0)) unreachable".into(),
        ..Raw::default()
    };
    let bind_loops = Raw {
        bind: "(loop (br 0)) unreachable".into(),
        ..Raw::default()
    };
    let argument_loops = Raw {
        start: "(loop (br 0)) unreachable".into(),
        ..Raw::default()
    };
    let wall = RefusalCode::WallTime;
    each_is_refused([
        (start_loops.bundle(), wall, ""),
        (initialize_loops.bundle(), wall, ""),
        (alloc_loops.bundle(), wall, ""),
        (bind_loops.bundle(), wall, ""),
        (argument_loops.bundle(), wall, ""),
    ])
    .await;

    let start_traps = Raw {
        more: "(func $f unreachable) (start $f)".into(),
        ..Raw::default()
    };
    let initialize_traps = Raw {
        more: r#"(func (export "_initialize") unreachable)"#.into(),
        ..Raw::default()
    };
    for host in hosts().await {
        for raw in [&start_traps, &initialize_traps] {
            let failure = failed(run(&host, &raw.bundle()).await);
            assert!(
                matches!(
                    failure,
                    Failure::Trap {
                        code: TrapCode::Unreachable,
                        ..
                    }
                ),
                "{failure:?}"
            );
            assert_serves(&host).await;
        }
    }
}

#[tokio::test]
async fn memory_that_a_start_function_takes_counts() {
    let raw = Raw {
        more: "(func $f (drop (memory.grow (i32.const 256)))) (start $f)".into(),
        ..Raw::default()
    };
    each_is_refused([(raw.bundle(), RefusalCode::Memory, "")]).await;
}

#[tokio::test]
async fn every_kind_of_trap_has_its_code() {
    let traps = [
        ("(i32.load (i32.const 65536))", TrapCode::MemoryOutOfBounds),
        (
            "(i32.div_u (i32.const 1) (i32.const 0))",
            TrapCode::DivisionByZero,
        ),
        (
            "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
            TrapCode::IntegerOverflow,
        ),
        ("(i32.trunc_f64_s (f64.const nan))", TrapCode::BadConversion),
        (
            "(call_indirect (result i32) (i32.const 0))",
            TrapCode::IndirectCallToNull,
        ),
        (
            "(call_indirect (result i32) (i32.const 9))",
            TrapCode::TableOutOfBounds,
        ),
        (
            "(call_indirect (result i32) (i32.const 1))",
            TrapCode::BadSignature,
        ),
        ("unreachable", TrapCode::Unreachable),
    ];
    for host in hosts().await {
        for (poll, expected) in traps {
            let raw = Raw {
                more: "(table 2 2 funcref) (func $other) (elem (i32.const 1) $other)".into(),
                poll: poll.into(),
                ..Raw::default()
            };
            let failure = failed(run(&host, &raw.bundle()).await);
            assert!(
                matches!(failure, Failure::Trap { code, .. } if code == expected),
                "{failure:?}"
            );
        }
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn too_many_functions_and_too_large_ones_are_refused_with_the_numbers() {
    let own = 6;
    let many = |count: usize| Raw {
        more: "(func)".repeat(count - own),
        ..Raw::default()
    };
    let large = |nops: usize| Raw {
        more: format!("(func {})", "nop ".repeat(nops)),
        ..Raw::default()
    };
    // A body is its code with a count of locals and an end.
    let fits = (64 << 10) - 2;
    for host in hosts().await {
        assert_eq!(
            run(&host, &many(2_000).bundle())
                .await
                .expect("as many as may be"),
            json!("")
        );
        let result = run(&host, &many(2_001).bundle()).await;
        let too_many = refused(result, RefusalCode::TooManyFunctions);
        assert_eq!(
            (too_many.limit, too_many.actual),
            (Some(2_000), Some(2_001))
        );

        assert_eq!(
            run(&host, &large(fits).bundle())
                .await
                .expect("as large as may be"),
            json!("")
        );
        let result = run(&host, &large(fits + 1).bundle()).await;
        let too_large = refused(result, RefusalCode::FunctionTooLarge);
        assert_eq!(
            (too_large.limit, too_large.actual),
            (Some(64 << 10), Some((64 << 10) + 1))
        );

        let long = Raw {
            more: format!(r#"(@custom "long" "{}")"#, "x".repeat(1 << 20)),
            ..Raw::default()
        };
        let refused = refused(run(&host, &long.bundle()).await, RefusalCode::CodeTooLarge);
        assert_eq!(refused.limit, Some(MIB));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn code_that_takes_long_to_compile_is_given_up() {
    let bundle = slow(0);
    let compilation = std::time::Duration::from_millis(200);
    let limits = Limits {
        compilation,
        ..Limits::default()
    };
    let both = Both::of(Setup {
        limits,
        ..Setup::default()
    });
    for host in both.hosts().await {
        let refused = refused(run(&host, &bundle).await, RefusalCode::CompilationTime);
        assert_eq!(refused.limit, Some(200));
        // Others are compiled meanwhile, if not at once: the compiler goes on to its end.
        until("a small one is compiled", || async {
            run(&host, &Raw::default().bundle()).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_bundle_of_a_kind_that_is_not_run_yet_is_refused_before_it_is_sent() {
    // The format has room for code that is a component; no client makes a bundle of one.
    let component = b"\0asm\x0d\0\x01\0".to_vec();
    let parts = spore_bundle::Bundle::pack(component, "raw", "0.1.0", Vec::new());
    assert!(
        matches!(parts, Err(spore_bundle::PackError::Module(_))),
        "{parts:?}"
    );
}
