//! Moves of jobs between hosts, step by step as `docs/PROTOCOL.md` has them: each step is on the disk
//! before it is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spore_bundle::{Bundle, Difference};
use spore_transport::job::custody::Event;
use spore_transport::job::{
    Custody, HeldItems, JobArrive, JobId, JobLeave, JobLeft, JobMove, JobMoved, JobOffer,
    JobOffered, JobSaved, JobTerms, MoveId, Release,
};
use spore_transport::message::{Refused, Timing};
use spore_transport::{BlobId, RefusalCode};
use tokio::sync::oneshot;

use super::{Host, Inner, jobs};
use crate::background::FreedBeside;
use crate::callers::Caller;
use crate::code::chain;
use crate::damaged::Damage;
use crate::job::{self, Begin, Hold, Items, Job, JobRequest, Warm};
use crate::keep::Ahead;
use crate::limits::millis;
use crate::session::{Charged, Room, Saved, new_seed, rand_bytes};

/// A job that was stopped, to be moved.
#[derive(Debug)]
pub struct Left {
    /// What it left as and with. The difference is not announced there.
    pub left: JobLeft,
    /// What is otherwise than in the bundle that it was saved as before, if that was asked for
    pub difference: Option<Difference>,
    /// Of the difference, until it is sent.
    pub(crate) room: Option<Room>,
}

impl Host {
    /// Takes note that a job may come, and keeps what came ahead of it.
    ///
    /// # Errors
    ///
    /// When the job is here, or on its way in another move.
    pub async fn offer_job(
        &self,
        caller: &Caller,
        offer: &JobOffer,
        bundle: Option<Bundle>,
    ) -> Result<JobOffered, Refused> {
        self.check_open()?;
        let jobs = &self.inner.jobs;
        let after = self.may_offer(caller, offer)?;
        let Some(custody @ Custody::Offered { move_id, .. }) = after else {
            return Err(Refused::new(RefusalCode::Internal, "an offer that is none"));
        };
        let offered = bundle.clone();
        jobs.offer(caller, offer.job, custody, bundle)?;
        if let Some(bundle) = &offered {
            let ahead = tokio::join!(
                self.write_ahead(caller, offer.job, bundle),
                self.warm(caller, bundle),
            );
            jobs.attach(caller, offer.job, custody, ahead);
        }
        Ok(JobOffered { move_id })
    }

    /// What an offer would make of what is here of the job.
    ///
    /// # Errors
    ///
    /// When the job is here, or on its way in another move.
    pub(crate) fn may_offer(
        &self,
        caller: &Caller,
        offer: &JobOffer,
    ) -> Result<Option<Custody>, Refused> {
        let event = Event::Offer {
            drawn: MoveId(rand_bytes()),
            from: offer.from,
        };
        let now = self.inner.jobs.custody(caller, offer.job);
        Custody::after(offer.job, now, &event).map_err(|error| error.refusal())
    }

    /// Refuses a job that was not offered so.
    pub(crate) fn may_arrive(&self, caller: &Caller, arrive: &JobArrive) -> Result<(), Refused> {
        let event = Event::Arrive {
            move_id: arrive.move_id,
            lock: arrive.lock,
        };
        let now = self.inner.jobs.custody(caller, arrive.job);
        let after = Custody::after(arrive.job, now, &event);
        after.map(|_| ()).map_err(|error| error.refusal())
    }

    /// Writes what came ahead of a job to the disk, so that little is left to be written while it
    /// stands still. It does not depend on it.
    async fn write_ahead(&self, caller: &Caller, id: JobId, bundle: &Bundle) -> Option<Ahead> {
        let keep = self.inner.keep.get()?;
        let _turn = caller.state.keeping.lock().await;
        let (owner, bundle) = (caller.state.id, bundle.clone());
        let written = keep.beside(move |keep| keep.save_job_ahead(owner, &bundle));
        match written.await {
            Ok(ahead) => Some(ahead),
            Err(error) => {
                tracing::info!(job = %id, error = chain(&error), "not written ahead");
                None
            }
        }
    }

