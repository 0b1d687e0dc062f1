//! Runs of resumable callables in a guest: polls futures, and tells the host what they wait for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use spore_abi::poll;
use spore_value::Value;

use crate::emitter::{Emitter, Taker};
use crate::runtime::{self, Outcome, Run, encoded};
use crate::wasm;
use crate::world::{self, Sleepers};

/// Makes a task of a run that emits nothing.
pub fn resumable(future: impl Future<Output = Outcome> + 'static) -> u32 {
    runtime::task(Resumable::new(future, || None))
}

/// Makes a task of a run that emits items of type `T`.
pub fn streaming<T: Value + 'static, F: Future<Output = Outcome> + 'static>(
    run: impl FnOnce(Emitter<T>) -> F,
) -> u32 {
    let (emitter, taker) = Taker::with_emitter();
    let next = move || taker.take().map(|item| encoded(&item));
    runtime::task(Resumable::new(run(emitter), next))
}

/// Emits what an iterator gives.
pub async fn emit_all<T>(items: impl Iterator<Item = T>, emitter: &Emitter<T>) {
    for item in items {
        emitter.emit(item).await;
    }
}

/// Emits what an iterator gives, if there is one.
pub async fn emit_all_of<T, E>(
    items: Result<impl Iterator<Item = T>, E>,
    emitter: &Emitter<T>,
) -> Result<(), E> {
    emit_all(items?, emitter).await;
    Ok(())
}

/// A run whose future and items, encoded, come from these.
struct Resumable<F, I> {
    future: Pin<Box<F>>,
    next_item: I,
    /// What the future was ready with, until all items are told
    ended: Option<Outcome>,
    cancelled: bool,
    sleepers: Sleepers,
    woken: Arc<Woken>,
    waker: Waker,
}

/// Whether a run was woken by something within the guest, such as a channel between two branches.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl<F: Future<Output = Outcome>, I: FnMut() -> Option<Vec<u8>>> Resumable<F, I> {
    fn new(future: F, next_item: I) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        Self {
            future: Box::pin(future),
            next_item,
            ended: None,
            cancelled: false,
            sleepers: Sleepers::default(),
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        }
    }

    /// Polls the future once. Returns whether it has reached a checkpoint, and whether it can go on by
    /// itself.
    fn turn(&mut self) -> (bool, bool) {
        world::begin_turn(&self.waker, &mut self.sleepers);
        self.woken.0.store(false, Relaxed);
        let mut context = Context::from_waker(&self.waker);
        if let Poll::Ready(outcome) = self.future.as_mut().poll(&mut context) {
            self.ended = Some(outcome);
        }
        // Before the end of the turn, which wakes those at checkpoints.
        let woken = self.woken.0.load(Relaxed);
        (world::end_turn(&mut self.sleepers), woken)
    }

    /// What is to be told before the next turn.
    fn untold(&mut self) -> Option<Outcome> {
        let item = (self.next_item)().map(|item| Outcome::new(poll::ITEM, item));
        item.or_else(|| self.ended.take())
    }
}

impl<F: Future<Output = Outcome>, I: FnMut() -> Option<Vec<u8>>> Run for Resumable<F, I> {
    fn poll(&mut self) -> Outcome {
        if self.cancelled {
            return Outcome::new(poll::CANCELLED, Vec::new());
        }
        if let Some(untold) = self.untold() {
            return untold;
        }
        loop {
            let (checkpoint, woken) = self.turn();
            if let Some(untold) = self.untold() {
                return untold;
            }
            if checkpoint {
                if wasm::stop_wanted() {
                    return Outcome::new(poll::YIELD, Vec::new());
                }
            } else if !woken {
                match self.sleepers.until() {
                    Some(until) => return Outcome::wait(until),
                    None => panic!(
                        "the callable can never go on: its future is pending, and awaits no \
                         checkpoint, no sleep, and no item to be taken"
                    ),
                }
            }
        }
    }

    fn cancel(&mut self) {
        self.cancelled = true;
    }
}
