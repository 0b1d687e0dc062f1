//! What futures ask for in a guest, and what the executor finds of it after each turn.
//!
//! A *turn* is one poll of a run's outermost future.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ptr;
use std::task::Waker;
use std::time::Duration;

use crate::wasm;

/// The number of a turn. No two are the same in the life of a guest, whichever runs they are of.
pub(crate) type Turn = u64;

/// Nanoseconds of the monotonic clock.
pub(crate) type Moment = u64;

/// The sleeps of a run, by when they end, and whom to wake then. The numbers keep apart what ends
/// at one moment.
#[derive(Default)]
pub(crate) struct Sleepers(BTreeMap<(Moment, u64), Waker>);

// A guest has one thread, which never ends. Each access to what is dropped at the end of a thread
// would look whether it has been, and a checkpoint has tens of nanoseconds.
thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(0) };
    /// What tells the waker of the run whose turn it is from others
    static RUN: Cell<*const ()> = const { Cell::new(ptr::null()) };
    /// Whether a checkpoint was reached in this turn
    static CHECKPOINT: Cell<bool> = const { Cell::new(false) };
    /// Whom to wake before the next turn, but for the run itself
    static WAKERS: RefCell<ManuallyDrop<Vec<Waker>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// Those of the run whose turn it is
    static SLEEPERS: RefCell<ManuallyDrop<Sleepers>> =
        const { RefCell::new(ManuallyDrop::new(Sleepers(BTreeMap::new()))) };
    /// How many sleeps there have been
    static SLEEPS: Cell<u64> = const { Cell::new(0) };
}

impl Sleepers {
    /// When the first of them is to be woken.
    pub(crate) fn until(&self) -> Option<Moment> {
        let ((moment, _), _) = self.0.first_key_value()?;
        Some(*moment)
    }

    /// Wakes those whose time has come, and no others: some combinators ask for another turn each time
    /// that they have polled all they have.
    fn wake_due(&mut self) {
        let now = wasm::monotonic_clock();
        while let Some(first) = self.0.first_entry()
            && first.key().0 <= now
        {
            first.remove().wake();
        }
    }
}

/// Begins a turn of the run that has this waker and these sleepers.
pub(crate) fn begin_turn(run: &Waker, sleepers: &mut Sleepers) {
    if !sleepers.0.is_empty() {
        sleepers.wake_due();
        swap(sleepers);
    }
    RUN.set(run.data());
    TURN.set(TURN.get() + 1);
    CHECKPOINT.set(false);
}

/// Ends a turn of the run that has these sleepers. Returns whether a checkpoint was reached.
pub(crate) fn end_turn(sleepers: &mut Sleepers) -> bool {
    if WAKERS.with_borrow(|wakers| !wakers.is_empty()) {
        // Wakers are foreign code: the list is not borrowed while they run.
        let wakers = ManuallyDrop::into_inner(WAKERS.take());
        wakers.into_iter().for_each(Waker::wake);
    }
    if SLEEPERS.with_borrow(|sleepers| !sleepers.0.is_empty()) {
        swap(sleepers);
    }
    CHECKPOINT.get()
}

/// Exchanges the sleepers of a run with those of the run whose turn it is. One of both is empty.
fn swap(sleepers: &mut Sleepers) {
    SLEEPERS.with_borrow_mut(|now| std::mem::swap(&mut **now, sleepers));
}

pub(crate) fn turn() -> Turn {
    TURN.get()
}

pub(crate) fn wake_next_turn(waker: &Waker) {
    CHECKPOINT.set(true);
    if waker.data() != RUN.get() {
        WAKERS.with_borrow_mut(|wakers| wakers.push(waker.clone()));
    }
}

pub(crate) fn after(duration: Duration) -> Moment {
    let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    wasm::monotonic_clock().saturating_add(duration)
}

pub(crate) fn is_reached(moment: Moment) -> bool {
    moment <= wasm::monotonic_clock()
}

/// Wakes a sleep.
#[derive(Default)]
pub(crate) struct Alarm {
    /// Where it stands among the sleepers, if it was set
    place: Option<(Moment, u64)>,
}

impl Alarm {
    pub(crate) fn set(&mut self, moment: Moment, waker: &Waker) {
        let place = *self.place.get_or_insert_with(|| {
            SLEEPS.set(SLEEPS.get() + 1);
            (moment, SLEEPS.get())
        });
        SLEEPERS.with_borrow_mut(|sleepers| sleepers.0.insert(place, waker.clone()));
    }

    pub(crate) fn clear(&mut self) {
        if let Some(place) = self.place.take() {
            SLEEPERS.with_borrow_mut(|sleepers| sleepers.0.remove(&place));
        }
    }
}

/// A run that is dropped between turns takes its sleepers with it.
impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}
