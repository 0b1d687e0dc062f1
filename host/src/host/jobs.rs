//! Jobs of a host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spore_bundle::{Bundle, BundleId, Image};
use spore_transport::RefusalCode;
use spore_transport::job::custody::Event;
use spore_transport::job::{
    Custody, JobChanged, JobId, JobInfo, JobStarted, JobWatched, Persist, WatchItems,
};
use spore_transport::message::{CallLimits, Refused};

use super::{Host, Inner, moving};
use crate::callers::Caller;
use crate::code::{chain, check_image_memory, refuse_misfit};
use crate::events::Finished;
use crate::job::{self, Begin, Job, JobRequest, Phase, Terms, Watching};
use crate::session::{Charged, Saved, new_seed};
use crate::wasi::Directory;

/// Least time between two images of a job that are written to the disk.
const PERSIST_MIN: Duration = Duration::from_millis(100);

/// Time after which a job that is to leave goes on by itself, and an offer is forgotten.
const MOVE_TIME_MAX: Duration = Duration::from_secs(600);

/// Longest time that a request may wait for a checkpoint.
pub(super) const CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(600);

impl Host {
    /// Starts a job.
    ///
    /// # Errors
    ///
    /// Refuses a callable that is not resumable, a bundle whose instances have no image, and one job
    /// too many.
    ///
    /// Dropped before it returns, the job may have been started: the list of jobs tells.
    pub async fn start_job(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        request: JobRequest,
    ) -> Result<JobStarted, Refused> {
        self.check_open()?;
        if bundle.image().and_then(job::run_in).is_some() {
            let what = "the bundle holds a run, which goes on as a job of its own";
            return Err(Refused::new(RefusalCode::Unsupported, what));
        }
        self.check_arguments(&request.arguments)?;
        let index = request.callable;
        let callables = &bundle.manifest().callables;
        let Some(callable) = callables.get(index as usize) else {
            let what = format!("index {index}");
            return Err(Refused::new(RefusalCode::UnknownCallable, what));
        };
        let captured = bundle.captures().map(|(index, _)| index) == Some(index);
        let bound = bundle.image().is_some_and(|image| {
            let bound = &image.index().bound;
            bound.iter().any(|bound| bound.callable == index)
        });
        if !callable.signature.captures.is_empty() && !captured && !bound {
            let what = format!("{} has captures, and none are bound to it", callable.name);
            return Err(Refused::new(RefusalCode::WrongCaptures, what));
        }
        let terms = self.terms(caller, bundle, bundle.image(), &request)?;
        let begin = Begin::anew(&caller.state);
        let job = self.job(caller, terms, begin).await?;
        self.begin(caller, job, None).await
    }

    /// Starts a job that goes on where a saved one stood.
    ///
    /// # Errors
    ///
    /// Refuses a bundle without the image of a run, and one job too many.
    ///
    /// Dropped before it returns, the job may have been started: the list of jobs tells.
    pub async fn open_job(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        limits: &CallLimits,
        persist: Persist,
        paused: bool,
    ) -> Result<JobStarted, Refused> {
        self.check_open()?;
        let Some((image, callable)) = bundle
            .image()
            .and_then(|image| Some((image, job::run_in(image)?)))
        else {
            let what = "the bundle holds no run";
            return Err(Refused::new(RefusalCode::NoImage, what));
        };
        let request = JobRequest {
            callable,
            // They are in the image by now.
            arguments: Bytes::new(),
            limits: *limits,
            seed: new_seed(),
            persist,
            timing: spore_transport::message::Timing::default(),
        };
        let items = image.index().run.map_or(0, |run| run.items);
        let begin = Begin {
            image: Some(Charged::take(&caller.state, image.clone())?),
            items: job::Items::after(items, caller.state.images.clone()),
            paused,
            ..Begin::anew(&caller.state)
        };
        // What it begins from is the image, which the disk is to have once.
        let terms = self.terms(caller, &bundle.without_state(), Some(image), &request)?;
        let job = self.job(caller, terms, begin).await?;
        self.begin(caller, job, Some(image)).await
    }

