//! Jobs: runs of resumable callables, each with an id of its own.
//!
//! A job runs on the host's workers like a call, and outlives the connection of whoever started it.
//! At a checkpoint, and while it sleeps or waits for its items to be taken, its instance can be kept
//! as an image: it is paused then, saved, or on its way to another host. What is asked of it is
//! written down here, under its lock, and done by its own run at the next such place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::Bundle;
use spore_bundle::image::Image;
use spore_transport::job::{Custody, Ending, JobChanged, JobId, JobInfo, JobState, Persist};
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::{BlobId, RefusalCode};
use tokio::sync::{Notify, oneshot, watch};

use crate::background::FreedBeside;
use crate::bundles::Loaded;
use crate::callers::{Caller, KeyState};
use crate::checkpoints::Checkpoints;
use crate::damaged::Damaged;
use crate::events::{Events, Finished, Outcome};
use crate::keep::{Ahead, Keep};
use crate::limits::{RunLimits, millis};
use crate::room::Held;
use crate::scheduler::lock;
use crate::session::{Charged, Room, Saved, SavedAs};
use crate::wasi::Directory;

mod items;
mod keeping;
mod orders;
mod running;
mod warm;
mod watching;

pub(crate) use items::Items;
pub(crate) use keeping::Revived;
pub(crate) use orders::Hold;
pub(crate) use running::run;
pub(crate) use warm::Warm;
pub use watching::{JobEvent, Watching};

/// A job to be started.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// Index of the callable in the manifest.
    pub callable: u32,
    /// The encoded arguments.
    pub arguments: Bytes,
    /// What the caller allows at most. The wall time holds between checkpoints.
    pub limits: CallLimits,
    /// Where the guest's random bytes begin.
    pub seed: u64,
    /// How often the job is made durable.
    pub persist: Persist,
    /// What went before: transfer.
    pub timing: Timing,
}

/// The jobs of a host.
#[derive(Default)]
pub(crate) struct Jobs {
    all: Mutex<HashMap<Owned, Arc<Job>>>,
    /// Those on the disk that were not taken up.
    pub(crate) damaged: Damaged<JobId, Custody>,
    offers: Mutex<HashMap<Owned, Offer>>,
}

/// A job's id among those of its owner: two owners may have the same, and one by intent.
type Owned = ([u8; 32], JobId);

/// A job that may come. Nothing depends on it, so that it does not survive a restart.
pub(crate) struct Offer {
    custody: Custody,
    /// What came ahead.
    bundle: Option<Bundle>,
    /// The same on the disk, for as long as the offer stands.
    ahead: Option<Ahead>,
    /// The same in an instance.
    warm: Option<FreedBeside<Warm>>,
    /// Of what came ahead.
    room: Option<Room>,
    made: Instant,
}

/// Offers that one key may have open.
const OFFERS_MAX: usize = 16;

impl Jobs {
    /// The job of this id, if it is the caller's.
    pub(crate) fn find(&self, caller: &Caller, id: JobId) -> Result<Arc<Job>, Refused> {
        let job = lock(&self.all).get(&(caller.state.id, id)).cloned();
        job.ok_or_else(|| {
            let damage = self.damaged.get(caller.state.id, id);
            let unknown = || Refused::new(RefusalCode::UnknownJob, id.to_string());
            damage.map_or_else(unknown, |damage| damage.why)
        })
    }

    /// The caller's jobs that were not taken up. Of one whose place is not known nothing is said: what
    /// is said of a job decides on its copies elsewhere.
    pub(crate) fn unreadable(&self, caller: &Caller) -> Vec<JobInfo> {
        let own = self.damaged.of(caller.state.id).into_iter();
        own.filter_map(|(job, damage)| {
            let state = match damage.is_passing {
                true => JobState::Paused,
                false => JobState::Ended(Ending::Refused),
            };
            Some(JobInfo {
                unavailable: Some(damage.why.code),
                why: damage.why.message,
                ..JobInfo::of(job, state, damage.place?.place(job))
            })
        })
        .collect()
    }

