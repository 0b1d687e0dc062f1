//! What is told of a run, one thing after the other, to whoever asks for the next.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::call::Told;

/// The work of one conversation, which is done while somebody waits for the next of what it brings.
///
/// The work stays here from one wait to the next, so that a wait that is dropped loses nothing of
/// it. Nothing is read while nobody waits: a slow taker holds the host. Dropping the feed drops the
/// work.
pub(crate) struct Feed {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    slot: Slot,
}

/// Where the work puts what it brings.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Told>>>);

impl Slot {
    /// Gives one thing to who waits, after what was put before. Done when they come for the next.
    pub(crate) async fn put(&self, told: Told) {
        // Work whose time is over may have put something just before.
        self.taken().await;
        *self.lock() = Some(told);
        self.taken().await;
    }

    /// Done when nothing is left to be taken.
    async fn taken(&self) {
        // Whoever waits takes it before the work is looked at again, so that nobody need be woken.
        poll_fn(|_| match *self.lock() {
            None => Poll::Ready(()),
            Some(_) => Poll::Pending,
        })
        .await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// What this work puts into its slot, until the deadline.
    pub(crate) fn new<F>(deadline: Option<Instant>, work: impl FnOnce(Slot) -> F) -> Feed
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = Slot::default();
        let (work, over) = (work(slot.clone()), slot.clone());
        let work = async move {
            match deadline {
                None => work.await,
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline, work).await.is_err() {
                        over.put(Told::Deadline).await;
                    }
                }
            }
        };
        Feed {
            work: Some(Box::pin(work)),
            slot,
        }
    }

    /// The next thing; nothing when the work is done.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(None);
        };
        if work.as_mut().poll(cx).is_ready() {
            self.work = None;
        }
        let told = self.slot.lock().take();
        match told {
            None if self.work.is_some() => Poll::Pending,
            told => Poll::Ready(told),
        }
    }

    /// Drops the work.
    pub(crate) fn stop(&mut self) {
        self.work = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(told: Option<Told>) -> Option<u64> {
        match told? {
            Told::Progress(done, _) => Some(done),
            Told::Deadline => Some(u64::MAX),
            _ => unreachable!("nothing else is put"),
        }
    }

    async fn next(feed: &mut Feed) -> Option<u64> {
        number(poll_fn(|cx| feed.poll_next(cx)).await)
    }

    #[tokio::test]
    async fn the_work_goes_on_only_when_the_next_is_waited_for() {
        let reached = Arc::new(Mutex::new(0));
        let reach = reached.clone();
        let mut feed = Feed::new(None, |slot| async move {
            for done in 0..3 {
                *reach.lock().expect("no panic") = done;
                slot.put(Told::Progress(done, 0)).await;
            }
        });
        for done in 0..3 {
            assert_eq!(next(&mut feed).await, Some(done));
            assert_eq!(*reached.lock().expect("no panic"), done);
        }
        assert_eq!(next(&mut feed).await, None);
        assert_eq!(next(&mut feed).await, None);
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_nothing() {
        let mut feed = Feed::new(None, |slot| async move {
            for done in 0..3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                slot.put(Told::Progress(done, 0)).await;
            }
        });
        let mut seen = Vec::new();
        loop {
            let wait = tokio::time::timeout(Duration::from_millis(3), next(&mut feed));
            match wait.await {
                Ok(Some(done)) => seen.push(done),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        assert_eq!(seen, [0, 1, 2]);
    }

    #[tokio::test]
    async fn the_deadline_is_told_last() {
        let soon = Instant::now() + Duration::from_millis(20);
        let mut feed = Feed::new(Some(soon), |slot| async move {
            slot.put(Told::Progress(1, 0)).await;
            std::future::pending().await
        });
        assert_eq!(next(&mut feed).await, Some(1));
        assert_eq!(next(&mut feed).await, Some(u64::MAX));
        assert_eq!(next(&mut feed).await, None);
    }

    #[tokio::test]
    async fn what_comes_at_the_deadline_is_not_lost() {
        let soon = Instant::now() + Duration::from_millis(20);
        let mut feed = Feed::new(Some(soon), |slot| async move {
            tokio::time::sleep_until(soon).await;
            slot.put(Told::Progress(1, 0)).await;
            std::future::pending().await
        });
        assert_eq!(next(&mut feed).await, Some(1));
        assert_eq!(next(&mut feed).await, Some(u64::MAX));
        assert_eq!(next(&mut feed).await, None);
    }
}
