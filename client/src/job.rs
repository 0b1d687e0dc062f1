//! Jobs: runs that a host keeps, with ids of their own.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spore_bundle::Manifest;
use spore_transport::JobId;
use spore_transport::job::{JobChanged, JobInfo, Persist};

use crate::bundle::Bundle;
use crate::call::{Finished, Outcome, Request};
use crate::callable::{JobDecode, Json, Parcel, Resumes};
use crate::error::CallError;
use crate::host::Host;
use crate::limits::CallLimits;
use crate::moving::{MoveError, Moving, Told};
use crate::watch::Watching;

/// What goes wrong with jobs, but for the guest's own error.
pub type JobError = CallError<Infallible>;

/// A job whose types its bundle alone knows.
pub type DynamicJob = Job<Json, Json, Json>;

/// A job of a host: one run of a resumable callable. Cheap to clone.
///
/// It goes on when this is dropped, and when the connection is lost, until its ending is
/// [acknowledged](Job::acknowledge).
///
/// | parameter | what it is |
/// | --- | --- |
/// | `R` | what the callable returns; `()` when it emits items |
/// | `E` | its own error |
/// | `I` | the items; [`Infallible`] when it emits none |
pub struct Job<R, E, I = Infallible> {
    pub(crate) host: Host,
    pub(crate) id: JobId,
    pub(crate) parcel: Parcel,
    pub(crate) decode: Arc<JobDecode<R, E, I>>,
    /// Largest result that is taken, in bytes.
    result_bytes: Option<u64>,
    /// What it was last saved as: blocks that are here need not travel.
    saved: Arc<Mutex<Option<spore_bundle::Bundle>>>,
    /// The item after the last that a watch of this program has brought.
    pub(crate) items_seen: Arc<AtomicU64>,
}

/// A job to be started: await it.
#[must_use = "a job is started when this is awaited"]
pub struct Starting<R, E, I = Infallible> {
    host: Host,
    parcel: Parcel,
    request: Result<Request, JobError>,
    persist: Persist,
    decode: JobDecode<R, E, I>,
}

/// A saved job to go on: await it.
#[must_use = "a job goes on when this is awaited"]
pub struct OpeningJob<R, E, I = Infallible> {
    host: Host,
    bundle: Bundle,
    request: OpenJobRequest,
    decode: Result<JobDecode<R, E, I>, JobError>,
}

/// What is asked of a host that is to go on with a saved job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenJobRequest {
    pub(crate) limits: CallLimits,
    pub(crate) persist: Persist,
    pub(crate) paused: bool,
}

impl<R, E, I> Starting<R, E, I> {
    pub(crate) fn new<T>(host: Host, callee: &T, arguments: &T::Arguments) -> Self
    where
        T: Resumes<Ending = R, Error = E, Item = I>,
        E: fmt::Debug,
    {
        Starting {
            host,
            parcel: callee.parcel(),
            request: Request::new(callee, arguments).map_err(CallError::from),
            persist: Persist::default(),
            decode: callee.decode_job(),
        }
    }

    /// Lowers the host's limits for this job. The wall time holds from one checkpoint to the next.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        if let Ok(request) = &mut self.request {
            request.limits = limits;
        }
        self
    }

    /// Where the guest's random bytes begin; 0 by default. Equal jobs with equal seeds give equal
    /// results on every host, however often they were stopped.
    pub fn seed(mut self, seed: u64) -> Self {
        if let Ok(request) = &mut self.request {
            request.seed = Some(seed);
        }
        self
    }

    /// How often the host makes the running job durable. By default as it is configured.
    pub fn persist(mut self, persist: Persist) -> Self {
        self.persist = persist;
        self
    }

    /// Starts it. Awaiting it does the same.
    async fn start(self) -> Result<Job<R, E, I>, JobError> {
        let request = self.request?;
        let result_bytes = request.limits.result_bytes;
        let started = self.host.start_job(&self.parcel, request, self.persist);
        let id = started.await?;
        Ok(Job {
            result_bytes,
            ..Job::known(self.host, id, self.parcel, self.decode)
        })
    }
}

