//! Reading images: each block is held against its id.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::disk::{Disk, DiskFile};
use crate::names::{BLOCK_BYTES, Block, BlockId, Key};
use crate::pack::{self, PackError, PackNumber};
use crate::store::{DiskError, Reader, Store};

/// Blocks that are read with one call to the system.
const RUN_BLOCKS: usize = 128;

/// Runs from which a second thread pays.
const RUNS_SHARED_MIN: usize = 4;

/// Why an image, or a block of one, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes of a block on the disk are not those that were written.
    #[error("block {id} is damaged in {pack}")]
    DamagedBlock {
        /// Its id
        id: BlockId,
        /// The file that it is in
        pack: String,
    },
    /// A block is in no file that can be read.
    #[error("block {id} is missing")]
    MissingBlock {
        /// Its id
        id: BlockId,
    },
    /// The file of the image cannot be used, or its index is damaged.
    #[error("{pack}")]
    Pack {
        /// The file
        pack: String,
        /// Why
        #[source]
        source: Arc<PackError>,
    },
    /// The disk does not serve.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// An image as it is in the store. It stays readable as long as this is held, whatever becomes of
/// its record.
pub struct SavedImage {
    reader: Reader,
    index: Vec<u8>,
    ids: Vec<BlockId>,
    places: Vec<Option<(PackNumber, u32)>>,
}

impl fmt::Debug for SavedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedImage")
            .field("index_bytes", &self.index.len())
            .field("blocks", &self.ids.len())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The image of this record; nothing when there is no record, or it has none.
    ///
    /// # Errors
    ///
    /// When its index or the list of its blocks cannot be read. Blocks are looked at in
    /// [`SavedImage::read`].
    pub fn image(&self, key: &Key) -> Result<Option<SavedImage>, ReadError> {
        let inner = &self.inner;
        let mut shared = inner.lock();
        let opened = inner.ready(&mut shared)?;
        let Some(holding) = opened.catalog.owners.get(&key.owner) else {
            return Ok(None);
        };
        let entry = holding.records.get(&(key.kind, key.id));
        let Some(kept) = entry.and_then(|entry| entry.image.as_ref()) else {
            return Ok(None);
        };
        let at = kept.at;
        let failed = |source| ReadError::Pack {
            pack: at.pack.path(),
            source,
        };
        let place = holding.place(at).map_err(failed)?;
        let Some(blocks) = &kept.blocks else {
            let part = "list of blocks";
            return Err(failed(Arc::new(PackError::Damaged { part })));
        };
        let slots = blocks.iter().map(|slot| holding.blocks.slot(*slot));
        let (ids, places) = slots.map(|slot| (slot.id, slot.at())).unzip();
        let mut image = SavedImage {
            reader: shared.begin_reader(inner),
            index: Vec::new(),
            ids,
            places,
        };
        drop(shared);
        let file = inner.disk.open(&at.pack.path()).map_err(PackError::Io);
        let index = file.and_then(|file| place.read_index(&*file));
        image.index = index.map_err(|error| {
            inner.note_damage(at.pack);
            failed(Arc::new(error))
        })?;
        Ok(Some(image))
    }
}

impl SavedImage {
    /// The index, as it was saved.
    pub fn index(&self) -> &[u8] {
        &self.index
    }

    /// The ids of its blocks, as they were saved.
    pub fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// Reads the blocks at these positions of [`SavedImage::ids`], in an order that suits the disk,
    /// and gives each to `block` after its bytes were held against its id.
    ///
    /// # Errors
    ///
    /// Names the first block that is damaged or missing. `block` may have had others before, and gets
    /// none after.
    pub fn read(
        &self,
        positions: impl IntoIterator<Item = usize>,
        block: impl FnMut(usize, &Block),
    ) -> Result<(), ReadError> {
        let (wanted, missing) = self.wanted(positions);
        let read = match missing {
            None => self.read_wanted(&wanted, block),
            Some(id) => Err(ReadError::MissingBlock { id }),
        };
        if read.is_err() {
            self.look_for_damage(&wanted);
        }
        read
    }

    /// Reads all that was wanted once more, where some could not be read: nothing new is to be kept as
    /// what lies in a pack that is not what it was.
    fn look_for_damage(&self, wanted: &[Wanted]) {
        let mut source = Source::new(&*self.reader.inner.disk);
        for of_pack in wanted.chunk_by(|one, next| one.pack == next.pack) {
            let mut runs = runs_of(of_pack).into_iter();
            if let Some(fault) = runs.find_map(|run| source.read(run).err()) {
                self.reader.inner.note_damage(fault.pack());
            }
        }
    }

