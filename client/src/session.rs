//! Sessions: instances that a host keeps between calls.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spore_bundle::{BundleId, Manifest};
use spore_guest::{Handle, Streaming};
use spore_transport::message::OutputStream;
use spore_transport::session::Origin;
use spore_transport::{BlobId, SessionId};
use spore_value::{Value, codec};

use crate::bundle::Bundle;
use crate::call::{Call, Sink};
use crate::callable::{
    ArgumentsError, Bound, Callee, Decode, Dynamic, FindError, Parcel, Streams, ValueKind, index_of,
};
use crate::error::CallError;
use crate::host::Host;
use crate::limits::CallLimits;
use crate::stream::StreamCall;

mod moving;

pub use moving::{MovingSession, SessionMoveError, SessionMoveStage, SessionSettled};

/// What goes wrong with sessions; there is no error of the guest's own.
pub type SessionError = CallError<Infallible>;

/// A session of a host: an instance that is kept between calls. Cheap to clone.
///
/// It stays when this is dropped, and when the connection is lost, until it is
/// [closed](Session::close) or nobody has used it for a while.
#[derive(Clone, Debug)]
pub struct Session {
    host: Host,
    id: SessionId,
    parcel: Parcel,
    /// What it was last saved as: blocks that are here need not travel.
    saved: Arc<Mutex<Option<spore_bundle::Bundle>>>,
}

/// A session to be opened: await it.
#[must_use = "a session is opened when this is awaited"]
pub struct Opening {
    host: Host,
    bundle: Bundle,
    request: OpenRequest,
    sink: Sink,
}

/// What is asked of a host that is to open a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenRequest {
    pub(crate) limits: CallLimits,
    pub(crate) idle: Option<Duration>,
    /// Where it comes from, when it is to be kept there and held
    pub(crate) from: Option<Origin>,
}

impl Opening {
    pub(crate) fn new(host: Host, bundle: Bundle) -> Opening {
        Opening {
            host,
            bundle,
            request: OpenRequest::default(),
            sink: Sink::default(),
        }
    }

    /// Lowers the host's limits: of memory for as long as the session is there, of the rest for its
    /// beginning.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.request.limits = limits;
        self
    }

    /// Has the session closed when nobody uses it for so long; sooner when the host says so.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.request.idle = Some(idle);
        self
    }

    /// Hears what the guest prints while it begins. By default it is dropped.
    pub fn on_output(mut self, hear: impl FnMut(OutputStream, &[u8]) + Send + 'static) -> Self {
        self.sink.hear_output(Box::new(hear));
        self
    }

    /// Has it be a session that comes from another host: it is kept there and held, so that it cannot
    /// be called, until it is [taken over](Host::take_over_session). What
    /// [`move_to`](Session::move_to) does; for a program that moves sessions of its own keeping.
    pub fn arriving(mut self, from: Origin) -> Self {
        self.request.from = Some(from);
        self
    }

    async fn open(self) -> Result<Session, SessionError> {
        let Opening {
            host,
            bundle,
            request,
            mut sink,
        } = self;
        let parcel = Parcel::from(bundle.inner().clone());
        let id = host.open(&parcel, request, &mut sink).await?;
        // An image that was opened is here already.
        let saved = bundle.inner().image().map(|_| bundle.inner().clone());
        Ok(Session {
            host,
            id,
            parcel,
            saved: Arc::new(Mutex::new(saved)),
        })
    }
}

impl IntoFuture for Opening {
    type Output = Result<Session, SessionError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl Session {
    /// A session that was opened before, perhaps by another program of the same user.
    pub(crate) fn known(host: Host, id: SessionId, parcel: Parcel) -> Session {
        Session {
            host,
            id,
            parcel,
            saved: Arc::default(),
        }
    }

    /// The id, by which any program of the same user finds the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What the bundle says of itself that the session was opened from.
    pub fn manifest(&self) -> &Manifest {
        self.parcel.manifest()
    }

    /// A call of one of the session's callables, by a handle or by name: await what this returns.
    ///
    /// Calls are carried out in the order in which they reach the host. Random bytes are new in each
    /// call, unless it is given a [`seed`](Call::seed).
    ///
    /// # Errors
    ///
    /// When the session has no such callable, or one of other types than the handle's.
    #[allow(
        clippy::type_complexity,
        reason = "the types are those of the callable"
    )]
    pub fn call<M: Member>(
        &self,
        which: M,
        arguments: <M::Callee as Bound>::Arguments,
    ) -> Result<Call<<M::Callee as Bound>::Output, <M::Callee as Bound>::Error>, FindError> {
        let callee = which.member(&self.parcel)?;
        let call = Call::new(self.host.clone(), &callee, &arguments);
        Ok(call.within(self.id))
    }

    /// A call of one of the session's callables that emits items: await what this returns. While they
    /// are taken the session does nothing else. Dropping them stops the guest and poisons the session.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call)'s.
    #[allow(
        clippy::type_complexity,
        reason = "the types are those of the callable"
    )]
    pub fn stream<M: StreamMember>(
        &self,
        which: M,
        arguments: <M::Callee as Bound>::Arguments,
    ) -> Result<StreamCall<<M::Callee as Bound>::Output, <M::Callee as Bound>::Error>, FindError>
    {
        let callee = which.stream_member(&self.parcel)?;
        let call = StreamCall::new(self.host.clone(), &callee, &arguments);
        Ok(call.within(self.id))
    }

    /// An image of the session as a bundle, which another host restores when it opens it.
    ///
    /// Of a remote host's image only blocks travel that the last saved one did not have.
    ///
    /// # Errors
    ///
    /// When the state cannot be saved, with the reason.
    pub async fn save(&self) -> Result<Bundle, SessionError> {
        let last = self.saved().clone();
        let saved = self.host.save(self.id, &self.parcel, last.as_ref()).await?;
        *self.saved() = Some(saved.clone());
        Ok(saved.into())
    }

    /// Says that this program has a bundle as which it was saved before: what both have in common need
    /// not travel when it is saved.
    pub fn knows(&self, saved: &Bundle) {
        *self.saved() = Some(saved.inner().clone());
    }

    /// Puts the session back to what it was last saved as, also when a call has poisoned it.
    ///
    /// # Errors
    ///
    /// When it was never saved.
    pub async fn restore(&self) -> Result<(), SessionError> {
        self.host.restore(self.id).await
    }

    /// Moves the session to another host: await what this returns for the session there. It is saved
    /// here, opened and held there, closed here, and goes on there under an id of its own. Both hosts
    /// must serve this user.
    ///
    /// What awaiting it says: [`SessionMoveError`].
    pub fn move_to(&self, other: &Host) -> MovingSession {
        MovingSession::new(self.clone(), other.clone())
    }

    /// Ends the session.
    ///
    /// # Errors
    ///
    /// When it is not there any more.
    pub async fn close(self) -> Result<(), SessionError> {
        self.host.close_session(self.id, None).await
    }

    /// Ends the session if its state is still what was [saved](Self::save) as this bundle.
    ///
    /// # Errors
    ///
    /// When a call was carried out since.
    pub async fn close_unchanged(&self, saved: &Bundle) -> Result<(), SessionError> {
        self.host.close_session(self.id, Some(saved.id())).await
    }

    fn saved(&self) -> std::sync::MutexGuard<'_, Option<spore_bundle::Bundle>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What names a callable of a session: a [`Handle`], or its name.