impl<R, E, I> IntoFuture for Starting<R, E, I>
where
    R: 'static,
    E: 'static,
    I: 'static,
{
    type Output = Result<Job<R, E, I>, JobError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl<R, E, I> OpeningJob<R, E, I> {
    pub(crate) fn new(
        host: Host,
        bundle: Bundle,
        decode: Result<JobDecode<R, E, I>, JobError>,
    ) -> Self {
        OpeningJob {
            host,
            bundle,
            request: OpenJobRequest::default(),
            decode,
        }
    }

    /// As [`Starting::limits`].
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.request.limits = limits;
        self
    }

    /// As [`Starting::persist`].
    pub fn persist(mut self, persist: Persist) -> Self {
        self.request.persist = persist;
        self
    }

    /// Whether the job is to be [resumed](Job::resume) before it goes on. By default it goes on at
    /// once.
    pub fn paused(mut self, paused: bool) -> Self {
        self.request.paused = paused;
        self
    }

    async fn open(self) -> Result<Job<R, E, I>, JobError> {
        let decode = self.decode?;
        let parcel = Parcel::from(self.bundle.inner().clone());
        let id = self.host.open_saved_job(&parcel, self.request).await?;
        Ok(Job {
            result_bytes: self.request.limits.result_bytes,
            // The image is here already.
            saved: Arc::new(Mutex::new(Some(self.bundle.inner().clone()))),
            ..Job::known(self.host, id, parcel, decode)
        })
    }
}

impl<R, E, I> IntoFuture for OpeningJob<R, E, I>
where
    R: 'static,
    E: 'static,
    I: 'static,
{
    type Output = Result<Job<R, E, I>, JobError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl<R, E, I> Job<R, E, I> {
    /// A job that is there, perhaps started by another program of the same user.
    pub(crate) fn known(
        host: Host,
        id: JobId,
        parcel: Parcel,
        decode: JobDecode<R, E, I>,
    ) -> Job<R, E, I> {
        Job {
            host,
            id,
            parcel,
            decode: Arc::new(decode),
            result_bytes: None,
            saved: Arc::default(),
            items_seen: Arc::default(),
        }
    }

    /// The same job on another host.
    pub(crate) fn on(&self, host: Host) -> Job<R, E, I> {
        Job {
            host,
            ..self.clone()
        }
    }

    /// The id, by which any program of the same user finds the job. It stays when the job moves.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What the bundle says of itself that the job was started from.
    pub fn manifest(&self) -> &Manifest {
        self.parcel.manifest()
    }

    /// Whether it emits items.
    pub fn emits_items(&self) -> bool {
        self.decode.streams
    }

    /// How the job is.
    ///
    /// # Errors
    ///
    /// When it is not there, or the host cannot be asked.
    pub async fn info(&self) -> Result<JobInfo, JobError> {
        self.host.job_info(self.id).await
    }

    /// What the job says from now on, its items, and how it ends: await what this returns.
    ///
    /// Any number of watches hear what the guest prints and how far it is. Its items go to the
    /// newest alone, which thereby takes them: the host forgets an item some time after a watch has
    /// brought the next. By default a watch begins after the last item that one of this job has
    /// brought, also when the job has moved or its host was restarted.
    pub fn watch(&self) -> Watching<R, E, I> {
        Watching::new(self.clone())
    }

    /// Waits for the job to end, and gives what it returned. It can be asked for again, until it is
    /// [acknowledged](Self::acknowledge).
    ///
    /// The items of a job that emits them are not taken, and when too many wait the job waits for
    /// them: watch it.
    ///
    /// # Errors
    ///
    /// The guest's own error or failure; [`CallError::JobEnded`] when a limit or a
    /// [cancel](Self::cancel) has ended it; and when the host cannot be asked.
    ///
    /// Cancel-safe: dropping the future leaves the job as it is.
    pub async fn result(&self) -> Result<R, CallError<E>>
    where
        E: fmt::Debug,
    {
        let finished = self.host.job_result(self.id, self.result_bytes);
        let finished = finished.await.map_err(CallError::from_never)?;
        self.decode.ended(finished)
    }

    /// Lets the host forget a job that has ended, with its result and its items.
    ///
    /// # Errors
    ///
    /// When it has not ended, or was forgotten before.
    pub async fn acknowledge(&self) -> Result<(), JobError> {
        self.host.acknowledge_job(self.id).await
    }

    /// Stops the job at its next checkpoint, and returns when it stands still: for at most this
    /// time, and as long as the host is configured for.
    ///
    /// # Errors
    ///
    /// [`NoCheckpoint`](crate::RefusalCode::NoCheckpoint) when it reaches none in time: then it goes
    /// on. Also when it has ended, and when its state cannot be saved.
    ///
    /// Not cancel-safe: whether the job stops is not known when the future is dropped.
    pub async fn pause(&self, within: Duration) -> Result<JobChanged, JobError> {
        self.host.pause_job(self.id, within).await
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn resume(&self) -> Result<JobChanged, JobError> {
        self.host.resume_job(self.id).await
    }

    /// Ends the job, wherever in it the guest is. Then its ending is that it was cancelled, or what
    /// it had come to before.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub async fn cancel(&self) -> Result<JobChanged, JobError> {
        self.host.cancel_job(self.id).await
    }

    /// The job as it is at its next checkpoint: a bundle with an image of the run, which any host
    /// goes on with when it [opens](Host::open_job) it, as a job of its own. This one goes on too,
    /// unless it is paused.
    ///
    /// Of a remote host's image only blocks travel that the last saved one did not have.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn save(&self, within: Duration) -> Result<Bundle, JobError> {
        let last = self.last_saved();
        let saving = self
            .host
            .save_job(self.id, within, &self.parcel, last.as_ref());
        let saved = saving.await?;
        self.set_saved(saved.clone());
        Ok(saved.into())
    }

    /// Moves the job to another host while it runs: it stops here at its next checkpoint, within
    /// this time, and goes on there. Its id stays. Both hosts must serve this user.
    ///
    /// At no time do both run it, whatever breaks. What it is made of is carried by this program, as
    /// much as possible while the job still runs. A step whose answer is lost is asked for again,
    /// for 10 s.
    ///
    /// # Errors
    ///
    /// [`MoveError::NotMoved`] when the job is still here, and goes on. [`MoveError::HalfDone`] when
    /// a host was lost in the middle: [`Host::settle_move`] ends the move one way or the other.
    pub fn move_to(&self, other: &Host, within: Duration) -> Moving<R, E, I> {
        Moving::new(self.clone(), other.clone(), within)
    }

    pub(crate) async fn moved(
        &self,
        other: Host,
        within: Duration,
        told: &mut Told,
    ) -> Result<Job<R, E, I>, MoveError> {
        let last = self.last_saved();
        let moving = self.host.move_job(self, &other, within, last, told);
        let saved = moving.await?;
        let moved = self.on(other);
        moved.set_saved(saved);
        Ok(moved)
    }

    /// Says that this program has a bundle as which it was saved before: what both have in common need
    /// not travel when it is saved or moves.
    pub fn knows(&self, saved: &crate::Bundle) {
        self.set_saved(saved.inner().clone());
    }

    fn last_saved(&self) -> Option<spore_bundle::Bundle> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        saved.clone()
    }

    fn set_saved(&self, bundle: spore_bundle::Bundle) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        *saved = Some(bundle);
    }
}

