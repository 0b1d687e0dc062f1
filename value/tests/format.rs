//! The examples in the specification of the format are true.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use common::described;
use spore_value::{Limits, Value, codec, json};

/// The specification, for its section "Values".
const SPECIFICATION: &str = include_str!("../../docs/FORMAT.md");

#[derive(Value, Debug)]
struct Position {
    symbol: String,
    weight: f64,
    lots: Option<u16>,
}

#[derive(Value, Debug)]
struct Meters(u32);

#[derive(Value, Debug)]
enum Shape {
    Point,
    Circle(f32),
    Line(i8, i8),
    Text { text: String },
}

/// The JSON and the bytes stand for each other, and the bytes for a value of the type in Rust.
fn holds<T: Value + Debug>(json: &str, bytes: &[u8]) {
    let (ty, definitions) = described::<T>();
    let limits = Limits::default();
    let written = json::to_json(&ty, &definitions, bytes, &limits).unwrap();
    assert_eq!(serde_json::to_string(&written).unwrap(), json);
    let read = serde_json::from_str(json).unwrap();
    assert_eq!(
        json::from_json(&ty, &definitions, &read, &limits).as_deref(),
        Ok(bytes)
    );
    let value: T = codec::decode(bytes, &limits).unwrap();
    assert_eq!(codec::encode(&value).as_deref(), Ok(bytes), "{value:?}");
}

macro_rules! by_name {
    ($name:expr, $json:expr, $bytes:expr; $($type:ty),+ $(,)?) => {
        match $name {
            $(name if name == stringify!($type) => holds::<$type>($json, $bytes),)+
            other => panic!("the test does not know the type {other}"),
        }
    };
}

#[test]
fn the_examples_are_true() {
    let examples = SPECIFICATION
        .split("| type | JSON | bytes |")
        .nth(1)
        .unwrap();
    let mut count = 0;
    for row in examples
        .trim_start()
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<_> = row.split('`').collect();
        let [_, name, _, json, _, bytes, _] = cells[..] else {
            panic!("three cells: {row}")
        };
        let bytes: Vec<u8> = bytes
            .split(' ')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        by_name!(name, json, &bytes;
            u16, u32, u64, u128, i8, i32, i64, f32, f64, char, String, Vec<u8>, Duration, Option<u8>,
            Option<Option<u8>>, Vec<u16>, [u16; 2], BTreeSet<u16>, HashMap<String, u8>,
            BTreeMap<i8, bool>, (bool, ()), Result<u8, String>, Position, Meters, Shape,
        );
        count += 1;
    }
    assert_eq!(count, 33);
}

/// A power of two as the specification writes it.
fn power(number: u64) -> String {
    assert!(number.is_power_of_two());
    let digits = number.trailing_zeros().to_string();
    let raised = |digit: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit as usize - '0' as usize);
    let raised: String = digits.chars().filter_map(raised).collect();
    format!("2{raised}")
}

#[test]
fn the_limits_of_decoding_are_those_of_the_code() {
    let Limits {
        bytes,
        elements,
        work,
        depth,
    } = Limits::default();
    let (_, section) = SPECIFICATION
        .split_once("\n### Limits of decoding\n")
        .expect("the section exists");
    let section = section.split("\n### ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows
        .skip(2)
        .map(|row| {
            let mut cells = row.trim_start_matches("| ").split(" | ");
            [cells.next(), cells.next()].map(|cell| cell.unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("bytes", format!("{} MiB", bytes >> 20)),
        ("elements", power(elements)),
        ("work", power(work)),
        ("depth", depth.to_string()),
    ];
    let expected = expected.map(|(limit, default)| [limit.to_owned(), default]);
    assert_eq!(rows, expected);

    let per_work = format!("every full {} bytes", spore_value::limits::BYTES_PER_WORK);
    let deepest = spore_value::limits::DEPTH_MAX_DEFAULT;
    let nothing_deeper = format!("Nothing deeper than {deepest} levels");
    let json = format!("at most {} units of work", power(json::JSON_WORK_MAX));
    for words in [per_work, nothing_deeper, json] {
        assert!(section.contains(&words), "{words}");
    }
}