    /// Whether a job is there, or was taken up.
    pub(crate) fn has(&self, owner: [u8; 32], id: JobId) -> bool {
        lock(&self.all).contains_key(&(owner, id))
    }

    /// The caller's jobs, in the order of their ids.
    pub(crate) fn of(&self, caller: &Caller) -> Vec<Arc<Job>> {
        let all = lock(&self.all);
        let own = all.iter().filter(|((key, _), _)| *key == caller.state.id);
        let mut own: Vec<_> = own.map(|(_, job)| job.clone()).collect();
        own.sort_by_key(|job| job.id);
        own
    }

    /// Takes a job in, if its owner may have one more.
    pub(crate) fn put(&self, job: &Arc<Job>, limit: u32) -> Result<(), Refused> {
        let mut all = lock(&self.all);
        // Ids are random where jobs begin. Where they arrive, the owner says them.
        if all.contains_key(&(job.key.id, job.id)) {
            return Err(Refused::new(RefusalCode::JobHere, ""));
        }
        let own = all.keys().filter(|(key, _)| *key == job.key.id).count();
        if own as u64 >= u64::from(limit) {
            return Err(Refused::new(RefusalCode::TooManyJobs, "").past(u64::from(limit), None));
        }
        all.insert((job.key.id, job.id), job.clone());
        Ok(())
    }

    /// Takes this very job out. Whoever still has it finds nothing.
    pub(crate) fn remove(&self, job: &Arc<Job>) {
        {
            let mut all = lock(&self.all);
            let key = (job.key.id, job.id);
            if all.get(&key).is_some_and(|there| Arc::ptr_eq(there, job)) {
                all.remove(&key);
            }
        }
        let came = {
            let mut now = job.now();
            now.gone = true;
            (now.warm.take(), now.ahead.take())
        };
        // Whoever watches may hold the job for long.
        drop(came);
        job.changed();
    }

    /// What is here of a job of the caller's.
    pub(crate) fn custody(&self, caller: &Caller, id: JobId) -> Option<Custody> {
        match self.find(caller, id) {
            Ok(job) => return job.now().custody(),
            Err(_) => {
                if let Some(damage) = self.damaged.get(caller.state.id, id) {
                    // One whose place cannot be read may be here, and nothing takes its id.
                    return Some(damage.place.unwrap_or(Custody::Here));
                }
            }
        }
        let offers = lock(&self.offers);
        offers
            .get(&(caller.state.id, id))
            .map(|offer| offer.custody)
    }

    /// Takes note of an offer.
    pub(crate) fn offer(
        &self,
        caller: &Caller,
        id: JobId,
        custody: Custody,
        bundle: Option<Bundle>,
    ) -> Result<(), Refused> {
        let bytes = bundle.as_ref().map_or(0, crate::code::bytes);
        let room = Room::take(&caller.state, bytes)?;
        let mut offers = lock(&self.offers);
        let key = caller.state.id;
        let own = offers
            .keys()
            .filter(|(of, other)| *of == key && *other != id);
        if own.count() >= OFFERS_MAX {
            return Err(
                Refused::new(RefusalCode::TooManyJobs, "offers").past(OFFERS_MAX as u64, None)
            );
        }
        // What came ahead before stays until more has.
        let before = offers.remove(&(key, id));
        let offer = Offer {
            custody,
            bundle,
            ahead: before.and_then(|before| before.ahead),
            warm: None,
            room: Some(room),
            made: Instant::now(),
        };
        offers.insert((key, id), offer);
        Ok(())
    }

    /// Notes that what came ahead with an offer is on the disk, or in an instance, if the offer still
    /// stands.
    pub(crate) fn attach(
        &self,
        caller: &Caller,
        id: JobId,
        custody: Custody,
        (ahead, warm): (Option<Ahead>, Option<FreedBeside<Warm>>),
    ) {
        let mut offers = lock(&self.offers);
        let offer = offers.get_mut(&(caller.state.id, id));
        if let Some(offer) = offer.filter(|offer| offer.custody == custody) {
            if ahead.is_some() {
                offer.ahead = ahead;
            }
            offer.warm = warm;
        }
    }

