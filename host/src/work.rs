//! A call on its way through the workers: its place in the queue, its limits, its end.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_transport::message::{Refused, Timing};
use spore_transport::{BlobId, RefusalCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, Store};

use crate::bundles::Loaded;
use crate::callers::{Caller, KeyState};
use crate::code::Way;
use crate::events::{Events, Finished, Outcome};
use crate::guest::Guest;
use crate::host::Request;
use crate::limits::{RunLimits, millis, nanos};
use crate::places::Place;
use crate::run::{self, Run, refused};

/// Calls of all keys, by how they ended, and those that have not.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) queued: AtomicU32,
    pub(crate) running: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) guest_errors: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

/// A place in the queue, given back when dropped.
pub(crate) struct Ticket {
    pub(crate) counters: Arc<Counters>,
    key: Arc<KeyState>,
    running: bool,
}

impl Ticket {
    /// Takes a place, if there is one for the caller, among so many of all.
    pub(crate) fn queue(
        counters: &Arc<Counters>,
        queue_max: u32,
        caller: &Caller,
    ) -> Result<Ticket, Refused> {
        let full = |limit: u32, whose: &str| {
            let refused = Refused::new(RefusalCode::QueueFull, whose);
            Err(refused.past(u64::from(limit), None))
        };
        let own = caller.limits.queue_per_key;
        if caller.state.calls.fetch_add(1, Ordering::Relaxed) >= own {
            caller.state.calls.fetch_sub(1, Ordering::Relaxed);
            return full(own, "calls of the key");
        }
        let ticket = Ticket {
            counters: counters.clone(),
            key: caller.state.clone(),
            running: false,
        };
        if counters.queued.fetch_add(1, Ordering::Relaxed) >= queue_max {
            return full(queue_max, "calls of the host");
        }
        Ok(ticket)
    }

