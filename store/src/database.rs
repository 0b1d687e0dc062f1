//! The database: which records there are, and which packs.
//!
//! It is small, since blocks and lists of blocks lie in the packs. A transaction that puts a record
//! puts the pack that it needs, and takes out those that nothing needs any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::disk::{Disk, DiskFile};
use crate::names::{Key, Kind, Owner};
use crate::pack::PackNumber;

/// Version of tables and values that this release writes.
const FORMAT: u64 = 1;

/// The file, and its name until it has its tables.
pub(crate) const FILE: &str = "records.redb";
const FILE_NEW: &str = "records.new";

/// Memory of redb's cache, in bytes. Records are read seldom; its own default is a gigabyte.
const CACHE_BYTES: usize = 16 << 20;

/// `format` and `commits`.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// By key: whether there is an image (1 byte), its pack (8), its position there (4), `meta`.
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
/// By number: owner (32 bytes), length (8).
const PACKS: TableDefinition<u64, &[u8]> = TableDefinition::new("packs");

/// Where a record's image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageAt {
    pub(crate) pack: PackNumber,
    pub(crate) position: u32,
}

/// A step of a transaction.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    PutRecord {
        key: Key,
        image: Option<ImageAt>,
        meta: &'a [u8],
    },
    /// Another place for the image of a record; its `meta` stays.
    MoveImage {
        key: Key,
        image: ImageAt,
    },
    RemoveRecord {
        key: Key,
    },
    PutPack {
        number: PackNumber,
        owner: Owner,
        bytes: u64,
    },
    RemovePack {
        number: PackNumber,
    },
}

/// Why the database cannot be opened.
#[derive(Debug)]
pub(crate) enum DatabaseError {
    Io(io::Error),
    Database(redb::Error),
    Newer { found: u64 },
    Damaged,
}

impl<E: Into<redb::Error>> From<E> for DatabaseError {
    fn from(error: E) -> Self {
        DatabaseError::Database(error.into())
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Database {
    redb: redb::Database,
    commits: u64,
    sync_failed: Arc<AtomicBool>,
}

/// A record as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) image: Option<ImageAt>,
    pub(crate) meta: Vec<u8>,
}

/// A pack as it is noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) number: PackNumber,
    pub(crate) owner: Owner,
    pub(crate) bytes: u64,
}

impl Database {
    /// Makes an empty database, durable when this returns.
    ///
    /// It gets its name when it is whole: redb would take a file without its header for another
    /// program's.
    pub(crate) fn create(disk: &dyn Disk) -> Result<(), DatabaseError> {
        let file = disk.create(FILE_NEW).map_err(DatabaseError::Io)?;
        let redb = open_redb(file, &Arc::default())?;
        let write = redb.begin_write()?;
        {
            let mut about = write.open_table(ABOUT)?;
            about.insert("format", FORMAT)?;
            about.insert("commits", 0)?;
            write.open_table(RECORDS)?;
            write.open_table(PACKS)?;
        }
        write.commit()?;
        redb.close()?;
        let named = disk.rename(FILE_NEW, FILE);
        let synced = named.and_then(|()| disk.sync_folder(""));
        synced.map_err(DatabaseError::Io)
    }

    pub(crate) fn open(disk: &dyn Disk) -> Result<Database, DatabaseError> {
        let file = disk.open(FILE).map_err(DatabaseError::Io)?;
        if file.size().map_err(DatabaseError::Io)? == 0 {
            // redb would make a database of it, without a word of what it held.
            return Err(DatabaseError::Damaged);
        }
        let sync_failed = Arc::new(AtomicBool::new(false));
        let redb = open_redb(file, &sync_failed)?;
        let read = redb.begin_read()?;
        let about = read.open_table(ABOUT)?;
        let number = |name| match about.get(name) {
            Ok(Some(number)) => Ok(number.value()),
            Ok(None) => Err(DatabaseError::Damaged),
            Err(error) => Err(error.into()),
        };
        let (found, commits) = (number("format")?, number("commits")?);
        if found > FORMAT {
            return Err(DatabaseError::Newer { found });
        }
        drop((about, read));
        Ok(Database {
            redb,
            commits,
            sync_failed,
        })
    }