    /// What came ahead of jobs of the caller's.
    pub(crate) fn offered(&self, caller: &Caller) -> Vec<Bundle> {
        let offers = lock(&self.offers);
        let own = offers
            .iter()
            .filter(|((key, _), _)| *key == caller.state.id);
        own.filter_map(|(_, offer)| offer.bundle.clone()).collect()
    }

    pub(crate) fn forget_offer(&self, caller: &Caller, id: JobId) {
        lock(&self.offers).remove(&(caller.state.id, id));
    }

    pub(crate) fn forget_offers(&self, older: Duration) {
        let mut offers = lock(&self.offers);
        offers.retain(|_, offer| offer.made.elapsed() < older);
        for offer in offers.values_mut() {
            offer.warm.take_if(|warm| warm.is_late());
        }
    }

    /// Takes in a job that was offered, with what came ahead of it, which this gives.
    pub(crate) fn arrive(&self, job: &Arc<Job>, limit: u32) -> Result<Option<Bundle>, Refused> {
        self.put(job, limit)?;
        let offer = lock(&self.offers).remove(&(job.key.id, job.id));
        Ok(offer.and_then(|offer| {
            let mut now = job.now();
            now.ahead = offer.ahead;
            // What the instance was made of counts for as long as it is there.
            now.warm = offer.warm.map(|warm| (warm, offer.room));
            offer.bundle
        }))
    }

    /// Every job, for the look round.
    pub(crate) fn every(&self) -> Vec<Arc<Job>> {
        lock(&self.all).values().cloned().collect()
    }
}

/// What a job is made of, and does not change.
pub(crate) struct Terms {
    /// As it was started: with captures, or with an image to begin from. Without state when the job goes
    /// on from an image of a run, which is the job's own.
    pub(crate) bundle: Bundle,
    pub(crate) callable: u32,
    pub(crate) arguments: Bytes,
    pub(crate) seed: u64,
    /// What its owner allowed at most.
    pub(crate) asked: CallLimits,
    /// What holds for it here.
    pub(crate) limits: RunLimits,
    pub(crate) persist: Persist,
    /// The same as it holds here: never, or once in this time.
    pub(crate) persist_every: Option<Duration>,
    pub(crate) directories: Arc<[Directory]>,
    pub(crate) open_files: u32,
}

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) key: Arc<KeyState>,
    pub(crate) terms: Terms,
    /// The code as it is, into whose instances images are put. One that has ended needs none.
    loaded: Option<Arc<Loaded>>,
    /// What the guest says, for all who watch.
    hub: Arc<Events>,
    /// Where its random bytes begin, once it was asked for: it is a hash of all arguments.
    seed_key: OnceLock<[u8; 32]>,
    /// The room that its arguments take.
    _arguments: Room,
    checkpoints: Checkpoints,
    /// Wakes a run that waits outside of the guest.
    wake: Notify,
    now: Mutex<Now>,
    /// Counts changes of what is told of the job.
    changes: watch::Sender<u64>,
    /// Where it is kept, if it is.
    pub(crate) keep: Option<Keep>,
    /// Whose turn it is to write to the disk: each writes how the job is then.
    pub(crate) disk: Arc<tokio::sync::Mutex<()>>,
}

