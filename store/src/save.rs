//! Saving: a record, with or without an image.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::{Becomes, Kept, Pinned, Usage};
use crate::database::{Change, ImageAt};
use crate::names::{Block, BlockId, Key, Owner};
use crate::pack::{self, Body, PackNumber, Plan};
use crate::store::{DiskError, Inner, Opened, Store};

/// Most bytes of a record's `meta`. What is larger is no note about something, and would make
/// transactions slow for all.
pub const META_BYTES_MAX: usize = 64 << 10;

/// Most bytes of the index of an image. That of a memory of 4 GiB, all of it touched, has 36 MiB.
pub const INDEX_BYTES_MAX: usize = 64 << 20;

/// Most blocks of an image: as many as a memory of 4 GiB has.
pub const BLOCKS_MAX: usize = 1 << 20;

/// Why nothing was saved. But for [`SaveError::Disk`] nothing is changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// Something is larger than the store takes.
    #[error("{what} of {amount}, at most {limit} are taken")]
    TooLarge {
        /// What
        what: &'static str,
        /// How much or many
        amount: usize,
        /// How much or many are taken
        limit: usize,
    },
    /// The record is not as the caller took it to be.
    #[error("the record has changed")]
    Changed,
    /// The owner would keep more than the quota allows.
    #[error(
        "{} records of {} bytes, the quota is {} records of {} bytes",
        after.records, after.bytes(), quota.records_max, quota.bytes_max
    )]
    Quota {
        /// What the owner would keep
        after: Usage,
        /// What it may
        quota: Quota,
    },
    /// The store would hold more than its maximum.
    #[error("{needed} bytes more, the store holds {used} of {limit}")]
    Full {
        /// Bytes that are to be written
        needed: u64,
        /// Bytes that are there
        used: u64,
        /// The store's maximum
        limit: u64,
    },
    /// The store lacks a block, and the caller has not given it.
    #[error("block {id} is neither stored nor given")]
    NoBlock {
        /// Its id
        id: BlockId,
    },
    /// The disk does not serve, or has no space. The record is as before or as it was to be, which
    /// [`Store::load`] tells; never anything between.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// How much an owner may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Most records.
    pub records_max: u64,
    /// Most bytes, as [`Usage::bytes`] counts them.
    pub bytes_max: u64,
}

impl Quota {
    /// As much as the store holds.
    pub const NONE: Quota = Quota {
        records_max: u64::MAX,
        bytes_max: u64::MAX,
    };
}

/// When to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When<'a> {
    /// In any case.
    #[default]
    Always,
    /// When there is no record of this key.
    New,
    /// When the record's `meta` is this.
    MetaIs(&'a [u8]),
}

/// An image to be saved.
#[derive(Clone, Copy)]
pub struct ImageToSave<'a> {
    /// What the host needs besides the blocks, which the store does not look into.
    pub index: &'a [u8],
    /// The id of each distinct block. One that is named twice is written twice.
    ///
    /// The host has computed them itself, or checked the bytes that it was sent against them: the
    /// store does not hash what it writes. It hashes what it reads, so a wrong id is an image lost.
    pub ids: &'a [BlockId],
    /// The bytes of the block at a position of `ids`. Asked for only where the store lacks the
    /// block; then nothing means that the caller does not have it either.
    pub block: &'a dyn Fn(usize) -> Option<&'a Block>,
}

/// What is to be saved.
#[derive(Clone, Copy)]
pub struct Save<'a> {
    meta: &'a [u8],
    image: NewImage<'a>,
    like: Option<&'a Key>,
    when: When<'a>,
    quota: Quota,
}

#[derive(Clone, Copy)]
enum NewImage<'a> {
    Stays,
    None,
    Is(ImageToSave<'a>),
}

