//! Equal values have equal bytes, and no value has two.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use spore_value::{DecodeError, EncodeError, Limits, Value, codec};

/// A plain serde type, as frames and manifests are, without a map.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Plain {
    numbers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128),
    floats: (f32, f64),
    rest: (bool, char, String, Option<Box<Plain>>, (), Vec<u16>),
    bytes: Vec<u8>,
    forms: Vec<Forms>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Forms {
    Unit,
    New(u32),
    Tuple(u8, String),
    Struct { a: i16 },
}

fn plain() -> impl Strategy<Value = Plain> {
    let form = prop_oneof![
        Just(0u8).prop_map(|_| Forms::Unit),
        any::<u32>().prop_map(Forms::New),
        any::<(u8, String)>().prop_map(|(a, b)| Forms::Tuple(a, b)),
        any::<i16>().prop_map(|a| Forms::Struct { a }),
    ];
    let numbers = any::<(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128)>();
    let rest = any::<(bool, char, String, Vec<u16>)>();
    let lists = (any::<Vec<u8>>(), vec(form, 0..5));
    (numbers, any::<(f32, f64)>(), rest, lists).prop_map(|(numbers, floats, rest, lists)| {
        let (truth, letter, text, list) = rest;
        let (bytes, forms) = lists;
        Plain {
            numbers,
            floats,
            rest: (truth, letter, text, None, (), list),
            bytes,
            forms,
        }
    })
}

proptest! {
    /// Apart from the order of maps the encoding is bincode's.
    #[test]
    fn bytes_are_those_of_bincode(inner in plain(), mut outer in plain()) {
        outer.rest.3 = Some(Box::new(inner));
        let bytes = codec::encode_serde(&outer).unwrap();
        let standard = bincode::config::standard();
        prop_assert_eq!(&bytes, &bincode::serde::encode_to_vec(&outer, standard).unwrap());
        prop_assert_eq!(codec::decode_serde::<Plain>(&bytes, &Limits::default()), Ok(outer));
    }

    #[test]
    fn a_map_has_the_same_bytes_whatever_holds_it(map in any::<BTreeMap<i32, String>>()) {
        let bytes = codec::encode(&map).unwrap();
        let hashed: HashMap<i32, String> = map.clone().into_iter().collect();
        let backwards: HashMap<i32, String, RandomState> = map.clone().into_iter().rev().collect();
        prop_assert_eq!(&codec::encode(&hashed).unwrap(), &bytes);
        prop_assert_eq!(&codec::encode(&backwards).unwrap(), &bytes);
        // Serde's own maps go the same way.
        prop_assert_eq!(&codec::encode_serde(&hashed).unwrap(), &bytes);

        // By hand: entries by the bytes of their keys, behind their number.
        let mut entries: Vec<_> =
            map.iter().map(|(k, v)| (codec::encode(k).unwrap(), codec::encode(v).unwrap())).collect();
        entries.sort();
        let mut by_hand = codec::encode(&(entries.len() as u64)).unwrap();
        entries.iter().for_each(|(key, value)| by_hand.extend([&key[..], value].concat()));
        prop_assert_eq!(&bytes, &by_hand);
    }

    #[test]
    fn a_set_has_the_same_bytes_whatever_holds_it(set in btree_set(vec(any::<String>(), 0..4), 0..20)) {
        let bytes = codec::encode(&set).unwrap();
        let hashed: HashSet<Vec<String>> = set.iter().rev().cloned().collect();
        prop_assert_eq!(&codec::encode(&hashed).unwrap(), &bytes);
        let mut sorted: Vec<_> = set.iter().map(|element| codec::encode(element).unwrap()).collect();
        sorted.sort();
        let mut by_hand = codec::encode(&(sorted.len() as u64)).unwrap();
        by_hand.extend(sorted.concat());
        prop_assert_eq!(&bytes, &by_hand);
    }

    /// What decodes encodes to the bytes it came from: there is no second form of anything.
    #[test]
    fn nothing_has_two_forms(bytes in vec(prop_oneof![
        4 => 0..5u8, 1 => 245..=255u8, 1 => any::<u8>(),
    ], 0..24)) {
        type Mixed = (HashMap<u16, i32>, Option<BTreeSet<String>>, Result<u64, char>, Vec<u128>);
        if let Ok(value) = codec::decode::<Mixed>(&bytes, &Limits::default()) {
            prop_assert_eq!(codec::encode(&value).unwrap(), bytes);
        }
    }
}

fn refused<T: Value + std::fmt::Debug>(bytes: &[u8]) -> DecodeError {
    codec::decode::<T>(bytes, &Limits::default()).unwrap_err()
}

