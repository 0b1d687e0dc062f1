//! A bundle as its difference from another is that bundle, and whatever is otherwise in what came is
//! refused.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{chain, unbound};
use proptest::prelude::*;
use spore_bundle::image::{BLOCK_BYTES, Global, GlobalValue, Image, Index};
use spore_bundle::{
    BlockId, Bundle, DIFFERENCE_BYTES_MAX, Difference, DifferenceError, DifferenceReader, Limits,
    PartsError,
};

/// Pages of the memory: blocks are in two parts of it.
const PAGES: u32 = 32;

/// A bundle with an image of these blocks, each of one byte repeated.
fn bundle(blocks: &BTreeMap<u32, u8>, global: u32) -> Bundle {
    let index = Index {
        memory_pages: PAGES,
        globals: vec![Global {
            index: 0,
            value: GlobalValue::I32(global),
        }],
        ..Index::of(unbound().code_id())
    };
    let blocks = blocks.iter().map(|(number, byte)| {
        let block = [*byte; BLOCK_BYTES];
        (*number, BlockId::of(&block), Arc::new(block))
    });
    let image = Image::new(index, blocks.collect()).expect("sound");
    unbound().with_image(image).expect("it fits")
}

/// As it is made of bytes that come in pieces.
fn read(difference: &[u8]) -> Result<Difference, DifferenceError> {
    let mut reader = DifferenceReader::default();
    for piece in difference.chunks(1500) {
        reader.push(piece)?;
    }
    reader.finish()
}

fn again(since: &Bundle, wanted: &Bundle, bytes: &[u8]) -> Result<Bundle, DifferenceError> {
    Bundle::from_difference(since, wanted.id(), read(bytes)?, &Limits::default())
}

fn memories() -> impl Strategy<Value = BTreeMap<u32, u8>> {
    prop::collection::btree_map(0..PAGES * 16, 0..6u8, 0..40)
}

