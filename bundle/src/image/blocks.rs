//! The blocks of an image, in parts that images share.
//!
//! What changes from one image of an instance to the next is mostly little: so they have the blocks of
//! each MiB of memory together, and a MiB in which nothing changed is that of the image before.

use std::ops::Range;
use std::sync::Arc;

use super::{Block, Image, PART_BLOCKS};
use crate::ids::BlockId;

/// A block, and its id.
pub type NamedBlock<'a> = (&'a BlockId, &'a Arc<Block>);

/// The blocks of one part of memory.
pub(super) type PartBlocks = Arc<[Arc<Block>]>;

/// The blocks of an image, in the order of its index.
#[derive(Clone)]
pub(super) struct Blocks(Arc<[Part]>);

/// The blocks of a part of memory in which there are any.
#[derive(Clone)]
pub(super) struct Part {
    /// Which part: that of the blocks whose numbers are from `PART_BLOCKS` times this.
    number: u32,
    /// Position of its first block in the index.
    first: usize,
    blocks: PartBlocks,
}

impl Part {
    pub(super) fn positions(&self) -> Range<usize> {
        self.first..self.first + self.blocks.len()
    }

    pub(super) fn blocks(&self) -> &PartBlocks {
        &self.blocks
    }
}

impl Blocks {
    /// Of parts by ascending number, each of some blocks.
    pub(super) fn of(parts: impl IntoIterator<Item = (u32, PartBlocks)>) -> Blocks {
        let mut first = 0;
        let parts = parts.into_iter().map(|(number, blocks)| {
            let part = Part {
                number,
                first,
                blocks,
            };
            first = part.positions().end;
            part
        });
        Blocks(parts.collect())
    }

    /// Of one block for each of ascending numbers.
    pub(super) fn named(numbers: &[u32], blocks: impl IntoIterator<Item = Arc<Block>>) -> Blocks {
        let mut blocks = blocks.into_iter();
        let parts = parts(numbers).map(|(number, positions)| {
            let part: PartBlocks = blocks.by_ref().take(positions.len()).collect();
            debug_assert_eq!(part.len(), positions.len());
            (number, part)
        });
        Blocks::of(parts)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// One after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.0.iter().flat_map(|part| part.blocks.iter())
    }

    /// The block at a position of the index.
    pub(super) fn at(&self, position: usize) -> &Arc<Block> {
        let behind = self.0.partition_point(|part| part.first <= position);
        let part = &self.0[behind - 1];
        &part.blocks[position - part.first]
    }

    pub(super) fn part(&self, number: u32) -> Option<&Part> {
        let at = self.0.binary_search_by_key(&number, |part| part.number);
        at.ok().map(|at| &self.0[at])
    }
}

/// The parts of memory that ascending numbers of blocks are in, with the positions of their blocks.
pub(super) fn parts(numbers: &[u32]) -> impl Iterator<Item = (u32, Range<usize>)> {
    let mut first = 0;
    let parts = numbers.chunk_by(|a, b| a / PART_BLOCKS == b / PART_BLOCKS);
    parts.map(move |part| {
        let positions = first..first + part.len();
        first = positions.end;
        (part[0] / PART_BLOCKS, positions)
    })
}

impl Image {
    /// The part of memory that blocks of these numbers are all in, if here are just these blocks of it.
    pub(super) fn same_part(&self, numbers: &[u32], ids: &[BlockId]) -> Option<&Part> {
        let part = self.blocks.part(numbers.first()? / PART_BLOCKS)?;
        let there = part.positions();
        let same = self.index.numbers[there.clone()] == *numbers && self.index.ids[there] == *ids;
        same.then_some(part)
    }

    /// The blocks of a part of memory with their numbers, in ascending order.
    pub(super) fn blocks_of(
        &self,
        part: u32,
    ) -> impl ExactSizeIterator<Item = (u32, &BlockId, &Arc<Block>)> {
        let part = self.blocks.part(part);
        let positions = part.map_or(0..0, Part::positions);
        let blocks: &[Arc<Block>] = part.map_or(&[], |part| &part.blocks);
        let numbers = self.index.numbers[positions.clone()].iter();
        let named = numbers.zip(&self.index.ids[positions]).zip(blocks);
        named.map(|((number, id), block)| (*number, id, block))
    }

    /// The numbers of blocks that another image does not have as here, ascending; with nothing where
    /// only the other has one.
    pub fn differing(&self, other: &Image) -> Vec<(u32, Option<NamedBlock<'_>>)> {
        let mut differing = Vec::new();
        let mut others = other.blocks.0.iter().peekable();
        let gone = |part: &Part| {
            let there = other.blocks_of(part.number);
            there.map(|(number, ..)| (number, None))
        };
        for part in self.blocks.0.iter() {
            while let Some(before) = others.next_if(|it| it.number < part.number) {
                differing.extend(gone(before));
            }
            let there = others.next_if(|it| it.number == part.number);
            if there.is_some_and(|there| Arc::ptr_eq(&there.blocks, &part.blocks)) {
                continue;
            }
            let mut there = other.blocks_of(part.number).peekable();
            for (number, id, block) in self.blocks_of(part.number) {
                while let Some((gone, ..)) = there.next_if(|(it, ..)| *it < number) {
                    differing.push((gone, None));
                }
                let same = there.next_if(|(it, ..)| *it == number);
                if same.is_none_or(|(_, same, _)| same != id) {
                    differing.push((number, Some((id, block))));
                }
            }
            differing.extend(there.map(|(number, ..)| (number, None)));
        }
        differing.extend(others.flat_map(gone));
        differing
    }
}
