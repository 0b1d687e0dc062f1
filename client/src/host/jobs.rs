//! Streams and jobs of a host.

use std::time::Duration;

use spore_guest::Handle;
use spore_transport::job::{JobChanged, JobInfo, JobWatched, Persist};
use spore_transport::message::Refused;
use spore_transport::{JobId, RefusalCode};
use spore_value::Value;
use tokio::time::Instant;

use super::{Host, Kind, available};
use crate::bundle::Bundle;
use crate::call::{Broken, Finished, Request, Sink};
use crate::callable::{Dynamic, JobDecode, JobKind, Json, Parcel, Resumes, Streams, index_of};
use crate::error::CallError;
use crate::feed::Feed;
use crate::job::{DynamicJob, Job, JobError, OpenJobRequest, OpeningJob, Starting};
use crate::moving::{MoveError, Settled, Told};
use crate::session::bundle_id;
use crate::stream::StreamCall;

impl Host {
    /// A call of a callable that emits items, in a fresh instance: await what this returns.
    ///
    /// ```no_run
    /// # async fn example(host: spore_client::Host, primes: spore_client::Dynamic)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// let mut items = host.stream(&primes, serde_json::json!([1_000_000])).await?;
    /// while let Some(item) = items.next().await {
    ///     println!("{}", item?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream<T: Streams>(
        &self,
        callable: &T,
        arguments: T::Arguments,
    ) -> StreamCall<T::Output, T::Error> {
        StreamCall::new(self.clone(), callable, &arguments)
    }

    /// A run of a resumable callable as a job: await what this returns.
    ///
    /// If the connection is lost just then, the job may have been started all the same: it is among
    /// the [jobs](Self::jobs) then.
    ///
    /// ```no_run
    /// # async fn example(board: spore_client::Host, tower: spore_client::Host,
    /// #     anneal: spore_client::Dynamic) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let job = board.start(&anneal, serde_json::json!([200])).await?;
    /// let job = job.move_to(&tower, Duration::from_secs(10)).await?; // while it runs
    /// println!("{}", job.result().await?);
    /// job.acknowledge().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start<T: Resumes>(
        &self,
        callable: &T,
        arguments: T::Arguments,
    ) -> Starting<T::Ending, T::Error, T::Item> {
        Starting::new(self.clone(), callable, &arguments)
    }

    /// The job of this id that this user has started before. Its values are JSON.
    ///
    /// # Errors
    ///
    /// When there is none, it cannot be taken up from the host's disk, or the host cannot be asked.
    pub async fn job(&self, id: JobId) -> Result<DynamicJob, JobError> {
        let info = self.job_info(id).await?;
        available(info.unavailable, &info.why)?;
        let parcel = self.job_parcel(&info).await?;
        let callables = &parcel.manifest().callables;
        // The host has cut a name that is too long for its list.
        let exact = callables.iter().position(|it| it.name == info.callable);
        let index = exact.or_else(|| {
            let cut = |name: &str| name.starts_with(&info.callable);
            callables.iter().position(|it| cut(&it.name))
        });
        let Some(index) = index else {
            let what = format!("the host names {}", info.callable);
            let refused = Refused::new(RefusalCode::UnknownCallable, what);
            return Err(CallError::Refused(refused));
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let decode = Dynamic::new(parcel.clone(), index).decode_job();
        Ok(Job::known(self.clone(), id, parcel, decode))
    }

    /// The same, of the callable of this handle.
    ///
    /// # Errors
    ///
    /// As [`job`](Self::job); and [`CallError::Find`] when it is a job of another callable, or of
    /// one with other types.
    pub async fn job_of<C, A, R, E, K>(
        &self,
        handle: Handle<C, A, R, E, K>,
        id: JobId,
    ) -> Result<Job<K::Ending<R>, E, K::Item<R>>, JobError>
    where
        R: Value + 'static,
        E: Value + 'static,
        K: JobKind,
    {
        let info = self.job_info(id).await?;
        let parcel = self.job_parcel(&info).await?;
        let index = index_of(&handle, parcel.manifest())?;
        let name = &parcel.manifest().callables[index as usize].name;
        if !name.starts_with(&info.callable) {
            let what = format!("the job is one of {}", info.callable);
            let refused = Refused::new(RefusalCode::UnknownCallable, what);
            return Err(CallError::Refused(refused));
        }
        Ok(Job::known(self.clone(), id, parcel, K::decode()))
    }

    /// A job that goes on where a [saved](Job::save) one stood: await what this returns. Its values
    /// are JSON.
    pub fn open_job(&self, bundle: &Bundle) -> OpeningJob<Json, Json, Json> {
        let decode = run_of(bundle).map(|index| {
            let parcel = Parcel::from(bundle.inner().clone());
            Dynamic::new(parcel, index).decode_job()
        });
        OpeningJob::new(self.clone(), bundle.clone(), decode)
    }

    /// The same, of the callable of this handle.
    pub fn open_job_of<C, A, R, E, K>(
        &self,
        handle: Handle<C, A, R, E, K>,
        bundle: &Bundle,
    ) -> OpeningJob<K::Ending<R>, E, K::Item<R>>
    where
        R: Value + 'static,
        E: Value + 'static,
        K: JobKind,
    {
        let decode = typed_run_of(&handle, bundle);
        OpeningJob::new(self.clone(), bundle.clone(), decode)
    }

    /// The jobs that this user has, also those that have ended and are not acknowledged.
    ///
    /// # Errors
    ///
    /// When the host cannot be asked.
    pub async fn jobs(&self) -> Result<Vec<JobInfo>, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.jobs().await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => Ok(embedded.jobs()),
        }
    }

    /// Ends a move of a job from here to `other` that was left half done, one way or the other, by
    /// what the two hosts have of it. Says which of them has the job now.
    ///
    /// # Errors
    ///
    /// When one of the hosts cannot be asked, or what they say does not tell.
    ///
    /// Cancel-safe: ask again.
    pub async fn settle_move(&self, id: JobId, other: &Host) -> Result<Settled, MoveError> {
        let [source, target] = [self.movable()?, other.movable()?];
        source.settle(target, id).await
    }

    /// Has this host run a job of which it has a copy, whatever another host does with it.
    ///
    /// Only for a job of a move that cannot be [settled](Self::settle_move), because the other host
    /// never comes back. If it does come back, both run the job.
    ///
    /// # Errors
    ///
    /// When the host has no whole copy of the job, or cannot be asked.
    pub async fn adopt_job(&self, id: JobId) -> Result<(), MoveError> {
        self.movable()?.adopt(id).await
    }

    /// Where jobs can move from and to.
    fn movable(&self) -> Result<&crate::remote::Remote, MoveError> {
        match &self.kind {
            Kind::Remote(remote) => Ok(remote),
            #[cfg(feature = "embedded")]
            Kind::Embedded(_) => Err(MoveError::Embedded),
        }
    }

    pub(crate) async fn move_job<R, E, I>(
        &self,
        job: &Job<R, E, I>,
        other: &Host,
        within: Duration,
        last: Option<spore_bundle::Bundle>,
        told: &mut Told,
    ) -> Result<spore_bundle::Bundle, MoveError> {
        let [source, target] = [self.movable()?, other.movable()?];
        source
            .move_job(target, job.id, &job.parcel, within, last, told)
            .await
    }

    pub(crate) async fn items(
        &self,
        parcel: Parcel,
        request: Request,
        sink: Sink,
        deadline: Option<Instant>,
    ) -> Result<Feed, Broken> {
        if request.session.is_none() {
            let admitted = request.limits.admit(&parcel);
            admitted.map_err(Broken::Refused)?;
        }
        match &self.kind {
            Kind::Remote(remote) => remote.items(parcel, request, sink, deadline).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => Ok(embedded.clone().items(parcel, request, sink, deadline)),
        }
    }

    pub(crate) async fn job_info(&self, id: JobId) -> Result<JobInfo, JobError> {
        let jobs = self.jobs().await?;
        let found = jobs.into_iter().find(|job| job.job == id);
        let unknown = || Refused::new(RefusalCode::UnknownJob, id.to_string());
        found.ok_or_else(|| CallError::Refused(unknown()))
    }

    /// What this program needs to know of the bundle that a job was started from.
    async fn job_parcel(&self, info: &JobInfo) -> Result<Parcel, JobError> {
        match &self.kind {
            Kind::Remote(remote) => Ok(remote.shipped(bundle_id(info.bundle)).await?.parcel),
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.job_parcel(info.job),
        }
    }

    pub(crate) async fn start_job(
        &self,
        parcel: &Parcel,
        request: Request,
        persist: Persist,
    ) -> Result<JobId, JobError> {
        let admitted = request.limits.admit(parcel);
        admitted.map_err(CallError::Refused)?;
        match &self.kind {
            Kind::Remote(remote) => remote.start_job(parcel, request, persist).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.start_job(parcel, request, persist).await,
        }
    }

    pub(crate) async fn open_saved_job(
        &self,
        parcel: &Parcel,
        request: OpenJobRequest,
    ) -> Result<JobId, JobError> {
        let admitted = request.limits.admit(parcel);
        admitted.map_err(CallError::Refused)?;
        match &self.kind {
            Kind::Remote(remote) => remote.open_job(parcel, request).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.open_job(parcel, request).await,
        }
    }

    /// Watches a job. With items, from the given one or the first that is there.
    pub(crate) async fn watch_job(
        &self,
        id: JobId,
        items: Option<Option<u64>>,
    ) -> Result<(JobWatched, Feed), JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.watch_job(id, items).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.watch_job(id, items),
        }
    }

    pub(crate) async fn job_result(
        &self,
        id: JobId,
        result_bytes: Option<u64>,
    ) -> Result<Finished, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.job_result(id, result_bytes).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.job_result(id).await,
        }
    }

    /// Has the host forget a job that has ended, as [`Job::acknowledge`] does: also one that cannot be
    /// read from its disk.
    ///
    /// # Errors
    ///
    /// When there is none, it has not ended, or the host cannot be asked.
    pub async fn acknowledge_job(&self, id: JobId) -> Result<(), JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.acknowledge_job(id).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.acknowledge_job(id).await,
        }
    }

    pub(crate) async fn pause_job(
        &self,
        id: JobId,
        within: Duration,
    ) -> Result<JobChanged, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.pause_job(id, within).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.pause_job(id, within).await,
        }
    }

    pub(crate) async fn resume_job(&self, id: JobId) -> Result<JobChanged, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.resume_job(id).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.resume_job(id).await,
        }
    }

    pub(crate) async fn cancel_job(&self, id: JobId) -> Result<JobChanged, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.cancel_job(id).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.cancel_job(id).await,
        }
    }

    pub(crate) async fn save_job(
        &self,
        id: JobId,
        within: Duration,
        parcel: &Parcel,
        last: Option<&spore_bundle::Bundle>,
    ) -> Result<spore_bundle::Bundle, JobError> {
        match &self.kind {
            Kind::Remote(remote) => remote.save_job(id, within, parcel, last).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.save_job(id, within).await,
        }
    }
}

/// The index of the callable whose run a bundle holds.
fn run_of(bundle: &Bundle) -> Result<u32, JobError> {
    let run = bundle.inner().image().and_then(|image| image.index().run);
    run.map(|run| run.callable).ok_or_else(|| {
        let what = "the bundle holds no run";
        CallError::Refused(Refused::new(RefusalCode::NoImage, what))
    })
}

#[allow(
    clippy::type_complexity,
    reason = "the types are those of the callable"
)]
fn typed_run_of<C, A, R, E, K>(
    handle: &Handle<C, A, R, E, K>,
    bundle: &Bundle,
) -> Result<JobDecode<K::Ending<R>, E, K::Item<R>>, JobError>
where
    R: Value + 'static,
    E: Value + 'static,
    K: JobKind,
{
    let index = run_of(bundle)?;
    let manifest = bundle.inner().manifest();
    if index_of(handle, manifest)? != index {
        let name = &manifest.callables[index as usize].name;
        let what = format!("the bundle holds a run of {name}");
        let refused = Refused::new(RefusalCode::UnknownCallable, what);
        return Err(CallError::Refused(refused));
    }
    Ok(K::decode())
}
