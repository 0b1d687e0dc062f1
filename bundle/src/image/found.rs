//! What images have of the blocks that an index names.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::blocks::{self, PartBlocks};
use super::distinct::{self, Sought};
use super::partial::PartialBlocks;
use super::{Block, Image, Index};
use crate::ids::BlockId;

/// The blocks of an index that images have.
pub(super) struct Found<'a> {
    known: &'a [&'a Image],
    pub(super) parts: Vec<FoundPart<'a>>,
}

/// Those of one part of memory.
pub(super) struct FoundPart<'a> {
    number: u32,
    positions: Range<usize>,
    blocks: FoundBlocks<'a>,
}

enum FoundBlocks<'a> {
    /// As one of the images has them.
    All {
        /// Which of them.
        image: usize,
        /// Position there of the first.
        first: usize,
        blocks: &'a PartBlocks,
    },
    /// For each position the block, if it was found.
    Some(Vec<Option<&'a Arc<Block>>>),
}

impl FoundPart<'_> {
    /// Positions of blocks that no image has.
    pub(super) fn lacking(&self) -> impl Iterator<Item = usize> {
        let blocks = match &self.blocks {
            FoundBlocks::All { .. } => &[][..],
            FoundBlocks::Some(blocks) => blocks,
        };
        let named = self.positions.clone().zip(blocks);
        named.filter_map(|(position, block)| block.is_none().then_some(position))
    }
}

impl<'a> Found<'a> {
    pub(super) fn new(index: &Index, known: &'a [&'a Image]) -> Found<'a> {
        let parts = blocks::parts(&index.numbers).map(|(number, positions)| {
            let (numbers, ids) = (
                &index.numbers[positions.clone()],
                &index.ids[positions.clone()],
            );
            let mut images = known.iter().enumerate();
            let all = images.find_map(|(image, it)| Some((image, it.same_part(numbers, ids)?)));
            let blocks = match all {
                Some((image, part)) => FoundBlocks::All {
                    image,
                    first: part.positions().start,
                    blocks: part.blocks(),
                },
                None => FoundBlocks::Some(same_places(numbers, ids, number, known)),
            };
            FoundPart {
                number,
                positions,
                blocks,
            }
        });
        let parts = parts.collect();
        let mut found = Found { known, parts };
        found.look_elsewhere(&index.ids);
        found
    }

    /// Finds blocks that lie at other places, here or in the images.
    fn look_elsewhere(&mut self, ids: &[BlockId]) {
        let mut sought = Sought::default();
        for position in self.parts.iter().flat_map(FoundPart::lacking) {
            sought.insert(ids[position]);
        }
        if sought.is_empty() {
            return;
        }
        let mut elsewhere = HashMap::new();
        for (_, id, block) in self.known.iter().flat_map(|image| image.blocks()) {
            if sought.contains(id) {
                elsewhere.entry(*id).or_insert(block);
            }
        }
        for part in &mut self.parts {
            if let FoundBlocks::Some(blocks) = &mut part.blocks {
                for (id, block) in ids[part.positions.clone()].iter().zip(blocks) {
                    if block.is_none() {
                        *block = elsewhere.get(id).copied();
                    }
                }
            }
        }
    }

    /// The same, held.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (u32, PartialBlocks)> {
        self.parts.into_iter().map(|part| {
            let blocks = match part.blocks {
                FoundBlocks::All { blocks, .. } => PartialBlocks::All(blocks.clone()),
                FoundBlocks::Some(blocks) => {
                    let blocks = blocks.into_iter().map(|block| block.cloned());
                    PartialBlocks::Some(blocks.collect())
                }
            };
            (part.number, blocks)
        })
    }

    /// Where each distinct one of all ids is first.
    pub(super) fn distinct(&self, ids: &[BlockId]) -> Vec<u32> {
        let mut same = vec![0; self.known.len()];
        for part in &self.parts {
            if let FoundBlocks::All { image, .. } = part.blocks {
                same[image] += part.positions.len();
            }
        }
        let most = (0..same.len()).max_by_key(|image| same[*image]);
        let known = most.and_then(|most| Some((most, self.known[most].known_distinct()?)));
        let Some((most, known)) = known else {
            return distinct::positions(ids);
        };
        let parts = self.parts.iter().map(|part| {
            let same = match part.blocks {
                FoundBlocks::All { image, first, .. } if image == most => Some(first),
                _ => None,
            };
            (part.positions.clone(), same)
        });
        let parts: Vec<_> = parts.collect();
        let there = &self.known[most].index.ids;
        distinct::positions_like(ids, (there, known), &parts)
            .unwrap_or_else(|| distinct::positions(ids))
    }
}

/// For each block of a part of memory the one of this id that images have at the same place.
fn same_places<'a>(
    numbers: &[u32],
    ids: &[BlockId],
    part: u32,
    known: &[&'a Image],
) -> Vec<Option<&'a Arc<Block>>> {
    let mut found = vec![None; ids.len()];
    for image in known {
        let mut there = image.blocks_of(part).peekable();
        for ((number, id), found) in numbers.iter().zip(ids).zip(&mut found) {
            while there.next_if(|(other, ..)| other < number).is_some() {}
            let same = there.next_if(|(other, of, _)| other == number && *of == id);
            if let Some((_, _, block)) = same {
                found.get_or_insert(block);
            }
        }
    }
    found
}