    fn read_wanted(
        &self,
        wanted: &[Wanted],
        mut block: impl FnMut(usize, &Block),
    ) -> Result<(), ReadError> {
        let runs = runs_of(wanted);
        let next = AtomicUsize::new(0);
        let take = || runs.get(next.fetch_add(1, Ordering::Relaxed)).copied();
        let mut source = Source::new(&*self.reader.inner.disk);
        if runs.len() < RUNS_SHARED_MIN {
            while let Some(run) = take() {
                let read = source.read(run);
                give(run, read.map_err(|fault| self.error(fault))?, &mut block);
            }
            return Ok(());
        }
        // Hashing takes most of the time, so a second thread takes runs too. It gives none out: what
        // the caller does with them need not be fit for threads.
        thread::scope(|scope| {
            let (to_caller, from_helper) = mpsc::sync_channel(RUNS_SHARED_MIN);
            let (to_helper, used) = mpsc::channel();
            scope.spawn({
                let take = &take;
                move || {
                    let mut source = Source::new(&*self.reader.inner.disk);
                    while let Some(run) = take() {
                        source.buffer = used.try_recv().unwrap_or_default();
                        let read = source.read(run).map(|_| ());
                        let buffer = std::mem::take(&mut source.buffer);
                        if to_caller.send((run, read, buffer)).is_err() {
                            // The caller has met an error.
                            return;
                        }
                    }
                }
            });
            let give_helpers = |run, read: Result<(), Fault>, buffer: Vec<u8>, block: &mut _| {
                read.map_err(|fault| self.error(fault))?;
                give(run, blocks_of(&buffer), block);
                // The helper has ended when it does not take it.
                let _ = to_helper.send(buffer);
                Ok::<_, ReadError>(())
            };
            while let Some(run) = take() {
                let read = source.read(run);
                give(run, read.map_err(|fault| self.error(fault))?, &mut block);
                while let Ok((run, read, buffer)) = from_helper.try_recv() {
                    give_helpers(run, read, buffer, &mut block)?;
                }
            }
            for (run, read, buffer) in from_helper {
                give_helpers(run, read, buffer, &mut block)?;
            }
            Ok(())
        })
    }

    /// The blocks at these positions in the order in which they lie on the disk, and one that does not.
    fn wanted(&self, positions: impl IntoIterator<Item = usize>) -> (Vec<Wanted>, Option<BlockId>) {
        let (mut wanted, mut missing) = (Vec::new(), None);
        for position in positions {
            let id = self.ids[position];
            match self.places[position] {
                Some((pack, at)) => wanted.push(Wanted {
                    pack,
                    at,
                    id,
                    position,
                }),
                None => missing = missing.or(Some(id)),
            }
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.pack, wanted.at));
        (wanted, missing)
    }

    fn error(&self, fault: Fault) -> ReadError {
        match fault {
            Fault::Io(pack, source) => ReadError::Disk(DiskError::Io {
                path: pack.path(),
                source,
            }),
            Fault::Damaged(Wanted { pack, id, .. }) => {
                let path = pack.path();
                tracing::error!(block = %id, pack = %path, "a block is damaged");
                ReadError::DamagedBlock { id, pack: path }
            }
        }
    }
}

/// A block that is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) pack: PackNumber,
    /// Its position in the pack.
    pub(crate) at: u32,
    pub(crate) id: BlockId,
    /// Its position for who asks.
    pub(crate) position: usize,
}

/// Why a run could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(PackNumber, io::Error),
    Damaged(Wanted),
}

impl Fault {
    fn pack(&self) -> PackNumber {
        match self {
            Fault::Io(pack, _) | Fault::Damaged(Wanted { pack, .. }) => *pack,
        }
    }
}

/// Reads runs of blocks, and checks each block.
pub(crate) struct Source<'a> {
    disk: &'a dyn Disk,
    /// The pack that was read last.
    file: Option<(PackNumber, Box<dyn DiskFile>)>,
    buffer: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(disk: &'a dyn Disk) -> Self {
        Source {
            disk,
            file: None,
            buffer: Vec::new(),
        }
    }

    /// Reads blocks that lie one after the other in one pack.
    pub(crate) fn read(&mut self, run: &[Wanted]) -> Result<&[Block], Fault> {
        let Some(first) = run.first() else {
            return Ok(&[]);
        };
        let pack = first.pack;
        let failed = |error| Fault::Io(pack, error);
        if self.file.as_ref().is_none_or(|(open, _)| *open != pack) {
            let file = self.disk.open(&pack.path()).map_err(failed)?;
            self.file = Some((pack, file));
        }
        let (_, file) = self.file.as_ref().expect("it was just opened");
        self.buffer.resize(run.len() * BLOCK_BYTES, 0);
        let offset = pack::block_offset(first.at);
        file.read_at(offset, &mut self.buffer).map_err(failed)?;
        let blocks = blocks_of(&self.buffer);
        for (wanted, block) in run.iter().zip(blocks) {
            if BlockId::of(block) != wanted.id {
                return Err(Fault::Damaged(*wanted));
            }
        }
        Ok(blocks)
    }
}

/// Splits what is wanted, in the order of places, into runs of a bounded length.
pub(crate) fn runs_of(wanted: &[Wanted]) -> Vec<&[Wanted]> {
    let next_to = |one: &Wanted, next: &Wanted| one.pack == next.pack && one.at + 1 == next.at;
    let runs = wanted.chunk_by(next_to);
    runs.flat_map(|run| run.chunks(RUN_BLOCKS)).collect()
}

fn blocks_of(bytes: &[u8]) -> &[Block] {
    bytes.as_chunks().0
}

fn give(run: &[Wanted], blocks: &[Block], block: &mut impl FnMut(usize, &Block)) {
    for (wanted, bytes) in run.iter().zip(blocks) {
        block(wanted.position, bytes);
    }
}
