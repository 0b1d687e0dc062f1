//! Images that are put together where some of their blocks are there already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Block, Image, ImageError, Index, distinct_positions};
use crate::ids::BlockId;
use crate::manifest::Manifest;

/// An image of which blocks may be missing: its index, and the blocks that other images have.
#[derive(Clone, Debug)]
pub struct Partial {
    index: Index,
    index_bytes: Bytes,
    distinct: Vec<u32>,
    blocks: Vec<Option<Arc<Block>>>,
    missing: Vec<MissingBlock>,
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
        let blocks = found_in(&index, &known);
        let blocks: Vec<_> = blocks.into_iter().map(|block| block.cloned()).collect();
        let distinct = distinct_positions(&index.ids);
        let places = distinct.iter().enumerate();
        let missing = places.filter_map(|(place, position)| {
            let position = *position as usize;
            let id = index.ids[position];
            blocks[position]
                .is_none()
                .then_some(MissingBlock { place, id })
        });
        Partial {
            missing: missing.collect(),
            index,
            index_bytes,
            distinct,
            blocks,
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
            mut blocks,
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
        for (id, block) in index.ids.iter().zip(&mut blocks) {
            if block.is_none() {
                *block = arrived.get(id).cloned();
            }
        }
        let blocks: Option<Arc<[Arc<Block>]>> = blocks.into_iter().collect();
        let blocks = blocks.expect("all that were missing have come");
        Ok(Image::of(index, index_bytes, blocks, distinct))
    }
}

/// A few ids that are sought among many.
#[derive(Default)]
struct Sought {
    ids: HashSet<BlockId>,
    /// The first two bytes of each: most others are told from them by a look at this.
    begins: Vec<u64>,
}

impl Sought {
    fn place(id: &BlockId) -> (usize, u64) {
        let [a, b, ..] = *id.as_bytes();
        let begin = u16::from_be_bytes([a, b]);
        (usize::from(begin / 64), 1 << (begin % 64))
    }

    fn insert(&mut self, id: BlockId) {
        self.begins.resize(1 << 10, 0);
        let (word, bit) = Sought::place(&id);
        self.begins[word] |= bit;
        self.ids.insert(id);
    }

    fn contains(&self, id: &BlockId) -> bool {
        let (word, bit) = Sought::place(id);
        self.begins.get(word).is_some_and(|it| it & bit != 0) && self.ids.contains(id)
    }
}

/// The blocks of an index that images have, for each of its positions.
pub(super) fn found_in<'a>(index: &Index, known: &[&'a Image]) -> Vec<Option<&'a Arc<Block>>> {
    let mut found = vec![None; index.ids.len()];
    // Most of what two images of a run have in common lies at the same address.
    for image in known {
        let mut there = image.blocks().peekable();
        let named = index.numbers.iter().zip(&index.ids);
        for ((number, id), found) in named.zip(&mut found) {
            while there.next_if(|(other, ..)| other < number).is_some() {}
            if let Some((_, _, block)) =
                there.next_if(|(other, of, _)| other == number && *of == id)
            {
                found.get_or_insert(block);
            }
        }
    }
    let mut lacking = Sought::default();
    for (id, block) in index.ids.iter().zip(&found) {
        if block.is_none() {
            lacking.insert(*id);
        }
    }
    if lacking.ids.is_empty() {
        return found;
    }
    let mut elsewhere = HashMap::new();
    let named = index.ids.iter().zip(&found);
    let here = named.filter_map(|(id, block)| Some((id, (*block)?)));
    let there = known.iter().flat_map(|image| image.blocks());
    for (id, block) in here.chain(there.map(|(_, id, block)| (id, block))) {
        if lacking.contains(id) {
            elsewhere.entry(*id).or_insert(block);
        }
    }
    for (id, block) in index.ids.iter().zip(&mut found) {
        if block.is_none() {
            *block = elsewhere.get(id).copied();
        }
    }
    found
}
