//! Compaction: what is still needed of packs that are half dead goes into a new one.

use std::sync::Arc;

use crate::catalog::Holding;
use crate::database::{Change, ImageAt};
use crate::names::{BLOCK_BYTES, Block, BlockId, Key, Kind, Owner};
use crate::pack::{Body, PackError, PackNumber, Place, Plan, Table};
use crate::read::{Fault, Source, Wanted, runs_of};
use crate::store::{DiskError, Inner, Reader, Store};

/// Bytes that one call of [`Store::compact`] moves, or a block or an index more. As much is held in
/// memory meanwhile, and may lie on the disk beyond the store's maximum.
pub const COMPACT_BYTES: u64 = 16 << 20;

/// What one call of [`Store::compact`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the new pack.
    pub written_bytes: u64,
    /// Bytes of packs that nothing needs any more.
    pub freed_bytes: u64,
}

impl Store {
    /// Does a bounded piece of the work of giving back what dead blocks take; nothing when there is
    /// none to be done. A save that finds no room calls it by itself.
    ///
    /// # Errors
    ///
    /// When the disk does not serve. A damaged block is no error: its pack stays as it is.
    pub fn compact(&self) -> Result<Option<Compacted>, DiskError> {
        self.inner.compact()
    }
}

/// Packs of an owner that are to be emptied.
struct Chosen {
    owner: Owner,
    packs: Vec<PackNumber>,
    /// Keeps them on the disk.
    _reader: Reader,
}

/// What is needed of them, as far as one call moves it.
#[derive(Default)]
struct Live {
    generation: u64,
    blocks: Vec<Wanted>,
    images: Vec<Moving>,
    bytes: u64,
}

/// An image that is to be moved.
struct Moving {
    kind: Kind,
    id: [u8; 16],
    at: ImageAt,
    place: Place,
}

/// The bytes of what is moved.
struct Read {
    blocks: Vec<Block>,
    bodies: Vec<(Vec<u8>, Vec<BlockId>)>,
}

impl Inner {
    pub(crate) fn compact(self: &Arc<Self>) -> Result<Option<Compacted>, DiskError> {
        let Some(chosen) = self.choose()? else {
            return Ok(None);
        };
        let owner = chosen.owner;
        let mut tables = Vec::new();
        for number in &chosen.packs {
            let file = self.disk.open(&number.path()).map_err(PackError::Io);
            match file.and_then(|file| Table::read(&*file, *number, owner)) {
                Ok((_, ids)) => tables.push((*number, ids)),
                Err(error) => self.leave(owner, *number, &error),
            }
        }
        let live = self.live(owner, &tables)?;
        let Some(read) = self.read_live(owner, &live) else {
            return Ok(Some(Compacted::default()));
        };
        self.put_live(owner, &live, &read).map(Some)
    }

