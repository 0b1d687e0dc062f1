//! Moves of jobs from one host to another, carried by this program.
//!
//! The steps and why no order of losses makes both hosts run a job: `docs/PROTOCOL.md`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::{Bundle, BundleId, Limits};
use spore_transport::job::custody::Next;
use spore_transport::job::{
    Difference, JobArrive, JobId, JobLeave, JobLeft, JobMove, JobMoved, JobOffer, Lock, MoveId,
    MoveStep, Place,
};
use spore_transport::message::{Message, Refused};
use spore_transport::session::FetchDifference;
use spore_transport::{BlobId, PublicKey, RefusalCode};

use super::Remote;
use super::conversation::{Answer, blob_id, pack};
use super::jobs::millis;
use super::sessions::lie;
use crate::call::Sink;
use crate::callable::Parcel;
use crate::error::CallError;
use crate::job::JobError;
use crate::moving::{MoveError, MoveStage, Settled, Told};

/// Time for which a step is asked for again whose answer was lost: a host that restarts is back by
/// then.
const INSIST_TIME: Duration = Duration::from_secs(10);
/// Time between two such attempts.
const INSIST_PAUSE: Duration = Duration::from_millis(200);
/// Looks at both hosts until a move must be settled. Each but the last asks for a step of the few
/// that there are.
const SETTLE_LOOKS_MAX: u32 = 16;
/// Time until hosts are asked once more that did not tell what became of a job.
const UNCLEAR_PAUSE: Duration = Duration::from_secs(1);

/// What comes of a question that can be asked again, which it is while the host is lost or not
/// reached. No function: a closure that gives a future anew each time cannot be one of another thread.
macro_rules! insist {
    ($ask:expr) => {{
        let mut lost = None;
        loop {
            match $ask.await {
                Err(error) if error.is_passing() && is_patient(&mut lost) => {
                    tokio::time::sleep(INSIST_PAUSE).await;
                }
                answered => break answered,
            }
        }
    }};
}

/// Whether to ask once more, after the first loss at this time.
fn is_patient(lost: &mut Option<Instant>) -> bool {
    lost.get_or_insert_with(Instant::now).elapsed() < INSIST_TIME
}

/// One move under way.
struct Carrier<'a> {
    source: &'a Remote,
    target: &'a Remote,
    job: JobId,
    move_id: MoveId,
}

/// What was brought here of a job that leaves.
struct Brought {
    job: Job,
    items: Option<Bytes>,
}

/// What a job left as, in the making.
type Making = tokio::task::JoinHandle<Result<Bundle, JobError>>;

enum Job {
    /// As what is otherwise than in what went ahead.
    Difference(Bytes),
    Whole(Bundle),
}

impl Remote {
    /// The key of the host.
    async fn key(&self) -> Result<PublicKey, JobError> {
        Ok(self.connection().await?.peer())
    }

    /// Moves a job from here. Gives what it was when it left.
    pub(crate) async fn move_job(
        &self,
        target: &Remote,
        job: JobId,
        parcel: &Parcel,
        within: Duration,
        last: Option<Bundle>,
        told: &mut Told,
    ) -> Result<Bundle, MoveError> {
        let not_moved = |stage| move |source| MoveError::NotMoved { stage, source };
        let from = insist!(self.key()).map_err(not_moved(MoveStage::Saved))?;
        let to = insist!(target.key()).map_err(not_moved(MoveStage::Ahead))?;
        if from == to {
            return Err(MoveError::SameHost);
        }
        // Most of the job goes ahead, while it still runs.
        let ahead = insist!(self.save_job(job, within, parcel, last.as_ref()));
        let ahead = ahead.map_err(not_moved(MoveStage::Saved))?;
        told(MoveStage::Saved);
        let offered = insist!(target.offer(job, from, &ahead));
        let carrier = Carrier {
            source: self,
            target,
            job,
            move_id: offered.map_err(not_moved(MoveStage::Ahead))?,
        };
        told(MoveStage::Ahead);
        carrier.carry(to, parcel, within, &ahead, told).await
    }