    /// What holds for a job that goes on from this image, or begins with its bundle.
    pub(super) fn terms(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        image: Option<&Image>,
        request: &JobRequest,
    ) -> Result<Terms, Refused> {
        let callable = &bundle.manifest().callables[request.callable as usize];
        if !callable.resumable && !callable.streams {
            return Err(Refused::new(
                RefusalCode::NotResumable,
                callable.name.clone(),
            ));
        }
        let directories = self.inner.grants.of_call(
            bundle.manifest(),
            callable,
            &caller.allowed,
            image.or(bundle.image()),
        )?;
        Ok(self.terms_with(caller, bundle, request, directories))
    }

    /// The same with these directories.
    pub(super) fn terms_with(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        request: &JobRequest,
        directories: Arc<[Directory]>,
    ) -> Terms {
        Terms {
            bundle: bundle.clone(),
            callable: request.callable,
            arguments: request.arguments.clone(),
            seed: request.seed,
            asked: request.limits,
            limits: caller.limits.for_call(&request.limits),
            persist: request.persist,
            persist_every: self.persist_every(request.persist),
            directories,
            open_files: self.inner.limits.open_files,
        }
    }

    /// How often a job is made durable here.
    fn persist_every(&self, asked: Persist) -> Option<Duration> {
        self.inner.keep.get()?;
        match asked {
            Persist::HostDefault => self.inner.job_persist,
            Persist::Off => None,
            Persist::Every { ms } => Some(Duration::from_millis(ms).max(PERSIST_MIN)),
        }
    }

    /// A job whose code is loaded and fits. Nothing of it runs yet but its initialiser, if it has one
    /// and begins.
    pub(super) async fn job(
        &self,
        caller: &Caller,
        terms: Terms,
        begin: Begin,
    ) -> Result<Job, Refused> {
        let job = self.uninitialised_job(caller, terms, begin).await?;
        let uninitialised = job.now().uninitialised.take();
        if let Some(caller) = uninitialised {
            let initial = self.initial(&caller, &job.terms.bundle, job.loaded());
            let initial = initial.await?;
            job.now().initial = initial;
        }
        Ok(job)
    }

    /// The same, whose initialiser runs once the job is to run.
    pub(super) async fn uninitialised_job(
        &self,
        caller: &Caller,
        mut terms: Terms,
        begin: Begin,
    ) -> Result<Job, Refused> {
        let (loaded, _) = self.load_plain(caller, &terms.bundle).await?;
        // One copy for all jobs of it.
        terms.bundle = loaded.bundle().clone();
        let bundle = &terms.bundle;
        let interior = &loaded.ready().code.interior;
        interior
            .check_imageable()
            .map_err(|obstacle| refuse_misfit(&obstacle.into()))?;
        let begins_with = begin.image.as_ref().map(|it| &it.image);
        if let Some(image) = begins_with.or(bundle.image()) {
            interior
                .check(image.index())
                .map_err(|misfit| refuse_misfit(&misfit))?;
            check_image_memory(image, terms.limits.memory)?;
        }
        let begins = begin.image.is_none() && bundle.image().is_none();
        let has_initialiser = begins && bundle.manifest().init.is_some();
        let keep = self.inner.keep.get().cloned();
        let job = Job::new(caller.state.clone(), terms, Some(loaded), keep, begin)?;
        job.now().uninitialised = has_initialiser.then(|| caller.clone());
        Ok(job)
    }

