//! Messages of jobs, and of the items that callables emit.
//!
//! A job is one run of a resumable callable. It belongs to the key that started it: an id names a
//! job of that key, and for any other key there is none. Where a job is while it moves is
//! [`custody`].

pub mod custody;
mod held;

use serde::{Deserialize, Serialize};

use crate::id::random_id;
use crate::message::{Call, CallLimits, Encoding, MessageError, Refused, cut, not_empty, within};
use crate::{BlobId, PublicKey, RefusalCode};

pub use custody::{Custody, Lock, MoveId, MoveStep, Place, Release};
pub use held::{HELD_BYTES_MAX, HELD_ITEMS_MAX, HeldItems, HeldItemsError};

/// Most jobs that a list names.
pub const JOBS_LISTED_MAX: usize = 1024;
/// Longest text in a list of jobs, in bytes. Longer ones are cut when they are made.
pub const JOB_TEXT_BYTES_MAX: usize = 128;
/// Most items that a client may ask to be sent ahead of those that it has taken.
pub const ITEM_WINDOW_MAX: u32 = 1024;

random_id! {
    /// Names a job of a key. Random; drawn by the host that starts it, and kept when it moves.
    ///
    /// Written as 32 lower-case hexadecimal digits.
    JobId,
    /// A text is not the id of a job.
    NotAJob "the id of a job has 32 lower-case hexadecimal digits"
}

/// How often a host makes a running job durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Persist {
    /// As the host is configured.
    #[default]
    HostDefault,
    /// Not while it runs. A host that is killed loses it, or goes on from its last pause.
    Off,
    /// At the first checkpoint after each such time.
    Every {
        /// In milliseconds
        ms: u64,
    },
}

/// As [`Call`], of a callable that emits items: they come as `Item`. Its result has no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallItems {
    /// The call
    pub call: Call,
    /// Items that may be sent ahead of those that the client has taken; 1 to [`ITEM_WINDOW_MAX`]
    pub window: u32,
}

/// The client has taken the items below this one. It lets the host send as many more, and of a job
/// forget those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The call's index
    pub index: u32,
    /// The sequence number of the first item that was not taken. It grows with each `Taken`.
    pub below: u64,
}

/// Asks the host to start a job. The arguments follow as payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStart {
    /// The call that the job runs. Its wall time holds between checkpoints.
    pub call: Call,
    /// How often it is made durable
    pub persist: Persist,
}

/// Asks the host to start a job that goes on where a saved one stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOpen {
    /// A bundle with the image of a run
    pub bundle: BlobId,
    /// What the caller allows at most
    pub limits: CallLimits,
    /// How often it is made durable
    pub persist: Persist,
    /// Whether it waits for [`JobResume`]
    pub paused: bool,
}

/// The job is there: it survives the connection and, unless it is not persisted, the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// The job
    pub job: JobId,
    /// Whether an item may come again after a restart of the host, because nothing durable holds
    /// that it was emitted
    pub at_least_once: bool,
}

/// Which items a watch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchItems {
    /// The first; those below were taken. Nothing for the first that the host still has
    pub from: Option<u64>,
    /// As [`CallItems::window`]
    pub window: u32,
}

/// Asks for what a job says from now on, and for its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobWatch {
    /// The job
    pub job: JobId,
    /// Its items too. One watch at a time has them: a later one takes them over.
    pub items: Option<WatchItems>,
}

/// The first answer to a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobWatched {
    /// How the job is
    pub info: JobInfo,
    /// The sequence number of the first item that comes, if items were asked for
    pub items_from: Option<u64>,
    /// As [`JobStarted::at_least_once`]
    pub at_least_once: bool,
}

/// Stops a job at its next checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPause {
    /// The job
    pub job: JobId,
    /// If it reaches one within this time, in milliseconds; at most as the host is configured
    pub within_ms: u64,
}

/// Lets a paused job go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResume {
    /// The job
    pub job: JobId,
}

