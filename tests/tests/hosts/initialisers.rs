//! Initialisers: embedded and over QUIC the same.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use resumer::looked_up;
use serde_json::json;
use spore_client::{Bundle, CallError, CallLimits, Host, RefusalCode};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::local::Both;
use spore_tests::module::{Raw, bundle_with};
use spore_tests::outcome::{refused, soon};
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

/// A guest with an initialiser of that body.
fn initialised(body: &str) -> Bundle {
    let raw = Raw {
        more: format!("(func (export \"spore1:init/raw::set\") {body})"),
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
    let counts = initialised(
        "(local i64) (loop (br_if 0 (i64.lt_u
            (local.tee 0 (i64.add (local.get 0) (i64.const 1)))
            (i64.const 1000000000))))",
    );
    for host in BOTH.hosts().await {
        let began = Instant::now();
        let called = call_initialised(&host, &counts, CallLimits::default());
        called.await.expect("it runs");
        let first = began.elapsed();
        for _ in 0..3 {
            let began = Instant::now();
            let called = call_initialised(&host, &counts, CallLimits::default());
            called.await.expect("it runs");
            let took = began.elapsed();
            assert!(took < first / 2, "{took:?} after {first:?}");
        }
        let began = Instant::now();
        let session = host.open_session(&counts).await.expect("opened");
        let in_session = session.call("run", json!(["AQ=="]));
        in_session.expect("it is there").await.expect("it runs");
        let took = began.elapsed();
        assert!(took < first / 2, "{took:?} after {first:?}");
        session.close().await.expect("closed");
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
