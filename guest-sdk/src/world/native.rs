//! What futures ask for in a native program, whatever executor polls them.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::task::Waker;
use std::time::{Duration, Instant};

/// The number of a poll: an executor does not say where its turns begin.
pub(crate) type Turn = u64;

/// A moment too far away to be named is `None`, and never reached.
pub(crate) type Moment = Option<Instant>;

pub(crate) fn turn() -> Turn {
    static POLLS: AtomicU64 = AtomicU64::new(0);
    POLLS.fetch_add(1, Relaxed)
}

pub(crate) fn wake_next_turn(waker: &Waker) {
    waker.wake_by_ref();
}

pub(crate) fn after(duration: Duration) -> Moment {
    Instant::now().checked_add(duration)
}

pub(crate) fn is_reached(moment: Moment) -> bool {
    moment.is_some_and(|moment| moment <= Instant::now())
}

/// Wakes a sleep. Remembers whom, since an executor may poll a long sleep millions of times.
#[derive(Default)]
pub(crate) struct Alarm(Option<Waker>);

impl Alarm {
    pub(crate) fn set(&mut self, moment: Moment, waker: &Waker) {
        static TIMER: LazyLock<Sender<(Instant, Waker)>> = LazyLock::new(|| {
            let (sender, asked) = mpsc::channel();
            std::thread::spawn(move || keep_time(&asked));
            sender
        });
        let is_set = self.0.as_ref().is_some_and(|set| set.will_wake(waker));
        if let Some(moment) = moment
            && !is_set
        {
            let sent = TIMER.send((moment, waker.clone()));
            sent.expect("the thread that keeps time ends with the program");
            self.0 = Some(waker.clone());
        }
    }

    /// It wakes all the same, and nobody minds.
    pub(crate) fn clear(&mut self) {}
}

/// Wakes everyone at their moment, for ever.
fn keep_time(asked: &Receiver<(Instant, Waker)>) {
    let mut waiting: BTreeMap<Instant, Vec<Waker>> = BTreeMap::new();
    loop {
        let next = match waiting.first_key_value() {
            Some((moment, _)) => {
                asked.recv_timeout(moment.saturating_duration_since(Instant::now()))
            }
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok((moment, waker)) => waiting.entry(moment).or_default().push(waker),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let later = waiting.split_off(&Instant::now());
        let due = std::mem::replace(&mut waiting, later);
        due.into_values().flatten().for_each(Waker::wake);
    }
}
