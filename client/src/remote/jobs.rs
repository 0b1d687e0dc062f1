//! Streams and jobs of a host at the other end.

use std::time::Duration;

use bytes::Bytes;
use spore_bundle::Bundle;
use spore_transport::exchange::{ClientEvent, ClientLimits, RESULT_BYTES_MAX_DEFAULT};
use spore_transport::job::{
    CallItems, JobAcknowledge, JobCancel, JobChanged, JobInfo, JobOpen, JobPause, JobResult,
    JobResume, JobSave, JobStart, JobWatch, JobWatched, Persist, WatchItems,
};
use spore_transport::message::Message;
use spore_transport::session::SessionCallItems;
use spore_transport::{BlobId, JobId};
use tokio::time::Instant;

use super::conversation::{Answer, Conversation, Taking};
use super::sessions::session_call_of;
use super::{Remote, call_of, refusal_of};
use crate::call::{Broken, Finished, Request, Sink, Told};
use crate::callable::Parcel;
use crate::error::CallError;
use crate::feed::{Feed, Slot};
use crate::job::{JobError, OpenJobRequest};
use crate::stream::ITEM_WINDOW;

impl Remote {
    /// Calls a callable that emits items, in a session or a fresh instance.
    pub(crate) async fn items(
        &self,
        parcel: Parcel,
        request: Request,
        mut sink: Sink,
        deadline: Option<Instant>,
    ) -> Result<Feed, Broken> {
        let (call, limits) = call_of(&parcel, &request);
        let mut conversation = self.conversation(limits).await?;
        let window = ITEM_WINDOW;
        let message = match request.session {
            None => Message::CallItems(CallItems { call, window }),
            Some(session) => {
                let call = session_call_of(session, &request);
                Message::SessionCallItems(SessionCallItems { call, window })
            }
        };
        conversation.queue(&message, request.arguments);
        conversation.flush().await?;
        Ok(Feed::new(deadline, |slot| async move {
            let hear = |told| match told {
                Told::Output(stream, bytes) => {
                    sink.output(stream, &bytes);
                    None
                }
                Told::Progress(done, total) => {
                    sink.progress(done, total);
                    None
                }
                told => Some(told),
            };
            conversation
                .tell(Some(parcel), Taking::default(), hear, slot)
                .await;
        }))
    }

