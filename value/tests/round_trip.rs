//! Every value survives encode → decode and value → JSON → value.

mod common;

use std::collections::{BTreeSet, HashMap};

use common::*;
use proptest::prelude::*;
use spore_value::Value;

#[derive(Value, Debug, PartialEq)]
struct All {
    tree: Tree,
    marker: Marker,
    pair: Pair,
    kinds: Vec<Kind>,
    map: HashMap<String, BTreeSet<u16>>,
    sizes: (usize, isize),
    bytes: Vec<u8>,
}

proptest! {
    #[test]
    fn numbers_survive(value in numbers()) {
        survives(&value);
    }

    #[test]
    fn containers_survive(value in containers(numbers().boxed())) {
        survives(&value);
    }

    #[test]
    fn containers_of_containers_survive(value in containers(containers(any::<bool>().boxed()).boxed())) {
        survives(&value);
    }

    #[test]
    fn recursive_types_survive(value in tree()) {
        survives(&value);
    }

    #[test]
    fn tuples_survive(value in any::<((), (u8,), (char, String, i16), Result<u8, ()>)>()) {
        survives(&value);
    }

    /// serde's own traits, which the derive brings along, work with a format by name.
    #[test]
    fn serde_json_works_on_derived_types(
        tree in tree(),
        name in any::<String>(),
        letter in any::<char>(),
        option in any::<Option<u8>>(),
        span in duration(),
        map in any::<HashMap<String, BTreeSet<u16>>>(),
    ) {
        let pair = Pair(name.clone(), None);
        let kinds = vec![
            Kind::Unit,
            Kind::Empty(),
            Kind::One(pair.clone()),
            Kind::Two(name.into(), letter),
            Kind::Named { option, r#type: span },
        ];
        let all = All { tree, marker: Marker, pair, kinds, map, sizes: (1, -1), bytes: vec![1, 2] };
        let text = serde_json::to_string(&all).unwrap();
        prop_assert_eq!(serde_json::from_str::<All>(&text).unwrap(), all);
    }
}

#[test]
fn a_tuple_of_32_survives() {
    type Bytes8 = (u8, u8, u8, u8, u8, u8, u8, u8);
    type Longest = (
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        u8,
        Bytes8,
    );
    let value: Longest = (
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        16,
        17,
        18,
        19,
        20,
        21,
        22,
        23,
        24,
        25,
        26,
        27,
        28,
        29,
        30,
        (31, 32, 33, 34, 35, 36, 37, 38),
    );
    let bytes = spore_value::codec::encode(&value).unwrap();
    assert_eq!(bytes, (0..39).collect::<Vec<u8>>());
    fn is_value<T: Value>(_: &T) {}
    is_value(&value);
    let read: Longest = spore_value::codec::decode(&bytes, &Default::default()).unwrap();
    assert_eq!((read.0, read.30, read.31), (value.0, value.30, value.31));
}

#[test]
fn named_input_is_held_to_its_names() {
    let refused = |text: &str| serde_json::from_str::<Kind>(text).unwrap_err().to_string();
    let second = r#"{"Named": {"type": {"secs": 1, "nanos": 1}, "option": 1, "option": 2}}"#;
    assert!(refused(second).contains("duplicate field `option`"));
    let unknown = r#"{"Named": {"type": {"secs": 1, "nanos": 1}, "more": 1}}"#;
    assert!(refused(unknown).contains("unknown field `more`"));
    assert!(refused(r#"{"Named": {}}"#).contains("missing field `type`"));
    assert!(refused(r#""Other""#).contains("unknown variant `Other`"));
    let nanos = r#"{"Named": {"type": {"secs": 1, "nanos": 1000000000}}}"#;
    assert!(refused(nanos).contains("1000000000 nanoseconds are a second or more"));
    // An option may be left out.
    let left_out = r#"{"Named": {"type": {"secs": 1, "nanos": 1}}}"#;
    assert!(serde_json::from_str::<Kind>(left_out).is_ok());
}
