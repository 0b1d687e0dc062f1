//! A host in the caller's own process.

use std::convert::Infallible;
use std::time::Duration;

use spore_bundle::BundleId;
use spore_host::{Caller, Event, Running, Setup, StartError};
use spore_transport::message::{Refused, Timing};
use spore_transport::session::{Origin, SessionInfo};
use spore_transport::status::StatusReport;
use spore_transport::{RefusalCode, SessionId};

use crate::call::{Finished, Outcome, Request, Sink};
use crate::callable::{Parcel, Shipped};
use crate::error::CallError;
use crate::session::{OpenRequest, SessionError};

mod jobs;

#[derive(Clone)]
pub(crate) struct Embedded {
    host: spore_host::Host,
    caller: Caller,
}

impl Embedded {
    pub(crate) fn start(setup: Setup) -> Result<Embedded, StartError> {
        let host = spore_host::Host::start(setup)?;
        let caller = host.embedding_caller();
        Ok(Embedded { host, caller })
    }

    pub(crate) async fn load(
        &self,
        bundle: &spore_bundle::Bundle,
    ) -> Result<BundleId, CallError<Infallible>> {
        let loaded = self.host.load(&self.caller, bundle).await;
        loaded.map_err(CallError::Refused)?;
        Ok(bundle.id())
    }

    pub(crate) fn shipped(&self, id: BundleId) -> Result<Shipped, CallError<Infallible>> {
        let loaded = self.host.loaded(&self.caller, id);
        let loaded = loaded.and_then(|loaded| loaded.ok_or_else(|| unknown(id)));
        let loaded = loaded.map_err(CallError::Refused)?;
        Ok(Shipped {
            parcel: loaded.bundle().clone().into(),
        })
    }

    pub(crate) fn status(&self) -> StatusReport {
        self.host.status(&self.caller)
    }

    pub(crate) async fn run(&self, parcel: &Parcel, request: Request, sink: &mut Sink) -> Finished {
        match self.running(parcel, request, false).await {
            Ok(running) => follow(running, sink).await,
            Err(refused) => Finished::refused(refused),
        }
    }

    /// A call in a session or in a fresh instance; with `items`, of a callable that emits them.
    async fn running(
        &self,
        parcel: &Parcel,
        request: Request,
        items: bool,
    ) -> Result<Running, Refused> {
        if let Some(session) = request.session {
            let request = spore_host::SessionRequest {
                callable: request.callable,
                arguments: request.arguments,
                limits: request.limits.asked(),
                seed: request.seed,
                items,
                timing: Timing::default(),
            };
            return Ok(self.host.call_session(&self.caller, session, request));
        }
        let (loaded, compile) = match (self.host.loaded(&self.caller, parcel.id)?, parcel.whole()) {
            (Some(loaded), _) => (loaded, Duration::ZERO),
            (None, Some(bundle)) => self.host.load(&self.caller, bundle).await?,
            (None, None) => return Err(unknown(parcel.id)),
        };
        let compile_ns = u64::try_from(compile.as_nanos()).unwrap_or(u64::MAX);
        let request = spore_host::Request {
            callable: request.callable,
            arguments: request.arguments,
            limits: request.limits.asked(),
            // Equal calls are equal everywhere, unless they are told apart.
            seed: request.seed.unwrap_or(0),
            items,
            timing: Timing {
                compile_ns,
                ..Timing::default()
            },
        };
        Ok(self.host.call(&self.caller, loaded, request))
    }

