//! Which host has a job while it moves: the states that a host writes down, and how they change.
//!
//! A client that owns the job on both hosts carries it over; the hosts do not talk to each other.
//!
//! ```text
//! source                       client                      target
//!   Here                                                    —
//!                                Offer  ──────────────────▶ Offered        (draws the MoveId)
//!   Leaving (stopped)  ◀──────── Leave                                     (draws the release)
//!                                Arrive, lock ────────────▶ Arriving
//!   GaveUp             ◀──────── GiveUp, lock
//!             release  ────────▶ TakeOver, release ───────▶ Arrived (runs)
//!   —                  ◀──────── Forget
//!                                Settle ──────────────────▶ Here
//! ```
//!
//! The source draws a random **release** for each departure and shows its hash, the **lock**; the
//! release itself only once it has durably given the job up. The target holds the lock and starts
//! the job for nothing but the release. So no client, however old, hasty or wrong, can make both
//! run the job, short of [`MoveStep::Adopt`], which says that it may.
//!
//! Pure: a host applies [`Custody::after`] to what it has, writes to its disk what a restart is to find
//! of the result ([`Custody::after_restart`]), and then answers. `tests/moves.rs` walks through every
//! order of requests, losses and restarts with it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::JobId;
use crate::id::random_id;
use crate::message::Refused;
use crate::{PublicKey, RefusalCode};

random_id! {
    /// Names one arrival of a job at a host, which draws it at random when the job is offered.
    ///
    /// Written as 32 lower-case hexadecimal digits.
    MoveId,
    /// A text is not the id of a move.
    NotAMove "the id of a move has 32 lower-case hexadecimal digits"
}

/// What lets a target start a job: 16 random bytes that the source shows when it has given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release(pub [u8; 16]);

impl fmt::Debug for Release {
    /// Shows nothing: logs are read by more people than may move the job.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release(…)")
    }
}

/// What only the [`Release`] of the same move opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lock(pub [u8; 32]);

/// Keeps a lock from being taken for any other hash.
const LOCK_CONTEXT: &str = "spore/1 lock of a move";

impl Release {
    /// The lock that this release opens. It holds for one arrival of one job: a release that was
    /// shown is worth nothing when the job arrives another time.
    pub fn lock(&self, job: JobId, move_id: MoveId) -> Lock {
        let mut hasher = blake3::Hasher::new_derive_key(LOCK_CONTEXT);
        hasher.update(&job.0).update(&move_id.0).update(&self.0);
        Lock(*hasher.finalize().as_bytes())
    }
}

/// What a host has of a job. It has nothing, or one of these.
///
/// Variants and fields are frozen, as those of messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Custody {
    /// The job is this host's: it runs, is paused, or has ended.
    Here,
    /// Offered from elsewhere. Blocks may come ahead; nothing depends on them. After a restart nothing
    /// is here.
    Offered {
        /// The move
        move_id: MoveId,
        /// The host that has the job
        from: PublicKey,
    },
    /// All of the job is here, durably, and waits for the release.
    Arriving {
        /// The move
        move_id: MoveId,
        /// The host that has the job, or has given it up
        from: PublicKey,
        /// What the release opens
        lock: Lock,
    },
    /// The job is this host's, and the host that it came from may still keep its copy.
    Arrived {
        /// The move
        move_id: MoveId,
        /// The host that gave it up
        from: PublicKey,
    },
    /// The job is this host's, stopped to be moved. It goes on by itself when that takes too long, and
    /// after a restart.
    Leaving {
        /// The move
        move_id: MoveId,
        /// The host that it is to run on
        to: PublicKey,
        /// Not yet to be shown
        release: Release,
    },
    /// The job was given up, and its copy is kept until the target has it.
    GaveUp {
        /// The move
        move_id: MoveId,
        /// The host that may run it
        to: PublicKey,
        /// To be shown to the owner who asks
        release: Release,
    },
}

