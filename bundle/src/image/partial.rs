//! Images that are put together where some of their blocks are there already.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{Blocks, PartBlocks};
use super::found::Found;
use super::{Block, Image, ImageError, Index};
use crate::ids::BlockId;
use crate::manifest::Manifest;

/// An image of which blocks may be missing: its index, and the blocks that other images have.
#[derive(Clone, Debug)]
pub struct Partial {
    index: Index,
    index_bytes: Bytes,
    distinct: Vec<u32>,
    /// By the number of the part of memory.
    parts: Vec<(u32, PartialBlocks)>,
    missing: Vec<MissingBlock>,
}

/// The blocks of a part of memory.
#[derive(Clone, Debug)]
pub(super) enum PartialBlocks {
    /// As another image has them.
    All(PartBlocks),
    /// Those that are there already.
    Some(Vec<Option<Arc<Block>>>),
}

/// A block that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingBlock {
    /// Its place among the distinct blocks of the image, in the order in which the index first names
    /// them.
    pub place: usize,
    /// Its id.
    pub id: BlockId,
}

impl Partial {
    /// Takes what `known` images have of the blocks that an index names.
    ///
    /// Costs time with the blocks of all of them, and most for those that are at another place than
    /// in the index.
    ///
    /// # Errors
    ///
    /// When the bytes are no index, or it contradicts itself.
    pub fn new<'a>(
        index_bytes: Bytes,
        known: impl IntoIterator<Item = &'a Image>,
    ) -> Result<Partial, ImageError> {
        let index = Index::decode(&index_bytes)?;
        Ok(Partial::of(index, index_bytes, known))
    }

    /// The same for the image of a bundle with this manifest.
    ///
    /// # Errors
    ///
    /// As [`Index::of_bundle`].
    pub fn of_bundle<'a>(
        index_bytes: Bytes,
        manifest: &Manifest,
        known: impl IntoIterator<Item = &'a Image>,
    ) -> Result<Partial, ImageError> {
        let index = Index::of_bundle(&index_bytes, manifest)?;
        Ok(Partial::of(index, index_bytes, known))
    }

    fn of<'a>(
        index: Index,
        index_bytes: Bytes,
        known: impl IntoIterator<Item = &'a Image>,
    ) -> Partial {
        let known: Vec<&Image> = known.into_iter().collect();
        let found = Found::new(&index, &known);
        let distinct = found.distinct(&index.ids);
        let mut missing = Vec::new();
        let mut places = (0..).zip(&distinct).peekable();
        for part in &found.parts {
            for position in part.lacking() {
                while places
                    .next_if(|(_, it)| (**it as usize) < position)
                    .is_some()
                {}
                if let Some((place, _)) = places.next_if(|(_, it)| **it as usize == position) {
                    let id = index.ids[position];
                    missing.push(MissingBlock { place, id });
                }
            }
        }
        Partial {
            missing,
            parts: found.into_parts().collect(),
            index,
            index_bytes,
            distinct,
        }
    }

    /// What the image will say of itself.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How many different blocks the image has.
    pub fn distinct_blocks(&self) -> usize {
        self.distinct.len()
    }

    /// The blocks that are missing, each once, by ascending place.
    pub fn missing(&self) -> &[MissingBlock] {
        &self.missing
    }

    /// The image, with the missing blocks in their order. Each is hashed.
    ///
    /// # Errors
    ///
    /// Says which block is missing still, or came as another one.
    pub fn complete<'a>(
        self,
        came: impl IntoIterator<Item = &'a Block>,
    ) -> Result<Image, ImageError> {
        let Partial {
            index,
            index_bytes,
            distinct,
            parts,
            missing,
        } = self;
        let mut came = came.into_iter();
        let mut arrived = HashMap::with_capacity(missing.len());
        for MissingBlock { id, .. } in missing {
            let block = came.next().ok_or(ImageError::BlockMissing { id })?;
            let found = BlockId::of(block);
            if found != id {
                return Err(ImageError::BlockId { named: id, found });
            }
            arrived.insert(id, Arc::new(*block));
        }
        let mut ids = index.ids.iter();
        let parts = parts.into_iter().map(|(number, blocks)| match blocks {
            PartialBlocks::All(blocks) => {
                ids.by_ref().take(blocks.len()).for_each(drop);
                (number, blocks)
            }
            PartialBlocks::Some(blocks) => {
                let whole = blocks.into_iter().zip(ids.by_ref()).map(|(block, id)| {
                    let block = block.or_else(|| arrived.get(id).cloned());
                    block.expect("all that were missing have come")
                });
                (number, whole.collect())
            }
        });
        let blocks = Blocks::of(parts);
        Ok(Image::of(index, index_bytes, blocks, Some(distinct)))
    }
}
