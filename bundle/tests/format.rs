//! The example in `docs/FORMAT.md` is what the crate reads and writes.

mod common;

use common::{SUM, bound, decode, module};
use spore_bundle::{BundleId, CodeId, CodeKind, Grant, StateId, StateKind, is_plain_name};
use spore_value::{Field, Fields, Shape, Type, Variant, codec};

const DOCUMENT: &str = include_str!("../../docs/FORMAT.md");

/// The text between the heading of the example and the next, or the end.
fn example() -> &'static str {
    let (_, rest) = DOCUMENT
        .split_once("\n## A complete bundle\n")
        .expect("the section exists");
    rest.split("\n## ").next().unwrap_or(rest)
}

/// The bytes of the example's lines, each `offset | bytes | meaning`.
fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in example().lines() {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [offset, hex, _meaning] = columns[..] else {
            continue;
        };
        let offset = usize::from_str_radix(offset.trim(), 16).expect("offsets are hexadecimal");
        assert_eq!(offset, bytes.len(), "offset of {line:?}");
        let byte = |digits| u8::from_str_radix(digits, 16).expect("bytes are hexadecimal");
        bytes.extend(hex.split_whitespace().map(byte));
    }
    bytes
}

#[test]
fn the_example_is_read_and_written_as_it_stands() {
    let bytes = bytes();
    let bundle = decode(bytes.clone()).expect("the example is a bundle");
    assert_eq!(bundle, bound());
    assert_eq!(bundle.encode(), bytes);
}

#[test]
fn the_ids_of_the_example_are_those_it_says() {
    let bundle = bound();
    let ids = [
        CodeId::of(&module(SUM)).to_string(),
        StateId::of(&[7]).to_string(),
        BundleId::of(bundle.manifest_bytes()).to_string(),
    ];
    for id in ids {
        assert!(example().contains(&id), "{id}");
    }
}

/// The limits that the document gives are those of the crate.
#[test]
fn the_limits_are_those_of_the_document() {
    use spore_bundle::{limits, module, sections};
    for (row, limit) in [
        ("| manifest | 1 MiB,", limits::MANIFEST_BYTES_MAX == 1 << 20),
        ("| sections | 4,096,", sections::SECTIONS_MAX == 4096),
        ("| callables | 1,024,", limits::CALLABLES_MAX == 1024),
        ("| grants of a callable | 64,", limits::GRANTS_MAX == 64),
        ("| names | 256 bytes,", limits::NAME_BYTES_MAX == 256),
        (
            "| captures, parameters of a callable | 256 each,",
            spore_value::PARAMETERS_MAX == 256,
        ),
        (
            "| definitions of a callable | 1,024,",
            spore_value::DEFINITIONS_MAX == 1024,
        ),
        (
            "| types of a callable, each part counted | 65,536,",
            spore_value::TYPES_MAX == 65_536,
        ),
        (
            "| documentation of one thing | 64 KiB,",
            spore_value::DOCS_BYTES_MAX == 64 << 10,
        ),
        (
            "| nesting of one type | 64 levels,",
            spore_value::TYPE_DEPTH_MAX == 64,
        ),
        (
            "| nesting of a manifest | 128 levels,",
            spore_value::limits::DEPTH_MAX_DEFAULT == 128,
        ),
        (
            "| code | 64 MiB,",
            limits::CODE_BYTES_MAX_DEFAULT == 64 << 20,
        ),
        (
            "| state | 264 MiB,",
            limits::STATE_BYTES_MAX_DEFAULT == 264 << 20,
        ),
        (
            "| functions | 100,000,",
            module::FUNCTIONS_MAX_DEFAULT == 100_000,
        ),
        (
            "| body of a function | 4 MiB,",
            module::BODY_BYTES_MAX_DEFAULT == 4 << 20,
        ),
        ("| imports | 1,000,", module::IMPORTS_MAX_DEFAULT == 1000),
        ("| exports | 6,144,", module::EXPORTS_MAX_DEFAULT == 6144),
        (
            "| types of functions | 100,000,",
            module::TYPES_MAX_DEFAULT == 100_000,
        ),
    ] {
        assert!(DOCUMENT.contains(row), "{row}");
        assert!(limit, "{row}");
    }
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    codec::encode_serde(value).expect("the value is shallow")
}

