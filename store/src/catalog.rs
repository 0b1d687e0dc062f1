//! What the store knows in memory: the records without their `meta`, and where each block lies.
//!
//! It takes about 120 bytes for each block that is kept, 3 % of the block, and follows from the
//! database and the packs alone.

mod blocks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::database::{Database, DatabaseError, ImageAt};
use crate::disk::Disk;
use crate::names::{BLOCK_BYTES, BlockId, Key, Kind, Owner};
use crate::pack::{PackError, PackNumber, Place, Table};

pub(crate) use blocks::{Blocks, SlotNumber};

/// What an owner keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many records.
    pub records: u64,
    /// Bytes of `meta`.
    pub meta_bytes: u64,
    /// Bytes of images: each block once, however many images have it, and their indices and lists.
    pub image_bytes: u64,
}

impl Usage {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.meta_bytes + self.image_bytes
    }
}

/// All owners.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) owners: HashMap<Owner, Holding>,
    /// Length of all packs.
    pub(crate) pack_bytes: u64,
    pub(crate) meta_bytes: u64,
}

/// What one owner has. Owners share nothing: see the crate's documentation.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pub(crate) records: BTreeMap<(Kind, [u8; 16]), Entry>,
    pub(crate) packs: BTreeMap<PackNumber, Pack>,
    pub(crate) blocks: Blocks,
    meta_bytes: u64,
    body_bytes: u64,
    /// Images of which it is not known what blocks they have.
    unlisted: usize,
}

#[derive(Debug)]
pub(crate) struct Entry {
    meta_bytes: u32,
    pub(crate) image: Option<Kept>,
}

/// The image of a record.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) at: ImageAt,
    /// Its distinct blocks, in the order of its list; nothing when the list is not readable.
    pub(crate) blocks: Option<Box<[SlotNumber]>>,
}

#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) bytes: u64,
    /// What it holds, or why that is not known.
    pub(crate) table: Result<Table, Arc<PackError>>,
    /// Blocks that an image has, and that are read from here.
    pub(crate) live_blocks: u32,
    live_images: u32,
    live_body_bytes: u64,
    /// A block of it was found damaged, so that it cannot be emptied.
    pub(crate) stuck: bool,
}

impl Pack {
    /// Bytes of blocks, indices and lists that nothing needs.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let Ok(table) = &self.table else {
            return 0;
        };
        let bodies: u64 = table.images.iter().map(Place::bytes).sum();
        let blocks = u64::from(table.blocks - self.live_blocks) * BLOCK_BYTES as u64;
        blocks + bodies - self.live_body_bytes
    }

    pub(crate) fn place(&self, position: u32) -> Result<Place, Arc<PackError>> {
        let table = self.table.as_ref().map_err(Arc::clone)?;
        let place = table.images.get(position as usize).copied();
        place.ok_or_else(|| Arc::new(PackError::Damaged { part: "table" }))
    }
}

/// What is to become of the image of a record.
#[derive(Debug)]
pub(crate) enum Becomes {
    Stays,
    None,
    Is(Kept),
}

/// The blocks of an image that is about to be kept. Those that are known are held meanwhile.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// For each block its slot, when there is one.
    slots: Vec<Option<SlotNumber>>,
    /// Positions of those that must be written.
    pub(crate) lacking: Vec<usize>,
    /// How many of those the owner does not have at all.
    unknown: usize,
    /// Positions of blocks that another image brings which is kept together with this one, and before.
    brought: Vec<usize>,
}

/// Finds blocks of an image that is much like another, in the order of both.
struct Alike<'a> {
    other: &'a [SlotNumber],
    /// Where the other goes on, if what was unknown since was put in.
    next: usize,
    /// How many were unknown since: they may have been put in, or be in the place of others.
    unknown: usize,
    /// How many of the other may still be looked through.
    looks: usize,
}

impl<'a> Alike<'a> {
    /// How often the other image is looked through at most.
    const LOOKS: usize = 4;