/// What happens to a job's custody: requests of its owner, and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// At the target: the job may come.
    Offer {
        /// Fresh random bytes, used when the offer is new
        drawn: MoveId,
        /// The host that has the job
        from: PublicKey,
    },
    /// At the source: the job has been stopped.
    Leave {
        /// The move, as the target named it
        move_id: MoveId,
        /// The target
        to: PublicKey,
        /// Fresh random bytes, used when the departure is new
        drawn: Release,
    },
    /// At the target: all of the job is stored durably.
    Arrive {
        /// The move
        move_id: MoveId,
        /// What the source answered when the job left
        lock: Lock,
    },
    /// At either: a step that carries nothing but the move.
    Step {
        /// The move
        move_id: MoveId,
        /// Which
        step: MoveStep,
    },
    /// The owner has the ending of the job, which can be forgotten.
    Acknowledge,
    /// The host has restarted, or an offer or a departure has lasted too long.
    Lapse,
}

/// A step of a move, as the owner asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveStep {
    /// At the source: give the job up to the arrival that holds this lock, and show the release.
    GiveUp {
        /// The lock that the target holds
        lock: Lock,
    },
    /// At the target: run the job.
    TakeOver {
        /// What the source answered when it gave up
        release: Release,
    },
    /// At the source: drop the copy of a job that was given up and taken over.
    Forget,
    /// At the target: the source has forgotten the job, which can move on or end.
    Settle,
    /// At the source: run on, the move is off.
    Stay,
    /// At the target: the move is off. Only after the source has said that it stays.
    Drop {
        /// Of the arrival to drop; nothing drops no more than an offer, which may have become an
        /// arrival meanwhile
        lock: Option<Lock>,
    },
    /// At either: run the job, whatever the other does. A person has to know that the other does
    /// not run it, and never will.
    Adopt,
}

/// Why custody does not change so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotMoved {
    /// There is no such job.
    #[error("there is no such job")]
    UnknownJob,
    /// The job is in no such move, or not at this step of it.
    #[error("the job is in no such move")]
    UnknownMove,
    /// Another move is not over, or another step comes first.
    #[error("the job is being moved")]
    UnderWay,
    /// The job is here already.
    #[error("the job is here already")]
    HereAlready,
    /// The job was given up.
    #[error("the job was given up to {to}")]
    Elsewhere {
        /// The host that it was given up to
        to: PublicKey,
    },
    /// The release does not open the lock.
    #[error("the release is that of another move")]
    WrongRelease,
}

impl NotMoved {
    /// The refusal with which a host answers.
    pub fn refusal(&self) -> Refused {
        match self {
            NotMoved::UnknownJob => Refused::new(RefusalCode::UnknownJob, ""),
            NotMoved::UnknownMove => Refused::new(RefusalCode::MoveUnknown, ""),
            NotMoved::UnderWay => Refused::new(RefusalCode::MoveUnderWay, ""),
            NotMoved::HereAlready => Refused::new(RefusalCode::JobHere, ""),
            NotMoved::Elsewhere { to } => Refused::new(RefusalCode::JobElsewhere, to.to_string()),
            NotMoved::WrongRelease => Refused::new(RefusalCode::WrongRelease, ""),
        }
    }
}

impl Custody {
    /// What the host has after `event`, if it had `now`. Asking twice changes nothing more: an
    /// owner whose answer was lost asks again.
    ///
    /// # Errors
    ///
    /// When the event does not fit. Nothing changes then.
    pub fn after(
        job: JobId,
        now: Option<Custody>,
        event: &Event,
    ) -> Result<Option<Custody>, NotMoved> {
        match *event {
            Event::Offer { drawn, from } => offer(now, drawn, from),
            Event::Leave { move_id, to, drawn } => leave(now, move_id, to, drawn),
            Event::Arrive { move_id, lock } => arrive(now, move_id, lock),
            Event::Step { move_id, step } => match step {
                MoveStep::GiveUp { lock } => give_up(job, now, move_id, lock),
                MoveStep::TakeOver { release } => take_over(job, now, move_id, release),
                MoveStep::Forget => forget(now, move_id),
                MoveStep::Settle => settle(now, move_id),
                MoveStep::Stay => stay(now, move_id),
                MoveStep::Drop { lock } => drop_arrival(now, move_id, lock),
                MoveStep::Adopt => adopt(now, move_id),
            },
            Event::Acknowledge => match now {
                Some(Custody::Here) => Ok(None),
                now => Err(not_here(now)),
            },
            Event::Lapse => Ok(Custody::after_restart(now)),
        }
    }

