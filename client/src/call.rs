//! One call, from its options to its end.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use spore_transport::exchange::ProtocolError;
use spore_transport::failure::Failure;
use spore_transport::job::JobChanged;
use spore_transport::message::{OutputStream, Refused, Timing};
use spore_transport::{SessionId, StreamError};

use crate::callable::{ArgumentsError, Bound, Decode, Parcel, Read, ResultError};
use crate::error::{CallError, ConnectError};
use crate::host::Host;
use crate::limits::CallLimits;

type OnOutput = Box<dyn FnMut(OutputStream, &[u8]) + Send>;
type OnProgress = Box<dyn FnMut(u64, u64) + Send>;

/// A call to be made: await it for the value that the callable returns.
///
/// Nothing is sent before that. Dropping the future stops the guest.
#[must_use = "a call is made when it is awaited"]
pub struct Call<R, E> {
    host: Host,
    parcel: Parcel,
    request: Result<Request, ArgumentsError>,
    decode: Decode<R, E>,
    deadline: Option<Duration>,
    sink: Sink,
}

/// How a call ended, and what it took.
#[derive(Debug)]
pub struct Completed<R, E: fmt::Debug> {
    /// The value, or why there is none.
    pub result: Result<R, CallError<E>>,
    /// Where the time went, when the guest ran.
    pub timing: Option<Timing>,
    /// Whether output beyond its limit was left out.
    pub output_cut: bool,
}

/// What is sent.
pub(crate) struct Request {
    /// The session to call in; a fresh instance when there is none.
    pub(crate) session: Option<SessionId>,
    pub(crate) callable: u32,
    pub(crate) arguments: Bytes,
    pub(crate) limits: CallLimits,
    pub(crate) seed: Option<u64>,
}

impl Request {
    /// A run of `callee`, with nothing asked for.
    pub(crate) fn new<T: Bound>(
        callee: &T,
        arguments: &T::Arguments,
    ) -> Result<Request, ArgumentsError> {
        Ok(Request {
            session: None,
            callable: callee.index(),
            arguments: callee.encode(arguments)?.into(),
            limits: CallLimits::default(),
            seed: None,
        })
    }
}

/// Who hears what the guest says while it runs.
#[derive(Default)]
pub(crate) struct Sink {
    output: Option<OnOutput>,
    progress: Option<OnProgress>,
}

impl Sink {
    pub(crate) fn hear_output(&mut self, hear: OnOutput) {
        self.output = Some(hear);
    }

    pub(crate) fn hear_progress(&mut self, hear: OnProgress) {
        self.progress = Some(hear);
    }

    pub(crate) fn output(&mut self, stream: OutputStream, bytes: &[u8]) {
        if let Some(output) = &mut self.output {
            output(stream, bytes);
        }
    }

    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        if let Some(progress) = &mut self.progress {
            progress(done, total);
        }
    }
}

/// How a call ended, as the host says.
#[derive(Clone)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    pub(crate) timing: Timing,
    pub(crate) output_cut: bool,
}

impl Finished {
    /// Whether the guest ran at all.
    pub(crate) fn ran(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }

    /// A call that did not run.
    pub(crate) fn refused(refused: Refused) -> Finished {
        Finished {
            outcome: Outcome::Refused(refused),
            timing: Timing::default(),
            output_cut: false,
        }
    }
}

#[derive(Clone)]
pub(crate) enum Outcome {
    Value(Bytes),
    Error(Bytes),
    Failed(Failure),
    Refused(Refused),
}

impl Outcome {
    /// Takes the outcome for what the callable returns.
    pub(crate) fn decoded<R, E: fmt::Debug>(
        self,
        value: impl FnOnce(&[u8]) -> Result<R, ResultError>,
        error: &Read<E>,
    ) -> Result<R, CallError<E>> {
        match self {
            Outcome::Value(bytes) => Ok(value(&bytes)?),
            Outcome::Error(bytes) => Err(CallError::Guest(error(&bytes)?)),
            Outcome::Failed(failure) => Err(CallError::Failed(failure)),
            Outcome::Refused(refused) => Err(CallError::Refused(refused)),
        }
    }
}

