//! What a store holds, in memory: its blobs, who owns them, and who is charged for what.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use spore_transport::{BlobId, PublicKey};

use super::holders::{Holders, Owner, Short};
use super::{Listed, StoreError, at};

/// Every blob of a store.
#[derive(Default)]
pub(super) struct Index {
    pub(super) entries: HashMap<BlobId, Entry>,
    pub(super) bytes: u64,
    /// What is being written, and is not among the entries yet.
    pub(super) reserved_bytes: u64,
    pub(super) reserved: usize,
    /// Who is charged for what.
    pub(super) holders: Holders,
}

/// A blob.
pub(super) struct Entry {
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
    pub(super) owners: HashSet<PublicKey>,
}

impl Entry {
    /// Those who are charged for it.
    fn holders(&self) -> Vec<Owner> {
        match self.owners.is_empty() {
            true => vec![None],
            false => self.owners.iter().copied().map(Some).collect(),
        }
    }
}

impl Index {
    /// Reads the folder. Also gives the notes of owners whose blobs are gone.
    pub(super) fn read(folder: &Path) -> Result<(Index, Vec<PathBuf>), StoreError> {
        let mut index = Index::default();
        for shard in list(&folder.join("blobs"))? {
            for path in list(&shard)? {
                let Some(id) = id_of(&path) else { continue };
                let data = match fs::metadata(&path) {
                    Ok(data) => data,
                    // Evicted since the shard was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(StoreError::Io { path, source }),
                };
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                index.bytes += data.len();
                let entry = Entry {
                    bytes: data.len(),
                    used,
                    owners: HashSet::new(),
                };
                index.entries.insert(id, entry);
            }
        }
        let mut stale = Vec::new();
        for folder in list(&folder.join("owners"))? {
            let Some(key) = key_of(&folder) else { continue };
            for path in list(&folder)? {
                match id_of(&path).and_then(|id| index.entries.get_mut(&id)) {
                    Some(entry) => {
                        entry.owners.insert(key);
                    }
                    // The blob was evicted and this note was not reached.
                    None => stale.push(path),
                }
            }
        }
        for (id, entry) in &index.entries {
            for owner in entry.holders() {
                index.holders.add(owner, *id, entry.bytes, entry.used);
            }
        }
        Ok((index, stale))
    }

    /// What there is too much of, if anything, what is being written included.
    pub(super) fn short(&self, bytes_max: u64, blobs_max: usize) -> Option<Short> {
        if self.bytes.saturating_add(self.reserved_bytes) > bytes_max {
            return Some(Short::Bytes);
        }
        (self.entries.len() + self.reserved > blobs_max).then_some(Short::Count)
    }

    /// Notes that the key owns the blob, which is there, and has used it now.
    pub(super) fn note(&mut self, id: BlobId, bytes: u64, key: PublicKey) {
        let now = SystemTime::now();
        if !self.entries.contains_key(&id) {
            self.bytes += bytes;
        }
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            bytes,
            used: now,
            owners: HashSet::new(),
        });
        if entry.owners.insert(key) {
            // It may have been nobody's.
            self.holders.remove(None, id, entry.bytes, entry.used);
            self.holders.add(Some(key), id, entry.bytes, entry.used);
        }
        self.touch(&id, now);
    }

    pub(super) fn touch(&mut self, id: &BlobId, now: SystemTime) {
        if let Some(entry) = self.entries.get_mut(id) {
            for owner in entry.holders() {
                self.holders.touch(owner, *id, entry.used, now);
            }
            entry.used = now;
        }
    }

    /// Takes the blob from one of its owners. Says whether that was the last, and the blob is gone.
    pub(super) fn give_up(&mut self, owner: Owner, id: &BlobId) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        if let Some(key) = &owner
            && entry.owners.remove(key)
        {
            self.holders.remove(owner, *id, entry.bytes, entry.used);
        }
        let last = entry.owners.is_empty();
        if last {
            self.forget(id);
        }
        last
    }

    pub(super) fn forget(&mut self, id: &BlobId) -> Option<HashSet<PublicKey>> {
        let entry = self.entries.remove(id)?;
        self.bytes -= entry.bytes;
        for owner in entry.holders() {
            self.holders.remove(owner, *id, entry.bytes, entry.used);
        }
        Some(entry.owners)
    }

    /// Every blob, the longest unused first.
    pub(super) fn listed(&self, folder: &Path) -> Vec<Listed> {
        let mut blobs: Vec<_> = self
            .entries
            .iter()
            .map(|(id, entry)| {
                let mut owners: Vec<_> = entry.owners.iter().copied().collect();
                owners.sort();
                let path = blob_path(folder, id);
                Listed {
                    id: *id,
                    bytes: entry.bytes,
                    used: entry.used,
                    owners,
                    path,
                }
            })
            .collect();
        blobs.sort_by_key(|blob| (blob.used, blob.id));
        blobs
    }
}

pub(super) fn blob_path(folder: &Path, id: &BlobId) -> PathBuf {
    let name = id.to_string();
    folder.join("blobs").join(&name[..2]).join(name)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(at(folder)))
        .collect()
}

fn id_of(path: &Path) -> Option<BlobId> {
    let id: spore_bundle::BundleId = path.file_name()?.to_str()?.parse().ok()?;
    Some(BlobId(*id.as_bytes()))
}

fn key_of(path: &Path) -> Option<PublicKey> {
    path.file_name()?.to_str()?.replace('-', ":").parse().ok()
}