    /// What a host that restarts has of what it had: that is all that its disk needs to know.
    pub fn after_restart(now: Option<Custody>) -> Option<Custody> {
        match now {
            Some(Custody::Offered { .. }) => None,
            Some(Custody::Leaving { .. }) => Some(Custody::Here),
            now => now,
        }
    }

    /// Whether this host may run the job. At any time one host may at most.
    pub fn may_run(&self) -> bool {
        matches!(self, Custody::Here | Custody::Arrived { .. })
    }

    /// Whether requests other than those of a move are answered here.
    ///
    /// # Errors
    ///
    /// When the host has nothing of the job, or may not run it now.
    pub fn serves(now: Option<Custody>) -> Result<(), NotMoved> {
        match now {
            Some(custody) if custody.may_run() => Ok(()),
            now => Err(not_here(now)),
        }
    }

    /// As the owner sees it.
    pub fn place(&self, job: JobId) -> Place {
        match *self {
            Custody::Here => Place::Here,
            Custody::Offered { move_id, from } => Place::Offered { move_id, from },
            Custody::Arriving {
                move_id,
                from,
                lock,
            } => Place::Arriving {
                move_id,
                from,
                lock,
            },
            Custody::Arrived { move_id, from } => Place::Arrived { move_id, from },
            Custody::Leaving {
                move_id,
                to,
                release,
            } => Place::Leaving {
                move_id,
                to,
                lock: release.lock(job, move_id),
            },
            Custody::GaveUp { move_id, to, .. } => Place::GaveUp { move_id, to },
        }
    }

    /// The release, once it may be shown.
    pub fn release(&self) -> Option<Release> {
        match self {
            Custody::GaveUp { release, .. } => Some(*release),
            _ => None,
        }
    }
}

fn not_here(now: Option<Custody>) -> NotMoved {
    match now {
        None => NotMoved::UnknownJob,
        Some(Custody::GaveUp { to, .. }) => NotMoved::Elsewhere { to },
        Some(_) => NotMoved::UnderWay,
    }
}

type Changed = Result<Option<Custody>, NotMoved>;

fn offer(now: Option<Custody>, drawn: MoveId, from: PublicKey) -> Changed {
    match now {
        Some(Custody::Offered { from: same, .. }) if same == from => Ok(now),
        // The blocks of the older offer stay useful; its move is over.
        None | Some(Custody::Offered { .. }) => Ok(Some(Custody::Offered {
            move_id: drawn,
            from,
        })),
        Some(Custody::Here | Custody::Arrived { .. }) => Err(NotMoved::HereAlready),
        Some(Custody::Arriving { .. } | Custody::Leaving { .. } | Custody::GaveUp { .. }) => {
            Err(NotMoved::UnderWay)
        }
    }
}

fn leave(now: Option<Custody>, move_id: MoveId, to: PublicKey, drawn: Release) -> Changed {
    match now {
        Some(Custody::Here) => Ok(Some(Custody::Leaving {
            move_id,
            to,
            release: drawn,
        })),
        Some(Custody::Leaving {
            move_id: same,
            to: there,
            ..
        }) if same == move_id && there == to => Ok(now),
        // An arrival is settled first, or its source could keep a copy for ever.
        now => Err(not_here(now)),
    }
}

fn arrive(now: Option<Custody>, move_id: MoveId, lock: Lock) -> Changed {
    match now {
        Some(Custody::Offered {
            move_id: same,
            from,
        }) if same == move_id => Ok(Some(Custody::Arriving {
            move_id,
            from,
            lock,
        })),
        Some(Custody::Arriving {
            move_id: same,
            lock: held,
            ..
        }) if same == move_id => match held == lock {
            true => Ok(now),
            // Another departure of the same job: the first has to be dropped.
            false => Err(NotMoved::UnderWay),
        },
        Some(Custody::Here | Custody::Arrived { .. }) => Err(NotMoved::HereAlready),
        _ => Err(NotMoved::UnknownMove),
    }
}