/// How a job is.
pub(crate) struct Now {
    pub(crate) phase: Phase,
    pub(crate) custody: Custody,
    /// It stands still for its owner.
    pub(crate) pause: bool,
    /// Requests for that which wait until it does.
    pausing: u32,
    /// How often those that waited were no longer to.
    pausing_over: u64,
    /// Why its run did not come to stand still when it was last to.
    not_stopped: Option<Refused>,
    /// How often it did not. Whoever has waited since before has that answer.
    turned_down: u64,
    /// Why the host wants it to stand still, if it does; in no words when the host ends.
    pub(crate) halt: Option<String>,
    /// It does so until the host has ended.
    pub(crate) halted_for_good: bool,
    /// What keeps it from running for a moment: see [`hold`](Job::hold).
    holds: u32,
    /// It was forgotten. Whoever still holds it finds nothing.
    pub(crate) gone: bool,
    /// An image is to be written to the disk.
    pub(crate) persist_due: bool,
    /// Those who wait for an image.
    saves: Vec<oneshot::Sender<Result<Saved, Refused>>>,
    /// What it begins with, when the bundle has an initialiser and it has not begun.
    pub(crate) initial: Option<Image>,
    /// For whom that is to be found out before it begins.
    pub(crate) uninitialised: Option<Caller>,
    /// An instance in which it can go on: one that was made for it before it came, or its own, when it
    /// stands still for a moment only.
    warm: Option<(FreedBeside<Warm>, Option<Room>)>,
    /// What came ahead of it, on the disk.
    ahead: Option<Ahead>,
    /// The last image that was taken, which is what a job that stands still is.
    pub(crate) image: Option<Arc<Charged>>,
    /// Whether that is on the disk.
    image_kept: bool,
    /// What it was last saved as, for whoever asked for that.
    pub(crate) saved: Option<SavedAs>,
    pub(crate) items: Items,
    /// Why it stands still when nobody asked.
    pub(crate) why: String,
    /// Why it is not on the disk as it is to be, while it goes on.
    not_kept: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) stops: u64,
    /// How old it was when it came to this host, or this host was started.
    pub(crate) age_before: Duration,
    since: Instant,
    /// When its custody changed here.
    pub(crate) moved: Instant,
    /// The items that it has left with, and the blob that they are.
    pub(crate) leaving_items: Option<(BlobId, Bytes)>,
    /// The first item that was not taken, as it was last written down.
    items_kept: u64,
    /// How its run has ended, when that could not be written down yet.
    unkept: Option<Finished>,
    /// The room that its ending takes.
    pub(crate) ending_room: Option<Held>,
    pub(crate) persisted: Instant,
    /// How long the last image took to be written down.
    persist_took: Duration,
}

/// What a job does.
pub(crate) enum Phase {
    /// It runs, or waits for a worker.
    Running,
    /// It stands still, as its image; or has not begun.
    Still,
    /// It has ended, and how is kept until its owner has it.
    Ended(Finished),
}

/// A job that begins, or that goes on from an image.
pub(crate) struct Begin {
    pub(crate) id: JobId,
    pub(crate) custody: Custody,
    pub(crate) image: Option<Arc<Charged>>,
    pub(crate) image_kept: bool,
    pub(crate) items: Items,
    pub(crate) paused: bool,
    pub(crate) age: Duration,
    pub(crate) stops: u64,
    pub(crate) progress: (u64, u64),
}

impl Begin {
    /// A new one.
    pub(crate) fn anew(key: &KeyState) -> Begin {
        Begin {
            id: JobId(crate::session::rand_bytes()),
            custody: Custody::Here,
            image: None,
            image_kept: false,
            items: Items::after(0, key.images.clone()),
            paused: false,
            age: Duration::ZERO,
            stops: 0,
            progress: (0, 0),
        }
    }
}

impl Job {
    pub(crate) fn new(
        key: Arc<KeyState>,
        terms: Terms,
        loaded: Option<Arc<Loaded>>,
        keep: Option<Keep>,
        begin: Begin,
    ) -> Result<Job, Refused> {
        let arguments = Room::take(&key, terms.arguments.len() as u64)?;
        let now = Now {
            phase: Phase::Still,
            custody: begin.custody,
            pause: begin.paused,
            pausing: 0,
            pausing_over: 0,
            turned_down: 0,
            halt: None,
            halted_for_good: false,
            holds: 0,
            gone: false,
            persist_due: false,
            leaving_items: None,
            items_kept: begin.items.first(),
            unkept: None,
            not_stopped: None,
            saves: Vec::new(),
            initial: None,
            uninitialised: None,
            warm: None,
            ahead: None,
            image: begin.image,
            image_kept: begin.image_kept,
            saved: None,
            items: begin.items,
            why: String::new(),
            not_kept: String::new(),
            done: begin.progress.0,
            total: begin.progress.1,
            stops: begin.stops,
            age_before: begin.age,
            since: Instant::now(),
            moved: Instant::now(),
            ending_room: None,
            persisted: Instant::now(),
            persist_took: Duration::ZERO,
        };
        Ok(Job {
            seed_key: OnceLock::new(),
            _arguments: arguments,
            id: begin.id,
            key,
            terms,
            loaded,
            hub: Events::hub(),
            checkpoints: Checkpoints::default(),
            wake: Notify::new(),
            now: Mutex::new(now),
            changes: watch::Sender::new(0),
            keep,
            disk: Arc::default(),
        })
    }

