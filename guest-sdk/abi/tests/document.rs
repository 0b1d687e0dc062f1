//! `docs/ABI.md` against the code: its tables, and the bytes of its example.

use spore_abi::{Description, Grant, IMPORT_MODULE, WASI_MODULE, export, fault, import, poll};
use spore_value::{Limits, Parameter, Signature, Type, codec};

const DOCUMENT: &str = include_str!("../../../docs/ABI.md");

/// The rows of the table whose head begins with these cells, trimmed.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = DOCUMENT
        .split_once(&format!("\n{head}"))
        .unwrap_or_else(|| panic!("no table {head}"));
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// A column of such a table, without the backticks of code.
fn column(head: &str, index: usize) -> Vec<&'static str> {
    let cells = table(head).into_iter().map(|row| row[index]);
    cells.map(|cell| cell.trim_matches('`')).collect()
}

#[test]
fn the_exports_are_those_of_the_code() {
    let of_callable = |prefix: &str| format!("{prefix}NAME");
    assert_eq!(
        column("| export |", 0),
        [
            export::MEMORY.to_owned(),
            export::INITIALIZE.to_owned(),
            of_callable(export::INIT),
            of_callable(export::RESTORED),
            export::ALLOC.to_owned(),
            export::FREE.to_owned(),
            of_callable(export::BIND),
            of_callable(export::START),
            export::POLL.to_owned(),
            export::CANCEL.to_owned(),
            export::DROP.to_owned(),
            export::UNBIND.to_owned(),
            of_callable(export::DESCRIBE),
        ]
    );
}

#[test]
fn the_imports_are_those_of_the_code() {
    let modules = column("| module | name |", 0);
    let names = column("| module | name |", 1);
    let imports: Vec<_> = modules.into_iter().zip(names).collect();
    assert_eq!(
        imports,
        [
            (IMPORT_MODULE, import::PROGRESS),
            (IMPORT_MODULE, import::FAULT),
            (IMPORT_MODULE, import::STOP_WANTED),
            (WASI_MODULE, "the 46 functions of WASI preview 1"),
        ]
    );
}

#[test]
fn the_kinds_of_records_and_faults_are_those_of_the_code() {
    let kinds = [
        (poll::READY, "ready"),
        (poll::ERROR, "error"),
        (poll::YIELD, "yield"),
        (poll::WAIT, "wait"),
        (poll::ITEM, "item"),
        (poll::CANCELLED, "cancelled"),
    ];
    let rows = table("| kind | name |");
    let found: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(found, kinds);

    let kinds = [
        (fault::PANIC, "panic"),
        (fault::CAPTURES, "captures that cannot be decoded"),
        (fault::ARGUMENTS, "arguments that cannot be decoded"),
    ];
    let rows = table("| fault kind |");
    let found: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(found, kinds);
}

fn number(cell: &str) -> u32 {
    cell.parse().expect("kinds are numbers")
}

#[test]
fn the_sizes_are_those_of_the_code() {
    assert!(DOCUMENT.contains(&format!("\n{} bytes, little endian,", poll::RECORD_BYTES)));
    assert_eq!(
        (fault::MESSAGE_BYTES_MAX, fault::FILE_BYTES_MAX),
        (4096, 512)
    );
    assert!(DOCUMENT.contains("cut by the host to 4,096 bytes, the file name to 512."));
}

/// The lines of the example: offset, bytes, meaning.
fn example() -> Vec<(usize, Vec<u8>, &'static str)> {
    let (_, section) = DOCUMENT
        .split_once("\n## Description\n")
        .expect("the section exists");
    let section = section.split("\n## ").next().unwrap_or(section);
    let hexadecimal = |digits| usize::from_str_radix(digits, 16).expect("a hexadecimal number");
    section
        .lines()
        .filter_map(|line| {
            let mut columns = line.split(" | ").map(str::trim);
            let columns = (columns.next()?, columns.next()?, columns.next()?);
            let (offset, bytes, meaning) = columns;
            (!offset.starts_with('|')).then(|| {
                let bytes = bytes.split(' ').map(|digits| hexadecimal(digits) as u8);
                (hexadecimal(offset), bytes.collect(), meaning)
            })
        })
        .collect()
}

#[test]
fn the_example_is_read_and_written_as_it_stands() {
    let byte = |name: &str| Parameter {
        name: name.to_owned(),
        ty: Type::U8,
    };
    let expected = Description {
        name: "sum::add".to_owned(),
        docs: "n + x".to_owned(),
        signature: Signature {
            captures: vec![byte("n")],
            parameters: vec![byte("x")],
            returns: Type::U8,
            error: None,
            definitions: Vec::new(),
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
    };
    let mut bytes = Vec::new();
    for (offset, line, meaning) in example() {
        assert_eq!(offset, bytes.len(), "offset of {meaning:?}");
        bytes.extend(line);
    }
    let described: Description =
        codec::decode_serde(&bytes, &Limits::default()).expect("the example is a description");
    assert_eq!(described, expected);
    assert_eq!(codec::encode_serde(&expected).expect("shallow"), bytes);
}

#[test]
fn the_example_has_the_fields_of_the_table_in_their_order() {
    let fields = column("| field | type | meaning |", 0);
    let labels: Vec<_> = example()
        .into_iter()
        .filter_map(|(_, _, meaning)| Some(meaning.split_once(": ")?.0))
        .filter(|label| !label.starts_with('…'))
        .collect();
    assert_eq!(labels, fields);
}
