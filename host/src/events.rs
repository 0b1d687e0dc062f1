//! What a call tells its caller while it runs, and how it ended.
//!
//! One small queue per call joins the worker that runs the guest and whoever reads for the caller.
//! It cannot grow with what a guest does: output is bounded by its limit and joined into pieces,
//! of progress only the latest waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use spore_transport::failure::Failure;
use spore_transport::message::{OutputStream, Refused, Timing};

use crate::scheduler::lock;

/// Largest piece of output in one event, in bytes.
const OUTPUT_PIECE_BYTES_MAX: usize = spore_transport::message::OUTPUT_BYTES_MAX;

/// One thing a call tells its caller.
#[derive(Clone, Debug)]
pub enum Event {
    /// The guest wrote something.
    Output(OutputStream, Bytes),
    /// The guest says how far it is: done, and the whole or 0.
    Progress(u64, u64),
    /// The call has ended. Nothing follows.
    Finished(Finished),
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The end itself.
    pub outcome: Outcome,
    /// Where the time went.
    pub timing: Timing,
    /// Whether output beyond its limit was left out.
    pub output_cut: bool,
}

/// The end of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The encoded value that the callable returned.
    Value(Bytes),
    /// The encoded error that the callable returned.
    Error(Bytes),
    /// The guest panicked or trapped.
    Failed(Failure),
    /// The host did not run it, or not to its end.
    Refused(Refused),
}

#[derive(Default)]
struct Queue {
    output: VecDeque<(OutputStream, BytesMut)>,
    progress: Option<(u64, u64)>,
    finished: Option<Finished>,
    reader: Option<Waker>,
    worker: Option<Waker>,
}

/// The queue between a call's guest and its caller.
pub(crate) struct Events {
    queue: Mutex<Queue>,
    cancelled: AtomicBool,
}

impl Events {
    pub(crate) fn new() -> Arc<Events> {
        Arc::new(Events {
            queue: Mutex::default(),
            cancelled: AtomicBool::new(false),
        })
    }

    pub(crate) fn output(&self, stream: OutputStream, bytes: &[u8]) {
        let mut queue = lock(&self.queue);
        let mut rest = bytes;
        while !rest.is_empty() {
            let joins = queue.output.back().is_some_and(|(last, piece)| {
                *last == stream && piece.len() < OUTPUT_PIECE_BYTES_MAX
            });
            if !joins {
                queue.output.push_back((stream, BytesMut::new()));
            }
            let piece = &mut queue.output.back_mut().expect("pushed above").1;
            let (now, later) = rest.split_at(rest.len().min(OUTPUT_PIECE_BYTES_MAX - piece.len()));
            piece.extend_from_slice(now);
            rest = later;
        }
        wake(queue);
    }

    pub(crate) fn progress(&self, done: u64, total: u64) {
        let mut queue = lock(&self.queue);
        queue.progress = Some((done, total));
        wake(queue);
    }

    pub(crate) fn finish(&self, finished: Finished) {
        let mut queue = lock(&self.queue);
        // The first end stands: a refusal while shutting down must not replace a result.
        if queue.finished.is_none() {
            queue.finished = Some(finished);
        }
        wake(queue);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Asks the guest to stop, and sees to it that it is polled so that it does.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        let worker = lock(&self.queue).worker.take();
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Names who is to be woken when the call is cancelled.
    pub(crate) fn watch_cancel(&self, waker: &Waker) {
        let mut queue = lock(&self.queue);
        if !queue
            .worker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            queue.worker = Some(waker.clone());
        }
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut queue = lock(&self.queue);
        if let Some((stream, bytes)) = queue.output.pop_front() {
            return Poll::Ready(Event::Output(stream, bytes.freeze()));
        }
        if let Some((done, total)) = queue.progress.take() {
            return Poll::Ready(Event::Progress(done, total));
        }
        if let Some(finished) = queue.finished.clone() {
            return Poll::Ready(Event::Finished(finished));
        }
        queue.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(mut queue: std::sync::MutexGuard<'_, Queue>) {
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// A call under way. Dropping it stops the guest.
#[must_use = "dropping a call stops its guest"]
pub struct Running {
    pub(crate) events: Arc<Events>,
}

impl Running {
    /// The next event; after [`Event::Finished`] the same again.
    ///
    /// Cancel-safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.events.poll_next(cx)).await
    }

    /// Asks the guest to stop. The call still ends with [`Event::Finished`].
    pub fn cancel(&self) {
        self.events.cancel();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.events.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(events: &Events) -> Option<Event> {
        match events.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    #[test]
    fn small_writes_are_joined_and_streams_kept_apart() {
        let events = Events::new();
        for byte in b"abc" {
            events.output(OutputStream::Stdout, &[*byte]);
        }
        events.output(OutputStream::Stderr, b"d");
        assert!(
            matches!(next(&events), Some(Event::Output(OutputStream::Stdout, b)) if b == "abc")
        );
        assert!(matches!(next(&events), Some(Event::Output(OutputStream::Stderr, b)) if b == "d"));
        assert!(next(&events).is_none());
    }

    #[test]
    fn a_large_write_is_taken_apart() {
        let events = Events::new();
        events.output(OutputStream::Stdout, &vec![7; OUTPUT_PIECE_BYTES_MAX + 1]);
        let mut lengths = Vec::new();
        while let Some(Event::Output(_, bytes)) = next(&events) {
            lengths.push(bytes.len());
        }
        assert_eq!(lengths, [OUTPUT_PIECE_BYTES_MAX, 1]);
    }

    #[test]
    fn only_the_latest_progress_waits() {
        let events = Events::new();
        for done in 0..100_000 {
            events.progress(done, 100_000);
        }
        assert!(matches!(
            next(&events),
            Some(Event::Progress(99_999, 100_000))
        ));
        assert!(next(&events).is_none());
    }
}