impl<R, E: fmt::Debug, I> JobDecode<R, E, I> {
    /// What the job returned.
    pub(crate) fn ended(&self, finished: Finished) -> Result<R, CallError<E>> {
        match finished.outcome {
            Outcome::Refused(refused) => Err(CallError::JobEnded(refused)),
            outcome => outcome.decoded(&self.value, &self.error),
        }
    }
}

impl<R, E, I> Clone for Job<R, E, I> {
    fn clone(&self) -> Self {
        Job {
            host: self.host.clone(),
            id: self.id,
            parcel: self.parcel.clone(),
            decode: self.decode.clone(),
            result_bytes: self.result_bytes,
            saved: self.saved.clone(),
            items_seen: self.items_seen.clone(),
        }
    }
}

impl<R, E, I> fmt::Debug for Job<R, E, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("host", &self.host)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiled alone: what a program spawns must be able to go to another thread.
    #[allow(dead_code, reason = "that it compiles is the test")]
    fn futures_can_be_spawned(job: Job<Json, Json, Json>, other: Host) {
        fn spawned<T: Send>(_: T) {}
        spawned(job.move_to(&other, Duration::ZERO).into_future());
        spawned(job.save(Duration::ZERO));
        spawned(job.result());
        spawned(job.watch().into_future());
        spawned(other.settle_move(job.id(), &other));
        spawned(other.job(job.id()));
        spawned(other.adopt_job(job.id()));
    }
}
