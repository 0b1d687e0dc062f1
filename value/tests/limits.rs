//! Every limit, one step past it, and bytes that lie.

mod allocation;
mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;

use allocation::peak_bytes;
use common::*;
use proptest::prelude::*;
use spore_value::limits::{BYTES_MAX_DEFAULT, ELEMENTS_MAX_DEFAULT, WORK_MAX_DEFAULT};
use spore_value::{DecodeError, Limits, Type, Value, codec};

fn limits() -> Limits {
    Limits::default()
}

fn refused<T: Value + Debug>(bytes: &[u8], limits: &Limits) -> DecodeError {
    codec::decode::<T>(bytes, limits).unwrap_err()
}

#[test]
fn bytes() {
    let bytes = codec::encode(&vec![1u8; 9]).unwrap();
    assert!(codec::decode::<Vec<u8>>(&bytes, &limits().with_bytes(10)).is_ok());
    let too_long = DecodeError::TooLong {
        found: 10,
        limit: 9,
    };
    assert_eq!(
        refused::<Vec<u8>>(&bytes, &limits().with_bytes(9)),
        too_long
    );
}

#[test]
fn bytes_by_default() {
    let mut bytes = vec![0; BYTES_MAX_DEFAULT as usize + 1];
    let (found, limit) = (bytes.len() as u64, BYTES_MAX_DEFAULT);
    assert_eq!(
        refused::<()>(&bytes, &limits()),
        DecodeError::TooLong { found, limit }
    );
    bytes.pop();
    // No longer too long, and still not a unit.
    assert_eq!(
        refused::<()>(&bytes, &limits()),
        DecodeError::Trailing { extra: limit }
    );
}

#[test]
fn elements_are_counted_together() {
    let value = (
        vec![1u16, 2],
        BTreeSet::from([3u16, 4]),
        BTreeMap::from([(5u16, vec![6u16])]),
    );
    let bytes = codec::encode(&value).unwrap();
    type Lists = (Vec<u16>, BTreeSet<u16>, BTreeMap<u16, Vec<u16>>);
    assert_eq!(
        codec::decode::<Lists>(&bytes, &limits().with_elements(6)),
        Ok(value)
    );
    let too_many = DecodeError::TooManyElements {
        claimed: 1,
        limit: 5,
    };
    assert_eq!(
        refused::<Lists>(&bytes, &limits().with_elements(5)),
        too_many
    );
}

#[test]
fn elements_of_no_bytes_are_counted() {
    let bytes = codec::encode(&(ELEMENTS_MAX_DEFAULT + 1)).unwrap();
    let (claimed, limit) = (ELEMENTS_MAX_DEFAULT + 1, ELEMENTS_MAX_DEFAULT);
    let too_many = DecodeError::TooManyElements { claimed, limit };
    assert_eq!(refused::<Vec<()>>(&bytes, &limits()), too_many);
    assert_eq!(refused::<VecDeque<[(); 0]>>(&bytes, &limits()), too_many);
    let enough = codec::encode(&1000u64).unwrap();
    assert_eq!(
        codec::decode::<Vec<()>>(&enough, &limits().with_elements(1000))
            .unwrap()
            .len(),
        1000
    );
    let too_many = DecodeError::TooManyElements {
        claimed: 1000,
        limit: 999,
    };
    assert_eq!(
        refused::<Vec<()>>(&enough, &limits().with_elements(999)),
        too_many
    );
}

#[test]
fn work() {
    // The list, two pairs, and two numbers in each.
    let bytes = codec::encode(&vec![(1u8, 2u32), (3, 4)]).unwrap();
    assert!(codec::decode::<Vec<(u8, u32)>>(&bytes, &limits().with_work(7)).is_ok());
    let too_much = DecodeError::TooMuchWork { limit: 6 };
    assert_eq!(
        refused::<Vec<(u8, u32)>>(&bytes, &limits().with_work(6)),
        too_much
    );
}

#[test]
fn work_of_text_and_bytes_grows_with_their_length() {
    let bytes = codec::encode(&"x".repeat(640)).unwrap();
    assert!(codec::decode::<String>(&bytes, &limits().with_work(11)).is_ok());
    let too_much = DecodeError::TooMuchWork { limit: 10 };
    assert_eq!(refused::<String>(&bytes, &limits().with_work(10)), too_much);
    assert_eq!(
        refused::<Vec<u8>>(&bytes, &limits().with_work(10)),
        too_much
    );
}

#[test]
fn work_by_default_ends_what_neither_bytes_nor_elements_end() {
    type Empty = [[[[[(); 256]; 256]; 256]; 256]; 0];
    assert!(codec::decode::<Empty>(&[], &limits()).is_ok());
    // 2³² units in no bytes at all; the type is the reader's own here, but not in a manifest.
    let cube = (0..4).fold(Type::Unit, |ty, _| Type::Array(Box::new(ty), 256));
    let too_much = DecodeError::TooMuchWork {
        limit: spore_value::json::JSON_WORK_MAX,
    };
    assert_eq!(
        spore_value::json::to_json(&cube, &[], &[], &limits()),
        Err(too_much)
    );
    const { assert!(WORK_MAX_DEFAULT >= ELEMENTS_MAX_DEFAULT) };
}

#[test]
fn depth() {
    let nested = vec![vec![vec![Some(1u8)]]];
    let bytes = codec::encode(&nested).unwrap();
    type Nested = Vec<Vec<Vec<Option<u8>>>>;
    assert_eq!(
        codec::decode::<Nested>(&bytes, &limits().with_depth(4)),
        Ok(nested)
    );
    assert_eq!(
        refused::<Nested>(&bytes, &limits().with_depth(3)),
        DecodeError::TooDeep { limit: 3 }
    );
}

