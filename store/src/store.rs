//! The store: opening it, and what all calls share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::catalog::{Catalog, Usage};
use crate::database::{self, Change, Database, DatabaseError};
use crate::disk::{Disk, Folder};
use crate::names::{Key, Kind, Owner};
use crate::pack::{self, PackNumber, Written};

/// Why the disk, or what is on it, does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A file or a folder could not be read or written. `source` tells when there is no space.
    #[error("{path}")]
    Io {
        /// Which, in the store's folder
        path: String,
        /// What the system says
        #[source]
        source: io::Error,
    },
    /// The database of records cannot be used.
    #[error("the database of records")]
    Database(#[source] Box<redb::Error>),
    /// The database of records holds what this release does not write.
    #[error("the database of records is damaged")]
    Damaged,
    /// The system failed to bring the database to the disk, and may show what is not there. The store
    /// refuses everything until it is opened anew, which is best done after the disk was looked at.
    #[error("an earlier write to the database of records did not reach the disk")]
    SyncFailed,
}

impl DiskError {
    pub(crate) fn io(path: impl Into<String>) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError::Io {
            path: path.into(),
            source,
        }
    }

    /// Whether it was for want of space on the disk.
    pub fn is_no_space(&self) -> bool {
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        match self {
            DiskError::Io { source, .. } => full(source),
            _ => false,
        }
    }
}

impl From<DatabaseError> for DiskError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Io(source) | DatabaseError::Database(redb::Error::Io(source)) => {
                DiskError::Io {
                    path: database::FILE.to_owned(),
                    source,
                }
            }
            DatabaseError::Database(error) => DiskError::Database(Box::new(error)),
            DatabaseError::Newer { .. } | DatabaseError::Damaged => DiskError::Damaged,
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store is in use by another process")]
    InUse,
    /// A later release wrote it.
    #[error("the store has format {found}, which this release does not know")]
    Newer {
        /// Its format
        found: u64,
    },
    /// There are packs and no database that says whose they are. Nothing is removed.
    #[error("there are packs, and {} is missing", database::FILE)]
    NoDatabase,
    /// The disk does not serve.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the host has written, which the store does not look into.
    pub meta: Vec<u8>,
    /// Whether there is an image: see [`Store::image`].
    pub has_image: bool,
}

/// What a whole store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Owners who have anything.
    pub owners: u64,
    /// Records of all.
    pub records: u64,
    /// Files of images.
    pub packs: u64,
    /// Bytes that count against the store's maximum: the files of images and the `meta` of records.
    pub bytes: u64,
    /// Bytes of these files that no image needs any more. See [`Store::compact`].
    pub dead_bytes: u64,
}

/// Records and images on a disk. A clone is the same store.
///
/// All methods block, and may be called from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) bytes_max: u64,
    /// Held for every transaction, and never while the file of a pack is read or written.
    shared: Mutex<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    stage: Stage,
    /// How often the catalog was read anew: numbers of blocks are good for one of its lives.
    pub(crate) generation: u64,
    next_pack: u64,
    /// Packs that are being written, with their lengths.
    writing: BTreeMap<PackNumber, u64>,
    /// Readers that are at work, by the order in which they came.
    readers: BTreeSet<u64>,
    next_reader: u64,
    doomed: Vec<Doomed>,
    doomed_bytes: u64,
    /// Packs that were found to be other than they were written, or could not be read. None of their
    /// numbers is used again.
    damaged: BTreeSet<PackNumber>,
}

/// A pack that no transaction knows any more, but that a reader may still be reading.
#[derive(Debug)]
struct Doomed {
    number: PackNumber,
    bytes: u64,
    /// Readers that came before this one may know it.
    before: u64,
}

#[derive(Debug)]
enum Stage {
    Open(Box<Opened>),
    /// A write to the database failed, so that redb refuses everything until it is opened again.
    Closed,
    /// A sync failed: see [`Database::sync_failed`].
    Failed,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) catalog: Catalog,
}

