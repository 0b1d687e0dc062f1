//! Images that are much like another are the same however they come about.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;
use spore_bundle::image::{
    BLOCK_BYTES, Block, HeldBlock, Image, Index, PART_BLOCKS, Partial, Taking,
};
use spore_bundle::{BlockId, CodeId};

/// Parts of memory that an image may have blocks in. So many that most are as before where little is
/// otherwise.
const PARTS: u32 = 24;

/// A memory, by blocks of one byte repeated.
type Memory = BTreeMap<u32, u8>;

fn block(byte: u8) -> Block {
    [byte; BLOCK_BYTES]
}

fn index() -> Index {
    Index {
        memory_pages: PARTS * PART_BLOCKS / 16,
        ..Index::of(CodeId::of(b"code"))
    }
}

fn image(memory: &Memory) -> Image {
    let blocks = memory.iter().map(|(number, byte)| {
        let block = block(*byte);
        (*number, BlockId::of(&block), Arc::new(block))
    });
    Image::new(index(), blocks.collect()).expect("sound")
}

/// The image as it is taken when the last one was this, from a part on by another.
fn taken(memory: &Memory, last: Option<&Image>, middle: u32) -> Image {
    let blocks: HashMap<u32, Block> = memory
        .iter()
        .map(|(it, byte)| (*it, block(*byte)))
        .collect();
    let take = |taking: &mut Taking<'_>, parts: Range<u32>| {
        for part in parts {
            let numbers = memory.range(part * PART_BLOCKS..(part + 1) * PART_BLOCKS);
            taking.part(part, numbers.map(|(number, _)| (*number, &blocks[number])));
        }
    };
    let mut taking = Taking::like(last);
    let mut later = taking.of_later_parts();
    take(&mut later, middle..PARTS);
    take(&mut taking, 0..middle);
    taking.append(later);
    taking.image(index()).expect("sound")
}

/// The same where it is known that no more may be new than these.
fn taken_of_written(memory: &Memory, last: &Image, written: impl Iterator<Item = u32>) -> Image {
    let written: BTreeMap<u32, Option<Block>> = written
        .map(|number| (number, memory.get(&number).map(|byte| block(*byte))))
        .collect();
    let mut taking = Taking::like(Some(last));
    for part in 0..PARTS {
        let numbers = written.range(part * PART_BLOCKS..(part + 1) * PART_BLOCKS);
        taking.part_but(
            part,
            numbers.map(|(number, block)| (*number, block.as_ref().map(HeldBlock::of))),
        );
    }
    taking.image(index()).expect("sound")
}

/// The image as it is put together by who has others.
fn completed(wanted: &Image, known: &[&Image]) -> Image {
    let partial = Partial::new(wanted.index_bytes().clone(), known.iter().copied());
    let partial = partial.expect("sound");
    let missing = partial.missing().iter().map(|missing| {
        let block = wanted.distinct_at(missing.place).expect("such a place");
        assert_eq!(BlockId::of(&block[..]), missing.id);
        assert!(
            known
                .iter()
                .all(|image| image.distinct().all(|(id, _)| id != missing.id))
        );
        **block
    });
    let missing: Vec<Block> = missing.collect();
    partial.complete(&missing).expect("all are there")
}

fn assert_same(image: &Image, wanted: &Image) {
    assert_eq!(image.index_bytes(), wanted.index_bytes());
    assert!(image.blocks().eq(wanted.blocks()));
    let mut seen = HashSet::new();
    let distinct = wanted.blocks().filter(|(_, id, _)| seen.insert(**id));
    let distinct: Vec<_> = distinct.map(|(_, id, block)| (*id, block)).collect();
    assert_eq!(image.distinct().collect::<Vec<_>>(), distinct);
    for (place, (_, block)) in distinct.iter().enumerate() {
        assert_eq!(image.distinct_at(place), Some(*block));
    }
    assert_eq!(image.distinct_at(distinct.len()), None);
}

fn assert_differing(image: &Image, other: &Image, memories: [&Memory; 2]) {
    let [here, there] = memories;
    let numbers: Memory = here.iter().chain(there).map(|(it, _)| (*it, 0)).collect();
    let numbers = numbers.into_keys();
    let expected = numbers.filter(|number| here.get(number) != there.get(number));
    let expected = expected.map(|number| (number, here.get(&number).map(|byte| block(*byte))));
    let differing = image.differing(other).into_iter();
    let differing = differing.map(|(number, block)| (number, block.map(|(_, block)| **block)));
    assert!(differing.eq(expected));

    let ids = |image: &Image| image.distinct().map(|(id, _)| id).collect::<HashSet<_>>();
    let new = ids(image).difference(&ids(other)).count();
    assert_eq!(image.blocks_new_since(other), new);
}

fn numbers() -> impl Strategy<Value = u32> {
    (0..PARTS, 0..6u32).prop_map(|(part, at)| part * PART_BLOCKS + at * (PART_BLOCKS - 1) / 5)
}

fn memories() -> impl Strategy<Value = Memory> {
    prop::collection::btree_map(numbers(), 0..30u8, 0..120)
}

/// A memory, and what becomes of some blocks of it; nothing, of those that are gone then.
fn changes() -> impl Strategy<Value = Vec<(u32, Option<u8>)>> {
    prop::collection::vec((numbers(), prop::option::of(0..40u8)), 0..5)
}

fn changed(memory: &Memory, changes: &[(u32, Option<u8>)]) -> Memory {
    let mut memory = memory.clone();
    for (number, byte) in changes {
        match byte {
            Some(byte) => memory.insert(*number, *byte),
            None => memory.remove(number),
        };
    }
    memory
}

proptest! {
    #[test]
    fn what_is_much_as_before_is_what_it_is(
        first in memories(),
        changes in prop::collection::vec(changes(), 1..4),
        another in memories(),
        looked_at: bool,
        also_written in prop::collection::vec(numbers(), 0..20),
        middle in 0..=PARTS,
    ) {
        let another = image(&another);
        let mut memory = first;
        let mut last = image(&memory);
        let mut apart = image(&memory);
        if looked_at {
            assert_eq!(last.distinct().len(), apart.distinct().len());
        }
        for changes in changes {
            let before = memory;
            memory = changed(&before, &changes);
            let wanted = image(&memory);
            let written = changes.iter().map(|(number, _)| *number).chain(also_written.clone());
            let next = taken_of_written(&memory, &last, written);
            assert_same(&next, &wanted);
            assert!(next.mark().is_of(&next.clone()) && !next.mark().is_of(&wanted));
            let next = taken(&memory, Some(&last), middle);
            assert_same(&next, &wanted);
            assert_differing(&next, &last, [&memory, &before]);
            assert_differing(&last, &next, [&before, &memory]);
            let brought = completed(&next, &[&another, &apart]);
            assert_same(&brought, &wanted);
            assert_differing(&brought, &apart, [&memory, &before]);
            (last, apart) = (next, brought);
        }
        assert_same(&taken(&memory, None, middle), &image(&memory));
        assert_same(&taken(&memory, Some(&another), middle), &image(&memory));
        assert_same(&completed(&last, &[]), &image(&memory));
    }
}
