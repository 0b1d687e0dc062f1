//! Initialisers: embedded and over QUIC the same.

use std::future::IntoFuture;
use std::time::Duration;

use resumer::{looked_up, looked_up_later, naps};
use serde_json::json;
use spore_client::{Bundle, CallError, CallLimits, Host, RefusalCode};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::kept::WITHIN;
use spore_tests::local::{Both, Local};
use spore_tests::module::{Raw, bundle_with};
use spore_tests::outcome::{refused, soon, until};
use spore_tests::resumer;

static BOTH: Both = Both::new(Setup::default);

#[tokio::test]
async fn an_initialiser_runs_once_for_all_instances() {
    let callable = of(resumer(), looked_up::HANDLE);
    for host in BOTH.hosts().await {
        for index in [3, 99] {
            let found = host.call(&callable, (index,)).await.expect("it runs");
            assert_eq!(found, (Some(index * index), 0));
        }
        let session = host.open_session(resumer()).await.expect("opened");
        let look = async |session: &spore_client::Session| {
            let call = session.call(looked_up::HANDLE, (5,)).expect("it is there");
            call.await.expect("it runs")
        };
        assert_eq!(look(&session).await, (Some(25), 0));
        // What comes from elsewhere is restored, and says so.
        let saved = session.save().await.expect("saved");
        let copy = host.open_session(&saved).await.expect("opened");
        assert_eq!(look(&copy).await, (Some(25), 1));
        let image = saved.callable(looked_up::HANDLE).expect("it is there");
        let found = host.call(&image, (5,)).await.expect("it runs");
        assert_eq!(found, (Some(25), 1));
        for session in [session, copy] {
            session.close().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn a_job_begins_with_what_the_initialiser_has_left() {
    let callable = of(resumer(), looked_up_later::HANDLE);
    for host in BOTH.hosts().await {
        let job = host.start(&callable, (7, 0)).await.expect("started");
        assert_eq!(job.result().await.expect("it ends well"), (Some(49), 0));
        job.acknowledge().await.expect("forgotten");

        let job = host.start(&callable, (7, 2000)).await.expect("started");
        job.pause(WITHIN).await.expect("it reaches a checkpoint");
        let saved = job.save(WITHIN).await.expect("saved");
        job.cancel().await.expect("cancelled");
        job.acknowledge().await.expect("forgotten");
        let again = host.open_job_of(looked_up_later::HANDLE, &saved);
        let again = again.await.expect("opened");
        assert_eq!(again.result().await.expect("it ends well"), (Some(49), 1));
        again.acknowledge().await.expect("forgotten");
    }
}

/// A guest with an initialiser of that body.
fn initialised(body: &str) -> Bundle {
    initialised_beside(body, "")
}

/// The same with more in the module.
fn initialised_beside(body: &str, more: &str) -> Bundle {
    let raw = Raw {
        more: format!("{more} (func (export \"spore1:init/raw::set\") {body})"),
        ..Raw::default()
    };
    bundle_with(raw.code(), |manifest| {
        manifest.init = Some("spore1:init/raw::set".to_owned());
    })
}

/// Calls the only callable of such a guest.
async fn call_initialised(
    host: &Host,
    bundle: &Bundle,
    limits: CallLimits,
) -> Result<serde_json::Value, CallError<serde_json::Value>> {
    let run = bundle.callable("run").expect("it is there");
    let call = host.call(&run, json!(["AQ=="])).limits(limits);
    soon("the end", call.into_future()).await
}

#[tokio::test]
async fn no_call_waits_for_an_initialiser_that_has_run() {
    // On no machine in less time than `brief` has.
    let counts = "(local i64) (loop (br_if 0 (i64.lt_u
        (local.tee 0 (i64.add (local.get 0) (i64.const 1)))
        (i64.const 4000000000))))";
    let brief = CallLimits {
        wall_ms: Some(400),
        ..CallLimits::default()
    };
    let once = initialised(counts);
    // What has no images begins anew in each instance, and its calls take the time for that.
    let each = "(table 1 funcref) (func $change (table.set (i32.const 0) (ref.null func)))";
    let each = initialised_beside(counts, each);
    for host in BOTH.hosts().await {
        let called = call_initialised(&host, &once, CallLimits::default());
        called.await.expect("it runs");
        for _ in 0..3 {
            let called = call_initialised(&host, &once, brief);
            called.await.expect("it runs");
        }
        let session = host.open_session(&once).limits(brief);
        let session = session.await.expect("opened");
        let in_session = session.call("run", json!(["AQ=="])).expect("it is there");
        in_session.limits(brief).await.expect("it runs");
        session.close().await.expect("closed");

        let called = call_initialised(&host, &each, brief).await;
        refused(called, RefusalCode::WallTime);
    }
}

#[tokio::test]
async fn a_guest_whose_initialiser_fails_is_refused() {
    let call = call_initialised;
    for host in BOTH.hosts().await {
        let good = initialised("");
        call(&host, &good, CallLimits::default())
            .await
            .expect("it runs");
        let traps = initialised("unreachable");
        for _ in 0..2 {
            let called = call(&host, &traps, CallLimits::default()).await;
            let why = refused(called, RefusalCode::InitFailed);
            assert!(why.message.contains("unreachable"), "{why}");
        }
        let opened = host.open_session(&traps).await;
        let why = refused(opened, RefusalCode::InitFailed);
        assert!(why.message.contains("unreachable"), "{why}");
    }
    let mut setup = Setup::default();
    setup.limits.wall = Duration::from_millis(200);
    let both = Both::of(setup);
    let spins = initialised("(loop br 0)");
    for host in both.hosts().await {
        let called = call(&host, &spins, CallLimits::default()).await;
        refused(called, RefusalCode::WallTime);
        refused(host.open_session(&spins).await, RefusalCode::WallTime);
    }
}

#[tokio::test]
async fn an_initialiser_that_has_begun_ends_whoever_waits_for_it() {
    // On no machine in less time than those who ask have.
    let counts = "(local i64) (loop (br_if 0 (i64.lt_u
        (local.tee 0 (i64.add (local.get 0) (i64.const 1)))
        (i64.const 4000000001))))";
    let slow = initialised(counts);
    for host in BOTH.hosts().await {
        let run = slow.callable("run").expect("it is there");
        until("somebody finds it done", async || {
            let asked = host.call(&run, json!(["AQ=="])).into_future();
            match tokio::time::timeout(Duration::from_millis(300), asked).await {
                Ok(called) => called.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn nobody_waits_for_the_place_that_another_key_waits_for() {
    let mut setup = Setup::default();
    setup.limits.instances_per_key = 1;
    let local = Local::start(setup, &["", ""]);
    let (one, other) = (local.connect(0).await, local.connect(1).await);
    let sleeps = one.start(&of(resumer(), naps::HANDLE), (vec![600_000],));
    let sleeps = sleeps.await.expect("started");
    until("it has the place of its key", async || {
        one.status().await.expect("it serves").running.len() == 1
    })
    .await;
    let bundle = initialised("");
    let waits = {
        let (one, bundle) = (one.clone(), bundle.clone());
        tokio::spawn(async move { call_initialised(&one, &bundle, CallLimits::default()).await })
    };
    until("it waits for a place", async || {
        one.status().await.expect("it serves").queued == 1
    })
    .await;
    let called = call_initialised(&other, &bundle, CallLimits::default()).await;
    called.expect("it has a place of its own");
    assert!(!waits.is_finished(), "it had a place");
    sleeps.cancel().await.expect("it runs");
    waits.await.expect("no panic").expect("it has its place");
}