impl Store {
    /// Opens the store in this folder, and makes it when it is not there. What was half-written is
    /// removed.
    ///
    /// `bytes_max` bounds the files of images and the `meta` of records together. The database takes
    /// about a megabyte and twice the `meta` besides, and [`Store::compact`] a few more for a time.
    ///
    /// # Errors
    ///
    /// When another process has it open, or the disk does not serve. A damaged image is no error
    /// here; who reads it is told.
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Store, OpenError> {
        let opened = Folder::open(folder);
        let opened = opened.map_err(DiskError::io(folder.display().to_string()))?;
        let disk = opened.ok_or(OpenError::InUse)?;
        Store::open_on(Arc::new(disk), bytes_max)
    }

    /// Opens the store on this disk, which nothing else may use meanwhile. As [`Store::open`]
    /// otherwise.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], but that it is not known whether another process uses the disk.
    pub fn open_on(disk: Arc<dyn Disk>, bytes_max: u64) -> Result<Store, OpenError> {
        let folder = disk.make_folder(pack::FOLDER);
        folder.map_err(DiskError::io(pack::FOLDER))?;
        disk.sync_folder("").map_err(DiskError::io("."))?;
        let names = disk.list("").map_err(DiskError::io("."))?;
        let mut files = pack_files(&*disk)?;
        if !names.iter().any(|name| name == database::FILE) {
            if !files.is_empty() {
                return Err(OpenError::NoDatabase);
            }
            Database::create(&*disk).map_err(open_error)?;
        }
        let opened = Opened::read(&*disk).map_err(open_error)?;

        let highest = files.iter().map(|(number, _)| number.0).max();
        let known = opened.packs();
        let next_pack = highest.max(known.last().map(|it| it.0)).unwrap_or(0) + 1;
        files.retain(|(number, written)| *written == Written::Partly || !known.contains(number));
        for (number, written) in files {
            let path = match written {
                Written::Whole => number.path(),
                Written::Partly => number.path_new(),
            };
            disk.remove(&path).map_err(DiskError::io(&path))?;
            tracing::debug!(%path, "removed what was left of an unfinished save");
        }

        let inner = Inner {
            disk,
            bytes_max,
            shared: Mutex::new(Shared {
                stage: Stage::Open(Box::new(opened)),
                generation: 0,
                next_pack,
                writing: BTreeMap::new(),
                readers: BTreeSet::new(),
                next_reader: 0,
                doomed: Vec::new(),
                doomed_bytes: 0,
                damaged: BTreeSet::new(),
            }),
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// The record of this key.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn load(&self, key: &Key) -> Result<Option<Record>, DiskError> {
        let mut shared = self.inner.lock();
        let stored = self.inner.ready(&mut shared)?.database.record(key)?;
        Ok(stored.map(|stored| Record {
            has_image: stored.image.is_some(),
            meta: stored.meta,
        }))
    }

    /// The records of an owner and of a kind, or of all where nothing is given, in the order of keys.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn list(
        &self,
        owner: Option<Owner>,
        kind: Option<Kind>,
    ) -> Result<Vec<(Key, Record)>, DiskError> {
        let mut shared = self.inner.lock();
        let database = &self.inner.ready(&mut shared)?.database;
        let mut list = Vec::new();
        database.records(owner, kind, |key, stored| {
            if kind.is_none_or(|kind| kind == key.kind) {
                let record = Record {
                    has_image: stored.image.is_some(),
                    meta: stored.meta,
                };
                list.push((key, record));
            }
        })?;
        Ok(list)
    }

    /// Removes a record, durably when this returns; false when there is none.
    ///
    /// # Errors
    ///
    /// When the disk does not serve. The record may be there or not, as [`Store::load`] tells.
    pub fn remove(&self, key: &Key) -> Result<bool, DiskError> {
        let mut shared = self.inner.lock();
        let opened = self.inner.ready(&mut shared)?;
        if !opened.catalog.remove(key) {
            return Ok(false);
        }
        let changes = vec![Change::RemoveRecord { key: *key }];
        self.inner.finish(shared, key.owner, changes)?;
        Ok(true)
    }

