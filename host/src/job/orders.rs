//! What an owner asks of a job.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use spore_transport::RefusalCode;
use spore_transport::job::{Custody, JobChanged};
use spore_transport::message::Refused;
use tokio::sync::oneshot;

use super::{Job, Now, Phase};
use crate::events::Finished;
use crate::limits::millis;
use crate::session::{Charged, Saved, SavedAs};

impl Job {
    /// Has it stand still at its next checkpoint, if it reaches one in this time.
    pub(crate) async fn pause(self: &Arc<Self>, within: Duration) -> Result<JobChanged, Refused> {
        // Whoever goes away, or waits for longer than that, takes the wish along, and no other.
        let pausing = Pausing::of(self)?;
        self.changed();
        let paused = self.until(|now| {
            // Somebody has let it go on, or it could not stand still.
            if now.pausing_over != pausing.over {
                let resumed = Refused::new(RefusalCode::NoCheckpoint, "it was told to go on");
                let why = match now.turned_down == pausing.turned_down {
                    true => resumed,
                    false => now.not_stopped.clone().unwrap_or(resumed),
                };
                return Some(Err(why));
            }
            let stands = now.stands(pausing.turned_down)?;
            now.pause |= stands.is_ok();
            Some(stands)
        });
        let paused = tokio::time::timeout(within, paused).await;
        drop(pausing);
        self.changed();
        paused.unwrap_or_else(|_| Err(no_checkpoint(within)))?;
        Ok(self.standing())
    }

    /// Lets it go on. Whoever calls sees to it that it does.
    pub(crate) fn resume(&self) -> Result<(), Refused> {
        let mut now = self.served()?;
        now.unpause();
        now.why.clear();
        self.tell_run(&now);
        drop(now);
        self.changed();
        Ok(())
    }

    /// Saves it at its next checkpoint, if it reaches one in this time.
    pub(crate) async fn save(self: &Arc<Self>, within: Duration) -> Result<Saved, Refused> {
        let saved = loop {
            {
                let mut now = self.served()?;
                match now.phase {
                    Phase::Still if !now.is_to_be_kept() || self.keep.is_none() => {
                        return self.saved_still(&mut now);
                    }
                    Phase::Still => {}
                    _ => {
                        let (waiting, saved) = oneshot::channel();
                        now.saves.push(waiting);
                        self.tell_run(&now);
                        break saved;
                    }
                }
            }
            // It may go on just then.
            let kept = self.keep_still().await;
            kept.map_err(|error| error.refusal())?;
        };
        match tokio::time::timeout(within, saved).await {
            Ok(Ok(saved)) => saved,
            // Its run was dropped, which is how one is cancelled.
            Ok(Err(_)) => Err(Refused::new(RefusalCode::JobEnded, "")),
            Err(_) => {
                let mut now = self.now();
                now.saves.retain(|waiting| !waiting.is_closed());
                self.tell_run(&now);
                Err(no_checkpoint(within))
            }
        }
    }

    /// What a job that stands still is saved as.
    pub(crate) fn saved_still(&self, now: &mut Now) -> Result<Saved, Refused> {
        let Some(charged) = now.image.clone() else {
            let what = "it has not begun";
            return Err(Refused::new(RefusalCode::NoImage, what));
        };
        if let Some(saved) = &now.saved
            && Arc::ptr_eq(&saved.charged, &charged)
        {
            let (bundle, blocks_new) = (saved.bundle.clone(), 0);
            return Ok(Saved { bundle, blocks_new });
        }
        let saved = SavedAs::within(self.key.state_max, &self.terms.bundle, charged)?;
        Ok(now.saved_as(saved))
    }

    /// Notes that it was saved as this image.
    pub(super) fn saved_as(&self, charged: Arc<Charged>) -> Result<Saved, Refused> {
        let saved = SavedAs::within(self.key.state_max, &self.terms.bundle, charged)?;
        Ok(self.now().saved_as(saved))
    }

    /// Ends it wherever it is. One that has ended stays as it is.
    ///
    /// Not cancel-safe: see [`Host::to_the_end`](crate::Host).
    pub(crate) async fn cancel(self: &Arc<Self>) -> Result<JobChanged, Refused> {
        loop {
            {
                let now = self.here()?;
                match now.phase {
                    Phase::Ended(_) => return Ok(now.standing(self.id)),
                    Phase::Running => {
                        self.hub.cancel();
                        break;
                    }
                    Phase::Still => {}
                }
            }
            // It may go on just then.
            if self.cancel_still().await? {
                break;
            }
        }
        self.ended().await?;
        Ok(self.standing())
    }

    /// How it has ended, when it has.
    ///
    /// # Errors
    ///
    /// When it is not here, or leaves for good before it ends.
    pub(crate) async fn ended(&self) -> Result<Finished, Refused> {
        drop(self.here()?);
        self.until(|now| match (&now.phase, now.is_over_here(self.id)) {
            (_, Some(why)) => Some(Err(why)),
            (Phase::Ended(finished), None) => Some(Ok(finished.clone())),
            _ => None,
        })
        .await
    }

