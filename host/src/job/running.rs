//! The run of a job, on a worker.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::image::{Bound, Image, Run};
use spore_transport::message::{Refused, Timing};
use spore_transport::{BlobId, RefusalCode};
use wasmtime::Store;

use super::keeping::{ITEMS_PERSIST_INTERVAL, Waiting};
use super::warm::{Made, Warm};
use super::{Job, Phase};
use crate::background::FreedBeside;
use crate::checkpoints::Checkpoints;
use crate::code::{Entry, chain};
use crate::events::{Events, Finished, Outcome};
use crate::guest::{Guest, MemoryTotals};
use crate::limits::{millis, nanos};
use crate::run::{self, Live, Polled, refused};
use crate::session::{Charged, Means};
use crate::snapshot::{self, Around};
use crate::wasi::{Clock, Outlet, Seed, World};
use crate::work::{Interrupted, Slots, slots};

/// Time until it is tried anew to keep a job that may not go on.
const STOP_PAUSE: Duration = Duration::from_secs(1);

/// Carries a job on until it ends or is to stand still.
pub(crate) async fn run(job: Arc<Job>, means: Means) {
    let unwinding = Unwinding(&job);
    let queued = Instant::now();
    let place = job.before_it_runs(|| job.place(&means)).await;
    let Some((mut store, made, slots)) = place else {
        return;
    };
    let queue_ns = nanos(queued.elapsed());
    let manifest = job.terms.bundle.manifest();
    let name = &manifest.callables[job.terms.callable as usize].name;
    let id = BlobId(*job.terms.bundle.id().as_bytes());
    let listed = job.key.list(id, name);

    let began = Instant::now();
    let output = store.data().output.clone();
    let mut still = None;
    let outcome = {
        let running = async {
            let carried = job.carry(&mut store, made).await;
            let ended = carried.map(|carried| match carried {
                Carried::Ended(outcome) => outcome,
                Carried::Still(made, charged) => {
                    still = Some((made, charged));
                    Outcome::Value(Bytes::new())
                }
            });
            run::ended_as(store.data(), ended)
        };
        let paced = Paced {
            work: pin!(running),
            events: &job.hub,
            checkpoints: &job.checkpoints,
            wall: job.terms.limits.wall,
            seen: None,
            timer: None,
        };
        paced.await
    };
    drop(listed);
    std::mem::forget(unwinding);
    if let Some((made, charged)) = still {
        let code = job.loaded().ready().code.clone();
        let warm = Warm::stopped(store, made, slots, code);
        return job.stay_warm(warm, &charged, &means);
    }
    drop(store);
    let finished = Finished {
        outcome,
        timing: Timing {
            queue_ns,
            run_ns: nanos(began.elapsed()),
            ..Timing::default()
        },
        output_cut: output.was_cut(),
    };
    job.conclude(finished).await;
}

/// How far a run was carried.
enum Carried {
    Ended(Outcome),
    /// It stands still as this instance, of which this is the image.
    Still(Made, Arc<Charged>),
}

/// Ends a job whose run panics in the host.
struct Unwinding<'a>(&'a Arc<Job>);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let outcome = refused(RefusalCode::Internal, "");
            self.0.end(self.0.finished(outcome));
        }
    }
}

impl Job {
    /// An end that took no time.
    pub(super) fn finished(&self, outcome: Outcome) -> Finished {
        Finished {
            outcome,
            timing: Timing::default(),
            output_cut: false,
        }
    }

    /// Waits for a place for its instance; or gives the one that was made for it.
    async fn place(&self, means: &Means) -> (Store<Guest>, Option<Made>, Slots) {
        if let Some(warm) = self.warm(means) {
            return warm.taken();
        }
        let slots = slots(&self.key, &means.instances).await;
        let mut store = Store::new(&means.engine, self.guest(means));
        run::hold(&mut store);
        (store, None, slots)
    }