    fn new(other: &'a [SlotNumber]) -> Alike<'a> {
        Alike {
            other,
            next: 0,
            unknown: 0,
            looks: Alike::LOOKS * other.len(),
        }
    }

    fn find(&mut self, blocks: &Blocks, id: &BlockId) -> Option<SlotNumber> {
        for at in [self.next, self.next + self.unknown] {
            if let Some(slot) = self.other.get(at)
                && blocks.slot(*slot).id == *id
            {
                self.go_on_behind(at);
                return Some(*slot);
            }
        }
        let Some(slot) = blocks.find(id) else {
            self.unknown += 1;
            return None;
        };
        let (before, behind) = self.other.split_at(self.next.min(self.other.len()));
        let all = (behind.iter().zip(self.next..)).chain(before.iter().zip(0..));
        for (it, at) in all.take(self.looks) {
            self.looks -= 1;
            if *it == slot {
                self.go_on_behind(at);
                break;
            }
        }
        Some(slot)
    }

    fn go_on_behind(&mut self, at: usize) {
        (self.next, self.unknown) = (at + 1, 0);
    }
}

impl Catalog {
    /// Reads database and packs. A pack that cannot be read costs the images that need it, and
    /// nothing else.
    pub(crate) fn load(database: &Database, disk: &dyn Disk) -> Result<Catalog, DatabaseError> {
        let mut catalog = Catalog::default();
        let mut tables = Vec::new();
        for noted in database.packs()? {
            let path = noted.number.path();
            let read = disk.open(&path).map_err(PackError::Io).and_then(|file| {
                let (table, ids) = Table::read(&*file, noted.number, noted.owner)?;
                match table.bytes == noted.bytes {
                    true => Ok((table, ids)),
                    false => Err(PackError::Damaged { part: "length" }),
                }
            });
            let table = match read {
                Ok((table, ids)) => {
                    tables.push((noted.owner, noted.number, ids));
                    Ok(table)
                }
                Err(error) => {
                    tracing::error!(pack = %path, %error, "a pack is not readable");
                    Err(Arc::new(error))
                }
            };
            catalog.put_pack(noted.owner, noted.number, noted.bytes, table);
        }
        let mut records = Vec::new();
        database.records(None, None, |key, stored| {
            records.push((key, stored.image, stored.meta.len()));
        })?;
        for (key, image, meta_bytes) in records {
            let holding = catalog.owners.entry(key.owner).or_default();
            let becomes = match image {
                None => Becomes::None,
                Some(at) => Becomes::Is(Kept {
                    at,
                    blocks: holding.read_list(disk, at),
                }),
            };
            catalog.put(&key, meta_bytes, becomes);
        }
        // Ascending: of a block that lies in two packs the newer is good, since a block is written
        // again only when the older is found damaged.
        for (owner, number, ids) in tables {
            let holding = catalog.owners.entry(owner).or_default();
            for (position, id) in ids.iter().enumerate() {
                if let Some(slot) = holding.blocks.find(id) {
                    holding.move_block(slot, number, position as u32);
                }
            }
        }
        Ok(catalog)
    }

    pub(crate) fn put_pack(
        &mut self,
        owner: Owner,
        number: PackNumber,
        bytes: u64,
        table: Result<Table, Arc<PackError>>,
    ) {
        self.pack_bytes += bytes;
        let pack = Pack {
            bytes,
            table,
            live_blocks: 0,
            live_images: 0,
            live_body_bytes: 0,
            stuck: false,
        };
        let holding = self.owners.entry(owner).or_default();
        holding.packs.insert(number, pack);
    }

    /// Puts a record in the place of what was there.
    pub(crate) fn put(&mut self, key: &Key, meta_bytes: usize, image: Becomes) {
        let holding = self.owners.entry(key.owner).or_default();
        let old = holding.records.remove(&(key.kind, key.id));
        let mut old_image = None;
        if let Some(old) = old {
            holding.meta_bytes -= u64::from(old.meta_bytes);
            self.meta_bytes -= u64::from(old.meta_bytes);
            old_image = old.image;
        }
        holding.meta_bytes += meta_bytes as u64;
        self.meta_bytes += meta_bytes as u64;
        let image = match image {
            Becomes::Stays => old_image,
            Becomes::None => {
                holding.let_go(old_image);
                None
            }
            Becomes::Is(kept) => {
                holding.note_image(&kept);
                holding.let_go(old_image);
                Some(kept)
            }
        };
        let entry = Entry {
            meta_bytes: meta_bytes as u32,
            image,
        };
        holding.records.insert((key.kind, key.id), entry);
    }

