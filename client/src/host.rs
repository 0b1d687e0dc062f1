//! A host, wherever it is.

use spore_bundle::BundleId;
use spore_transport::message::Refused;
use spore_transport::session::{Origin, SessionInfo};
use spore_transport::status::StatusReport;
use spore_transport::{BlobId, PublicKey, RefusalCode, SessionId};

use crate::bundle::Bundle;
use crate::call::{Broken, Call, Finished, Request, Sink};
use crate::callable::{Callee, Parcel, Shipped};
#[cfg(feature = "embedded")]
use crate::embedded::Embedded;
use crate::error::{CallError, ConnectError};
use crate::remote::{Connect, Remote};
use crate::session::{OpenRequest, Opening, Session, SessionError, bundle_id};

mod jobs;

/// A host that calls go to. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    kind: Kind,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.kind {
            Kind::Remote(_) => "Host(remote)",
            #[cfg(feature = "embedded")]
            Kind::Embedded(_) => "Host(embedded)",
        })
    }
}

#[derive(Clone)]
enum Kind {
    Remote(Remote),
    #[cfg(feature = "embedded")]
    Embedded(Embedded),
}

impl Host {
    /// Connects as the user of this process to `NAME[:PORT]` or `ADDRESS[:PORT]`.
    ///
    /// The host's key must be known: see [`Connect::trust`] for the first time. Must be called on a
    /// tokio runtime, which then drives the connection; a runtime of one thread is the fastest.
    ///
    /// # Errors
    ///
    /// When the host cannot be reached, or is not the one that is known by the name.
    pub async fn connect(host: &str) -> Result<Host, ConnectError> {
        Connect::new().to(host).await
    }