    /// Its code, which one that has not ended has.
    pub(crate) fn loaded(&self) -> &Loaded {
        self.loaded.as_deref().expect("it has not ended")
    }

    /// How it is. Whoever changes it calls [`changed`](Self::changed) afterwards.
    pub(crate) fn now(&self) -> MutexGuard<'_, Now> {
        lock(&self.now)
    }

    /// Tells those who wait that something has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until `found` finds something in how the job is.
    pub(crate) async fn until<T>(&self, mut found: impl FnMut(&mut Now) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = found(&mut self.now()) {
                return found;
            }
            // The sender is this job's, so that it is there.
            let _ = changes.changed().await;
        }
    }

    /// Takes apart an instance that was made for it, if it does not go on in time, and removes what came
    /// ahead of it from the disk: not before it goes on, which that would delay.
    pub(crate) fn cool(&self) {
        let mut now = self.now();
        now.warm.take_if(|(warm, _)| warm.is_late());
        if now.custody.may_run() || now.moved.elapsed() >= warm::WARM_TIME_MAX {
            now.ahead = None;
        }
    }

    /// How it is, for its owner.
    pub(crate) fn info(&self) -> JobInfo {
        let now = self.now();
        let manifest = self.terms.bundle.manifest();
        let (done, total) = self.progressed(&now);
        JobInfo {
            job: self.id,
            bundle: BlobId(*self.terms.bundle.id().as_bytes()),
            callable: manifest.callables[self.terms.callable as usize]
                .name
                .clone(),
            state: now.state(),
            place: now.custody.place(self.id),
            why: now.why().to_owned(),
            done,
            total,
            age_ms: millis(now.age()),
            stops: now.stops,
            items: now.items.emitted(),
            saved: now
                .saved
                .as_ref()
                .map(|it| BlobId(*it.bundle.id().as_bytes())),
            unavailable: None,
        }
    }

    /// How far it is: done, and the whole or 0.
    pub(crate) fn progressed(&self, now: &Now) -> (u64, u64) {
        self.hub.progressed().unwrap_or((now.done, now.total))
    }

    /// How it is, in short.
    pub(crate) fn standing(&self) -> JobChanged {
        self.now().standing(self.id)
    }

    /// What it was last saved as.
    pub(crate) fn saved(&self) -> Option<Bundle> {
        let now = self.now();
        now.saved.as_ref().map(|saved| saved.bundle.clone())
    }

    /// Whether a restart may bring an item again.
    pub(crate) fn at_least_once(&self) -> bool {
        self.terms.persist_every.is_none()
    }

    /// Ends it, if it has not ended. What is kept of it says so already.
    fn end(&self, finished: Finished) {
        let mut now = self.now();
        if matches!(now.phase, Phase::Ended(_)) {
            return;
        }
        (now.done, now.total) = self.progressed(&now);
        if let Outcome::Failed(failure) = &finished.outcome {
            now.why = failure.to_string();
        }
        now.phase = Phase::Ended(finished);
        now.image = None;
        now.warm = None;
        for waiting in now.saves.drain(..) {
            let _ = waiting.send(Err(Refused::new(RefusalCode::JobEnded, "")));
        }
        drop(now);
        self.changed();
    }
}

impl Now {
    pub(crate) fn state(&self) -> JobState {
        match &self.phase {
            Phase::Running if self.stays() => JobState::Pausing,
            Phase::Running => JobState::Running,
            Phase::Still if self.stays() || !self.why.is_empty() => JobState::Paused,
            // It waits to be taken up again.
            Phase::Still => JobState::Running,
            Phase::Ended(finished) => JobState::Ended(ending(&finished.outcome)),
        }
    }