    /// Waits for what its initialiser leaves. Says whether it can begin: otherwise it has ended, stands
    /// still, or is to be tried again.
    pub(crate) async fn initialised<F>(self: &Arc<Self>, initial: impl FnMut() -> F) -> bool
    where
        F: Future<Output = Result<Option<Image>, Refused>>,
    {
        match self.before_it_runs(initial).await {
            None => false,
            Some(Ok(initial)) => {
                let mut now = self.now();
                (now.initial, now.uninitialised) = (initial, None);
                true
            }
            Some(Err(why))
                if matches!(why.code, RefusalCode::QueueFull | RefusalCode::ShuttingDown) =>
            {
                self.now().phase = Phase::Still;
                self.changed();
                false
            }
            Some(Err(why)) => {
                self.conclude(self.finished(Outcome::Refused(why))).await;
                false
            }
        }
    }

    /// Waits for what it needs before it runs. Nothing when it was cancelled before, and has ended, or
    /// came to stand still.
    async fn before_it_runs<F: Future>(
        self: &Arc<Self>,
        mut needs: impl FnMut() -> F,
    ) -> Option<F::Output> {
        loop {
            let needed = async {
                tokio::select! {
                    biased;
                    needed = needs() => Some(needed),
                    () = self.wanted_before_it_runs() => None,
                }
            };
            let needed = Interrupted {
                work: pin!(needed),
                events: &self.hub,
            };
            match needed.await {
                Ok(Some(needed)) => return Some(needed),
                Ok(None) if self.stands_before_it_runs() => return None,
                Ok(None) => {}
                Err(()) => {
                    let cancelled = self.finished(refused(RefusalCode::Cancelled, ""));
                    self.conclude(cancelled).await;
                    return None;
                }
            }
        }
    }

    /// Waits until it is to stand still, which it can while it waits for its place.
    async fn wanted_before_it_runs(&self) {
        while !self.now().can_stand_before_it_runs() {
            self.wake.notified().await;
        }
    }

    /// Has it stand still where it waits for its place, if it is to. Says whether it does.
    fn stands_before_it_runs(&self) -> bool {
        {
            let mut now = self.now();
            if !now.can_stand_before_it_runs() || self.hub.is_cancelled() {
                return false;
            }
            now.stand();
            for waiting in std::mem::take(&mut now.saves) {
                let _ = waiting.send(self.saved_still(&mut now));
            }
        }
        self.changed();
        true
    }