    async fn offer(&self, job: JobId, from: PublicKey, ahead: &Bundle) -> Result<MoveId, JobError> {
        let offer = Message::JobOffer(JobOffer {
            job,
            from,
            bundle: Some(BlobId(*ahead.id().as_bytes())),
        });
        let parcel = Parcel::from(ahead.clone());
        match self.ask(offer, Some(&parcel)).await? {
            Answer::JobOffered(offered) => Ok(offered.move_id),
            other => Err(other.unexpected()),
        }
    }

    /// Asks for a step of a move, until there is an answer.
    async fn step(
        &self,
        job: JobId,
        move_id: MoveId,
        step: MoveStep,
    ) -> Result<JobMoved, JobError> {
        let step = JobMove { job, move_id, step };
        match insist!(self.ask(Message::JobMove(step), None))? {
            Answer::JobMoved(moved) => Ok(moved),
            other => Err(other.unexpected()),
        }
    }

    async fn place(&self, job: JobId) -> Result<Option<Place>, JobError> {
        let jobs = insist!(self.jobs())?;
        let found = jobs.iter().find(|info| info.job == job);
        Ok(found.map(|info| info.place))
    }

    /// Ends a move from here that was left half done.
    pub(crate) async fn settle(&self, target: &Remote, job: JobId) -> Result<Settled, MoveError> {
        let (source_key, target_key) = (self.key().await, target.key().await);
        let source_key = source_key.map_err(MoveError::Ask)?;
        let target_key = target_key.map_err(MoveError::Ask)?;
        if source_key == target_key {
            return Err(MoveError::SameHost);
        }
        let mut unclear = false;
        for look in 1.. {
            // The target first: what the source says is then the newer of the two.
            let there = target.place(job).await.map_err(MoveError::Ask)?;
            let here = self.place(job).await.map_err(MoveError::Ask)?;
            let next = Next::of((target_key, there), (source_key, here));
            let asked = match next {
                Next::Settled => {
                    return Ok(match [here, there].map(|it| it.is_some_and(is_had)) {
                        [true, true] => Settled::AtBoth,
                        [false, true] => Settled::AtTarget,
                        [true, false] => Settled::AtSource,
                        [false, false] => Settled::Elsewhere,
                    });
                }
                Next::AskSource { move_id, step } => self.step(job, move_id, step).await,
                Next::AskTarget { move_id, step } => target.step(job, move_id, step).await,
                Next::Carry { move_id, lock } => {
                    let carrier = Carrier {
                        source: self,
                        target,
                        job,
                        move_id,
                    };
                    carrier.hand_over(lock).await
                }
                Next::Unclear { move_id } if unclear => {
                    return Err(MoveError::Unclear { move_id });
                }
                Next::Unclear { .. } => {
                    unclear = true;
                    tokio::time::sleep(UNCLEAR_PAUSE).await;
                    continue;
                }
            };
            match asked {
                Ok(_) => unclear = false,
                // It has become otherwise meanwhile.
                Err(CallError::Refused(_)) if look < SETTLE_LOOKS_MAX => {}
                Err(error) => return Err(MoveError::Ask(error)),
            }
            if look >= SETTLE_LOOKS_MAX {
                let what = "the move changes again and again";
                let refused = Refused::new(RefusalCode::MoveUnderWay, what);
                return Err(MoveError::Ask(CallError::Refused(refused)));
            }
        }
        unreachable!("the last look returns")
    }

    /// Has the host run a job of which it has a copy, whatever another does.
    pub(crate) async fn adopt(&self, job: JobId) -> Result<(), MoveError> {
        let place = self.place(job).await.map_err(MoveError::Ask)?;
        let move_id = match place {
            None => {
                let refused = Refused::new(RefusalCode::UnknownJob, job.to_string());
                return Err(MoveError::Ask(CallError::Refused(refused)));
            }
            Some(Place::Here) => return Ok(()),
            Some(
                Place::Offered { move_id, .. }
                | Place::Arriving { move_id, .. }
                | Place::Arrived { move_id, .. }
                | Place::Leaving { move_id, .. }
                | Place::GaveUp { move_id, .. },
            ) => move_id,
        };
        let adopted = self.step(job, move_id, MoveStep::Adopt).await;
        adopted.map(|_| ()).map_err(MoveError::Ask)
    }
}