    /// How many transactions there were.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Whether the system has failed to sync the file. What it then holds in memory and what is on
    /// the disk may differ for good, so that nothing that is read from it tells what a crash leaves.
    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Does all of the changes or none, durable when this returns. After an error the database must
    /// be opened again, and either may be the case.
    pub(crate) fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), DatabaseError> {
        let write = self.redb.begin_write()?;
        {
            let mut records = write.open_table(RECORDS)?;
            let mut packs = write.open_table(PACKS)?;
            for change in changes {
                match change {
                    Change::PutRecord { key, image, meta } => {
                        let value = encode_record(*image, meta);
                        records.insert(&key.to_bytes()[..], &value[..])?;
                    }
                    Change::MoveImage { key, image } => {
                        let key = key.to_bytes();
                        let stored = match records.get(&key[..])? {
                            Some(value) => decode_record(value.value())?,
                            None => continue,
                        };
                        let value = encode_record(Some(*image), &stored.meta);
                        records.insert(&key[..], &value[..])?;
                    }
                    Change::RemoveRecord { key } => {
                        records.remove(&key.to_bytes()[..])?;
                    }
                    Change::PutPack {
                        number,
                        owner,
                        bytes,
                    } => {
                        let value = encode_pack(*owner, *bytes);
                        packs.insert(number.0, &value[..])?;
                    }
                    Change::RemovePack { number } => {
                        packs.remove(number.0)?;
                    }
                }
            }
            let mut about = write.open_table(ABOUT)?;
            about.insert("commits", self.commits + 1)?;
        }
        write.commit()?;
        self.commits += 1;
        Ok(())
    }

    /// The record of this key.
    pub(crate) fn record(&self, key: &Key) -> Result<Option<Stored>, DatabaseError> {
        let records = self.redb.begin_read()?.open_table(RECORDS)?;
        let value = records.get(&key.to_bytes()[..])?;
        value.map(|value| decode_record(value.value())).transpose()
    }

    /// Calls with each record of the owner and the kind, or of all where either is not given, in the
    /// order of keys. A kind without an owner is not asked for.
    pub(crate) fn records(
        &self,
        owner: Option<Owner>,
        kind: Option<Kind>,
        mut with: impl FnMut(Key, Stored),
    ) -> Result<(), DatabaseError> {
        let records = self.redb.begin_read()?.open_table(RECORDS)?;
        let mut prefix = Vec::new();
        if let Some(owner) = owner {
            prefix.extend_from_slice(&owner.0);
            prefix.extend(kind.map(|kind| kind.0));
        }
        for entry in records.range(&prefix[..]..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            let key = Key::from_bytes(key.value()).ok_or(DatabaseError::Damaged)?;
            with(key, decode_record(value.value())?);
        }
        Ok(())
    }

    /// The packs, by ascending number.
    pub(crate) fn packs(&self) -> Result<Vec<Noted>, DatabaseError> {
        let packs = self.redb.begin_read()?.open_table(PACKS)?;
        let mut noted = Vec::new();
        for entry in packs.iter()? {
            let (number, value) = entry?;
            let number = PackNumber(number.value());
            let (owner, bytes) = decode_pack(value.value()).ok_or(DatabaseError::Damaged)?;
            noted.push(Noted {
                number,
                owner,
                bytes,
            });
        }
        Ok(noted)
    }
}

fn open_redb(
    file: Box<dyn DiskFile>,
    sync_failed: &Arc<AtomicBool>,
) -> Result<redb::Database, DatabaseError> {
    let backend = Backend {
        file,
        sync_failed: sync_failed.clone(),
    };
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // A file that something has altered is then an error; else redb trusts it and may panic.
    builder.set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// A file of the store's disk as redb wants it. The store's own lock stands for redb's.
#[derive(Debug)]
struct Backend {
    file: Box<dyn DiskFile>,
    sync_failed: Arc<AtomicBool>,
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_size(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file.sync();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}

/// Bytes of a record before its `meta`.
const RECORD_BYTES: usize = 1 + 8 + 4;

fn encode_record(image: Option<ImageAt>, meta: &[u8]) -> Vec<u8> {
    let at = image.unwrap_or(ImageAt {
        pack: PackNumber(0),
        position: 0,
    });
    let mut value = Vec::with_capacity(RECORD_BYTES + meta.len());
    value.push(u8::from(image.is_some()));
    value.extend_from_slice(&at.pack.0.to_le_bytes());
    value.extend_from_slice(&at.position.to_le_bytes());
    value.extend_from_slice(meta);
    value
}

fn decode_record(value: &[u8]) -> Result<Stored, DatabaseError> {
    let fields = || {
        let (has_image, rest) = value.split_first()?;
        let (pack, rest) = rest.split_first_chunk()?;
        let (position, meta) = rest.split_first_chunk()?;
        let at = ImageAt {
            pack: PackNumber(u64::from_le_bytes(*pack)),
            position: u32::from_le_bytes(*position),
        };
        let image = match has_image {
            0 => None,
            1 => Some(at),
            _ => return None,
        };
        let meta = meta.to_vec();
        Some(Stored { image, meta })
    };
    fields().ok_or(DatabaseError::Damaged)
}

fn encode_pack(owner: Owner, bytes: u64) -> [u8; 40] {
    let mut value = [0; 40];
    value[..32].copy_from_slice(&owner.0);
    value[32..].copy_from_slice(&bytes.to_le_bytes());
    value
}

fn decode_pack(value: &[u8]) -> Option<(Owner, u64)> {
    let (owner, bytes) = value.split_first_chunk()?;
    Some((Owner(*owner), u64::from_le_bytes(bytes.try_into().ok()?)))
}
