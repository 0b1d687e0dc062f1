//! A job on the disk: written down before anything of it is told, and taken up after a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::Bundle;
use spore_bundle::image::Image;
use spore_transport::RefusalCode;
use spore_transport::job::custody::Event;
use spore_transport::job::{Custody, HeldItems};
use spore_transport::message::Refused;
use tokio::sync::oneshot;

use super::{Items, Job, Now, Phase};
use crate::callers::KeyState;
use crate::code::chain;
use crate::events::{Finished, Outcome};
use crate::keep::{EndedAs, JobRecord, Keep, KeepError, Kept};
use crate::limits::millis;
use crate::room::Held;
use crate::run::refused;
use crate::session::{Charged, Room, Saved};

/// Time between two images that are only taken so that items may leave.
pub(super) const ITEMS_PERSIST_INTERVAL: Duration = Duration::from_millis(100);

/// The same where the guest waits for that: as many times as long as the last took to be written, but
/// at least [`ITEMS_PERSIST_MIN`].
const ITEMS_PERSIST_FACTOR: u32 = 3;
const ITEMS_PERSIST_MIN: Duration = Duration::from_millis(5);

/// Time until an ending is written down anew that could not be.
const ENDING_PAUSE: Duration = Duration::from_secs(1);

/// What an ending may have, in bytes, when nothing is left of what the key may have held.
const ENDING_FREE_BYTES: u64 = 1 << 20;

/// The turn to write a job down.
pub(crate) type DiskTurn = tokio::sync::OwnedMutexGuard<()>;

/// Whoever waits for what a job was saved as.
pub(super) type Waiting = oneshot::Sender<Result<Saved, Refused>>;

/// How a job is at one moment, to be written down with an image of then.
struct AsNow {
    kept: Kept,
    items: Vec<u8>,
    emitted: u64,
}

impl Job {
    /// Writes down what it is made of, and that this is where it is: here that holds from then on. One
    /// that cannot be written down is gone.
    ///
    /// One that arrives may be kept as the difference from what was `offered`.
    pub(crate) async fn keep_begin(
        &self,
        image: Option<&Image>,
        custody: Custody,
        offered: Option<&Bundle>,
    ) -> Result<(), KeepError> {
        let _turn = self.disk.lock().await;
        let mut as_now = self.as_now();
        as_now.kept.custody = custody;
        let written = self.write_whole(image, &as_now, offered).await;
        {
            let mut now = self.now();
            match written {
                Ok(()) => (now.custody, now.moved) = (custody, Instant::now()),
                Err(_) => now.gone = true,
            }
        }
        self.changed();
        written
    }

    /// The turn to write it down.
    pub(crate) async fn disk_turn(&self) -> DiskTurn {
        self.disk.clone().lock_owned().await
    }

    /// Writes an image of it down, with the items that it holds then, as that of a job which is paused
    /// or not; to the end, whatever becomes of who waits for that.
    pub(crate) async fn keep_image(
        self: &Arc<Self>,
        turn: DiskTurn,
        image: &Image,
        paused: bool,
    ) -> Result<(), KeepError> {
        let mut as_now = self.as_now();
        as_now.kept.paused = paused;
        let Some(keep) = &self.keep else {
            return self.write_image(image, &as_now).await;
        };
        let (job, image) = (self.clone(), image.clone());
        let writing = keep.background().spawn(async move {
            let written = job.write_image(&image, &as_now).await;
            drop(turn);
            written
        });
        writing.await.unwrap_or(Err(KeepError::GivenUp))
    }

    /// Has an image of it written down as it is now, while it goes on; then answers those who wait
    /// for that.
    pub(super) fn keep_beside(
        self: &Arc<Self>,
        turn: DiskTurn,
        image: Arc<Charged>,
        saves: Vec<Waiting>,
    ) {
        let Some(keep) = &self.keep else {
            return self.answer(saves, self.saved_as(image));
        };
        let (job, as_now) = (self.clone(), self.as_now());
        keep.background().spawn(async move {
            let written = job.write_image(&image.image, &as_now).await;
            drop(turn);
            let saved = match written {
                Ok(()) if saves.is_empty() => return,
                Ok(()) => job.saved_as(image),
                Err(error) => {
                    tracing::error!(job = %job.id, error = chain(&error), "a job was not kept");
                    Err(error.refusal())
                }
            };
            job.answer(saves, saved);
        });
    }

    fn answer(&self, saves: Vec<Waiting>, saved: Result<Saved, Refused>) {
        for waiting in saves {
            // Whoever wanted it may be gone.
            let _ = waiting.send(saved.clone());
        }
        self.changed();
    }