/// Asks for an image of a job at its next checkpoint. The job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSave {
    /// The job
    pub job: JobId,
    /// As [`JobPause::within_ms`]
    pub within_ms: u64,
}

/// The job is saved: what it was then can be fetched until it is saved again or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSaved {
    /// A bundle with the job's code and its image
    pub bundle: BlobId,
    /// Blocks of the image
    pub blocks: u64,
    /// Blocks that the last saved image did not have
    pub blocks_new: u64,
}

/// Ends a job, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCancel {
    /// The job
    pub job: JobId,
}

/// Asks for the ending of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job
    pub job: JobId,
    /// Whether to wait for it
    pub wait: bool,
}

/// Lets the host forget a job that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAcknowledge {
    /// The job
    pub job: JobId,
}

/// The job is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobForgotten {
    /// The job
    pub job: JobId,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With a value
    Value,
    /// With the guest's own error
    GuestError,
    /// With a panic or a trap
    Failed,
    /// It passed a limit, or the host could not go on with it
    Refused,
    /// It was cancelled
    Cancelled,
}

/// How a job is. Whether this host has it is [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It runs, or waits for a worker
    Running,
    /// It runs, and stops at its next checkpoint
    Pausing,
    /// It is stopped
    Paused,
    /// It has ended, and its ending is kept until it is acknowledged
    Ended(Ending),
}

/// A job of the key that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// The job
    pub job: JobId,
    /// The bundle that it was started from; of one that was opened or has moved, that without its state
    pub bundle: BlobId,
    /// The name of the callable
    pub callable: String,
    /// How it is
    pub state: JobState,
    /// Whether this host has it
    pub place: Place,
    /// Why it is paused when nobody asked, or how it failed; or empty
    pub why: String,
    /// What is done, in the guest's units
    pub done: u64,
    /// The whole, or 0 when the guest does not know
    pub total: u64,
    /// Since it was started, in milliseconds, on whatever hosts
    pub age_ms: u64,
    /// Times that it was stopped and went on
    pub stops: u64,
    /// Items that it has emitted
    pub items: u64,
    /// The bundle that it was last saved as
    pub saved: Option<BlobId>,
    /// Why it could not be taken up from the disk, if so: nothing else is known of it then but where it
    /// is. `why` has more words
    pub unavailable: Option<RefusalCode>,
}

impl JobInfo {
    /// A job that is so and there, of which nothing else is known.
    pub fn of(job: JobId, state: JobState, place: Place) -> JobInfo {
        JobInfo {
            job,
            bundle: BlobId([0; 32]),
            callable: String::new(),
            state,
            place,
            why: String::new(),
            done: 0,
            total: 0,
            age_ms: 0,
            stops: 0,
            items: 0,
            saved: None,
            unavailable: None,
        }
    }

    fn cut(&mut self) {
        cut(&mut self.callable, JOB_TEXT_BYTES_MAX);
        cut(&mut self.why, JOB_TEXT_BYTES_MAX);
    }

    fn check(&self) -> Result<(), MessageError> {
        within("JobInfo text", self.callable.len(), JOB_TEXT_BYTES_MAX)?;
        within("JobInfo text", self.why.len(), JOB_TEXT_BYTES_MAX)
    }
}

/// The jobs of the key that asks, at most [`JOBS_LISTED_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// In the order of their ids
    pub jobs: Vec<JobInfo>,
}

impl Jobs {
    /// Cuts texts and the list to their limits. Call it before sending.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.jobs.truncate(JOBS_LISTED_MAX);
        self.jobs.iter_mut().for_each(JobInfo::cut);
        self
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        within("Jobs", self.jobs.len(), JOBS_LISTED_MAX)?;
        self.jobs.iter().try_for_each(JobInfo::check)
    }
}

impl JobWatched {
    /// Cuts texts to their limits. Call it before sending.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.info.cut();
        self
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        self.info.check()
    }
}

/// How the job is now: news to those who watch, and the answer to who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobChanged {
    /// How it is
    pub state: JobState,
    /// Whether this host has it
    pub place: Place,
}