impl Carrier<'_> {
    async fn carry(
        &self,
        to: PublicKey,
        parcel: &Parcel,
        within: Duration,
        ahead: &Bundle,
        told: &mut Told,
    ) -> Result<Bundle, MoveError> {
        let left = match insist!(self.leave(to, within)) {
            Ok(left) => left,
            Err(error) => return Err(self.call_off(None, MoveStage::Stopped, error).await),
        };
        told(MoveStage::Stopped);
        let lock = left.lock;
        let brought = match insist!(self.bring(&left, parcel, ahead)) {
            Ok(brought) => brought,
            Err(error) => return Err(self.call_off(Some(lock), MoveStage::Fetched, error).await),
        };
        told(MoveStage::Fetched);
        let making = match self.hand_in(&left, brought, ahead).await {
            Ok(making) => making,
            Err(error) => return Err(self.call_off(Some(lock), MoveStage::Arrived, error).await),
        };
        told(MoveStage::Arrived);
        let half_done = |stage| move |source| MoveError::HalfDone { stage, source };
        // From here on there is no way back: the source may have given up.
        let release = match self.give_up(lock).await {
            Ok(release) => release,
            Err(error) => return Err(self.call_off(Some(lock), MoveStage::GivenUp, error).await),
        };
        told(MoveStage::GivenUp);
        let taken = self.at_target(MoveStep::TakeOver { release }).await;
        taken.map_err(half_done(MoveStage::TakenOver))?;
        told(MoveStage::TakenOver);
        let forgotten = self.at_source(MoveStep::Forget).await;
        forgotten.map_err(half_done(MoveStage::Forgotten))?;
        told(MoveStage::Forgotten);
        let settled = self.at_target(MoveStep::Settle).await;
        settled.map_err(half_done(MoveStage::Settled))?;
        told(MoveStage::Settled);
        // The target has made the same of it.
        let made = making.await.expect("it does not panic");
        made.map_err(half_done(MoveStage::Fetched))
    }

    async fn at_source(&self, step: MoveStep) -> Result<JobMoved, JobError> {
        self.source.step(self.job, self.move_id, step).await
    }

    async fn at_target(&self, step: MoveStep) -> Result<JobMoved, JobError> {
        self.target.step(self.job, self.move_id, step).await
    }

    /// Stops the job at the source.
    async fn leave(&self, to: PublicKey, within: Duration) -> Result<JobLeft, JobError> {
        let leave = Message::JobLeave(JobLeave {
            job: self.job,
            move_id: self.move_id,
            to,
            within_ms: millis(within),
        });
        match self.source.ask(leave, None).await? {
            Answer::JobLeft(left) => Ok(*left),
            other => Err(other.unexpected()),
        }
    }

    /// Brings here what the job is now: as what is otherwise than in what went ahead, if the source has
    /// that, or all that is not here.
    async fn bring(
        &self,
        left: &JobLeft,
        parcel: &Parcel,
        ahead: &Bundle,
    ) -> Result<Brought, JobError> {
        let bundle = left.saved.bundle;
        let items = match left.terms.items {
            None => None,
            Some(blob) => {
                let items: Bytes = self.source.fetch(blob).await?;
                if blob_id(&items) != blob {
                    return Err(lie(format!("other items than {blob}")));
                }
                Some(items)
            }
        };
        let since = BlobId(*ahead.id().as_bytes());
        let asked = Message::FetchDifference(FetchDifference { bundle, since });
        let job = match self.source.ask(asked, None).await? {
            Answer::Fetched(difference) => Job::Difference(difference),
            _ => Job::Whole(self.source.fetch_saved(bundle, parcel, Some(ahead)).await?),
        };
        Ok(Brought { job, items })
    }

    /// Brings the job to the target. What it is, is put together while it goes on there.
    async fn hand_in(
        &self,
        left: &JobLeft,
        brought: Brought,
        ahead: &Bundle,
    ) -> Result<Making, JobError> {
        let Brought { job, items } = brought;
        let with_items = |bundle: &Bundle| {
            let mut parcel = Parcel::from(bundle.clone());
            parcel.items = items.clone();
            parcel
        };
        let bundle = match job {
            Job::Whole(bundle) => bundle,
            Job::Difference(difference) => {
                let parcel = with_items(ahead);
                let came = Some((ahead.id(), difference.clone()));
                let arrived = insist!(self.arrive(left, &parcel, came.clone()));
                let since = ahead.clone();
                let id = BundleId::from(left.saved.bundle.0);
                let making = tokio::task::spawn_blocking(move || {
                    let made = Bundle::from_difference(&since, id, &difference, &Limits::default());
                    made.map_err(|error| lie(error.to_string()))
                });
                match arrived {
                    Ok(()) => return Ok(making),
                    // It may have let go of what it was offered: then all of it must come.
                    Err(CallError::Refused(_)) => making.await.expect("it does not panic")?,
                    Err(error) => return Err(error),
                }
            }
        };
        let parcel = with_items(&bundle);
        insist!(self.arrive(left, &parcel, None))?;
        Ok(tokio::task::spawn_blocking(|| Ok(bundle)))
    }

    async fn arrive(
        &self,
        left: &JobLeft,
        arriving: &Parcel,
        difference: Option<(BundleId, Bytes)>,
    ) -> Result<(), JobError> {
        let (difference, payload) = match difference {
            None => (None, Bytes::new()),
            Some((since, bytes)) => {
                let raw_bytes = bytes.len() as u64;
                let near = self.target.connection().await?.is_near();
                let (encoding, payload) = pack(near, bytes).await;
                let difference = Difference {
                    since: BlobId(*since.as_bytes()),
                    encoding,
                    raw_bytes,
                    wire_bytes: payload.len() as u64,
                };
                (Some(difference), payload)
            }
        };
        let arrive = Message::JobArrive(JobArrive {
            job: self.job,
            move_id: self.move_id,
            lock: left.lock,
            bundle: left.saved.bundle,
            terms: left.terms,
            difference,
        });
        // No guest runs for it.
        let mut sink = Sink::default();
        let asked = self
            .target
            .ask_hearing(arrive, payload, Some(arriving), &mut sink);
        match asked.await? {
            Answer::JobMoved(_) => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    async fn give_up(&self, lock: Lock) -> Result<spore_transport::job::Release, JobError> {
        let given_up = self.at_source(MoveStep::GiveUp { lock }).await?;
        given_up.release.ok_or_else(|| {
            let what = "the source has given up and shows no release";
            CallError::Refused(Refused::new(RefusalCode::OutOfOrder, what))
        })
    }

    /// Has the source give up and the target take over.
    async fn hand_over(&self, lock: Lock) -> Result<JobMoved, JobError> {
        let release = self.give_up(lock).await?;
        self.at_target(MoveStep::TakeOver { release }).await
    }

    /// Takes the move back because of `error`, if the source has not given up: then it refuses.
    async fn call_off(&self, lock: Option<Lock>, stage: MoveStage, error: JobError) -> MoveError {
        if self.at_source(MoveStep::Stay).await.is_err() {
            return MoveError::HalfDone {
                stage,
                source: error,
            };
        }
        // Only what stays at the target is lost when this fails: the next settling finds it.
        let _ = self.at_target(MoveStep::Drop { lock }).await;
        MoveError::NotMoved {
            stage,
            source: error,
        }
    }
}

/// Whether a host that says so has the job.
fn is_had(place: Place) -> bool {
    matches!(
        place,
        Place::Here | Place::Arrived { .. } | Place::Leaving { .. }
    )
}