/// One side of the document's table of names, the plain ones or the others.
fn names(column: usize) -> impl Iterator<Item = &'static str> {
    let head = "| plain names | none |\n| --- | --- |\n";
    let (_, rows) = DOCUMENT.split_once(head).expect("the table exists");
    let row = rows.lines().next().expect("it has a row");
    let cell = row.split(" | ").nth(column).expect("of two cells");
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn plain_names_are_those_of_the_document() {
    for name in names(0) {
        assert!(is_plain_name(name), "{name}");
    }
    for name in names(1) {
        assert!(!is_plain_name(name), "{name}");
    }
    let longest = "a".repeat(spore_bundle::limits::NAME_BYTES_MAX);
    assert!(is_plain_name(&longest));
    assert!(!is_plain_name(&format!("{longest}a")));
    assert!(!is_plain_name(""));
}

/// Types and shapes have the numbers that the document gives them, whatever the order in the source.
#[test]
fn variants_have_the_numbers_of_the_document() {
    let unit = || Box::new(Type::Unit);
    let types = [
        ("Unit", Type::Unit),
        ("Bool", Type::Bool),
        ("U8", Type::U8),
        ("U16", Type::U16),
        ("U32", Type::U32),
        ("U64", Type::U64),
        ("U128", Type::U128),
        ("I8", Type::I8),
        ("I16", Type::I16),
        ("I32", Type::I32),
        ("I64", Type::I64),
        ("I128", Type::I128),
        ("F32", Type::F32),
        ("F64", Type::F64),
        ("Char", Type::Char),
        ("String", Type::String),
        ("Bytes", Type::Bytes),
        ("Duration", Type::Duration),
        ("Option(Type)", Type::Option(unit())),
        ("List(Type)", Type::List(unit())),
        ("Array(Type, u32)", Type::Array(unit(), 7)),
        ("Set(Type)", Type::Set(unit())),
        ("Map(Type, Type)", Type::Map(unit(), unit())),
        ("Tuple(List of Type)", Type::Tuple(vec![])),
        ("Result(Type, Type)", Type::Result(unit(), unit())),
        ("Named(u32)", Type::Named(9)),
    ];
    for (number, (name, ty)) in (0_u8..).zip(types) {
        assert_eq!(encoded(&ty)[0], number, "{name}");
        assert!(DOCUMENT.contains(&format!("| {number} | {name}")), "{name}");
    }

    assert_eq!(encoded(&Shape::Struct(Fields::Unit)), [0, 0]);
    assert_eq!(encoded(&Shape::Enum(vec![])), [1, 0]);
    assert_eq!(encoded(&Fields::Tuple(vec![Type::U8])), [1, 1, 2]);
    let (name, docs) = ("f".to_owned(), "d".to_owned());
    let field = Field {
        name: name.clone(),
        docs: docs.clone(),
        ty: Type::U8,
    };
    assert_eq!(
        encoded(&Fields::Named(vec![field])),
        [2, 1, 1, b'f', 1, b'd', 2]
    );
    assert_eq!(
        encoded(&Variant {
            name,
            docs,
            fields: Fields::Unit
        }),
        [1, b'f', 1, b'd', 0]
    );

    assert_eq!(encoded(&CodeKind::Component), [1]);
    assert_eq!(
        encoded(&StateKind::Image {
            layout: 2,
            job: Some(3)
        }),
        [1, 2, 1, 3]
    );
    assert_eq!(encoded(&Grant::Directory("d".to_owned())), [0, 1, b'd']);
    assert_eq!(encoded(&Grant::Environment("E".to_owned())), [1, 1, b'E']);
    assert_eq!(encoded(&Grant::Clock), [2]);
    assert_eq!(encoded(&Grant::Random), [3]);
}
