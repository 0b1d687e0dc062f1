//! Sessions and jobs after a restart, as they were kept.

use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use spore_store::OpenError;
use spore_transport::job::custody::Event;
use spore_transport::job::{Custody, JobId};
use spore_transport::message::{Refused, Timing};
use spore_transport::{PublicKey, SessionId};

use super::{Host, Inner, jobs};
use crate::callers::Caller;
use crate::code::chain;
use crate::damaged::{Damage, Damaged};
use crate::job::{Begin, Job, JobRequest, Phase, Revived};
use crate::keep::{Keep, KeepError, SessionPlace};
use crate::session::Charged;

impl Host {
    /// Keeps sessions and jobs in this folder from now on.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn keep_in(&self, folder: &Path, bytes_max: u64) -> Result<(), OpenError> {
        let background = self.inner.background.runtime.clone();
        let keep = Keep::open(folder, bytes_max, background)?;
        let _ = self.inner.keep.set(keep);
        Ok(())
    }

    /// Takes up what was kept of the program that embeds this host.
    pub async fn revive_own(&self) {
        let own = self.embedding_caller();
        self.sweep().await;
        self.revive(|key| (key.0 == own.state.id).then(|| own.clone()))
            .await;
    }

    /// Takes up what was kept of those whom `caller` knows: sessions rest, and jobs that ran run on.
    /// What cannot be read is told to its owner. What belongs to others stays where it is.
    pub(crate) async fn revive(&self, caller: impl Fn(&PublicKey) -> Option<Caller>) {
        let Some(keep) = self.inner.keep.get().cloned() else {
            return;
        };
        // One after the other: what is read must be what is there when it is taken up.
        let _turn = self.inner.reviving.lock().await;
        let listed = keep
            .beside(|keep| Ok((keep.sessions()?, keep.jobs()?)))
            .await;
        self.inner
            .unlisted
            .store(listed.is_err(), Ordering::Relaxed);
        let (sessions, kept) = match listed {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = chain(&error), "sessions and jobs cannot be read");
                return;
            }
        };
        for (owner, id) in sessions {
            let Some(caller) = caller(&PublicKey(owner)) else {
                continue;
            };
            let (id, sessions) = (SessionId(id), &self.inner.sessions);
            if sessions.has(id) {
                continue;
            }
            match self.revive_session(&keep, &caller, id).await {
                Ok(()) => sessions.damaged.forget(owner, id),
                // Another has taken it up meanwhile.
                Err(_) if sessions.has(id) => {}
                Err(damage) => {
                    let place = keep.beside(move |keep| keep.session_place(owner, id.0));
                    match damage.at(place.await) {
                        Some(damage) => {
                            let why = &damage.why;
                            tracing::error!(session = %id, %why, "a session is not taken up");
                            sessions.damaged.put(owner, id, damage);
                        }
                        None => sessions.damaged.forget(owner, id),
                    }
                }
            }
        }
        for (owner, id) in kept {
            let Some(caller) = caller(&PublicKey(owner)) else {
                continue;
            };
            let (id, jobs) = (JobId(id), &self.inner.jobs);
            if jobs.has(owner, id) {
                continue;
            }
            match self.revive_job(&keep, &caller, id).await {
                Ok(()) => jobs.damaged.forget(owner, id),
                Err(_) if jobs.has(owner, id) => {}
                Err(damage) => {
                    let custody = keep.beside(move |keep| keep.job_custody(owner, id.0));
                    match damage.at(custody.await) {
                        Some(damage) => {
                            let why = &damage.why;
                            tracing::error!(job = %id, %why, "a job is not taken up");
                            jobs.damaged.put(owner, id, damage);
                        }
                        None => jobs.damaged.forget(owner, id),
                    }
                }
            }
        }
    }

    /// Whether something of this key's is on the disk that may be taken up another time.
    pub(crate) fn has_passing(&self, key: &PublicKey) -> bool {
        let Inner { sessions, jobs, .. } = &*self.inner;
        self.inner.unlisted.load(Ordering::Relaxed)
            || sessions.damaged.has_passing(key.0)
            || jobs.damaged.has_passing(key.0)
    }

    /// Removes something of an owner's from the disk that was not taken up, if it `may` go as it is
    /// by then: it may have been taken up after all.
    pub(super) async fn remove_damaged<I: Copy + Eq + Hash + Send + 'static, P: Clone + 'static>(
        &self,
        (owner, id): ([u8; 32], I),
        of: fn(&Inner) -> &Damaged<I, P>,
        may: impl Fn(Option<Damage<P>>) -> Result<(), Refused> + Send + 'static,
        remove: impl FnOnce(&Keep) -> Result<(), KeepError> + Send + 'static,
    ) -> Result<(), Refused> {
        may(of(&self.inner).get(owner, id))?;
        let host = self.clone();
        self.to_the_end(async move {
            let _turn = host.inner.reviving.lock().await;
            may(of(&host.inner).get(owner, id))?;
            if let Some(keep) = host.inner.keep.get() {
                let removed = keep.beside(remove).await;
                removed.map_err(|error| error.refusal())?;
            }
            of(&host.inner).forget(owner, id);
            Ok(())
        })
        .await
    }

    /// Removes from the disk what an end at a bad moment left. Nothing may be written meanwhile.
    pub(crate) async fn sweep(&self) {
        if let Some(keep) = self.inner.keep.get()
            && let Err(error) = keep.beside(Keep::sweep).await
        {
            tracing::error!(error = chain(&error), "the store of sessions and jobs");
        }
    }

    async fn revive_session(
        &self,
        keep: &Keep,
        caller: &Caller,
        id: SessionId,
    ) -> Result<(), Damage<SessionPlace>> {
        let owner = caller.state.id;
        let read = keep.beside(move |keep| keep.session(owner, id.0)).await;
        let (record, bundle, image) = read.map_err(|error| Damage::unreadable(&error))?;
        let revived = self.resume_session(caller, id, &bundle, image, &record);
        revived.await.map_err(Damage::passing)
    }

    async fn revive_job(
        &self,
        keep: &Keep,
        caller: &Caller,
        id: JobId,
    ) -> Result<(), Damage<Custody>> {
        let key = caller.state.clone();
        let read = keep
            .beside(move |keep| Revived::read(keep, &key, id.0))
            .await;
        let Revived {
            kept,
            bundle,
            arguments,
            image,
            items,
            ended,
        } = read.map_err(|error| Damage::unreadable(&error))?;
        let request = JobRequest {
            callable: kept.callable,
            arguments,
            limits: kept.asked,
            seed: kept.seed,
            persist: kept.persist,
            timing: Timing::default(),
        };
        let lapsed = Custody::after(id, Some(kept.custody), &Event::Lapse);
        let Ok(Some(custody)) = lapsed else {
            return Err(Damage::unreadable(&KeepError::Missing("its place")));
        };
        // A job that was lost while it ran, and was not to be persisted, has no image: it begins
        // again, and takes the same steps.
        let image = match image {
            Some(image) => Some(Charged::take(&caller.state, image).map_err(Damage::passing)?),
            None => None,
        };
        let begin = Begin {
            id,
            custody,
            image_kept: image.is_some(),
            image,
            items,
            paused: kept.paused,
            age: Duration::from_millis(kept.age_ms),
            stops: kept.stops,
            progress: (kept.done, kept.total),
        };
        let job = match ended {
            None => {
                let image = begin.image.as_ref().map(|it| it.image.clone());
                let terms = self.terms(caller, &bundle, image.as_ref(), &request);
                let terms = terms.map_err(Damage::passing)?;
                // Its initialiser may wait for a place that others have, which nobody here may.
                let job = self.uninitialised_job(caller, terms, begin).await;
                job.map_err(Damage::passing)?
            }
            Some(ended) => {
                // It needs no code any more, and nothing of what is granted.
                let terms = self.terms_with(caller, &bundle, &request, Arc::new([]));
                let (key, keep) = (caller.state.clone(), Some(keep.clone()));
                let job = Job::new(key, terms, None, keep, begin);
                let job = job.map_err(Damage::passing)?;
                job.now().end_as(ended, &caller.state);
                job
            }
        };
        let job = Arc::new(job);
        let put = self.inner.jobs.put(&job, u32::MAX);
        put.map_err(Damage::passing)?;
        jobs::run(&self.inner, &job);
        Ok(())
    }

    /// Has every job stand still at its next checkpoint, and written down, within this time.
    pub(crate) async fn halt_jobs(&self, within: Duration) {
        let mut halts = tokio::task::JoinSet::new();
        for job in self.inner.jobs.every() {
            halts.spawn_on(
                async move {
                    if let Err(refused) = job.halt(within).await {
                        tracing::info!(job = %job.id, %refused, "did not stand still");
                    }
                },
                &self.inner.background.runtime,
            );
        }
        while halts.join_next().await.is_some() {}
    }

    /// Has jobs stand still whose owners may not use the host now, or not what the jobs see of it, and
    /// others go on.
    pub(crate) fn halt_jobs_but(&self, caller: impl Fn(&PublicKey) -> Option<Caller>) {
        if self.refuses_new_calls() {
            // All of them do, for good.
            return;
        }
        for job in self.inner.jobs.every() {
            let grants = &self.inner.grants;
            let halt = match caller(&PublicKey(job.key.id)) {
                None => Some("its key may not use the host".to_owned()),
                Some(caller) => {
                    let given = grants.check(&job.terms.directories, &caller.allowed);
                    given
                        .err()
                        .map(|why| format!("a directory that it sees: {why}"))
                }
            };
            {
                let mut now = job.now();
                let ended = matches!(now.phase, Phase::Ended(_));
                if ended || now.halt == halt || now.halted_for_good {
                    continue;
                }
                now.halt = halt;
                job.tell_run(&now);
            }
            job.changed();
        }
    }
}
