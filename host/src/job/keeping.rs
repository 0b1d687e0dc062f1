//! A job on the disk: written down before anything of it is told, and taken up after a restart.

use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::image::Image;
use spore_transport::RefusalCode;
use spore_transport::job::custody::Event;
use spore_transport::job::{Custody, HeldItems};
use spore_transport::message::Refused;

use super::{Items, Job, Now, Phase};
use crate::code::chain;
use crate::events::{Finished, Outcome};
use crate::keep::{EndedAs, JobRecord, Keep, KeepError, Kept};
use crate::limits::millis;
use crate::session::Room;

/// Time between two images that are only taken so that items may leave.
const ITEMS_PERSIST_INTERVAL: Duration = Duration::from_millis(100);

impl Job {
    /// Writes down what it is made of, and that it is there.
    pub(crate) async fn keep_begin(&self, image: Option<&Image>) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn = self.disk.lock().await;
        let _turn_of_key = self.key.keeping.lock().await;
        let (owner, id) = (self.key.id, self.id.0);
        let (bundle, arguments) = (self.terms.bundle.clone(), self.terms.arguments.clone());
        let (record, items) = {
            let now = self.now();
            (self.record(&now), now.items.to_held().encode())
        };
        let image = image.cloned();
        keep.beside(move |keep| {
            keep.save_job_parts(owner, id, &bundle, &arguments)?;
            let image = image.as_ref().map(|image| (image, &items[..]));
            keep.save_job(owner, id, &record, image)
        })
        .await
    }

    /// Writes an image of it down, with the items that it holds then.
    pub(super) async fn keep_image(&self, image: &Image) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn = self.disk.lock().await;
        let _turn_of_key = self.key.keeping.lock().await;
        let (owner, id) = (self.key.id, self.id.0);
        let (bundle, arguments) = (self.terms.bundle.clone(), self.terms.arguments.clone());
        let (record, items, emitted) = {
            let mut now = self.now();
            now.persisted = Instant::now();
            let emitted = now.items.emitted();
            (self.record(&now), now.items.to_held().encode(), emitted)
        };
        let image = image.clone();
        keep.beside(move |keep| {
            keep.save_job_parts(owner, id, &bundle, &arguments)?;
            keep.save_job(owner, id, &record, Some((&image, &items[..])))
        })
        .await?;
        self.now().items.set_durable(emitted);
        Ok(())
    }

    /// Writes down how it is otherwise. One that was never written down stays so.
    pub(crate) async fn keep_standing(&self) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn = self.disk.lock().await;
        let record = self.record(&self.now());
        let (owner, id) = (self.key.id, self.id.0);
        keep.beside(move |keep| match keep.has_job(owner, id)? {
            true => keep.save_job(owner, id, &record, None),
            false => Ok(()),
        })
        .await
    }

    /// Has something happen to where it is: on the disk first, and here once it is there. One after
    /// the other, each from what the one before has left: what two requests make of the same moment
    /// could have a job run on two hosts. Gives what is here of it then; nothing once it is forgotten.
    ///
    /// Not cancel-safe: see [`Host::to_the_end`](crate::Host).
    pub(crate) async fn change_custody(&self, event: &Event) -> Result<Option<Custody>, Refused> {
        let _turn = self.disk.lock().await;
        let (before, stands, JobRecord::V1(kept)) = {
            let now = self.now();
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
        if let Some(keep) = &self.keep {
            let (owner, id) = (self.key.id, self.id.0);
            let written = keep.beside(move |keep| match after {
                Some(custody) => {
                    let record = JobRecord::V1(Kept { custody, ..kept });
                    keep.save_job(owner, id, &record, None)
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
            now.moved = Instant::now();
        }
        self.changed();
        Ok(after)
    }

    /// Ends it, once that is on the disk.
    pub(crate) async fn conclude(&self, finished: Finished) {
        let mut finished = finished;
        let payload = match &finished.outcome {
            Outcome::Value(bytes) | Outcome::Error(bytes) => bytes.clone(),
            Outcome::Failed(_) | Outcome::Refused(_) => Bytes::new(),
        };
        // It is held until its owner has it, among what else the key has held for it.
        let room = match Room::take(&self.key, payload.len() as u64) {
            Ok(room) => Some(room),
            Err(refused) => {
                finished.outcome = Outcome::Refused(refused);
                None
            }
        };
        if let Err(error) = self.keep_ending(&finished).await {
            tracing::error!(job = %self.id, error = chain(&error), "how a job has ended was not kept");
        }
        self.now().ending_room = room;
        self.end(finished);
    }

    async fn keep_ending(&self, finished: &Finished) -> Result<(), KeepError> {
        let Some(keep) = &self.keep else {
            return Ok(());
        };
        let _turn = self.disk.lock().await;
        let (owner, id) = (self.key.id, self.id.0);
        let (mut record, items) = {
            let now = self.now();
            (self.record(&now), now.items.to_held().encode())
        };
        let (ended, payload) = EndedAs::of(finished);
        let JobRecord::V1(kept) = &mut record;
        kept.ended = Some(ended);
        let (bundle, arguments) = (self.terms.bundle.clone(), self.terms.arguments.clone());
        keep.beside(move |keep| {
            // One that is not persisted while it runs is written down here for the first time.
            keep.save_job_parts(owner, id, &bundle, &arguments)?;
            keep.save_job_ending(owner, id, &record, &payload, &items)
        })
        .await
    }

    fn record(&self, now: &Now) -> JobRecord {
        let (done, total) = self.hub.progressed().unwrap_or((now.done, now.total));
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
            ended: match &now.phase {
                Phase::Ended(finished) => Some(EndedAs::of(finished).0),
                Phase::Running | Phase::Still => None,
            },
        })
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
    pub(crate) bundle: spore_bundle::Bundle,
    pub(crate) arguments: Bytes,
    pub(crate) image: Option<Image>,
    pub(crate) items: Items,
    pub(crate) ended: Option<Finished>,
}

impl Revived {
    /// Reads a job. Blocks.
    pub(crate) fn read(keep: &Keep, owner: [u8; 32], id: [u8; 16]) -> Result<Revived, KeepError> {
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
        let items = match held {
            Some(held) => Items::held(&HeldItems::decode_any(&held)?),
            None => Items::default(),
        };
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
