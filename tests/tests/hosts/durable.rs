//! What hosts keep of jobs and sessions: how they end, with what they come back, and what they refuse
//! when the disk has not kept it.

mod custody;
mod damage;
mod ends;
mod items;

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use spore_client::{Host, Job, JobNews, Persist, Watch};
use spore_tests::guests::of;
use spore_tests::kept::{WITHIN, info, next_item};
use spore_tests::outcome::{soon, until};
use spore_tests::{Process, resumer};

/// What `paced` gives: sums, and what was drawn at random.
type Sums = (Vec<f64>, u64);

/// A job that takes at least ten milliseconds a round, so that its rounds are a clock.
type Paced = Job<Sums, Infallible>;

/// What the numbers of all guests here are made of.
const SEED: u64 = 2026;

/// A host on which nothing is stopped.
static UNDISTURBED: LazyLock<Host> = LazyLock::new(|| Host::embedded().expect("the engine starts"));

/// Starts a job of so many rounds.
async fn started(host: &Host, rounds: u32, persist: Persist) -> Paced {
    let paced = of(resumer(), resumer::paced::HANDLE);
    let starting = host.start(&paced, (SEED, rounds)).persist(persist);
    starting.await.expect("started")
}

/// What such a job ends with when nothing disturbs it.
async fn undisturbed(rounds: u32) -> Sums {
    let paced = of(resumer(), resumer::paced::HANDLE);
    let call = UNDISTURBED.call(&paced, (SEED, rounds));
    call.await.expect("it runs")
}

/// Waits for the end of a job, which must be `expected` down to the bits of the numbers.
async fn ends_with(job: &Paced, expected: &Sums) {
    let bits = |(sums, drawn): &Sums| -> (Vec<u64>, u64) {
        (sums.iter().map(|sum| sum.to_bits()).collect(), *drawn)
    };
    let ended = soon("the job ends", job.result()).await;
    assert_eq!(bits(&ended.expect("a value")), bits(expected));
    job.acknowledge().await.expect("it has ended");
}

/// Waits until the job has come to this round, and says to which it has.
async fn reached(job: &Paced, round: u64) -> u64 {
    until("the job comes so far", || async {
        info(job).await.done >= round
    })
    .await;
    info(job).await.done
}

/// The round that the job says next it has come to.
async fn next_round(watch: &mut Watch<Sums, Infallible>) -> u64 {
    loop {
        match soon("the next round", watch.next()).await {
            Some(Ok(JobNews::Progress { done, .. })) => return done,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("expected progress, got {error:?}"),
            None => panic!("expected progress, got the end"),
        }
    }
}

/// Takes leave of a host that is about to end, so that nobody waits until the connection counts as
/// lost. What belongs to it connects anew when it is used next.
async fn take_leave(host: &Host) {
    host.clone().close().await;
}

/// Time between the attempts of a client that is not served yet: strangers have few places.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until a host serves this client.
async fn served(host: &Host) {
    until("the key is served", || async {
        tokio::time::sleep(ATTEMPT_INTERVAL).await;
        host.status().await.is_ok()
    })
    .await;
}

/// Has a host serve the client of another, and connects as that. It has the code of the jobs compiled
/// then: a short one would be over else before its move there has begun.
async fn joined(process: &Process, other: &Process) -> Host {
    let host = process.authorize(&other.clients[0]).await;
    let paced = of(resumer(), resumer::paced::HANDLE);
    let none = host.call(&paced, (SEED, 0)).await;
    none.expect("it runs");
    host
}