    /// What an owner keeps.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn usage(&self, owner: &Owner) -> Result<Usage, DiskError> {
        let mut shared = self.inner.lock();
        Ok(self.inner.ready(&mut shared)?.catalog.usage(owner))
    }

    /// What all keep.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn totals(&self) -> Result<Totals, DiskError> {
        let mut shared = self.inner.lock();
        let catalog = &self.inner.ready(&mut shared)?.catalog;
        let mut totals = Totals {
            owners: catalog.owners.len() as u64,
            ..Totals::default()
        };
        for holding in catalog.owners.values() {
            totals.records += holding.records.len() as u64;
            totals.packs += holding.packs.len() as u64;
            let packs = holding.packs.values();
            totals.dead_bytes += packs.map(|pack| pack.dead_bytes()).sum::<u64>();
        }
        totals.bytes = shared.used_bytes();
        Ok(totals)
    }

    /// Bytes that the store may hold.
    pub fn bytes_max(&self) -> u64 {
        self.inner.bytes_max
    }
}

/// Someone who reads packs: those that are known when it begins stay on the disk until it ends.
pub(crate) struct Reader {
    pub(crate) inner: Arc<Inner>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let unread = {
            let mut shared = self.inner.lock();
            shared.readers.remove(&self.number);
            shared.take_unread()
        };
        self.inner.remove_packs(unread);
    }
}

/// A pack that is being written, as long as it is not ended.
pub(crate) struct NewPack<'a> {
    inner: &'a Inner,
    pub(crate) number: PackNumber,
}

impl Drop for NewPack<'_> {
    fn drop(&mut self) {
        self.inner.lock().end_pack(self.number);
    }
}

impl Opened {
    fn packs(&self) -> BTreeSet<PackNumber> {
        let holdings = self.catalog.owners.values();
        let packs = holdings.flat_map(|holding| holding.packs.keys());
        packs.copied().collect()
    }

    fn read(disk: &dyn Disk) -> Result<Opened, DatabaseError> {
        let database = Database::open(disk)?;
        let catalog = Catalog::load(&database, disk)?;
        Ok(Opened { database, catalog })
    }
}

impl Shared {
    /// Bytes that count against the maximum.
    pub(crate) fn used_bytes(&self) -> u64 {
        let noted = match &self.stage {
            Stage::Open(opened) => opened.catalog.pack_bytes + opened.catalog.meta_bytes,
            Stage::Closed | Stage::Failed => 0,
        };
        noted + self.writing.values().sum::<u64>() + self.doomed_bytes
    }

