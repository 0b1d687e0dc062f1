//! What runs in a session: its beginning, and its calls.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::Image;
use spore_bundle::image::Bound;
use spore_transport::message::Timing;
use spore_transport::{BlobId, RefusalCode};
use wasmtime::Store;

use super::{Alive, Charged, Kept, Means, Session, State, Turn};
use crate::code::{Code, Entry};
use crate::events::{Events, Outcome};
use crate::guest::{Guest, MemoryTotals};
use crate::limits::{RunLimits, nanos};
use crate::run::{self, Live, refused};
use crate::scheduler::lock;
use crate::snapshot;
use crate::wasi::{Clock, Outlet, Seed, World};
use crate::work::{EndsSomehow, Interrupted, Limited, Slots, Ticket, slots};

/// Something that runs guest code in a session, on its way through the workers.
pub(crate) struct SessionWork {
    pub(crate) turn: Turn,
    pub(crate) means: Means,
    pub(crate) task: Task,
    pub(crate) limits: RunLimits,
    pub(crate) events: Arc<Events>,
    pub(crate) ticket: Ticket,
    pub(crate) timing: Timing,
}

/// What is to be run.
pub(crate) enum Task {
    /// What a fresh instance runs first, or what its initialiser has left; or nothing, when the bundle
    /// has an image.
    Open { initial: Option<Image> },
    /// A callable.
    Call {
        callable: u32,
        arguments: Bytes,
        seed: u64,
    },
}

impl SessionWork {
    pub(crate) async fn run(self) {
        let SessionWork {
            turn,
            means,
            task,
            limits,
            events,
            mut ticket,
            mut timing,
        } = self;
        let end = EndsSomehow {
            events: events.clone(),
            counters: ticket.counters.clone(),
        };
        let queued = Instant::now();
        let waiting = turn.taken();
        let taken = Interrupted {
            work: pin!(waiting),
            events: &events,
        };
        let Ok((session, mut kept, busy)) = taken.await else {
            timing.queue_ns = nanos(queued.elapsed());
            let outcome = refused(RefusalCode::Cancelled, "");
            end.count(&outcome);
            drop(ticket);
            end.finish(outcome, timing, false);
            return;
        };
        timing.queue_ns = nanos(queued.elapsed());
        ticket.begin();
        let listed = match &task {
            Task::Open { .. } => None,
            Task::Call { callable, .. } => {
                let bundle = session.bundle();
                let name = &bundle.manifest().callables[*callable as usize].name;
                let id = BlobId(*bundle.id().as_bytes());
                Some(session.key.list(id, name))
            }
        };
        let begins = Instant::now();
        let mut waited = Duration::ZERO;
        let (outcome, cut) = match task {
            Task::Open { initial } => {
                let begin = Begin {
                    initial,
                    limits,
                    events: &events,
                    waited: &mut waited,
                };
                session.open(&mut kept, &means, begin).await
            }
            Task::Call {
                callable,
                arguments,
                seed,
            } => {
                let call = SessionCall {
                    callable,
                    arguments,
                    seed,
                    limits,
                    events: &events,
                    waited: &mut waited,
                };
                session.call(&mut kept, &means, call).await
            }
        };
        timing.queue_ns += nanos(waited);
        timing.run_ns = nanos(begins.elapsed() - waited);
        session.note(&kept);
        lock(&session.notes).restless = None;
        end.count(&outcome);
        // Whoever has the outcome finds the session ready for the next request.
        drop((kept, busy, listed, ticket));
        end.finish(outcome, timing, cut);
    }
}

struct Begin<'a> {
    initial: Option<Image>,
    limits: RunLimits,
    events: &'a Arc<Events>,
    /// Set to the time until there was a place for its instance
    waited: &'a mut Duration,
}

struct SessionCall<'a> {
    callable: u32,
    arguments: Bytes,
    seed: u64,
    limits: RunLimits,
    events: &'a Arc<Events>,
    /// Set to the time until there was a place for its instance
    waited: &'a mut Duration,
}

impl Session {
    pub(super) fn code(&self) -> &Code {
        &self.loaded.ready().code
    }

    fn entry(&self, callable: u32) -> &Entry {
        &self.loaded.ready().entries[callable as usize]
    }