/// The job ended with a refusal. `Refused` itself is about a request: what it refuses may be no more
/// than the watch of a job that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRefused {
    /// Why it ended
    pub refused: Refused,
}

/// What goes with a job that moves, besides its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTerms {
    /// What its owner allows at most
    pub limits: CallLimits,
    /// How often it is made durable
    pub persist: Persist,
    /// Whether its owner has paused it
    pub paused: bool,
    /// Since it was started, in milliseconds
    pub age_ms: u64,
    /// Times that it was stopped and went on
    pub stops: u64,
    /// Progress, as last said
    pub done: u64,
    /// The same
    pub total: u64,
    /// The blob of the items that were emitted and not taken, as [`HeldItems`], if there are any
    pub items: Option<BlobId>,
}

/// Tells the target that a job may come, and what of it can come ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOffer {
    /// The job
    pub job: JobId,
    /// The host that has it
    pub from: PublicKey,
    /// A bundle that it was saved as while it ran, to be stored; or nothing
    pub bundle: Option<BlobId>,
}

/// The job may come, by this name of its move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOffered {
    /// The move
    pub move_id: MoveId,
}

/// Stops a job at its next checkpoint and saves it, to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLeave {
    /// The job
    pub job: JobId,
    /// The move, as the target named it
    pub move_id: MoveId,
    /// The target
    pub to: PublicKey,
    /// As [`JobPause::within_ms`]
    pub within_ms: u64,
    /// The bundle that it was saved as before, if the target was offered that
    pub since: Option<BlobId>,
}

/// The job is stopped and saved durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLeft {
    /// What can be fetched
    pub saved: JobSaved,
    /// What the target is to hold
    pub lock: Lock,
    /// What goes with it. Its blob of items can be fetched too.
    pub terms: JobTerms,
    /// What makes the bundle of the one that was asked for, if the host has that and not too much is
    /// otherwise
    pub difference: Option<Difference>,
}

/// What is otherwise in the bundle of a job that moves than in the one that went ahead of it: a difference
/// of `docs/FORMAT.md`, which follows as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The bundle that went ahead
    pub since: BlobId,
    /// How the bytes travel
    pub encoding: Encoding,
    /// Length of the difference, at most [`DIFFERENCE_BYTES_MAX`](crate::exchange::DIFFERENCE_BYTES_MAX)
    pub raw_bytes: u64,
    /// Length of the payload
    pub wire_bytes: u64,
}

/// Brings a job to the target, which stores it and waits for its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobArrive {
    /// The job
    pub job: JobId,
    /// The move
    pub move_id: MoveId,
    /// As the source answered
    pub lock: Lock,
    /// The bundle that it was saved as
    pub bundle: BlobId,
    /// As the source answered
    pub terms: JobTerms,
    /// What makes the bundle of the one that was offered, if the target still has that
    pub difference: Option<Difference>,
}

/// Asks for one step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMove {
    /// The job
    pub job: JobId,
    /// The move
    pub move_id: MoveId,
    /// Which step
    pub step: MoveStep,
}

/// The step is done, durably; or was done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMoved {
    /// Where the job is now; nothing when this host has nothing of it any more
    pub place: Option<Place>,
    /// From a source that has given up
    pub release: Option<Release>,
}

pub(crate) fn check_window(field: &'static str, window: u32) -> Result<(), MessageError> {
    not_empty(field, window as usize)?;
    within(field, window as usize, ITEM_WINDOW_MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_read() {
        let job = JobId(std::array::from_fn(|n| n as u8 * 17));
        assert_eq!(job.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(job.to_string().parse(), Ok(job));
        for wrong in [
            "",
            "00",
            "g0112233445566778899aabbccddeeff",
            "00112233445566778899AABBCCDDEEFF",
            "00112233445566778899aabbccddeeff0",
        ] {
            assert_eq!(wrong.parse::<JobId>(), Err(NotAJob), "{wrong}");
            assert_eq!(wrong.parse::<MoveId>(), Err(custody::NotAMove), "{wrong}");
        }
    }
}
