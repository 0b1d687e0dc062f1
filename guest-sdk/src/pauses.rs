//! Where a resumable callable can be stopped: checkpoints and sleeps.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::world::{self, Alarm, Moment, Turn};

/// Where a run of the callable may be stopped, saved, and continued elsewhere.
///
/// Awaiting it lets every other branch of a [`join!`](crate::join) or [`select!`](crate::select) have
/// its turn. Whether the run was stopped shows in nothing that the guest can see. One that nobody
/// uses costs nanoseconds; a loop may well have one in each round that takes a microsecond.
///
/// In a guest it is for resumable callables, whose executor alone asks the host whether to stop; no
/// other executor makes it ready there. In a native program it yields once to any executor.
pub fn checkpoint() -> Checkpoint {
    Checkpoint { reached: None }
}

/// The future of [`checkpoint`].
#[must_use = "a checkpoint is reached when this is awaited"]
pub struct Checkpoint {
    reached: Option<Turn>,
}

impl Future for Checkpoint {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = world::turn();
        // Some combinators poll again at once what has woken them, within the same turn.
        let reached = *self.reached.get_or_insert(now);
        if reached != now {
            return Poll::Ready(());
        }
        world::wake_next_turn(context.waker());
        Poll::Pending
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").finish_non_exhaustive()
    }
}

/// Waits until `duration` from now, by the monotonic clock that the guest sees.
///
/// A run that sleeps can be stopped, saved and continued elsewhere, as at a
/// [`checkpoint`]. A sleep of no time, and one whose time has passed, is ready at once.
///
/// That clock stands still unless the host grants clocks, and time passes only when every branch of
/// the run sleeps: a sleep beside a branch that goes from checkpoint to checkpoint ends after that
/// branch does. So a run takes the same steps however fast its host is.
///
/// In a native program it is real time, kept by a thread of its own, whatever executor polls it.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        until: world::after(duration),
        alarm: Alarm::default(),
    }
}

/// The future of [`sleep`].
#[must_use = "a sleep takes its time when it is awaited"]
pub struct Sleep {
    until: Moment,
    alarm: Alarm,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        if world::is_reached(until) {
            self.alarm.clear();
            return Poll::Ready(());
        }
        self.alarm.set(until, context.waker());
        Poll::Pending
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}