/// One thing that a host tells of a run, until the last.
pub(crate) enum Told {
    Output(OutputStream, Bytes),
    Progress(u64, u64),
    Changed(JobChanged),
    /// With its number.
    Item(u64, Bytes),
    /// The run has ended. The last.
    Ended(Finished),
    /// What was asked is refused, whatever becomes of the run. The last.
    Refused(Refused),
    /// The host says nothing any more. The last.
    Broken(Broken),
    /// The caller's time is over. The last.
    Deadline,
}

/// Why the host says nothing, or is not asked to the end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It would refuse what it was to be sent.
    Refused(Refused),
    Connect(ConnectError),
    Lost(StreamError),
    Protocol(ProtocolError),
}

impl From<ProtocolError> for Broken {
    fn from(error: ProtocolError) -> Self {
        Broken::Protocol(error)
    }
}

impl<E: fmt::Debug> From<Broken> for CallError<E> {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Refused(refused) => CallError::Refused(refused),
            Broken::Connect(error) => CallError::Connect(error),
            Broken::Lost(error) => CallError::Lost(error),
            Broken::Protocol(error) => CallError::Protocol(error),
        }
    }
}

impl<R, E> Call<R, E> {
    pub(crate) fn new<T>(host: Host, callee: &T, arguments: &T::Arguments) -> Call<R, E>
    where
        T: Bound<Output = R, Error = E>,
    {
        Call {
            host,
            parcel: callee.parcel(),
            request: Request::new(callee, arguments),
            decode: callee.decode(),
            deadline: None,
            sink: Sink::default(),
        }
    }

    /// Gives up after this time, everything included, and stops the guest. None by default: the
    /// host's own limits hold.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Makes the call in a session instead of a fresh instance.
    pub(crate) fn within(mut self, session: SessionId) -> Self {
        if let Ok(request) = &mut self.request {
            request.session = Some(session);
        }
        self
    }

    /// Lowers the host's limits for this call. In a session those on code and state say nothing: the
    /// session is there.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        if let Ok(request) = &mut self.request {
            request.limits = limits;
        }
        self
    }

    /// Where the guest's random bytes begin; 0 by default, and in a session new ones. Equal calls
    /// with equal seeds give equal results on every host.
    pub fn seed(mut self, seed: u64) -> Self {
        if let Ok(request) = &mut self.request {
            request.seed = Some(seed);
        }
        self
    }

    /// Hears what the guest prints, as it prints it. By default it is dropped.
    pub fn on_output(mut self, hear: impl FnMut(OutputStream, &[u8]) + Send + 'static) -> Self {
        self.sink.hear_output(Box::new(hear));
        self
    }

    /// Hears how far the guest says it is: done, and the whole or 0 when it does not know.
    pub fn on_progress(mut self, hear: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.sink.hear_progress(Box::new(hear));
        self
    }
}

impl<R, E: fmt::Debug> Call<R, E> {
    /// Makes the call, and says also what it took.
    ///
    /// Not cancel-safe: dropping the future stops the guest.
    pub async fn completed(self) -> Completed<R, E> {
        let Call {
            host,
            parcel,
            request,
            decode,
            deadline,
            mut sink,
        } = self;
        let failed = |error| Completed {
            result: Err(error),
            timing: None,
            output_cut: false,
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return failed(error.into()),
        };
        let run = host.run(&parcel, request, &mut sink);
        let finished = match deadline {
            None => run.await,
            Some(deadline) => match tokio::time::timeout(deadline, run).await {
                Ok(finished) => finished,
                Err(_) => return failed(CallError::Deadline),
            },
        };
        let finished = match finished {
            Ok(finished) => finished,
            Err(broken) => return failed(broken.into()),
        };
        Completed {
            timing: finished.ran().then_some(finished.timing),
            output_cut: finished.output_cut,
            result: finished.outcome.decoded(decode.value, &decode.error),
        }
    }
}

impl<R: Send + 'static, E: fmt::Debug + Send + 'static> IntoFuture for Call<R, E> {
    type Output = Result<R, CallError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.completed().await.result })
    }
}