#[test]
fn numbers_are_in_their_shortest_form() {
    for longer in [
        &[251, 250, 0][..],
        &[252, 255, 255, 0, 0],
        &[253, 255, 255, 255, 255, 0, 0, 0, 0],
    ] {
        assert_eq!(refused::<u64>(longer), DecodeError::NotShortest);
        assert_eq!(refused::<i64>(longer), DecodeError::NotShortest);
        assert_eq!(refused::<Vec<()>>(longer), DecodeError::NotShortest);
        assert_eq!(refused::<String>(longer), DecodeError::NotShortest);
        assert_eq!(
            refused::<Result<(), ()>>(longer),
            match longer[0] {
                253 => DecodeError::NumberTooWide,
                _ => DecodeError::NotShortest,
            }
        );
    }
    let mut longer = [0; 17];
    longer[0] = 254;
    longer[8] = 255;
    assert_eq!(refused::<u128>(&longer), DecodeError::NotShortest);
    // One more in each needs the width.
    assert_eq!(
        codec::decode::<u64>(&[251, 251, 0], &Limits::default()),
        Ok(251)
    );
    assert_eq!(
        codec::decode::<u64>(&[252, 0, 0, 1, 0], &Limits::default()),
        Ok(1 << 16)
    );
    assert_eq!(
        codec::decode::<u64>(&[253, 0, 0, 0, 0, 1, 0, 0, 0], &Limits::default()),
        Ok(1 << 32)
    );
    longer[9] = 1;
    assert_eq!(
        codec::decode::<u128>(&longer, &Limits::default()),
        Ok((255 << 56) | (1 << 64))
    );
}

#[test]
fn numbers_fit_their_type() {
    assert_eq!(
        refused::<u16>(&[252, 0, 0, 1, 0]),
        DecodeError::NumberTooWide
    );
    assert_eq!(refused::<u64>(&[255]), DecodeError::NumberTooWide);
    assert_eq!(
        refused::<u32>(&[253, 0, 0, 0, 0, 1, 0, 0, 0]),
        DecodeError::NumberTooWide
    );
}

#[test]
fn keys_ascend_and_do_not_repeat() {
    let index = 1;
    assert_eq!(
        refused::<HashSet<u8>>(&[2, 7, 7]),
        DecodeError::DuplicateKey { index }
    );
    assert_eq!(
        refused::<BTreeSet<u8>>(&[2, 7, 6]),
        DecodeError::KeyOrder { index }
    );
    assert_eq!(
        refused::<HashMap<u8, u8>>(&[2, 7, 0, 7, 1]),
        DecodeError::DuplicateKey { index }
    );
    assert_eq!(
        refused::<BTreeMap<u8, u8>>(&[2, 7, 0, 6, 1]),
        DecodeError::KeyOrder { index }
    );
    // 256 is after 255 as a number, and before it as bytes.
    let bytes = [2, 251, 0, 1, 251, 255, 0];
    assert_eq!(
        codec::encode(&BTreeSet::from([255u16, 256])).unwrap(),
        bytes
    );
    assert_eq!(
        codec::decode(&bytes, &Limits::default()),
        Ok(HashSet::from([255u16, 256]))
    );
}

#[test]
fn keys_that_are_equal_without_equal_bytes_are_refused() {
    /// Equal whatever it holds.
    #[derive(Value, Debug)]
    struct Same(u8);
    impl PartialEq for Same {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Eq for Same {}
    impl PartialOrd for Same {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Same {
        fn cmp(&self, _: &Self) -> std::cmp::Ordering {
            std::cmp::Ordering::Equal
        }
    }
    let refusal = refused::<BTreeSet<Same>>(&[2, 1, 2]);
    assert_eq!(
        refusal,
        DecodeError::Invalid("two keys of a map or set are equal".into())
    );
}

#[test]
fn a_map_of_keys_with_the_same_bytes_has_no_bytes() {
    /// Tells its values apart and does not write what tells them.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Forgetful(u8);
    impl Serialize for Forgetful {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(0)
        }
    }
    let map = BTreeMap::from([(Forgetful(1), 1u8), (Forgetful(2), 2)]);
    assert_eq!(codec::encode_serde(&map), Err(EncodeError::DuplicateKey));
}

#[test]
fn sizes_travel_as_32_bits() {
    assert_eq!(
        codec::encode(&300usize).unwrap(),
        codec::encode(&300u32).unwrap()
    );
    assert_eq!(
        codec::encode(&-300isize).unwrap(),
        codec::encode(&-300i32).unwrap()
    );
    assert!(codec::encode(&(u32::MAX as usize)).is_ok());
    let beyond = u32::MAX as usize + 1;
    let message = "usize 4294967296 is beyond u32, as which it travels";
    assert_eq!(
        codec::encode(&beyond),
        Err(EncodeError::Invalid(message.into()))
    );
    let message = "isize -2147483649 is beyond i32, as which it travels";
    assert_eq!(
        codec::encode(&(i32::MIN as isize - 1)),
        Err(EncodeError::Invalid(message.into()))
    );
}

#[test]
fn appending_what_cannot_be_encoded_leaves_the_bytes_alone() {
    let mut bytes = vec![1, 2, 3];
    assert!(codec::encode_append(&vec![1, usize::MAX], &mut bytes).is_err());
    assert_eq!(bytes, [1, 2, 3]);
    codec::encode_append(&true, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2, 3, 1]);
}

#[test]
fn serde_types_must_write_what_they_announce() {
    struct Lies;
    impl Serialize for Lies {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut elements = serializer.serialize_seq(Some(2))?;
            elements.serialize_element(&1u8)?;
            elements.end()
        }
    }
    let wrong = EncodeError::WrongLength {
        claimed: 2,
        found: 1,
    };
    assert_eq!(codec::encode_serde(&Lies), Err(wrong));
}
