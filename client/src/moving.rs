//! What goes wrong when jobs move.

use spore_transport::job::MoveId;

use crate::job::JobError;

/// Which host has a job whose move was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The one that it was to move from
    AtSource,
    /// The one that it was to move to
    AtTarget,
    /// Neither of the two: it was acknowledged, or has moved on
    Elsewhere,
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
    #[error("the job was not moved")]
    NotMoved(#[source] JobError),
    /// A host was lost when the move had begun, so that it is not known on which of the two the job
    /// is. It runs on one of them at most.
    /// [`Host::settle_move`](crate::Host::settle_move) finds out, and ends the move.
    #[error("the move is half done, at the step {step}")]
    HalfDone {
        /// The step of the protocol that was not answered
        step: &'static str,
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
