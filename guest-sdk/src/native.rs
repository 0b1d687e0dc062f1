//! For native programs that call resumable functions directly, such as tests of a guest crate.
//!
//! Any executor runs them; these need none.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::emitter::{Emitter, Taker};

/// Runs a future on this thread until it is ready.
///
/// ```
/// use spore_guest::checkpoint;
///
/// async fn counted(rounds: u32) -> u32 {
///     for _ in 0..rounds {
///         checkpoint().await;
///     }
///     rounds
/// }
/// assert_eq!(spore_guest::native::block_on(counted(3)), 3);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// The items that an async function emits, as an iterator that runs it on the thread that asks.
///
/// ```
/// use spore_guest::Emitter;
/// use spore_guest::native::Items;
///
/// async fn squares(first: u64, items: Emitter<u64>) {
///     for n in first.. {
///         items.emit(n * n).await;
///     }
/// }
/// let squares: Vec<_> = Items::of(|items| squares(2, items)).take(3).collect();
/// assert_eq!(squares, [4, 9, 16]);
/// ```
///
/// Between two items the function rests.
pub struct Items<T, F: Future> {
    /// Gone at the end
    run: Option<Pin<Box<F>>>,
    taker: Taker<T>,
    output: Option<F::Output>,
}

impl<T, F: Future> Items<T, F> {
    /// The items of the function that `run` calls with the emitter.
    pub fn of(run: impl FnOnce(Emitter<T>) -> F) -> Self {
        let (emitter, taker) = Taker::with_emitter();
        Self {
            run: Some(Box::pin(run(emitter))),
            taker,
            output: None,
        }
    }

    /// What the function returned, once there are no more items.
    pub fn output(self) -> Option<F::Output> {
        self.output
    }
}

impl<T, F: Future> Iterator for Items<T, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let waker = waker();
        let mut context = Context::from_waker(&waker);
        loop {
            if let Some(item) = self.taker.take() {
                return Some(item);
            }
            match self.run.as_mut()?.as_mut().poll(&mut context) {
                Poll::Ready(output) => {
                    self.output = Some(output);
                    self.run = None;
                }
                Poll::Pending => match self.taker.take() {
                    Some(item) => return Some(item),
                    None => thread::park(),
                },
            }
        }
    }
}

impl<T, F: Future> fmt::Debug for Items<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

/// Wakes this thread.
fn waker() -> Waker {
    Waker::from(Arc::new(Parked(thread::current())))
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
