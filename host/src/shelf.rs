//! Sessions that a program keeps between its runs, in a folder of its user's.
//!
//! A host keeps its sessions in memory, and on its disk what they were saved as. A command ends after
//! each call: what a session is now goes to the disk, beside what it was last saved as. Both are
//! images in one store (`spore-store`), and have their blocks in common.
//!
//! ```text
//! FOLDER/turn                         locked by the program that has the shelf open
//! FOLDER/lock, records.redb, packs/   the store
//! ```

use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use spore_bundle::{Bundle, BundleId};
use spore_store::{ImageToSave, Key, Kind, Owner, Save, SaveError};
use spore_transport::session::Origin;
use spore_transport::{PublicKey, SessionId};
use spore_value::codec;

use crate::keep::{Content, EMBEDDING, Images, KeepError, encode, limits};

/// What a session is now. The record is what is known of it.
const NOW: Kind = Kind(16);
/// What it was last saved as.
const SAVED: Kind = Kind(17);
/// The bundle whose image it is.
const PARTS: Kind = Kind(18);

/// Longest text of why a session is poisoned, in bytes. A longer one is cut.
const WHY_BYTES_MAX: usize = 4096;

/// Why the sessions of a program are not kept, or not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The folder does not serve, or not yet: a later release wrote it.
    #[error("the folder of sessions cannot be opened")]
    Open(#[source] Box<dyn Error + Send + Sync>),
    /// There is no such session.
    #[error("there is no such session")]
    Unknown,
    /// No more room, on the disk or below the shelf's maximum.
    #[error("there is no room to keep the session")]
    Full(#[source] Box<dyn Error + Send + Sync>),
    /// What was kept is not as it was.
    #[error("what was kept of the session is damaged")]
    Damaged(#[source] Box<dyn Error + Send + Sync>),
    /// The disk does not serve.
    #[error("the sessions cannot be read or written")]
    Disk(#[source] Box<dyn Error + Send + Sync>),
}

impl From<KeepError> for ShelfError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Save(SaveError::Full { .. } | SaveError::Quota { .. }) => {
                ShelfError::Full(error.into())
            }
            KeepError::Save(_) | KeepError::Disk(_) | KeepError::GivenUp => {
                ShelfError::Disk(error.into())
            }
            _ => ShelfError::Damaged(error.into()),
        }
    }
}

/// What is known of a session without reading its images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shelved {
    /// The name of the guest
    pub name: String,
    /// The bundle that it is now
    pub bundle: BundleId,
    /// Bytes of its memory that differ from a fresh instance
    pub memory_bytes: u64,
    /// The bundle that it was last saved as
    pub saved: Option<BundleId>,
    /// Why a call did not come to its end, so that it is to be put back
    pub poisoned: Option<String>,
    /// Where it comes from, until it was given up there
    pub held: Option<HeldFrom>,
    /// What it was given up to: it cannot be called any more
    pub gave_up: Option<Origin>,
    /// When it was last kept, in milliseconds since 1970
    pub used_ms: u64,
}

/// A session, and what is known of it or why that cannot be read.
pub type Listed = (SessionId, Result<Shelved, ShelfError>);

/// What a session is that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFrom {
    /// Its id where it comes from
    pub session: SessionId,
    /// The host that it comes from
    pub host: PublicKey,
    /// What it was saved as there
    pub bundle: BundleId,
}

impl HeldFrom {
    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        Origin {
            session: self.session,
            host: Some(self.host),
        }
    }
}

/// A record, layout 1. Frozen: a field more or less is another variant.
#[derive(Serialize, Deserialize)]
enum Note {
    V1(Shelved),
}

/// The sessions in a folder, for as long as this is there. Others wait.
#[derive(Debug)]
pub struct Shelf {
    images: Images,
    _turn: File,
}