    fn live<'a>(&'a self, alive: &'a mut Alive) -> Live<'a> {
        Live {
            store: &mut alive.store,
            instance: alive.instance,
            memory: alive.memory,
            code: self.code(),
        }
    }

    fn guest(&self, means: &Means, events: &Arc<Events>, output: u64, seed: Seed) -> Guest {
        let world = World {
            outlet: Outlet::new(events.clone(), output),
            seed,
            directories: self.directories.clone(),
            open_files: self.open_files,
            clock: Clock::default(),
        };
        let totals = MemoryTotals {
            of_key: self.key.memory.clone(),
            of_host: means.memory.clone(),
        };
        Guest::new(&self.limits, events.clone(), world, totals)
    }

    fn seed(&self, callable: u32, seed: u64, arguments: Bytes) -> Seed {
        Seed {
            bundle: *self.bundle().id().as_bytes(),
            callable,
            seed,
            arguments,
        }
    }

    /// A place for an instance, and the time until it was there.
    async fn place(
        &self,
        means: &Means,
        events: &Events,
        waited: &mut Duration,
    ) -> Result<Slots, Outcome> {
        let asked = Instant::now();
        let slots = slots(&self.key, &means.instances);
        let slots = Interrupted {
            work: pin!(slots),
            events,
        };
        let slots = slots.await;
        *waited = asked.elapsed();
        slots.map_err(|()| refused(RefusalCode::Cancelled, ""))
    }

    /// An instance in which nothing has run.
    async fn enter(
        &self,
        means: &Means,
        guest: Guest,
        slots: Slots,
    ) -> Result<Alive, (Outcome, Slots)> {
        let mut store = Store::new(&means.engine, guest);
        run::hold(&mut store);
        match Live::enter(&mut store, self.code()).await {
            Ok(Live {
                instance, memory, ..
            }) => {
                snapshot::note_fresh(&mut store, instance, memory, self.code());
                Ok(Alive {
                    store,
                    instance,
                    memory,
                    bound: None,
                    _slots: slots,
                })
            }
            Err(error) => Err((run::ended_as(store.data(), Err(error)), slots)),
        }
    }

    /// Makes the instance, and runs what runs before the first call. One that has an image rests as
    /// that, and nothing runs.
    async fn open(&self, kept: &mut Kept, means: &Means, begin: Begin<'_>) -> (Outcome, bool) {
        let Begin {
            initial,
            limits,
            events,
            waited,
        } = begin;
        if let Some(image) = self.bundle.image() {
            return match Charged::take(&self.key, image.clone()) {
                Ok(charged) => {
                    kept.image = Some(charged);
                    kept.state = State::Resting;
                    kept.from_outside = true;
                    (Outcome::Value(Bytes::new()), false)
                }
                Err(refused) => (Outcome::Refused(refused), false),
            };
        }
        let slots = match self.place(means, events, waited).await {
            Ok(slots) => slots,
            Err(outcome) => return (outcome, false),
        };
        let seed = self.seed(0, 0, Bytes::new());
        let guest = self.guest(means, events, limits.output, seed);
        let outlet = guest.output.clone();
        let mut alive = match self.enter(means, guest, slots).await {
            Ok(alive) => alive,
            Err((outcome, _)) => return (outcome, false),
        };
        let beginning = async {
            let begun = async {
                let mut live = self.live(&mut alive);
                match &initial {
                    Some(image) => live.restore(image).await?,
                    None => live.initialize().await?,
                }
                Ok(match self.bundle.captures() {
                    Some((callable, captures)) => Some(Bound {
                        callable,
                        handle: live.bind(self.entry(callable), captures).await?,
                    }),
                    None => None,
                })
            };
            match begun.await {
                Ok(bound) => {
                    alive.bound = bound;
                    run::ended_as(alive.store.data(), Ok(Outcome::Value(Bytes::new())))
                }
                Err(error) => run::ended_as(alive.store.data(), Err(error)),
            }
        };
        let outcome = Limited {
            work: pin!(beginning),
            events,
            began: Instant::now(),
            wall: limits.wall,
            timer: None,
        }
        .await;
        if let Outcome::Value(_) = outcome {
            kept.state = State::Live(Box::new(alive));
            kept.changed = true;
        }
        (outcome, outlet.was_cut())
    }

