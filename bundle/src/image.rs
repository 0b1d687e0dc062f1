//! Images: the memory and the globals of an instance, as what differs from a fresh one.
//!
//! An image is an [`Index`] and the blocks that it names. The index is the state of a bundle: its
//! hash is the [`StateId`], and covers every block through that block's own id. So
//! two images share the blocks that they have in common, wherever they are kept or sent.
//!
//! `docs/FORMAT.md` specifies the bytes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use crate::ids::{BlockId, CodeId, StateId};

mod blocks;
mod changes;
mod distinct;
mod found;
mod halves;
mod index;
mod partial;
mod taking;

use blocks::Blocks;
use found::Found;

pub use blocks::NamedBlock;
pub use changes::Changes;
pub use halves::{has_cores, in_halves};
pub use index::{Bound, Global, GlobalValue, Index, Random, Run};
pub use partial::{MissingBlock, Partial};
pub use taking::{HeldBlock, Taking};

/// Version of the layout that this release reads and writes.
pub const LAYOUT: u16 = 1;

/// Size of a block, in bytes. A page of most processors: what a guest touches is known by pages.
pub const BLOCK_BYTES: usize = 4096;

/// Size of a page of Wasm memory, in bytes.
pub const PAGE_BYTES: u64 = 64 << 10;

/// Blocks of a page of Wasm memory.
pub const BLOCKS_PER_PAGE: u32 = (PAGE_BYTES / BLOCK_BYTES as u64) as u32;

/// Blocks of a part of memory: 1 MiB. Images that are alike share the parts in which nothing differs.
pub const PART_BLOCKS: u32 = 256;

/// Most pages of a memory: all that 32 bits of addresses reach.
pub const PAGES_MAX: u32 = 1 << 16;

/// Most globals of an image. Guests in Rust have one that changes.
pub const GLOBALS_MAX: usize = 1024;

/// Most captures that stay bound in an image: one for each callable that a manifest may have.
pub const BOUND_MAX: usize = crate::limits::CALLABLES_MAX;
/// Latest that the clock of an image may show, in nanoseconds: 292 years.
pub const CLOCK_NS_MAX: u64 = i64::MAX as u64;
/// Most items that a run may have emitted: as many as JSON counts exactly.
pub const RUN_ITEMS_MAX: u64 = 1 << 53;

/// A block of memory.
pub type Block = [u8; BLOCK_BYTES];

/// Why bytes are no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image has a layout that this release does not know.
    #[error("image of layout {found}, this release knows {LAYOUT}")]
    UnknownLayout {
        /// The layout that the manifest announces
        found: u16,
    },
    /// The image is one of other code than the bundle's.
    #[error("image of an instance of other code, {found}")]
    OtherCode {
        /// The code whose image it is
        found: CodeId,
    },
    /// The index is not the encoding of one.
    #[error("unreadable index")]
    Index(#[source] spore_value::DecodeError),
    /// The clock shows what no clock has come to.
    #[error("a clock of {found} ns, at most {limit} are possible")]
    Clock {
        /// What it shows
        found: u64,
        /// The latest that one may show
        limit: u64,
    },
    /// There is more of something than the format or the limits allow.
    #[error("{count} {what}, at most {limit} are allowed")]
    TooMany {
        /// What
        what: &'static str,
        /// How many
        count: u64,
        /// How many are allowed
        limit: u64,
    },
    /// Blocks, globals or bound captures are not in ascending order, each once.
    #[error("{what} {number} after {previous}")]
    Order {
        /// What
        what: &'static str,
        /// The one that comes too late
        number: u32,
        /// The one before it
        previous: u32,
    },
    /// A block lies beyond the memory.
    #[error("block {number}, the memory has {blocks}")]
    OutsideMemory {
        /// Its number
        number: u32,
        /// How many the memory has
        blocks: u32,
    },
    /// There are not as many ids as blocks.
    #[error("{bytes} bytes of ids for {blocks} blocks")]
    Ids {
        /// Bytes of ids
        bytes: usize,
        /// Numbers of blocks
        blocks: usize,
    },
    /// The run is of captures that are not bound.
    #[error("a run from handle {handle}, which is not bound to callable {callable}")]
    RunUnbound {
        /// The handle that the run says it was started from
        handle: u32,
        /// The callable that it says it is of
        callable: u32,
    },
    /// The image refers to a callable that the bundle does not have, or that cannot be so used.
    #[error("callable {index} {why}")]
    Callable {
        /// Its index
        index: u32,
        /// What is wrong with it
        why: &'static str,
    },
    /// A name of a directory is not plain, or there twice.
    #[error("a directory named {name:?}")]
    Directory {
        /// The name
        name: String,
    },
    /// The blocks are not as many bytes as the index names.
    #[error("{found} bytes of blocks, the index names {expected}")]
    BlocksSize {
        /// Bytes that the index names
        expected: u64,
        /// Bytes found
        found: u64,
    },
    /// A block is not there.
    #[error("block {id} is missing")]
    BlockMissing {
        /// Its id
        id: BlockId,
    },
    /// A block has other bytes than its id says.
    #[error("block {named} came as {found}")]
    BlockId {
        /// The id in the index
        named: BlockId,
        /// The id of the bytes
        found: BlockId,
    },
    /// The image says another callable runs in it than the manifest does.
    #[error("the index holds {index}, the manifest says {manifest}")]
    Job {
        /// What the index holds
        index: &'static str,
        /// What the manifest says
        manifest: &'static str,
    },
}

