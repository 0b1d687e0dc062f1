//! Calls while they run: what is heard of them, how they are stopped, and how they share a host.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use spore_client::{Bundle, CallError, Failure, Host, OutputStream, RefusalCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of};
use spore_tests::local::Both;
use spore_tests::module::{RUN, Raw};
use spore_tests::outcome::{idle, refused, running, soon, until};
use spore_tests::{Local, hostile, plain as plain_bundle};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn output_and_progress_arrive_while_the_guest_runs() {
    let narrate = of(plain_bundle(), plain::narrate::HANDLE);
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        // The guest goes on for an hour: what is heard of it is heard before its end.
        let (hear, heard) = mpsc::channel();
        let progress = hear.clone();
        let call = host
            .call(&narrate, (1_000_000, 4))
            .on_output(move |stream, bytes| {
                hear.send(Heard::Output(stream, bytes.to_vec()))
                    .expect("the test hears");
            })
            .on_progress(move |done, total| {
                progress
                    .send(Heard::Progress(done, total))
                    .expect("the test hears");
            });
        let running = tokio::spawn(call.into_future());
        let (mut out, mut err, mut done) = (Vec::new(), Vec::new(), 0);
        until("output and progress", || {
            for heard in heard.try_iter() {
                match heard {
                    Heard::Output(OutputStream::Stdout, bytes) => out.extend(bytes),
                    Heard::Output(OutputStream::Stderr, bytes) => err.extend(bytes),
                    Heard::Progress(now, 1_000_000) => done = now,
                    Heard::Progress(..) => panic!("another whole"),
                }
            }
            std::future::ready(
                out == b"begin\n" && err.starts_with(b"step 1\nstep 2\n") && done >= 2,
            )
        })
        .await;
        assert!(!running.is_finished());
        running.abort();
        idle(&host).await;
    }
}

enum Heard {
    Output(OutputStream, Vec<u8>),
    Progress(u64, u64),
}

#[tokio::test]
async fn a_line_that_is_not_ended_arrives_also_before_a_panic() {
    let half_a_line = of(plain_bundle(), plain::half_a_line::HANDLE);
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        for fail in [false, true] {
            let (hear, heard) = mpsc::channel();
            let call = host
                .call(&half_a_line, (fail,))
                .on_output(move |stream, bytes| {
                    assert!(matches!(stream, OutputStream::Stdout));
                    hear.send(bytes.to_vec()).expect("the test hears");
                });
            match call.await {
                Ok(()) => assert!(!fail),
                Err(CallError::Failed(Failure::Panic { message, .. })) => {
                    assert!(fail && message == "before its end", "{message}");
                }
                other => panic!("{other:?}"),
            }
            let heard: Vec<_> = heard.try_iter().flatten().collect();
            assert_eq!(heard, b"half a line");
        }
    }
}