    /// Keeps its instance when it stands still for a moment only: it may go on here after all.
    fn stay_warm(&self, warm: Warm, charged: &Arc<Charged>, means: &Means) {
        let warm = FreedBeside::new(warm, &means.background);
        let mut now = self.now();
        // It may have gone on and stopped again meanwhile.
        let is_its = now
            .image
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, charged));
        if is_its && matches!(now.phase, Phase::Still) && now.is_held() && now.warm.is_none() {
            // What it was made of is the job's image, and counts as that.
            now.warm = Some((warm, None));
        }
    }

    /// The instance that was made for it, if it can go on there.
    fn warm(&self, means: &Means) -> Option<Warm> {
        let (warm, image) = {
            let mut now = self.now();
            (now.warm.take(), now.image.clone())
        };
        let ((warm, _room), image) = (warm?, image?);
        let mut warm = warm.take();
        let serves = warm.serves(&self.loaded().ready().code, &image.image);
        (serves && warm.belongs_to(self.guest(means))).then_some(warm)
    }

    fn guest(&self, means: &Means) -> Guest {
        let limits = &self.terms.limits;
        let world = World {
            outlet: Outlet::new(self.hub.clone(), limits.output),
            seed: self.seed(),
            directories: self.terms.directories.clone(),
            open_files: self.terms.open_files,
            clock: Clock::default(),
        };
        let totals = MemoryTotals {
            of_key: self.key.memory.clone(),
            of_host: means.memory.clone(),
        };
        let mut guest = Guest::new(limits, self.hub.clone(), world, totals);
        guest.checkpoints = self.checkpoints.clone();
        guest
    }

    fn seed(&self) -> Seed {
        Seed {
            bundle: *self.terms.bundle.id().as_bytes(),
            callable: self.terms.callable,
            seed: self.terms.seed,
            arguments: self.terms.arguments.clone(),
        }
    }

    fn entry(&self) -> &Entry {
        &self.loaded().ready().entries[self.terms.callable as usize]
    }

    /// Goes on from the image, or begins, until it ends or is to stand still.
    async fn carry(
        self: &Arc<Self>,
        store: &mut Store<Guest>,
        made: Option<Made>,
    ) -> wasmtime::Result<Carried> {
        let code = &self.loaded().ready().code;
        let (mut live, ahead) = match made {
            Some(Made {
                instance,
                memory,
                image,
            }) => {
                let live = Live {
                    store,
                    instance,
                    memory,
                    code,
                };
                (live, Some(image))
            }
            None => {
                let live = Live::enter(store, code).await?;
                snapshot::note_fresh(live.store, live.instance, live.memory, code);
                (live, None)
            }
        };
        let image = self.now().image.as_ref().map(|it| it.image.clone());
        let (bound, run) = match image {
            Some(image) => {
                self.restore(&mut live, &image, ahead.as_ref()).await?;
                drop(ahead);
                tracing::debug!(job = %self.id, "goes on from its image");
                let run = image.index().run;
                let run = run.ok_or_else(|| wasmtime::Error::msg("an image without a run"))?;
                (image.index().bound.clone(), run)
            }
            None => self.begin(&mut live).await?,
        };
        self.drive(&mut live, &bound, run).await
    }

    async fn restore(
        &self,
        live: &mut Live<'_>,
        image: &Image,
        ahead: Option<&Image>,
    ) -> wasmtime::Result<()> {
        live.restore_over(image, ahead).await?;
        if let Some(name) = &self.terms.bundle.manifest().restored {
            let hook = live.code.hook(name).map_err(no_hook)?;
            // What it draws is new each time, and what the run draws the same as without it.
            let seed = self.seed().of_restored(self.now().stops);
            let before = live.store.data_mut().draw_from(seed);
            let hooked = live.run_hook(&hook).await;
            live.store.data_mut().draw_again(before);
            hooked?;
        }
        Ok(())
    }

    /// Starts the run.
    async fn begin(&self, live: &mut Live<'_>) -> wasmtime::Result<(Vec<Bound>, Run)> {
        let callable = self.terms.callable;
        let bundle = &self.terms.bundle;
        let mut bound = Vec::new();
        match bundle.image() {
            Some(image) => {
                self.restore(live, image, None).await?;
                bound.clone_from(&image.index().bound);
            }
            None => {
                let initial = self.now().initial.take();
                match initial {
                    Some(image) => live.restore(&image).await?,
                    None => live.initialize().await?,
                }
            }
        }
        let known = bound.iter().find(|it| it.callable == callable);
        let handle = match known {
            Some(bound) => bound.handle,
            None => {
                let captures = match bundle.captures() {
                    Some((index, captures)) if index == callable => captures.clone(),
                    _ => Bytes::new(),
                };
                let handle = live.bind(self.entry(), &captures).await?;
                bound.push(Bound { callable, handle });
                bound.sort_by_key(|it| it.callable);
                handle
            }
        };
        let arguments = &self.terms.arguments;
        let task = live.start(self.entry(), handle, arguments).await?;
        let run = Run {
            callable,
            handle,
            task,
            items: 0,
        };
        Ok((bound, run))
    }

    async fn drive(
        self: &Arc<Self>,
        live: &mut Live<'_>,
        bound: &[Bound],
        run: Run,
    ) -> wasmtime::Result<Carried> {
        let result_max = self.terms.limits.result;
        // Until when the guest waits, and since when it does here.
        let mut waits = None;
        loop {
            // Between its start and its first poll a run stands as well as at a checkpoint.
            if self.now().is_wanted() {
                if let Some(charged) = self.attend(live, bound, run).await? {
                    let made = Made {
                        instance: live.instance,
                        memory: live.memory,
                        image: charged.image.clone(),
                    };
                    return Ok(Carried::Still(made, charged));
                }
                // It may not go on before it stands still, or need not any more.
                if self.now().stops() {
                    continue;
                }
            }
            if !self.has_room_for_items().await {
                continue;
            }
            let polled = live.poll(self.entry(), run.task, result_max).await?;
            self.checkpoints.pass();
            self.checkpoints.rest(true);
            match polled {
                Polled::Ended(outcome) => return Ok(Carried::Ended(outcome)),
                Polled::Yield => {}
                Polled::Wait(until) => {
                    let left = until.saturating_sub(live.store.data().clock_ns());
                    let left = Duration::from_nanos(left);
                    let began = match waits {
                        // It was woken for something else in between.
                        Some((same, began)) if same == until => began,
                        _ => tokio::time::Instant::now(),
                    };
                    waits = Some((until, began));
                    tokio::select! {
                        () = tokio::time::sleep(left.saturating_sub(began.elapsed())) => {
                            live.store.data().clock().move_to(until);
                        }
                        () = self.wanted() => {}
                    }
                }
                Polled::Item(item) => {
                    self.now().items.push(item);
                    self.changed();
                }
            }
            self.checkpoints.rest(false);
        }
    }

    /// Waits until something is wanted of the run.
    async fn wanted(&self) {
        while !self.now().is_wanted() {
            self.wake.notified().await;
        }
    }

    /// Waits until the next item has room. It has none when something is wanted of the run before.
    async fn has_room_for_items(&self) -> bool {
        self.checkpoints.rest(true);
        let has_room = loop {
            let pause = {
                let mut now = self.now();
                if now.items.has_room() {
                    break true;
                }
                // Nobody takes what may not leave yet.
                if !self.at_least_once()
                    && now.items.wait_for_image()
                    && now.persisted.elapsed() >= Job::items_pause(&now)
                {
                    now.persist_due = true;
                }
                if now.is_wanted() {
                    break false;
                }
                match now.items.wait_for_image() {
                    true => Job::items_pause(&now),
                    false => ITEMS_PERSIST_INTERVAL,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        self.checkpoints.rest(false);
        has_room
    }

    /// Does what is wanted of the run, which stands where an image can be taken. Gives that image if it
    /// is to stay there.
    async fn attend(
        self: &Arc<Self>,
        live: &mut Live<'_>,
        bound: &[Bound],
        run: Run,
    ) -> wasmtime::Result<Option<Arc<Charged>>> {
        self.checkpoints.rest(true);
        let (saves, last, items, stops) = {
            let mut now = self.now();
            self.checkpoints.want_stop(false);
            now.persist_due = false;
            let last = now.image.as_ref().map(|it| it.image.clone());
            let saves = std::mem::take(&mut now.saves);
            (saves, last, now.items.emitted(), now.stops())
        };
        if stops {
            tracing::debug!(job = %self.id, "stops at a checkpoint");
        }
        let run = Run { items, ..run };
        // Before there is another image: what is being written is held meanwhile.
        let turn = self.disk_turn().await;
        let taken = self.image(live, bound, run, last.as_ref()).await;
        drop(last);
        let stays = match taken {
            Ok(image) if stops => {
                // What is to stand still must do so after a restart too, before anybody is told. One that
                // is only held for a moment goes on, here or elsewhere.
                let (stays, pauses) = {
                    let now = self.now();
                    (now.stays(), now.pauses())
                };
                let writes = stays || !saves.is_empty();
                let kept = match writes {
                    true => self.keep_image(turn, &image.image, pauses).await,
                    false => Ok(()),
                };
                match kept {
                    Ok(()) => {
                        let stands = self.stands(saves, image.clone());
                        // Who wanted it paused may want so no more, or somebody else may.
                        let is_so = self.now().pause == pauses;
                        if writes
                            && !is_so
                            && let Err(error) = self.keep_standing().await
                        {
                            let error = chain(&error);
                            tracing::error!(job = %self.id, error, "whether it is paused");
                        }
                        stands.then_some(image)
                    }
                    Err(error) => {
                        tracing::error!(job = %self.id, error = chain(&error), "a job was not kept");
                        self.goes_on(saves, error.refusal()).await;
                        None
                    }
                }
            }
            Ok(image) => {
                self.keep_beside(turn, image, saves);
                None
            }
            Err(why) => {
                drop(turn);
                tracing::info!(job = %self.id, %why, "no image of a job");
                self.goes_on(saves, why).await;
                None
            }
        };
        self.checkpoints.rest(false);
        Ok(stays)
    }

    /// It is on the disk as it is, or need not be. Says whether it stands still from now on.
    fn stands(&self, saves: Vec<Waiting>, image: Arc<Charged>) -> bool {
        let saved = match saves.is_empty() {
            true => None,
            // Only for those who asked: a saved bundle is held until the next.
            false => Some(self.saved_as(image)),
        };
        let stays = {
            let mut now = self.now();
            // What was wanted a moment ago may not be any more, and more may be wanted than was done.
            let must_keep = now.stays() || !now.saves.is_empty();
            let done = now.image_kept || self.keep.is_none() || !must_keep;
            let stays = done && now.stops() && !self.hub.is_cancelled();
            if stays {
                now.stand();
                now.stops = now.stops.saturating_add(1);
                for waiting in std::mem::take(&mut now.saves) {
                    let _ = waiting.send(self.saved_still(&mut now));
                }
            }
            stays
        };
        if let Some(saved) = saved {
            for waiting in saves {
                // Whoever wanted it may be gone.
                let _ = waiting.send(saved.clone());
            }
        }
        self.changed();
        stays
    }

    /// It cannot be kept as it is, and goes on; or waits, if it may not. That is tried anew after a
    /// while.
    async fn goes_on(&self, saves: Vec<Waiting>, why: Refused) {
        for waiting in saves {
            let _ = waiting.send(Err(why.clone()));
        }
        let waits = {
            let mut now = self.now();
            if self.terms.persist_every.is_some() {
                now.not_kept = format!("it is not kept as it is now: {why}");
            }
            // It is tried anew when the next is due, and not soon for the sake of items.
            now.persisted = Instant::now();
            now.persist_took = ITEMS_PERSIST_INTERVAL;
            now.not_stopped = Some(why);
            now.turned_down += 1;
            now.unpause();
            now.stops()
        };
        self.changed();
        if waits {
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(STOP_PAUSE) => {}
            }
        }
    }

    async fn image(
        &self,
        live: &mut Live<'_>,
        bound: &[Bound],
        run: Run,
        last: Option<&Image>,
    ) -> Result<Arc<Charged>, Refused> {
        if let Some(what) = live.store.data_mut().changed_files() {
            let what = format!("the guest {what} at its checkpoint");
            return Err(Refused::new(RefusalCode::NoImage, what));
        }
        let guest = live.store.data();
        let random = guest.random_place(|| *self.seed_key.get_or_init(|| self.seed().key()));
        let around = Around {
            bound: bound.to_vec(),
            run: Some((run, random)),
            directories: guest.directories(),
        };
        let (instance, memory) = (live.instance, live.memory);
        let taken = snapshot::take(live.store, instance, memory, live.code, around, last).await;
        let taken = taken.map_err(|error| Refused::new(RefusalCode::NoImage, chain(&error)))?;
        // Both are there for a moment; the room is that of the new one, unless the other was saved.
        self.now().image = None;
        let charged = Charged::take(&self.key, taken)?;
        {
            let mut now = self.now();
            (now.image, now.image_kept) = (Some(charged.clone()), false);
        }
        Ok(charged)
    }
}

/// The interface was checked when the code was loaded, so that this does not come up.
fn no_hook(refused: Refused) -> wasmtime::Error {
    wasmtime::Error::msg(refused.to_string())
}

/// A run until it is done, cancelled, or past its time between two checkpoints.
struct Paced<'a, F> {
    work: Pin<&'a mut F>,
    events: &'a Events,
    checkpoints: &'a Checkpoints,
    wall: Duration,
    /// The checkpoints that were reached when it was last looked, and since when no others were.
    seen: Option<(u64, Instant)>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<F: Future<Output = Outcome>> Future for Paced<'_, F> {
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
        let look = this.look_interval();
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(look)));
        while timer.as_mut().poll(cx).is_ready() {
            let reached = this.checkpoints.reached();
            let since = match this.seen {
                Some((seen, since)) if seen == reached && !this.checkpoints.is_resting() => since,
                _ => Instant::now(),
            };
            this.seen = Some((reached, since));
            if since.elapsed() >= this.wall {
                let what = "without a checkpoint";
                let refused = Refused::new(RefusalCode::WallTime, what);
                let refused = refused.past(millis(this.wall), millis(since.elapsed()));
                return Poll::Ready(Outcome::Refused(refused));
            }
            timer.as_mut().reset(tokio::time::Instant::now() + look);
        }
        Poll::Pending
    }
}

impl<F> Paced<'_, F> {
    /// Time between looks: a run goes on this much too long at most.
    fn look_interval(&self) -> Duration {
        (self.wall / 8).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}
