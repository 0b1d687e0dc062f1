//! Images as they are taken of a memory.

use std::sync::Arc;

use super::blocks::{Blocks, PartBlocks};
use super::{Block, Image, ImageError, Index, distinct};
use crate::ids::BlockId;

/// An image that is taken of a memory, part by part, in ascending order.
///
/// Blocks that the last image of the same instance has are neither copied nor hashed again.
pub struct Taking<'a> {
    last: Option<&'a Image>,
    numbers: Vec<u32>,
    ids: Vec<BlockId>,
    parts: Vec<(u32, PartBlocks)>,
    /// For each part, the first position from where the last image has the same.
    same: Vec<Option<usize>>,
    new_blocks: usize,
}

/// A block that was taken.
enum Taken<'a> {
    Known(&'a Arc<Block>),
    New(Arc<Block>),
}

impl<'a> Taking<'a> {
    /// Nothing yet of a memory which may be much as in the last image.
    pub fn like(last: Option<&'a Image>) -> Taking<'a> {
        let (count, parts) = last.map_or((0, 0), |last| {
            (last.index.numbers.len(), last.blocks.parts().len())
        });
        Taking {
            last,
            numbers: Vec::with_capacity(count),
            ids: Vec::with_capacity(count),
            parts: Vec::with_capacity(parts),
            same: Vec::with_capacity(parts),
            new_blocks: 0,
        }
    }

    /// Nothing yet of later parts of the same memory, to be [appended](Self::append): another thread may
    /// take them.
    pub fn of_later_parts(&self) -> Taking<'a> {
        Taking {
            last: self.last,
            numbers: Vec::new(),
            ids: Vec::new(),
            parts: Vec::new(),
            same: Vec::new(),
            new_blocks: 0,
        }
    }

    /// Puts what was taken of later parts behind what is here.
    pub fn append(&mut self, later: Taking<'a>) {
        self.numbers.extend(later.numbers);
        self.ids.extend(later.ids);
        self.parts.extend(later.parts);
        self.same.extend(later.same);
        self.new_blocks += later.new_blocks;
    }

    /// Blocks that were copied and hashed so far.
    pub fn new_blocks(&self) -> usize {
        self.new_blocks
    }

    /// Takes the next part of the memory, by its number: the blocks that differ from a fresh instance,
    /// with their numbers, ascending.
    pub fn part<'m>(&mut self, part: u32, blocks: impl Iterator<Item = (u32, &'m Block)>) {
        let first = self.numbers.len();
        let last = self.last.and_then(|last| last.blocks.part(part));
        let mut there = self.last.map(|last| last.blocks_of(part).peekable());
        let (mut taken, mut all_known) = (Vec::new(), true);
        for (number, block) in blocks {
            let known = there.as_mut().and_then(|there| {
                while there.next_if(|(other, ..)| *other < number).is_some() {
                    all_known = false;
                }
                there.next_if(|(other, ..)| *other == number)
            });
            self.numbers.push(number);
            match known.filter(|(_, _, known)| known[..] == block[..]) {
                Some((_, id, known)) => {
                    self.ids.push(*id);
                    taken.push(Taken::Known(known));
                }
                None => {
                    self.ids.push(BlockId::of(block));
                    taken.push(Taken::New(Arc::new(*block)));
                    self.new_blocks += 1;
                    all_known = false;
                }
            }
        }
        if taken.is_empty() {
            return;
        }
        let same = last.filter(|last| all_known && last.blocks().len() == taken.len());
        self.same.push(same.map(|same| same.positions().start));
        let blocks = match same {
            Some(same) => same.blocks().clone(),
            None => {
                let blocks = taken.into_iter().map(|block| match block {
                    Taken::Known(block) => block.clone(),
                    Taken::New(block) => block,
                });
                blocks.collect()
            }
        };
        debug_assert_eq!(self.numbers.len() - first, blocks.len());
        self.parts.push((part, blocks));
    }

    /// The image, of what else is in this index.
    ///
    /// # Errors
    ///
    /// When the index would not be sound.
    pub fn image(self, mut index: Index) -> Result<Image, ImageError> {
        (index.numbers, index.ids) = (self.numbers, self.ids);
        index.check()?;
        let blocks = Blocks::of(self.parts);
        let known = self
            .last
            .and_then(|last| Some((last, last.known_distinct()?)));
        let distinct = known.and_then(|(last, known)| {
            let parts = blocks.parts().iter().map(|part| part.positions());
            let parts: Vec<_> = parts.zip(self.same).collect();
            distinct::positions_like(&index.ids, (&last.index.ids, known), &parts)
        });
        let index_bytes = index.encode();
        Ok(Image::of(index, index_bytes.into(), blocks, distinct))
    }
}