#[tokio::test]
async fn dropping_a_call_stops_its_guest() {
    let both = Both::of(Setup::default());
    let hosts = both.hosts().await;
    let spin = of(hostile(), hostile::spin::HANDLE);
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for host in hosts {
        let spinning = tokio::spawn(host.call(&spin, ()).into_future());
        let sleeping = tokio::spawn(host.call(&sleep, (3_600_000,)).into_future());
        running(&host, 2).await;
        let status = host.status().await.expect("it serves");
        let names: BTreeSet<_> = status
            .running
            .iter()
            .map(|call| call.callable.as_str())
            .collect();
        assert_eq!(names, BTreeSet::from(["hostile::sleep", "hostile::spin"]));
        spinning.abort();
        sleeping.abort();
        idle(&host).await;
        let finished = host.status().await.expect("it serves").finished;
        assert_eq!((finished.cancelled, finished.ok), (2, 0));
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_guest_is_stopped() {
    let both = Both::of(Setup::default());
    let hosts = both.hosts().await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for host in hosts {
        let call = host
            .call(&sleep, (3_600_000,))
            .deadline(Duration::from_millis(50));
        let completed = soon("the deadline", call.completed()).await;
        assert!(
            matches!(completed.result, Err(CallError::Deadline)),
            "{:?}",
            completed.result
        );
        idle(&host).await;
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn limits_of_a_key_lower_those_of_the_host() {
    // What has little time may have no time for anything else.
    let local = Local::start(Setup::default(), &["wall=100ms", "memory=4MiB", ""]);
    let [short, small, high] = [
        local.connect(0).await,
        local.connect(1).await,
        local.connect(2).await,
    ];
    let take = of(hostile(), hostile::take::HANDLE);
    let spin = of(hostile(), hostile::spin::HANDLE);
    let result = small.call(&take, (8 * MIB as u32,)).await;
    assert_eq!(refused(result, RefusalCode::Memory).limit, Some(4 * MIB));
    assert_eq!(
        refused(short.call(&spin, ()).await, RefusalCode::WallTime).limit,
        Some(100)
    );
    assert_eq!(
        high.call(&take, (8 * MIB as u32,))
            .await
            .expect("the other key may"),
        8 * MIB
    );
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_how_long_it_may_be() {
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    let limits = Limits {
        queue: 3,
        instances: 2,
        instances_per_key: 2,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        workers: Some(1),
        ..Setup::default()
    };
    let both = Both::of(setup);
    let hosts = both.hosts().await;
    for host in hosts {
        let call = || tokio::spawn(host.call(&sleep, (3_600_000,)).into_future());
        let mut calls = vec![call(), call()];
        running(&host, 2).await;
        calls.extend([call(), call(), call()]);
        until("three wait", || async {
            host.status().await.expect("serves").queued == 3
        })
        .await;
        let refused = refused(host.call(&sleep, (0,)).await, RefusalCode::QueueFull);
        assert_eq!(refused.limit, Some(3));
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        idle(&host).await;
        assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_key_may_not_fill_the_queue_of_the_others() {
    let local = Local::start(Setup::default(), &["queued=2", ""]);
    let (greedy, other) = (local.connect(0).await, local.connect(1).await);
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    let call = || tokio::spawn(greedy.call(&sleep, (3_600_000,)).into_future());
    let calls = [call(), call()];
    running(&greedy, 2).await;
    let refused = refused(greedy.call(&sleep, (0,)).await, RefusalCode::QueueFull);
    assert_eq!(refused.limit, Some(2));
    assert_serves(&other).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn timing_says_where_the_time_went() {
    let both = Both::of(Setup::default());
    let hosts = both.hosts().await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for (host, remote) in hosts.iter().zip([false, true]) {
        let first = host
            .call(&sleep, (500,))
            .completed()
            .await
            .timing
            .expect("it ran");
        assert!(first.run_ns >= 500_000_000, "{first:?}");
        assert!(first.compile_ns > 0, "{first:?}");
        assert_eq!(first.transfer_ns > 0, remote, "{first:?}");
        let second = host
            .call(&sleep, (0,))
            .completed()
            .await
            .timing
            .expect("it ran");
        assert_eq!(second.compile_ns, 0, "it was compiled before: {second:?}");
        assert!(second.run_ns < first.run_ns, "{second:?}");
    }
}

/// A guest whose code no other number has.
fn numbered(number: u32) -> Bundle {
    let raw = Raw {
        more: format!("(global i32 (i32.const {number}))"),
        ..Raw::default()
    };
    raw.bundle()
}

#[tokio::test]
async fn code_is_kept_as_far_as_its_cache_goes_though_bundles_are_kept() {
    let host = Host::embedded().expect("the engine starts");
    host.ship(&numbered(0)).await.expect("compiled");
    let one = host.status().await.expect("it serves").cached_code.bytes;
    // Room for the code of one, and for the bundles of all.
    let limits = Limits {
        code_cache: one * 3 / 2,
        ..Limits::default()
    };
    let both = Both::of(Setup {
        limits,
        ..Setup::default()
    });
    for host in both.hosts().await {
        for (number, compiles) in [(0, true), (0, false), (1, true), (1, false), (0, true)] {
            let run = of(&numbered(number), RUN);
            let completed = host.call(&run, (vec![],)).completed().await;
            let timing = completed.timing.expect("it ran");
            assert_eq!(timing.compile_ns > 0, compiles, "{number}: {timing:?}");
            let kept = host.status().await.expect("it serves").cached_code;
            assert_eq!((kept.count, kept.bytes <= one * 3 / 2), (1, true));
        }
    }
}

#[tokio::test]
async fn timing_has_the_wait_for_a_worker() {
    let limits = Limits {
        instances: 1,
        instances_per_key: 1,
        ..Limits::default()
    };
    let both = Both::of(Setup {
        limits,
        ..Setup::default()
    });
    let hosts = both.hosts().await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for host in hosts {
        let ahead = tokio::spawn(host.call(&sleep, (2_000,)).into_future());
        running(&host, 1).await;
        let behind = host
            .call(&sleep, (0,))
            .completed()
            .await
            .timing
            .expect("it ran");
        assert!(behind.queue_ns > behind.run_ns, "{behind:?}");
        ahead.await.expect("no panic").expect("it slept");
    }
}

#[tokio::test]
async fn a_loop_of_one_key_does_not_keep_another_from_being_served() {
    let setup = Setup {
        workers: Some(1),
        ..Setup::default()
    };
    let local = Local::start(setup, &["", ""]);
    let (greedy, other) = (local.connect(0).await, local.connect(1).await);
    assert_serves(&other).await;
    let spin = of(hostile(), hostile::spin::HANDLE);
    let calls: Vec<_> = (0..16)
        .map(|_| tokio::spawn(greedy.call(&spin, ()).into_future()))
        .collect();
    running(&greedy, 16).await;
    // Sixteen loops hold the only worker, and each call of the other key still gets its turn after
    // one time slice of one of them.
    for _ in 0..20 {
        soon("a turn among loops", assert_serves(&other)).await;
    }
    assert!(
        calls.iter().all(|call| !call.is_finished()),
        "the loops went on meanwhile"
    );
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    idle(&greedy).await;
}

#[tokio::test]
async fn sleeping_guests_hold_no_worker() {
    let setup = Setup {
        workers: Some(1),
        ..Setup::default()
    };
    let both = Both::of(setup);
    let hosts = both.hosts().await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    for host in hosts {
        let calls: Vec<_> = (0..8)
            .map(|_| tokio::spawn(host.call(&sleep, (3_600_000,)).into_future()))
            .collect();
        running(&host, 8).await;
        soon("a call beside sleepers", assert_serves(&host)).await;
        assert!(calls.iter().all(|call| !call.is_finished()));
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        idle(&host).await;
    }
}

#[tokio::test]
async fn calls_of_one_connection_run_at_the_same_time() {
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    let double = of(plain_bundle(), plain::double::HANDLE);
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        // None of them ends by itself: one after the other, the first would run alone.
        let sleepers: Vec<_> = (0..100)
            .map(|_| tokio::spawn(host.call(&sleep, (3_600_000,)).into_future()))
            .collect();
        running(&host, 100).await;
        let calls: Vec<_> = (0..200u64)
            .map(|x| tokio::spawn(host.call(&double, (x,)).into_future()))
            .collect();
        for (x, call) in (0u64..).zip(calls) {
            assert_eq!(call.await.expect("no panic").expect("doubled"), 2 * x);
        }
        let status = host.status().await.expect("it serves");
        assert!(status.running_count >= 100, "{status:?}");
        sleepers.iter().for_each(tokio::task::JoinHandle::abort);
        idle(&host).await;
    }
}

#[tokio::test]
async fn there_are_as_many_workers_as_cores() {
    let cores = std::thread::available_parallelism().expect("this machine tells");
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        let status = host.status().await.expect("it serves");
        assert_eq!(status.workers as usize, cores.get());
    }
}
