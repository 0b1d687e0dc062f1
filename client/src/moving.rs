//! Moves of jobs from one host to another: how far they are, and what goes wrong.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use spore_transport::job::MoveId;

use crate::host::Host;
use crate::job::{Job, JobError};

/// Hears how far a move is.
pub(crate) type Told = Box<dyn FnMut(MoveStage) + Send>;

/// A move that is to be made: await it.
///
/// Not cancel-safe: a dropped future may leave the move half done.
#[must_use = "a job moves when this is awaited"]
pub struct Moving<R, E, I = Infallible> {
    job: Job<R, E, I>,
    other: Host,
    within: Duration,
    told: Told,
}

impl<R, E, I> Moving<R, E, I> {
    pub(crate) fn new(job: Job<R, E, I>, other: Host, within: Duration) -> Moving<R, E, I> {
        Moving {
            job,
            other,
            within,
            told: Box::new(|_| {}),
        }
    }

    /// Calls this each time that the move has come further, between one step and the next.
    pub fn on_stage(mut self, told: impl FnMut(MoveStage) + Send + 'static) -> Self {
        self.told = Box::new(told);
        self
    }
}

impl<R, E, I> IntoFuture for Moving<R, E, I>
where
    R: 'static,
    E: 'static,
    I: 'static,
{
    type Output = Result<Job<R, E, I>, MoveError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Moving {
            job,
            other,
            within,
            mut told,
        } = self;
        Box::pin(async move { job.moved(other, within, &mut told).await })
    }
}

/// What of a move is done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MoveStage {
    /// The job was saved while it ran, and this program has what was saved
    Saved,
    /// So has the target, ahead of the job itself
    Ahead,
    /// The job stands still at the source
    Stopped,
    /// This program has what has changed since
    Fetched,
    /// The target has all of the job, durably
    Arrived,
    /// The source has durably given it up
    GivenUp,
    /// The job runs at the target
    TakenOver,
    /// The source has forgotten it
    Forgotten,
    /// The target has forgotten that it came from elsewhere
    Settled,
}

impl MoveStage {
    /// The host that brings a move so far.
    pub fn host(self) -> MoveHost {
        match self {
            MoveStage::Saved
            | MoveStage::Stopped
            | MoveStage::Fetched
            | MoveStage::GivenUp
            | MoveStage::Forgotten => MoveHost::Source,
            MoveStage::Ahead | MoveStage::Arrived | MoveStage::TakenOver | MoveStage::Settled => {
                MoveHost::Target
            }
        }
    }
}

impl fmt::Display for MoveStage {
    /// What its host has to do for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoveStage::Saved => "save the job at its next checkpoint",
            MoveStage::Ahead => "take most of the job in, while it runs",
            MoveStage::Stopped => "stop the job at its next checkpoint",
            MoveStage::Fetched => "give what has changed",
            MoveStage::Arrived => "take in what has changed",
            MoveStage::GivenUp => "give the job up",
            MoveStage::TakenOver => "take the job over",
            MoveStage::Forgotten => "forget the job",
            MoveStage::Settled => "end the move",
        })
    }
}

/// A host of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveHost {
    /// The one that the job is to move from
    Source,
    /// The one that it is to move to
    Target,
}

impl fmt::Display for MoveHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoveHost::Source => "source",
            MoveHost::Target => "target",
        })
    }
}

/// Which host has a job whose move was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The one that it was to move from
    AtSource,
    /// The one that it was to move to
    AtTarget,
    /// Both, each a copy of its own: one was adopted by force, and the other has come back. Cancel
    /// one of them
    AtBoth,
    /// Neither of the two: it was acknowledged, or has moved on
    Elsewhere,
}

impl Settled {
    /// The same of a move from the other host.
    pub(crate) fn the_other_way(self) -> Settled {
        match self {
            Settled::AtSource => Settled::AtTarget,
            Settled::AtTarget => Settled::AtSource,
            Settled::AtBoth => Settled::AtBoth,
            Settled::Elsewhere => Settled::Elsewhere,
        }
    }
}

/// Why a job was not moved, or not to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// A host in this process neither gives jobs away nor takes them: nobody could reach it to end
    /// a move that was left half done. Save the job there and open it elsewhere.
    #[error("a host in this process neither gives nor takes jobs")]
    Embedded,
    /// Source and target are one host.
    #[error("the job is on that host already")]
    SameHost,
    /// The job is where it was, and goes on there.
    #[error("the job was not moved: the {} was to {stage}", stage.host())]
    NotMoved {
        /// How far it did not come
        stage: MoveStage,
        /// Why it did not
        #[source]
        source: JobError,
    },
    /// A host was lost when the move had begun, so that it is not known on which of the two the job
    /// is. It runs on one of them at most.
    /// [`Host::settle_move`](crate::Host::settle_move) finds out, and ends the move.
    #[error("the move is half done: the {} was to {stage}", stage.host())]
    HalfDone {
        /// What was not answered
        stage: MoveStage,
        /// Why it was not
        #[source]
        source: JobError,
    },
    /// A host could not be asked about the move, or refused. What was done before holds, and asking
    /// again goes on from there.
    #[error("a host did not answer about the move")]
    Ask(#[source] JobError),
    /// What the two hosts say does not tell what became of the job: another program moves it just
    /// now, or one of the hosts has lost it. If it stays so, a person decides: see
    /// [`Host::adopt_job`](crate::Host::adopt_job).
    #[error("the two hosts do not tell what became of the job")]
    Unclear {
        /// The move
        move_id: MoveId,
    },
}
