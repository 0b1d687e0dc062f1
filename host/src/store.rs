//! Blobs on disk, named by their hash, and who may use them.
//!
//! ```text
//! blobs/3f/3f09…   one file a blob
//! owners/KEY/3f09… an empty file for each blob that a key has uploaded
//! tmp/             what is being written; emptied at start
//! lock             locked by the process that has the store open
//! ```
//!
//! A blob is written beside its place, synced, and renamed; then its owner is noted the same way.
//! So a blob is whole or absent, and an owner is never noted before it. Knowing an id is no right
//! to it: a key may use what it has uploaded itself, and nothing tells it what others have.
//!
//! When room is needed, the owner that holds most gives up its longest unused blob. One that others
//! own too stays for them: only the note of that owner goes, and the blob with the last note.

mod holders;
mod index;
mod verified;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use spore_transport::{BlobId, PublicKey};

use crate::scheduler::lock;
use holders::{Owner, Short};
use index::{Index, blob_path};

pub use verified::Verified;
pub(crate) use verified::{Collecting, NotTheBlob};

/// Most blobs of a store, however small. Each takes an inode, another for each owner, and a few
/// hundred bytes of memory, none of which the bound on bytes counts.
pub const BLOBS_MAX: usize = 1 << 16;

/// Time after which a blob that is used again is noted as used: noting it each time would cost
/// calls more than the order of a minute is worth.
const USED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Locks of blobs, by the first byte of their ids.
const SHARDS: usize = 256;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{path}")]
    Io {
        /// The file or folder
        path: PathBuf,
        /// What the system says
        #[source]
        source: io::Error,
    },
    /// The blob has no room, whatever is evicted.
    #[error("a blob of {bytes} bytes, the store holds {limit}")]
    Full {
        /// Its size
        bytes: u64,
        /// The store's size
        limit: u64,
    },
    /// Another process has the store open.
    #[error("{path} is in use by a running host")]
    InUse {
        /// The folder
        path: PathBuf,
    },
    /// The bytes on disk are not those that were written. The blob is gone from the store.
    #[error("{path} is damaged: its bytes have another hash than its name")]
    Damaged {
        /// The file
        path: PathBuf,
    },
}

/// A blob as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The blob
    pub id: BlobId,
    /// Its size
    pub bytes: u64,
    /// When it was last used
    pub used: SystemTime,
    /// Who uploaded it
    pub owners: Vec<PublicKey>,
    /// Its file
    pub path: PathBuf,
}

/// A folder of blobs, bounded in size.
pub struct Store {
    folder: PathBuf,
    limit: u64,
    blobs_max: usize,
    index: Mutex<Index>,
    /// Held while the files of a blob are written or removed, so that neither ends with an entry of
    /// the index without its files. Taken before the index, and never two at a time.
    shards: [Mutex<()>; SHARDS],
    /// Held while the store is open: two processes would not see what the other writes and evicts.
    _lock: File,
}

/// Room for a blob that is being written.
struct Reserved<'a> {
    store: &'a Store,
    owner: Owner,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut index = lock(&self.store.index);
        index.reserved_bytes -= self.bytes;
        index.reserved -= 1;
        index.holders.release(self.owner, self.bytes);
    }
}