    /// Removes a record; false when there is none.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let Some(holding) = self.owners.get_mut(&key.owner) else {
            return false;
        };
        let Some(old) = holding.records.remove(&(key.kind, key.id)) else {
            return false;
        };
        holding.meta_bytes -= u64::from(old.meta_bytes);
        self.meta_bytes -= u64::from(old.meta_bytes);
        holding.let_go(old.image);
        true
    }

    /// Takes out the packs of an owner that nothing needs, and says which.
    pub(crate) fn take_dead(&mut self, owner: Owner) -> Vec<(PackNumber, u64)> {
        let Some(holding) = self.owners.get_mut(&owner) else {
            return Vec::new();
        };
        let dead = holding.dead();
        for (number, bytes) in &dead {
            holding.packs.remove(number);
            self.pack_bytes -= bytes;
        }
        if holding.is_empty() {
            self.owners.remove(&owner);
        }
        dead
    }

    pub(crate) fn entry(&self, key: &Key) -> Option<&Entry> {
        let holding = self.owners.get(&key.owner)?;
        holding.records.get(&(key.kind, key.id))
    }

    pub(crate) fn usage(&self, owner: &Owner) -> Usage {
        let holding = self.owners.get(owner);
        holding.map(Holding::usage).unwrap_or_default()
    }

    /// What the owner will keep when records are put: of each the bytes of its `meta`, and, if it is to
    /// have another image than it has, the blocks of that, and the bytes of its index and list.
    pub(crate) fn usage_after<'a>(
        &self,
        owner: &Owner,
        records: impl IntoIterator<Item = (&'a Key, usize, Option<(&'a Pinned, u64)>)>,
    ) -> Usage {
        let nothing = Holding::default();
        let holding = self.owners.get(owner).unwrap_or(&nothing);
        let mut usage = holding.usage();
        for (key, meta_bytes, image) in records {
            holding.put_into(&mut usage, key, meta_bytes, image);
        }
        usage
    }

    /// Notes that bytes in this pack are not those of the block that they were written as.
    pub(crate) fn note_damage(&mut self, pack: PackNumber) {
        for holding in self.owners.values_mut() {
            if holding.packs.contains_key(&pack) {
                holding.blocks.note_damage(pack);
            }
        }
    }

    /// Whether what is held for images that are to be kept can be read still, as far as is known.
    pub(crate) fn are_good(&self, owner: Owner, pinned: &[Pinned]) -> bool {
        let Some(holding) = self.owners.get(&owner) else {
            return true;
        };
        holding.blocks.all_are_good() || pinned.iter().all(|pinned| holding.are_good(pinned))
    }

    /// Whether the image of a record can be read, as far as is known. False when there is none.
    pub(crate) fn is_good(&self, key: &Key) -> bool {
        let kept = self.entry(key).and_then(|entry| entry.image.as_ref());
        let holding = self.owners.get(&key.owner);
        kept.zip(holding).is_some_and(|(kept, holding)| {
            let blocks = &holding.blocks;
            let listed = kept.blocks.as_deref();
            blocks.is_good_pack(kept.at.pack)
                && listed.is_some_and(|listed| listed.iter().all(|slot| blocks.is_good(*slot)))
        })
    }

    /// Lets go of blocks that were held for images that are not to be kept.
    pub(crate) fn unpin(&mut self, owner: Owner, pinned: Vec<Pinned>) {
        let Some(holding) = self.owners.get_mut(&owner) else {
            return;
        };
        for slot in pinned.into_iter().flat_map(|pinned| pinned.slots).flatten() {
            holding.let_go_of_block(slot);
        }
        if holding.is_empty() {
            self.owners.remove(&owner);
        }
    }
}

impl Holding {
    fn are_good(&self, pinned: &Pinned) -> bool {
        let mut lacking = pinned.lacking.iter().peekable();
        pinned.slots.iter().enumerate().all(|(position, slot)| {
            let is_written = lacking.next_if_eq(&&position).is_some();
            is_written || slot.is_none_or(|slot| self.blocks.is_good(slot))
        })
    }

    fn usage(&self) -> Usage {
        Usage {
            records: self.records.len() as u64,
            meta_bytes: self.meta_bytes,
            image_bytes: self.body_bytes + self.blocks.len() as u64 * BLOCK_BYTES as u64,
        }
    }