    /// How it is now, to be written down. Whoever calls has the turn.
    fn as_now(&self) -> AsNow {
        self.as_it_is(&mut self.now())
    }

    fn as_it_is(&self, now: &mut Now) -> AsNow {
        now.persisted = Instant::now();
        let emitted = now.items.emitted();
        now.items.set_written(emitted);
        let JobRecord::V1(kept) = self.record(now);
        AsNow {
            kept,
            items: now.items.to_held().encode(),
            emitted,
        }
    }

    async fn write_image(&self, image: &Image, as_now: &AsNow) -> Result<(), KeepError> {
        let began = Instant::now();
        if let Err(error) = self.write_whole(Some(image), as_now, None).await {
            let mut now = self.now();
            now.items.set_not_written();
            now.persist_took = ITEMS_PERSIST_INTERVAL;
            return Err(error);
        }
        {
            let mut now = self.now();
            now.persist_took = began.elapsed();
            now.items.set_durable(as_now.emitted);
            now.not_kept.clear();
        }
        // Items may leave now, and the run may wait for that.
        self.changed();
        self.wake.notify_one();
        Ok(())
    }

    /// Writes all of it down, as the difference from what was `offered` if that is on the disk.
    /// Whoever calls has the turn.
    async fn write_whole(
        &self,
        image: Option<&Image>,
        as_now: &AsNow,
        offered: Option<&Bundle>,
    ) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn_of_key = self.key.keeping.lock().await;
        let (owner, id) = (self.key.id, self.id.0);
        let (bundle, arguments) = (self.terms.bundle.clone(), self.terms.arguments.clone());
        let (image, items) = (image.cloned(), as_now.items.clone());
        let has_image = image.is_some();
        let ahead = offered.and_then(|offered| {
            let offered_image = offered.image()?.clone();
            let ahead = self.now().ahead.take_if(|it| it.is_of(offered.id()))?;
            Some((ahead, offered_image))
        });
        let record = JobRecord::V1(as_now.kept.clone());
        keep.beside(move |keep| {
            let image = image.as_ref().map(|image| (image, &items[..]));
            let since = ahead.as_ref().map(|(ahead, since)| (ahead.id(), since));
            let parts = (&bundle, &arguments[..]);
            let needs_ahead = keep.save_job((owner, id), &record, parts, image, since);
            if let Some((ahead, _)) = ahead {
                // One that has failed may be there or not.
                let needed = match needs_ahead {
                    Ok(needed) => needed,
                    Err(_) => keep.needs((owner, id), ahead.id()),
                };
                if needed {
                    ahead.stays();
                }
            }
            needs_ahead.map(|_| ())
        })
        .await?;
        let mut now = self.now();
        now.items_kept = as_now.kept.items_first;
        now.image_kept |= has_image;
        Ok(())
    }

    /// Writes down how it is otherwise. One that was never written down stays so.
    pub(crate) async fn keep_standing(&self) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn = self.disk.lock().await;
        self.write_standing(keep).await
    }

    /// Writes down which items were taken, if that is not; not now, when something else is written.
    pub(crate) async fn note_items(&self) -> Result<(), KeepError> {
        let (Some(keep), Ok(_turn)) = (&self.keep, self.disk.try_lock()) else {
            return Ok(());
        };
        match self.has_items_to_note() {
            true => self.write_standing(keep).await,
            false => Ok(()),
        }
    }

    /// Whoever calls has the turn.
    async fn write_standing(&self, keep: &Keep) -> Result<(), KeepError> {
        let (record, first) = {
            let now = self.now();
            (self.record(&now), now.items.first())
        };
        let (owner, id) = (self.key.id, self.id.0);
        keep.beside(move |keep| match keep.has_job(owner, id)? {
            true => keep.note_job((owner, id), &record),
            false => Ok(()),
        })
        .await?;
        self.now().items_kept = first;
        Ok(())
    }

    /// Writes all of it down as it stands still, if it is not.
    pub(crate) async fn keep_still(self: &Arc<Self>) -> Result<(), KeepError> {
        self.keep_unless(|now| !now.is_to_be_kept()).await
    }

    /// Writes all of it down as it stands still, if nothing of it is.
    pub(crate) async fn keep_known(self: &Arc<Self>) -> Result<(), KeepError> {
        self.keep_unless(|_| true).await
    }

    /// Writes all of it down as it stands still, unless something of it is and this will do. Once it has
    /// its turn, to the end, whatever becomes of who waits for that: a write that lost its turn would come
    /// in between.
    async fn keep_unless(self: &Arc<Self>, will_do: fn(&Now) -> bool) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let turn = self.disk_turn().await;
        let (job, keep) = (self.clone(), keep.clone());
        let background = keep.background().clone();
        let writing = background.spawn(async move {
            let _turn = turn;
            let (owner, id) = (job.key.id, job.id.0);
            let has = keep.beside(move |keep| keep.has_job(owner, id)).await?;
            let (image, as_now) = {
                let mut now = job.now();
                if now.gone || !matches!(now.phase, Phase::Still) || has && will_do(&now) {
                    return Ok(());
                }
                let image = now.image.as_ref().map(|it| it.image.clone());
                (image, job.as_it_is(&mut now))
            };
            match image {
                Some(image) => job.write_image(&image, &as_now).await,
                None => job.write_whole(None, &as_now, None).await,
            }
        });
        writing.await.unwrap_or(Err(KeepError::GivenUp))
    }

    /// Has something happen to where it is: on the disk first, as far as a restart is to find it there,
    /// and here once it is there. One after the other, each from what the one before has left: what two
    /// requests make of the same moment could have a job run on two hosts. Gives what is here of it then;
    /// nothing once it is forgotten.
    ///
    /// Not cancel-safe: see [`Host::to_the_end`](crate::Host).
    pub(crate) async fn change_custody(&self, event: &Event) -> Result<Option<Custody>, Refused> {
        let _turn = self.disk.lock().await;
        let (before, stands, JobRecord::V1(kept)) = {
            let now = self.now();
            if let (Event::Leave { .. }, Phase::Ended(_)) = (event, &now.phase) {
                return Err(Refused::new(RefusalCode::JobEnded, ""));
            }
            (
                now.custody(),
                !matches!(now.phase, Phase::Running),
                self.record(&now),
            )
        };
        let after = Custody::after(self.id, before, event).map_err(|error| error.refusal())?;
        if after == before {
            return Ok(after);
        }
        // The one that stops it holds it meanwhile.
        if after.is_none_or(|after| !after.may_run()) && !stands {
            return Err(Refused::new(RefusalCode::MoveUnderWay, ""));
        }
        let kept_as = [before, after].map(Custody::after_restart);
        if let Some(keep) = &self.keep
            && kept_as[0] != kept_as[1]
        {
            let (owner, id) = (self.key.id, self.id.0);
            let written = keep.beside(move |keep| match after {
                Some(custody) => {
                    let record = JobRecord::V1(Kept { custody, ..kept });
                    keep.note_job((owner, id), &record)
                }
                None => keep.remove_job(owner, id),
            });
            written.await.map_err(|error| error.refusal())?;
        }
        {
            let mut now = self.now();
            match after {
                Some(custody) => now.custody = custody,
                None => now.gone = true,
            }
            if now.custody.may_run() {
                now.leaving_items = None;
            }
            now.moved = Instant::now();
        }
        self.changed();
        Ok(after)
    }

    /// Ends it, once that is on the disk. Until it can be written down it has not ended, and
    /// [`conclude_again`](Self::conclude_again) tries anew.
    pub(super) async fn conclude(&self, mut finished: Finished) {
        // It does not go on from it, and what it has come to may need the room.
        self.now().image = None;
        let room = self.room_for(&mut finished);
        let _turn = self.disk.lock().await;
        match self.keep_ending(&finished).await {
            Ok(()) => {
                self.now().ending_room = Some(room);
                self.end(finished);
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(job = %self.id, why, "how a job has ended is not kept yet");
                let mut now = self.now();
                now.why = format!("its ending cannot be written down: {why}");
                now.unkept = Some(finished);
                now.persisted = Instant::now();
            }
        }
    }

    /// Tries anew to write down how it has ended, if that did not succeed a while ago.
    pub(crate) async fn conclude_again(&self) {
        let unkept = {
            let mut now = self.now();
            if now.persisted.elapsed() < ENDING_PAUSE {
                return;
            }
            let unkept = now.unkept.take();
            if unkept.is_some() {
                now.why.clear();
            }
            unkept
        };
        if let Some(finished) = unkept {
            self.conclude(finished).await;
        }
    }

    /// Whether how it has ended is not written down yet.
    pub(crate) fn is_unkept(&self) -> bool {
        self.now().unkept.is_some()
    }

    /// The room for what it has ended with, which is held until its owner has it. What finds none
    /// becomes a refusal, unless it is little.
    fn room_for(&self, finished: &mut Finished) -> Held {
        let bytes = match &finished.outcome {
            Outcome::Value(bytes) | Outcome::Error(bytes) => bytes.len() as u64,
            Outcome::Failed(_) | Outcome::Refused(_) => 0,
        };
        let total = &self.key.images;
        if bytes <= ENDING_FREE_BYTES {
            return total.hold(bytes);
        }
        match Room::take(&self.key, bytes) {
            Ok(room) => room.held(),
            Err(refused) => {
                finished.outcome = Outcome::Refused(refused);
                total.hold(0)
            }
        }
    }

    /// Ends one that stands still as cancelled, on the disk first. Says whether it stood still.
    pub(super) async fn cancel_still(self: &Arc<Self>) -> Result<bool, Refused> {
        let _hold = self.hold();
        let _turn = self.disk.lock().await;
        if !matches!(self.served()?.phase, Phase::Still) {
            return Ok(false);
        }
        let cancelled = self.finished(refused(RefusalCode::Cancelled, ""));
        let kept = self.keep_ending(&cancelled).await;
        kept.map_err(|error| error.refusal())?;
        self.end(cancelled);
        Ok(true)
    }

    /// Whoever calls has the turn.
    async fn keep_ending(&self, finished: &Finished) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let (owner, id) = (self.key.id, self.id.0);
        let (mut record, items) = {
            let now = self.now();
            (self.record(&now), now.items.to_held())
        };
        let items = items.encode();
        let (ended, payload) = EndedAs::of(finished);
        let JobRecord::V1(kept) = &mut record;
        kept.ended = Some(ended);
        let (bundle, arguments) = (self.terms.bundle.clone(), self.terms.arguments.clone());
        keep.beside(move |keep| {
            let parts = (&bundle, &arguments[..]);
            keep.save_job_ending((owner, id), &record, parts, &payload, &items)
        })
        .await
    }

    fn record(&self, now: &Now) -> JobRecord {
        let (done, total) = self.progressed(now);
        JobRecord::V1(Kept {
            callable: self.terms.callable,
            asked: self.terms.asked,
            seed: self.terms.seed,
            persist: self.terms.persist,
            custody: now.custody,
            paused: now.pause,
            age_ms: millis(now.age()),
            stops: now.stops,
            done,
            total,
            items_first: now.items.first(),
            ended: match &now.phase {
                Phase::Ended(finished) => Some(EndedAs::of(finished).0),
                Phase::Running | Phase::Still => None,
            },
        })
    }

    /// Whether items were taken that a restart would bring again. Those of one that runs and is not
    /// durable come again in any case, from the image that it goes on from.
    pub(crate) fn has_items_to_note(&self) -> bool {
        let now = self.now();
        let runs = matches!(now.phase, Phase::Running);
        self.keep.is_some()
            && !(runs && self.at_least_once())
            && now.items.first() != now.items_kept
    }

    /// Time until the next image is taken only so that items may leave, when the guest waits for that.
    pub(super) fn items_pause(now: &Now) -> Duration {
        let pause = ITEMS_PERSIST_FACTOR * now.persist_took;
        pause.clamp(ITEMS_PERSIST_MIN, ITEMS_PERSIST_INTERVAL)
    }

    /// Has an image written down at the next checkpoint, if it is time.
    pub(crate) fn persist_if_due(&self) {
        let Some(every) = self.terms.persist_every else {
            return;
        };
        let mut now = self.now();
        let items_wait =
            now.items.wait_for_image() && now.persisted.elapsed() >= ITEMS_PERSIST_INTERVAL;
        let due = now.persisted.elapsed() >= every || items_wait;
        if due && matches!(now.phase, Phase::Running) && !now.persist_due {
            now.persist_due = true;
            self.tell_run(&now);
        }
    }
}

