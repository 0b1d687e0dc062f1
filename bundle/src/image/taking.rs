//! Images as they are taken of a memory.

use std::sync::Arc;

use super::blocks::{Blocks, PartBlocks};
use super::{Block, Image, ImageError, Index, PART_BLOCKS, distinct};
use crate::ids::BlockId;

/// An image that is taken of a memory, part by part, in ascending order.
///
/// Blocks that the last image of the same instance has are held once for both, and those that are found in
/// [parts](Self::part) are neither copied nor hashed again.
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
    /// As the last image has it there.
    Known(&'a BlockId, &'a Arc<Block>),
    New(BlockId, Arc<Block>),
}

impl<'a> Taken<'a> {
    fn of(block: &Block, known: Option<(u32, &'a BlockId, &'a Arc<Block>)>) -> Taken<'a> {
        match known.filter(|(_, _, known)| known[..] == block[..]) {
            Some((_, id, known)) => Taken::Known(id, known),
            None => HeldBlock::of(block).into(),
        }
    }

    fn held(block: HeldBlock, known: Option<(u32, &'a BlockId, &'a Arc<Block>)>) -> Taken<'a> {
        match known.filter(|(_, id, _)| **id == block.id) {
            Some((_, id, known)) => Taken::Known(id, known),
            None => block.into(),
        }
    }
}

impl From<HeldBlock> for Taken<'_> {
    fn from(HeldBlock { id, block }: HeldBlock) -> Self {
        Taken::New(id, block)
    }
}

/// A block that was copied and hashed, for a part that is taken later.
pub struct HeldBlock {
    id: BlockId,
    block: Arc<Block>,
}

impl HeldBlock {
    /// Copies and hashes a block.
    pub fn of(block: &Block) -> HeldBlock {
        HeldBlock {
            id: BlockId::of(block),
            block: Arc::new(*block),
        }
    }
}

/// Hashes a block that is held.
impl From<Arc<Block>> for HeldBlock {
    fn from(block: Arc<Block>) -> HeldBlock {
        HeldBlock {
            id: BlockId::of(&block[..]),
            block,
        }
    }
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

    /// Whether the same was taken as by another.
    pub fn is_as(&self, other: &Taking<'_>) -> bool {
        self.numbers == other.numbers && self.ids == other.ids
    }

    /// Blocks that were copied and hashed so far.
    pub fn new_blocks(&self) -> usize {
        self.new_blocks
    }

    /// Takes the next part of the memory, by its number: the blocks that differ from a fresh instance,
    /// with their numbers, ascending.
    pub fn part<'m>(&mut self, part: u32, blocks: impl Iterator<Item = (u32, &'m Block)>) {
        let mut there = self.last.map(|last| last.blocks_of(part).peekable());
        let blocks = blocks.map(|(number, block)| {
            let known = there.as_mut().and_then(|there| {
                while there.next_if(|(other, ..)| *other < number).is_some() {}
                there.next_if(|(other, ..)| *other == number)
            });
            (number, Taken::of(block, known))
        });
        self.take(part, blocks.collect());
    }

    /// Takes the next part of the memory, by its number, where it is as in the last image but for these
    /// blocks, with their numbers, ascending; nothing for one that is as in a fresh instance.
    pub fn part_but(&mut self, part: u32, blocks: impl Iterator<Item = (u32, Option<HeldBlock>)>) {
        let mut blocks = blocks.peekable();
        if blocks.peek().is_none() {
            return self.take_same(part);
        }
        let there = self.last.map(|last| last.blocks_of(part));
        let mut there = there.into_iter().flatten().peekable();
        let as_before = |(number, id, block)| (number, Taken::Known(id, block));
        let mut taken = Vec::with_capacity(PART_BLOCKS as usize);
        for (number, block) in blocks {
            while let Some(known) = there.next_if(|(other, ..)| *other < number) {
                taken.push(as_before(known));
            }
            let known = there.next_if(|(other, ..)| *other == number);
            taken.extend(block.map(|block| (number, Taken::held(block, known))));
        }
        taken.extend(there.map(as_before));
        self.take(part, taken);
    }

    /// Takes a part of which nothing has changed.
    fn take_same(&mut self, part: u32) {
        let Some((last, same)) = self
            .last
            .and_then(|last| Some((last, last.blocks.part(part)?)))
        else {
            return;
        };
        let positions = same.positions();
        self.numbers
            .extend_from_slice(&last.index.numbers[positions.clone()]);
        self.ids
            .extend_from_slice(&last.index.ids[positions.clone()]);
        self.same.push(Some(positions.start));
        self.parts.push((part, same.blocks().clone()));
    }

    /// Takes all blocks of a part.
    fn take(&mut self, part: u32, taken: Vec<(u32, Taken<'_>)>) {
        let is_known = |(_, block): &(u32, Taken<'_>)| matches!(block, Taken::Known(..));
        let known = taken.iter().filter(|it| is_known(it)).count();
        let last = self.last.and_then(|last| last.blocks.part(part));
        // What is known is where it was.
        if known == taken.len() && last.is_some_and(|last| last.blocks().len() == known) {
            return self.take_same(part);
        }
        if taken.is_empty() {
            return;
        }
        self.new_blocks += taken.len() - known;
        let blocks = taken.into_iter().map(|(number, block)| {
            self.numbers.push(number);
            let (id, block) = match block {
                Taken::Known(id, block) => (*id, block.clone()),
                Taken::New(id, block) => (id, block),
            };
            self.ids.push(id);
            block
        });
        let blocks = blocks.collect();
        self.same.push(None);
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
