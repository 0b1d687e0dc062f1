//! Watching a job: what it says from now on, its items, and its end.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use spore_transport::RefusalCode;
use spore_transport::job::{Custody, JobChanged, JobId, JobWatched, WatchItems};
use spore_transport::message::{OutputStream, Refused};

use super::{Job, Now, Phase};
use crate::events::{Event, Finished, Reader};
use crate::host::Host;

/// One thing that a watch brings.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// The guest wrote something.
    Output(OutputStream, Bytes),
    /// The guest says how far it is: done, and the whole or 0.
    Progress(u64, u64),
    /// The job is otherwise now.
    Changed(JobChanged),
    /// An item: its number, from 0, and the encoded value.
    Item(u64, Bytes),
    /// The watch is over, and why; the job may go on. Nothing follows.
    Over(Refused),
    /// The job has ended. Nothing follows.
    Ended(Finished),
}

/// A watch of a job. Dropping it leaves the job as it is.
pub struct Watching {
    job: Arc<Job>,
    heard: Reader,
    changes: tokio::sync::watch::Receiver<u64>,
    told: JobChanged,
    items: Option<Taking>,
    _host: Host,
}

/// The items that a watch takes.
struct Taking {
    watch: u64,
    next: u64,
    taken: u64,
    window: u64,
}

impl Watching {
    /// Watches a job that is here.
    pub(crate) fn new(
        job: Arc<Job>,
        items: Option<WatchItems>,
        host: Host,
    ) -> Result<(JobWatched, Watching), Refused> {
        let callables = &job.terms.bundle.manifest().callables;
        // One that emits none has none to give.
        let items = items.filter(|_| callables[job.terms.callable as usize].streams);
        let heard = Reader::new(job.hub.follow(), host.background());
        let changes = job.changes.subscribe();
        let (taking, told) = {
            let mut now = job.now();
            if let Some(why) = now.is_over_here(job.id) {
                return Err(why);
            }
            let taking = match items {
                None => None,
                Some(WatchItems { from, window }) => {
                    let first = now.items.first();
                    let next = from.unwrap_or(first);
                    if next < first {
                        let refused = Refused::new(RefusalCode::ItemsGone, "");
                        return Err(refused.past(first, next));
                    }
                    if !now.holds_items() {
                        now.items.taken(next);
                    }
                    Some(Taking {
                        watch: now.items.take_over(),
                        next,
                        taken: next,
                        window: u64::from(window),
                    })
                }
            };
            (taking, now.standing(job.id))
        };
        // Another watch may have had them, and the run may wait for those to be taken that were before.
        job.changed();
        job.wake.notify_one();
        let watched = JobWatched {
            info: job.info(),
            items_from: taking.as_ref().map(|it| it.next),
            at_least_once: job.at_least_once(),
        };
        let watching = Watching {
            job,
            heard,
            changes,
            told,
            items: taking,
            _host: host,
        };
        Ok((watched, watching))
    }

    /// The items below this one were taken: as many more may come, and these are forgotten.
    pub fn taken(&mut self, below: u64) {
        if let Some(items) = &mut self.items {
            let below = below.min(items.next);
            items.taken = items.taken.max(below);
            self.job.items_taken(items.watch, below);
        }
    }

    /// The next event; after the last the same again.
    ///
    /// Cancel-safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> JobEvent {
        loop {
            self.changes.borrow_and_update();
            let heard = &mut self.heard;
            let first = std::future::poll_fn(|cx| Poll::Ready(heard.poll_next(cx, false)));
            if let Poll::Ready(event) = first.await
                && let Some(event) = said(event)
            {
                return event;
            }
            if let Some(event) = self.found() {
                // What the guest said last comes before its end, held back or not.
                if let JobEvent::Ended(_) = event
                    && let Some(last) = self.heard.events.last_words().and_then(said)
                {
                    return last;
                }
                return event;
            }
            let heard = &mut self.heard;
            tokio::select! {
                event = std::future::poll_fn(|cx| heard.poll_next(cx, false)) => if let Some(event) = said(event) {
                    return event;
                },
                // The sender is the job's, which is held here.
                _ = self.changes.changed() => {}
            }
        }
    }

    /// What there is to tell of how the job is.
    fn found(&mut self) -> Option<JobEvent> {
        let mut now = self.job.now();
        if let Some(why) = now.is_over_here(self.job.id) {
            return Some(JobEvent::Over(why));
        }
        if let Some(items) = &mut self.items {
            if !now.items.belong_to(items.watch) {
                let why = Refused::new(RefusalCode::ItemsTakenOver, "");
                return Some(JobEvent::Over(why));
            }
            if now.items.first() < items.taken && !now.holds_items() {
                // What was taken while they had to stay as they were.
                now.items.taken(items.taken);
                self.job.wake.notify_one();
            }
            let ended = matches!(now.phase, Phase::Ended(_));
            let held_back = !ended && !self.job.at_least_once();
            if items.next - items.taken < items.window
                && !now.holds_items()
                && let Some(item) = now.items.get(items.next, held_back)
            {
                items.next += 1;
                return Some(JobEvent::Item(items.next - 1, item));
            }
        }
        if let Phase::Ended(finished) = &now.phase {
            // The end comes after the last item.
            let all = self
                .items
                .as_ref()
                .is_none_or(|it| it.next >= now.items.emitted());
            if all {
                return Some(JobEvent::Ended(finished.clone()));
            }
        }
        let standing = now.standing(self.job.id);
        if standing != self.told {
            self.told = standing;
            return Some(JobEvent::Changed(standing));
        }
        None
    }
}

impl Now {
    /// Why there is nothing to watch here any more: the job was given up or forgotten, or stands still
    /// because the host ends.
    pub(super) fn is_over_here(&self, job: JobId) -> Option<Refused> {
        if self.halted_for_good && matches!(self.phase, Phase::Still) {
            return Some(Refused::new(RefusalCode::ShuttingDown, ""));
        }
        match self.custody() {
            None => Some(Refused::new(RefusalCode::UnknownJob, job.to_string())),
            given_up @ Some(Custody::GaveUp { .. }) => {
                Custody::serves(given_up).err().map(|error| error.refusal())
            }
            Some(_) => None,
        }
    }
}

fn said(event: Event) -> Option<JobEvent> {
    match event {
        Event::Output(stream, bytes) => Some(JobEvent::Output(stream, bytes)),
        Event::Progress(done, total) => Some(JobEvent::Progress(done, total)),
        // A job's items and its end come by themselves.
        Event::Item(..) | Event::Finished(_) => None,
    }
}
