//! What a call tells its caller while it runs, and how it ended.
//!
//! One small queue per call joins the worker that runs the guest and whoever reads for the caller.
//! It cannot grow with what a guest does: output is bounded by its limit and joined into pieces,
//! of progress only the latest waits.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use spore_transport::failure::Failure;
use spore_transport::message::{OutputStream, Refused, Timing};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::host::Host;
use crate::room::Room;
use crate::scheduler::lock;

/// Largest piece of output in one event, in bytes.
const OUTPUT_PIECE_BYTES_MAX: usize = spore_transport::message::OUTPUT_BYTES_MAX;

/// Pieces of output that wait, beyond which the order between the two streams is given up.
///
/// A guest that writes single bytes to both in turn, for a reader who takes none, would have each
/// byte wait in a piece of its own: a hundred times what the limit on output allows.
const OUTPUT_PIECES_IN_ORDER: usize = 256;

/// Items that wait for the reader. A guest that emits more waits with them.
const ITEMS_WAITING_MAX: usize = 64;

/// The same in bytes. One item alone may have more.
const ITEMS_WAITING_BYTES_MAX: usize = 256 << 10;

/// Time between two words of progress. A guest may have a million a second, and each of them would
/// wake its reader.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(20);

/// One thing a call tells its caller.
#[derive(Clone, Debug)]
pub enum Event {
    /// The guest wrote something.
    Output(OutputStream, Bytes),
    /// The guest says how far it is: done, and the whole or 0.
    Progress(u64, u64),
    /// An item of its stream: its number, from 0, and the encoded value.
    Item(u64, Bytes),
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
    items: VecDeque<(u64, Bytes)>,
    items_bytes: usize,
    /// The guest that waits for room for an item.
    emitter: Option<Waker>,
    finished: Option<Finished>,
    reader: Option<Waker>,
    /// The reader has had word of progress just now and is not to be woken for more.
    resting: bool,
    worker: Option<Waker>,
}

/// What a reader does not want just now.
#[derive(Clone, Copy, Debug, Default)]
struct HeldBack {
    /// It has had word of progress just now: a guest that reports in a loop is not to keep it from
    /// everything else.
    progress: bool,
    /// It has as many items as it may have.
    items: bool,
}

/// The queue between a call's guest and its caller.
pub(crate) struct Events {
    queue: Mutex<Queue>,
    cancelled: AtomicBool,
    /// Those of a hub: who hears what it is told. It keeps nothing for others who come later but the
    /// last progress.
    followers: Option<Mutex<Vec<Weak<Events>>>>,
}

impl Events {
    pub(crate) fn new() -> Arc<Events> {
        Arc::new(Events {
            queue: Mutex::default(),
            cancelled: AtomicBool::new(false),
            followers: None,
        })
    }

    /// One that passes on what it is told to any number of others, as long as these are there.
    pub(crate) fn hub() -> Arc<Events> {
        Arc::new(Events {
            queue: Mutex::default(),
            cancelled: AtomicBool::new(false),
            followers: Some(Mutex::default()),
        })
    }

    /// One that hears what this hub is told from now on.
    pub(crate) fn follow(&self) -> Arc<Events> {
        let follower = Events::new();
        if let Some(followers) = &self.followers {
            let mut followers = lock(followers);
            followers.retain(|follower| follower.strong_count() > 0);
            followers.push(Arc::downgrade(&follower));
        }
        follower
    }

    fn followers(&self) -> impl Iterator<Item = Arc<Events>> {
        let followers = self.followers.as_ref().map(|it| lock(it).clone());
        followers
            .into_iter()
            .flatten()
            .filter_map(|it| it.upgrade())
    }

    /// What a hub was last told of progress.
    pub(crate) fn progressed(&self) -> Option<(u64, u64)> {
        lock(&self.queue).progress
    }