fn give_up(job: JobId, now: Option<Custody>, move_id: MoveId, lock: Lock) -> Changed {
    match now {
        Some(
            Custody::Leaving {
                move_id: same,
                to,
                release,
            }
            | Custody::GaveUp {
                move_id: same,
                to,
                release,
            },
        ) if same == move_id && release.lock(job, move_id) == lock => Ok(Some(Custody::GaveUp {
            move_id,
            to,
            release,
        })),
        _ => Err(NotMoved::UnknownMove),
    }
}

fn take_over(job: JobId, now: Option<Custody>, move_id: MoveId, release: Release) -> Changed {
    match now {
        Some(Custody::Arriving {
            move_id: same,
            from,
            lock,
        }) if same == move_id => match release.lock(job, move_id) == lock {
            true => Ok(Some(Custody::Arrived { move_id, from })),
            false => Err(NotMoved::WrongRelease),
        },
        Some(Custody::Arrived { move_id: same, .. }) if same == move_id => Ok(now),
        _ => Err(NotMoved::UnknownMove),
    }
}

fn forget(now: Option<Custody>, move_id: MoveId) -> Changed {
    match now {
        None => Ok(None),
        Some(Custody::GaveUp { move_id: same, .. }) if same == move_id => Ok(None),
        Some(_) => Err(NotMoved::UnknownMove),
    }
}

fn settle(now: Option<Custody>, move_id: MoveId) -> Changed {
    match now {
        Some(Custody::Here) => Ok(now),
        Some(Custody::Arrived { move_id: same, .. }) if same == move_id => Ok(Some(Custody::Here)),
        _ => Err(NotMoved::UnknownMove),
    }
}

fn stay(now: Option<Custody>, move_id: MoveId) -> Changed {
    match now {
        Some(Custody::Here | Custody::Arrived { .. }) => Ok(now),
        Some(Custody::Leaving { move_id: same, .. }) if same == move_id => Ok(Some(Custody::Here)),
        Some(Custody::GaveUp { to, .. }) => Err(NotMoved::Elsewhere { to }),
        None => Err(NotMoved::UnknownJob),
        Some(_) => Err(NotMoved::UnknownMove),
    }
}

fn drop_arrival(now: Option<Custody>, move_id: MoveId, lock: Option<Lock>) -> Changed {
    match now {
        None => Ok(None),
        Some(Custody::Offered { move_id: same, .. }) if same == move_id => Ok(None),
        Some(Custody::Arriving {
            move_id: same,
            lock: held,
            ..
        }) if same == move_id => match lock == Some(held) {
            true => Ok(None),
            false => Err(NotMoved::UnderWay),
        },
        Some(Custody::Here | Custody::Arrived { .. }) => Err(NotMoved::HereAlready),
        Some(_) => Err(NotMoved::UnknownMove),
    }
}

fn adopt(now: Option<Custody>, move_id: MoveId) -> Changed {
    match now {
        Some(Custody::Here) => Ok(now),
        Some(
            Custody::Arriving { move_id: same, .. }
            | Custody::Arrived { move_id: same, .. }
            | Custody::Leaving { move_id: same, .. }
            | Custody::GaveUp { move_id: same, .. },
        ) if same == move_id => Ok(Some(Custody::Here)),
        None => Err(NotMoved::UnknownJob),
        // Of an offered job there is no whole image.
        Some(_) => Err(NotMoved::UnknownMove),
    }
}

/// [`Custody`] as the owner sees it, without what must not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// The job is this host's.
    Here,
    /// It may come.
    Offered {
        /// The move
        move_id: MoveId,
        /// The host that has it
        from: PublicKey,
    },
    /// It is all here, and waits for the release.
    Arriving {
        /// The move
        move_id: MoveId,
        /// The host that has it, or has given it up
        from: PublicKey,
        /// What the release opens
        lock: Lock,
    },
    /// It is this host's, and the one that it came from may still keep its copy.
    Arrived {
        /// The move
        move_id: MoveId,
        /// The host that gave it up
        from: PublicKey,
    },
    /// It is this host's, stopped and saved to be moved.
    Leaving {
        /// The move
        move_id: MoveId,
        /// The host that it is to run on
        to: PublicKey,
        /// Of this departure
        lock: Lock,
    },
    /// It was given up.
    GaveUp {
        /// The move
        move_id: MoveId,
        /// The host that may run it
        to: PublicKey,
    },
}