    /// Makes an instance of what came ahead of a job. The job does not depend on it: what does not fit
    /// here is refused when it arrives.
    async fn warm(&self, caller: &Caller, bundle: &Bundle) -> Option<FreedBeside<Warm>> {
        let image = bundle.image()?.clone();
        let (loaded, _) = self
            .load_plain(caller, &bundle.without_state())
            .await
            .ok()?;
        let interior = &loaded.ready().code.interior;
        interior.check_imageable().ok()?;
        interior.check(image.index()).ok()?;
        let (makes, made) = oneshot::channel();
        let (of, means, beside) = (
            caller.clone(),
            self.inner.means(),
            self.background().clone(),
        );
        let work = async move {
            // Nobody is left to have it when the offer was given up.
            let warm = Warm::make(&of, &loaded, &image, means).await;
            let _ = makes.send(warm.map(|warm| FreedBeside::new(warm, &beside)));
        };
        self.inner.scheduler.spawn(caller.state.turn(), work);
        made.await.ok()?
    }

    /// Stops a job, to be moved.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's here, it has ended, it is in another move, or it
    /// reaches no checkpoint in time, and goes on.
    pub async fn leave_job(&self, caller: &Caller, leave: &JobLeave) -> Result<Left, Refused> {
        self.check_open()?;
        let job = self.inner.jobs.find(caller, leave.job)?;
        let event = Event::Leave {
            move_id: leave.move_id,
            to: leave.to,
            drawn: Release(rand_bytes()),
        };
        let now = job.now().custody();
        Custody::after(job.id, now, &event).map_err(|error| error.refusal())?;
        let within = Duration::from_millis(leave.within_ms).min(jobs::CHECKPOINT_WAIT_MAX);
        let stopping = Stopping {
            hold: Some(job.hold()),
            host: self.clone(),
            job,
        };
        // Whoever goes away before it has stopped takes the request along: somebody may have settled
        // the move by then.
        stopping.job.stopped(within).await?;
        let (host, since) = (self.clone(), leave.since);
        self.to_the_end(async move { host.leave(&stopping.job, &event, since).await })
            .await
    }

    /// Has a job leave that stands still, and is held.
    async fn leave(
        &self,
        job: &Arc<Job>,
        event: &Event,
        since: Option<BlobId>,
    ) -> Result<Left, Refused> {
        let held = {
            let now = job.now();
            (!now.items.is_empty()).then(|| now.items.to_held())
        };
        // Nothing is taken of them while the job is held.
        let items = held.map(|held| {
            let held = Bytes::from(held.encode());
            (BlobId(*blake3::hash(&held).as_bytes()), held)
        });
        let (before, saved, terms) = {
            let mut now = job.now();
            let before = now.saved.clone();
            let saved = job.saved_still(&mut now)?;
            let blob = items.as_ref().map(|(blob, _)| *blob);
            let (done, total) = job.progressed(&now);
            now.leaving_items = items;
            let terms = JobTerms {
                limits: job.terms.asked,
                persist: job.terms.persist,
                paused: now.pause,
                age_ms: millis(now.age()),
                stops: now.stops,
                done,
                total,
                items: blob,
            };
            (before.map(|before| before.bundle), saved, terms)
        };
        let is_asked = |before: &Bundle| since == Some(BlobId(*before.id().as_bytes()));
        let difference = match before.filter(is_asked) {
            None => None,
            Some(before) => {
                let bundle = saved.bundle.clone();
                let difference = self
                    .background()
                    .spawn_blocking(move || bundle.difference(&before));
                difference.await.unwrap_or_default()
            }
        };
        // A restart before the job is given up goes on from the image that is on the disk. The one that
        // it leaves with is soon on the target's, and need not be on this one before.
        let kept = job.keep_known().await;
        kept.map_err(|error| error.refusal())?;
        let left = job.change_custody(event).await?;
        let Some(Custody::Leaving {
            move_id, release, ..
        }) = left
        else {
            return Err(Refused::new(RefusalCode::MoveUnderWay, ""));
        };
        let left = JobLeft {
            saved: job_saved(&saved),
            lock: release.lock(job.id, move_id),
            terms,
            difference: None,
        };
        let bytes = difference.as_ref().map(|it| it.len() as u64);
        // Where it has no room, the job travels in parts, as it can be fetched.
        let room = bytes.and_then(|bytes| Room::take(&job.key, bytes).ok());
        Ok(Left {
            left,
            difference: difference.filter(|_| room.is_some()),
            room,
        })
    }