fn key(kind: Kind, id: SessionId) -> Key {
    Key {
        owner: Owner(EMBEDDING),
        kind,
        id: id.0,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Shelf {
    /// Opens the folder, which is made when it is not there. Waits while another program has it open.
    /// `bytes_max` bounds the images of all sessions.
    ///
    /// # Errors
    ///
    /// When the folder does not serve, or a later release wrote it.
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Shelf, ShelfError> {
        let open = |error: std::io::Error| ShelfError::Open(error.into());
        std::fs::create_dir_all(folder).map_err(open)?;
        let turn = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("turn"))
            .map_err(open)?;
        turn.lock().map_err(open)?;
        let store = spore_store::Store::open(folder, bytes_max);
        let store = store.map_err(|error| ShelfError::Open(error.into()))?;
        let shelf = Shelf {
            images: Images { store },
            _turn: turn,
        };
        shelf.sweep()?;
        Ok(shelf)
    }

    /// Removes what an end at a bad moment left of sessions that are gone.
    fn sweep(&self) -> Result<(), ShelfError> {
        let ids = |kind| -> Result<Vec<SessionId>, KeepError> {
            let records = self.images.store.list(None, Some(kind))?;
            Ok(records.iter().map(|(key, _)| SessionId(key.id)).collect())
        };
        let there: HashSet<SessionId> = ids(NOW)?.into_iter().collect();
        for kind in [SAVED, PARTS] {
            for id in ids(kind)? {
                if !there.contains(&id) {
                    let removed = self.images.store.remove(&key(kind, id));
                    removed.map_err(KeepError::from)?;
                }
            }
        }
        Ok(())
    }

    /// Every session, in the order of their ids, or why its record cannot be read.
    ///
    /// # Errors
    ///
    /// When the disk does not serve.
    pub fn list(&self) -> Result<Vec<Listed>, ShelfError> {
        let records = self.images.store.list(Some(Owner(EMBEDDING)), Some(NOW));
        let records = records.map_err(KeepError::from)?.into_iter();
        let read = |meta: &[u8]| Ok(decode(meta)?);
        Ok(records
            .map(|(key, record)| (SessionId(key.id), read(&record.meta)))
            .collect())
    }

    /// What is known of a session.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn find(&self, id: SessionId) -> Result<Shelved, ShelfError> {
        let record = self.images.store.load(&key(NOW, id));
        let record = record.map_err(KeepError::from)?;
        Ok(decode(&record.ok_or(ShelfError::Unknown)?.meta)?)
    }

    /// The bundle with the image that a session is now.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn bundle(&self, id: SessionId) -> Result<Bundle, ShelfError> {
        let shelved = self.find(id)?;
        Ok(self.read(NOW, id, shelved.bundle)?)
    }

    /// The bundle that a session was last saved as; nothing when it never was.
    ///
    /// # Errors
    ///
    /// When there is no session, or it cannot be read.
    pub fn saved(&self, id: SessionId) -> Result<Option<Bundle>, ShelfError> {
        let saved = self.find(id)?.saved;
        let read = saved.map(|saved| self.read(SAVED, id, saved));
        Ok(read.transpose()?)
    }

    fn read(&self, kind: Kind, id: SessionId, expected: BundleId) -> Result<Bundle, KeepError> {
        let (parts, _) = self.images.parts(&key(PARTS, id))?;
        let image = self.images.image(&key(kind, id))?;
        let (image, _) = image.ok_or(KeepError::Missing("its image"))?;
        let bundle = parts.with_image(image);
        let bundle = bundle.map_err(|_| KeepError::Missing("a bundle with images"))?;
        match bundle.id() == expected {
            true => Ok(bundle),
            false => Err(KeepError::Missing("the bundle that it is")),
        }
    }

    /// Keeps what a session is now, durably: a bundle with an image, as one that can be called. What it
    /// was saved as stays. A new session may be held.
    ///
    /// # Errors
    ///
    /// When there is no room, or the disk does not serve.
    pub fn keep(
        &self,
        id: SessionId,
        bundle: &Bundle,
        held: Option<HeldFrom>,
    ) -> Result<(), ShelfError> {
        let before = match self.find(id) {
            Ok(before) => Some(before),
            Err(ShelfError::Unknown) => None,
            Err(error) => return Err(error),
        };
        let image = bundle.image().ok_or(KeepError::Missing("an image"))?;
        let shelved = Shelved {
            name: bundle.manifest().name.clone(),
            bundle: bundle.id(),
            memory_bytes: image.changed_bytes(),
            saved: before.as_ref().and_then(|before| before.saved),
            poisoned: None,
            held: before.as_ref().map_or(held, |before| before.held),
            gave_up: before.as_ref().and_then(|before| before.gave_up),
            used_ms: now_ms(),
        };
        let content = Content::of_image(image, &[]);
        let keys = (&key(NOW, id), &key(PARTS, id));
        let meta = encode(&Note::V1(shelved));
        // Not the image that it begins with: what it is later needs nothing of it.
        let parts = bundle.without_state();
        self.images
            .save_image(keys, &meta, (&parts, &[]), &content, None)?;
        self.tidy();
        Ok(())
    }

    /// Gives back a piece of what nothing needs any more, once that is the most of it.
    fn tidy(&self) {
        let store = &self.images.store;
        let tidied = store
            .totals()
            .and_then(|totals| match totals.dead_bytes > totals.bytes / 2 {
                true => store.compact().map(|_| ()),
                false => Ok(()),
            });
        if let Err(error) = tidied {
            tracing::debug!(error = crate::code::chain(&error), "not tidied");
        }
    }

    /// Has what a session is now be what it is put back to, durably.
    ///
    /// # Errors
    ///
    /// As [`keep`](Self::keep), and when what it is cannot be read.
    pub fn save(&self, id: SessionId) -> Result<Bundle, ShelfError> {
        let shelved = self.find(id)?;
        let bundle = self.read(NOW, id, shelved.bundle)?;
        let shelved = Shelved {
            saved: Some(bundle.id()),
            ..shelved
        };
        let content = Content::of_image(bundle.image().expect("it was read with one"), &[]);
        let image = ImageToSave {
            index: &content.index,
            ids: &content.ids,
            block: &|at| content.block(at),
        };
        // Together: what the record says is what is there.
        let meta = encode(&Note::V1(shelved));
        let saved = Save::meta(&[]).with_image(image);
        let now = Save::meta(&meta).with_image(image);
        let both = [(key(SAVED, id), saved, image), (key(NOW, id), now, image)];
        let kept = self.images.store.save_all(&Owner(EMBEDDING), &both);
        kept.map_err(KeepError::from)?;
        Ok(bundle)
    }

    /// Notes that a call in a session did not come to its end.
    ///
    /// # Errors
    ///
    /// When there is none, or the disk does not serve.
    pub fn poison(&self, id: SessionId, why: &str) -> Result<(), ShelfError> {
        let why = why[..why.floor_char_boundary(WHY_BYTES_MAX)].to_owned();
        self.note(id, |shelved| shelved.poisoned = Some(why))
    }

    /// Notes that a session was given up where it comes from.
    ///
    /// # Errors
    ///
    /// When there is none, or the disk does not serve.
    pub fn take_over(&self, id: SessionId) -> Result<(), ShelfError> {
        self.note(id, |shelved| shelved.held = None)
    }

    /// Notes that a session was given up to a copy of it elsewhere.
    ///
    /// # Errors
    ///
    /// When there is none, or the disk does not serve.
    pub fn give_up(&self, id: SessionId, to: Origin) -> Result<(), ShelfError> {
        self.note(id, |shelved| shelved.gave_up = Some(to))
    }

    fn note(&self, id: SessionId, change: impl FnOnce(&mut Shelved)) -> Result<(), ShelfError> {
        let mut shelved = self.find(id)?;
        change(&mut shelved);
        let meta = encode(&Note::V1(shelved));
        let noted = self.images.store.save(&key(NOW, id), &Save::meta(&meta));
        noted.map_err(KeepError::from)?;
        Ok(())
    }

    /// Forgets a session, durably.
    ///
    /// # Errors
    ///
    /// When there is none, or the disk does not serve.
    pub fn remove(&self, id: SessionId) -> Result<(), ShelfError> {
        // Without this record there is no session, whatever else is left.
        for (kind, needed) in [(NOW, true), (SAVED, false), (PARTS, false)] {
            let removed = self.images.store.remove(&key(kind, id));
            if !removed.map_err(KeepError::from)? && needed {
                return Err(ShelfError::Unknown);
            }
        }
        Ok(())
    }
}

fn decode(meta: &[u8]) -> Result<Shelved, KeepError> {
    let Note::V1(shelved) = codec::decode_serde(meta, &limits(meta))?;
    Ok(shelved)
}
