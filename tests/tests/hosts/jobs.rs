//! Streams and jobs: embedded and over QUIC the same.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use resumer::{by_futures, digits, endless, entwined, halves, multiples, pairs, primes};
use resumer::{naps, rounds, sorted, strides, told};
use serde_json::json;
use spore_client::{
    Bundle, CallError, Ending, FindError, Host, Items, Job, JobError, JobNews, JobState, MoveError,
    OutputStream, RefusalCode, SessionState,
};
use spore_host::Setup;
use spore_tests::guests::{of, wall};
use spore_tests::kept::{WITHIN, info, next_item};
use spore_tests::local::{Both, Local};
use spore_tests::outcome::{idle, refused, soon, until};
use spore_tests::{Process, resumer};

static BOTH: Both = Both::new(Setup::default);

/// Every item until the end, and the error if there is one.
async fn all<R, E: Debug>(mut items: Items<R, E>) -> (Vec<R>, Option<CallError<E>>) {
    let mut taken = Vec::new();
    while let Some(item) = soon("the next item", items.next()).await {
        match item {
            Ok(item) => taken.push(item),
            Err(error) => {
                assert!(items.next().await.is_none(), "an error is the last");
                return (taken, Some(error));
            }
        }
    }
    assert!(items.next().await.is_none(), "the end stays");
    (taken, None)
}

