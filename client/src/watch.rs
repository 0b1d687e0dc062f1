//! Watching a job: what it says, its items, and its ending.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use spore_transport::RefusalCode;
use spore_transport::job::{JobChanged, JobInfo, JobWatched};
use spore_transport::message::OutputStream;

use crate::call::{Finished, Told};
use crate::callable::JobDecode;
use crate::error::CallError;
use crate::feed::Feed;
use crate::job::{Job, JobError};

/// A watch to begin: await it.
#[must_use = "a watch begins when it is awaited"]
pub struct Watching<R, E, I = Infallible> {
    job: Job<R, E, I>,
    items: bool,
    from: Option<u64>,
}

/// A watch of a job. Dropping it leaves the job as it is. It is also a [`Stream`].
pub struct Watch<R, E, I = Infallible> {
    feed: Feed,
    watched: JobWatched,
    decode: Arc<JobDecode<R, E, I>>,
    seen: Arc<AtomicU64>,
    ended: Option<Finished>,
}

/// One thing that a job says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobNews<I> {
    /// The guest wrote something. What it wrote while nobody watched is not kept.
    Output(OutputStream, Bytes),
    /// The guest says how far it is, in its own units.
    Progress {
        /// What is done
        done: u64,
        /// The whole, or 0 when the guest does not know
        total: u64,
    },
    /// The job is otherwise now: it runs, is paused, moves, or has ended.
    State(JobChanged),
    /// The guest has emitted an item.
    Item {
        /// Its number in the run, from 0. It tells an item that comes again from a new one.
        sequence: u64,
        /// The item
        item: I,
    },
}

impl<R, E, I> Watching<R, E, I> {
    pub(crate) fn new(job: Job<R, E, I>) -> Self {
        Watching {
            items: job.emits_items(),
            from: None,
            job,
        }
    }

    /// Begins with the item of this number: those below were taken before, and are forgotten. By
    /// default after the last that a watch of this job has brought here, or with the first that the
    /// host still has.
    pub fn items_from(mut self, sequence: u64) -> Self {
        self.from = Some(sequence);
        self
    }

    /// Leaves the items to another watch.
    pub fn without_items(mut self) -> Self {
        self.items = false;
        self
    }

    async fn begin(self) -> Result<Watch<R, E, I>, JobError> {
        let Job {
            host,
            id,
            decode,
            items_seen: seen,
            ..
        } = self.job;
        let from = match (self.from, seen.load(Ordering::Relaxed)) {
            (None, 0) => None,
            (None, seen) => Some(seen),
            (from, _) => from,
        };
        let begun = match host.watch_job(id, self.items.then_some(from)).await {
            // Another program has taken more than this one.
            Err(CallError::Refused(refused))
                if refused.code == RefusalCode::ItemsGone && self.from.is_none() =>
            {
                host.watch_job(id, self.items.then_some(None)).await
            }
            begun => begun,
        };
        let (watched, feed) = begun?;
        Ok(Watch {
            feed,
            watched,
            decode,
            seen,
            ended: None,
        })
    }
}

impl<R: 'static, E: 'static, I: 'static> IntoFuture for Watching<R, E, I> {
    /// # Errors
    ///
    /// When the job is not here, or its items were forgotten from where they were to begin.
    type Output = Result<Watch<R, E, I>, JobError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl<R, E: fmt::Debug, I> Watch<R, E, I> {
    /// The next thing that the job says; nothing when it has ended, after the last item.
    ///
    /// # Errors
    ///
    /// When the watch ends and the job may go on: the host was lost, or another watch has the items
    /// now ([`ItemsTakenOver`](crate::RefusalCode::ItemsTakenOver)). An error is the last.
    ///
    /// Cancel-safe: what was not returned is returned next.
    pub async fn next(&mut self) -> Option<Result<JobNews<I>, CallError<E>>> {
        poll_fn(|cx| self.poll_news(cx)).await
    }

    /// What the job has ended with, once [`next`](Self::next) has found no more because of that. It
    /// is not acknowledged by this.
    pub fn result(&self) -> Option<Result<R, CallError<E>>> {
        Some(self.decode.ended(self.ended.clone()?))
    }

    /// How the job was when the watch began.
    pub fn info(&self) -> &JobInfo {
        &self.watched.info
    }

    /// The number of the first item, if the watch brings items.
    pub fn items_from(&self) -> Option<u64> {
        self.watched.items_from
    }

    /// Whether an item may come again, after a restart of the host, with the same number.
    pub fn at_least_once(&self) -> bool {
        self.watched.at_least_once
    }

    fn poll_news(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<JobNews<I>, CallError<E>>>> {
        let Some(told) = ready!(self.feed.poll_next(cx)) else {
            return Poll::Ready(None);
        };
        let error = match told {
            Told::Output(stream, bytes) => return news(JobNews::Output(stream, bytes)),
            Told::Progress(done, total) => return news(JobNews::Progress { done, total }),
            Told::Changed(changed) => return news(JobNews::State(changed)),
            Told::Item(sequence, bytes) => match (self.decode.item)(&bytes) {
                Ok(item) => {
                    self.seen.fetch_max(sequence + 1, Ordering::Relaxed);
                    return news(JobNews::Item { sequence, item });
                }
                Err(error) => error.into(),
            },
            Told::Ended(finished) => {
                self.ended = Some(finished);
                self.feed.stop();
                return Poll::Ready(None);
            }
            Told::Refused(refused) => CallError::Refused(refused),
            Told::Broken(broken) => broken.into(),
            Told::Deadline => unreachable!("a watch has no deadline"),
        };
        self.feed.stop();
        Poll::Ready(Some(Err(error)))
    }
}

fn news<I, E: fmt::Debug>(news: JobNews<I>) -> Poll<Option<Result<JobNews<I>, CallError<E>>>> {
    Poll::Ready(Some(Ok(news)))
}

impl<R, E: fmt::Debug, I> Stream for Watch<R, E, I> {
    type Item = Result<JobNews<I>, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_news(cx)
    }
}

impl<R, E, I> fmt::Debug for Watch<R, E, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}