    /// Why it is so, when nobody asked for it.
    fn why(&self) -> &str {
        let reasons = [
            Some(self.why.as_str()),
            self.halt.as_deref(),
            matches!(self.phase, Phase::Running).then_some(self.not_kept.as_str()),
        ];
        let mut said = reasons.into_iter().flatten();
        said.find(|why| !why.is_empty()).unwrap_or_default()
    }

    pub(crate) fn standing(&self, job: JobId) -> JobChanged {
        JobChanged {
            state: self.state(),
            place: self.custody.place(job),
        }
    }

    /// Since it was started, on whatever hosts.
    pub(crate) fn age(&self) -> Duration {
        self.age_before + self.since.elapsed()
    }

    /// Whether it is to run here and does not.
    pub(crate) fn is_to_run(&self) -> bool {
        matches!(self.phase, Phase::Still)
            && !self.stops()
            && !self.gone
            && self.why.is_empty()
            && self.custody.may_run()
    }

    /// Whether its run is to stand still at the next place where it can.
    pub(crate) fn stops(&self) -> bool {
        self.stays() || self.holds > 0
    }

    /// Whether it is to stand still until somebody says otherwise, also after a restart.
    fn stays(&self) -> bool {
        self.pauses() || self.halt.is_some()
    }

    /// Whether its owner wants that.
    fn pauses(&self) -> bool {
        self.pause || self.pausing > 0
    }

    /// It stands still from now on.
    fn stand(&mut self) {
        self.phase = Phase::Still;
        self.pause = self.pauses();
    }

    /// Nobody's pause holds any more.
    fn unpause(&mut self) {
        (self.pause, self.pausing) = (false, 0);
        self.pausing_over += 1;
    }

    /// Whether it can do so where it waits for its place. One that is only to leave has to have begun.
    fn can_stand_before_it_runs(&self) -> bool {
        // Whoever waits for an image that is to be durable has to have that first.
        let may = self.saves.is_empty() || self.image_kept;
        may && (self.stays() || self.holds > 0 && self.image.is_some())
    }

    /// Whether its image is not on the disk yet.
    fn is_to_be_kept(&self) -> bool {
        self.image.is_some() && !self.image_kept
    }

    /// Whether it is to stand still for a moment only, and may go on here.
    fn is_held(&self) -> bool {
        let leaves = matches!(self.custody, Custody::Leaving { .. });
        !self.stays() && (self.holds > 0 || leaves)
    }

    /// It has ended so before: it is one of this key's that was kept.
    pub(crate) fn end_as(&mut self, ended: Finished, key: &KeyState) {
        let payload = match &ended.outcome {
            Outcome::Value(bytes) | Outcome::Error(bytes) => bytes.len() as u64,
            Outcome::Failed(_) | Outcome::Refused(_) => 0,
        };
        self.ending_room = Some(key.images.hold(payload));
        self.phase = Phase::Ended(ended);
    }

    /// Whether its items stay as they are: it stands still to leave, or is not this host's.
    pub(crate) fn holds_items(&self) -> bool {
        self.holds > 0 || !self.custody.may_run()
    }

    /// What is here of it, as moves see it.
    pub(crate) fn custody(&self) -> Option<Custody> {
        (!self.gone).then_some(self.custody)
    }

    /// Whether its run is to do something at the next place where it can.
    fn is_wanted(&self) -> bool {
        self.stops() || self.persist_due || !self.saves.is_empty()
    }
}

/// How a job has ended, in short.
pub(crate) fn ending(outcome: &Outcome) -> Ending {
    match outcome {
        Outcome::Value(_) => Ending::Value,
        Outcome::Error(_) => Ending::GuestError,
        Outcome::Failed(_) => Ending::Failed,
        Outcome::Refused(refused) if refused.code == RefusalCode::Cancelled => Ending::Cancelled,
        Outcome::Refused(_) => Ending::Refused,
    }
}

/// The callable whose run an image holds.
pub(crate) fn run_in(image: &Image) -> Option<u32> {
    image.index().run.map(|run| run.callable)
}