impl<'a> Save<'a> {
    /// A record with this `meta`. An image that it has stays.
    pub fn meta(meta: &'a [u8]) -> Save<'a> {
        Save {
            meta,
            image: NewImage::Stays,
            like: None,
            when: When::Always,
            quota: Quota::NONE,
        }
    }

    /// Puts this image in the place of what the record has.
    pub fn with_image(self, image: ImageToSave<'a>) -> Save<'a> {
        let image = NewImage::Is(image);
        Save { image, ..self }
    }

    /// Says which record of the same owner has an image that is much like this one: what both have in
    /// common is found faster. The record itself, by default. Nothing else depends on it.
    pub fn like(self, other: &'a Key) -> Save<'a> {
        let like = Some(other);
        Save { like, ..self }
    }

    /// Takes the image away from the record.
    pub fn without_image(self) -> Save<'a> {
        let image = NewImage::None;
        Save { image, ..self }
    }

    /// Saves only then; otherwise [`SaveError::Changed`]. Always, by default.
    pub fn when(self, when: When<'a>) -> Save<'a> {
        Save { when, ..self }
    }

    /// Saves only when the owner then keeps no more than this. [`Quota::NONE`] by default.
    ///
    /// A record that is there may always be given another `meta`: what a host has to note about
    /// something is never refused for want of room. This holds for the store's maximum too.
    pub fn within(self, quota: Quota) -> Save<'a> {
        Save { quota, ..self }
    }
}

/// What a save has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Blocks that the store lacked.
    pub new_blocks: usize,
    /// Bytes of the file that it made for the image.
    pub written_bytes: u64,
}

impl Store {
    /// Saves a record, durable when this returns.
    ///
    /// # Errors
    ///
    /// See [`SaveError`].
    pub fn save(&self, key: &Key, save: &Save<'_>) -> Result<Saved, SaveError> {
        match save.image {
            NewImage::Is(image) => self.save_all(&key.owner, &[(*key, *save, image)]),
            _ => {
                within("a record's meta", save.meta.len(), META_BYTES_MAX)?;
                self.inner.save_meta(key, save)
            }
        }
    }

    /// Saves different records of one owner together, durable when this returns: in one pack, and all of
    /// them or none. They must fit together into the quota of each.
    ///
    /// # Errors
    ///
    /// See [`SaveError`].
    ///
    /// # Panics
    ///
    /// When a record is another owner's, or is there twice.
    pub fn save_all<'a>(
        &self,
        owner: &Owner,
        records: &[(Key, Save<'a>, ImageToSave<'a>)],
    ) -> Result<Saved, SaveError> {
        let keys: HashSet<_> = records.iter().map(|(key, ..)| key).collect();
        assert_eq!(keys.len(), records.len(), "each record is saved once");
        let records = records.iter().map(|(key, save, image)| {
            assert_eq!(key.owner, *owner, "records of one owner are saved together");
            within("a record's meta", save.meta.len(), META_BYTES_MAX)?;
            within("an index", image.index.len(), INDEX_BYTES_MAX)?;
            within("blocks", image.ids.len(), BLOCKS_MAX)?;
            Ok(ToSave {
                key: *key,
                save: *save,
                image: *image,
            })
        });
        let records = records.collect::<Result<Vec<_>, SaveError>>()?;
        loop {
            if let Some(saved) = self.inner.save_images(*owner, &records)? {
                return Ok(saved);
            }
        }
    }

    /// Whether the image of this record can be read, as far as is known: no pack that it needs was found
    /// damaged. False when there is no such record, or it has no image.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn is_good(&self, key: &Key) -> Result<bool, DiskError> {
        let mut shared = self.inner.lock();
        Ok(self.inner.ready(&mut shared)?.catalog.is_good(key))
    }

    /// Positions of the blocks that no image of this owner has, so that a peer can be asked for
    /// them. Others that are saved soon after may still find more lacking.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn lacking(&self, owner: &Owner, ids: &[BlockId]) -> Result<Vec<usize>, DiskError> {
        let mut shared = self.inner.lock();
        let holding = self.inner.ready(&mut shared)?.catalog.owners.get(owner);
        let has = |id| holding.is_some_and(|holding| holding.blocks.has_good(id));
        Ok((0..ids.len()).filter(|it| !has(&ids[*it])).collect())
    }
}

fn within(what: &'static str, amount: usize, limit: usize) -> Result<(), SaveError> {
    match amount <= limit {
        true => Ok(()),
        false => Err(SaveError::TooLarge {
            what,
            amount,
            limit,
        }),
    }
}

