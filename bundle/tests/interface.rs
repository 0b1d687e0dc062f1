//! What code says of itself, and what is refused before it runs.

mod common;

use common::{SUM, add, chain, module, unbound};
use proptest::prelude::*;
use spore_bundle::module::{Item, Memory};
use spore_bundle::{AbiError, Bundle, Interface, ModuleError, ModuleLimits, SectionError};

fn read(text: &str) -> Interface {
    Interface::read(&module(text), &ModuleLimits::default()).expect("the module is sound")
}

fn refused(text: &str, limits: ModuleLimits) -> ModuleError {
    Interface::read(&module(text), &limits).expect_err("the module is refused")
}

/// Checks a variant of [`SUM`] against the manifest of the original.
fn abi(from: &str, to: &str) -> AbiError {
    assert!(SUM.contains(from), "{from}");
    let interface = read(&SUM.replacen(from, to, 1));
    interface
        .check_abi(unbound().manifest())
        .expect_err("the ABI is not followed")
}

#[test]
fn a_guest_is_listed() {
    let interface = read(SUM);
    interface.check_abi(unbound().manifest()).unwrap();
    assert_eq!(interface.functions(), 6);
    assert_eq!(interface.exports().len(), 9);
    assert_eq!(interface.imports(), []);
    let memory = Memory {
        pages_min: 1,
        pages_max: None,
        is_64: false,
        shared: false,
    };
    assert_eq!(interface.export("memory"), Some(&Item::Memory(memory)));
    let start = interface.export("spore1:start/sum::add").unwrap();
    assert_eq!(start.to_string(), "function (i32, i32, i32) → i32");

    let titles: Vec<_> = interface
        .sections()
        .iter()
        .map(|section| section.title())
        .collect();
    assert_eq!(
        titles[..6],
        ["type", "function", "memory", "global", "export", "code"]
    );
    let all: u64 = interface
        .sections()
        .iter()
        .map(|section| section.bytes())
        .sum();
    assert_eq!(all + 8, module(SUM).len() as u64);
}

#[test]
fn imports_that_no_host_offers_are_named() {
    let interface = read(
        r#"(module
            (import "spore1" "progress" (func (param i64 i64)))
            (import "env" "system" (func (param i32) (result i32)))
            (import "env" "table" (table 1 funcref)))"#,
    );
    let unknown = interface.imports_without(|module, _| module == "spore1");
    let unknown: Vec<_> = unknown.iter().map(ToString::to_string).collect();
    assert_eq!(
        unknown,
        ["env.system: function (i32) → i32", "env.table: table"]
    );
}

#[test]
fn what_the_abi_demands_is_missed_by_name() {
    let error = abi("spore1:poll", "spore1:pull");
    assert_eq!(
        error,
        AbiError::Missing {
            name: "spore1:poll".to_owned()
        }
    );
    let error = abi(r#"(export "memory")"#, "");
    assert_eq!(
        error,
        AbiError::Missing {
            name: "memory".to_owned()
        }
    );
    let error = abi("spore1:bind/sum::add", "spore1:bind/sum::sub");
    let (name, callable) = ("spore1:bind/sum::add".to_owned(), "sum::add".to_owned());
    assert_eq!(error, AbiError::MissingCallable { name, callable });
    assert_eq!(
        abi("(param i32) (result i32) i32.const 0", "(param i64)").to_string(),
        "export spore1:poll is function (i64) → (), the ABI has function (i32) → i32",
    );
    let error = abi(
        r#"(memory (export "memory") 1)"#,
        r#"(table (export "memory") 1 funcref)"#,
    );
    assert_eq!(
        error.to_string(),
        "export memory is table, the ABI has 32-bit memory"
    );
    let error = abi(
        r#"(export "spore1:free") (param i32"#,
        r#"(export "spore1:free") (param f32"#,
    );
    assert!(matches!(error, AbiError::WrongType { .. }), "{error:?}");
    let error = abi("(global (mut", "(memory 1) (global (mut");
    assert_eq!(error, AbiError::Memories { count: 2 });
    let error = abi(
        "(global (mut",
        r#"(func (export "_initialize") (param i32)) (global (mut"#,
    );
    assert!(matches!(&error, AbiError::WrongType { name, .. } if name == "_initialize"));
}

#[test]
fn one_more_than_the_limits_is_refused_with_numbers() {
    let text = r#"(module
        (type (func)) (type (func (param i32)))
        (import "a" "b" (func (type 0))) (import "a" "c" (func (type 0)))
        (func (export "d") (export "e") nop nop nop) (func))"#;
    let exact = ModuleLimits {
        functions_max: 2,
        body_bytes_max: 5,
        imports_max: 2,
        exports_max: 2,
        types_max: 2,
    };
    let interface = Interface::read(&module(text), &exact).unwrap();
    assert_eq!(
        (interface.functions(), interface.largest_body_bytes()),
        (2, 5)
    );

    let one = 1;
    for (limits, text_of_error) in [
        (
            ModuleLimits {
                functions_max: one,
                ..exact
            },
            "2 functions, at most 1 are allowed",
        ),
        (
            ModuleLimits {
                imports_max: one,
                ..exact
            },
            "2 imports, at most 1 are allowed",
        ),
        (
            ModuleLimits {
                exports_max: one,
                ..exact
            },
            "2 exports, at most 1 are allowed",
        ),
        (
            ModuleLimits {
                types_max: one,
                ..exact
            },
            "2 types, at most 1 are allowed",
        ),
        (
            ModuleLimits {
                body_bytes_max: 4,
                ..exact
            },
            "body of function 2 has 5 bytes, at most 4 are allowed",
        ),
    ] {
        assert_eq!(refused(text, limits).to_string(), text_of_error);
    }
}