    fn put_into(
        &self,
        usage: &mut Usage,
        key: &Key,
        meta_bytes: usize,
        image: Option<(&Pinned, u64)>,
    ) {
        let old = self.records.get(&(key.kind, key.id));
        usage.records += u64::from(old.is_none());
        usage.meta_bytes += meta_bytes as u64;
        usage.meta_bytes -= old.map_or(0, |old| u64::from(old.meta_bytes));
        let Some((pinned, body_bytes)) = image else {
            return;
        };
        usage.image_bytes += body_bytes + (pinned.unknown * BLOCK_BYTES) as u64;
        if let Some(old) = old.and_then(|old| old.image.as_ref()) {
            // What the new image has of it is held twice now.
            let blocks = old.blocks.iter().flatten();
            let only_here = blocks.filter(|slot| self.blocks.slot(**slot).holders == 1);
            usage.image_bytes -= (only_here.count() * BLOCK_BYTES) as u64;
            usage.image_bytes -= self.place(old.at).map_or(0, |place| place.bytes());
        }
    }

    /// Holds the blocks of these ids that the owner has. Most may be those of the record `like`, in its
    /// order: they are found without hashing.
    ///
    /// `brought` are the ids that images bring which are kept together with this one, and before; those
    /// that this one brings are put in.
    pub(crate) fn pin(
        &mut self,
        ids: &[BlockId],
        like: &Key,
        brought: &mut HashSet<BlockId>,
    ) -> Pinned {
        let like = self.records.get(&(like.kind, like.id));
        let like = like.and_then(|entry| entry.image.as_ref()?.blocks.as_deref());
        let mut alike = Alike::new(like.unwrap_or_default());
        let mut pinned = Pinned {
            slots: Vec::with_capacity(ids.len()),
            lacking: Vec::new(),
            unknown: 0,
            brought: Vec::new(),
        };
        for (position, id) in ids.iter().enumerate() {
            let slot = alike.find(&self.blocks, id);
            match slot {
                Some(slot) => {
                    self.blocks.hold(slot);
                    if !self.blocks.is_good(slot) {
                        pinned.lacking.push(position);
                    }
                }
                None if brought.contains(id) => pinned.brought.push(position),
                None => {
                    pinned.unknown += 1;
                    pinned.lacking.push(position);
                }
            }
            pinned.slots.push(slot);
        }
        let lacking = pinned.lacking.iter().map(|position| ids[*position]);
        brought.extend(lacking);
        pinned
    }

    /// The blocks of an image of which the lacking ones lie in a pack now, from this position on, in
    /// their order.
    pub(crate) fn settle(
        &mut self,
        mut pinned: Pinned,
        ids: &[BlockId],
        (pack, first): (PackNumber, u32),
    ) -> Box<[SlotNumber]> {
        for (position_in_pack, position) in (first..).zip(pinned.lacking) {
            let id = ids[position];
            let slot = match (pinned.slots[position], self.blocks.find(&id)) {
                (Some(held), _) => held,
                (None, Some(known)) => {
                    // Saved meanwhile by another call, or named twice by this one.
                    self.blocks.hold(known);
                    known
                }
                (None, None) => self.blocks.insert(id),
            };
            pinned.slots[position] = Some(slot);
            if !self.blocks.is_good(slot) {
                self.move_block(slot, pack, position_in_pack);
            }
        }
        for position in pinned.brought {
            let slot = self.blocks.find(&ids[position]);
            let slot = slot.expect("the image that brings it was settled before, and is held");
            self.blocks.hold(slot);
            pinned.slots[position] = Some(slot);
        }
        let slots = pinned.slots.into_iter();
        slots
            .map(|slot| slot.expect("each block was found, is lacking or was brought"))
            .collect()
    }

    /// Notes that a block is read from there from now on.
    pub(crate) fn move_block(&mut self, slot: SlotNumber, pack: PackNumber, position: u32) {
        if let Some((old, _)) = self.blocks.slot(slot).at()
            && let Some(old) = self.packs.get_mut(&old)
        {
            old.live_blocks -= 1;
        }
        self.blocks.put_at(slot, pack, position);
        if let Some(pack) = self.packs.get_mut(&pack) {
            pack.live_blocks += 1;
        }
    }

