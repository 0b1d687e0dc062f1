//! The index of an image, layout 1. Frozen: a field more or less is another layout.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spore_value::{Limits, codec};

use super::{
    BLOCKS_PER_PAGE, BOUND_MAX, CLOCK_NS_MAX, GLOBALS_MAX, ImageError, PAGES_MAX, RUN_ITEMS_MAX,
};
use crate::ids::{BlockId, CodeId, ID_BYTES};
use crate::limits::GRANTS_MAX;
use crate::manifest::{Manifest, StateKind};
use crate::module::ValueType;

/// What an image is made of. The order of fields is the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The code whose instance it is of.
    pub code: CodeId,
    /// Size of the memory, in pages of 64 KiB.
    pub memory_pages: u32,
    /// Numbers of the blocks that differ from a fresh instance, ascending. Block *n* begins at
    /// address 4,096 *n*.
    pub numbers: Vec<u32>,
    /// The id of each, in the same order.
    #[serde(with = "ids")]
    pub ids: Vec<BlockId>,
    /// The mutable globals that differ from a fresh instance, by ascending index.
    pub globals: Vec<Global>,
    /// The latest that the guest's monotonic clock has shown, in nanoseconds. It goes on from there.
    pub clock_ns: u64,
    /// Where the random bytes of the run go on; nothing when they are to be new ones.
    pub random: Option<Random>,
    /// Names of the granted directories, in the order of their numbers in WASI, from 3.
    pub directories: Vec<String>,
    /// Captures that are bound, by ascending index of their callable.
    pub bound: Vec<Bound>,
    /// The run that the image holds, when it is that of a job.
    pub run: Option<Run>,
}

/// A mutable global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {
    /// Its index among all globals of the code.
    pub index: u32,
    /// Its value.
    pub value: GlobalValue,
}

/// The value of a global, bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GlobalValue {
    /// `i32`
    I32(u32),
    /// `i64`
    I64(u64),
    /// The bits of an `f32`
    F32(u32),
    /// The bits of an `f64`
    F64(u64),
    /// `v128`
    V128(u128),
}

impl GlobalValue {
    /// The type of the value.
    pub fn ty(&self) -> ValueType {
        match self {
            Self::I32(_) => ValueType::I32,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::V128(_) => ValueType::V128,
        }
    }
}

/// A place in the stream of random bytes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    /// The key of ChaCha12.
    pub key: [u8; 32],
    /// Words of four bytes that were drawn.
    pub position: u64,
}

/// Captures that are bound: a handle of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Index of the callable.
    pub callable: u32,
    /// The handle.
    pub handle: u32,
}

/// A run under way: a task of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the callable.
    pub callable: u32,
    /// The handle that it was started from, which is one of [`Index::bound`].
    pub handle: u32,
    /// The task.
    pub task: u32,
    /// Items that it has emitted.
    pub items: u64,
}

impl Index {
    /// An index of an instance of this code that has no memory and in which nothing has changed.
    pub fn of(code: CodeId) -> Index {
        Index {
            code,
            memory_pages: 0,
            numbers: Vec::new(),
            ids: Vec::new(),
            globals: Vec::new(),
            clock_ns: 0,
            random: None,
            directories: Vec::new(),
            bound: Vec::new(),
            run: None,
        }
    }