/// A record that is to be saved with a new image.
struct ToSave<'a> {
    key: Key,
    save: Save<'a>,
    image: ImageToSave<'a>,
}

/// Blocks that a save needs while it writes its pack: let go when it ends in any way.
struct Held<'a> {
    inner: &'a Inner,
    owner: Owner,
    /// Of the catalog whose blocks are pinned.
    generation: u64,
    /// For each record.
    pinned: Vec<Pinned>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut shared = self.inner.lock();
        if shared.generation != self.generation {
            return;
        }
        let pinned = std::mem::take(&mut self.pinned);
        if !pinned.is_empty()
            && let Ok(opened) = self.inner.ready(&mut shared)
        {
            opened.catalog.unpin(self.owner, pinned);
        }
    }
}

impl Inner {
    /// Saves a record whose image stays or goes.
    fn save_meta(&self, key: &Key, save: &Save<'_>) -> Result<Saved, SaveError> {
        let mut shared = self.lock();
        self.ready(&mut shared)?;
        let used = shared.used_bytes();
        let opened = self.ready(&mut shared)?;
        check_when(opened, key, save.when)?;
        let becomes = match save.image {
            NewImage::None => Becomes::None,
            _ => Becomes::Stays,
        };
        let old = opened.catalog.entry(key);
        let old_image = old.and_then(|entry| entry.image.as_ref());
        let image = match becomes {
            Becomes::Stays => old_image.map(|kept| kept.at),
            _ => None,
        };
        if old.is_none() {
            let record = (key, save.meta.len(), None);
            let after = opened.catalog.usage_after(&key.owner, [record]);
            check_quota(after, save.quota)?;
            self.check_room(used, save.meta.len() as u64)?;
        }
        opened.catalog.put(key, save.meta.len(), becomes);
        let change = Change::PutRecord {
            key: *key,
            image,
            meta: save.meta,
        };
        self.finish(shared, key.owner, vec![change])?;
        Ok(Saved::default())
    }

