//! Moves of jobs from one host to another, carried by this program.
//!
//! The steps and why no order of losses makes both hosts run a job: `docs/PROTOCOL.md`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spore_bundle::{Bundle, BundleId, DifferenceReader, Limits};
use spore_transport::exchange::ClientLimits;
use spore_transport::job::custody::Next;
use spore_transport::job::{
    Difference, JobArrive, JobId, JobInfo, JobLeave, JobLeft, JobMove, JobMoved, JobOffer, Lock,
    MoveId, MoveStep, Place,
};
use spore_transport::message::{Message, Refused};
use spore_transport::{BlobId, PublicKey, RefusalCode, packing};

use super::conversation::{Answer, Conversation, blob_id};
use super::jobs::millis;
use super::sessions::lie;
use super::{Remote, told_broken};
use crate::call::Sink;
use crate::callable::Parcel;
use crate::error::CallError;
use crate::insist::insist;
use crate::job::JobError;
use crate::moving::{MoveError, MoveStage, Settled, Told};

/// Looks at both hosts until a move must be settled. Each but the last asks for a step of the few
/// that there are.
const SETTLE_LOOKS_MAX: u32 = 16;
/// Time until hosts are asked once more that did not tell what became of a job.
const UNCLEAR_PAUSE: Duration = Duration::from_secs(1);

/// One move under way.
struct Carrier<'a> {
    source: &'a Remote,
    target: &'a Remote,
    job: JobId,
    move_id: MoveId,
}

/// A job that the source has stopped, and the stream on which its difference comes.
struct Leaving {
    left: JobLeft,
    from: Conversation,
}

/// What a job left as, once the target has it.
enum Brought {
    /// All of it is here.
    Whole(Bundle),
    /// What came of it: a difference from what went ahead.
    Difference {
        since: Bundle,
        id: BundleId,
        announced: Difference,
        came: Bytes,
    },
}

impl Brought {
    /// The bundle of it. The target has made the same, within its limits.
    fn bundle(self) -> Result<Bundle, JobError> {
        let (since, id, announced, came) = match self {
            Brought::Whole(bundle) => return Ok(bundle),
            Brought::Difference {
                since,
                id,
                announced,
                came,
            } => (since, id, announced, came),
        };
        let raw = packing::unpack(announced.encoding, came, announced.raw_bytes);
        let raw = raw.ok_or_else(|| lie("a difference of another length".to_owned()))?;
        let mut reader = DifferenceReader::default();
        let made = reader.push(&raw).and_then(|()| reader.finish());
        let limits = Limits {
            code_bytes_max: u64::MAX,
            state_bytes_max: u64::MAX,
        };
        let made = made.and_then(|made| Bundle::from_difference(&since, id, made, &limits));
        made.map_err(|error| lie(error.to_string()))
    }
}

impl Remote {
    /// The key of the host.
    pub(crate) async fn key(&self) -> Result<PublicKey, JobError> {
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
        Ok(self.listed(job).await?.map(|info| info.place))
    }

    async fn listed(&self, job: JobId) -> Result<Option<JobInfo>, JobError> {
        let jobs = insist!(self.jobs())?;
        Ok(jobs.into_iter().find(|info| info.job == job))
    }

    /// Ends a move from here that was left half done.
    pub(crate) async fn settle(&self, target: &Remote, job: JobId) -> Result<Settled, MoveError> {
        let (source_key, target_key) = (self.key().await, target.key().await);
        let source_key = source_key.map_err(MoveError::Ask)?;
        let target_key = target_key.map_err(MoveError::Ask)?;
        if source_key == target_key {
            return Err(MoveError::SameHost);
        }
        let there = target.place(job).await.map_err(MoveError::Ask)?;
        let here = self.place(job).await.map_err(MoveError::Ask)?;
        if is_the_other_way((source_key, here), (target_key, there)) {
            return Ok(target.settle_in_order(self, job).await?.the_other_way());
        }
        self.settle_in_order(target, job).await
    }