    /// Notes a pack of so many bytes that is about to be written.
    pub(crate) fn begin_pack<'a>(&mut self, inner: &'a Inner, bytes: u64) -> NewPack<'a> {
        let number = PackNumber(self.next_pack);
        self.next_pack += 1;
        self.writing.insert(number, bytes);
        NewPack { inner, number }
    }

    /// Ends what [`Shared::begin_pack`] has begun: from now on the pack is there when a transaction
    /// knows it.
    pub(crate) fn end_pack(&mut self, number: PackNumber) {
        self.writing.remove(&number);
    }

    /// Dooms a pack that no transaction knows.
    fn doom(&mut self, number: PackNumber, bytes: u64) {
        let before = self.next_reader;
        self.doomed_bytes += bytes;
        self.doomed.push(Doomed {
            number,
            bytes,
            before,
        });
    }

    /// Notes a reader of the store.
    pub(crate) fn begin_reader(&mut self, inner: &Arc<Inner>) -> Reader {
        let number = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(number);
        Reader {
            inner: inner.clone(),
            number,
        }
    }

    /// Takes out the doomed packs that no reader can know.
    fn take_unread(&mut self) -> Vec<PackNumber> {
        let oldest = self.readers.first().copied().unwrap_or(u64::MAX);
        let mut unread = Vec::new();
        let mut bytes = 0;
        self.doomed.retain(|doomed| {
            let keep = oldest < doomed.before;
            if !keep {
                unread.push(doomed.number);
                bytes += doomed.bytes;
            }
            keep
        });
        self.doomed_bytes -= bytes;
        unread
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| {
            // A panic may have left the catalog half-changed. What is on the disk is whole.
            let mut shared = poisoned.into_inner();
            if let Stage::Open(_) = shared.stage {
                shared.stage = Stage::Closed;
                shared.generation += 1;
            }
            self.shared.clear_poison();
            shared
        })
    }

    /// The database and the catalog, read again when that is needed.
    pub(crate) fn ready<'a>(&self, shared: &'a mut Shared) -> Result<&'a mut Opened, DiskError> {
        if let Stage::Closed = shared.stage {
            self.reopen(shared)?;
        }
        match &mut shared.stage {
            Stage::Open(opened) => Ok(opened),
            Stage::Closed | Stage::Failed => Err(DiskError::SyncFailed),
        }
    }

    fn reopen(&self, shared: &mut Shared) -> Result<(), DiskError> {
        let mut opened = Opened::read(&*self.disk)?;
        for pack in &shared.damaged {
            opened.catalog.note_damage(*pack);
        }
        let files = pack_files(&*self.disk)?;
        let mut known = opened.packs();
        known.extend(shared.writing.keys());
        known.extend(shared.doomed.iter().map(|doomed| doomed.number));
        for (number, written) in files {
            // Of the transaction that failed: the pack that it was to put, or those that it took out.
            if written == Written::Whole && !known.contains(&number) {
                let file = self.disk.open(&number.path());
                let size = file.and_then(|file| file.size());
                shared.doom(number, size.unwrap_or(0));
            }
        }
        shared.stage = Stage::Open(Box::new(opened));
        let unread = shared.take_unread();
        self.remove_packs(unread);
        Ok(())
    }

    /// Commits what was done to the catalog, together with the removal of the packs of this owner
    /// that nothing needs now. Says how many bytes of packs that is.
    ///
    /// When it fails the catalog is read anew from what the disk then has. That may be the changes:
    /// then this has not failed.
    pub(crate) fn finish(
        &self,
        mut shared: MutexGuard<'_, Shared>,
        owner: Owner,
        mut changes: Vec<Change<'_>>,
    ) -> Result<u64, DiskError> {
        let opened = self.ready(&mut shared)?;
        let dead = opened.catalog.take_dead(owner);
        changes.extend(
            dead.iter()
                .map(|(number, _)| Change::RemovePack { number: *number }),
        );
        let commits = opened.database.commits() + 1;
        if let Err(error) = opened.database.commit(&changes) {
            let sync_failed = opened.database.sync_failed();
            // Closes the database, which must not be open twice.
            shared.stage = if sync_failed {
                Stage::Failed
            } else {
                Stage::Closed
            };
            shared.generation += 1;
            tracing::error!(?error, "a transaction failed");
            let landed = |opened: &mut Opened| opened.database.commits() == commits;
            if sync_failed || !self.ready(&mut shared).is_ok_and(landed) {
                return Err(error.into());
            }
            // What it took out was found when the catalog was read.
            return Ok(dead.iter().map(|(_, bytes)| bytes).sum());
        }
        let freed_bytes = dead.iter().map(|(_, bytes)| bytes).sum();
        for (number, bytes) in dead {
            shared.doom(number, bytes);
        }
        let unread = shared.take_unread();
        // Removing a large file takes time, and needs nothing that is shared.
        drop(shared);
        self.remove_packs(unread);
        Ok(freed_bytes)
    }

    /// Notes that a pack is not what was written, or could not be read, so that what is saved of it is
    /// written again.
    pub(crate) fn note_damage(&self, pack: PackNumber) {
        let mut shared = self.lock();
        shared.damaged.insert(pack);
        if let Ok(opened) = self.ready(&mut shared) {
            opened.catalog.note_damage(pack);
        }
    }

    /// Removes files that no transaction knows.
    pub(crate) fn remove_packs(&self, packs: impl IntoIterator<Item = PackNumber>) {
        for number in packs {
            let path = number.path();
            if let Err(error) = self.disk.remove(&path) {
                // The next start removes it.
                tracing::warn!(%path, %error, "a pack that nothing needs cannot be removed");
            }
        }
    }
}

fn open_error(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::Newer { found } => OpenError::Newer { found },
        error => OpenError::Disk(error.into()),
    }
}

fn pack_files(disk: &dyn Disk) -> Result<Vec<(PackNumber, Written)>, DiskError> {
    let names = disk.list(pack::FOLDER);
    let names = names.map_err(DiskError::io(pack::FOLDER))?;
    Ok(names
        .iter()
        .filter_map(|it| PackNumber::of_name(it))
        .collect())
}