    /// Reads an index. What is returned is sound in itself.
    ///
    /// # Errors
    ///
    /// When the bytes are no index, or it contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Index, ImageError> {
        let index: Index =
            codec::decode_serde(bytes, &Limits::default()).map_err(ImageError::Index)?;
        index.check()?;
        Ok(index)
    }

    /// Reads the index of the image that a bundle with this manifest has.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode) and [`check_manifest`](Self::check_manifest). An index of a later
    /// layout is not read.
    pub fn of_bundle(bytes: &[u8], manifest: &Manifest) -> Result<Index, ImageError> {
        run_announced(manifest)?;
        let index = Index::decode(bytes)?;
        index.check_manifest(manifest)?;
        Ok(index)
    }

    /// The same without its blocks.
    pub(crate) fn without_blocks(&self) -> Index {
        Index {
            numbers: Vec::new(),
            ids: Vec::new(),
            globals: self.globals.clone(),
            directories: self.directories.clone(),
            bound: self.bound.clone(),
            ..*self
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        const SHALLOW: &str = "an index is nested a few levels deep";
        // Fields lie one after the other. There are so many ids that one more copy of them takes time.
        let Index {
            code,
            memory_pages,
            numbers,
            ids,
            globals,
            clock_ns,
            random,
            directories,
            bound,
            run,
        } = self;
        let before = (code, memory_pages, numbers, ids.len() * ID_BYTES);
        let mut bytes = codec::encode_serde(&before).expect(SHALLOW);
        let behind = (globals, clock_ns, random, directories, bound, run);
        let behind = codec::encode_serde(&behind).expect(SHALLOW);
        bytes.reserve_exact(ids.len() * ID_BYTES + behind.len());
        for id in ids {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&behind);
        debug_assert_eq!(bytes, codec::encode_serde(self).expect(SHALLOW));
        bytes
    }

    /// How many blocks the memory has.
    pub fn memory_blocks(&self) -> u32 {
        // At most 2²⁰, by the check of pages.
        self.memory_pages.saturating_mul(BLOCKS_PER_PAGE)
    }

    /// How many different blocks the index names.
    pub fn distinct_blocks(&self) -> usize {
        super::distinct::positions(&self.ids).len()
    }

    pub(super) fn check(&self) -> Result<(), ImageError> {
        within("pages", self.memory_pages as usize, PAGES_MAX as usize)?;
        within("globals", self.globals.len(), GLOBALS_MAX)?;
        within("directories", self.directories.len(), GRANTS_MAX)?;
        within("bound captures", self.bound.len(), BOUND_MAX)?;
        if self.numbers.len() != self.ids.len() {
            return Err(ImageError::Ids {
                bytes: self.ids.len() * ID_BYTES,
                blocks: self.numbers.len(),
            });
        }
        if self.clock_ns > CLOCK_NS_MAX {
            return Err(ImageError::Clock {
                found: self.clock_ns,
                limit: CLOCK_NS_MAX,
            });
        }
        ascending("block", self.numbers.iter().copied())?;
        if let Some(last) = self.numbers.last().copied()
            && last >= self.memory_blocks()
        {
            return Err(ImageError::OutsideMemory {
                number: last,
                blocks: self.memory_blocks(),
            });
        }
        ascending("global", self.globals.iter().map(|global| global.index))?;
        ascending(
            "captures of callable",
            self.bound.iter().map(|it| it.callable),
        )?;
        for (position, name) in self.directories.iter().enumerate() {
            let twice = self.directories[..position].contains(name);
            if twice || !crate::manifest::is_plain_name(name) {
                return Err(ImageError::Directory { name: name.clone() });
            }
        }
        if let Some(run) = self.run {
            if run.items > RUN_ITEMS_MAX {
                return Err(ImageError::TooMany {
                    what: "items emitted",
                    count: run.items,
                    limit: RUN_ITEMS_MAX,
                });
            }
            let started_from =
                |bound: &Bound| bound.handle == run.handle && bound.callable == run.callable;
            if !self.bound.iter().any(started_from) {
                return Err(ImageError::RunUnbound {
                    handle: run.handle,
                    callable: run.callable,
                });
            }
        }
        Ok(())
    }

    /// Holds the index against the manifest of its bundle.
    ///
    /// # Errors
    ///
    /// When the two contradict each other.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), ImageError> {
        let said = run_announced(manifest)?;
        if self.code != manifest.code.id {
            return Err(ImageError::OtherCode { found: self.code });
        }
        if self.run.map(|run| run.callable) != said {
            let words = |run| {
                if run {
                    "the run of a callable"
                } else {
                    "no such run"
                }
            };
            return Err(ImageError::Job {
                index: words(self.run.is_some()),
                manifest: words(said.is_some()),
            });
        }
        for bound in &self.bound {
            let index = bound.callable;
            let wrong = |why| Err(ImageError::Callable { index, why });
            match manifest.callables.get(index as usize) {
                None => return wrong("is not in the bundle"),
                // The handle of a run stays, whatever the run has taken out of it.
                Some(_) if said == Some(index) => {}
                Some(callable) if callable.consumes_captures => {
                    return wrong("uses its captures up, so that none stay bound");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// The callable whose run a manifest says that the image holds, if its layout is known.
fn run_announced(manifest: &Manifest) -> Result<Option<u32>, ImageError> {
    match manifest.state.map(|state| state.kind) {
        Some(StateKind::Image { layout, job }) if layout == super::LAYOUT => Ok(job),
        Some(StateKind::Image { layout, .. }) => Err(ImageError::UnknownLayout { found: layout }),
        _ => Ok(None),
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), ImageError> {
    if count > limit {
        return Err(ImageError::TooMany {
            what,
            count: count as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

pub(super) fn ascending(
    what: &'static str,
    numbers: impl Iterator<Item = u32>,
) -> Result<(), ImageError> {
    let mut previous = None;
    for number in numbers {
        if let Some(previous) = previous.filter(|previous| number <= *previous) {
            return Err(ImageError::Order {
                what,
                number,
                previous,
            });
        }
        previous = Some(number);
    }
    Ok(())
}

/// Ids one after the other as one piece of bytes: an image has tens of thousands.
mod ids {
    use super::*;

    pub(super) fn serialize<S: Serializer>(ids: &[BlockId], to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(ids.len() * ID_BYTES);
        for id in ids {
            bytes.extend_from_slice(id.as_bytes());
        }
        to.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<BlockId>, D::Error> {
        struct Ids;
        impl serde::de::Visitor<'_> for Ids {
            type Value = Vec<BlockId>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "ids of {ID_BYTES} bytes each")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
                if rest.is_empty() {
                    Ok(ids.iter().copied().map(BlockId::from).collect())
                } else {
                    Err(E::invalid_length(bytes.len(), &self))
                }
            }
        }
        from.deserialize_bytes(Ids)
    }
}
