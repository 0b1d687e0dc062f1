//! Sends callables to hosts and receives their results.
//!
//! ```no_run
//! # mod closure {
//! #     use spore_guest::{Handle, NoCaptures};
//! #     use std::convert::Infallible;
//! #     pub mod scale {
//! #         use super::*;
//! #         pub const HANDLE: Handle<f64, (f64,), f64, Infallible> =
//! #             Handle::new("closure::scale", || unimplemented!());
//! #     }
//! # }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use spore_client::{Bundle, Host};
//!
//! let bundle = Bundle::open("closure.spore")?;
//! let host = Host::connect("board.local").await?;
//!
//! // With the guest crate as a dependency, types are checked by the compiler:
//! let triple = bundle.callable(closure::scale::HANDLE)?.capture(&3.0)?;
//! assert_eq!(host.call(&triple, (14.0,)).await?, 42.0);
//!
//! // Without it, values are JSON and checked against the bundle:
//! use serde_json::json;
//! let triple = bundle.callable("scale")?.capture(&json!({ "factor": 3.0 }))?;
//! assert_eq!(host.call(&triple, json!([14.0])).await?, json!(42.0));
//! # Ok(())
//! # }
//! ```
//!
//! `Host::embedded()` gives a host in this process, behind the same methods.
#![forbid(unsafe_code)]

mod bundle;
mod call;
mod callable;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod feed;
mod home;
mod host;
mod insist;
mod job;
mod limits;
mod moving;
mod remote;
mod session;
mod stream;
mod watch;

pub use bundle::{Bundle, OpenError};
pub use call::{Call, Completed};
pub use callable::{
    ArgumentsError, BindError, Bound, Callable, Callee, Dynamic, Find, FindError, JobKind, Json,
    ResultError, Resumes, Shipped, Streams, ValueKind,
};
pub use error::{CallError, ConnectError};
pub use home::{
    HOME_VARIABLE, Home, HomeError, HostLock, edit_private, read_or_empty, write_private,
};
pub use host::Host;
pub use job::{DynamicJob, Job, JobError, OpeningJob, Starting};
pub use limits::CallLimits;
pub use moving::{MoveError, MoveHost, MoveStage, Moving, Settled};
pub use remote::{Connect, PORT_DEFAULT, with_port};
pub use session::{
    Member, MovingSession, Opening, Session, SessionError, SessionMoveError, SessionMoveStage,
    SessionSettled, StreamMember,
};
pub use stream::{Items, StreamCall};
pub use watch::{JobNews, Watch, Watching};

pub use spore_bundle::{BundleId, CodeId, Limits as BundleLimits, StateId};
pub use spore_guest::{Handle, NoCaptures, Plain, Resumable, Streaming};
#[cfg(feature = "embedded")]
pub use spore_host::{Grants, Limits, Setup, StartError};
pub use spore_transport::failure::{Failure, TrapCode};
pub use spore_transport::job::{Ending, JobChanged, JobInfo, JobState, MoveId, Persist, Place};
pub use spore_transport::message::{OutputStream, Refused, Timing};
pub use spore_transport::session::{Origin, SessionInfo, SessionState};
pub use spore_transport::status::StatusReport;
pub use spore_transport::{Fault, Identity, JobId, PublicKey, RefusalCode, SessionId};
pub use spore_value as value;
pub use spore_value::Value;

/// The bundle that a build script embedded with `spore_build::embed`, by the guest crate's name.
///
/// ```ignore
/// let bundle = spore_client::embedded_bundle!("closure");
/// ```
///
/// # Panics
///
/// When the file is no bundle, which the build script has made sure of.
#[macro_export]
macro_rules! embedded_bundle {
    ($name:literal) => {
        $crate::Bundle::from_static(include_bytes!(concat!(
            env!("OUT_DIR"),
            "/",
            $name,
            ".spore"
        )))
    };
}