    pub(crate) fn output(&self, stream: OutputStream, bytes: &[u8]) {
        if self.followers.is_some() {
            self.followers().for_each(|it| it.output(stream, bytes));
            return;
        }
        let mut queue = lock(&self.queue);
        let mut rest = bytes;
        while !rest.is_empty() {
            let waiting = queue.output.len();
            let near = if waiting < OUTPUT_PIECES_IN_ORDER {
                1
            } else {
                2
            };
            let joins = (waiting.saturating_sub(near)..waiting).rev().find(|index| {
                let (of, piece) = &queue.output[*index];
                *of == stream && piece.len() < OUTPUT_PIECE_BYTES_MAX
            });
            let index = joins.unwrap_or_else(|| {
                queue.output.push_back((stream, BytesMut::new()));
                waiting
            });
            let piece = &mut queue.output[index].1;
            let (now, later) = rest.split_at(rest.len().min(OUTPUT_PIECE_BYTES_MAX - piece.len()));
            piece.extend_from_slice(now);
            rest = later;
        }
        wake(queue);
    }

    pub(crate) fn progress(&self, done: u64, total: u64) {
        self.followers().for_each(|it| it.progress(done, total));
        let mut queue = lock(&self.queue);
        queue.progress = Some((done, total));
        if !queue.resting {
            wake(queue);
        }
    }

    /// Passes an item on, once there is room for it: the guest waits for a reader who is slower.
    pub(crate) async fn item(&self, number: u64, bytes: Bytes) {
        std::future::poll_fn(|cx| self.poll_room(bytes.len(), cx.waker())).await;
        let mut queue = lock(&self.queue);
        queue.items_bytes += bytes.len();
        queue.items.push_back((number, bytes));
        wake(queue);
    }

