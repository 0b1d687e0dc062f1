//! Hosts that are told to end, and hosts that are killed.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use spore_client::{CallError, Ending, Job, JobState, Persist, RefusalCode};
use spore_tests::guests::of;
use spore_tests::outcome::{failed, refused, soon};
use spore_tests::{Process, resumer};

use super::{
    Sums, WITHIN, ends_with, info, next_item, next_round, reached, started, take_leave, undisturbed,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_told_to_end_saves_its_jobs_and_goes_on_with_them() {
    const ROUNDS: u32 = 500;
    /// Time for jobs that come to no checkpoint.
    const GRACE: Duration = Duration::from_secs(60);
    let configuration = format!("grace = \"{}s\"\n", GRACE.as_secs());
    let mut process = Process::start(&configuration, &[""]);
    let host = process.connect(0).await;
    let expected = tokio::spawn(undisturbed(ROUNDS));
    // Its next image is an hour away.
    let persisted = started(&host, ROUNDS, Persist::Every { ms: 3_600_000 }).await;
    let fleeting = started(&host, ROUNDS, Persist::Off).await;
    let paused = started(&host, ROUNDS, Persist::Off).await;
    reached(&paused, 20).await;
    paused.pause(WITHIN).await.expect("it sleeps often");
    let saved_from = reached(&persisted, 20).await;
    let saved = persisted.save(WITHIN).await.expect("it sleeps often");
    let opened = host.open_job_of(resumer::paced::HANDLE, &saved);
    let opened = opened.persist(Persist::Off).paused(true).await;
    let opened = opened.expect("opened");
    let persisted_from = reached(&persisted, 50).await;
    let fleeting_from = reached(&fleeting, 50).await;
    let paused_from = info(&paused).await.done;

    take_leave(&host).await;
    let began = Instant::now();
    let status = process.terminate();
    assert_eq!(status.code(), Some(0), "{}", process.log());
    // Their next checkpoints are some milliseconds away: the grace is for those who have none.
    assert!(began.elapsed() < GRACE / 2, "{}", process.log());
    process.restart();

    // Who hears of a later round first has not begun again: there was no time for so many.
    for (job, from) in [(&persisted, persisted_from), (&fleeting, fleeting_from)] {
        let mut watch = job.watch().await.expect("it is there");
        assert_eq!(watch.info().state, JobState::Running);
        let round = next_round(&mut watch).await;
        assert!(round > from, "round {round} after {from}");
    }
    for (job, from) in [(&paused, paused_from), (&opened, saved_from)] {
        let mut watch = job.watch().await.expect("it is there");
        assert_eq!(watch.info().state, JobState::Paused);
        job.resume().await.expect("it is paused");
        let round = next_round(&mut watch).await;
        assert!(round > from, "round {round} after {from}");
    }
    let expected: Sums = expected.await.expect("no panic");
    for job in [&persisted, &fleeting, &paused, &opened] {
        ends_with(job, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_from_its_last_image_when_its_host_was_killed() {
    const ROUNDS: u32 = 700;
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let expected = tokio::spawn(undisturbed(ROUNDS));
    let job = started(&host, ROUNDS, Persist::Every { ms: 100 }).await;
    let fleeting = started(&host, ROUNDS, Persist::Off).await;
    let from = reached(&job, 400).await;
    take_leave(&host).await;
    process.kill();
    process.restart();

    // Images are written several times a second, and this is one of the last seconds, for a disk may
    // be slow. From the beginning it could not have come so far again, nor could it be so old.
    let mut watch = job.watch().await.expect("it is there");
    let round = next_round(&mut watch).await;
    assert!(round > from / 4, "round {round} after {from}");
    let after = info(&job).await;
    assert!(after.age_ms > 10 * from / 4, "{after:?}");
    assert_eq!(after.state, JobState::Running);
    // One that was nowhere written down is lost, as its owner has chosen.
    refused(fleeting.info().await, RefusalCode::UnknownJob);
    ends_with(&job, &expected.await.expect("no panic")).await;
}

/// Jobs that have ended, in every way.
struct Ended {
    value: Job<u32, Infallible>,
    error: Job<(), String, u32>,
    failure: Job<(), Infallible>,
    cancelled: Job<(), Infallible>,
}

impl Ended {
    async fn is_as_it_was(&self) {
        let value = soon("the result", self.value.result()).await;
        assert_eq!(value.expect("a value"), 7);
        match soon("the result", self.error.result()).await {
            Err(CallError::Guest(error)) => assert_eq!(error, "1 is odd"),
            other => panic!("expected the guest's error, got {other:?}"),
        }
        let why = failed(soon("the result", self.failure.result()).await);
        assert!(why.to_string().contains("can never go on"), "{why}");
        match soon("the result", self.cancelled.result()).await {
            Err(CallError::JobEnded(why)) => assert_eq!(why.code, RefusalCode::Cancelled),
            other => panic!("expected that it was cancelled, got {other:?}"),
        }
        assert_eq!(
            info(&self.value).await.state,
            JobState::Ended(Ending::Value)
        );
        let error = info(&self.error).await;
        assert_eq!(error.state, JobState::Ended(Ending::GuestError));
        assert_eq!(error.items, 3);
        let failure = info(&self.failure).await.state;
        assert_eq!(failure, JobState::Ended(Ending::Failed));
        let cancelled = info(&self.cancelled).await.state;
        assert_eq!(cancelled, JobState::Ended(Ending::Cancelled));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ending_is_kept_until_it_is_acknowledged() {
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let value = host.start(&of(resumer(), resumer::rounds::HANDLE), (7,));
    let error = host.start(&of(resumer(), resumer::halves::HANDLE), (8,));
    let failure = host.start(&of(resumer(), resumer::stuck::HANDLE), ());
    let endless = host.start(&of(resumer(), resumer::endless::HANDLE), (1,));
    let ended = Ended {
        // Of one that was never written down while it ran, too.
        value: value.persist(Persist::Off).await.expect("started"),
        error: error.await.expect("started"),
        failure: failure.await.expect("started"),
        cancelled: endless.await.expect("started"),
    };
    ended.cancelled.cancel().await.expect("it runs");
    ended.is_as_it_was().await;
    take_leave(&host).await;
    process.kill();
    process.restart();

    ended.is_as_it_was().await;
    // With the items that nobody has taken.
    let mut watch = ended.error.watch().await.expect("it is there");
    for expected in [(0, 4), (1, 2), (2, 1)] {
        assert_eq!(next_item(&mut watch).await, expected);
    }
    assert!(soon("the end", watch.next()).await.is_none());
    assert!(matches!(watch.result(), Some(Err(CallError::Guest(_)))));
    ended.value.acknowledge().await.expect("it has ended");
    ended.error.acknowledge().await.expect("it has ended");
    ended.failure.acknowledge().await.expect("it has ended");
    ended.cancelled.acknowledge().await.expect("it has ended");
    take_leave(&host).await;
    process.kill();
    process.restart();

    let left = host.jobs().await.expect("listed");
    assert!(left.is_empty(), "{left:?}");
    let gone = soon("an answer", ended.value.result()).await;
    refused(gone, RefusalCode::UnknownJob);
}

#[tokio::test]
async fn a_sleep_ends_however_many_images_are_taken_meanwhile() {
    let process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let job = host.start(&of(resumer(), resumer::naps::HANDLE), (vec![1500],));
    let job = job.persist(Persist::Every { ms: 100 }).await;
    let job = job.expect("started");
    let ended = soon("the sleep ends", job.result()).await;
    assert_eq!(ended.expect("a value"), [(0, 1500)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_does_not_keep_a_host_from_ending() {
    const GRACE: Duration = Duration::from_secs(20);
    let configuration = format!("grace = \"{}s\"\n", GRACE.as_secs());
    let mut process = Process::start(&configuration, &[""]);
    let host = process.connect(0).await;
    let job = started(&host, u32::MAX, Persist::Off).await;
    let mut watch = job.watch().await.expect("watched");
    next_round(&mut watch).await;
    let began = Instant::now();
    let status = process.terminate();
    assert_eq!(status.code(), Some(0), "{}", process.log());
    assert!(began.elapsed() < GRACE / 2, "it took {:?}", began.elapsed());
    // The watch is over, and the job has not ended.
    loop {
        match soon("the end of the watch", watch.next()).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break,
            None => panic!("the job goes on once the host is back"),
        }
    }
    assert!(watch.result().is_none());
}

/// Those that have not begun need their initialiser first, for which there is no place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_serves_while_jobs_wait_for_an_instance_after_a_restart() {
    let mut process = Process::start("job_persist = \"100ms\"\n[limits]\ninstances = 1\n", &[""]);
    let host = process.connect(0).await;
    let long = started(&host, 100_000, Persist::HostDefault).await;
    reached(&long, 20).await;
    long.save(WITHIN).await.expect("it sleeps often");
    let mut waiting = Vec::new();
    let rounds = of(resumer(), resumer::rounds::HANDLE);
    // In the order of their ids, the first is behind one of them.
    for _ in 0..8 {
        waiting.push(host.start(&rounds, (3,)).await.expect("started"));
    }
    take_leave(&host).await;
    process.kill();
    process.restart();
    waiting[0]
        .pause(WITHIN)
        .await
        .expect("it can wait where it is");
    waiting[1].cancel().await.expect("it is there");
    long.cancel().await.expect("it is there");
    waiting[0].resume().await.expect("it is paused");
    let cancelled = waiting.remove(1);
    refused_end(&cancelled).await;
    for job in &waiting {
        assert_eq!(soon("the end", job.result()).await.expect("a value"), 3);
    }
}

/// Waits for a job that was cancelled.
async fn refused_end<R: std::fmt::Debug>(job: &Job<R, Infallible>) {
    match soon("the end", job.result()).await {
        Err(CallError::JobEnded(why)) if why.code == RefusalCode::Cancelled => {}
        other => panic!("expected that it was cancelled, got {other:?}"),
    }
}
