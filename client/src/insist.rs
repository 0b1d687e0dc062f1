//! Asking again while a host is lost.

use std::time::{Duration, Instant};

/// Time for which a step is asked for again whose answer was lost: a host that restarts is back by
/// then.
const INSIST_TIME: Duration = Duration::from_secs(10);
/// Time between two such attempts.
pub(crate) const INSIST_PAUSE: Duration = Duration::from_millis(200);

/// What comes of a question that can be asked again, which it is while the host is lost or not
/// reached. No function: a closure that gives a future anew each time cannot be one of another thread.
macro_rules! insist {
    ($ask:expr) => {{
        let mut lost = None;
        loop {
            match $ask.await {
                Err(error) if error.is_passing() && $crate::insist::is_patient(&mut lost) => {
                    tokio::time::sleep($crate::insist::INSIST_PAUSE).await;
                }
                answered => break answered,
            }
        }
    }};
}

/// Whether to ask once more, after the first loss at this time.
pub(crate) fn is_patient(lost: &mut Option<Instant>) -> bool {
    lost.get_or_insert_with(Instant::now).elapsed() < INSIST_TIME
}

pub(crate) use insist;