    /// A host in this process, with default limits and nothing granted.
    ///
    /// # Errors
    ///
    /// When wasmtime or the system refuse.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Result<Host, spore_host::StartError> {
        Host::embedded_with(spore_host::Setup::default())
    }

    /// A host in this process, set up otherwise. Calls may use everything that it grants.
    ///
    /// # Errors
    ///
    /// When wasmtime or the system refuse.
    #[cfg(feature = "embedded")]
    pub fn embedded_with(setup: spore_host::Setup) -> Result<Host, spore_host::StartError> {
        Ok(Host {
            kind: Kind::Embedded(Embedded::start(setup)?),
        })
    }

    pub(crate) fn remote(remote: Remote) -> Host {
        Host {
            kind: Kind::Remote(remote),
        }
    }

    /// A call of `callable` in a fresh instance: await what this returns.
    pub fn call<T: Callee>(
        &self,
        callable: &T,
        arguments: T::Arguments,
    ) -> Call<T::Output, T::Error> {
        Call::new(self.clone(), callable, &arguments)
    }

    /// Ships a bundle ahead of its first call: compiled when this returns, and stored durably by a
    /// remote host. An embedded one has no store.
    ///
    /// # Errors
    ///
    /// As a call's, except for the guest's own.
    pub async fn ship(
        &self,
        bundle: &Bundle,
    ) -> Result<BundleId, CallError<std::convert::Infallible>> {
        match &self.kind {
            Kind::Remote(remote) => remote.ship(bundle.inner()).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.load(bundle.inner()).await,
        }
    }

    /// The bundle of this id that this user has shipped before.
    ///
    /// # Errors
    ///
    /// When the host does not have it, or the user may not use it.
    pub async fn shipped(
        &self,
        id: BundleId,
    ) -> Result<Shipped, CallError<std::convert::Infallible>> {
        match &self.kind {
            Kind::Remote(remote) => remote.shipped(id).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.shipped(id),
        }
    }

    /// What the host says of itself.
    ///
    /// # Errors
    ///
    /// When the host cannot be asked.
    pub async fn status(&self) -> Result<StatusReport, CallError<std::convert::Infallible>> {
        match &self.kind {
            Kind::Remote(remote) => remote.status().await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => Ok(embedded.status()),
        }
    }

    /// Tells a remote host that nothing more will come, so that it need not wait for a time-out.
    ///
    /// For programs that end soon after; one that goes on may as well drop the host. Calls under
    /// way are lost. Clones that are used later connect anew. Takes a few milliseconds.
    pub async fn close(self) {
        match &self.kind {
            Kind::Remote(remote) => remote.close().await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(_) => {}
        }
    }

    /// A session of `bundle`: await what this returns.
    ///
    /// The bundle may have captures, which are bound once, or an image, which is restored.
    pub fn open_session(&self, bundle: &Bundle) -> Opening {
        Opening::new(self.clone(), bundle.clone())
    }

    /// The session of this id that this user has opened before.
    ///
    /// # Errors
    ///
    /// When there is none, it cannot be taken up from the host's disk, or the host cannot be asked.
    pub async fn session(&self, id: SessionId) -> Result<Session, SessionError> {
        let sessions = self.sessions().await?;
        let found = sessions.iter().find(|session| session.session == id);
        let Some(found) = found else {
            let unknown = Refused::new(RefusalCode::UnknownSession, id.to_string());
            return Err(CallError::Refused(unknown));
        };
        available(found.unavailable, &found.why)?;
        let parcel = match &self.kind {
            Kind::Remote(remote) => remote.shipped(bundle_id(found.bundle)).await?.parcel,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.session_parcel(id)?,
        };
        Ok(Session::known(self.clone(), id, parcel))
    }

    /// The session of this id, of whose bundle this program has one with the same callables. Nothing
    /// is asked of the host.
    pub fn session_of(&self, id: SessionId, bundle: &Bundle) -> Session {
        Session::known(self.clone(), id, bundle.inner().clone().into())
    }

    /// The sessions that this user has open.
    ///
    /// # Errors
    ///
    /// When the host cannot be asked.
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, SessionError> {
        match &self.kind {
            Kind::Remote(remote) => remote.sessions().await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => Ok(embedded.sessions()),
        }
    }

    pub(crate) async fn open(
        &self,
        parcel: &Parcel,
        request: OpenRequest,
        sink: &mut Sink,
    ) -> Result<SessionId, SessionError> {
        let admitted = request.limits.admit(parcel);
        admitted.map_err(CallError::Refused)?;
        match &self.kind {
            Kind::Remote(remote) => remote.open_session(parcel, request, sink).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.open_session(parcel, request, sink).await,
        }
    }

    pub(crate) async fn save(
        &self,
        session: SessionId,
        parcel: &Parcel,
        last: Option<&spore_bundle::Bundle>,
    ) -> Result<spore_bundle::Bundle, SessionError> {
        match &self.kind {
            Kind::Remote(remote) => remote.save_session(session, parcel, last).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.save_session(session).await,
        }
    }

    pub(crate) async fn restore(&self, session: SessionId) -> Result<(), SessionError> {
        match &self.kind {
            Kind::Remote(remote) => remote.restore_session(session).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.restore_session(session).await,
        }
    }

    /// Gives a session up to the copy of it that another host holds, if its state is still what was
    /// saved as this bundle: it cannot be called here any more, and is listed until it is
    /// [closed](Self::close_session). Asked again for the same, it has the same outcome.
    ///
    /// # Errors
    ///
    /// When there is no such session, it has changed, was given up to another, or the host cannot be
    /// asked.
    pub async fn give_up_session(
        &self,
        session: SessionId,
        expected: BundleId,
        to: Origin,
    ) -> Result<(), SessionError> {
        match &self.kind {
            Kind::Remote(remote) => {
                let expected = BlobId(*expected.as_bytes());
                remote.give_up_session(session, expected, to).await
            }
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.give_up_session(session, expected, to).await,
        }
    }

    /// Lets a session that the host holds be called: it was given up where it
    /// [comes from](crate::Opening::arriving), or the host that had it never comes back. If that does
    /// have it all the same, the session is on both from then on.
    ///
    /// # Errors
    ///
    /// When there is no such session, or the host cannot be asked.
    pub async fn take_over_session(&self, session: SessionId) -> Result<(), SessionError> {
        match &self.kind {
            Kind::Remote(remote) => remote.take_over_session(session).await,
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.take_over_session(session).await,
        }
    }

    /// The key of the host, which one in this process has not.
    ///
    /// # Errors
    ///
    /// When the host cannot be reached.
    pub async fn key(&self) -> Result<Option<PublicKey>, SessionError> {
        match &self.kind {
            Kind::Remote(remote) => remote.key().await.map(Some),
            #[cfg(feature = "embedded")]
            Kind::Embedded(_) => Ok(None),
        }
    }

    /// Ends the session of this id; with `expected`, only if its state is still what was saved as
    /// this bundle.
    ///
    /// # Errors
    ///
    /// When there is no such session, a call was carried out in it since, or the host cannot be
    /// asked.
    pub async fn close_session(
        &self,
        session: SessionId,
        expected: Option<BundleId>,
    ) -> Result<(), SessionError> {
        match &self.kind {
            Kind::Remote(remote) => {
                remote
                    .close_session(session, expected.map(|id| BlobId(*id.as_bytes())))
                    .await
            }
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => embedded.close_session(session, expected).await,
        }
    }

    pub(crate) async fn run(
        &self,
        parcel: &Parcel,
        request: Request,
        sink: &mut Sink,
    ) -> Result<Finished, Broken> {
        if let (None, Err(refused)) = (request.session, request.limits.admit(parcel)) {
            return Ok(Finished::refused(refused));
        }
        match &self.kind {
            Kind::Remote(remote) => match request.session {
                Some(session) => remote.run_session(session, parcel, request, sink).await,
                None => remote.run(parcel, request, sink).await,
            },
            #[cfg(feature = "embedded")]
            Kind::Embedded(embedded) => Ok(embedded.run(parcel, request, sink).await),
        }
    }
}

/// Refuses with what a host has listed as the reason why something could not be taken up.
pub(crate) fn available<E: std::fmt::Debug>(
    code: Option<RefusalCode>,
    why: &str,
) -> Result<(), CallError<E>> {
    match code {
        None => Ok(()),
        Some(code) => Err(CallError::Refused(Refused::new(code, why))),
    }
}
