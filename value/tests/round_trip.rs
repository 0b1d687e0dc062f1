//! Every value survives encode → decode and value → JSON → value.

mod common;

use common::*;
use proptest::prelude::*;
use spore_value::Value;

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

    /// serde's own traits, which the derive brings along, work with a format by name. (serde_json
    /// has no NaN, so numbers are left out.)
    #[test]
    fn serde_json_works_on_derived_types(tree in tree(), pair in pair(), kind in kind()) {
        let text = serde_json::to_string(&(&tree, &pair, &kind)).unwrap();
        // serde_json cannot tell `Some(None)` from `None`.
        let flat = Pair(pair.0, pair.1.filter(|wrapped| wrapped.0.is_some()));
        let kind = match kind {
            Kind::One(Pair(name, wrapped)) => {
                Kind::One(Pair(name, wrapped.filter(|wrapped| wrapped.0.is_some())))
            }
            other => other,
        };
        let read: (Tree, Pair, Kind) = serde_json::from_str(&text).unwrap();
        prop_assert!(read == (tree, flat, kind) || text.contains("null"));
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
