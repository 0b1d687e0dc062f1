//! What a guest sees that was restored, on this host or another: its clock goes on, what it prints
//! is heard, and its random bytes are new unless a seed is given.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use spore_client::{Bundle, Host, OutputStream, Session, SessionState};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::local::{Both, Local};
use spore_tests::module::{Raw, bundle_with, record};
use spore_tests::outcome::{soon, until};
use spore_tests::{keeper, resumer};
use spore_value::Type;

static BOTH: Both = Both::new(Setup::default);

/// What the clocks of a guest show at first, as `docs/ABI.md` has it, in nanoseconds.
const MONOTONIC_NS: u64 = 1_000_000_000_000;
const REALTIME_NS: u64 = 946_684_800_000_000_000;

/// How long each call of the looking guest waits, in nanoseconds.
const WAIT_NS: u64 = 5_000_000;

/// Where the looking guest leaves what it has seen, and how many bytes that is.
const SEEN: u32 = 256;
const SEEN_BYTES: u32 = 32;

/// A guest whose `raw::run` waits by its monotonic clock, and then gives what both clocks show and
/// sixteen random bytes.
fn looking() -> Bundle {
    let import = |name: &str, function: &str, types: &str| {
        format!(
            r#"(import "wasi_snapshot_preview1" "{name}"
                 (func ${function} (param {types}) (result i32)))"#
        )
    };
    let clock = |id: u32, at: u32| {
        format!("(drop (call $clock (i32.const {id}) (i64.const 1) (i32.const {at})))")
    };
    let (monotonic, realtime) = (clock(1, SEEN), clock(0, SEEN + 8));
    let (waits, ready) = (record(3, 0, 0), record(0, SEEN, SEEN_BYTES));
    let random = SEEN + 16;
    let raw = Raw {
        imports: import("clock_time_get", "clock", "i32 i64 i32")
            + &import("random_get", "random", "i32 i32"),
        more: "(global $waited (mut i32) (i32.const 0))".to_owned(),
        start: "(global.set $waited (i32.const 0)) (i32.const 0)".to_owned(),
        // A record that waits has the time at its end.
        poll: format!(
            "(if (i32.eqz (global.get $waited)) (then
               (global.set $waited (i32.const 1))
               {monotonic}
               (i64.store (i32.const 24)
                 (i64.add (i64.load (i32.const {SEEN})) (i64.const {WAIT_NS})))
               (return (block (result i32) {waits}))))
             {monotonic} {realtime}
             (drop (call $random (i32.const {random}) (i32.const 16)))
             {ready}"
        ),
        ..Raw::default()
    };
    bundle_with(raw.code(), |manifest| {
        let callable = &mut manifest.callables[0];
        callable.resumable = true;
        callable.signature.returns = Type::Array(Box::new(Type::U8), SEEN_BYTES);
    })
}

/// What a call of the looking guest has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    monotonic_ns: u64,
    realtime_ns: u64,
    random: [u8; 16],
}

impl Look {
    fn of(seen: &Json) -> Look {
        let bytes = seen.as_array().expect("an array").iter();
        let bytes: Vec<u8> = bytes
            .map(|byte| byte.as_u64().expect("a byte") as u8)
            .collect();
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Look {
            monotonic_ns: number(0),
            realtime_ns: number(8),
            random: bytes[16..].try_into().expect("sixteen bytes"),
        }
    }

    /// How often the clocks have waited, by both of them.
    #[track_caller]
    fn waits(&self) -> u64 {
        let moved = self.monotonic_ns - MONOTONIC_NS;
        assert_eq!(self.realtime_ns - REALTIME_NS, moved);
        assert_eq!(moved % WAIT_NS, 0, "{self:?}");
        moved / WAIT_NS
    }
}

async fn look(session: &Session, seed: Option<u64>) -> Look {
    let mut call = session.call("run", json!([""])).expect("it is there");
    if let Some(seed) = seed {
        call = call.seed(seed);
    }
    Look::of(
        &soon("the guest", call.into_future())
            .await
            .expect("it looks"),
    )
}

/// The same in a fresh instance that begins with an image.
async fn look_at_image(host: &Host, image: &Bundle, seed: u64) -> Look {
    let run = image.callable("run").expect("it is there");
    let call = host.call(&run, json!([""])).seed(seed);
    Look::of(
        &soon("the guest", call.into_future())
            .await
            .expect("it looks"),
    )
}

async fn open(host: &Host, bundle: &Bundle) -> Session {
    host.open_session(bundle).await.expect("it can be opened")
}

/// Waits until the session is kept as its image.
async fn rested(host: &Host, session: &Session) {
    until("the session rests", || async {
        let sessions = host.sessions().await.expect("listed");
        let own = sessions.iter().find(|it| it.session == session.id());
        own.expect("it is open").state == SessionState::Resting
    })
    .await;
}

