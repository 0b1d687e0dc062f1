//! Sessions of a host.

use std::sync::Arc;
use std::time::Duration;

use spore_bundle::{Bundle, BundleId, Image};
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::session::{Origin, SessionInfo};
use spore_transport::{RefusalCode, SessionId};

use super::{Host, Inner};
use crate::callers::Caller;
use crate::code::chain;
use crate::events::{Events, Running};
use crate::keep::SessionRecord;
use crate::limits::{RunLimits, nanos};
use crate::session::{
    self, Close, Opened, Saved, Session, SessionRequest, SessionWork, Task, Turn,
};
use crate::work::Ticket;

/// As what a session is written down.
#[derive(Clone, Copy)]
enum Write {
    /// Held or not, as it is then.
    AsItIs,
    /// Not held from then on.
    TakenOver,
}

impl Host {
    /// Opens a session of a bundle. It is there once the outcome is a value, which is empty. One that
    /// comes `from` another host is held until it is [taken over](Self::take_over_session).
    ///
    /// # Errors
    ///
    /// Refuses a bundle whose instances have no image, and one session too many.
    ///
    /// Cancel-safe: dropped before it returns, nothing was opened.
    pub async fn open_session(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        limits: &CallLimits,
        idle: Option<Duration>,
        from: Option<Origin>,
        timing: Timing,
    ) -> Result<(SessionId, Running), Refused> {
        let inner = &self.inner;
        self.check_open()?;
        if from.is_some() && bundle.image().is_none() {
            // Something of it would run, and what arrives is held.
            let what = "a session arrives as an image";
            return Err(Refused::new(RefusalCode::NoImage, what));
        }
        let (loaded, compile) = self.load_plain(caller, bundle).await?;
        let asked = *limits;
        let limits = caller.limits.for_call(&asked);
        session::check(bundle, &loaded, limits.memory)?;
        let initial = self.initial(caller, bundle, &loaded).await?;
        let ticket = Ticket::queue(&inner.counters, inner.limits.queue, caller)?;
        let opened = Opened {
            // One copy for all sessions of it.
            bundle: loaded.bundle().clone(),
            loaded,
            limits,
            asked,
            idle: inner.limits.session_idle.min(idle.unwrap_or(Duration::MAX)),
            idle_asked: idle,
            directories: inner.grants.of_session(
                bundle.manifest(),
                &caller.allowed,
                bundle.image(),
            )?,
            open_files: inner.limits.open_files,
            held: from,
            refused: Vec::new(),
        };
        let session = Arc::new(Session::new(caller, opened)?);
        // Before anybody else can have one.
        let turn = session.turn();
        inner.sessions.put(caller, &session)?;
        let timing = Timing {
            compile_ns: nanos(compile),
            ..timing
        };
        let task = Task::Open { initial };
        let events = self.work_in(turn, task, limits, ticket, timing);
        Ok((session.id, Running::new(events, self.clone())))
    }

    /// Calls a callable in a session. What is wrong with the request comes as its outcome.
    pub fn call_session(&self, caller: &Caller, id: SessionId, request: SessionRequest) -> Running {
        match self.session_place(caller, id) {
            Ok(place) => self.call_in_place(caller, place, request),
            Err(why) => self.refused(why),
        }
    }

    /// A place in line at a session of the caller's.
    pub(crate) fn session_place(&self, caller: &Caller, id: SessionId) -> Result<Turn, Refused> {
        Ok(self.inner.sessions.find(caller, id)?.turn())
    }

    /// Calls a callable in a session when it is the turn of this place.
    pub(crate) fn call_in_place(
        &self,
        caller: &Caller,
        place: Turn,
        request: SessionRequest,
    ) -> Running {
        match self.admit_session(caller, place, request) {
            Ok(events) => Running::new(events, self.clone()),
            Err(why) => self.refused(why),
        }
    }

    fn admit_session(
        &self,
        caller: &Caller,
        place: Turn,
        request: SessionRequest,
    ) -> Result<Arc<Events>, Refused> {
        let inner = &self.inner;
        self.check_open()?;
        let session = place.session();
        session.check_not_held()?;
        let index = request.callable;
        let manifest = session.bundle().manifest();
        let Some(callable) = manifest.callables.get(index as usize) else {
            let what = format!("index {index}");
            return Err(Refused::new(RefusalCode::UnknownCallable, what));
        };
        if callable.streams && !request.items {
            let what = callable.name.clone();
            return Err(Refused::new(RefusalCode::EmitsItems, what));
        }
        if !callable.signature.captures.is_empty() && !session.has_captures_of(index) {
            let what = format!("{} has captures, and none are bound to it", callable.name);
            return Err(Refused::new(RefusalCode::WrongCaptures, what));
        }
        self.check_arguments(&request.arguments)?;
        // Any callable sees what was granted when the session was opened.
        let (seen, allowed) = (session.directories(), &caller.allowed);
        inner.grants.check_seen(callable, seen, allowed)?;
        inner.grants.check(seen, allowed)?;
        let ticket = Ticket::queue(&inner.counters, inner.limits.queue, caller)?;
        let limits = caller.limits.for_call(&request.limits);
        let task = Task::Call {
            callable: index,
            arguments: request.arguments,
            seed: request.seed.unwrap_or_else(session::new_seed),
        };
        Ok(self.work_in(place, task, limits, ticket, request.timing))
    }

