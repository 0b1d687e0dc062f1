//! What a host keeps of sessions and jobs on its disk: everything to go on with them after a restart.
//!
//! A session or job is a record with its image. Beside it lie, once, the parts of the bundle that it
//! was made of, in blocks: equal code of one owner's is there once. How a job has ended, and its
//! items, are kept until its owner has them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use spore_bundle::image::Image;
use spore_bundle::{Bundle, BundleId, PartsError};
use spore_store::{Key, Kind, OpenError, Owner, ReadError, Save, SaveError};
use spore_transport::RefusalCode;
use spore_transport::job::{Custody, HeldItemsError};
use spore_transport::message::Refused;
use spore_value::{DecodeError, codec};
use tokio::runtime::Handle;

use crate::code::chain;
use crate::session::rand_bytes;

mod content;
mod images;
mod records;

pub(crate) use content::{Content, encode, limits};
use content::{blocks, bytes_of};
pub(crate) use images::{EMBEDDING, Images};
pub(crate) use records::{EndedAs, GaveUp, JobRecord, Kept, SessionPlace, SessionRecord};
use records::{JobNoted, Since};

/// A record of a session, with what it was last saved as.
const SESSION: Kind = Kind(1);
/// The bundle of a session.
const SESSION_PARTS: Kind = Kind(2);
/// A record of a job, with its last image and the items that nobody has taken.
const JOB: Kind = Kind(3);
/// The bundle and the arguments of a job.
const JOB_PARTS: Kind = Kind(4);
/// What a job has ended with.
const JOB_ENDING: Kind = Kind(5);
/// The bundle that came ahead of a job.
const JOB_AHEAD: Kind = Kind(6);

/// An image of which fewer than one block in so many has changed is kept as a difference.
const CHANGED_PART: usize = 4;