/// A job as it was kept.
pub(crate) struct Revived {
    pub(crate) kept: Kept,
    pub(crate) bundle: Bundle,
    pub(crate) arguments: Bytes,
    pub(crate) image: Option<Image>,
    pub(crate) items: Items,
    pub(crate) ended: Option<Finished>,
}

impl Revived {
    /// Reads a job of this owner. Blocks.
    pub(crate) fn read(keep: &Keep, key: &KeyState, id: [u8; 16]) -> Result<Revived, KeepError> {
        let owner = key.id;
        let (JobRecord::V1(kept), bundle, arguments) = keep.job(owner, id)?;
        let (image, held) = match keep.job_image(owner, id)? {
            Some((image, items)) => (Some(image), Some(items)),
            None => (None, None),
        };
        let (ended, held) = match &kept.ended {
            Some(ended) => {
                let (payload, items) = keep.job_ending(owner, id)?;
                (Some(ended.finished(payload)), Some(items.to_vec()))
            }
            None => (None, held),
        };
        let total = key.images.clone();
        let mut items = match held {
            Some(held) => Items::held(&HeldItems::decode_any(&held)?, total),
            None => Items::after(0, total),
        };
        items.taken(kept.items_first);
        Ok(Revived {
            kept,
            bundle,
            arguments,
            image,
            items,
            ended,
        })
    }
}
