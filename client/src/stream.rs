//! Calls of callables that emit items.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use spore_transport::SessionId;
use spore_transport::message::{OutputStream, Timing};
use tokio::time::Instant;

use crate::call::{Request, Sink, Told};
use crate::callable::{Decode, Parcel, Streams, end_of_stream};
use crate::error::CallError;
use crate::feed::Feed;
use crate::host::Host;
use crate::job::JobError;
use crate::limits::CallLimits;

/// Items that may be on their way or wait here before the guest waits.
pub(crate) const ITEM_WINDOW: u32 = 64;

/// A call of a callable that emits items, to be made: await it for its [`Items`].
#[must_use = "a call is made when it is awaited"]
pub struct StreamCall<R, E> {
    host: Host,
    parcel: Parcel,
    request: Result<Request, JobError>,
    decode: Decode<R, E>,
    deadline: Option<Duration>,
    sink: Sink,
}

/// The items of a call, as the guest emits them.
///
/// The guest is not far ahead: when 64 items wait to be taken, it waits too. Dropping this stops the
/// guest. It is also a [`Stream`].
pub struct Items<R, E> {
    feed: Feed,
    decode: Decode<R, E>,
    timing: Option<Timing>,
    output_cut: bool,
}

impl<R, E: fmt::Debug> StreamCall<R, E> {
    pub(crate) fn new<T>(host: Host, callee: &T, arguments: &T::Arguments) -> StreamCall<R, E>
    where
        T: Streams<Output = R, Error = E>,
    {
        let parcel = callee.parcel();
        let callable = &parcel.manifest().callables[callee.index() as usize];
        let request = match callable.streams {
            true => Request::new(callee, arguments).map_err(CallError::from),
            false => Err(CallError::NoItems {
                callable: callable.name.clone(),
            }),
        };
        StreamCall {
            host,
            request,
            decode: callee.decode(),
            deadline: None,
            sink: Sink::default(),
            parcel,
        }
    }

    /// Makes the call in a session instead of a fresh instance.
    pub(crate) fn within(mut self, session: SessionId) -> Self {
        if let Ok(request) = &mut self.request {
            request.session = Some(session);
        }
        self
    }

    /// Gives up after this time, everything included, from the beginning to the last item, and
    /// stops the guest. None by default: the host's own limits hold.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lowers the host's limits for this call. The wall time is that of the whole run, waiting until
    /// items are taken included.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        if let Ok(request) = &mut self.request {
            request.limits = limits;
        }
        self
    }

    /// Where the guest's random bytes begin; 0 by default, and in a session new ones. Equal calls with
    /// equal seeds emit equal items on every host.
    pub fn seed(mut self, seed: u64) -> Self {
        if let Ok(request) = &mut self.request {
            request.seed = Some(seed);
        }
        self
    }

    /// Hears what the guest prints, while items are waited for. By default it is dropped.
    pub fn on_output(mut self, hear: impl FnMut(OutputStream, &[u8]) + Send + 'static) -> Self {
        self.sink.hear_output(Box::new(hear));
        self
    }

    /// Hears how far the guest says it is, while items are waited for: done, and the whole or 0 when
    /// it does not know.
    pub fn on_progress(mut self, hear: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.sink.hear_progress(Box::new(hear));
        self
    }

    /// Makes the call. Awaiting it does the same.
    ///
    /// # Errors
    ///
    /// When the call could not be sent. Whatever comes of it then, also that the host refuses it, is
    /// the last of the items.
    ///
    /// Not cancel-safe: dropping the future stops the guest.
    pub async fn begin(self) -> Result<Items<R, E>, CallError<E>> {
        let deadline = self.deadline.map(|deadline| Instant::now() + deadline);
        let request = self.request.map_err(CallError::from_never)?;
        let begun = self.host.items(self.parcel, request, self.sink, deadline);
        let feed = match deadline {
            None => begun.await?,
            Some(deadline) => match tokio::time::timeout_at(deadline, begun).await {
                Ok(begun) => begun?,
                Err(_) => return Err(CallError::Deadline),
            },
        };
        Ok(Items {
            feed,
            decode: self.decode,
            timing: None,
            output_cut: false,
        })
    }
}

impl<R: Send + 'static, E: fmt::Debug + Send + 'static> IntoFuture for StreamCall<R, E> {
    type Output = Result<Items<R, E>, CallError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl<R, E: fmt::Debug> Items<R, E> {
    /// The next item, in the order in which they were emitted; nothing after the last. An error is
    /// the last.
    ///
    /// # Errors
    ///
    /// As a call's: the guest's own error, its failure, a refusal, or a lost host. The items before
    /// it are what the guest has emitted.
    ///
    /// Cancel-safe: an item that was not returned is returned next.
    pub async fn next(&mut self) -> Option<Result<R, CallError<E>>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Where the time went, once the guest has come to its end.
    pub fn timing(&self) -> Option<Timing> {
        self.timing
    }

    /// Whether output beyond its limit was left out, once the guest has come to its end.
    pub fn output_cut(&self) -> bool {
        self.output_cut
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, CallError<E>>>> {
        let Some(told) = ready!(self.feed.poll_next(cx)) else {
            return Poll::Ready(None);
        };
        let error = match told {
            Told::Item(_, bytes) => match (self.decode.value)(&bytes) {
                Ok(item) => return Poll::Ready(Some(Ok(item))),
                Err(error) => error.into(),
            },
            Told::Ended(finished) => {
                self.timing = finished.ran().then_some(finished.timing);
                self.output_cut = finished.output_cut;
                let ended = finished.outcome.decoded(end_of_stream, &self.decode.error);
                match ended {
                    Ok(()) => {
                        self.feed.stop();
                        return Poll::Ready(None);
                    }
                    Err(error) => error,
                }
            }
            Told::Refused(refused) => CallError::Refused(refused),
            Told::Broken(broken) => broken.into(),
            Told::Deadline => CallError::Deadline,
            Told::Output(..) | Told::Progress(..) | Told::Changed(_) => {
                unreachable!("a call's output is heard elsewhere, and it has no state")
            }
        };
        self.feed.stop();
        Poll::Ready(Some(Err(error)))
    }
}

impl<R, E: fmt::Debug> Stream for Items<R, E> {
    type Item = Result<R, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl<R, E> fmt::Debug for Items<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}