    /// Takes a job in, all of it, to run once it is released.
    ///
    /// # Errors
    ///
    /// When it was not offered, or does not fit here.
    pub async fn arrive_job(
        &self,
        caller: &Caller,
        arrive: &JobArrive,
        bundle: &Bundle,
        items: Option<Bytes>,
    ) -> Result<JobMoved, Refused> {
        self.check_open()?;
        let event = Event::Arrive {
            move_id: arrive.move_id,
            lock: arrive.lock,
        };
        let (host, caller, arrive) = (self.clone(), caller.clone(), *arrive);
        let bundle = bundle.clone();
        self.to_the_end(async move {
            let jobs = &host.inner.jobs;
            if let Ok(job) = jobs.find(&caller, arrive.job) {
                // The first answer was lost; or is not given yet, and must not be given before.
                let _turn = job.disk.lock().await;
            }
            let now = jobs.custody(&caller, arrive.job);
            let after = Custody::after(arrive.job, now, &event).map_err(|error| error.refusal())?;
            let (Some(now), Some(custody @ Custody::Arriving { .. })) = (now, after) else {
                return Err(Refused::new(RefusalCode::MoveUnknown, ""));
            };
            if now != custody {
                let taken = host.take_in(&caller, &arrive, [now, custody], &bundle, items);
                match taken.await {
                    Ok(()) => {}
                    // The same request was carried out meanwhile, and its answer may be lost.
                    Err(why) if why.code == RefusalCode::JobHere => {
                        host.arrived(&caller, arrive.job, custody, why).await?;
                    }
                    Err(why) => return Err(why),
                }
            }
            Ok(JobMoved {
                place: Some(custody.place(arrive.job)),
                release: None,
            })
        })
        .await
    }

    /// Waits until another request has taken the job in. When it is not this by then: `why`.
    async fn arrived(
        &self,
        caller: &Caller,
        id: JobId,
        custody: Custody,
        why: Refused,
    ) -> Result<(), Refused> {
        let jobs = &self.inner.jobs;
        if let Ok(job) = jobs.find(caller, id) {
            let _turn = job.disk.lock().await;
        }
        match jobs.custody(caller, id) == Some(custody) {
            true => Ok(()),
            false => Err(why),
        }
    }

    /// Takes a job in: as what is here of it `before`, and as what it is `after` once that is written
    /// down.
    async fn take_in(
        &self,
        caller: &Caller,
        arrive: &JobArrive,
        [before, after]: [Custody; 2],
        bundle: &Bundle,
        items: Option<Bytes>,
    ) -> Result<(), Refused> {
        let image = bundle.image().cloned();
        let Some((image, callable)) =
            image.and_then(|image| job::run_in(&image).map(|callable| (image, callable)))
        else {
            return Err(Refused::new(
                RefusalCode::NoImage,
                "the bundle holds no run",
            ));
        };
        let emitted = image.index().run.map_or(0, |run| run.items);
        let total = caller.state.images.clone();
        let items = match items {
            None => Items::after(emitted, total),
            Some(bytes) => {
                let held = HeldItems::decode(&bytes, emitted);
                let held =
                    held.map_err(|error| Refused::new(RefusalCode::Malformed, chain(&error)))?;
                // They count in what the key has held, and must find room there first.
                let _room = Room::take(&caller.state, bytes.len() as u64)?;
                Items::held(&held, total)
            }
        };
        let terms = arrive.terms;
        let request = JobRequest {
            callable,
            arguments: Bytes::new(),
            limits: terms.limits,
            seed: new_seed(),
            persist: terms.persist,
            timing: Timing::default(),
        };
        let begin = Begin {
            id: arrive.job,
            custody: before,
            image: Some(Charged::take(&caller.state, image.clone())?),
            image_kept: false,
            items,
            paused: terms.paused,
            age: Duration::from_millis(terms.age_ms),
            stops: terms.stops,
            progress: (terms.done, terms.total),
        };
        // What it begins from is the image, which the disk is to have once.
        let bundle = bundle.without_state();
        let terms = self.terms(caller, &bundle, Some(&image), &request)?;
        let job = Arc::new(self.job(caller, terms, begin).await?);
        // Taken in first: two that arrive under one id would write over each other.
        let jobs = &self.inner.jobs;
        let offered = jobs.arrive(&job, caller.limits.jobs_per_key)?;
        let kept = job.keep_begin(Some(&image), after, offered.as_ref()).await;
        kept.map_err(|error| {
            jobs.remove(&job);
            error.refusal()
        })
    }