    async fn call(
        &self,
        kept: &mut Kept,
        means: &Means,
        mut call: SessionCall<'_>,
    ) -> (Outcome, bool) {
        let was_live = matches!(kept.state, State::Live(_));
        let mut alive = match self.woken(kept, means, &mut call).await {
            Ok(alive) => alive,
            Err(outcome) => return (outcome, false),
        };
        // A session that has only rested is not to notice.
        let hook = self.restored.as_ref().filter(|_| kept.from_outside);
        let SessionCall {
            callable,
            arguments,
            seed,
            limits,
            events,
            ..
        } = call;
        let seed = self.seed(callable, seed, arguments.clone());
        alive.store.data_mut().turn_to(events, limits.output, seed);
        let outlet = alive.store.data().output.clone();
        let mut woke = false;
        let running = async {
            let ended = async {
                if let Some(hook) = hook {
                    self.live(&mut alive).run_hook(hook).await?;
                }
                woke = true;
                self.run_in(&mut alive, callable, &arguments, limits.result)
                    .await
            };
            let ended = ended.await;
            run::ended_as(alive.store.data(), ended)
        };
        let outcome = Limited {
            work: pin!(running),
            events,
            began: Instant::now(),
            wall: limits.wall,
            timer: None,
        }
        .await;
        if !woke {
            // It was cancelled before anything ran in it, or what it runs when it is restored did not end:
            // it is what it was.
            kept.state = match was_live {
                true => State::Live(alive),
                false => State::Resting,
            };
            return (outcome, outlet.was_cut());
        }
        lock(&self.notes).calls += 1;
        kept.from_outside = false;
        kept.changed = true;
        // Anything but an end of the callable itself leaves memory in between.
        kept.state = match &outcome {
            Outcome::Value(_) | Outcome::Error(_) => State::Live(alive),
            Outcome::Failed(failure) => State::Poisoned(format!("the guest {failure}")),
            Outcome::Refused(refused) => State::Poisoned(refused.to_string()),
        };
        (outcome, outlet.was_cut())
    }

    /// The instance, made from the image if need be. The session is poisoned until it is put back.
    async fn woken(
        &self,
        kept: &mut Kept,
        means: &Means,
        call: &mut SessionCall<'_>,
    ) -> Result<Box<Alive>, Outcome> {
        let stopped = || State::Poisoned("a call was dropped while it ran".to_owned());
        match &kept.state {
            State::Live(_) => {
                let State::Live(alive) = std::mem::replace(&mut kept.state, stopped()) else {
                    unreachable!("it was live on the line before");
                };
                return Ok(alive);
            }
            State::Resting => {}
            State::Poisoned(why) => return Err(refused(RefusalCode::SessionPoisoned, why)),
            State::GaveUp(gone) => return Err(Outcome::Refused(gone.refusal())),
            State::Closed => return Err(refused(RefusalCode::UnknownSession, self.id.to_string())),
        }
        let slots = self.place(means, call.events, call.waited).await?;
        let image = kept.image.as_ref().expect("a session rests as its image");
        // What draws from it comes with a seed of its own.
        let seed = self.seed(0, 0, Bytes::new());
        let guest = self.guest(means, call.events, call.limits.output, seed);
        let mut alive = match self.enter(means, guest, slots).await {
            Ok(alive) => alive,
            Err((outcome, _)) => return Err(outcome),
        };
        let Alive {
            store,
            instance,
            memory,
            bound,
            ..
        } = &mut alive;
        let restored =
            snapshot::restore(store, *instance, *memory, self.code(), &image.image, None).await;
        if let Err(error) = restored {
            return Err(run::ended_as(store.data(), Err(error)));
        }
        *bound = image.image.index().bound.first().copied();
        kept.state = stopped();
        Ok(Box::new(alive))
    }

    async fn run_in(
        &self,
        alive: &mut Alive,
        callable: u32,
        arguments: &[u8],
        result_max: u64,
    ) -> wasmtime::Result<Outcome> {
        let entry = self.entry(callable);
        let kept = alive.bound.filter(|bound| bound.callable == callable);
        let mut live = self.live(alive);
        let handle = match kept {
            Some(bound) => bound.handle,
            None => live.bind(entry, &[]).await?,
        };
        let (task, outcome) = live
            .call_callable(entry, handle, arguments, result_max)
            .await?;
        live.drop_task(task).await?;
        if kept.is_none() {
            live.unbind(handle).await?;
        }
        Ok(outcome)
    }
}