/// The state of an instance between two calls: everything that a fresh one does not have.
///
/// Whoever holds one holds blocks that have the ids which the index names. That it fits the code is
/// not part of this: see [`Interior::check`](crate::module::Interior::check).
#[derive(Clone)]
pub struct Image {
    index: Arc<Index>,
    index_bytes: Bytes,
    /// The hash of these bytes, once somebody has asked.
    id: Arc<OnceLock<StateId>>,
    blocks: Blocks,
    /// Where in the index each distinct block is first named, once somebody has asked.
    distinct: Arc<OnceLock<Vec<u32>>>,
}

impl Image {
    /// An image of these blocks, whose ids are computed here unless they are known.
    ///
    /// `blocks` are numbers, in ascending order, with their bytes. `known` gives the id of a block
    /// that was hashed before; it must be the right one.
    ///
    /// # Errors
    ///
    /// When the index would not be sound.
    pub fn new(
        mut index: Index,
        blocks: Vec<(u32, BlockId, Arc<Block>)>,
    ) -> Result<Image, ImageError> {
        index.numbers = blocks.iter().map(|(number, ..)| *number).collect();
        index.ids = blocks.iter().map(|(_, id, _)| *id).collect();
        index.check()?;
        let index_bytes = index.encode();
        let blocks = blocks.into_iter().map(|(.., block)| block);
        let blocks = Blocks::named(&index.numbers, blocks);
        Ok(Image::of(index, index_bytes.into(), blocks, None))
    }

    fn of(index: Index, index_bytes: Bytes, blocks: Blocks, distinct: Option<Vec<u32>>) -> Image {
        Image {
            index: Arc::new(index),
            index_bytes,
            id: Arc::default(),
            blocks,
            distinct: Arc::new(distinct.map_or_else(OnceLock::new, OnceLock::from)),
        }
    }

    /// Puts an image together from its index and its distinct blocks, in the order in which the index
    /// first names them, without hashing: for blocks that were hashed when they were read. One that is
    /// not what the index names would be taken for it. [`Partial`] hashes.
    ///
    /// # Errors
    ///
    /// Says which block is missing.
    pub fn dangerous_from_checked_blocks(
        index_bytes: Bytes,
        distinct: &[Arc<Block>],
    ) -> Result<Image, ImageError> {
        let index = Index::decode(&index_bytes)?;
        let positions = distinct::positions(&index.ids);
        if let Some(first) = positions.get(distinct.len()) {
            let id = index.ids[*first as usize];
            return Err(ImageError::BlockMissing { id });
        }
        let blocks = match positions.len() == index.ids.len() {
            true => Blocks::named(&index.numbers, distinct.iter().cloned()),
            false => {
                let named = positions.iter().map(|it| &index.ids[*it as usize]);
                let by_id: HashMap<&BlockId, &Arc<Block>> = named.zip(distinct).collect();
                // Each id of the index is among its distinct ones.
                let blocks = index.ids.iter().map(|id| by_id[id].clone());
                Blocks::named(&index.numbers, blocks)
            }
        };
        Ok(Image::of(index, index_bytes, blocks, Some(positions)))
    }

