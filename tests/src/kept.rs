//! Sessions of the guest `keeper`, and jobs, as their owner sees them.

use std::fmt::Debug;
use std::time::Duration;

use spore_client::{Job, JobInfo, JobNews, Session, Watch};

use crate::outcome::soon;

/// Longer than any checkpoint of the guests is away.
pub const WITHIN: Duration = Duration::from_secs(30);

/// Has a session remember a word, and gives how many it knows.
///
/// # Panics
///
/// When the call does not end well.
pub async fn remember(session: &Session, word: &str) -> u32 {
    let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
    let call = call.expect("it is there").into_future();
    soon("the guest", call).await.expect("remembered")
}

/// Every word that a session remembers.
///
/// # Panics
///
/// When the call does not end well.
pub async fn recall(session: &Session) -> Vec<String> {
    let call = session.call(keeper::recall::HANDLE, ());
    let call = call.expect("it is there").into_future();
    soon("the guest", call).await.expect("recalled")
}

/// How a job is.
///
/// # Panics
///
/// When its host does not say.
pub async fn info<R, E, I>(job: &Job<R, E, I>) -> JobInfo {
    job.info().await.expect("it is listed")
}

/// The next item, with its number.
///
/// # Panics
///
/// When none comes.
pub async fn next_item<R, E: Debug, I>(watch: &mut Watch<R, E, I>) -> (u64, I) {
    loop {
        match soon("the next item", watch.next()).await {
            Some(Ok(JobNews::Item { sequence, item })) => return (sequence, item),
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("expected an item, got {error:?}"),
            None => panic!("expected an item, got the end"),
        }
    }
}