    /// The same where the move is known to be from here.
    async fn settle_in_order(&self, target: &Remote, job: JobId) -> Result<Settled, MoveError> {
        let (source_key, target_key) = (self.key().await, target.key().await);
        let source_key = source_key.map_err(MoveError::Ask)?;
        let target_key = target_key.map_err(MoveError::Ask)?;
        let mut unclear = false;
        for look in 1.. {
            // The target first: what the source says is then the newer of the two.
            let listed = target.listed(job).await.map_err(MoveError::Ask)?;
            let there = listed.as_ref().map(|info| info.place);
            let here = self.place(job).await.map_err(MoveError::Ask)?;
            // What the target cannot take up is no copy to give the job up to, or to forget it for.
            let taken_up = listed.filter(|info| info.unavailable.is_none());
            let copy = match here {
                Some(Place::Leaving { .. } | Place::GaveUp { .. }) => {
                    taken_up.map(|info| info.place)
                }
                _ => there,
            };
            let next = Next::of((target_key, copy), (source_key, here));
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
        let leaving = match insist!(self.leave(to, within, ahead)) {
            Ok(leaving) => leaving,
            Err(error) => return Err(self.call_off(None, MoveStage::Stopped, error).await),
        };
        told(MoveStage::Stopped);
        let lock = leaving.left.lock;
        let brought = match self.bring(leaving, parcel, ahead, told).await {
            Ok(brought) => brought,
            Err((stage, error)) => return Err(self.call_off(Some(lock), stage, error).await),
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
        // Not while the job stands still: it takes a processor from those that bring it there.
        let bundle = tokio::task::spawn_blocking(move || brought.bundle());
        let forgotten = self.at_source(MoveStep::Forget).await;
        forgotten.map_err(half_done(MoveStage::Forgotten))?;
        told(MoveStage::Forgotten);
        let settled = self.at_target(MoveStep::Settle).await;
        settled.map_err(half_done(MoveStage::Settled))?;
        told(MoveStage::Settled);
        let made = bundle.await.expect("it does not panic");
        made.map_err(half_done(MoveStage::Fetched))
    }

    async fn at_source(&self, step: MoveStep) -> Result<JobMoved, JobError> {
        self.source.step(self.job, self.move_id, step).await
    }

    async fn at_target(&self, step: MoveStep) -> Result<JobMoved, JobError> {
        self.target.step(self.job, self.move_id, step).await
    }

    /// Stops the job at the source. What is otherwise in it than in what went ahead may follow.
    async fn leave(
        &self,
        to: PublicKey,
        within: Duration,
        ahead: &Bundle,
    ) -> Result<Leaving, JobError> {
        let since = blob_of(ahead);
        let leave = Message::JobLeave(JobLeave {
            job: self.job,
            move_id: self.move_id,
            to,
            within_ms: millis(within),
            since: Some(since),
        });
        let mut from = self.source.conversation(ClientLimits::default()).await?;
        // No guest runs for it.
        let mut sink = Sink::default();
        let asked = from.ask(leave, Bytes::new(), None, &mut sink);
        let left = match asked.await.map_err(told_broken)? {
            Answer::JobLeft(left) => *left,
            other => return Err(other.unexpected()),
        };
        if left.difference.is_some_and(|it| it.since != since) {
            return Err(lie(format!(
                "a difference from another bundle than {since}"
            )));
        }
        Ok(Leaving { left, from })
    }

    /// Brings the job to the target.
    async fn bring(
        &self,
        leaving: Leaving,
        parcel: &Parcel,
        ahead: &Bundle,
        told: &mut Told,
    ) -> Result<Brought, (MoveStage, JobError)> {
        let Leaving { left, from } = leaving;
        let mut has_come = false;
        if let Some(difference) = left.difference {
            let mut tell = || {
                told(MoveStage::Fetched);
                has_come = true;
            };
            match self
                .pass_on(&left, difference, from, ahead, &mut tell)
                .await
            {
                Ok(came) => {
                    return Ok(Brought::Difference {
                        since: ahead.clone(),
                        id: BundleId::from(left.saved.bundle.0),
                        announced: difference,
                        came,
                    });
                }
                Err(error) if goes_whole(&error) => {}
                Err(error) => return Err((MoveStage::Arrived, error)),
            }
        }
        let items = insist!(self.items(&left)).map_err(|error| (MoveStage::Fetched, error))?;
        let saved = left.saved.bundle;
        let bundle = insist!(self.source.fetch_saved(saved, parcel, Some(ahead)));
        let bundle = bundle.map_err(|error| (MoveStage::Fetched, error))?;
        if !has_come {
            told(MoveStage::Fetched);
        }
        let arrive = || self.arriving(&left, None);
        let mut parcel = Parcel::from(bundle.clone());
        parcel.items = items;
        let arrived = match insist!(self.target.ask(arrive(), Some(&parcel))) {
            Ok(Answer::JobMoved(_)) => Ok(()),
            Ok(other) => Err(other.unexpected()),
            Err(error) => Err(error),
        };
        arrived.map_err(|error| (MoveStage::Arrived, error))?;
        Ok(Brought::Whole(bundle))
    }

    /// The items that the job has left with.
    async fn items(&self, left: &JobLeft) -> Result<Option<Bytes>, JobError> {
        let Some(blob) = left.terms.items else {
            return Ok(None);
        };
        let items = self.source.fetch(blob).await?;
        if blob_id(&items) != blob {
            return Err(lie(format!("other items than {blob}")));
        }
        Ok(Some(items))
    }

    /// Passes on to the target what the source sends of the job, as it comes. Gives that.
    async fn pass_on(
        &self,
        left: &JobLeft,
        difference: Difference,
        mut from: Conversation,
        ahead: &Bundle,
        told: &mut (dyn FnMut() + Send),
    ) -> Result<Bytes, JobError> {
        let mut to = self.target.conversation(ClientLimits::default()).await?;
        // At most 16 MiB, by the check of the announcement.
        let mut came = BytesMut::with_capacity(difference.wire_bytes as usize);
        to.announce(&self.arriving(left, Some(difference)));
        let mut is_last = difference.wire_bytes == 0;
        while !is_last {
            let (piece, last) = from.piece().await.map_err(told_broken)?;
            to.pass_on(piece.clone(), last).await.map_err(told_broken)?;
            // Copied, since a piece holds the buffer that it came in.
            came.extend_from_slice(&piece);
            is_last = last;
        }
        told();
        // Not before: what is not read of one stream takes the room of others.
        let mut parcel = Parcel::from(ahead.clone());
        parcel.items = self.items(left).await?;
        let mut sink = Sink::default();
        let answered = to.answer(Some(&parcel), &mut sink);
        match answered.await.map_err(told_broken)? {
            Answer::JobMoved(_) => Ok(came.freeze()),
            other => Err(other.unexpected()),
        }
    }

    fn arriving(&self, left: &JobLeft, difference: Option<Difference>) -> Message {
        Message::JobArrive(JobArrive {
            job: self.job,
            move_id: self.move_id,
            lock: left.lock,
            bundle: left.saved.bundle,
            terms: left.terms,
            difference,
        })
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

/// Whether a move is from the second of two hosts to the first, by what they say of the job.
fn is_the_other_way(
    (first, at_first): (PublicKey, Option<Place>),
    (second, at_second): (PublicKey, Option<Place>),
) -> bool {
    let comes = match at_first {
        Some(
            Place::Offered { from, .. }
            | Place::Arriving { from, .. }
            | Place::Arrived { from, .. },
        ) => from == second,
        _ => false,
    };
    let goes = match at_second {
        Some(Place::Leaving { to, .. } | Place::GaveUp { to, .. }) => to == first,
        _ => false,
    };
    comes || goes
}

/// Whether a host that says so has the job.
fn is_had(place: Place) -> bool {
    matches!(
        place,
        Place::Here | Place::Arrived { .. } | Place::Leaving { .. }
    )
}

fn blob_of(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

/// Whether a job whose difference came to this goes whole: it was lost on the way, or the target has let
/// go of what it was offered, or can make nothing of it.
fn goes_whole(error: &JobError) -> bool {
    match error {
        CallError::Refused(refused) => matches!(
            refused.code,
            RefusalCode::UnknownBundle
                | RefusalCode::BlobAbsent
                | RefusalCode::BlobMismatch
                | RefusalCode::BlobEncoding
                | RefusalCode::Malformed
        ),
        error => error.is_passing(),
    }
}