    /// Takes a job in and has it run. Once it has begun to it does, whoever waits for it.
    async fn begin(
        &self,
        caller: &Caller,
        job: Job,
        image: Option<&Image>,
    ) -> Result<JobStarted, Refused> {
        let job = Arc::new(job);
        // Whoever looks finds it from here on. Nobody has it run before it is told of.
        let hold = job.hold();
        let jobs = &self.inner.jobs;
        jobs.put(&job, caller.limits.jobs_per_key)?;
        let (host, image) = (self.clone(), image.cloned());
        self.to_the_end(async move {
            // A job that is persisted is there after a restart from the moment that it is told of.
            if job.terms.persist_every.is_some() {
                let kept = job.keep_begin(image.as_ref(), Custody::Here, None).await;
                kept.map_err(|error| {
                    host.inner.jobs.remove(&job);
                    error.refusal()
                })?;
            }
            drop(hold);
            run(&host.inner, &job);
            Ok(JobStarted {
                job: job.id,
                at_least_once: job.at_least_once(),
            })
        })
        .await
    }

    /// The caller's jobs, also those on the disk that cannot be read.
    pub fn jobs(&self, caller: &Caller) -> Vec<JobInfo> {
        let jobs = self.inner.jobs.of(caller);
        let readable = jobs.iter().map(|job| job.info());
        readable.chain(self.inner.jobs.unreadable(caller)).collect()
    }

    /// What a job says from now on, its items if they are asked for, and its end.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's, it is elsewhere, or the items are gone.
    pub fn watch_job(
        &self,
        caller: &Caller,
        job: JobId,
        items: Option<WatchItems>,
    ) -> Result<(JobWatched, Watching), Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        Watching::new(job, items, self.clone())
    }

    /// Stops a job at its next checkpoint, if it reaches one in this time.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's here, it has ended, or it goes on.
    pub async fn pause_job(
        &self,
        caller: &Caller,
        job: JobId,
        within: Duration,
    ) -> Result<JobChanged, Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        job.pause(within.min(CHECKPOINT_WAIT_MAX)).await?;
        // One that stood still already was not told of by its run.
        self.stands(job).await
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's here, or it has ended.
    pub async fn resume_job(&self, caller: &Caller, job: JobId) -> Result<JobChanged, Refused> {
        self.check_open()?;
        let job = self.inner.jobs.find(caller, job)?;
        job.resume()?;
        self.stands(job).await
    }

    /// Writes down how a job stands, has it run if it is to, and tells.
    async fn stands(&self, job: Arc<Job>) -> Result<JobChanged, Refused> {
        let host = self.clone();
        self.to_the_end(async move {
            let kept = job.keep_still().await;
            kept.map_err(|error| error.refusal())?;
            let kept = job.keep_standing().await;
            kept.map_err(|error| error.refusal())?;
            run(&host.inner, &job);
            Ok(job.standing())
        })
        .await
    }

    /// Takes an image of a job at its next checkpoint, if it reaches one in this time.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's here, it has ended, or its state cannot be saved.
    pub async fn save_job(
        &self,
        caller: &Caller,
        job: JobId,
        within: Duration,
    ) -> Result<Saved, Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        job.save(within.min(CHECKPOINT_WAIT_MAX)).await
    }

    /// Ends a job.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's here.
    pub async fn cancel_job(&self, caller: &Caller, job: JobId) -> Result<JobChanged, Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        self.to_the_end(async move { job.cancel().await }).await
    }

    /// How a job has ended; `wait` until it has.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's, or it has not ended.
    pub async fn job_result(
        &self,
        caller: &Caller,
        job: JobId,
        wait: bool,
    ) -> Result<Finished, Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        match wait {
            true => job.ended().await,
            false => job.ending(),
        }
    }

    /// Forgets a job that has ended.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's, or it has not ended.
    pub async fn acknowledge_job(&self, caller: &Caller, job: JobId) -> Result<(), Refused> {
        let job = match self.inner.jobs.find(caller, job) {
            Ok(job) => job,
            Err(why) => return self.acknowledge_damaged(caller, job, why).await,
        };
        job.ending()?;
        let host = self.clone();
        self.to_the_end(async move {
            job.change_custody(&Event::Acknowledge).await?;
            host.inner.jobs.remove(&job);
            Ok(())
        })
        .await
    }

    /// Removes a job from the disk that cannot be read. Where there is none such: `why`.
    async fn acknowledge_damaged(
        &self,
        caller: &Caller,
        id: JobId,
        why: Refused,
    ) -> Result<(), Refused> {
        let owner = caller.state.id;
        self.remove_damaged(
            (owner, id),
            |inner| &inner.jobs.damaged,
            move |damage| match damage {
                Some(damage) if !damage.is_passing => {
                    let after = Custody::after(id, damage.place, &Event::Acknowledge);
                    match damage.place {
                        // Nobody can run it. The host that it comes from has another, or had.
                        None | Some(Custody::Arriving { .. } | Custody::Arrived { .. }) => Ok(()),
                        Some(_) => after.map(|_| ()).map_err(|error| error.refusal()),
                    }
                }
                _ => Err(why.clone()),
            },
            move |keep| keep.remove_job(owner, id.0),
        )
        .await
    }

    /// The bundle that a job of the caller's was started from.
    ///
    /// # Errors
    ///
    /// When there is no such job of the caller's.
    pub fn job_bundle(&self, caller: &Caller, job: JobId) -> Result<Bundle, Refused> {
        let job = self.inner.jobs.find(caller, job)?;
        Ok(job.terms.bundle.clone())
    }

    /// The manifest of a bundle that a session or a job of the caller's was made of.
    pub(crate) fn own_manifest(&self, caller: &Caller, id: BundleId) -> Option<Bytes> {
        let jobs = self.inner.jobs.of(caller);
        let jobs = jobs.iter().map(|job| job.terms.bundle.clone());
        let sessions = self.inner.sessions.of(caller);
        let sessions = sessions.iter().map(|session| session.bundle().clone());
        let found = jobs.chain(sessions).find(|bundle| bundle.id() == id);
        found.map(|bundle| bundle.manifest_bytes().clone())
    }

    /// What came ahead of jobs that may come to the caller.
    pub(crate) fn offered_jobs(&self, caller: &Caller) -> Vec<Bundle> {
        self.inner.jobs.offered(caller)
    }

    /// What the caller's jobs were last saved as.
    pub(crate) fn saved_jobs(&self, caller: &Caller) -> Vec<Bundle> {
        let jobs = self.inner.jobs.of(caller);
        jobs.iter().filter_map(|job| job.saved()).collect()
    }
}

