//! Items that come with a job, of any bytes: those that are none are refused, and others have one
//! encoding.

use bytes::Bytes;
use proptest::prelude::*;
use spore_transport::job::{HeldItems, HeldItemsError};

/// Where the run stands that has emitted these items last, if the bytes are items at all.
fn emitted(bytes: &[u8]) -> Option<u64> {
    match HeldItems::decode(bytes, 0) {
        Ok(_) => Some(0),
        Err(HeldItemsError::Count { first, count, .. }) => first.checked_add(count),
        Err(_) => None,
    }
}

/// Bytes are refused, or are the only ones for the items that they are.
fn are_refused_or_the_encoding(bytes: &[u8]) -> Result<(), TestCaseError> {
    // Where the run is said to stand makes no items of what is none.
    let Some(emitted) = emitted(bytes) else {
        for emitted in [1, u64::MAX] {
            prop_assert!(HeldItems::decode(bytes, emitted).is_err());
        }
        return Ok(());
    };
    let held = HeldItems::decode(bytes, emitted).expect("that is where the run stands");
    prop_assert_eq!(held.encode(), bytes);
    // Where numbers end there is none behind the last.
    if emitted < u64::MAX {
        let last = held.iter().last().map(|(sequence, _)| sequence);
        prop_assert!(last.is_none_or(|last| last + 1 == emitted));
    }
    for wrong in [emitted.wrapping_add(1), emitted.wrapping_sub(1)] {
        let refused = HeldItems::decode(bytes, wrong);
        let is_count = matches!(refused, Err(HeldItemsError::Count { .. }));
        prop_assert!(is_count);
    }
    Ok(())
}

/// Items of a few bytes, of which the run that stands there has emitted the last.
fn held() -> impl Strategy<Value = (u64, Vec<Bytes>)> {
    let firsts = prop_oneof![0u64..300, any::<u64>().prop_map(|first| first >> 8)];
    let item = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    (firsts, prop::collection::vec(item, 0..10))
}

proptest! {
    #[test]
    fn any_bytes_are_items_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        emitted: u64,
    ) {
        let _ = HeldItems::decode(&bytes, emitted);
        are_refused_or_the_encoding(&bytes)?;
    }

    /// Of small numbers, most of which are lengths that fit.
    #[test]
    fn small_bytes_are_items_or_refused(bytes in prop::collection::vec(0u8..6, 0..40)) {
        are_refused_or_the_encoding(&bytes)?;
    }

    #[test]
    fn items_come_as_they_went((first, items) in held()) {
        let held = HeldItems::new(first, items.clone());
        let bytes = held.encode();
        let again = HeldItems::decode(&bytes, first + items.len() as u64);
        let again = again.expect("own encoding");
        prop_assert_eq!(&again, &held);
        prop_assert!(again.iter().map(|(_, item)| item).eq(&items));
        are_refused_or_the_encoding(&bytes)?;
    }

    #[test]
    fn changed_items_are_refused_or_others(
        (first, items) in held(),
        position: prop::sample::Index,
        byte: u8,
        keep: prop::sample::Index,
    ) {
        let mut bytes = HeldItems::new(first, items).encode();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        are_refused_or_the_encoding(&bytes)?;
        bytes.truncate(keep.index(bytes.len() + 1));
        are_refused_or_the_encoding(&bytes)?;
    }
}

#[test]
fn numbers_without_an_end_are_refused_whatever_is_expected() {
    let items = [Bytes::new(), Bytes::new()];
    for first in [u64::MAX, u64::MAX - 1] {
        let bytes = HeldItems::new(first, items.clone()).encode();
        for emitted in [0, 1, first, u64::MAX] {
            let refused = HeldItems::decode(&bytes, emitted);
            assert!(
                matches!(refused, Err(HeldItemsError::Count { .. })),
                "{first} {emitted}: {refused:?}"
            );
        }
    }
}
