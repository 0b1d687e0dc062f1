//! Jobs that are held for a moment, or were never begun: what is on the disk, and where they go on. By a
//! host in this process, so that requests meet where they are to.

use std::time::Duration;

use spore_bundle::Bundle;
use spore_host::{Caller, Host, JobRequest, Outcome, Setup};
use spore_tests::kept::WITHIN;
use spore_tests::outcome::{soon, until};
use spore_tests::resumer;
use spore_transport::job::{JobId, JobLeave, JobMove, MoveId, MoveStep, Persist, Place};
use spore_transport::message::{CallLimits, Timing};
use spore_transport::{PublicKey, RefusalCode};
use spore_value::{Value, codec};
use tempfile::TempDir;

/// A host that keeps jobs, and the program that embeds it.
struct Own {
    host: Host,
    caller: Caller,
    folder: TempDir,
}

impl Own {
    async fn start() -> Own {
        Own::start_in(tempfile::tempdir().expect("a folder for tests")).await
    }

    /// In a folder that another may still write to: waits until it does not.
    async fn start_in(folder: TempDir) -> Own {
        let host = Host::start(Setup::default()).expect("the engine starts");
        let kept = folder.path().join("kept");
        until("nobody else has the folder", || async {
            host.keep_in(&kept, 1 << 30).is_ok()
        })
        .await;
        let caller = host.embedding_caller();
        Own {
            host,
            caller,
            folder,
        }
    }

    async fn start_job(&self, bundle: &Bundle, name: &str, arguments: Vec<u8>) -> JobId {
        let request = request(bundle, name, arguments, Persist::Off);
        let started = self.host.start_job(&self.caller, bundle, request).await;
        started.expect("it is resumable").job
    }