#[test]
fn depth_of_recursive_types() {
    // Sixteen kilobytes of `Not { of: Some(…) }`, two levels each.
    let bytes = [2, 1].repeat(8 << 10);
    assert_eq!(
        refused::<Expression>(&bytes, &limits()),
        DecodeError::TooDeep { limit: 128 }
    );
    let more = limits().with_depth(u32::MAX);
    assert_eq!(
        refused::<Expression>(&bytes, &more),
        DecodeError::TooDeep { limit: 128 }
    );
    assert_eq!(
        codec::decode_serde::<Type>(&[18; 4096], &limits()),
        Err(DecodeError::TooDeep { limit: 128 })
    );
}

#[test]
fn several_values_share_their_limits() {
    let mut bytes = codec::encode(&vec![1u16, 2]).unwrap();
    codec::encode_append(&vec![3u16, 4], &mut bytes).unwrap();
    let mut values = codec::Decoder::new(&bytes, &limits().with_elements(3)).unwrap();
    assert_eq!(values.value::<Vec<u16>>(), Ok(vec![1, 2]));
    let too_many = DecodeError::TooManyElements {
        claimed: 2,
        limit: 3,
    };
    assert_eq!(values.value::<Vec<u16>>(), Err(too_many));
}

#[test]
fn a_length_is_no_reason_to_allocate() {
    // Claims 2²⁶ elements, or that many bytes of text, and brings none.
    let bytes = codec::encode(&ELEMENTS_MAX_DEFAULT).unwrap();
    let missing = DecodeError::Truncated {
        missing: ELEMENTS_MAX_DEFAULT,
    };
    assert_eq!(refused::<String>(&bytes, &limits()), missing);
    assert_eq!(refused::<Vec<u8>>(&bytes, &limits()), missing);
    let peaks = [
        peak_bytes(|| refused::<String>(&bytes, &limits())),
        peak_bytes(|| refused::<Vec<u8>>(&bytes, &limits())),
        peak_bytes(|| refused::<Vec<[u64; 32]>>(&bytes, &limits())),
        peak_bytes(|| refused::<HashMap<u64, [u64; 32]>>(&bytes, &limits())),
        peak_bytes(|| refused::<HashSet<u64>>(&bytes, &limits())),
        peak_bytes(|| codec::decode_serde::<Vec<String>>(&bytes, &limits())),
    ];
    assert!(peaks.iter().all(|peak| *peak <= 4 << 20), "{peaks:?}");
    // The check sees what it is there to see.
    assert!(peak_bytes(|| vec![0u8; 5 << 20]) > 4 << 20);
}

#[test]
fn every_way_to_be_wrong_has_its_name() {
    let limits = limits();
    assert_eq!(
        refused::<bool>(&[2], &limits),
        DecodeError::NotBool { found: 2 }
    );
    assert_eq!(
        refused::<Option<u8>>(&[2, 0], &limits),
        DecodeError::NotOption { found: 2 }
    );
    assert_eq!(refused::<char>(&[0xff], &limits), DecodeError::NotChar);
    assert_eq!(
        refused::<char>(&[0xc0, 0x80], &limits),
        DecodeError::NotChar
    );
    assert_eq!(
        refused::<char>(&[0xe2, 0x82], &limits),
        DecodeError::Truncated { missing: 1 }
    );
    assert_eq!(
        refused::<String>(&[3, b'a', 0xff, b'b'], &limits),
        DecodeError::NotText { valid: 1 }
    );
    assert_eq!(
        refused::<f64>(&[0; 7], &limits),
        DecodeError::Truncated { missing: 1 }
    );
    assert_eq!(
        refused::<u8>(&[1, 2, 3], &limits),
        DecodeError::Trailing { extra: 2 }
    );
    let message = "variant 5, where there are 5";
    assert_eq!(
        refused::<Kind>(&[5], &limits),
        DecodeError::Invalid(message.into())
    );
    let message = "1000000000 nanoseconds are a second or more";
    let bytes = [0, 252, 0x00, 0xca, 0x9a, 0x3b];
    assert_eq!(
        refused::<std::time::Duration>(&bytes, &limits),
        DecodeError::Invalid(message.into())
    );
}

/// Bytes that are likely to get somewhere: small numbers, widths, and the rest.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![6 => 0..4u8, 1 => 250..=255u8, 2 => any::<u8>()];
    proptest::collection::vec(byte, 0..200)
}

/// Neither panics nor takes much more memory than there are bytes.
fn bounded<T: Value>(bytes: &[u8]) {
    let peak = peak_bytes(|| codec::decode::<T>(bytes, &limits().with_elements(1 << 12)).is_ok());
    assert!(
        peak <= 2 << 20,
        "{peak} bytes for {}",
        std::any::type_name::<T>()
    );
}

proptest! {
    #[test]
    fn hostile_bytes(bytes in hostile()) {
        bounded::<Numbers>(&bytes);
        bounded::<Containers<Tree>>(&bytes);
        bounded::<Vec<Kind>>(&bytes);
        bounded::<Expression>(&bytes);
        bounded::<HashMap<String, Vec<Option<Box<[f64]>>>>>(&bytes);
        let _ = codec::decode_serde::<spore_value::Signature>(&bytes, &limits());
    }

    /// A value that is cut, or has a bit changed, is refused or is another value.
    #[test]
    fn damaged_bytes(value in containers(tree().boxed()), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = codec::encode(&value).unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(codec::decode::<Containers<Tree>>(cut, &limits()).is_err());
        let place = at.index(bytes.len());
        bytes[place] ^= 1u8 << bit;
        if let Ok(other) = codec::decode::<Containers<Tree>>(&bytes, &limits()) {
            prop_assert!(other != value);
            prop_assert_eq!(codec::encode(&other).unwrap(), bytes);
        }
    }
}