/// What settles a move that was left half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Nothing is left of a move from the one to the other.
    Settled,
    /// Ask the source for this step, then look at both again.
    AskSource {
        /// The move
        move_id: MoveId,
        /// For which step
        step: MoveStep,
    },
    /// Ask the target for this step, then look at both again.
    AskTarget {
        /// The move
        move_id: MoveId,
        /// For which step
        step: MoveStep,
    },
    /// Ask the source to give up to `lock`, and the target to take over with the release that the
    /// source answers; then look at both again.
    Carry {
        /// The move
        move_id: MoveId,
        /// The lock that the target holds
        lock: Lock,
    },
    /// The two do not tell what became of the job: one was asked while another client moves it, or
    /// one has lost it, or it has ended or moved on from there. Look again; if it stays so, a person
    /// decides between [`MoveStep::Adopt`] and, at the source, [`MoveStep::Forget`], at the target,
    /// [`MoveStep::Drop`].
    Unclear {
        /// The move
        move_id: MoveId,
    },
}

impl Next {
    /// What is to be done about a move from `source` to `target`, from their keys and where each
    /// lists the job.
    ///
    /// The **target is asked for its list first**. Then what the source says is the newer of the
    /// two, and an arrival that it does not know of is over; the other way round, the arrival could
    /// be newer than the answer of the source. A move goes on if the target has all of the job, and
    /// is taken back otherwise.
    pub fn of(target: (PublicKey, Option<Place>), source: (PublicKey, Option<Place>)) -> Next {
        match Next::of_departure(target, source) {
            Next::Settled => Next::of_arrival(target, source),
            next => next,
        }
    }

    fn of_departure(
        target: (PublicKey, Option<Place>),
        source: (PublicKey, Option<Place>),
    ) -> Next {
        match source.1 {
            Some(Place::Leaving { move_id, to, lock }) if to == target.0 => match target.1 {
                Some(Place::Arriving {
                    move_id: same,
                    lock: held,
                    ..
                }) if same == move_id && held == lock => Next::Carry { move_id, lock },
                _ => Next::AskSource {
                    move_id,
                    step: MoveStep::Stay,
                },
            },
            Some(Place::GaveUp { move_id, to }) if to == target.0 => match target.1 {
                Some(Place::Arriving {
                    move_id: same,
                    lock,
                    ..
                }) if same == move_id => Next::Carry { move_id, lock },
                Some(Place::Arrived { move_id: same, .. }) if same == move_id => Next::AskSource {
                    move_id,
                    step: MoveStep::Forget,
                },
                _ => Next::Unclear { move_id },
            },
            _ => Next::Settled,
        }
    }

    fn of_arrival(target: (PublicKey, Option<Place>), source: (PublicKey, Option<Place>)) -> Next {
        match target.1 {
            Some(Place::Offered { move_id, from }) if from == source.0 => Next::AskTarget {
                move_id,
                step: MoveStep::Drop { lock: None },
            },
            Some(Place::Arriving {
                move_id,
                from,
                lock,
            }) if from == source.0 => match source.1 {
                // It may have ended there, or its disk may be gone and this be the only copy.
                None => Next::Unclear { move_id },
                Some(_) => Next::AskTarget {
                    move_id,
                    step: MoveStep::Drop { lock: Some(lock) },
                },
            },
            Some(Place::Arrived { move_id, from }) if from == source.0 => Next::AskTarget {
                move_id,
                step: MoveStep::Settle,
            },
            _ => Next::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_that_of_one_job_and_one_move() {
        let (job, other_job) = (JobId([1; 16]), JobId([2; 16]));
        let (arrival, other) = (MoveId([3; 16]), MoveId([4; 16]));
        let release = Release([5; 16]);
        let lock = release.lock(job, arrival);
        assert_eq!(lock, release.lock(job, arrival));
        assert_ne!(lock, release.lock(other_job, arrival));
        assert_ne!(lock, release.lock(job, other));
        assert_ne!(lock, Release([6; 16]).lock(job, arrival));
        assert_eq!(format!("{release:?}"), "Release(…)");
    }
}
