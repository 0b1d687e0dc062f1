//! Streams and jobs of a host in this process.

use std::time::Duration;

use spore_host::{Event, JobEvent, JobRequest, Watching};
use spore_transport::JobId;
use spore_transport::job::{JobChanged, JobInfo, JobWatched, Persist, WatchItems};
use spore_transport::message::{Refused, Timing};
use tokio::time::Instant;

use super::{Embedded, ended, unknown};
use crate::call::{Finished, Request, Sink, Told};
use crate::callable::Parcel;
use crate::error::CallError;
use crate::feed::{Feed, Slot};
use crate::job::{JobError, OpenJobRequest};
use crate::stream::ITEM_WINDOW;

impl Embedded {
    /// What the guest emits, and its end.
    pub(crate) fn items(
        self,
        parcel: Parcel,
        request: Request,
        mut sink: Sink,
        deadline: Option<Instant>,
    ) -> Feed {
        Feed::new(deadline, |slot| async move {
            let mut running = match self.running(&parcel, request, true).await {
                Ok(running) => running,
                Err(refused) => return slot.put(Told::Refused(refused)).await,
            };
            loop {
                match running.next().await {
                    Event::Output(stream, bytes) => sink.output(stream, &bytes),
                    Event::Progress(done, total) => sink.progress(done, total),
                    Event::Item(number, bytes) => slot.put(Told::Item(number, bytes)).await,
                    Event::Finished(finished) => {
                        return slot.put(Told::Ended(ended(finished))).await;
                    }
                }
            }
        })
    }

    pub(crate) fn jobs(&self) -> Vec<JobInfo> {
        self.host.jobs(&self.caller)
    }

    pub(crate) fn job_parcel(&self, id: JobId) -> Result<Parcel, JobError> {
        let bundle = self.host.job_bundle(&self.caller, id);
        Ok(bundle.map_err(CallError::Refused)?.into())
    }

    pub(crate) async fn start_job(
        &self,
        parcel: &Parcel,
        request: Request,
        persist: Persist,
    ) -> Result<JobId, JobError> {
        let bundle = self.whole(parcel).map_err(CallError::Refused)?;
        let request = JobRequest {
            callable: request.callable,
            arguments: request.arguments,
            limits: request.limits.asked(),
            // As that of a call.
            seed: request.seed.unwrap_or(0),
            persist,
            timing: Timing::default(),
        };
        let started = self.host.start_job(&self.caller, &bundle, request).await;
        Ok(started.map_err(CallError::Refused)?.job)
    }

    /// The bundle, which may be here by its id alone.
    fn whole(&self, parcel: &Parcel) -> Result<spore_bundle::Bundle, Refused> {
        if let Some(bundle) = parcel.whole() {
            return Ok(bundle.clone());
        }
        let loaded = self.host.loaded(&self.caller, parcel.id)?;
        let loaded = loaded.ok_or_else(|| unknown(parcel.id))?;
        Ok(loaded.bundle().clone())
    }

    pub(crate) async fn open_job(
        &self,
        parcel: &Parcel,
        request: OpenJobRequest,
    ) -> Result<JobId, JobError> {
        let bundle = self.whole(parcel).map_err(CallError::Refused)?;
        let OpenJobRequest {
            limits,
            persist,
            paused,
        } = request;
        let limits = limits.asked();
        let caller = &self.caller;
        let opening = self
            .host
            .open_job(caller, &bundle, &limits, persist, paused);
        Ok(opening.await.map_err(CallError::Refused)?.job)
    }

    pub(crate) fn watch_job(
        &self,
        id: JobId,
        items: Option<Option<u64>>,
    ) -> Result<(JobWatched, Feed), JobError> {
        let items = items.map(|from| WatchItems {
            from,
            window: ITEM_WINDOW,
        });
        let watched = self.host.watch_job(&self.caller, id, items);
        let (watched, watching) = watched.map_err(CallError::Refused)?;
        let feed = Feed::new(None, |slot| tell(watching, slot));
        Ok((watched, feed))
    }

    pub(crate) async fn job_result(&self, id: JobId) -> Result<Finished, JobError> {
        let finished = self.host.job_result(&self.caller, id, true).await;
        Ok(ended(finished.map_err(CallError::Refused)?))
    }

    pub(crate) async fn acknowledge_job(&self, id: JobId) -> Result<(), JobError> {
        let forgotten = self.host.acknowledge_job(&self.caller, id).await;
        forgotten.map_err(CallError::Refused)
    }

    pub(crate) async fn pause_job(
        &self,
        id: JobId,
        within: Duration,
    ) -> Result<JobChanged, JobError> {
        let paused = self.host.pause_job(&self.caller, id, within).await;
        paused.map_err(CallError::Refused)
    }

    pub(crate) async fn resume_job(&self, id: JobId) -> Result<JobChanged, JobError> {
        let resumed = self.host.resume_job(&self.caller, id).await;
        resumed.map_err(CallError::Refused)
    }

    pub(crate) async fn cancel_job(&self, id: JobId) -> Result<JobChanged, JobError> {
        let cancelled = self.host.cancel_job(&self.caller, id).await;
        cancelled.map_err(CallError::Refused)
    }

    pub(crate) async fn save_job(
        &self,
        id: JobId,
        within: Duration,
    ) -> Result<spore_bundle::Bundle, JobError> {
        let saved = self.host.save_job(&self.caller, id, within).await;
        Ok(saved.map_err(CallError::Refused)?.bundle)
    }
}

/// Passes on what a job says, until it has ended.
async fn tell(mut watching: Watching, slot: Slot) {
    loop {
        let told = match watching.next().await {
            JobEvent::Output(stream, bytes) => Told::Output(stream, bytes),
            JobEvent::Progress(done, total) => Told::Progress(done, total),
            JobEvent::Changed(changed) => Told::Changed(changed),
            JobEvent::Item(sequence, bytes) => {
                slot.put(Told::Item(sequence, bytes)).await;
                watching.taken(sequence + 1);
                continue;
            }
            JobEvent::Over(why) => return slot.put(Told::Refused(why)).await,
            JobEvent::Ended(finished) => return slot.put(Told::Ended(ended(finished))).await,
        };
        slot.put(told).await;
    }
}
