//! Items of a stream on their way from a callable to whoever takes them.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a callable emits items of type `T` with: a parameter that its caller does not pass.
///
/// ```
/// use spore_guest::prelude::*;
///
/// /// The squares of all numbers from `first` on.
/// #[callable]
/// pub async fn squares(first: u64, items: Emitter<u64>) {
///     for n in first.. {
///         items.emit(n * n).await;
///     }
/// }
/// # fn main() {}
/// ```
///
/// Functions that the callable calls can be passed the emitter or a clone of it. A native program
/// makes one with [`Items::of`](crate::native::Items::of).
pub struct Emitter<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

impl<T> Emitter<T> {
    /// Sends an item, and is ready once it has been taken: as fast as the caller takes items, and no
    /// faster.
    ///
    /// Items are taken in the order in which their futures were first polled. A future that was
    /// polled has sent its item, also when it is dropped before it is ready.
    pub fn emit(&self, item: T) -> Emit<'_, T> {
        Emit {
            emitter: self,
            state: State::New(Some(item)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Emitter<T> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
        }
    }
}

impl<T> fmt::Debug for Emitter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").finish_non_exhaustive()
    }
}

/// The future of [`Emitter::emit`].
#[must_use = "an item is sent when this is awaited"]
pub struct Emit<'a, T> {
    emitter: &'a Emitter<T>,
    state: State<T>,
}

enum State<T> {
    /// The item is there until the first poll
    New(Option<T>),
    /// How many items had been sent with this one
    Sent(u64),
}

/// Nothing in it is pinned: the item is only moved.
impl<T> Unpin for Emit<'_, T> {}

impl<T> Future for Emit<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.emitter.queue();
        let number = match &mut self.state {
            State::New(item) => {
                queue.items.extend(item.take());
                queue.sent += 1;
                queue.sent
            }
            State::Sent(number) => *number,
        };
        let taken = queue.sent - queue.items.len() as u64;
        if number <= taken {
            return Poll::Ready(());
        }
        queue.wakers.push(context.waker().clone());
        drop(queue);
        self.state = State::Sent(number);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Emit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").finish_non_exhaustive()
    }
}

/// The other end of an [`Emitter`].
pub(crate) struct Taker<T>(Emitter<T>);

struct Queue<T> {
    items: VecDeque<T>,
    /// How many items there have been, those in the queue among them
    sent: u64,
    /// Who waits for an item to be taken
    wakers: Vec<Waker>,
}

impl<T> Taker<T> {
    /// An emitter, and what takes its items.
    pub(crate) fn with_emitter() -> (Emitter<T>, Self) {
        let emitter = Emitter {
            queue: Arc::new(Mutex::new(Queue {
                items: VecDeque::new(),
                sent: 0,
                wakers: Vec::new(),
            })),
        };
        (emitter.clone(), Self(emitter))
    }

    /// The item that was sent first.
    pub(crate) fn take(&self) -> Option<T> {
        let mut queue = self.0.queue();
        let item = queue.items.pop_front()?;
        let wakers = std::mem::take(&mut queue.wakers);
        // A waker is foreign code, which may emit.
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        Some(item)
    }
}
