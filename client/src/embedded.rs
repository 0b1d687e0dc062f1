//! A host in the caller's own process.

use std::convert::Infallible;

use spore_bundle::BundleId;
use spore_host::{Caller, Event, Setup, StartError};
use spore_transport::RefusalCode;
use spore_transport::message::{Refused, Timing};
use spore_transport::status::StatusReport;

use crate::call::{Finished, Outcome, Request, Sink};
use crate::callable::{Parcel, Shipped};
use crate::error::CallError;

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
        let kept = self.host.loaded(&self.caller, parcel.id);
        let loaded = match (kept, parcel.whole()) {
            (Ok(Some(loaded)), _) => Ok((loaded, std::time::Duration::ZERO)),
            (Ok(None), Some(bundle)) => self.host.load(&self.caller, bundle).await,
            (Ok(None), None) => Err(unknown(parcel.id)),
            (Err(refused), _) => Err(refused),
        };
        let (loaded, compile) = match loaded {
            Ok(loaded) => loaded,
            Err(refused) => return refuse(refused),
        };
        let compile_ns = u64::try_from(compile.as_nanos()).unwrap_or(u64::MAX);
        let request = spore_host::Request {
            callable: request.callable,
            arguments: request.arguments,
            limits: request.limits,
            seed: request.seed,
            timing: Timing {
                compile_ns,
                ..Timing::default()
            },
        };
        let mut running = self.host.call(&self.caller, loaded, request);
        loop {
            match running.next().await {
                Event::Output(stream, bytes) => sink.output(stream, &bytes),
                Event::Progress(done, total) => sink.progress(done, total),
                Event::Finished(finished) => {
                    return Finished {
                        outcome: match finished.outcome {
                            spore_host::Outcome::Value(value) => Outcome::Value(value),
                            spore_host::Outcome::Error(error) => Outcome::Error(error),
                            spore_host::Outcome::Failed(failure) => Outcome::Failed(failure),
                            spore_host::Outcome::Refused(refused) => Outcome::Refused(refused),
                        },
                        timing: finished.timing,
                        output_cut: finished.output_cut,
                    };
                }
            }
        }
    }
}

fn unknown(id: BundleId) -> Refused {
    Refused::new(RefusalCode::UnknownBundle, id.to_string())
}

fn refuse(refused: Refused) -> Finished {
    Finished {
        outcome: Outcome::Refused(refused),
        timing: Timing::default(),
        output_cut: false,
    }
}