    pub(crate) async fn open_session(
        &self,
        parcel: &Parcel,
        request: OpenRequest,
        sink: &mut Sink,
    ) -> Result<SessionId, SessionError> {
        let bundle = parcel.whole().ok_or(unknown(parcel.id));
        let bundle = bundle.map_err(CallError::Refused)?;
        let limits = request.limits.asked();
        let opening = self.host.open_session(
            &self.caller,
            bundle,
            &limits,
            request.idle,
            request.from,
            Timing::default(),
        );
        let (id, running) = opening.await.map_err(CallError::Refused)?;
        // Also when whoever opens it goes away before it has begun.
        let mut unopened = Unopened {
            host: &self.host,
            id: Some(id),
        };
        let error = match follow(running, sink).await.outcome {
            Outcome::Value(_) if request.from.is_none() => {
                unopened.id = None;
                return Ok(id);
            }
            Outcome::Value(_) => match self.host.save_session(&self.caller, id).await {
                Ok(_) => {
                    unopened.id = None;
                    return Ok(id);
                }
                Err(refused) => {
                    let _ = self.host.close_session(&self.caller, id, None).await;
                    CallError::Refused(refused)
                }
            },
            Outcome::Failed(failure) => CallError::Failed(failure),
            Outcome::Refused(refused) => CallError::Refused(refused),
            Outcome::Error(_) => unreachable!("what begins a session returns no error"),
        };
        Err(error)
    }

    pub(crate) async fn save_session(
        &self,
        id: SessionId,
    ) -> Result<spore_bundle::Bundle, SessionError> {
        let saved = self.host.save_session(&self.caller, id).await;
        Ok(saved.map_err(CallError::Refused)?.bundle)
    }

    pub(crate) async fn restore_session(&self, id: SessionId) -> Result<(), SessionError> {
        let restored = self.host.restore_session(&self.caller, id).await;
        restored.map_err(CallError::Refused)
    }

    pub(crate) async fn give_up_session(
        &self,
        id: SessionId,
        expected: BundleId,
        to: Origin,
    ) -> Result<(), SessionError> {
        let given = self.host.give_up_session(&self.caller, id, expected, to);
        given.await.map_err(CallError::Refused)
    }

    pub(crate) async fn take_over_session(&self, id: SessionId) -> Result<(), SessionError> {
        let taken = self.host.take_over_session(&self.caller, id).await;
        taken.map_err(CallError::Refused)
    }

    pub(crate) async fn close_session(
        &self,
        id: SessionId,
        expected: Option<BundleId>,
    ) -> Result<(), SessionError> {
        let closed = self.host.close_session(&self.caller, id, expected).await;
        closed.map_err(CallError::Refused)
    }

    pub(crate) fn sessions(&self) -> Vec<SessionInfo> {
        self.host.sessions(&self.caller)
    }

    pub(crate) fn session_parcel(&self, id: SessionId) -> Result<Parcel, SessionError> {
        let bundle = self.host.session_bundle(&self.caller, id);
        Ok(bundle.map_err(CallError::Refused)?.into())
    }
}

/// Passes on what a guest says, until its call has ended.
async fn follow(mut running: Running, sink: &mut Sink) -> Finished {
    loop {
        match running.next().await {
            Event::Output(stream, bytes) => sink.output(stream, &bytes),
            Event::Progress(done, total) => sink.progress(done, total),
            Event::Item(..) => unreachable!("no items were asked for"),
            Event::Finished(finished) => return ended(finished),
        }
    }
}

fn ended(finished: spore_host::Finished) -> Finished {
    Finished {
        outcome: match finished.outcome {
            spore_host::Outcome::Value(value) => Outcome::Value(value),
            spore_host::Outcome::Error(error) => Outcome::Error(error),
            spore_host::Outcome::Failed(failure) => Outcome::Failed(failure),
            spore_host::Outcome::Refused(refused) => Outcome::Refused(refused),
        },
        timing: finished.timing,
        output_cut: finished.output_cut,
    }
}

fn unknown(id: BundleId) -> Refused {
    Refused::new(RefusalCode::UnknownBundle, id.to_string())
}

/// Has a host forget a session that has not come about.
struct Unopened<'a> {
    host: &'a spore_host::Host,
    id: Option<SessionId>,
}

impl Drop for Unopened<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.host.forget_session(id);
        }
    }
}