    /// The call has begun.
    pub(crate) fn begin(&mut self) {
        self.running = true;
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        self.counters.running.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.key.calls.fetch_sub(1, Ordering::Relaxed);
        if self.running {
            self.counters.running.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A call on its way through the workers.
pub(crate) struct Work {
    pub(crate) engine: Engine,
    pub(crate) instances: Arc<Semaphore>,
    pub(crate) key: Arc<KeyState>,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) request: Request,
    pub(crate) limits: RunLimits,
    pub(crate) events: Arc<Events>,
    pub(crate) ticket: Ticket,
}

impl Work {
    /// Carries the call out.
    pub(crate) async fn run(self, guest: Guest) {
        let Work {
            engine,
            instances,
            key,
            loaded,
            request,
            limits,
            events,
            mut ticket,
        } = self;
        let end = EndsSomehow {
            events: events.clone(),
            counters: ticket.counters.clone(),
        };
        let queued = Instant::now();
        let mut timing = request.timing;
        let slots = slots(&key, &instances);
        let Ok(_slots) = (Interrupted {
            work: pin!(slots),
            events: &events,
        })
        .await
        else {
            timing.queue_ns = nanos(queued.elapsed());
            let outcome = refused(RefusalCode::Cancelled, "");
            end.count(&outcome);
            drop(ticket);
            end.finish(outcome, timing, false);
            return;
        };
        timing.queue_ns = nanos(queued.elapsed());
        ticket.begin();
        let bundle = loaded.bundle();
        let callable = &bundle.manifest().callables[request.callable as usize];
        let _listed = key.list(BlobId(*bundle.id().as_bytes()), &callable.name);

        let began = Instant::now();
        // The state is that of one callable; others take no captures.
        let captures = match bundle.captures() {
            Some((index, captures)) if index == request.callable => captures.clone(),
            _ => Bytes::new(),
        };
        let Way {
            code,
            entry,
            hook,
            bound,
        } = loaded.ready().way(request.callable);
        let run = Run {
            code,
            entry,
            hook,
            bound,
            captures: &captures,
            arguments: &request.arguments,
            limits,
        };
        let output = guest.output.clone();
        let mut store = Store::new(&engine, guest);
        let outcome = Limited {
            work: pin!(run::run(&mut store, &run)),
            events: &events,
            began,
            wall: limits.wall,
            timer: None,
        }
        .await;
        timing.run_ns = nanos(began.elapsed());
        // The caller has its result before the instance is taken apart, and may call again at once:
        // so what it must have room for counts as free already. That passes the bounds by the
        // instances that are taken apart just now, one for each worker.
        store.data_mut().memory.give_back();
        end.count(&outcome);
        drop((loaded, ticket));
        end.finish(outcome, timing, output.was_cut());
    }
}

/// Places for an instance: among those of the key, and among all.
pub(crate) type Slots = (Place, OwnedSemaphorePermit);

/// Waits for a place for an instance.
pub(crate) async fn slots(key: &KeyState, instances: &Arc<Semaphore>) -> Slots {
    let own = key.instances.take().await;
    let of_all = instances.clone().acquire_owned().await;
    (own, of_all.expect("the semaphore is never closed"))
}

/// Sees to it that a call ends with an event, also when its work is dropped.
pub(crate) struct EndsSomehow {
    pub(crate) events: Arc<Events>,
    pub(crate) counters: Arc<Counters>,
}

impl EndsSomehow {
    /// Counts the call as ended so. Comes before its place in the queue is free, so that whoever
    /// sees no call under way sees how all of them ended.
    pub(crate) fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Value(_) => &self.counters.ok,
            Outcome::Error(_) => &self.counters.guest_errors,
            Outcome::Failed(_) => &self.counters.failed,
            Outcome::Refused(why) if why.code == RefusalCode::Cancelled => &self.counters.cancelled,
            Outcome::Refused(_) => &self.counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self, outcome: Outcome, timing: Timing, output_cut: bool) {
        self.events.finish(Finished {
            outcome,
            timing,
            output_cut,
        });
    }
}

impl Drop for EndsSomehow {
    fn drop(&mut self) {
        let code = if std::thread::panicking() {
            RefusalCode::Internal
        } else {
            RefusalCode::ShuttingDown
        };
        // Does nothing after `finish`: the first end stands.
        self.events.finish(Finished {
            outcome: refused(code, ""),
            timing: Timing::default(),
            output_cut: false,
        });
    }
}

/// Work until it is done or its call is cancelled.
pub(crate) struct Interrupted<'a, F> {
    pub(crate) work: Pin<&'a mut F>,
    pub(crate) events: &'a Events,
}

impl<F: Future> Future for Interrupted<'_, F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.events.is_cancelled() {
            return Poll::Ready(Err(()));
        }
        if let Poll::Ready(done) = self.work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        self.events.watch_cancel(cx.waker());
        // It may have been cancelled before it was watched.
        if self.events.is_cancelled() {
            Poll::Ready(Err(()))
        } else {
            Poll::Pending
        }
    }
}

/// A guest until it is done, its call is cancelled, or its time is up.
pub(crate) struct Limited<'a, F> {
    pub(crate) work: Pin<&'a mut F>,
    pub(crate) events: &'a Events,
    pub(crate) began: Instant,
    pub(crate) wall: Duration,
    /// Set up at the first wait: a call that ends within its first time slice needs none.
    pub(crate) timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<F: Future<Output = Outcome>> Future for Limited<'_, F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        if this.events.is_cancelled() {
            return Poll::Ready(refused(RefusalCode::Cancelled, ""));
        }
        if let Poll::Ready(outcome) = this.work.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        this.events.watch_cancel(cx.waker());
        if this.events.is_cancelled() {
            return Poll::Ready(refused(RefusalCode::Cancelled, ""));
        }
        let (began, wall) = (this.began, this.wall);
        let timer = this.timer.get_or_insert_with(|| {
            let left = wall.saturating_sub(began.elapsed());
            Box::pin(tokio::time::sleep(left))
        });
        if timer.as_mut().poll(cx).is_ready() || began.elapsed() >= wall {
            let refused =
                Refused::new(RefusalCode::WallTime, "").past(millis(wall), millis(began.elapsed()));
            return Poll::Ready(Outcome::Refused(refused));
        }
        Poll::Pending
    }
}