impl Store {
    /// Opens the folder, makes it when it is not there, and clears what was half-written.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or read, or another process has it open.
    pub fn open(folder: &Path, limit: u64) -> Result<Store, StoreError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let lock_path = folder.join("lock");
        let lock_file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path);
        let lock_file = lock_file.map_err(at(&lock_path))?;
        match lock_file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    path: folder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io {
                    path: lock_path,
                    source,
                });
            }
        }
        let tmp = folder.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(at(&tmp))?;
        }
        for name in ["tmp", "blobs", "owners"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        sync(folder)?;
        if let Some(parent) = folder.parent().filter(|parent| parent.is_dir()) {
            sync(parent)?;
        }
        let (index, stale) = Index::read(folder)?;
        for note in stale {
            remove_file(&note)?;
        }
        let index = Mutex::new(index);
        let shards = [const { Mutex::new(()) }; SHARDS];
        Ok(Store {
            folder: folder.to_owned(),
            limit,
            blobs_max: BLOBS_MAX,
            index,
            shards,
            _lock: lock_file,
        })
    }

    /// Every blob of a store that a running host may have open, the longest unused first. Changes
    /// nothing; blobs that come or go meanwhile may be there or not.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read. One that is not there has no blobs.
    pub fn look(folder: &Path) -> Result<Vec<Listed>, StoreError> {
        if !folder.join("blobs").exists() || !folder.join("owners").exists() {
            return Ok(Vec::new());
        }
        Ok(Index::read(folder)?.0.listed(folder))
    }

    /// Whether `key` may use the blob. Who asks is about to, so that it counts as used now: what is
    /// called from memory all day is not what goes first when there is room to be made.
    pub fn may_use(&self, key: &PublicKey, id: &BlobId) -> bool {
        let mut index = lock(&self.index);
        let Some(used) = index
            .entries
            .get(id)
            .filter(|entry| entry.owners.contains(key))
            .map(|entry| entry.used)
        else {
            return false;
        };
        let now = SystemTime::now();
        if now.duration_since(used).unwrap_or_default() >= USED_AGAIN_AFTER {
            index.touch(id, now);
        }
        true
    }

    /// Reads a blob that `key` may use, and checks it. Blocks.
    ///
    /// # Errors
    ///
    /// When it is damaged, which ends its place in the store, or the disk fails.
    pub fn read(&self, key: &PublicKey, id: &BlobId) -> Result<Option<Verified>, StoreError> {
        if !self.may_use(key, id) {
            return Ok(None);
        }
        let path = self.blob_path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It was evicted meanwhile, or another process removed it.
                let _shard = self.lock_shard(id);
                if !path.exists() {
                    let owners = lock(&self.index).forget(id).unwrap_or_default();
                    // A note without its blob would be a right to whatever comes under the name.
                    for key in owners {
                        remove_file(&self.owner_folder(&key).join(id.to_string()))?;
                    }
                }
                return Ok(None);
            }
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let Ok(blob) = Verified::check(*id, bytes.into()) else {
            self.remove(id)?;
            return Err(StoreError::Damaged { path });
        };
        let now = SystemTime::now();
        lock(&self.index).touch(id, now);
        // Only the order of eviction rests on it, so a failure is no matter.
        let _ = File::open(&path).and_then(|file| file.set_modified(now));
        Ok(Some(blob))
    }

    /// Stores a blob for `key`, durable when it returns. Blocks.
    ///
    /// # Errors
    ///
    /// When it does not fit or the disk fails; then nothing of it is visible.
    pub fn write(&self, key: &PublicKey, blob: &Verified) -> Result<(), StoreError> {
        let (id, bytes) = (blob.id(), blob.bytes().len() as u64);
        if bytes > self.limit {
            return Err(StoreError::Full {
                bytes,
                limit: self.limit,
            });
        }
        let path = self.blob_path(&id);
        let is_there = || lock(&self.index).entries.contains_key(&id) && path.exists();
        // Room is made before the blob is locked, since that removes others.
        let mut reserved = match is_there() {
            true => None,
            false => Some(self.make_room(key, bytes)?),
        };
        let _shard = self.lock_shard(&id);
        if !is_there() {
            // It may have been evicted in between.
            reserved.get_or_insert_with(|| self.reserve(key, bytes));
            let shard = path.parent().expect("a blob lies in its shard");
            make_folder(shard)?;
            let tmp = self.folder.join("tmp");
            let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(at(&tmp))?;
            file.write_all(blob.bytes()).map_err(at(file.path()))?;
            file.as_file().sync_all().map_err(at(file.path()))?;
            file.persist(&path).map_err(|error| StoreError::Io {
                path: path.clone(),
                source: error.error,
            })?;
            sync(shard)?;
        }
        let owners = self.owner_folder(key);
        make_folder(&owners)?;
        let note = owners.join(id.to_string());
        File::create(&note).map_err(at(&note))?;
        sync(&owners)?;

        lock(&self.index).note(id, bytes, *key);
        Ok(())
    }

    /// Removes a blob for every owner; false when there is none. Blocks.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn remove(&self, id: &BlobId) -> Result<bool, StoreError> {
        let _shard = self.lock_shard(id);
        let owners = lock(&self.index).forget(id);
        let Some(owners) = owners else {
            return Ok(false);
        };
        // Notes first: without its notes a blob is nobody's.
        for key in owners {
            remove_file(&self.owner_folder(&key).join(id.to_string()))?;
        }
        remove_file(&self.blob_path(id))?;
        Ok(true)
    }

    /// Removes blobs until at most `bytes` are left, in the order in which they go when room is
    /// needed; says what went. Blocks.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn shrink_to(&self, bytes: u64) -> Result<Vec<BlobId>, StoreError> {
        let mut gone = Vec::new();
        loop {
            let victim = {
                let index = lock(&self.index);
                if index.bytes <= bytes {
                    break;
                }
                index.holders.victim(Short::Bytes)
            };
            let Some((owner, id)) = victim else { break };
            if self.give_up(owner, &id)? {
                gone.push(id);
            }
        }
        Ok(gone)
    }

    /// Every blob, the longest unused first.
    pub fn list(&self) -> Vec<Listed> {
        lock(&self.index).listed(&self.folder)
    }

    /// Bytes of the blobs that `key` has uploaded.
    pub fn owned_bytes(&self, key: &PublicKey) -> u64 {
        lock(&self.index).holders.bytes_of(Some(*key))
    }

    /// How many blobs there are, and their bytes.
    pub fn amount(&self) -> (u64, u64) {
        let index = lock(&self.index);
        (index.entries.len() as u64, index.bytes)
    }

    /// Bytes that the store may hold.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Evicts until there is room for a blob of so many bytes of this key, and reserves it.
    fn make_room(&self, key: &PublicKey, bytes: u64) -> Result<Reserved<'_>, StoreError> {
        // Counted first: who comes to hold most by it is who has to give up something.
        let reserved = self.reserve(key, bytes);
        loop {
            let victim = {
                let index = lock(&self.index);
                // What does not fit beside others that are being written passes the bound by what
                // those hold.
                match index.short(self.limit, self.blobs_max) {
                    Some(short) => index.holders.victim(short),
                    None => None,
                }
            };
            let Some((owner, id)) = victim else {
                return Ok(reserved);
            };
            if self.give_up(owner, &id)? {
                tracing::debug!(blob = %id, "evicted");
            }
        }
    }

    /// Counts a blob of this key that is about to be written.
    fn reserve(&self, key: &PublicKey, bytes: u64) -> Reserved<'_> {
        let owner = Some(*key);
        let mut index = lock(&self.index);
        index.reserved_bytes += bytes;
        index.reserved += 1;
        index.holders.reserve(owner, bytes);
        drop(index);
        Reserved {
            store: self,
            owner,
            bytes,
        }
    }

    /// Takes a blob from one of its owners, and removes it when there is no other. Says whether it
    /// was removed.
    fn give_up(&self, owner: Owner, id: &BlobId) -> Result<bool, StoreError> {
        let _shard = self.lock_shard(id);
        let last = lock(&self.index).give_up(owner, id);
        // The note first: without its notes a blob is nobody's.
        if let Some(key) = owner {
            remove_file(&self.owner_folder(&key).join(id.to_string()))?;
        }
        if last {
            remove_file(&self.blob_path(id))?;
        }
        Ok(last)
    }

    fn lock_shard(&self, id: &BlobId) -> MutexGuard<'_, ()> {
        lock(&self.shards[usize::from(id.0[0]) % SHARDS])
    }

    fn blob_path(&self, id: &BlobId) -> PathBuf {
        blob_path(&self.folder, id)
    }

    fn owner_folder(&self, key: &PublicKey) -> PathBuf {
        // A colon is no character for a file's name everywhere.
        self.folder
            .join("owners")
            .join(key.to_string().replace(':', "-"))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Makes a folder whose own parent is there, durably. The parent is synced also when the folder is
/// there already: who made it may not have come so far.
fn make_folder(folder: &Path) -> Result<(), StoreError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(at(folder))?,
    }
    sync(folder.parent().expect("it lies in the store"))
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use spore_transport::Identity;
    use std::collections::HashSet;

    fn key() -> PublicKey {
        Identity::generate().public()
    }

    fn blob(bytes: &[u8]) -> Verified {
        let id = BlobId(*blake3::hash(bytes).as_bytes());
        Verified::check(id, Bytes::copy_from_slice(bytes)).expect("its own hash")
    }

    #[test]
    fn only_who_uploaded_a_blob_may_read_it_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let (a, b) = (key(), key());
        let blob = blob(b"captured");
        let store = Store::open(folder.path(), 100).expect("opens");
        store.write(&a, &blob).expect("fits");
        let check = |store: Store| {
            let read = store.read(&a, &blob.id()).expect("reads").expect("its own");
            assert_eq!(read.bytes(), blob.bytes());
            assert!(store.read(&b, &blob.id()).expect("reads").is_none());
        };
        check(store);
        check(Store::open(folder.path(), 100).expect("opens"));
    }

    #[test]
    fn one_process_has_it_open_and_others_may_look() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(Store::look(folder.path()).expect("nothing is there"), []);
        let store = Store::open(folder.path(), 100).expect("opens");
        let half = folder.path().join("tmp/half");
        fs::write(&half, b"ca").expect("written");
        assert!(matches!(
            Store::open(folder.path(), 100),
            Err(StoreError::InUse { .. })
        ));
        let (key, blob) = (key(), blob(b"captured"));
        store.write(&key, &blob).expect("fits");
        // The file's own time is that of the write, a little before.
        let seen = |list: Vec<Listed>| -> Vec<_> {
            let seen = list.into_iter();
            seen.map(|blob| (blob.id, blob.bytes, blob.owners, blob.path))
                .collect()
        };
        let looked = Store::look(folder.path()).expect("looks");
        assert_eq!(seen(looked), seen(store.list()));
        assert!(half.exists(), "looking clears nothing");
        drop(store);
        Store::open(folder.path(), 100).expect("opens again");
    }

    #[test]
    fn the_bound_holds_and_the_longest_unused_goes() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), 10).expect("opens");
        let key = key();
        let (old, used, new) = (blob(b"1111"), blob(b"2222"), blob(b"3333"));
        store.write(&key, &old).expect("fits");
        store.write(&key, &used).expect("fits");
        store.write(&key, &new).expect("fits once one is evicted");
        assert_eq!(store.amount(), (2, 8));
        assert!(!store.may_use(&key, &old.id()));
        assert!(matches!(
            store.write(&key, &blob(&[0; 11])),
            Err(StoreError::Full {
                bytes: 11,
                limit: 10
            })
        ));
    }

    #[test]
    fn what_was_read_is_not_the_longest_unused_also_after_a_restart() {
        for restarted in [false, true] {
            let folder = tempfile::tempdir().expect("folder");
            let mut store = Store::open(folder.path(), 10).expect("opens");
            let key = key();
            let (read, unread, new) = (blob(b"1111"), blob(b"2222"), blob(b"3333"));
            store.write(&key, &read).expect("fits");
            store.write(&key, &unread).expect("fits");
            assert!(store.read(&key, &read.id()).expect("reads").is_some());
            if restarted {
                drop(store);
                store = Store::open(folder.path(), 10).expect("opens");
            }
            store.write(&key, &new).expect("fits once one is evicted");
            assert!(store.may_use(&key, &read.id()));
            assert!(!store.may_use(&key, &unread.id()));
        }
    }

    #[test]
    fn their_number_is_bounded_too() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(folder.path(), 100).expect("opens");
        store.blobs_max = 2;
        let (key, blobs) = (key(), [b"1", b"2", b"3"].map(|bytes| blob(bytes)));
        for blob in &blobs {
            store.write(&key, blob).expect("fits");
        }
        let there: Vec<_> = store.list().iter().map(|blob| blob.id).collect();
        assert_eq!(there, [blobs[1].id(), blobs[2].id()]);
        assert_eq!(lock(&store.index).reserved, 0);
    }

    fn ids(list: &[Listed]) -> HashSet<BlobId> {
        list.iter().map(|blob| blob.id).collect()
    }

    #[test]
    fn who_holds_most_makes_room_and_nobody_loses_to_one_that_holds_more() {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(folder.path(), 12).expect("opens");
        let (modest, greedy) = (key(), key());
        let old = blob(b"old!");
        store.write(&modest, &old).expect("fits");
        for number in 0..20 {
            let one = blob(format!("{number:04}").as_bytes());
            store.write(&greedy, &one).expect("fits by its own");
        }
        assert!(store.may_use(&modest, &old.id()));
        assert_eq!(
            (store.owned_bytes(&modest), store.owned_bytes(&greedy)),
            (4, 8)
        );
        // The same for their number: the modest one has the longest unused of three.
        store.blobs_max = 3;
        store.limit = 100;
        for number in 20..30 {
            let one = blob(format!("{number:04}").as_bytes());
            store.write(&greedy, &one).expect("fits by its own");
        }
        assert!(store.may_use(&modest, &old.id()));
        assert_eq!(store.amount(), (3, 12));
    }

    #[test]
    fn a_large_blob_of_one_that_holds_little_takes_from_who_holds_most() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), 14).expect("opens");
        let [rich, modest, new] = [key(), key(), key()];
        let small = blob(b"2222");
        store.write(&modest, &small).expect("fits");
        store.write(&rich, &blob(b"1111")).expect("fits");
        store.write(&rich, &blob(b"333333")).expect("fits");
        store.write(&new, &blob(b"44444444")).expect("fits");
        assert!(store.may_use(&modest, &small.id()));
        assert_eq!(store.amount(), (2, 12));
    }

    #[test]
    fn a_blob_of_two_owners_stays_for_the_other_and_is_charged_to_both() {
        let folder = tempfile::tempdir().expect("folder");
        let (greedy, modest) = (key(), key());
        let shared = blob(b"both");
        let check = |store: &Store| {
            let owned = (store.owned_bytes(&greedy), store.owned_bytes(&modest));
            assert_eq!((owned, store.amount()), ((8, 4), (3, 12)));
            assert!(!store.may_use(&greedy, &shared.id()));
            let read = store.read(&modest, &shared.id()).expect("reads");
            assert_eq!(read.expect("its own").bytes(), shared.bytes());
        };
        let store = Store::open(folder.path(), 12).expect("opens");
        store.write(&greedy, &shared).expect("fits");
        store.write(&modest, &shared).expect("is there");
        assert_eq!(store.amount(), (1, 4));
        for bytes in [b"1111", b"2222", b"3333"] {
            store.write(&greedy, &blob(bytes)).expect("fits");
        }
        // The note of the greedy one went first, which gave no room, and then a blob of its own.
        check(&store);
        drop(store);
        let store = Store::open(folder.path(), 12).expect("opens again");
        check(&store);
        // `remove` is for all owners, and the last to give it up takes it along.
        store.write(&greedy, &shared).expect("is there");
        assert!(store.remove(&shared.id()).expect("removed"));
        assert!(!store.may_use(&greedy, &shared.id()) && !store.may_use(&modest, &shared.id()));
        assert_eq!(store.owned_bytes(&modest), 0);
    }

    #[test]
    fn shrinking_takes_from_who_holds_most_and_names_what_is_gone() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), 100).expect("opens");
        let (rich, modest) = (key(), key());
        let (shared, own) = (blob(b"both"), blob(b"the rich"));
        store.write(&rich, &shared).expect("fits");
        store.write(&modest, &shared).expect("is there");
        store.write(&rich, &own).expect("fits");
        assert_eq!(store.shrink_to(4).expect("shrinks"), [own.id()]);
        assert!(store.may_use(&modest, &shared.id()));
        assert_eq!(store.shrink_to(0).expect("shrinks"), [shared.id()]);
        assert_eq!(store.amount(), (0, 0));
        assert_eq!(Store::look(folder.path()).expect("looks"), []);
    }

    #[test]
    fn what_is_nobodys_goes_before_what_is_somebodys() {
        let folder = tempfile::tempdir().expect("folder");
        let (one, lost, kept) = (key(), blob(b"lost"), blob(b"kept"));
        let store = Store::open(folder.path(), 8).expect("opens");
        store.write(&one, &kept).expect("fits");
        store.write(&one, &lost).expect("fits");
        let note = store.owner_folder(&one).join(lost.id().to_string());
        drop(store);
        fs::remove_file(note).expect("it is there");
        let store = Store::open(folder.path(), 8).expect("opens");
        assert_eq!(store.amount(), (2, 8));
        store.write(&one, &blob(b"new!")).expect("fits");
        assert!(store.may_use(&one, &kept.id()));
        assert_eq!(store.amount(), (2, 8));
        let files = Store::look(folder.path()).expect("looks");
        assert_eq!(ids(&files), ids(&store.list()));
    }

    #[test]
    fn what_is_written_and_evicted_at_once_is_whole_or_absent() {
        let folder = tempfile::tempdir().expect("folder");
        // Room for two of three.
        let store = Store::open(folder.path(), 8).expect("opens");
        let (keys, blobs) = (
            [key(), key()],
            [b"1111", b"2222", b"3333"].map(|bytes| blob(bytes)),
        );
        std::thread::scope(|scope| {
            for first in 0..4 {
                let (store, keys, blobs) = (&store, &keys, &blobs);
                scope.spawn(move || {
                    for round in first..first + 50 {
                        let blob = &blobs[round % 3];
                        store.write(&keys[round % 2], blob).expect("fits");
                        if round % 7 == 0 {
                            store.remove(&blob.id()).expect("removed");
                        }
                    }
                });
            }
        });
        assert!(store.amount().1 <= 8 + 4 * 4, "{:?}", store.amount());
        for listed in store.list() {
            assert!(listed.path.exists(), "an entry without a file");
            assert!(!listed.owners.is_empty(), "an entry without an owner");
            for owner in listed.owners {
                assert!(store.read(&owner, &listed.id).expect("whole").is_some());
            }
        }
        let again = Store::open(folder.path(), 8);
        assert!(again.is_err(), "it is open");
        let (listed, found) = (store.list(), Store::look(folder.path()).expect("looks"));
        assert_eq!(ids(&listed), ids(&found), "files without an entry");
    }

    #[test]
    fn a_damaged_blob_is_reported_and_never_given_out() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), 100).expect("opens");
        let key = key();
        let blob = blob(b"captured");
        store.write(&key, &blob).expect("fits");
        fs::write(store.blob_path(&blob.id()), b"cAptured").expect("written");
        assert!(matches!(
            store.read(&key, &blob.id()),
            Err(StoreError::Damaged { .. })
        ));
        assert!(store.read(&key, &blob.id()).expect("gone").is_none());
    }

    #[test]
    fn half_written_blobs_are_cleared_at_start() {
        let folder = tempfile::tempdir().expect("folder");
        Store::open(folder.path(), 100).expect("opens");
        let half = folder.path().join("tmp/half");
        fs::write(&half, b"ca").expect("written");
        Store::open(folder.path(), 100).expect("opens");
        assert!(!half.exists());
    }
}