    /// Saves records with new images. Nothing when the catalog was read anew meanwhile, so that what was
    /// held for this is not any more.
    fn save_images(
        self: &Arc<Self>,
        owner: Owner,
        records: &[ToSave<'_>],
    ) -> Result<Option<Saved>, SaveError> {
        let mut held = self.pin(owner, records)?;
        let (mut ids, mut blocks) = (Vec::new(), Vec::new());
        for (ToSave { image, .. }, pinned) in records.iter().zip(&held.pinned) {
            for position in &pinned.lacking {
                let id = image.ids[*position];
                let block = (image.block)(*position).ok_or(SaveError::NoBlock { id })?;
                debug_assert_eq!(
                    BlockId::of(block),
                    id,
                    "the host names blocks by their hash"
                );
                ids.push(id);
                blocks.push(block);
            }
        }
        let bodies = records.iter().map(|ToSave { image, .. }| Body {
            index: image.index,
            ids: image.ids,
        });
        let mut plan = Plan {
            number: PackNumber(0),
            owner,
            blocks: ids,
            images: bodies.collect(),
        };
        let bytes = plan.bytes();
        let meta_bytes: usize = records.iter().map(|record| record.save.meta.len()).sum();
        let pack = loop {
            let mut shared = self.lock();
            let used = shared.used_bytes();
            let room = self.check_room(used, bytes + meta_bytes as u64);
            if room.is_ok() {
                break shared.begin_pack(self, bytes);
            }
            drop(shared);
            if self.compact()?.is_none() {
                return room.map(|()| None);
            }
        };
        let number = pack.number;
        plan.number = number;
        let table = plan.write(&*self.disk, &blocks);
        let table = table.map_err(DiskError::io(number.path()))?;

        let mut shared = self.lock();
        let fits = if shared.generation == held.generation {
            // The records, and what else the owner keeps, may have changed while the pack was written.
            let opened = self.ready(&mut shared)?;
            let fits = check(opened, owner, records, &held.pinned);
            // A pack that it counts on may have been found damaged as well: then all begins anew.
            fits.map(|()| opened.catalog.are_good(owner, &held.pinned))
        } else {
            Ok(false)
        };
        if !matches!(fits, Ok(true)) {
            drop(shared);
            self.remove_packs([number]);
            return fits.map(|_| None);
        }
        shared.end_pack(number);
        let opened = self.ready(&mut shared)?;
        let catalog = &mut opened.catalog;
        catalog.put_pack(owner, number, bytes, Ok(table));
        let mut changes = vec![Change::PutPack {
            number,
            owner,
            bytes,
        }];
        let (mut first, pinned) = (0, std::mem::take(&mut held.pinned));
        for (position, (record, pinned)) in (0..).zip(records.iter().zip(pinned)) {
            let ToSave { key, save, image } = record;
            let at = ImageAt {
                pack: number,
                position,
            };
            let new = pinned.lacking.len() as u32;
            let holding = catalog.owners.entry(owner).or_default();
            let slots = holding.settle(pinned, image.ids, (number, first));
            first += new;
            let kept = Kept {
                at,
                blocks: Some(slots),
            };
            catalog.put(key, save.meta.len(), Becomes::Is(kept));
            changes.push(Change::PutRecord {
                key: *key,
                image: Some(at),
                meta: save.meta,
            });
        }
        self.finish(shared, owner, changes)?;
        Ok(Some(Saved {
            new_blocks: blocks.len(),
            written_bytes: bytes,
        }))
    }

    /// Holds the blocks that the store has of images, when they may be saved as things are.
    fn pin(&self, owner: Owner, records: &[ToSave<'_>]) -> Result<Held<'_>, SaveError> {
        let mut shared = self.lock();
        let generation = shared.generation;
        let opened = self.ready(&mut shared)?;
        let holding = opened.catalog.owners.entry(owner).or_default();
        let mut brought = HashSet::new();
        let pinned = records.iter().map(|ToSave { key, save, image }| {
            let like = save.like.unwrap_or(key);
            holding.pin(image.ids, like, &mut brought)
        });
        let pinned: Vec<_> = pinned.collect();
        let checked = check(opened, owner, records, &pinned);
        drop(shared);
        let held = Held {
            inner: self,
            owner,
            generation,
            pinned,
        };
        checked.map(|()| held)
    }

    pub(crate) fn check_room(&self, used: u64, needed: u64) -> Result<(), SaveError> {
        let limit = self.bytes_max;
        match used.saturating_add(needed) <= limit {
            true => Ok(()),
            false => Err(SaveError::Full {
                needed,
                used,
                limit,
            }),
        }
    }
}

/// Whether records may be saved as things are.
fn check(
    opened: &Opened,
    owner: Owner,
    records: &[ToSave<'_>],
    pinned: &[Pinned],
) -> Result<(), SaveError> {
    for ToSave { key, save, .. } in records {
        check_when(opened, key, save.when)?;
    }
    let puts = records.iter().zip(pinned).map(|(record, pinned)| {
        let ToSave { key, save, image } = record;
        let body_bytes = pack::body_bytes(image.index.len(), image.ids.len());
        (key, save.meta.len(), Some((pinned, body_bytes)))
    });
    let after = opened.catalog.usage_after(&owner, puts);
    records
        .iter()
        .try_for_each(|record| check_quota(after, record.save.quota))
}

fn check_when(opened: &Opened, key: &Key, when: When<'_>) -> Result<(), SaveError> {
    let holds = match when {
        When::Always => true,
        When::New => opened.catalog.entry(key).is_none(),
        When::MetaIs(meta) => {
            let stored = opened.database.record(key).map_err(DiskError::from)?;
            stored.is_some_and(|stored| stored.meta == meta)
        }
    };
    match holds {
        true => Ok(()),
        false => Err(SaveError::Changed),
    }
}

fn check_quota(after: Usage, quota: Quota) -> Result<(), SaveError> {
    match after.records <= quota.records_max && after.bytes() <= quota.bytes_max {
        true => Ok(()),
        false => Err(SaveError::Quota { after, quota }),
    }
}