/// Why something was not kept, or is not there as it was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeepError {
    /// It was not saved.
    #[error("not saved")]
    Save(#[from] SaveError),
    /// It was not read.
    #[error("not read")]
    Read(#[from] ReadError),
    /// The store does not serve.
    #[error("the store does not serve")]
    Disk(#[from] spore_store::DiskError),
    /// A record is none of this release's.
    #[error("unreadable record")]
    Record(#[from] DecodeError),
    /// Items are not as they were kept.
    #[error("the items are not as they were kept")]
    Items(#[from] HeldItemsError),
    /// Blocks make no bundle.
    #[error("the bundle is not as it was kept")]
    Parts(#[from] PartsError),
    /// An image is not as it was kept.
    #[error("the image is not as it was kept")]
    Image(#[from] spore_bundle::ImageError),
    /// Something that belongs to it is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// It ended before it was done.
    #[error("it was given up")]
    GivenUp,
}

impl KeepError {
    /// As a refusal. The log has the rest.
    pub(crate) fn refusal(&self) -> Refused {
        let what = chain(self);
        match self {
            KeepError::Save(SaveError::Full { limit, .. }) => {
                Refused::new(RefusalCode::StoreFull, "images of sessions and jobs")
                    .past(*limit, None)
            }
            KeepError::Save(SaveError::Quota { quota, .. }) => {
                Refused::new(RefusalCode::StoreFull, "images of the key")
                    .past(quota.bytes_max, None)
            }
            KeepError::Save(SaveError::Disk(error)) | KeepError::Disk(error)
                if error.is_no_space() =>
            {
                tracing::error!(error = what, "the store of sessions and jobs");
                Refused::new(
                    RefusalCode::StoreFull,
                    "no space is left on the disk of the host",
                )
            }
            KeepError::Read(_)
            | KeepError::Record(_)
            | KeepError::Parts(_)
            | KeepError::Image(_)
            | KeepError::Items(_)
            | KeepError::Missing(_) => Refused::new(RefusalCode::StoreDamaged, what),
            _ => {
                tracing::error!(error = what, "the store of sessions and jobs");
                Refused::new(RefusalCode::Internal, "the store does not serve")
            }
        }
    }
}

/// The store of sessions and jobs. Cheap to clone. What blocks is done beside.
#[derive(Clone, Debug)]
pub(crate) struct Keep {
    store: spore_store::Store,
    images: Images,
    background: Handle,
    swept: Arc<AtomicBool>,
}

/// What came ahead of a job, on the disk until this is dropped, unless the job is kept as the difference
/// from it.
pub(crate) struct Ahead {
    keep: Keep,
    owner: [u8; 32],
    id: [u8; 16],
    bundle: BundleId,
    stays: bool,
}

/// Names what came ahead.
#[derive(Clone, Copy)]
pub(crate) struct AheadId([u8; 16]);

impl Ahead {
    pub(crate) fn id(&self) -> AheadId {
        AheadId(self.id)
    }

    /// Whether it is this bundle.
    pub(crate) fn is_of(&self, bundle: BundleId) -> bool {
        self.bundle == bundle
    }

    /// The job is kept as the difference from it: it goes with what is kept so.
    pub(crate) fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let (keep, owner, id) = (self.keep.clone(), self.owner, self.id);
        self.keep.background.spawn_blocking(move || {
            if let Err(error) = keep.store.remove(&key(owner, JOB_AHEAD, id)) {
                tracing::error!(
                    error = chain(&error),
                    "what came ahead of a job is still kept"
                );
            }
        });
    }
}

/// An owner, and the id of something of its.
pub(crate) type OwnedId = ([u8; 32], [u8; 16]);

fn key(owner: [u8; 32], kind: Kind, id: [u8; 16]) -> Key {
    Key {
        owner: Owner(owner),
        kind,
        id,
    }
}

impl Keep {
    /// Opens the folder, which is made when it is not there.
    pub(crate) fn open(path: &Path, bytes_max: u64, background: Handle) -> Result<Keep, OpenError> {
        let store = spore_store::Store::open(path, bytes_max)?;
        Ok(Keep {
            images: Images {
                store: store.clone(),
            },
            store,
            background,
            swept: Arc::default(),
        })
    }

    /// Where work goes on that nobody waits for.
    pub(crate) fn background(&self) -> &Handle {
        &self.background
    }

    /// Does what blocks beside, to its end whatever becomes of who waits for it.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Keep) -> Result<T, KeepError> + Send + 'static,
    ) -> Result<T, KeepError> {
        let keep = self.clone();
        let done = self.background.spawn_blocking(move || work(&keep));
        done.await.unwrap_or(Err(KeepError::GivenUp))
    }

    /// An image, and what was kept with it; one that is kept as a difference, from what came ahead.
    fn image(
        &self,
        key: &Key,
        since: Option<Since>,
    ) -> Result<Option<(Image, Vec<u8>)>, KeepError> {
        let Some(since) = since else {
            return self.images.image(key);
        };
        let Some((indexed, blocks)) = self.images.indexed(key)? else {
            return Ok(None);
        };
        let (ahead, _) = self.images.parts(&Key {
            kind: JOB_AHEAD,
            id: since.ahead,
            ..*key
        })?;
        let ahead = ahead.image().ok_or(KeepError::Missing("an image"))?;
        let image = ahead.with_changes(&indexed.image, blocks)?;
        let (named, found) = (since.state.into(), image.id());
        if named != found {
            return Err(PartsError::StateId { named, found }.into());
        }
        Ok(Some((image, indexed.beside)))
    }

    /// Keeps a session that was saved.
    pub(crate) fn save_session(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
        record: &SessionRecord,
        bundle: &Bundle,
        image: &Image,
    ) -> Result<(), KeepError> {
        let at = key(owner, SESSION, id);
        let parts_at = key(owner, SESSION_PARTS, id);
        let parts = (bundle, &[][..]);
        let content = Content::of_image(image, &[]);
        self.images
            .save_image((&at, &parts_at), &encode(record), parts, &content, None)
    }

    /// Keeps what is noted of a session: of one that was given up without an image from then on, and of one
    /// that stays if it was saved.
    pub(crate) fn note_session(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
        record: &SessionRecord,
    ) -> Result<(), KeepError> {
        let at = key(owner, SESSION, id);
        let meta = encode(record);
        let save = Save::meta(&meta);
        if record.gave_up().is_some() {
            self.store.save(&at, &save.without_image())?;
        } else if self.store.load(&at)?.is_some() {
            self.store.save(&at, &save)?;
        }
        Ok(())
    }

    /// Forgets a session.
    pub(crate) fn remove_session(&self, owner: [u8; 32], id: [u8; 16]) -> Result<(), KeepError> {
        self.store.remove(&key(owner, SESSION, id))?;
        self.store.remove(&key(owner, SESSION_PARTS, id))?;
        Ok(())
    }

    /// The ids of all sessions, with their owners.
    pub(crate) fn sessions(&self) -> Result<Vec<OwnedId>, KeepError> {
        self.ids(SESSION)
    }

    /// Where a session is, as far as its record tells.
    pub(crate) fn session_place(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
    ) -> Result<SessionPlace, KeepError> {
        Ok(self.session_record(owner, id)?.place())
    }

    fn session_record(&self, owner: [u8; 32], id: [u8; 16]) -> Result<SessionRecord, KeepError> {
        let record = self.store.load(&key(owner, SESSION, id))?;
        let record = record.ok_or(KeepError::Missing("its record"))?;
        Ok(codec::decode_serde(&record.meta, &limits(&record.meta))?)
    }

    /// A session as it was last saved: its record, the bundle that it was opened from, and its image,
    /// which one that was given up does not have.
    pub(crate) fn session(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
    ) -> Result<(SessionRecord, Bundle, Option<Image>), KeepError> {
        let record = self.session_record(owner, id)?;
        let (bundle, _) = self.images.parts(&key(owner, SESSION_PARTS, id))?;
        if record.gave_up().is_some() {
            return Ok((record, bundle, None));
        }
        let image = self.images.image(&key(owner, SESSION, id))?;
        let (image, _) = image.ok_or(KeepError::Missing("its image"))?;
        Ok((record, bundle, Some(image)))
    }

    /// Keeps what came ahead of a job that may come, so that little is left to be written when it
    /// comes.
    pub(crate) fn save_job_ahead(
        &self,
        owner: [u8; 32],
        bundle: &Bundle,
    ) -> Result<Ahead, KeepError> {
        // One of its own: the job may be offered again meanwhile.
        let id = rand_bytes();
        let content = Content::of_parts(bundle, &[]);
        self.images.save(&key(owner, JOB_AHEAD, id), &content)?;
        Ok(Ahead {
            keep: self.clone(),
            owner,
            id,
            bundle: bundle.id(),
            stays: false,
        })
    }

    /// Keeps all of a job: what it was started from, the bundle and its arguments, and how it is; with
    /// its image, and the items that it holds, when there is a new one. That is kept as the difference
    /// from what came ahead, if it is given and they are much alike. Says whether it is.
    pub(crate) fn save_job(
        &self,
        (owner, id): OwnedId,
        record: &JobRecord,
        parts: (&Bundle, &[u8]),
        image: Option<(&Image, &[u8])>,
        ahead: Option<(AheadId, &Image)>,
    ) -> Result<bool, KeepError> {
        let at = key(owner, JOB, id);
        let Some((image, beside)) = image else {
            self.save_job_parts((owner, id), parts)?;
            self.note_job((owner, id), record)?;
            return Ok(false);
        };
        let before = self.since((owner, id))?;
        let like = ahead.map(|(ahead, _)| ahead.0);
        let ahead = match ahead {
            Some((id, since)) => {
                let is_good = self.store.is_good(&key(owner, JOB_AHEAD, id.0))?;
                is_good.then_some((id, since))
            }
            None => None,
        };
        let difference = ahead.and_then(|(ahead, since)| {
            let changes = image.changes_since(since);
            let is_little = changes.blocks.len() < image.index().numbers.len() / CHANGED_PART;
            is_little.then_some((ahead.0, changes))
        });
        let (content, since) = match difference {
            Some((ahead, changes)) => {
                let state = *image.id().as_bytes();
                let content = Content::of_changes(changes, beside);
                (content, Some(Since { ahead, state }))
            }
            None => (Content::of_image(image, beside), None),
        };
        let like = like.or(before.map(|before| before.ahead));
        let like = like.map(|like| key(owner, JOB_AHEAD, like));
        let parts_at = key(owner, JOB_PARTS, id);
        let noted = noted(record, since);
        self.images
            .save_image((&at, &parts_at), &noted, parts, &content, like.as_ref())?;
        self.let_go(owner, before.filter(|before| since != Some(*before)));
        Ok(since.is_some())
    }

    /// What the image of a job is kept as the difference from.
    fn since(&self, (owner, id): OwnedId) -> Result<Option<Since>, KeepError> {
        let Some(record) = self.store.load(&key(owner, JOB, id))? else {
            return Ok(None);
        };
        let noted: JobNoted = codec::decode_serde(&record.meta, &limits(&record.meta))?;
        Ok(noted.since)
    }

    /// Whether the image of a job may be kept as the difference from this.
    pub(crate) fn needs(&self, id: OwnedId, ahead: AheadId) -> bool {
        let since = self.since(id);
        since.map_or(true, |since| {
            since.is_some_and(|since| since.ahead == ahead.0)
        })
    }

    /// Removes what came ahead of a job and is not needed any more. If it fails, the next start does.
    fn let_go(&self, owner: [u8; 32], since: Option<Since>) {
        if let Some(since) = since
            && let Err(error) = self.store.remove(&key(owner, JOB_AHEAD, since.ahead))
        {
            tracing::error!(
                error = chain(&error),
                "what came ahead of a job is still kept"
            );
        }
    }

    fn save_job_parts(
        &self,
        (owner, id): OwnedId,
        (bundle, arguments): (&Bundle, &[u8]),
    ) -> Result<(), KeepError> {
        let at = key(owner, JOB_PARTS, id);
        match self.store.is_good(&at)? {
            true => Ok(()),
            false => self.images.save(&at, &Content::of_parts(bundle, arguments)),
        }
    }

    /// Keeps how a job is, of which all else is kept.
    pub(crate) fn note_job(
        &self,
        (owner, id): OwnedId,
        record: &JobRecord,
    ) -> Result<(), KeepError> {
        let meta = noted(record, self.since((owner, id))?);
        self.store.save(&key(owner, JOB, id), &Save::meta(&meta))?;
        Ok(())
    }

    /// Keeps how a job has ended, with the items that it holds, and what it was started from.
    pub(crate) fn save_job_ending(
        &self,
        (owner, id): OwnedId,
        record: &JobRecord,
        parts: (&Bundle, &[u8]),
        payload: &[u8],
        items: &[u8],
    ) -> Result<(), KeepError> {
        // One that is not persisted while it runs is written down here for the first time.
        self.save_job_parts((owner, id), parts)?;
        let mut all = Vec::new();
        blocks(payload, &mut all);
        blocks(items, &mut all);
        let ending = records::Ending {
            payload_bytes: payload.len() as u64,
            items_bytes: items.len() as u64,
        };
        let at = key(owner, JOB_ENDING, id);
        self.images
            .save(&at, &Content::of(encode(&ending), all, None))?;
        // From here on it has ended.
        let before = self.since((owner, id))?;
        let meta = noted(record, None);
        let save = Save::meta(&meta).without_image();
        self.store.save(&key(owner, JOB, id), &save)?;
        self.let_go(owner, before);
        Ok(())
    }

    /// What a job has ended with, and the items that it held.
    pub(crate) fn job_ending(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
    ) -> Result<(Bytes, Bytes), KeepError> {
        let found = self.images.blocks_of(&key(owner, JOB_ENDING, id))?;
        let (index, blocks) = found.ok_or(KeepError::Missing("its ending"))?;
        let ending: records::Ending = codec::decode_serde(&index, &limits(&index))?;
        let (payload, count) = bytes_of(&blocks, ending.payload_bytes)?;
        let (items, _) = bytes_of(&blocks[count..], ending.items_bytes)?;
        Ok((payload, items))
    }

    /// Forgets a job.
    pub(crate) fn remove_job(&self, owner: [u8; 32], id: [u8; 16]) -> Result<(), KeepError> {
        // One that cannot be read goes too.
        let since = self.since((owner, id)).unwrap_or_default();
        // The record first: what is left without it is removed when the host starts.
        for kind in [JOB, JOB_ENDING, JOB_PARTS] {
            self.store.remove(&key(owner, kind, id))?;
        }
        self.let_go(owner, since);
        Ok(())
    }

    /// Whether a job is kept.
    pub(crate) fn has_job(&self, owner: [u8; 32], id: [u8; 16]) -> Result<bool, KeepError> {
        Ok(self.store.load(&key(owner, JOB, id))?.is_some())
    }

    /// The ids of all jobs, with their owners.
    pub(crate) fn jobs(&self) -> Result<Vec<OwnedId>, KeepError> {
        self.ids(JOB)
    }

    /// A job's record, the bundle that it was started from, and its arguments.
    pub(crate) fn job(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
    ) -> Result<(JobRecord, Bundle, Bytes), KeepError> {
        let record = self.store.load(&key(owner, JOB, id))?;
        let record = record.ok_or(KeepError::Missing("its record"))?;
        let noted: JobNoted = codec::decode_serde(&record.meta, &limits(&record.meta))?;
        let (bundle, arguments) = self.images.parts(&key(owner, JOB_PARTS, id))?;
        Ok((noted.record, bundle, arguments))
    }

    /// Where a job is, as far as its record tells.
    pub(crate) fn job_custody(&self, owner: [u8; 32], id: [u8; 16]) -> Result<Custody, KeepError> {
        let record = self.store.load(&key(owner, JOB, id))?;
        let record = record.ok_or(KeepError::Missing("its record"))?;
        let noted: JobNoted = codec::decode_serde(&record.meta, &limits(&record.meta))?;
        let JobRecord::V1(kept) = noted.record;
        let custody = Custody::after_restart(Some(kept.custody));
        custody.ok_or(KeepError::Missing("its record"))
    }

    /// The last image of a job, with its items, if there is one.
    pub(crate) fn job_image(
        &self,
        owner: [u8; 32],
        id: [u8; 16],
    ) -> Result<Option<(Image, Vec<u8>)>, KeepError> {
        self.image(&key(owner, JOB, id), self.since((owner, id))?)
    }

    /// Removes parts and endings whose session or job is not there, which an end at a bad moment left,
    /// and what came ahead of jobs that are not kept as the difference from it: no offer survives a
    /// restart. Once: what is written after that may be needed soon.
    pub(crate) fn sweep(&self) -> Result<(), KeepError> {
        if self.swept.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut needed = HashSet::new();
        for (owner, id) in self.ids(JOB)? {
            match self.since((owner, id)) {
                Ok(since) => needed.extend(since.map(|since| (owner, since.ahead))),
                Err(error) => {
                    // What it needs is not known: all of its owner's stays until it is gone.
                    tracing::error!(error = chain(&error), "a job cannot be read");
                    let all = self.ids(JOB_AHEAD)?.into_iter();
                    needed.extend(all.filter(|(of, _)| *of == owner));
                }
            }
        }
        for (owner, id) in self.ids(JOB_AHEAD)? {
            if !needed.contains(&(owner, id)) {
                self.store.remove(&key(owner, JOB_AHEAD, id))?;
            }
        }
        for (part, of) in [
            (SESSION_PARTS, SESSION),
            (JOB_PARTS, JOB),
            (JOB_ENDING, JOB),
        ] {
            let there: HashSet<_> = self.ids(of)?.into_iter().collect();
            for (owner, id) in self.ids(part)? {
                if !there.contains(&(owner, id)) {
                    self.store.remove(&key(owner, part, id))?;
                }
            }
        }
        Ok(())
    }

    fn ids(&self, kind: Kind) -> Result<Vec<OwnedId>, KeepError> {
        let records = self.store.list(None, Some(kind))?;
        let ids = records.into_iter().map(|(key, _)| (key.owner.0, key.id));
        Ok(ids.collect())
    }
}

/// A record of a job as it is noted.
fn noted(record: &JobRecord, since: Option<Since>) -> Vec<u8> {
    let record = record.clone();
    encode(&JobNoted { record, since })
}
