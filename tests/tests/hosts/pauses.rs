//! Pauses of jobs that wait for a checkpoint, or for what the job waits for: embedded and over QUIC the
//! same.

use std::convert::Infallible;
use std::time::Duration;

use resumer::{rounds, strides};
use spore_client::{Host, Job, JobState, RefusalCode};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::kept::{WITHIN, info};
use spore_tests::local::Both;
use spore_tests::outcome::{refused, soon, until};
use spore_tests::resumer;

static BOTH: Both = Both::new(Setup::default);

/// Steps of a stride that takes about a second.
const LONG_STEPS: u64 = 1_000_000_000;

/// A job in the first of so many long strides.
async fn in_its_stride(host: &Host, strides: u32) -> Job<u64, Infallible> {
    let callable = of(resumer(), strides::HANDLE);
    let job = host.start(&callable, (strides, LONG_STEPS)).await;
    let job = job.expect("started");
    until("it is in its stride", || async {
        info(&job).await.done >= 1
    })
    .await;
    job
}

#[tokio::test]
async fn a_pause_that_is_given_up_leaves_the_job_running() {
    for host in BOTH.hosts().await {
        let job = in_its_stride(&host, 2).await;
        let given_up = tokio::time::timeout(Duration::from_millis(50), job.pause(WITHIN)).await;
        assert!(given_up.is_err(), "the stride was over before");
        soon("the end", job.result()).await.expect("it goes on");
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_pause_that_comes_to_nothing_takes_no_other_along() {
    for host in BOTH.hosts().await {
        let job = in_its_stride(&host, 2).await;
        let (paused, in_vain) = tokio::join!(job.pause(WITHIN), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            job.pause(Duration::from_millis(10)).await
        });
        refused(in_vain, RefusalCode::NoCheckpoint);
        let paused = paused.expect("it comes to its checkpoint");
        assert_eq!(paused.state, JobState::Paused);
        assert_eq!(info(&job).await.state, JobState::Paused);
        job.resume().await.expect("it is paused");
        soon("the end", job.result()).await.expect("a value");
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_job_that_waits_for_an_instance_can_be_paused() {
    let mut setup = Setup::default();
    setup.limits.instances = 1;
    for host in Both::of(setup).hosts().await {
        let long = host.start(&of(resumer(), strides::HANDLE), (1, u64::MAX));
        let long = long.await.expect("started");
        until("it has the place", || async { info(&long).await.done == 1 }).await;
        let waits = host.start(&of(resumer(), rounds::HANDLE), (3,));
        let waits = waits.await.expect("started");
        let paused = waits.pause(WITHIN).await.expect("it has not begun");
        assert_eq!(paused.state, JobState::Paused);
        long.cancel().await.expect("it runs");
        long.acknowledge().await.expect("it has ended");
        assert_eq!(info(&waits).await.state, JobState::Paused);
        waits.resume().await.expect("it is paused");
        assert_eq!(soon("the end", waits.result()).await.expect("a value"), 3);
        waits.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn whoever_lets_a_job_go_on_ends_pauses_that_wait() {
    for host in BOTH.hosts().await {
        let job = in_its_stride(&host, 2).await;
        let (paused, ()) = tokio::join!(job.pause(WITHIN), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            job.resume().await.expect("it is to pause");
        });
        let why = refused(paused, RefusalCode::NoCheckpoint);
        assert!(why.message.contains("told to go on"), "{why}");
        soon("the end", job.result()).await.expect("it goes on");
        job.acknowledge().await.expect("it has ended");
    }
}