pub trait Member: crate::callable::Sealed {
    /// The callable, with its types.
    type Callee: Callee;
    #[doc(hidden)]
    fn member(&self, parcel: &Parcel) -> Result<Self::Callee, FindError>;
}

/// What names a callable of a session that emits items: a [`Handle`], or its name.
pub trait StreamMember: crate::callable::Sealed {
    /// The callable, with its types.
    type Callee: Streams;
    #[doc(hidden)]
    fn stream_member(&self, parcel: &Parcel) -> Result<Self::Callee, FindError>;
}

/// A callable of a session whose types the compiler knows.
#[doc(hidden)]
pub struct Typed<A, R, E> {
    parcel: Parcel,
    index: u32,
    types: PhantomData<fn(A) -> Result<R, E>>,
}

impl<C, A, R, E, K: ValueKind> Member for Handle<C, A, R, E, K>
where
    A: Value,
    R: Value + 'static,
    E: Value + std::fmt::Debug + 'static,
{
    type Callee = Typed<A, R, E>;

    fn member(&self, parcel: &Parcel) -> Result<Typed<A, R, E>, FindError> {
        Typed::of(self, parcel)
    }
}

impl<C, A, R, E> StreamMember for Handle<C, A, R, E, Streaming>
where
    A: Value,
    R: Value + 'static,
    E: Value + std::fmt::Debug + 'static,
{
    type Callee = Typed<A, R, E>;

    fn stream_member(&self, parcel: &Parcel) -> Result<Typed<A, R, E>, FindError> {
        Typed::of(self, parcel)
    }
}

impl StreamMember for &str {
    type Callee = Dynamic;

    fn stream_member(&self, parcel: &Parcel) -> Result<Dynamic, FindError> {
        self.member(parcel)
    }
}

impl Member for &str {
    type Callee = Dynamic;

    fn member(&self, parcel: &Parcel) -> Result<Dynamic, FindError> {
        let (index, _) = parcel.manifest().callable(self)?;
        Ok(Dynamic::new(parcel.clone(), index))
    }
}

impl Member for &String {
    type Callee = Dynamic;

    fn member(&self, parcel: &Parcel) -> Result<Dynamic, FindError> {
        Member::member(&self.as_str(), parcel)
    }
}

impl<A: Value, R: Value, E: Value> Typed<A, R, E> {
    fn of<C, K>(handle: &Handle<C, A, R, E, K>, parcel: &Parcel) -> Result<Self, FindError> {
        Ok(Typed {
            index: index_of(handle, parcel.manifest())?,
            parcel: parcel.clone(),
            types: PhantomData,
        })
    }
}

impl<A, R, E> crate::callable::Sealed for Typed<A, R, E> {}

impl<A, R, E> Streams for Typed<A, R, E>
where
    A: Value,
    R: Value + 'static,
    E: Value + std::fmt::Debug + 'static,
{
}

impl<A, R, E> Callee for Typed<A, R, E>
where
    A: Value,
    R: Value + 'static,
    E: Value + std::fmt::Debug + 'static,
{
}

impl<A, R, E> Bound for Typed<A, R, E>
where
    A: Value,
    R: Value + 'static,
    E: Value + std::fmt::Debug + 'static,
{
    type Arguments = A;
    type Output = R;
    type Error = E;

    fn parcel(&self) -> Parcel {
        self.parcel.clone()
    }

    fn index(&self) -> u32 {
        self.index
    }

    fn encode(&self, arguments: &A) -> Result<Vec<u8>, ArgumentsError> {
        Ok(codec::encode(arguments)?)
    }

    fn decode(&self) -> Decode<R, E> {
        Decode::typed()
    }
}

/// The id of a bundle that a peer names as a blob.
pub(crate) fn bundle_id(id: BlobId) -> BundleId {
    BundleId::from(id.0)
}