    /// What the image says of itself.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What tells this very image from any other, also from one that is equal to it.
    pub fn mark(&self) -> ImageMark {
        ImageMark(Arc::downgrade(&self.index))
    }

    /// The index as it is encoded: the state of a bundle.
    pub fn index_bytes(&self) -> &Bytes {
        &self.index_bytes
    }

    /// The id of the index, which covers all of the image. Hashed when it is first asked for.
    pub fn id(&self) -> StateId {
        *self.id.get_or_init(|| StateId::of(&self.index_bytes))
    }

    /// The blocks with their numbers, in ascending order.
    pub fn blocks(&self) -> impl Iterator<Item = (u32, &BlockId, &Arc<Block>)> {
        let names = self.index.numbers.iter().zip(&self.index.ids);
        names
            .zip(self.blocks.iter())
            .map(|((number, id), block)| (*number, id, block))
    }

    /// Each block once, in the order in which the index first names it: what travels.
    pub fn distinct(&self) -> impl ExactSizeIterator<Item = (BlockId, &Arc<Block>)> {
        let positions = self.distinct_positions().iter();
        positions.map(|position| {
            let position = *position as usize;
            (self.index.ids[position], self.blocks.at(position))
        })
    }

    /// The id of each of them.
    pub fn distinct_ids(&self) -> impl ExactSizeIterator<Item = &BlockId> {
        let positions = self.distinct_positions().iter();
        positions.map(|position| &self.index.ids[*position as usize])
    }

    /// The block at a place among the distinct ones.
    pub fn distinct_at(&self, place: usize) -> Option<&Arc<Block>> {
        let position = self.distinct_positions().get(place)?;
        Some(self.blocks.at(*position as usize))
    }

    fn distinct_positions(&self) -> &[u32] {
        self.distinct
            .get_or_init(|| distinct::positions(&self.index.ids))
    }

    fn known_distinct(&self) -> Option<&[u32]> {
        self.distinct.get().map(Vec::as_slice)
    }

    /// How many distinct blocks another image lacks.
    pub fn blocks_new_since(&self, other: &Image) -> usize {
        let known = [other];
        let found = Found::new(&self.index, &known);
        let lacking = found.parts.iter().flat_map(|part| part.lacking());
        let lacking: HashSet<_> = lacking.map(|position| self.index.ids[position]).collect();
        lacking.len()
    }

    /// The distinct blocks one after the other, as a file has them.
    pub(crate) fn contents(&self) -> Vec<u8> {
        let distinct = self.distinct();
        let mut contents = Vec::with_capacity(distinct.len() * BLOCK_BYTES);
        for (_, block) in distinct {
            contents.extend_from_slice(&block[..]);
        }
        contents
    }

    /// Bytes of the memory that differ from a fresh instance, by blocks.
    pub fn changed_bytes(&self) -> u64 {
        (self.index.numbers.len() * BLOCK_BYTES) as u64
    }
}

/// Marks an image, which it does not hold.
#[derive(Clone, Debug)]
pub struct ImageMark(Weak<Index>);

impl ImageMark {
    /// Whether it is the mark of this image, or of a clone of it.
    pub fn is_of(&self, image: &Image) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&image.index))
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("memory_pages", &self.index.memory_pages)
            .field("blocks", &self.index.numbers.len())
            .field("globals", &self.index.globals)
            .finish_non_exhaustive()
    }
}
