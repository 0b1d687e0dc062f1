//! An image as what is otherwise than in another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spore_value::{Limits, codec};

use super::index::ascending;
use super::{
    BLOCK_BYTES, Block, HeldBlock, Image, ImageError, Index, NamedBlock, PART_BLOCKS, Taking,
    in_halves,
};

/// What is otherwise in an image than in another.
pub struct Changes<'a> {
    /// All of it but the blocks: what *Differences* in `docs/FORMAT.md` calls the head.
    pub head: Vec<u8>,
    /// The blocks that are not in the other image at the same place, in ascending order.
    pub blocks: Vec<NamedBlock<'a>>,
}

/// What the head is the encoding of. The order of fields is the order of their bytes.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Without numbers and ids of blocks.
    index: Index,
    /// Blocks that are as in a fresh instance now, ascending.
    gone: Vec<u32>,
    /// Blocks that have changed, ascending.
    changed: Vec<u32>,
}

impl Image {
    /// What is otherwise here than in another image.
    pub fn changes_since(&self, since: &Image) -> Changes<'_> {
        let (mut gone, mut changed, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        for (number, block) in self.differing(since) {
            match block {
                None => gone.push(number),
                Some(block) => {
                    changed.push(number);
                    blocks.push(block);
                }
            }
        }
        let head = Head {
            index: self.index.without_blocks(),
            gone,
            changed,
        };
        let head = codec::encode_serde(&head).expect("an index is nested a few levels deep");
        Changes { head, blocks }
    }

    /// The image that is as this one but for changes. Blocks are hashed.
    ///
    /// It is what the changes were taken of only if this image is what they were taken since: hold the
    /// hash of the index against the one that is wanted.
    ///
    /// # Errors
    ///
    /// When the changes cannot be read, or the image would not be sound.
    pub fn with_changes(&self, head: &[u8], blocks: Vec<Arc<Block>>) -> Result<Image, ImageError> {
        let Head {
            index,
            gone,
            changed,
        } = codec::decode_serde(head, &Limits::default()).map_err(ImageError::Index)?;
        // Before anything is done for each number.
        index.check()?;
        if !index.numbers.is_empty() {
            return Err(ImageError::Ids {
                bytes: 0,
                blocks: index.numbers.len(),
            });
        }
        for numbers in [&gone, &changed] {
            ascending("block", numbers.iter().copied())?;
            if let Some(number) = numbers.last().filter(|it| **it >= index.memory_blocks()) {
                return Err(ImageError::OutsideMemory {
                    number: *number,
                    blocks: index.memory_blocks(),
                });
            }
        }
        if changed.len() != blocks.len() {
            return Err(ImageError::BlocksSize {
                expected: (changed.len() * BLOCK_BYTES) as u64,
                found: (blocks.len() * BLOCK_BYTES) as u64,
            });
        }
        let changed = changed.into_iter().zip(blocks.into_iter().map(Some));
        let gone = gone.into_iter().map(|number| (number, None));
        let mut changes: Vec<_> = changed.chain(gone).collect();
        changes.sort_by_key(|(number, _)| *number);
        ascending("block", changes.iter().map(|(number, _)| *number))?;
        let changes: Vec<(u32, Option<HeldBlock>)> = in_halves(&changes, |some| {
            let hashed = |(number, block): &(u32, Option<Arc<Block>>)| {
                (*number, block.clone().map(HeldBlock::from))
            };
            some.iter().map(hashed).collect()
        });

        let mut taking = Taking::like(Some(self));
        let behind = |number: Option<u32>| number.map_or(0, |number| number / PART_BLOCKS + 1);
        let parts = behind(self.index.numbers.last().copied());
        let parts = parts.max(behind(changes.last().map(|(number, _)| *number)));
        let mut changes = changes.into_iter().peekable();
        for part in 0..parts {
            let of_part = || changes.next_if(|(number, _)| number / PART_BLOCKS == part);
            taking.part_but(part, std::iter::from_fn(of_part));
        }
        taking.image(index)
    }
}
