//! Several futures in one: `join!` and `select!`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs up to twelve futures in turns until all are ready, and gives the tuple of what they were
/// ready with.
///
/// ```
/// use spore_guest::{checkpoint, join};
///
/// async fn both() -> (u32, u32) {
///     let one = async {
///         checkpoint().await;
///         1
///     };
///     join!(one, async { 2 })
/// }
/// # #[cfg(not(target_family = "wasm"))]
/// assert_eq!(spore_guest::native::block_on(both()), (1, 2));
/// ```
///
/// In each turn each that is not ready is polled once, in the order written, so that a run takes the
/// same steps each time.
#[macro_export]
macro_rules! join {
    ($($future:expr),+ $(,)?) => {
        $crate::__rt::Join(($($crate::__rt::Branch::new(::core::pin::pin!($future)),)+)).await
    };
}

/// Runs futures in turns until one is ready, drops the others, and goes on with that one's arm.
///
/// ```
/// use spore_guest::{checkpoint, select, sleep};
/// use std::time::Duration;
///
/// async fn or_late(number: impl Future<Output = u32>) -> Option<u32> {
///     select! {
///         number = number => Some(number),
///         () = sleep(Duration::from_secs(5)) => None,
///     }
/// }
/// # #[cfg(not(target_family = "wasm"))]
/// assert_eq!(spore_guest::native::block_on(or_late(async { 1 })), Some(1));
/// ```
///
/// In each turn they are polled in the order written, up to the first that is ready: where two could
/// be, it is always the one written first. An arm is `PATTERN = FUTURE => EXPRESSION`, its pattern
/// one that always matches.
#[macro_export]
macro_rules! select {
    ($($pattern:pat = $future:expr => $arm:expr),+ $(,)?) => {{
        // A statement of its own, at whose end the others are dropped.
        let first = $crate::select!(@race $($future,)+).await;
        $crate::select!(@arms first, $($pattern => $arm,)+)
    }};
    (@race) => {
        $crate::__rt::Nothing
    };
    (@race $future:expr, $($others:tt)*) => {
        $crate::__rt::Race(::core::pin::pin!($future), $crate::select!(@race $($others)*))
    };
    (@arms $first:expr,) => {
        match $first {}
    };
    (@arms $first:expr, $pattern:pat => $arm:expr, $($others:tt)*) => {
        match $first {
            $crate::__rt::Raced::This($pattern) => $arm,
            $crate::__rt::Raced::Later(later) => $crate::select!(@arms later, $($others)*),
        }
    };
}

/// One future of a [`join!`](crate::join), and what it was ready with.
pub struct Branch<'a, F: Future> {
    future: Pin<&'a mut F>,
    output: Option<F::Output>,
}

impl<'a, F: Future> Branch<'a, F> {
    /// One that was not polled yet.
    pub fn new(future: Pin<&'a mut F>) -> Self {
        let output = None;
        Self { future, output }
    }

    /// Polls it, unless it was ready. Returns whether it is.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if self.output.is_none()
            && let Poll::Ready(output) = self.future.as_mut().poll(context)
        {
            self.output = Some(output);
        }
        self.output.is_some()
    }

    fn take(&mut self) -> F::Output {
        self.output.take().expect("all branches are ready, once")
    }
}

/// The future of a [`join!`](crate::join): a tuple of [`Branch`]es.
pub struct Join<B>(pub B);

/// What branches were ready with stands in place, and is only moved.
impl<B> Unpin for Join<B> {}

macro_rules! joins {
    ($(($($future:ident $index:tt),+))+) => { $(
        impl<$($future: Future),+> Future for Join<($(Branch<'_, $future>,)+)> {
            type Output = ($($future::Output,)+);

            fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
                let branches = &mut self.0;
                let ready = [$(branches.$index.poll(context)),+];
                if ready.contains(&false) {
                    return Poll::Pending;
                }
                Poll::Ready(($(branches.$index.take(),)+))
            }
        }
    )+ };
}

joins! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11)
}

/// The future of a [`select!`](crate::select): the first of one future and of the race of those after
/// it.
pub struct Race<'a, F, R>(pub Pin<&'a mut F>, pub R);

/// The race of no futures, which is never ready.
pub struct Nothing;

/// Which future of a race was ready, and with what.
pub enum Raced<T, R> {
    /// This one
    This(T),
    /// One after it
    Later(R),
}

impl<F: Future, R: Future + Unpin> Future for Race<'_, F, R> {
    type Output = Raced<F::Output, R::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.0.as_mut().poll(context) {
            return Poll::Ready(Raced::This(output));
        }
        Pin::new(&mut self.1).poll(context).map(Raced::Later)
    }
}

impl Future for Nothing {
    type Output = Infallible;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Infallible> {
        Poll::Pending
    }
}