    /// Gives the image of a record another place, which has the same bytes; false when it is not the
    /// record's any more.
    pub(crate) fn move_image(
        &mut self,
        kind: Kind,
        id: [u8; 16],
        from: ImageAt,
        to: ImageAt,
    ) -> bool {
        let entry = self.records.get_mut(&(kind, id));
        let kept = entry.and_then(|entry| entry.image.as_mut());
        let Some(kept) = kept.filter(|kept| kept.at == from) else {
            return false;
        };
        kept.at = to;
        self.count_body(to, 1);
        self.count_body(from, -1);
        true
    }

    pub(crate) fn place(&self, at: ImageAt) -> Result<Place, Arc<PackError>> {
        match self.packs.get(&at.pack) {
            Some(pack) => pack.place(at.position),
            None => Err(Arc::new(PackError::Damaged { part: "record" })),
        }
    }

    /// Reads which blocks an image has, and holds them. Of those that are in no pack yet nothing but
    /// the id is known then.
    fn read_list(&mut self, disk: &dyn Disk, at: ImageAt) -> Option<Box<[SlotNumber]>> {
        let read = self.place(at).and_then(|place| {
            let file = disk.open(&at.pack.path()).map_err(PackError::Io);
            Ok(file.and_then(|file| place.read_ids(&*file))?)
        });
        match read {
            Ok(ids) => {
                let slots = ids.into_iter().map(|id| match self.blocks.find(&id) {
                    Some(slot) => {
                        self.blocks.hold(slot);
                        slot
                    }
                    None => self.blocks.insert(id),
                });
                Some(slots.collect())
            }
            Err(error) => {
                let pack = at.pack.path();
                tracing::error!(%pack, image = at.position, %error, "an image is not readable");
                None
            }
        }
    }

    fn note_image(&mut self, kept: &Kept) {
        self.count_body(kept.at, 1);
        self.unlisted += usize::from(kept.blocks.is_none());
    }

    fn let_go(&mut self, image: Option<Kept>) {
        let Some(kept) = image else { return };
        self.count_body(kept.at, -1);
        match kept.blocks {
            None => self.unlisted -= 1,
            Some(blocks) => {
                for slot in blocks {
                    self.let_go_of_block(slot);
                }
            }
        }
    }

    /// Counts an image in its pack and for its owner, or uncounts it.
    fn count_body(&mut self, at: ImageAt, by: i64) {
        let Ok(bytes) = self.place(at).map(|place| place.bytes()) else {
            return;
        };
        let bytes = bytes as i64 * by;
        self.body_bytes = self.body_bytes.saturating_add_signed(bytes);
        if let Some(pack) = self.packs.get_mut(&at.pack) {
            pack.live_images = pack.live_images.saturating_add_signed(by as i32);
            pack.live_body_bytes = pack.live_body_bytes.saturating_add_signed(bytes);
        }
    }

    fn let_go_of_block(&mut self, slot: SlotNumber) {
        if let Some(Some((pack, _))) = self.blocks.let_go(slot)
            && let Some(pack) = self.packs.get_mut(&pack)
        {
            pack.live_blocks -= 1;
        }
    }

    /// Packs that nothing needs, with their lengths. As long as it is not known what some image
    /// needs, none; and a pack whose table is not readable may hold any block that is missing.
    fn dead(&self) -> Vec<(PackNumber, u64)> {
        if self.unlisted > 0 {
            return Vec::new();
        }
        let dead = self.packs.iter().filter(|(_, pack)| {
            let maybe_needed = pack.table.is_err() && self.blocks.missing() > 0;
            pack.live_blocks == 0 && pack.live_images == 0 && !maybe_needed
        });
        dead.map(|(number, pack)| (*number, pack.bytes)).collect()
    }

    /// Packs at least half of which nothing needs, the emptiest first. None as long as it is not
    /// known what some image needs.
    pub(crate) fn half_dead(&self) -> Vec<(PackNumber, u64)> {
        if self.unlisted > 0 {
            return Vec::new();
        }
        let packs = self.packs.iter().filter(|(_, pack)| !pack.stuck);
        let packs = packs.map(|(number, pack)| (*number, pack.dead_bytes(), pack.bytes));
        let half_dead = packs.filter(|(_, dead, all)| *dead > 0 && dead * 2 >= *all);
        let mut half_dead: Vec<_> = half_dead.map(|(number, dead, _)| (number, dead)).collect();
        half_dead.sort_unstable_by_key(|(_, dead)| std::cmp::Reverse(*dead));
        half_dead
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.packs.is_empty() && self.blocks.len() == 0
    }
}