    fn work_in(
        &self,
        place: Turn,
        task: Task,
        limits: RunLimits,
        ticket: Ticket,
        timing: Timing,
    ) -> Arc<Events> {
        let events = Events::new();
        let turn = place.session().key.turn();
        let work = SessionWork {
            turn: place,
            means: self.inner.means(),
            task,
            limits,
            events: events.clone(),
            ticket,
            timing,
        };
        self.inner.scheduler.spawn(turn, work.run());
        events
    }

    /// Takes an image of a session, between the calls that were made before and those after.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's, or its state cannot be saved.
    pub async fn save_session(&self, caller: &Caller, id: SessionId) -> Result<Saved, Refused> {
        let session = self.inner.sessions.find(caller, id)?;
        self.write_session(session.turn(), Write::AsItIs).await
    }

    /// Lets a session that is held be called: it was given up where it comes from, durably. So is
    /// what this notes.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's, or it cannot be written down.
    pub async fn take_over_session(&self, caller: &Caller, id: SessionId) -> Result<(), Refused> {
        let session = self.inner.sessions.find(caller, id)?;
        if session.held().is_some() {
            self.write_session(session.turn(), Write::TakenOver).await?;
        }
        Ok(())
    }

    async fn write_session(&self, turn: Turn, how: Write) -> Result<Saved, Refused> {
        // Whatever becomes of who asked: what was seen in this order is written in this order.
        let host = self.clone();
        self.to_the_end(async move { host.save_in_turn(turn, how).await })
            .await
    }

    async fn save_in_turn(&self, turn: Turn, how: Write) -> Result<Saved, Refused> {
        let session = turn.session();
        let session::ToWrite {
            saved,
            number,
            as_saved,
            disk,
            busy,
        } = self
            .on_worker(session.key.turn(), session::save(turn))
            .await??;
        let held = match how {
            Write::AsItIs => session.held(),
            Write::TakenOver => None,
        };
        if let Some(keep) = self.inner.keep.get() {
            let record = session.record(held);
            let (owner, id, bundle) = (session.key.id, session.id, session.bundle().clone());
            let turn_of_key = session.key.keeping.lock().await;
            let image = saved.bundle.image().cloned();
            let kept = keep.beside(move |keep| match image {
                Some(image) => keep.save_session(owner, id.0, &record, &bundle, &image),
                None => Ok(()),
            });
            if let Err(error) = kept.await {
                drop((turn_of_key, disk, busy));
                let unsave = session::unsave(session.turn(), number, as_saved);
                self.on_worker(session.key.turn(), unsave).await?;
                return Err(error.refusal());
            }
        }
        session.note_written(as_saved, held);
        drop(busy);
        Ok(saved)
    }

    /// Gives a session up to the copy of it that another host holds, if its state is still that of
    /// this saved bundle. Nothing runs in it from then on, also after a restart. Asked again for the
    /// same, it has the same outcome.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's, its state has changed, it is held itself, it was
    /// given up to another, or it cannot be written down. In the last case nothing runs in it until it
    /// is asked for again, or the host restarts.
    pub async fn give_up_session(
        &self,
        caller: &Caller,
        id: SessionId,
        expected: BundleId,
        to: Origin,
    ) -> Result<(), Refused> {
        let session = self.inner.sessions.find(caller, id)?;
        let (host, turn) = (self.clone(), session.turn());
        self.to_the_end(async move {
            let giving = session::give_up(turn, expected, to);
            let session::Giving {
                outcome,
                record,
                disk: _disk,
            } = host.on_worker(session.key.turn(), giving).await??;
            if let Some(keep) = host.inner.keep.get() {
                let owner = session.key.id;
                let noted = keep.beside(move |keep| keep.note_session(owner, id.0, &record));
                noted.await.map_err(|error| error.refusal())?;
            }
            outcome
        })
        .await
    }

    /// Takes up a session that was kept: it rests as its image, or was given up and has none.
    pub(super) async fn resume_session(
        &self,
        caller: &Caller,
        id: SessionId,
        bundle: &Bundle,
        image: Option<Image>,
        record: &SessionRecord,
    ) -> Result<(), Refused> {
        let (asked, idle, held) = record.terms();
        let gave_up = record.gave_up();
        let (loaded, _) = self.load_plain(caller, bundle).await?;
        let limits = caller.limits.for_call(&asked);
        let directories = match gave_up {
            // Nothing runs in it, and it is to be there whatever the host allows by now.
            Some(_) => Arc::new([]),
            None => {
                session::check(bundle, &loaded, limits.memory)?;
                let grants = &self.inner.grants;
                grants.of_session(bundle.manifest(), &caller.allowed, image.as_ref())?
            }
        };
        let opened = Opened {
            // One copy for all sessions of it.
            bundle: loaded.bundle().clone(),
            loaded,
            limits,
            asked,
            idle: self
                .inner
                .limits
                .session_idle
                .min(idle.unwrap_or(Duration::MAX)),
            idle_asked: idle,
            directories,
            open_files: self.inner.limits.open_files,
            held,
            refused: record.refused(),
        };
        let session = match (image, gave_up) {
            (Some(image), None) => Session::resting(caller, id, opened, image)?,
            (_, Some(gave_up)) => Session::gone(caller, id, opened, gave_up)?,
            (None, None) => {
                let what = "its image is missing";
                return Err(Refused::new(RefusalCode::StoreDamaged, what));
            }
        };
        self.inner.sessions.put(caller, &Arc::new(session))
    }