    /// How it has ended.
    ///
    /// # Errors
    ///
    /// When it has not, or is not here.
    pub(crate) fn ending(&self) -> Result<Finished, Refused> {
        match &self.here()?.phase {
            Phase::Ended(finished) => Ok(finished.clone()),
            _ => Err(Refused::new(RefusalCode::JobNotEnded, "")),
        }
    }

    /// The job, if it is here.
    fn here(&self) -> Result<MutexGuard<'_, Now>, Refused> {
        let now = self.now();
        Custody::serves(now.custody()).map_err(|error| error.refusal())?;
        Ok(now)
    }

    /// The job, if it is here and has not ended.
    pub(super) fn served(&self) -> Result<MutexGuard<'_, Now>, Refused> {
        let now = self.here()?;
        match now.phase {
            Phase::Ended(_) => Err(Refused::new(RefusalCode::JobEnded, "")),
            _ => Ok(now),
        }
    }

    /// Tells the run what is wanted of it, at its next checkpoint or where it waits.
    pub(crate) fn tell_run(&self, now: &Now) {
        self.checkpoints.want_stop(now.is_wanted());
        self.wake.notify_one();
    }

    /// Forgets items that this watch has taken, which may let the guest go on.
    pub(super) fn items_taken(&self, watch: u64, below: u64) {
        {
            let mut now = self.now();
            if !now.items.belong_to(watch) || now.holds_items() {
                return;
            }
            now.items.taken(below);
        }
        self.wake.notify_one();
    }

    /// Has the run stand still because the host ends, waits for that, and has it written down.
    pub(crate) async fn halt(self: &Arc<Self>, within: Duration) -> Result<(), Refused> {
        {
            let mut now = self.now();
            (now.halt, now.halted_for_good) = (Some(String::new()), true);
            self.tell_run(&now);
        }
        self.stopped(within).await?;
        // Whoever watches hears of it, if it stood still before.
        self.changed();
        let kept = self.keep_still().await;
        kept.map_err(|error| error.refusal())
    }

    /// Keeps the run from going on until the guard goes: it comes to stand still.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        let mut now = self.now();
        now.holds += 1;
        self.tell_run(&now);
        drop(now);
        Hold(self.clone())
    }

    /// Waits until the run stands still, which somebody wants.
    ///
    /// # Errors
    ///
    /// When it was refused that, has ended, or does not in this time.
    pub(crate) async fn stopped(&self, within: Duration) -> Result<(), Refused> {
        let turned_down = self.now().turned_down;
        let stands = self.until(|now| now.stands(turned_down));
        let stands = tokio::time::timeout(within, stands).await;
        stands.unwrap_or_else(|_| Err(no_checkpoint(within)))
    }

    /// Whether it was to leave, and has not for so long.
    pub(crate) fn left_for(&self, longest: Duration) -> bool {
        let now = self.now();
        matches!(now.custody, Custody::Leaving { .. }) && now.moved.elapsed() >= longest
    }
}

impl Now {
    /// Whether its run stands still, or why it does not; nothing as long as it may, of what has changed
    /// since it was turned down so often.
    fn stands(&self, turned_down: u64) -> Option<Result<(), Refused>> {
        match self.phase {
            Phase::Still => Some(Ok(())),
            Phase::Ended(_) => Some(Err(Refused::new(RefusalCode::JobEnded, ""))),
            Phase::Running if self.turned_down == turned_down => None,
            Phase::Running => self.not_stopped.clone().map(Err),
        }
    }

    /// Notes what it was saved as.
    pub(super) fn saved_as(&mut self, saved: SavedAs) -> Saved {
        let blocks_new = saved.blocks_new(self.saved.as_ref());
        let bundle = saved.bundle.clone();
        self.saved = Some(saved);
        Saved { bundle, blocks_new }
    }
}

/// A request that a job stand still, which waits until it does.
struct Pausing {
    job: Arc<Job>,
    over: u64,
    turned_down: u64,
}

impl Pausing {
    fn of(job: &Arc<Job>) -> Result<Pausing, Refused> {
        let mut now = job.served()?;
        now.pausing += 1;
        job.tell_run(&now);
        Ok(Pausing {
            job: job.clone(),
            over: now.pausing_over,
            turned_down: now.turned_down,
        })
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        let mut now = self.job.now();
        if now.pausing_over == self.over {
            now.pausing -= 1;
            self.job.tell_run(&now);
        }
    }
}

/// Keeps a run from going on. Whoever drops it has the job run, if it is to.
pub(crate) struct Hold(Arc<Job>);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut now = self.0.now();
        now.holds -= 1;
        self.0.tell_run(&now);
        drop(now);
        // Its items may be given out again.
        self.0.changed();
    }
}

fn no_checkpoint(within: Duration) -> Refused {
    Refused::new(RefusalCode::NoCheckpoint, "").past(millis(within), None)
}