/// The refusal with which a job must have ended.
#[track_caller]
fn ended_by<R: Debug, E: Debug>(result: Result<R, CallError<E>>, code: RefusalCode) {
    match result {
        Err(CallError::JobEnded(refused)) if refused.code == code => {}
        other => panic!("expected the end {}, got {other:?}", code.name()),
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Pauses a job again and again until it has ended. Gives how often that was.
async fn pause_often<R, E, I>(job: &Job<R, E, I>, between: Duration) -> u64 {
    for paused in 0.. {
        match soon("a checkpoint", job.pause(WITHIN)).await {
            Ok(changed) => assert_eq!(changed.state, JobState::Paused),
            Err(error) => {
                refused(Err::<(), _>(error), RefusalCode::JobEnded);
                return paused;
            }
        }
        job.resume().await.expect("it is paused");
        tokio::time::sleep(between).await;
    }
    unreachable!("the job ends")
}

#[tokio::test]
async fn a_resumable_callable_is_called_as_any_other() {
    let list = vec![3, 1, 2];
    let callable = resumer().callable(sorted::HANDLE).expect("it is there");
    let bound = callable.capture(&(list, 9)).expect("captured");
    for host in BOTH.hosts().await {
        let call = host.call(&of(resumer(), rounds::HANDLE), (1000,));
        assert_eq!(call.await.expect("it runs"), 1000);
        let sorted = host.call(&bound, (vec![5, 4],)).await.expect("it runs");
        assert_eq!(sorted, [1, 2, 3, 4, 5, 9]);
        let dynamic = resumer().callable("rounds").expect("it is there");
        let called = host.call(&dynamic, json!([7])).await.expect("it runs");
        assert_eq!(called, json!(7));
        let napped = host.call(&of(resumer(), naps::HANDLE), (vec![30, 10],));
        let ended = napped.await.expect("it runs");
        let order: Vec<u32> = ended.iter().map(|(index, _)| *index).collect();
        assert_eq!(order, [1, 0]);
        // In a session too.
        let session = host.open_session(resumer()).await.expect("opened");
        let call = session.call(rounds::HANDLE, (5,)).expect("it is there");
        assert_eq!(call.await.expect("it runs"), 5);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn items_come_in_order_and_end() {
    let multiples = resumer().callable(multiples::HANDLE).expect("it is there");
    let of_seven = multiples.capture(&7).expect("captured");
    let names = vec!["a".to_owned(), "b".to_owned()];
    let pairs = resumer().callable(pairs::HANDLE).expect("it is there");
    let named = pairs.capture(&names).expect("captured");
    for host in BOTH.hosts().await {
        // More than any window.
        let items = host.stream(&of_seven, (3, 1000)).await.expect("begun");
        let (taken, error) = all(items).await;
        assert!(error.is_none(), "{error:?}");
        assert!(taken.into_iter().eq((3..1003).map(|n| n * 7)));
        let (none, error) = all(host.stream(&of_seven, (3, 0)).await.expect("begun")).await;
        assert!(none.is_empty() && error.is_none(), "{error:?}");

        let (met, error) = all(host.stream(&named, (3,)).await.expect("begun")).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(met.len(), 6);
        for name in &names {
            let own = met.iter().filter(|(of, _)| of == name);
            assert!(own.map(|(_, n)| *n).eq(0..3), "{met:?}");
        }
        let dynamic = resumer().callable("digits").expect("it is there");
        let items = host.stream(&dynamic, json!(["2026"])).await.expect("begun");
        let (taken, error) = all(items).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(taken, [2, 0, 2, 6].map(|n| json!(n)));
    }
}

#[tokio::test]
async fn a_session_emits_items_too() {
    let factor = resumer().callable(multiples::HANDLE).expect("it is there");
    let of_seven = factor.capture(&7).expect("captured").bundle();
    for host in BOTH.hosts().await {
        let session = host.open_session(&of_seven).await.expect("opened");
        for first in [3, 5] {
            // More than any window.
            let items = session.stream(multiples::HANDLE, (first, 1000));
            let items = items.expect("it is there").await.expect("begun");
            let (taken, error) = all(items).await;
            assert!(error.is_none(), "{error:?}");
            assert!(taken.into_iter().eq((first..first + 1000).map(|n| n * 7)));
        }
        let items = session.stream(halves::HANDLE, (12,)).expect("it is there");
        let (taken, error) = all(items.await.expect("begun")).await;
        assert_eq!(taken, [6, 3]);
        assert!(matches!(error, Some(CallError::Guest(_))), "{error:?}");
        let items = session
            .stream("digits", json!(["26"]))
            .expect("it is there");
        let (taken, error) = all(items.await.expect("begun")).await;
        assert!(error.is_none() && taken == [2, 6].map(|n| json!(n)));
        // What the wrong request gets, which changes nothing.
        let called = session.call("primes", json!([2])).expect("it is there");
        refused(called.await, RefusalCode::EmitsItems);
        let streamed = session.stream("rounds", json!([2])).expect("it is there");
        assert!(matches!(streamed.await, Err(CallError::NoItems { .. })));
        let copy = host
            .open_session(&session.save().await.expect("saved"))
            .await;
        copy.expect("opened").close().await.expect("closed");
        // Items that nobody takes any more: the guest was stopped within a call.
        let items = session.stream(primes::HANDLE, (2,)).expect("it is there");
        let mut items = items.await.expect("begun");
        assert_eq!(items.next().await.expect("one").expect("a number"), 2);
        drop(items);
        until("it is known to be poisoned", || async {
            let listed = host.sessions().await.expect("listed");
            let own = listed.iter().find(|it| it.session == session.id());
            own.expect("it is open").state == SessionState::Poisoned
        })
        .await;
        session.restore().await.expect("it was saved");
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn an_error_is_the_last_of_a_stream() {
    for host in BOTH.hosts().await {
        let items = host.stream(&of(resumer(), halves::HANDLE), (12,));
        let (taken, error) = all(items.await.expect("begun")).await;
        assert_eq!(taken, [6, 3]);
        match error {
            Some(CallError::Guest(error)) => assert_eq!(error, "3 is odd"),
            other => panic!("expected the guest's error, got {other:?}"),
        }
        // Before the first item too, and the refusal of a call that does not begin.
        let items = host.stream(&of(resumer(), digits::HANDLE), ("1x".to_owned(),));
        let (none, error) = all(items.await.expect("begun")).await;
        assert!(none.is_empty() && matches!(error, Some(CallError::Guest(_))));
        let items = host.stream(&of(resumer(), primes::HANDLE), (2,));
        let limited = items.limits(wall(300)).await.expect("begun");
        let (_, error) = all(limited).await;
        refused(
            Err::<(), _>(error.expect("it never ends")),
            RefusalCode::WallTime,
        );
        let items = host.stream(&of(resumer(), primes::HANDLE), (2,));
        let late = items.deadline(Duration::from_millis(300));
        let (_, error) = all(late.await.expect("begun")).await;
        assert!(matches!(error, Some(CallError::Deadline)), "{error:?}");
    }
}

#[tokio::test]
async fn what_emits_is_no_call_and_what_returns_no_stream() {
    for host in BOTH.hosts().await {
        let primes = resumer().callable("primes").expect("it is there");
        assert!(primes.emits_items() && primes.is_resumable());
        let called = host.call(&primes, json!([2])).await;
        refused(called, RefusalCode::EmitsItems);
        let rounds = resumer().callable("rounds").expect("it is there");
        let streamed = host.stream(&rounds, json!([2])).await;
        assert!(matches!(streamed, Err(CallError::NoItems { .. })));
        let plain = resumer().callable("looked_up").expect("it is there");
        let started = host.start(&plain, json!([2])).await;
        refused(started, RefusalCode::NotResumable);
    }
}

#[tokio::test]
async fn a_slow_taker_holds_the_guest() {
    for host in BOTH.hosts().await {
        // Each item is followed by progress, which is what shows how far the guest is.
        let job = host.start(&of(resumer(), primes::HANDLE), (2,));
        let job = job.await.expect("started");
        let mut watch = job.watch().await.expect("watched");
        assert_eq!(next_item(&mut watch).await, (0, 2));
        until("the guest waits", || async {
            let before = info(&job).await.items;
            tokio::time::sleep(Duration::from_millis(100)).await;
            before > 1 && info(&job).await.items == before
        })
        .await;
        let held = info(&job).await.items;
        assert!(held <= 200, "{held} items of a guest that nobody takes");
        // It goes on where it was.
        for n in 1..=held {
            assert_eq!(next_item(&mut watch).await.0, n);
        }
        drop(watch);
        job.cancel().await.expect("it runs");
        job.acknowledge().await.expect("it has ended");
        // The same of a call: it is held for as long as nobody looks, and goes on then.
        let mut items = host.stream(&of(resumer(), primes::HANDLE), (2,));
        items = items.limits(wall(60_000));
        let mut items = items.await.expect("begun");
        assert_eq!(items.next().await.expect("one").expect("good"), 2);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut last = 2;
        for _ in 0..300 {
            let next = items.next().await.expect("one").expect("good");
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        assert_eq!(last, 1993);
    }
}

#[tokio::test]
async fn a_dropped_stream_stops_its_guest() {
    // Hosts of its own, on which nothing else runs.
    for host in Both::of(Setup::default()).hosts().await {
        let items = host.stream(&of(resumer(), primes::HANDLE), (2,));
        let mut items = items.await.expect("begun");
        items.next().await.expect("one").expect("good");
        let status = host.status().await.expect("it serves");
        assert!(status.running_count > 0);
        drop(items);
        idle(&host).await;
    }
}

#[tokio::test]
async fn a_wait_for_an_item_that_is_dropped_loses_none() {
    for host in BOTH.hosts().await {
        let items = host.stream(&of(resumer(), primes::HANDLE), (2,));
        let mut items = items.await.expect("begun");
        let mut taken: Vec<u64> = Vec::new();
        while taken.len() < 500 {
            // One look at a time, each of which is dropped.
            let looked = poll_fn(|cx| {
                let next = std::pin::pin!(items.next());
                std::task::Poll::Ready(std::future::Future::poll(next, cx))
            });
            match looked.await {
                std::task::Poll::Ready(item) => taken.push(item.expect("one").expect("good")),
                std::task::Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        assert_eq!(&taken[..5], [2, 3, 5, 7, 11]);
        assert_eq!(taken[499], 3571);
    }
}

#[tokio::test]
async fn a_job_is_started_listed_watched_and_acknowledged() {
    /// So many that it has not ended before it is watched.
    const ROUNDS: u32 = 100;
    let all = u64::from(ROUNDS);
    for host in BOTH.hosts().await {
        let callable = of(resumer(), told::HANDLE);
        let job = host.start(&callable, (ROUNDS,)).await.expect("started");
        let listed = info(&job).await;
        assert_eq!((listed.job, &*listed.callable), (job.id(), "resumer::told"));
        assert_eq!(listed.bundle.0, *resumer().id().as_bytes());
        let mut watch = job.watch().await.expect("watched");
        assert_eq!(watch.items_from(), None);
        let (mut output, mut steps) = (String::new(), Vec::new());
        let mut states = Vec::new();
        while let Some(news) = soon("news", watch.next()).await {
            match news.expect("the watch goes on") {
                JobNews::Output(OutputStream::Stdout, bytes) => {
                    output.push_str(std::str::from_utf8(&bytes).expect("text"));
                }
                JobNews::Progress { done, total } => {
                    assert_eq!(total, all);
                    steps.push(done);
                }
                JobNews::State(changed) => states.push(changed.state),
                other => panic!("{other:?}"),
            }
        }
        let last = format!("round {ROUNDS}\n");
        assert!(output.ends_with(&last), "{output}");
        assert!(steps.is_sorted() && steps.last() == Some(&all), "{steps:?}");
        assert!(
            states.iter().all(|it| *it == JobState::Running),
            "{states:?}"
        );
        let result = watch.result().expect("it has ended");
        assert_eq!(result.expect("a value"), ROUNDS);

        // The result stays, for any program of this user, until it is acknowledged.
        let ended = info(&job).await;
        assert_eq!(ended.state, JobState::Ended(Ending::Value));
        assert_eq!((ended.done, ended.total), (all, all));
        assert_eq!(job.result().await.expect("a value"), ROUNDS);
        let found = host.job(job.id()).await.expect("found");
        assert_eq!(found.result().await.expect("a value"), json!(ROUNDS));
        let typed = host.job_of(told::HANDLE, job.id()).await.expect("found");
        assert_eq!(typed.result().await.expect("a value"), ROUNDS);
        let other = host.job_of(rounds::HANDLE, job.id()).await;
        refused(other, RefusalCode::UnknownCallable);
        job.acknowledge().await.expect("it has ended");
        refused(job.acknowledge().await, RefusalCode::UnknownJob);
        refused(job.result().await, RefusalCode::UnknownJob);
        let gone = host.job(job.id()).await;
        refused(gone, RefusalCode::UnknownJob);
    }
}

#[tokio::test]
async fn the_items_of_a_job_have_numbers_and_go_to_the_newest_watch() {
    for host in BOTH.hosts().await {
        let job = host.start(&of(resumer(), primes::HANDLE), (2,));
        let job = job.await.expect("started");
        let mut first = job.watch().await.expect("watched");
        assert_eq!(first.items_from(), Some(0));
        for (n, prime) in [2, 3, 5, 7, 11].into_iter().enumerate() {
            assert_eq!(next_item(&mut first).await, (n as u64, prime));
        }
        // One that does not want them leaves them there.
        let quiet = job.watch().without_items().await.expect("watched");
        assert_eq!(quiet.items_from(), None);
        assert_eq!(next_item(&mut first).await, (5, 13));
        let mut second = job.watch().items_from(5).await.expect("watched");
        assert_eq!(next_item(&mut second).await, (5, 13));
        // What was on its way to the first may still come.
        let over = loop {
            match soon("the end of the first watch", first.next()).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("the job goes on"),
            }
        };
        refused(Err::<(), _>(over), RefusalCode::ItemsTakenOver);
        assert!(first.next().await.is_none() && first.result().is_none());
        // Those below were taken.
        let gone = job.watch().items_from(1).await;
        let why = refused(gone, RefusalCode::ItemsGone);
        assert!(why.limit >= Some(5), "{why}");
        // A dropped watch leaves the job as it is.
        drop((second, quiet));
        assert_eq!(info(&job).await.state, JobState::Running);
        job.cancel().await.expect("it runs");
        ended_by(job.result().await, RefusalCode::Cancelled);
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_job_that_emits_ends_after_its_last_item() {
    for host in BOTH.hosts().await {
        let job = host.start(&of(resumer(), halves::HANDLE), (8,));
        let job = job.await.expect("started");
        let mut watch = job.watch().await.expect("watched");
        for expected in [(0, 4), (1, 2), (2, 1)] {
            assert_eq!(next_item(&mut watch).await, expected);
        }
        while let Some(news) = soon("the end", watch.next()).await {
            let news = news.expect("the watch goes on");
            assert!(!matches!(news, JobNews::Item { .. }), "{news:?}");
        }
        match watch.result() {
            Some(Err(CallError::Guest(error))) => assert_eq!(error, "1 is odd"),
            other => panic!("expected the guest's error, got {other:?}"),
        }
        assert!(matches!(job.result().await, Err(CallError::Guest(_))));
        let ended = info(&job).await;
        assert_eq!(ended.state, JobState::Ended(Ending::GuestError));
        assert_eq!(ended.items, 3);
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_job_that_was_paused_often_has_the_same_result() {
    let weights: Vec<f64> = (1..60).map(|n| f64::from(n) / 7.0).collect();
    let callable = resumer().callable(entwined::HANDLE).expect("it is there");
    let bound = callable.capture(&weights).expect("captured");
    let by_futures = of(resumer(), by_futures::HANDLE);
    for host in BOTH.hosts().await {
        let whole = host.call(&bound, (2026, 60_000)).await.expect("it runs");
        let job = host.start(&bound, (2026, 60_000)).await.expect("started");
        let paused = pause_often(&job, Duration::from_millis(1)).await;
        let parted = job.result().await.expect("a value");
        assert_eq!((bits(&parted.0), parted.1), (bits(&whole.0), whole.1));
        assert!(paused > 0, "it had ended before");
        assert_eq!(info(&job).await.stops, paused);
        job.acknowledge().await.expect("it has ended");

        let whole = host.call(&by_futures, (2026, 2000)).await.expect("it runs");
        let job = host.start(&by_futures, (2026, 2000)).await;
        let job = job.expect("started");
        let paused = pause_often(&job, Duration::from_millis(1)).await;
        let parted = job.result().await.expect("a value");
        assert_eq!(bits(&parted), bits(&whole));
        assert!(paused > 0, "it had ended before");
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_paused_job_stands_still_and_goes_on() {
    for host in BOTH.hosts().await {
        let job = host.start(&of(resumer(), told::HANDLE), (200,));
        let job = job.await.expect("started");
        job.pause(WITHIN).await.expect("it sleeps often");
        job.pause(WITHIN).await.expect("it stands still already");
        let before = info(&job).await;
        assert_eq!(before.state, JobState::Paused);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = info(&job).await;
        assert_eq!((after.done, after.stops), (before.done, 1));
        let mut watch = job.watch().await.expect("watched");
        job.resume().await.expect("it is paused");
        job.resume().await.expect("it goes on already");
        let news = loop {
            match soon("news", watch.next()).await.expect("it goes on") {
                Ok(JobNews::State(changed)) => break changed,
                other => _ = other.expect("the watch goes on"),
            }
        };
        assert_eq!(news.state, JobState::Running);
        assert_eq!(job.result().await.expect("a value"), 200);
        refused(job.resume().await, RefusalCode::JobEnded);
        refused(job.pause(WITHIN).await, RefusalCode::JobEnded);
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_saved_job_goes_on_elsewhere_to_the_same_result() {
    let [embedded, remote] = BOTH.hosts().await;
    let callable = of(resumer(), by_futures::HANDLE);
    let whole = embedded.call(&callable, (7, 3000)).await.expect("it runs");
    for (from, to) in [(&embedded, &remote), (&remote, &embedded)] {
        let job = from.start(&callable, (7, 3000)).await.expect("started");
        job.pause(WITHIN).await.expect("it has checkpoints");
        let saved = job.save(WITHIN).await.expect("it stands still");
        let same = job.save(WITHIN).await.expect("it stands still");
        assert_eq!(saved.id(), same.id());
        job.resume().await.expect("it is paused");
        // Through its file, as people carry it.
        let file = Bundle::from_bytes(saved.inner().encode()).expect("a sound file");
        let copy = to.open_job_of(by_futures::HANDLE, &file).paused(true);
        let copy = copy.await.expect("opened");
        assert_ne!(copy.id(), job.id());
        assert_eq!(info(&copy).await.state, JobState::Paused);
        copy.resume().await.expect("it is paused");
        let again = to.open_job(&file).await.expect("opened");
        assert_eq!(bits(&job.result().await.expect("a value")), bits(&whole));
        assert_eq!(bits(&copy.result().await.expect("a value")), bits(&whole));
        assert_eq!(again.result().await.expect("a value"), json!(whole));
        // It is no fresh start, and no call.
        let wrong = to.open_job_of(rounds::HANDLE, &file).await;
        refused(wrong, RefusalCode::UnknownCallable);
        refused(to.open_job(resumer()).await, RefusalCode::NoImage);
        let of_run = file.callable(rounds::HANDLE).expect("it is there");
        refused(to.call(&of_run, (1,)).await, RefusalCode::Unsupported);
        for id in [copy.id(), again.id()] {
            let ended = to.job(id).await.expect("found");
            ended.acknowledge().await.expect("it has ended");
        }
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_saved_stream_goes_on_with_its_next_item() {
    let [embedded, remote] = BOTH.hosts().await;
    for (from, to) in [(&embedded, &remote), (&remote, &embedded)] {
        let job = from.start(&of(resumer(), primes::HANDLE), (2,));
        let job = job.await.expect("started");
        let mut watch = job.watch().await.expect("watched");
        for _ in 0..10 {
            next_item(&mut watch).await;
        }
        job.pause(WITHIN).await.expect("it has checkpoints");
        let emitted = info(&job).await.items;
        let saved = job.save(WITHIN).await.expect("it stands still");
        let copy = to.open_job_of(primes::HANDLE, &saved);
        let copy = copy.await.expect("opened");
        let mut there = copy.watch().await.expect("watched");
        assert_eq!(there.items_from(), Some(emitted));
        job.resume().await.expect("it is paused");
        let mut here = (0, 0);
        while here.0 < emitted {
            here = next_item(&mut watch).await;
        }
        for _ in 0..100 {
            assert_eq!(next_item(&mut there).await, here);
            here = next_item(&mut watch).await;
        }
        for job in [&job, &copy] {
            job.cancel().await.expect("it runs");
            job.acknowledge().await.expect("it has ended");
        }
    }
}

#[tokio::test]
async fn a_cancelled_job_ends_wherever_it_is() {
    for host in BOTH.hosts().await {
        let endless = host.start(&of(resumer(), endless::HANDLE), (1,));
        let endless = endless.await.expect("started");
        let still = host.start(&of(resumer(), rounds::HANDLE), (u32::MAX,));
        let still = still.await.expect("started");
        still.pause(WITHIN).await.expect("it has checkpoints");
        let busy = host.start(&of(resumer(), strides::HANDLE), (1, u64::MAX));
        let busy = busy.await.expect("started");
        let changed = soon("the end", endless.cancel()).await.expect("it runs");
        assert_eq!(changed.state, JobState::Ended(Ending::Cancelled));
        soon("the end", still.cancel()).await.expect("it is there");
        soon("the end", busy.cancel()).await.expect("it runs");
        ended_by(endless.result().await, RefusalCode::Cancelled);
        ended_by(still.result().await, RefusalCode::Cancelled);
        ended_by(busy.result().await, RefusalCode::Cancelled);
        let again = endless.cancel().await.expect("it stays as it is");
        assert_eq!(again.state, JobState::Ended(Ending::Cancelled));
        endless.acknowledge().await.expect("it has ended");
        still.acknowledge().await.expect("it has ended");
        busy.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn the_job_of_another_key_is_not_there() {
    let local = Local::start(Setup::default(), &["", ""]);
    let [one, other] = [local.connect(0).await, local.connect(1).await];
    let job = one.start(&of(resumer(), told::HANDLE), (20,));
    let job = job.await.expect("started");
    assert!(other.jobs().await.expect("listed").is_empty());
    let unknown = other.job(job.id()).await;
    refused(unknown, RefusalCode::UnknownJob);
    // One who knows the id anyway finds nothing either.
    let connection = local.connection(1).await;
    let mut peer = spore_tests::peer::Peer::open(&connection).await;
    peer.say(&spore_transport::message::Message::JobCancel(
        spore_transport::job::JobCancel { job: job.id() },
    ))
    .await;
    peer.refusal(RefusalCode::UnknownJob).await;
    assert_eq!(job.result().await.expect("a value"), 20);
}

#[tokio::test]
async fn a_job_that_reaches_no_checkpoint_goes_on() {
    for host in BOTH.hosts().await {
        let job = host.start(&of(resumer(), strides::HANDLE), (1, u64::MAX));
        let job = job.await.expect("started");
        until("it is in its stride", || async {
            info(&job).await.done == 1
        })
        .await;
        let short = Duration::from_millis(100);
        let began = Instant::now();
        let why = refused(job.pause(short).await, RefusalCode::NoCheckpoint);
        assert!(began.elapsed() >= short);
        assert_eq!(why.limit, Some(100));
        refused(job.save(short).await, RefusalCode::NoCheckpoint);
        assert_eq!(info(&job).await.state, JobState::Running);
        job.cancel().await.expect("it runs");
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn the_wall_time_of_a_job_holds_between_checkpoints() {
    /// Steps of a stride that takes a while, and not too long on a machine that is busy.
    const STEPS: u64 = 20_000_000;
    /// Least time that a job gets: something else may have the processor for a good part of it.
    const LIMIT_MIN: Duration = Duration::from_secs(2);
    let callable = of(resumer(), strides::HANDLE);
    for host in BOTH.hosts().await {
        // Compiled before, which takes longer than strides on some machines.
        host.call(&callable, (1, 1)).await.expect("it runs");
        let began = Instant::now();
        host.call(&callable, (2, STEPS)).await.expect("it runs");
        let limit = (began.elapsed() * 4).max(LIMIT_MIN);
        let limits = wall(limit.as_millis() as u64);
        // Each stride is within the limit, and all together are beyond it once there are enough.
        let mut count = 24;
        loop {
            let job = host.start(&callable, (count, STEPS)).limits(limits).await;
            let job = job.expect("started");
            let began = Instant::now();
            soon("the end", job.result()).await.expect("a value");
            let took = began.elapsed();
            job.acknowledge().await.expect("it has ended");
            if took > limit {
                break;
            }
            count *= 2;
        }
        let job = host.start(&callable, (1, u64::MAX)).limits(limits).await;
        let job = job.expect("started");
        ended_by(soon("the end", job.result()).await, RefusalCode::WallTime);
        let ended = info(&job).await;
        assert_eq!(ended.state, JobState::Ended(Ending::Refused));
        job.acknowledge().await.expect("it has ended");
        // Time in which it sleeps is none of the guest's.
        let naps = host.start(&of(resumer(), naps::HANDLE), (vec![1500],));
        let job = naps.limits(wall(1000)).await.expect("started");
        soon("the end", job.result()).await.expect("a value");
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn jobs_are_bounded_in_number() {
    let mut setup = Setup::default();
    setup.limits.jobs_per_key = 2;
    let host = Host::embedded_with(setup).expect("the engine starts");
    let callable = of(resumer(), rounds::HANDLE);
    let one = host.start(&callable, (1,)).await.expect("started");
    let _two = host.start(&callable, (1,)).await.expect("started");
    one.result().await.expect("a value");
    // One that has ended counts until it is acknowledged.
    let third = host.start(&callable, (1,)).await;
    let why = refused(third, RefusalCode::TooManyJobs);
    assert_eq!(why.limit, Some(2));
    one.acknowledge().await.expect("it has ended");
    host.start(&callable, (1,)).await.expect("started");
}

#[tokio::test]
async fn a_job_outlives_its_connection() {
    let process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let job = host.start(&of(resumer(), told::HANDLE), (30,));
    let id = job.await.expect("started").id();
    host.close().await;
    let host = process.connect(0).await;
    let job = host.job_of(told::HANDLE, id).await.expect("found");
    assert_eq!(job.result().await.expect("a value"), 30);
    job.acknowledge().await.expect("it has ended");
}

#[tokio::test]
async fn jobs_move_between_hosts_that_others_reach_and_no_others() {
    let [embedded, remote] = BOTH.hosts().await;
    let start = async |host: &Host| -> Job<u32, Infallible> {
        let job = host.start(&of(resumer(), told::HANDLE), (20,));
        job.await.expect("started")
    };
    let job = start(&embedded).await;
    let moved = job.move_to(&remote, WITHIN).await;
    assert!(matches!(moved, Err(MoveError::Embedded)), "{moved:?}");
    let settled = embedded.settle_move(job.id(), &remote).await;
    assert!(matches!(settled, Err(MoveError::Embedded)), "{settled:?}");
    let adopted = embedded.adopt_job(job.id()).await;
    assert!(matches!(adopted, Err(MoveError::Embedded)), "{adopted:?}");
    let there = start(&remote).await;
    let moved = there.move_to(&remote, WITHIN).await;
    assert!(matches!(moved, Err(MoveError::SameHost)), "{moved:?}");
    for job in [job, there] {
        assert_eq!(job.result().await.expect("a value"), 20);
        job.acknowledge().await.expect("it has ended");
    }
}

#[tokio::test]
async fn a_handle_of_another_kind_finds_nothing() {
    use spore_client::{Handle, NoCaptures, Streaming};
    // As a program would have it that was compiled with another version of the guest.
    let emits: Handle<NoCaptures, (u32,), u32, Infallible, Streaming> =
        Handle::new("resumer::rounds", || {
            let mut description = rounds::HANDLE.description();
            description.streams = true;
            description
        });
    let found = resumer().callable(emits);
    assert!(matches!(found, Err(FindError::Kind { .. })), "{found:?}");
    let [embedded, _] = BOTH.hosts().await;
    let job = embedded.start(&of(resumer(), rounds::HANDLE), (1,));
    let job = job.await.expect("started");
    let typed: Result<_, JobError> = embedded.job_of(emits, job.id()).await;
    assert!(matches!(typed, Err(CallError::Find(_))), "{typed:?}");
    job.result().await.expect("a value");
    job.acknowledge().await.expect("it has ended");
}

/// An iterator has no checkpoints. It stands at each of its items as well as at one.
#[tokio::test]
async fn the_wall_time_of_a_stream_holds_between_its_items() {
    for host in BOTH.hosts().await {
        let multiples = resumer().callable(multiples::HANDLE).expect("it is there");
        let of_seven = multiples.capture(&7).expect("captured");
        let limit = Duration::from_secs(1);
        let limits = wall(limit.as_millis() as u64);
        let job = host.start(&of_seven, (0, u32::MAX)).limits(limits).await;
        let job = job.expect("started");
        let mut watch = job.watch().await.expect("watched");
        let began = Instant::now();
        while began.elapsed() < 3 * limit {
            next_item(&mut watch).await;
        }
        job.cancel().await.expect("it runs");
        job.acknowledge().await.expect("it has ended");
    }
}