    /// The value that a job ends with.
    async fn value(&self, job: JobId) -> Vec<u8> {
        let result = self.host.job_result(&self.caller, job, true);
        let result = soon("the job ends", result).await.expect("it is here");
        match result.outcome {
            Outcome::Value(value) => value.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn request(bundle: &Bundle, name: &str, arguments: Vec<u8>, persist: Persist) -> JobRequest {
    let callables = &bundle.manifest().callables;
    let callable = callables.iter().position(|it| it.name == name);
    JobRequest {
        callable: callable.expect("the guest has it") as u32,
        arguments: arguments.into(),
        limits: CallLimits::default(),
        seed: 0,
        persist,
        timing: Timing::default(),
    }
}

fn encoded<T: Value>(value: T) -> Vec<u8> {
    codec::encode(&value).expect("it is shallow")
}

/// Branches that take turns, of so many weights.
fn entwined(weights: u32) -> Bundle {
    let weights: Vec<f64> = (0..weights).map(f64::from).collect();
    let bundle = resumer().inner();
    let (index, _) = bundle.callable("entwined").expect("the guest has it");
    let captures = encoded((weights,));
    bundle.with_captures(index, captures).expect("they fit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_stays_goes_on_where_it_stood() {
    let own = Own::start().await;
    let bundle = entwined(20_000);
    let start = || own.start_job(&bundle, "resumer::entwined", encoded((7u64, 1_600_000u32)));
    let (still, moved) = (start().await, start().await);
    let mut stayed = 0;
    for number in 0..4 {
        let leave = JobLeave {
            job: moved,
            move_id: MoveId([number; 16]),
            to: PublicKey([9; 32]),
            within_ms: WITHIN.as_millis() as u64,
            since: None,
        };
        match own.host.leave_job(&own.caller, &leave).await {
            Ok(_) => stayed += 1,
            Err(why) => {
                assert_eq!(why.code, RefusalCode::JobEnded);
                break;
            }
        }
        let stay = JobMove {
            job: moved,
            move_id: leave.move_id,
            step: MoveStep::Stay,
        };
        let stays = own.host.move_job(&own.caller, &stay).await;
        assert_eq!(stays.expect("it has not left").place, Some(Place::Here));
    }
    assert!(stayed > 0, "it had ended before");
    assert_eq!(own.value(moved).await, own.value(still).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_is_given_up_brings_no_forgotten_job_back() {
    let mut own = Own::start().await;
    let bundle = entwined(2_000_000);
    let arguments = encoded((7u64, u32::MAX));
    let first = own.start_job(&bundle, "resumer::entwined", arguments).await;
    let saved = own.host.save_job(&own.caller, first, WITHIN).await;
    let saved = saved.expect("it comes to a checkpoint").bundle;
    for wait in [1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30] {
        // It is on no disk, and its image is large.
        let limits = CallLimits::default();
        let opened = own
            .host
            .open_job(&own.caller, &saved, &limits, Persist::Off, true);
        let job = opened.await.expect("it holds a run").job;
        let save = own.host.save_job(&own.caller, job, WITHIN);
        let given_up = tokio::time::timeout(Duration::from_millis(wait), save).await;
        let cancelled = own.host.cancel_job(&own.caller, job).await;
        cancelled.expect("it is here");
        let forgotten = own.host.acknowledge_job(&own.caller, job).await;
        forgotten.expect("it has ended");
        drop(given_up);
    }
    own.host.cancel_job(&own.caller, first).await.expect("here");
    let forgotten = own.host.acknowledge_job(&own.caller, first).await;
    forgotten.expect("it has ended");
    // It is there once nothing is written any more, late or not.
    let Own { host, folder, .. } = own;
    drop(host);
    own = Own::start_in(folder).await;
    own.host.revive_own().await;
    assert_eq!(own.host.jobs(&own.caller), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_stands_still_before_it_has_begun_is_not_saved() {
    let own = Own::start().await;
    let bundle = entwined(100_000);
    let mut refused = 0;
    for _ in 0..20 {
        let every = Persist::Every { ms: 60_000 };
        let arguments = encoded((7u64, u32::MAX));
        let request = request(&bundle, "resumer::entwined", arguments, every);
        let (host, caller, bundle) = (own.host.clone(), own.caller.clone(), bundle.clone());
        let starting = tokio::spawn(async move { host.start_job(&caller, &bundle, request).await });
        // It is listed while it is written down, before it begins.
        let job = loop {
            if let Some(info) = own.host.jobs(&own.caller).first() {
                break info.job;
            }
            tokio::task::yield_now().await;
        };
        let paused = own.host.pause_job(&own.caller, job, WITHIN).await;
        paused.expect("it is here");
        let save = own.host.save_job(&own.caller, job, WITHIN);
        if let Err(why) = soon("an answer", save).await {
            assert_eq!(why.code, RefusalCode::NoImage);
            refused += 1;
        }
        starting.await.expect("no panic").expect("it is resumable");
        own.host.cancel_job(&own.caller, job).await.expect("here");
        let forgotten = own.host.acknowledge_job(&own.caller, job).await;
        forgotten.expect("it has ended");
    }
    assert!(refused > 0, "all of them had begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_does_not_leave_once_nobody_waits_for_it() {
    /// Steps of a stride that takes more than a second.
    const STEPS: u64 = 1_000_000_000;
    let own = Own::start().await;
    let bundle = resumer().inner();
    let arguments = encoded((1u32, STEPS));
    let job = own.start_job(bundle, "resumer::strides", arguments).await;
    until("it is in its stride", || async {
        let jobs = own.host.jobs(&own.caller);
        jobs.first().is_some_and(|info| info.done == 1)
    })
    .await;
    let leave = JobLeave {
        job,
        move_id: MoveId([1; 16]),
        to: PublicKey([9; 32]),
        within_ms: WITHIN.as_millis() as u64,
        since: None,
    };
    let leaving = own.host.leave_job(&own.caller, &leave);
    let given_up = tokio::time::timeout(Duration::from_millis(50), leaving).await;
    assert!(given_up.is_err(), "the stride was over before");
    // It comes to its checkpoint and past it.
    own.value(job).await;
}