    pub(crate) async fn start_job(
        &self,
        parcel: &Parcel,
        request: Request,
        persist: Persist,
    ) -> Result<JobId, JobError> {
        let (call, _) = call_of(parcel, &request);
        let message = Message::JobStart(JobStart { call, persist });
        let arguments = request.arguments;
        let mut sink = Sink::default();
        let parcel = parcel.imaged();
        let answer = self.ask_hearing(message, arguments, Some(&parcel), &mut sink);
        match answer.await? {
            Answer::JobStarted(started) => Ok(started.job),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn open_job(
        &self,
        parcel: &Parcel,
        request: OpenJobRequest,
    ) -> Result<JobId, JobError> {
        let open = Message::JobOpen(JobOpen {
            bundle: BlobId(*parcel.id.as_bytes()),
            limits: request.limits.asked(),
            persist: request.persist,
            paused: request.paused,
        });
        match self.ask(open, Some(parcel)).await? {
            Answer::JobStarted(started) => Ok(started.job),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn jobs(&self) -> Result<Vec<JobInfo>, JobError> {
        match self.ask(Message::JobList, None).await? {
            Answer::Jobs(jobs) => Ok(jobs.jobs),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn watch_job(
        &self,
        job: JobId,
        items: Option<Option<u64>>,
    ) -> Result<(JobWatched, Feed), JobError> {
        let items = items.map(|from| WatchItems {
            from,
            window: ITEM_WINDOW,
        });
        let limits = ClientLimits {
            output_bytes: u64::MAX,
            ..ClientLimits::default()
        };
        let begin = async {
            let mut conversation = self.conversation(limits).await?;
            let watch = Message::JobWatch(JobWatch { job, items });
            conversation.queue(&watch, Bytes::new());
            conversation.flush().await?;
            let event = conversation.event().await?;
            Ok((conversation, event))
        };
        let (mut conversation, event) = begin.await.map_err(error_of)?;
        let watched = match event {
            ClientEvent::JobWatched(watched) => *watched,
            ClientEvent::Refused(refused) => {
                conversation.end().await;
                return Err(CallError::Refused(refused));
            }
            _ => unreachable!("the exchange takes only the first answer to a watch"),
        };
        let taken = Taking::from(watched.items_from.unwrap_or(0));
        let feed = Feed::new(None, |slot| conversation.tell(None, taken, Some, slot));
        Ok((watched, feed))
    }

    pub(crate) async fn job_result(
        &self,
        job: JobId,
        result_bytes: Option<u64>,
    ) -> Result<Finished, JobError> {
        let limits = ClientLimits {
            result_bytes: result_bytes.unwrap_or(RESULT_BYTES_MAX_DEFAULT),
            ..ClientLimits::default()
        };
        let ask = async {
            let mut conversation = self.conversation(limits).await?;
            let result = Message::JobResult(JobResult { job, wait: true });
            conversation.queue(&result, Bytes::new());
            conversation.flush().await?;
            conversation.told(None, &mut Taking::default()).await
        };
        match ask.await.map_err(error_of)? {
            Told::Ended(finished) => Ok(finished),
            Told::Refused(refused) => Err(CallError::Refused(refused)),
            _ => unreachable!("the exchange takes only the ending of a job"),
        }
    }

    pub(crate) async fn acknowledge_job(&self, job: JobId) -> Result<(), JobError> {
        let acknowledge = Message::JobAcknowledge(JobAcknowledge { job });
        match self.ask(acknowledge, None).await? {
            Answer::JobForgotten => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn pause_job(
        &self,
        job: JobId,
        within: Duration,
    ) -> Result<JobChanged, JobError> {
        let within_ms = millis(within);
        self.control(Message::JobPause(JobPause { job, within_ms }))
            .await
    }

    pub(crate) async fn resume_job(&self, job: JobId) -> Result<JobChanged, JobError> {
        self.control(Message::JobResume(JobResume { job })).await
    }

    pub(crate) async fn cancel_job(&self, job: JobId) -> Result<JobChanged, JobError> {
        self.control(Message::JobCancel(JobCancel { job })).await
    }

    async fn control(&self, message: Message) -> Result<JobChanged, JobError> {
        match self.ask(message, None).await? {
            Answer::JobChanged(changed) => Ok(changed),
            other => Err(other.unexpected()),
        }
    }

    /// Saves a job, and brings the bundle here: what `parcel` and `last` do not have of it.
    pub(crate) async fn save_job(
        &self,
        job: JobId,
        within: Duration,
        parcel: &Parcel,
        last: Option<&Bundle>,
    ) -> Result<Bundle, JobError> {
        let within_ms = millis(within);
        let save = Message::JobSave(JobSave { job, within_ms });
        match self.ask(save, None).await? {
            Answer::JobSaved(saved) => self.fetch_saved(saved.bundle, parcel, last).await,
            other => Err(other.unexpected()),
        }
    }
}

impl Conversation {
    /// Puts into the slot what the host tells of a run and `hear` leaves, until the last.
    async fn tell(
        mut self,
        parcel: Option<Parcel>,
        mut taken: Taking,
        mut hear: impl FnMut(Told) -> Option<Told>,
        slot: Slot,
    ) {
        let broken = loop {
            let told = match self.told(parcel.as_ref(), &mut taken).await {
                Ok(told) => told,
                Err(broken) => break broken,
            };
            let last = matches!(told, Told::Ended(_) | Told::Refused(_));
            let item = match &told {
                Told::Item(sequence, bytes) => Some((*sequence, bytes.len())),
                _ => None,
            };
            if let Some(told) = hear(told) {
                slot.put(told).await;
            }
            if last {
                return;
            }
            // The program has come for the next, so that it has this one.
            if let Some((sequence, bytes)) = item {
                taken.take(sequence, bytes);
                if taken.is_due()
                    && let Err(broken) = self.say_taken(&mut taken).await
                {
                    break broken;
                }
            }
        };
        let told = match refusal_of(&broken) {
            Some(refused) => Told::Refused(refused),
            None => Told::Broken(broken),
        };
        slot.put(told).await;
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn error_of(broken: Broken) -> JobError {
    match refusal_of(&broken) {
        Some(refused) => CallError::Refused(refused),
        None => broken.into(),
    }
}