#[tokio::test]
async fn clocks_go_on_wherever_a_session_does() {
    let bundle = looking();
    for host in BOTH.hosts().await {
        let session = open(&host, &bundle).await;
        for waits in 1..=3 {
            assert_eq!(look(&session, None).await.waits(), waits);
        }
        let saved = session.save().await.expect("saved");
        assert_eq!(look(&session, None).await.waits(), 4);
        rested(&host, &session).await;
        assert_eq!(look(&session, None).await.waits(), 5);
        // What was put back has waited three times.
        session.restore().await.expect("restored");
        assert_eq!(look(&session, None).await.waits(), 4);

        // On the same host, on another, and on one that was not there yet when it was saved.
        let late = Local::start(Setup::default(), &[""]);
        let late = [late.connect(0).await, Host::embedded().expect("it starts")];
        for other in BOTH.hosts().await.into_iter().chain(late) {
            let copy = open(&other, &saved).await;
            for waits in 4..=5 {
                assert_eq!(look(&copy, None).await.waits(), waits);
            }
            let again = copy.save().await.expect("saved");
            copy.close().await.expect("closed");
            let back = open(&host, &again).await;
            assert_eq!(look(&back, None).await.waits(), 6);
            back.close().await.expect("closed");
            for _ in 0..2 {
                assert_eq!(look_at_image(&other, &saved, 0).await.waits(), 4);
            }
        }
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_nap_is_as_long_wherever_it_is_slept() {
    const NAP_MS: u64 = 2_000;
    let naps = of(resumer(), resumer::naps::HANDLE);
    let within = Duration::from_secs(30);
    for host in BOTH.hosts().await {
        let job = host.start(&naps, (vec![NAP_MS],)).await.expect("started");
        // Time to fall asleep.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let saved = job.save(within).await.expect("it sleeps");
        let late = Local::start(Setup::default(), &[""]);
        let late = late.connect(0).await;
        let copy = late.open_job_of(resumer::naps::HANDLE, &saved);
        let copy = copy.await.expect("opened");
        for job in [job, copy] {
            let napped = soon("the end", job.result()).await.expect("a value");
            assert_eq!(napped, [(0, NAP_MS)]);
            job.acknowledge().await.expect("it has ended");
        }
    }
}

/// What a call prints on standard output.
async fn heard<R, E>(call: spore_client::Call<R, E>) -> String
where
    R: Send + 'static,
    E: std::fmt::Debug + Send + 'static,
{
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    let call = call.on_output(move |stream, bytes| {
        assert!(matches!(stream, OutputStream::Stdout));
        hear.lock().expect("no panic").extend_from_slice(bytes);
    });
    assert!(soon("the guest", call.into_future()).await.is_ok());
    let heard = heard.lock().expect("no panic");
    String::from_utf8(heard.clone()).expect("text")
}

#[tokio::test]
async fn what_a_restored_copy_prints_is_heard_by_who_calls_it() {
    let remember = |session: &Session, word: &str| {
        let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
        call.expect("it is there")
    };
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let said = heard(remember(&session, "a")).await;
        assert_eq!(said, "remembering a\n");
        let saved = session.save().await.expect("saved");
        rested(&host, &session).await;
        let said = heard(remember(&session, "b")).await;
        assert_eq!(said, "remembering b\n");
        session.restore().await.expect("restored");
        let said = heard(remember(&session, "c")).await;
        assert_eq!(said, "remembering c\n");
        for other in BOTH.hosts().await {
            let copy = open(&other, &saved).await;
            for word in ["d", "e"] {
                let said = heard(remember(&copy, word)).await;
                assert_eq!(said, format!("remembering {word}\n"));
            }
            let of_image = saved.callable(keeper::remember::HANDLE);
            let of_image = of_image.expect("it is there");
            let said = heard(other.call(&of_image, ("f".to_owned(),))).await;
            assert_eq!(said, "remembering f\n");
            copy.close().await.expect("closed");
        }
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn random_bytes_of_a_restored_session_are_new_unless_a_seed_is_given() {
    let bundle = looking();
    for host in BOTH.hosts().await {
        let mut drawn = Vec::new();
        let session = open(&host, &bundle).await;
        // What was drawn before it was saved does not come again,
        drawn.push(look(&session, None).await.random);
        let saved = session.save().await.expect("saved");
        drawn.push(look(&session, None).await.random);
        rested(&host, &session).await;
        drawn.push(look(&session, None).await.random);
        session.restore().await.expect("restored");
        drawn.push(look(&session, None).await.random);
        let mut seeded = Vec::new();
        for other in BOTH.hosts().await {
            for _ in 0..2 {
                let copy = open(&other, &saved).await;
                // nor does what a copy draws come in another.
                drawn.push(look(&copy, None).await.random);
                seeded.push(look(&copy, Some(7)).await.random);
                copy.close().await.expect("closed");
            }
            // A call is not told apart from another unless its seed does.
            seeded.push(look_at_image(&other, &saved, 7).await.random);
        }
        assert!(seeded.iter().all(|it| it == &seeded[0]), "{seeded:?}");
        drawn.push(seeded[0]);
        let count = drawn.len();
        let different: BTreeSet<_> = drawn.into_iter().collect();
        assert_eq!(different.len(), count);
        session.close().await.expect("closed");
    }
}