#[test]
fn code_is_packed_within_the_limits_of_the_caller() {
    let few = &ModuleLimits {
        functions_max: 5,
        ..ModuleLimits::default()
    };
    let pack = |limits: &ModuleLimits| {
        Bundle::pack_within(limits, module(SUM), "sum", "0.1.0", vec![add()])
    };
    let refused = pack(few).expect_err("it has six functions");
    assert_eq!(
        chain(&refused),
        "the code cannot be used: 6 functions, at most 5 are allowed"
    );
    for limits in &[ModuleLimits::default(), ModuleLimits::NONE] {
        assert_eq!(pack(limits).expect("it has no more"), unbound());
    }
}

#[test]
fn counts_that_lie_take_no_memory() {
    // A section of one entry that claims four thousand million.
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for section in [1_u8, 2, 3, 5, 7] {
        let mut code = module("(module)");
        code.extend([section, huge.len() as u8]);
        code.extend(huge);
        let error = Interface::read(&code, &ModuleLimits::default()).unwrap_err();
        assert!(
            matches!(error, ModuleError::TooMany { .. }),
            "{section}: {error:?}"
        );
        // Without limits the entries are missed one by one.
        let error = Interface::read(&code, &ModuleLimits::NONE).unwrap_err();
        assert!(
            matches!(error, ModuleError::Invalid(_) | ModuleError::TooMany { .. }),
            "{section}: {error:?}"
        );
    }
}

#[test]
fn indices_that_lead_nowhere_are_refused() {
    // Export of function 9, in a module without functions.
    let mut code = module("(module)");
    code.extend([7, 5, 1, 1, b'f', 0, 9]);
    let error = Interface::read(&code, &ModuleLimits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            ModuleError::Dangling {
                what: "function",
                index: 9
            }
        ),
        "{error:?}"
    );

    let error = Interface::read(b"\0asm\x0d\0\x01\0", &ModuleLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a component, where a core module is expected"
    );
    let error = Interface::read(b"", &ModuleLimits::default()).unwrap_err();
    assert!(
        matches!(error, ModuleError::Sections(SectionError::NotWasm)),
        "{error:?}"
    );
}

#[test]
fn imports_in_groups_are_refused() {
    // One group: module `a`, no name, the mark of a group, no items.
    let mut code = module("(module)");
    code.extend([2, 6, 1, 1, b'a', 0, 0x7f, 0]);
    let error = Interface::read(&code, &ModuleLimits::default()).unwrap_err();
    assert!(matches!(error, ModuleError::GroupedImports), "{error:?}");
}

#[test]
fn a_body_that_overruns_its_section_is_refused() {
    let mut code = module("(module (func))");
    let length = code.len();
    assert_eq!(code[length - 3..], [2, 0, 0x0b], "the body ends the binary");
    code[length - 3] = 9;
    let error = Interface::read(&code, &ModuleLimits::default()).unwrap_err();
    assert!(matches!(error, ModuleError::Invalid(_)), "{error:?}");
}

proptest! {
    #[test]
    fn damaged_code_is_refused_or_read_and_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut code = module(SUM);
        for (index, byte) in damage {
            let index = index.index(code.len());
            code[index] = byte;
        }
        if let Ok(interface) = Interface::read(&code, &ModuleLimits::default()) {
            let _ = interface.check_abi(unbound().manifest());
        }
    }
}