    /// Does one step of a move.
    ///
    /// # Errors
    ///
    /// When the step does not fit where the job is.
    pub async fn move_job(&self, caller: &Caller, step: &JobMove) -> Result<JobMoved, Refused> {
        let JobMove { job, move_id, step } = *step;
        let jobs = &self.inner.jobs;
        let event = Event::Step { move_id, step };
        let Ok(held) = jobs.find(caller, job) else {
            let now = jobs.custody(caller, job);
            let custody = Custody::after(job, now, &event).map_err(|error| error.refusal())?;
            if let Some(damage) = jobs.damaged.get(caller.state.id, job) {
                return self.step_of_damaged(caller, job, damage, custody).await;
            }
            // Of an offer there is nothing to write down.
            if custody.is_none() {
                jobs.forget_offer(caller, job);
            }
            return Ok(moved(custody, job));
        };
        let host = self.clone();
        self.to_the_end(async move {
            let custody = held.change_custody(&event).await?;
            match custody {
                None => host.inner.jobs.remove(&held),
                Some(_) => jobs::run(&host.inner, &held),
            }
            Ok(moved(custody, job))
        })
        .await
    }

    /// A step of a job that was not taken up: what changes nothing but that it goes.
    async fn step_of_damaged(
        &self,
        caller: &Caller,
        job: JobId,
        damage: Damage<Custody>,
        after: Option<Custody>,
    ) -> Result<JobMoved, Refused> {
        if after.is_some() && after == damage.place {
            return Ok(moved(after, job));
        }
        if after.is_some() || damage.place.is_none() {
            return Err(damage.why);
        }
        let owner = caller.state.id;
        self.remove_damaged(
            (owner, job),
            |inner| &inner.jobs.damaged,
            move |now| now.map(|_| ()).ok_or(damage.why.clone()),
            move |keep| keep.remove_job(owner, job.0),
        )
        .await?;
        Ok(moved(None, job))
    }

    /// The items that a job of the caller's holds while it leaves, by their blob.
    pub(crate) fn held_items(&self, caller: &Caller, blob: BlobId) -> Option<Bytes> {
        let jobs = self.inner.jobs.of(caller);
        jobs.iter().find_map(|job| {
            let now = job.now();
            let (id, bytes) = now.leaving_items.as_ref()?;
            (*id == blob).then(|| bytes.clone())
        })
    }
}

/// A job that stands still to leave. It goes on afterwards, unless it has left.
struct Stopping {
    // Dropped by `drop`, before the job is to go on.
    hold: Option<Hold>,
    host: Host,
    job: Arc<Job>,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.hold = None;
        jobs::run(&self.host.inner, &self.job);
    }
}

/// A job that was to leave and did not in time goes on here.
pub(super) async fn lapse(inner: &Arc<Inner>, job: &Arc<Job>) {
    match job.change_custody(&Event::Lapse).await {
        Ok(_) => {
            tracing::info!(job = %job.id, "goes on: its move was given up");
            jobs::run(inner, job);
        }
        Err(refused) => tracing::error!(job = %job.id, %refused, "a move did not lapse"),
    }
}

fn moved(custody: Option<Custody>, job: JobId) -> JobMoved {
    JobMoved {
        place: custody.map(|custody| custody.place(job)),
        release: custody.and_then(|custody| custody.release()),
    }
}

/// What can be fetched of a saved job.
pub(crate) fn job_saved(saved: &Saved) -> JobSaved {
    let image = saved.bundle.image();
    let blocks = image.map_or(0, |image| image.index().numbers.len());
    JobSaved {
        bundle: BlobId(*saved.bundle.id().as_bytes()),
        blocks: blocks as u64,
        blocks_new: saved.blocks_new,
    }
}