/// Has a job run that is to and does not.
pub(super) fn run(inner: &Arc<Inner>, job: &Arc<Job>) {
    let uninitialised = {
        let mut now = job.now();
        if !now.is_to_run() {
            return;
        }
        now.phase = Phase::Running;
        job.tell_run(&now);
        now.uninitialised.clone()
    };
    job.changed();
    let begin = |inner: &Arc<Inner>, job: Arc<Job>| {
        let turn = job.key.turn();
        inner.scheduler.spawn(turn, job::run(job, inner.means()));
    };
    let Some(caller) = uninitialised else {
        return begin(inner, job.clone());
    };
    let (host, job) = (
        Host {
            inner: inner.clone(),
        },
        job.clone(),
    );
    let background = inner.background.runtime.clone();
    background.spawn(async move {
        let initial = || host.initial(&caller, &job.terms.bundle, job.loaded());
        if job.initialised(initial).await {
            begin(&host.inner, job.clone());
        }
    });
}

/// Has jobs run that stood still for the host, and written to the disk when it is time.
pub(super) fn look(inner: &Arc<Inner>) {
    for job in inner.jobs.every() {
        if job.left_for(MOVE_TIME_MAX) {
            let inner = inner.clone();
            let background = inner.background.runtime.clone();
            background.spawn(async move {
                moving::lapse(&inner, &job).await;
            });
            continue;
        }
        if job.is_unkept() || job.has_items_to_note() {
            let background = inner.background.runtime.clone();
            let job = job.clone();
            background.spawn(async move {
                job.conclude_again().await;
                if let Err(error) = job.note_items().await {
                    tracing::error!(job = %job.id, error = chain(&error), "items that were taken");
                }
            });
        }
        job.persist_if_due();
        job.cool();
        run(inner, &job);
    }
    inner.jobs.forget_offers(MOVE_TIME_MAX);
}
