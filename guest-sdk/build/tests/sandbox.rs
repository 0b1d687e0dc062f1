//! Modules that lie when they are asked what their callables are.

use spore_abi::{Description, Grant};
use spore_build::{DescribeError, describe};
use spore_value::{Signature, Type, codec};

/// A module whose description of `a::b` is made by `body`, with `data` at address 1024.
fn module(body: &str, data: &[u8]) -> Vec<u8> {
    let data: String = data.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!(
        r#"(module
            (import "spore1" "progress" (func $progress (param i64 i64)))
            (import "spore1" "progress" (func (param i64 i64)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "{data}")
            (func $again (result i32) (i32.add (call $again) (i32.const 1)))
            (func (export "spore1:describe/a::b") (result i32) {body}))"#
    );
    wat::parse_str(text).expect("the test is sound")
}

/// A record at 8 that names the data, and `len` bytes of it.
fn record(ptr: u32, len: usize) -> String {
    format!(
        "(i32.store (i32.const 8) (i32.const {ptr})) (i32.store (i32.const 12) (i32.const {len})) \
         (i32.const 8)",
        ptr = ptr as i32,
    )
}

fn description(name: &str) -> Description {
    Description {
        name: name.to_owned(),
        docs: "What it does".to_owned(),
        signature: Signature {
            captures: vec![],
            parameters: vec![],
            returns: Type::Bool,
            error: None,
            definitions: vec![],
        },
        consumes_captures: false,
        resumable: false,
        streams: false,
        grants: vec![
            Grant::Directory("data".to_owned()),
            Grant::Environment("LANG".to_owned()),
            Grant::Clock,
            Grant::Random,
        ],
    }
}

fn refusal(body: &str, data: &[u8]) -> DescribeError {
    describe(&module(body, data)).expect_err("the module lies")
}

#[test]
fn a_description_is_read_from_memory() {
    let bytes = codec::encode_serde(&description("a::b")).expect("shallow");
    let module = module(&record(1024, bytes.len()), &bytes);
    assert_eq!(
        describe(&module).expect("it is sound"),
        [description("a::b")]
    );
}

#[test]
fn descriptions_run_one_by_one_in_the_order_of_names() {
    let text = |name: &str| {
        let bytes = codec::encode_serde(&description(name)).expect("shallow");
        let data: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        (data, bytes.len())
    };
    let ((a, a_len), (b, b_len)) = (text("a"), text("b"));
    // Each looks whether the other has run in its instance.
    let module = wat::parse_str(format!(
        r#"(module
            (memory (export "memory") 1)
            (data (i32.const 1024) "{b}") (data (i32.const 2048) "{a}")
            (func $first (if (i32.load (i32.const 0)) (then unreachable))
                (i32.store (i32.const 0) (i32.const 1)))
            (func (export "spore1:describe/b") (result i32) (call $first) {})
            (func (export "spore1:describe/a") (result i32) (call $first) {}))"#,
        record(1024, b_len),
        record(2048, a_len),
    ));
    let described = describe(&module.expect("the test is sound")).expect("it is sound");
    assert_eq!(described, [description("a"), description("b")]);
}

#[test]
fn a_module_without_descriptions() {
    let module = wat::parse_str("(module (memory (export \"memory\") 1))").expect("it is sound");
    assert!(matches!(describe(&module), Err(DescribeError::NoCallables)));
    assert!(matches!(describe(b"\0asm"), Err(DescribeError::Module(_))));
}

#[test]
fn a_name_that_is_not_the_exports() {
    let bytes = codec::encode_serde(&description("a::c")).expect("shallow");
    match refusal(&record(1024, bytes.len()), &bytes) {
        DescribeError::OtherName { name, found } => assert_eq!((&*name, &*found), ("a::b", "a::c")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_and_bytes_outside_the_memory() {
    for body in [
        "(i32.const 65533)".to_owned(),
        "(i32.const -4)".to_owned(),
        record(65_530, 7),
        record(u32::MAX, 2),
    ] {
        let refusal = refusal(&body, &[]);
        assert!(
            matches!(refusal, DescribeError::OutOfBounds { .. }),
            "{body}: {refusal:?}"
        );
    }
    let refusal = refusal(&record(0, 0x7fff_ffff), &[]);
    assert!(
        matches!(
            refusal,
            DescribeError::TooLong {
                bytes: 0x7fff_ffff,
                ..
            }
        ),
        "{refusal:?}"
    );
}

#[test]
fn bytes_that_are_no_description() {
    let refusal = refusal(&record(1024, 3), &[1, 2, 3]);
    assert!(
        matches!(refusal, DescribeError::Decode { .. }),
        "{refusal:?}"
    );
}

#[test]
fn a_description_that_calls_outside() {
    let body = "(call $progress (i64.const 1) (i64.const 2)) (i32.const 8)";
    match refusal(body, &[]) {
        DescribeError::Import { name, import } => {
            assert_eq!((&*name, &*import), ("a::b", "spore1.progress"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn descriptions_that_do_not_end_well() {
    let refusal_of = |body| refusal(body, &[]);
    let endless = refusal_of("(loop (br 0)) (i32.const 8)");
    assert!(
        matches!(endless, DescribeError::Endless { .. }),
        "{endless:?}"
    );
    for body in ["unreachable", "(call $again)"] {
        let trap = refusal_of(body);
        assert!(
            matches!(trap, DescribeError::Trap { .. }),
            "{body}: {trap:?}"
        );
    }
}

#[test]
fn memory_beyond_the_limit_is_not_there() {
    // 4,097 pages are one more than 256 MiB.
    let module = wat::parse_str(
        r#"(module (memory (export "memory") 4097)
            (func (export "spore1:describe/a") (result i32) (i32.const 0)))"#,
    );
    let refusal = describe(&module.expect("the test is sound"));
    assert!(matches!(
        refusal,
        Err(DescribeError::Module(_) | DescribeError::Trap { .. })
    ));
}