    /// The packs of which most is dead, with others of the same owner, as one call can empty them.
    fn choose(self: &Arc<Self>) -> Result<Option<Chosen>, DiskError> {
        let mut shared = self.lock();
        let catalog = &self.ready(&mut shared)?.catalog;
        let owners = catalog.owners.iter();
        let candidates = owners.map(|(owner, holding)| (*owner, holding.half_dead()));
        let most_dead = |packs: &[(PackNumber, u64)]| packs.first().map_or(0, |(_, dead)| *dead);
        let best = candidates.max_by_key(|(_, packs)| most_dead(packs));
        let Some((owner, packs)) = best.filter(|(_, packs)| !packs.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Chosen {
            owner,
            packs: packs.into_iter().map(|(number, _)| number).collect(),
            _reader: shared.begin_reader(self),
        }))
    }

    /// Looks up what is needed of these packs.
    fn live(&self, owner: Owner, tables: &[(PackNumber, Vec<BlockId>)]) -> Result<Live, DiskError> {
        let mut shared = self.lock();
        let generation = shared.generation;
        let catalog = &self.ready(&mut shared)?.catalog;
        let mut live = Live {
            generation,
            ..Live::default()
        };
        if let Some(holding) = catalog.owners.get(&owner) {
            for (number, ids) in tables {
                live.add(holding, *number, ids);
            }
        }
        Ok(live)
    }

    /// Reads and checks what is to be moved. Nothing when some of it is damaged; that pack is not
    /// chosen again.
    fn read_live(&self, owner: Owner, live: &Live) -> Option<Read> {
        let mut read = Read {
            blocks: Vec::with_capacity(live.blocks.len()),
            bodies: Vec::with_capacity(live.images.len()),
        };
        let mut source = Source::new(&*self.disk);
        for run in runs_of(&live.blocks) {
            match source.read(run) {
                Ok(blocks) => read.blocks.extend_from_slice(blocks),
                Err(Fault::Damaged(Wanted { pack, .. })) => {
                    self.leave(owner, pack, &PackError::Damaged { part: "block" });
                    return None;
                }
                Err(Fault::Io(pack, error)) => {
                    self.leave(owner, pack, &PackError::Io(error));
                    return None;
                }
            }
        }
        for image in &live.images {
            let pack = image.at.pack;
            let file = self.disk.open(&pack.path()).map_err(PackError::Io);
            let body = file.and_then(|file| {
                let index = image.place.read_index(&*file)?;
                Ok((index, image.place.read_ids(&*file)?))
            });
            match body {
                Ok(body) => read.bodies.push(body),
                Err(error) => {
                    self.leave(owner, pack, &error);
                    return None;
                }
            }
        }
        Some(read)
    }

    /// Writes what was read into a new pack, and makes it the place of whatever is still needed.
    fn put_live(&self, owner: Owner, live: &Live, read: &Read) -> Result<Compacted, DiskError> {
        let bodies = read.bodies.iter();
        let mut plan = Plan {
            number: PackNumber(0),
            owner,
            blocks: live.blocks.iter().map(|wanted| wanted.id).collect(),
            images: bodies.map(|(index, ids)| Body { index, ids }).collect(),
        };
        if plan.blocks.is_empty() && plan.images.is_empty() {
            // What was left of the packs has gone meanwhile.
            let freed_bytes = self.finish(self.lock(), owner, Vec::new())?;
            return Ok(Compacted {
                written_bytes: 0,
                freed_bytes,
            });
        }
        let bytes = plan.bytes();
        let pack = self.lock().begin_pack(self, bytes);
        let number = pack.number;
        plan.number = number;
        let blocks: Vec<&Block> = read.blocks.iter().collect();
        let table = plan.write(&*self.disk, &blocks);
        let table = table.map_err(DiskError::io(number.path()))?;

        let mut shared = self.lock();
        if shared.generation != live.generation {
            drop(shared);
            self.remove_packs([number]);
            return Ok(Compacted::default());
        }
        shared.end_pack(number);
        let catalog = &mut self.ready(&mut shared)?.catalog;
        catalog.put_pack(owner, number, bytes, Ok(table));
        let holding = catalog.owners.entry(owner).or_default();
        let mut changes = vec![Change::PutPack {
            number,
            owner,
            bytes,
        }];
        for (position, wanted) in live.blocks.iter().enumerate() {
            let slot = holding.blocks.find(&wanted.id);
            let slot = slot
                .filter(|slot| holding.blocks.slot(*slot).at() == Some((wanted.pack, wanted.at)));
            if let Some(slot) = slot {
                holding.move_block(slot, number, position as u32);
            }
        }
        for (position, moving) in live.images.iter().enumerate() {
            let at = ImageAt {
                pack: number,
                position: position as u32,
            };
            if holding.move_image(moving.kind, moving.id, moving.at, at) {
                let key = Key {
                    owner,
                    kind: moving.kind,
                    id: moving.id,
                };
                changes.push(Change::MoveImage { key, image: at });
            }
        }
        let freed_bytes = self.finish(shared, owner, changes)?;
        Ok(Compacted {
            written_bytes: bytes,
            freed_bytes,
        })
    }

    /// Notes that a pack is not to be chosen again as long as the store is open.
    fn leave(&self, owner: Owner, number: PackNumber, error: &PackError) {
        let pack = number.path();
        tracing::error!(%pack, %error, "a pack cannot be compacted");
        self.note_damage(number);
        let mut shared = self.lock();
        if let Ok(opened) = self.ready(&mut shared)
            && let Some(holding) = opened.catalog.owners.get_mut(&owner)
            && let Some(pack) = holding.packs.get_mut(&number)
        {
            pack.stuck = true;
        }
    }
}

impl Live {
    /// Adds what is needed of a pack, as long as there is less than one call moves.
    fn add(&mut self, holding: &Holding, number: PackNumber, ids: &[BlockId]) {
        for ((kind, id), entry) in &holding.records {
            let Some(at) = entry.image.as_ref().map(|kept| kept.at) else {
                continue;
            };
            if at.pack != number || self.bytes >= COMPACT_BYTES {
                continue;
            }
            if let Ok(place) = holding.place(at) {
                self.bytes += place.bytes();
                self.images.push(Moving {
                    kind: *kind,
                    id: *id,
                    at,
                    place,
                });
            }
        }
        for (at, id) in (0..).zip(ids) {
            if self.bytes >= COMPACT_BYTES {
                return;
            }
            let slot = holding.blocks.find(id);
            let is_here = |slot| holding.blocks.slot(slot).at() == Some((number, at));
            if slot.is_some_and(is_here) {
                self.bytes += BLOCK_BYTES as u64;
                self.blocks.push(Wanted {
                    pack: number,
                    at,
                    id: *id,
                    position: 0,
                });
            }
        }
    }
}