    fn poll_room(&self, bytes: usize, waker: &Waker) -> Poll<()> {
        let mut queue = lock(&self.queue);
        let fits = queue.items.len() < ITEMS_WAITING_MAX
            && queue.items_bytes.saturating_add(bytes) <= ITEMS_WAITING_BYTES_MAX;
        if queue.items.is_empty() || fits {
            return Poll::Ready(());
        }
        queue.emitter = Some(waker.clone());
        Poll::Pending
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

    /// What the guest has said and nobody was told, of progress too.
    pub(crate) fn last_words(&self) -> Option<Event> {
        let mut nobody = Context::from_waker(Waker::noop());
        match self.poll_next(&mut nobody, HeldBack::default()) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    /// The next event but for those that are held back, of which progress comes before the end.
    fn poll_next(&self, cx: &mut Context<'_>, held: HeldBack) -> Poll<Event> {
        let mut queue = lock(&self.queue);
        queue.resting = held.progress;
        if let Some((stream, bytes)) = queue.output.pop_front() {
            return Poll::Ready(Event::Output(stream, bytes.freeze()));
        }
        if (!held.progress || queue.finished.is_some())
            && let Some((done, total)) = queue.progress.take()
        {
            return Poll::Ready(Event::Progress(done, total));
        }
        if !held.items
            && let Some((number, bytes)) = queue.items.pop_front()
        {
            queue.items_bytes -= bytes.len();
            let emitter = queue.emitter.take();
            drop(queue);
            if let Some(emitter) = emitter {
                emitter.wake();
            }
            return Poll::Ready(Event::Item(number, bytes));
        }
        if let Some(finished) = queue.finished.clone()
            && queue.items.is_empty()
        {
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

/// Whoever hears what a guest says, and rests after a word of its progress.
pub(crate) struct Reader {
    pub(crate) events: Arc<Events>,
    /// A runtime with a clock: whoever embeds a host may wait on one without.
    clock: Handle,
    /// The end of its rest.
    pause: Option<Pin<Box<Sleep>>>,
    resting: bool,
}

impl Reader {
    pub(crate) fn new(events: Arc<Events>, clock: &Handle) -> Reader {
        Reader {
            events,
            clock: clock.clone(),
            pause: None,
            resting: false,
        }
    }

    /// The next event, but for items while it has as many as it may have.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, has_items: bool) -> Poll<Event> {
        if self.resting
            && let Some(pause) = &mut self.pause
        {
            self.resting = pause.as_mut().poll(cx).is_pending();
        }
        let held = HeldBack {
            progress: self.resting,
            items: has_items,
        };
        let event = self.events.poll_next(cx, held);
        if let Poll::Ready(Event::Progress(..)) = event {
            self.rest();
        }
        event
    }

    fn rest(&mut self) {
        self.resting = true;
        let until = Instant::now() + PROGRESS_INTERVAL;
        match &mut self.pause {
            Some(pause) => pause.as_mut().reset(until),
            None => {
                let _clock = self.clock.enter();
                self.pause = Some(Box::pin(tokio::time::sleep_until(until)));
            }
        }
    }
}

/// A call under way. Dropping it stops the guest.
#[must_use = "dropping a call stops its guest"]
pub struct Running {
    reader: Reader,
    /// A call that is waited for has workers that run it.
    _host: Host,
}

impl Running {
    pub(crate) fn new(events: Arc<Events>, host: Host) -> Running {
        Running {
            reader: Reader::new(events, host.background()),
            _host: host,
        }
    }

    /// The next event; after [`Event::Finished`] the same again.
    ///
    /// Cancel-safe: an event that was not returned is not lost.
    pub async fn next(&mut self) -> Event {
        self.next_for(false).await
    }

    /// As [`next`](Self::next), but for items while the reader has as many as it may have.
    pub(crate) async fn next_for(&mut self, has_items: bool) -> Event {
        std::future::poll_fn(|cx| self.reader.poll_next(cx, has_items)).await
    }

    /// Lets the guest go on to its end, within its limits, though nobody hears it any more. Its arguments
    /// take their room until then.
    pub(crate) fn see_off(mut self, room: Room) {
        let clock = self.reader.clock.clone();
        clock.spawn(async move {
            while !matches!(self.next().await, Event::Finished(_)) {}
            drop(room);
        });
    }

    /// Asks the guest to stop. The call still ends with [`Event::Finished`].
    pub fn cancel(&self) {
        self.reader.events.cancel();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(events: &Events) -> Option<Event> {
        events.last_words()
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
    fn single_bytes_to_both_streams_in_turn_wait_in_few_pieces() {
        let events = Events::new();
        let rounds = 100_000;
        for _ in 0..rounds {
            events.output(OutputStream::Stdout, b"o");
            events.output(OutputStream::Stderr, b"e");
        }
        let (mut pieces, mut out, mut err) = (0, 0, 0);
        while let Some(Event::Output(stream, bytes)) = next(&events) {
            pieces += 1;
            match stream {
                OutputStream::Stdout => out += bytes.iter().filter(|byte| **byte == b'o').count(),
                OutputStream::Stderr => err += bytes.iter().filter(|byte| **byte == b'e').count(),
            }
        }
        assert_eq!((out, err), (rounds, rounds));
        let full = 2 * rounds / OUTPUT_PIECE_BYTES_MAX;
        assert!(pieces <= OUTPUT_PIECES_IN_ORDER + full + 2, "{pieces}");
    }

    #[test]
    fn a_resting_reader_hears_of_progress_at_the_end() {
        let events = Events::new();
        let mut reader = Context::from_waker(Waker::noop());
        let resting = HeldBack {
            progress: true,
            ..HeldBack::default()
        };
        events.progress(1, 2);
        assert!(events.poll_next(&mut reader, resting).is_pending());
        events.finish(Finished {
            outcome: Outcome::Value(Bytes::new()),
            timing: Timing::default(),
            output_cut: false,
        });
        let mut next = || events.poll_next(&mut reader, resting);
        assert!(matches!(next(), Poll::Ready(Event::Progress(1, 2))));
        assert!(matches!(next(), Poll::Ready(Event::Finished(_))));
    }

    #[tokio::test]
    async fn a_reader_rests_after_each_word_of_progress() {
        let events = Events::new();
        let mut reader = Reader::new(events.clone(), &Handle::current());
        let mut words = 0;
        let began = Instant::now();
        for done in 0..100_000 {
            events.progress(done, 100_000);
            let next = std::future::poll_fn(|cx| Poll::Ready(reader.poll_next(cx, false))).await;
            words += u32::from(next.is_ready());
        }
        let most = began.elapsed().div_duration_f64(PROGRESS_INTERVAL) as u32 + 1;
        assert!((1..=most).contains(&words), "{words} of at most {most}");
        // The last word is heard without another, and anything else at once.
        events.output(OutputStream::Stdout, b"a");
        let next = std::future::poll_fn(|cx| reader.poll_next(cx, false)).await;
        assert!(matches!(next, Event::Output(..)), "{next:?}");
        events.progress(100, 100);
        let next = std::future::poll_fn(|cx| reader.poll_next(cx, false)).await;
        assert!(matches!(next, Event::Progress(100, 100)), "{next:?}");
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