proptest! {
    #[test]
    fn a_bundle_is_what_its_difference_makes(
        before in memories(),
        after in memories(),
        globals: [u32; 2],
        at: prop::sample::Index,
        byte: u8,
    ) {
        let (since, wanted) = (bundle(&before, globals[0]), bundle(&after, globals[1]));
        let difference = wanted.difference(&since).expect("little is otherwise").into_bytes();
        let made = again(&since, &wanted, &difference).expect("sound");
        assert_eq!(made.encode(), wanted.encode());
        // Whatever is otherwise in it, or in what it is held against, no other bundle comes of it.
        let mut other = difference.to_vec();
        let at = at.index(other.len());
        other[at] ^= byte | 1;
        assert!(again(&since, &wanted, &other).is_err());
        if let Ok(made) = again(&wanted, &wanted, &difference) {
            assert_eq!(made, wanted);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let since = bundle(&BTreeMap::from([(3, 1)]), 0);
        assert!(again(&since, &since, &bytes).is_err());
    }
}

#[test]
fn what_differs_is_what_travels() {
    let mut memory: BTreeMap<u32, u8> = (0..400).map(|number| (number, number as u8)).collect();
    let since = bundle(&memory, 1);
    memory.insert(7, 200);
    memory.remove(&300);
    let wanted = bundle(&memory, 1);
    let difference = wanted
        .difference(&since)
        .expect("little is otherwise")
        .into_bytes();
    assert!((BLOCK_BYTES..BLOCK_BYTES + 1000).contains(&difference.len()));
    let nothing = wanted.difference(&wanted).expect("nothing is otherwise");
    assert!(nothing.len() < 1000);
}

#[test]
fn what_makes_no_bundle_is_refused_by_name() {
    let memory = BTreeMap::from([(1, 1), (2, 2)]);
    let (since, wanted) = (bundle(&memory, 1), bundle(&BTreeMap::from([(1, 3)]), 2));
    let difference = wanted
        .difference(&since)
        .expect("little is otherwise")
        .into_bytes();
    let named = |difference: &[u8]| {
        let refused = again(&since, &wanted, difference).expect_err("not so");
        chain(&refused)
    };
    let length = "a difference that is cut off, or goes on behind its end";
    assert_eq!(named(&[]), length);
    assert_eq!(named(&difference[..7]), length);
    assert_eq!(named(&difference[..difference.len() - 1]), length);
    assert_eq!(named(&[&difference[..], &[0]].concat()), length);
    assert_eq!(
        named(&[&difference[..], &[0; BLOCK_BYTES]].concat()),
        "the image cannot be used: 8192 bytes of blocks, the index names 4096"
    );
    let manifest = wanted.manifest_bytes();
    let no_head = [&difference[..4], &[0; 4], manifest].concat();
    assert_eq!(
        named(&no_head),
        "the image cannot be used: unreadable index: 1 bytes are missing"
    );
    assert_eq!(named(&[0xff; 100]), length);
    let long = vec![0; DIFFERENCE_BYTES_MAX + 1];
    assert!(matches!(
        again(&since, &wanted, &long),
        Err(DifferenceError::TooLong { .. })
    ));
    assert!(matches!(
        again(&unbound(), &wanted, &difference),
        Err(DifferenceError::NoImage)
    ));
    assert!(matches!(
        again(&since, &since, &difference),
        Err(DifferenceError::OtherBundle { .. })
    ));
    // Held against another image it makes another state.
    assert!(matches!(
        again(&bundle(&BTreeMap::from([(9, 9)]), 1), &wanted, &difference),
        Err(DifferenceError::Parts(PartsError::StateId { .. }))
    ));
    let limits = Limits {
        state_bytes_max: 5000,
        ..Limits::default()
    };
    let large = bundle(&BTreeMap::from([(1, 3), (2, 4)]), 2);
    let difference = large
        .difference(&since)
        .expect("little is otherwise")
        .into_bytes();
    let read = read(&difference).expect("whole");
    let refused = Bundle::from_difference(&since, large.id(), read, &limits);
    assert!(matches!(
        refused,
        Err(DifferenceError::Parts(PartsError::StateTooLarge { .. }))
    ));
}

/// A head that no image has: its changes lie behind the memory, are there twice or out of order, or its
/// index names blocks by itself.
#[test]
fn a_head_that_contradicts_itself_is_refused() {
    let since = bundle(&BTreeMap::from([(1, 1), (2, 2)]), 1);
    let index = Index {
        numbers: Vec::new(),
        ids: Vec::new(),
        ..since.image().expect("one").index().clone()
    };
    let named = Index {
        numbers: vec![1],
        ids: vec![BlockId::of(&[1; BLOCK_BYTES])],
        ..index.clone()
    };
    let behind = PAGES * 16;
    let cases: [(&Index, &[u32], &[u32], &str); 7] = [
        (
            &index,
            &[],
            &[u32::MAX],
            "block 4294967295, the memory has 512",
        ),
        (&index, &[behind], &[], "block 512, the memory has 512"),
        (&index, &[3], &[3], "block 3 after 3"),
        (&index, &[2, 1], &[], "block 1 after 2"),
        (&index, &[], &[2, 1], "block 1 after 2"),
        (&index, &[], &[1, 1], "block 1 after 1"),
        (&named, &[], &[2], "0 bytes of ids for 1 blocks"),
    ];
    for (index, gone, changed, why) in cases {
        let head = spore_value::codec::encode_serde(&(index, gone, changed)).expect("shallow");
        let manifest = since.manifest_bytes();
        let mut bytes = Vec::new();
        for part in [&manifest[..], &head] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(manifest);
        bytes.extend_from_slice(&head);
        bytes.resize(bytes.len() + changed.len() * BLOCK_BYTES, 7);
        let refused = again(&since, &since, &bytes).expect_err(why);
        assert_eq!(chain(&refused), format!("the image cannot be used: {why}"));
    }
}

#[test]
fn what_has_no_difference_travels_otherwise() {
    let with_image = bundle(&BTreeMap::from([(1, 1)]), 1);
    assert!(unbound().difference(&with_image).is_none());
    assert!(with_image.difference(&unbound()).is_none());
}
