//! Takes results apart, and waits for what must come true.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use spore_client::{CallError, Failure, Host, RefusalCode, Refused};

/// Longest that anything is waited for. Only a test that fails takes this long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Time between looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// The refusal that a call must have ended with, of this code.
///
/// # Panics
///
/// When the call ended otherwise.
#[track_caller]
pub fn refused<R: fmt::Debug, E: fmt::Debug>(
    result: Result<R, CallError<E>>,
    code: RefusalCode,
) -> Refused {
    match result {
        Err(CallError::Refused(refused)) if refused.code == code => refused,
        other => panic!("expected the refusal {}, got {other:?}", code.name()),
    }
}

/// The failure that a call must have ended with.
///
/// # Panics
///
/// When the call ended otherwise.
#[track_caller]
pub fn failed<R: fmt::Debug, E: fmt::Debug>(result: Result<R, CallError<E>>) -> Failure {
    match result {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("expected a failure of the guest, got {other:?}"),
    }
}

/// Waits until `look` says yes.
///
/// # Panics
///
/// When it does not within [`PATIENCE`].
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let began = Instant::now();
    while !look().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What comes of `work`, which must end.
///
/// # Panics
///
/// When it does not within [`PATIENCE`].
pub async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// Waits until no call runs or waits.
///
/// # Panics
///
/// When one still does after [`PATIENCE`].
pub async fn idle(host: &Host) {
    until("no call runs", || async {
        let status = host.status().await.expect("it serves");
        status.running_count == 0 && status.queued == 0
    })
    .await;
}

/// Waits until so many calls of this user run.
///
/// # Panics
///
/// When they do not after [`PATIENCE`].
pub async fn running(host: &Host, calls: usize) {
    until("the calls run", || async {
        host.status().await.expect("it serves").running.len() == calls
    })
    .await;
}