    /// Puts a session back to what it was last saved as.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's, or it was never saved.
    pub async fn restore_session(&self, caller: &Caller, id: SessionId) -> Result<(), Refused> {
        let session = self.inner.sessions.find(caller, id)?;
        self.on_worker(session.key.turn(), session::restore(session.turn()))
            .await?
    }

    /// Ends a session; with `expected`, only if its state is still that of this saved bundle.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's, or its state has changed.
    pub async fn close_session(
        &self,
        caller: &Caller,
        id: SessionId,
        expected: Option<BundleId>,
    ) -> Result<(), Refused> {
        let session = match self.inner.sessions.find(caller, id) {
            Ok(session) => session,
            // Whether it is what is expected cannot be told.
            Err(why) if expected.is_some() => return Err(why),
            Err(why) => return self.close_damaged(caller, id, why).await,
        };
        let (host, turn) = (self.clone(), session.turn());
        let when = expected.map_or(Close::Always, Close::Unchanged);
        self.to_the_end(async move {
            let closing = session::close(turn, when);
            let _disk = host.on_worker(session.key.turn(), closing).await??;
            // From the disk first: one that is not known any more must not come back.
            if let Some(keep) = host.inner.keep.get() {
                let owner = session.key.id;
                let removed = keep.beside(move |keep| keep.remove_session(owner, id.0));
                removed.await.map_err(|error| error.refusal())?;
            }
            host.inner.sessions.remove(id);
            Ok(())
        })
        .await
    }

    /// Removes a session from the disk that cannot be read. Where there is none such: `why`.
    async fn close_damaged(
        &self,
        caller: &Caller,
        id: SessionId,
        why: Refused,
    ) -> Result<(), Refused> {
        let owner = caller.state.id;
        self.remove_damaged(
            (owner, id),
            |inner| &inner.sessions.damaged,
            move |damage| damage.map(|_| ()).ok_or(why.clone()),
            move |keep| keep.remove_session(owner, id.0),
        )
        .await
    }

    /// The caller's sessions, also those on the disk that cannot be read.
    pub fn sessions(&self, caller: &Caller) -> Vec<SessionInfo> {
        let sessions = self.inner.sessions.of(caller);
        // One that arrives is there once it is on the disk: what is given up to it is nowhere else.
        let there = sessions.iter().filter(|session| !session.is_arriving());
        let readable = there.map(|session| session.info());
        readable
            .chain(self.inner.sessions.unreadable(caller))
            .collect()
    }

    /// What the caller's sessions were last saved as.
    pub(crate) fn saved_sessions(&self, caller: &Caller) -> Vec<Bundle> {
        let sessions = self.inner.sessions.of(caller);
        sessions.iter().filter_map(|it| it.saved()).collect()
    }

    /// Drops a session that did not come about: whose outcome was no value.
    pub fn forget_session(&self, id: SessionId) {
        self.inner.sessions.remove(id);
    }

    /// The bundle that a session of the caller's was opened from.
    ///
    /// # Errors
    ///
    /// When there is no such session of the caller's.
    pub fn session_bundle(&self, caller: &Caller, id: SessionId) -> Result<Bundle, Refused> {
        let session = self.inner.sessions.find(caller, id)?;
        Ok(session.bundle().clone())
    }
}

/// Ends a session that nobody has used for as long as it may wait.
pub(super) fn close_unused(inner: &Arc<Inner>, session: &Arc<Session>) {
    let closing = session::close(session.turn(), Close::Unused);
    let (owner, id) = (session.key.id, session.id);
    // Nothing that runs on a worker may be the last to have the host.
    let (sessions, keep) = (inner.sessions.clone(), inner.keep.get().cloned());
    inner.scheduler.spawn(session.key.turn(), async move {
        // It may have been used or closed meanwhile.
        let Ok(_disk) = closing.await else { return };
        if let Some(keep) = keep {
            let removed = keep.beside(move |keep| keep.remove_session(owner, id.0));
            if let Err(error) = removed.await {
                // It is tried anew, since nobody uses it.
                tracing::error!(session = %id, error = chain(&error), "still kept");
                return;
            }
        }
        sessions.remove(id);
        tracing::info!(session = %id, "closed: nobody used it");
    });
}
