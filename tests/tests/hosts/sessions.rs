//! Sessions: embedded and over QUIC the same.

use std::future::{Future, IntoFuture};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::json;
use spore_client::{Bundle, CallError, CallLimits, Host, RefusalCode, Session, SessionState};
use spore_host::{Limits, Setup};
use spore_tests::guests::wall;
use spore_tests::kept::{recall, remember};
use spore_tests::local::{Both, Local};
use spore_tests::module::{Raw, bundle_with};
use spore_tests::outcome::{failed, refused, soon, until};
use spore_tests::relay::Relay;
use spore_tests::{Process, hostile, keeper, plain};

static BOTH: Both = Both::new(Setup::default);

async fn open(host: &Host, bundle: &Bundle) -> Session {
    host.open_session(bundle).await.expect("it can be opened")
}

async fn info(host: &Host, session: &Session) -> spore_client::SessionInfo {
    let sessions = host.sessions().await.expect("listed");
    let own = sessions.into_iter().find(|it| it.session == session.id());
    own.expect("it is open")
}

#[tokio::test]
async fn a_session_remembers_what_a_fresh_instance_does_not() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        assert_eq!(remember(&session, "a").await, 1);
        assert_eq!(remember(&session, "b").await, 2);
        assert_eq!(recall(&session).await, ["a", "b"]);
        // By name, as another program of the user's finds it; and a second session is another.
        let again = host.session(session.id()).await.expect("found");
        let recalled = again.call("recall", json!([])).expect("it is there").await;
        assert_eq!(recalled.expect("recalled"), json!(["a", "b"]));
        let other = open(&host, keeper()).await;
        assert!(recall(&other).await.is_empty());
        for session in [session, other] {
            session.close().await.expect("closed");
        }
        let gone = again.call("recall", json!([])).expect("it is there").await;
        refused(gone, RefusalCode::UnknownSession);
    }
}

#[tokio::test]
async fn calls_of_a_session_are_carried_out_in_the_order_sent() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let words: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let mut calls = Vec::new();
        for word in &words {
            let call = session.call(keeper::remember::HANDLE, (word.clone(),));
            let mut call = Box::pin(call.expect("it is there").into_future());
            // A first look sends it. Its answer may be there by then.
            let first = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending => Poll::Ready(None),
            });
            match first.await {
                Some(ended) => _ = ended.expect("remembered"),
                None => calls.push(call),
            }
        }
        // Awaited in another order than sent.
        for call in calls.into_iter().rev() {
            soon("the calls end", call).await.expect("remembered");
        }
        assert_eq!(recall(&session).await, words);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn output_and_captures_work_in_a_session() {
    let bound = keeper()
        .callable(keeper::recall_between::HANDLE)
        .expect("it is there")
        .capture(&("<".to_owned(), ">".to_owned()))
        .expect("captured");
    for host in BOTH.hosts().await {
        let session = open(&host, &bound.bundle()).await;
        let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let hear = heard.clone();
        let call = session.call(keeper::remember::HANDLE, ("w".to_owned(),));
        let call = call.expect("it is there").on_output(move |_, bytes| {
            hear.lock().expect("no panic").extend_from_slice(bytes);
        });
        call.await.expect("remembered");
        assert_eq!(*heard.lock().expect("no panic"), b"remembering w\n");
        for _ in 0..2 {
            let call = session.call(keeper::recall_between::HANDLE, ());
            let between = call.expect("it is there").await.expect("recalled");
            assert_eq!(between, ["<", "w", ">"]);
        }
        // Saved and restored, the captures are still bound.
        let copy = open(&host, &session.save().await.expect("saved")).await;
        let call = copy.call(keeper::recall_between::HANDLE, ());
        let between = call.expect("it is there").await.expect("recalled");
        assert_eq!(between, ["<", "w", ">"]);

        let unbound = open(&host, keeper()).await;
        let call = unbound.call(keeper::recall_between::HANDLE, ());
        let unbound_call = call.expect("it is there").await;
        refused(unbound_call, RefusalCode::WrongCaptures);
        for session in [session, copy, unbound] {
            session.close().await.expect("closed");
        }
    }
    let consumed = keeper()
        .callable(keeper::consume::HANDLE)
        .expect("it is there")
        .capture(&"w".to_owned())
        .expect("captured");
    for host in BOTH.hosts().await {
        let opened = host.open_session(&consumed.bundle()).await;
        let why = refused(opened, RefusalCode::Unsupported);
        assert!(why.message.contains("consume"), "{why}");
    }
}

#[tokio::test]
async fn an_image_restores_on_another_host_and_the_copies_diverge() {
    let [embedded, remote] = BOTH.hosts().await;
    for (from, to) in [(&embedded, &remote), (&remote, &embedded)] {
        let session = open(from, keeper()).await;
        remember(&session, "before").await;
        let fill = session.call(keeper::fill::HANDLE, (3 << 20,));
        fill.expect("it is there").await.expect("filled");
        let check = |session: &Session| {
            let call = session.call(keeper::check::HANDLE, ());
            let call = call.expect("it is there");
            async move { call.await.expect("checked") }
        };
        let sum = check(&session).await;
        let saved = session.save().await.expect("saved");
        // Through its file, as people carry it.
        let file = Bundle::from_bytes(saved.inner().encode()).expect("a sound file");
        let copy = open(to, &file).await;
        assert_eq!(recall(&copy).await, ["before"]);
        assert_eq!(check(&copy).await, sum);
        remember(&copy, "there").await;
        remember(&session, "here").await;
        assert_eq!(recall(&copy).await, ["before", "there"]);
        assert_eq!(recall(&session).await, ["before", "here"]);
        // A call of the image in a fresh instance begins with it each time.
        let recall_image = file.callable(keeper::recall::HANDLE).expect("it is there");
        for _ in 0..2 {
            let words = to.call(&recall_image, ()).await.expect("recalled");
            assert_eq!(words, ["before"]);
        }
        for session in [session, copy] {
            session.close().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn what_did_not_change_is_not_saved_again() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let fill = session.call(keeper::fill::HANDLE, (4 << 20,));
        fill.expect("it is there").await.expect("filled");
        let first = session.save().await.expect("saved");
        let poke = session.call(keeper::poke::HANDLE, (2 << 20, 1));
        poke.expect("it is there").await.expect("poked");
        let second = session.save().await.expect("saved");
        let ids = |bundle: &Bundle| -> std::collections::HashSet<_> {
            let image = bundle.inner().image().expect("one");
            image.index().ids.iter().copied().collect()
        };
        let (first, second) = (ids(&first), ids(&second));
        assert!(first.len() > 1000, "{}", first.len());
        let new = second.difference(&first).count();
        // The byte itself, and what the guest's runtime has touched besides.
        assert!((1..=8).contains(&new), "{new} blocks are new");
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn what_did_not_change_does_not_travel_again() {
    let local = Local::start(Setup::default(), &[""]);
    let way = Relay::start(local.address).await;
    let host = local.connect_by(way.address, &local.clients[0]).await;
    let session = open(&host, keeper()).await;
    let fill = session.call(keeper::fill::HANDLE, (4 << 20,));
    fill.expect("it is there").await.expect("filled");
    let change = async |session: &Session, value: u8| {
        let poke = session.call(keeper::poke::HANDLE, (2 << 20, value));
        poke.expect("it is there").await.expect("poked");
        way.sent_by_host();
    };

    way.sent_by_host();
    session.save().await.expect("saved");
    let all = way.sent_by_host();
    assert!(all > 100_000, "{all} bytes");
    change(&session, 1).await;
    let saved = session.save().await.expect("saved");
    let changed = way.sent_by_host();
    assert!(changed < all / 10, "{changed} of {all} bytes");

    // A program that begins anew has nothing, unless it says what it has.
    let anew = host.session(session.id()).await.expect("it is open");
    change(&anew, 2).await;
    anew.save().await.expect("saved");
    let nothing_known = way.sent_by_host();
    assert!(nothing_known > 100_000, "{nothing_known} bytes");
    let anew = host.session(session.id()).await.expect("it is open");
    anew.knows(&saved);
    change(&anew, 3).await;
    anew.save().await.expect("saved");
    let known = way.sent_by_host();
    assert!(known < all / 10, "{known} of {all} bytes");
    session.close().await.expect("closed");
}

#[tokio::test]
async fn a_session_that_rests_goes_on_as_it_was() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let called = Instant::now();
        remember(&session, "a").await;
        let state = info(&host, &session).await.state;
        // It does not rest at once.
        assert!(state == SessionState::Live || called.elapsed() > Duration::from_secs(1));
        until("the session rests", || async {
            info(&host, &session).await.state == SessionState::Resting
        })
        .await;
        assert_eq!(remember(&session, "b").await, 2);
        assert_eq!(recall(&session).await, ["a", "b"]);
        assert_eq!(info(&host, &session).await.calls, 3);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn what_stops_within_a_call_poisons_its_session_until_it_is_restored() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        remember(&session, "good").await;
        let nothing = session.restore().await;
        refused(nothing, RefusalCode::NoImage);
        session.save().await.expect("saved");

        let panics = session.call(keeper::panic_after::HANDLE, ("bad".to_owned(),));
        failed(panics.expect("it is there").await);
        let after = session.call(keeper::recall::HANDLE, ());
        let why = refused(
            after.expect("it is there").await,
            RefusalCode::SessionPoisoned,
        );
        assert!(why.message.contains("half done"), "{why}");
        let listed = info(&host, &session).await;
        assert_eq!(listed.state, SessionState::Poisoned);
        assert!(listed.why.contains("half done"), "{}", listed.why);
        refused(session.save().await, RefusalCode::SessionPoisoned);
        session.restore().await.expect("restored");
        assert_eq!(recall(&session).await, ["good"]);

        // The same by a limit, and by the caller who lets go.
        let endless = session.call(keeper::spin_after::HANDLE, ("bad".to_owned(),));
        let endless = endless.expect("it is there").limits(CallLimits {
            wall_ms: Some(50),
            ..CallLimits::default()
        });
        refused(endless.await, RefusalCode::WallTime);
        assert_eq!(info(&host, &session).await.state, SessionState::Poisoned);
        session.restore().await.expect("restored");
        let (spins, spinning) = tokio::sync::oneshot::channel();
        let mut spins = Some(spins);
        let dropped = session.call(keeper::spin_after::HANDLE, ("bad".to_owned(),));
        let dropped = dropped.expect("it is there").on_output(move |_, _| {
            spins.take().map(|spins| spins.send(()));
        });
        let dropped = tokio::spawn(dropped.into_future());
        soon("it spins", spinning).await.expect("it says so");
        dropped.abort();
        until("it is poisoned", || async {
            info(&host, &session).await.state == SessionState::Poisoned
        })
        .await;
        session.restore().await.expect("restored");
        assert_eq!(recall(&session).await, ["good"]);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_refusal_before_the_guest_runs_poisons_nothing() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let read = session.call("read", json!(["nothing"]));
        let denied = read.expect("it is there").await;
        refused(denied, RefusalCode::GrantNotGiven);
        let state = info(&host, &session).await.state;
        assert_ne!(state, SessionState::Poisoned);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_large_memory_is_saved_and_restored_as_it_is() {
    // So much that two threads look through it, and no whole number of what they take at a time.
    const BYTES: u32 = (17 << 20) + 5000;
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let fill = session.call(keeper::fill::HANDLE, (BYTES,));
        fill.expect("it is there").await.expect("filled");
        let check = async |session: &Session| {
            let call = session.call(keeper::check::HANDLE, ());
            call.expect("it is there").await.expect("a sum")
        };
        let first = session.save().await.expect("saved");
        for at in [0, 5 << 20, BYTES - 1] {
            let poke = session.call(keeper::poke::HANDLE, (at, 77));
            poke.expect("it is there").await.expect("poked");
        }
        let poked = check(&session).await;
        let second = session.save().await.expect("saved");
        let image = |bundle: &Bundle| bundle.inner().image().expect("one").clone();
        let changed = image(&second).blocks_new_since(&image(&first));
        // The three, and what the guest itself works with.
        assert!((3..20).contains(&changed), "{changed}");
        let copy = open(&host, &second).await;
        assert_eq!(check(&copy).await, poked);
        let older = open(&host, &first).await;
        assert_ne!(check(&older).await, poked);
        for session in [session, copy, older] {
            session.close().await.expect("closed");
        }
    }
}

#[tokio::test]
async fn random_bytes_are_new_unless_seeded() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let draw = |session: &Session, seed: Option<u64>| {
            let mut call = session.call(keeper::draw::HANDLE, ()).expect("it is there");
            if let Some(seed) = seed {
                call = call.seed(seed);
            }
            async move { call.await.expect("drawn") }
        };
        let saved = session.save().await.expect("saved");
        let copy = open(&host, &saved).await;
        let fresh = [draw(&session, None).await, draw(&copy, None).await];
        assert_ne!(fresh[0], fresh[1]);
        for session in [session, copy] {
            session.close().await.expect("closed");
        }
        let seeded = async {
            let session = open(&host, keeper()).await;
            let drawn = draw(&session, Some(7)).await;
            session.close().await.expect("closed");
            drawn
        };
        let first = seeded.await;
        let session = open(&host, keeper()).await;
        assert_eq!(draw(&session, Some(7)).await, first);
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_session_is_closed_only_if_it_is_what_was_saved() {
    for host in BOTH.hosts().await {
        let session = open(&host, keeper()).await;
        let saved = session.save().await.expect("saved");
        remember(&session, "late").await;
        let closed = session.close_unchanged(&saved).await;
        refused(closed, RefusalCode::SessionChanged);
        assert_eq!(recall(&session).await, ["late"]);
        let saved = session.save().await.expect("saved");
        session.close_unchanged(&saved).await.expect("unchanged");
        refused(session.save().await, RefusalCode::UnknownSession);
    }
}

#[tokio::test]
async fn what_has_no_image_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder for tests");
    std::fs::write(folder.path().join("file"), "text").expect("written");
    let mut setup = Setup::default();
    let path = folder.path().to_owned();
    setup.grants.directories.insert("data".to_owned(), path);
    let host = Host::embedded_with(setup).expect("the engine starts");
    let session = open(&host, keeper()).await;
    let hold = session.call(keeper::hold_open::HANDLE, ("file".to_owned(),));
    assert!(hold.expect("it is there").await.expect("it runs"));
    let why = refused(session.save().await, RefusalCode::NoImage);
    assert!(why.message.contains("1 file"), "{why}");
    let close = session.call(keeper::close_all::HANDLE, ());
    close.expect("it is there").await.expect("closed");
    let saved = session.save().await.expect("nothing is open");
    // A granted directory is there again under its number.
    let copy = open(&host, &saved).await;
    let read = copy.call(keeper::read::HANDLE, ("file".to_owned(),));
    let text = read.expect("it is there").await.expect("read");
    assert_eq!(text, "text");
}

#[tokio::test]
async fn the_session_of_another_key_is_not_there() {
    let local = Local::start(Setup::default(), &["", ""]);
    let [one, other] = [local.connect(0).await, local.connect(1).await];
    let session = open(&one, keeper()).await;
    session.save().await.expect("saved");
    assert!(other.sessions().await.expect("listed").is_empty());
    refused(
        other.session(session.id()).await,
        RefusalCode::UnknownSession,
    );
    // One who knows the id anyway finds nothing either.
    let guessed = other.session_of(session.id(), keeper());
    let call = guessed.call(keeper::recall::HANDLE, ());
    refused(
        call.expect("it is there").await,
        RefusalCode::UnknownSession,
    );
    refused(guessed.save().await, RefusalCode::UnknownSession);
    refused(guessed.restore().await, RefusalCode::UnknownSession);
    refused(guessed.close().await, RefusalCode::UnknownSession);
    assert_eq!(remember(&session, "still").await, 1);
}

#[tokio::test]
async fn sessions_are_bounded_in_number_memory_and_time() {
    let setup = |change: fn(&mut Limits)| {
        let mut setup = Setup::default();
        change(&mut setup.limits);
        Host::embedded_with(setup).expect("the engine starts")
    };
    let host = setup(|limits| limits.sessions_per_key = 2);
    let (one, _two) = (open(&host, keeper()).await, open(&host, keeper()).await);
    let third = host.open_session(keeper()).await;
    let why = refused(third, RefusalCode::TooManySessions);
    assert_eq!(why.limit, Some(2));
    one.close().await.expect("closed");
    open(&host, keeper()).await;

    let host = setup(|limits| limits.session_images_per_key = 1 << 20);
    let session = open(&host, keeper()).await;
    let fill = session.call(keeper::fill::HANDLE, (2 << 20,));
    fill.expect("it is there").await.expect("filled");
    let why = refused(session.save().await, RefusalCode::TooManySessions);
    assert_eq!(why.limit, Some(1 << 20));

    let idle = Duration::from_millis(50);
    let short = setup(|limits| limits.session_idle = Duration::from_millis(50));
    let host = setup(|_| {});
    let own = host.open_session(keeper()).idle(idle).await;
    for (host, session) in [
        (&short, open(&short, keeper()).await),
        (&host, own.expect("opened")),
    ] {
        until("nobody uses it", || async {
            host.sessions().await.expect("listed").is_empty()
        })
        .await;
        refused(session.save().await, RefusalCode::UnknownSession);
    }
}

#[tokio::test]
async fn more_sessions_than_instances_take_turns() {
    let mut setup = Setup::default();
    setup.limits.instances = 2;
    setup.limits.instances_per_key = 2;
    let host = Host::embedded_with(setup).expect("the engine starts");
    let mut sessions = Vec::new();
    for n in 0..6 {
        let session = soon("a place", async { open(&host, keeper()).await }).await;
        soon("a place", remember(&session, &n.to_string())).await;
        sessions.push(session);
    }
    for (n, session) in sessions.iter().enumerate() {
        let words = soon("a place", recall(session)).await;
        assert_eq!(words, [n.to_string()]);
    }
    // A call in a fresh instance gets one too.
    let double = spore_tests::guests::of(plain(), plain::double::HANDLE);
    let doubled = soon("a place", host.call(&double, (4,)).into_future()).await;
    assert_eq!(doubled.expect("doubled"), 8);
}

#[tokio::test]
async fn a_session_that_waits_for_an_instance_takes_no_time_of_its_guest() {
    /// Time of a guest that waits longer than that for its instance.
    const WALL: Duration = Duration::from_secs(2);
    let mut setup = Setup::default();
    setup.limits.instances = 1;
    for host in Both::of(setup).hosts().await {
        let (one, other) = (open(&host, keeper()).await, open(&host, keeper()).await);
        remember(&other, "first").await;
        let (says, said) = tokio::sync::oneshot::channel();
        let mut says = Some(says);
        let long = one.call(keeper::remember_after::HANDLE, (60_000, "late".to_owned()));
        let long = long.expect("it is there").on_output(move |_, _| {
            says.take().map(|says| says.send(()));
        });
        let long = tokio::spawn(long.into_future());
        soon("it has the only place", said)
            .await
            .expect("it says so");
        let short = other.call(keeper::recall::HANDLE, ());
        let short = short.expect("it is there");
        let short = short.limits(wall(WALL.as_millis() as u64));
        let short = tokio::spawn(short.completed());
        until("it waits for the place", || async {
            host.status().await.expect("it serves").running.len() == 2
        })
        .await;
        tokio::time::sleep(WALL * 3 / 2).await;
        assert!(!short.is_finished(), "it did not wait");
        long.abort();
        let completed = soon("the place is free", short).await.expect("no panic");
        assert_eq!(
            completed.result.expect("its guest has hardly run"),
            ["first"]
        );
        let queued = Duration::from_nanos(completed.timing.expect("it ran").queue_ns);
        assert!(
            queued > WALL,
            "that counts as time of the guest: {queued:?}"
        );
    }
}

/// Whether it had begun by then or not. One that had is poisoned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_at_any_moment_takes_nothing_from_its_session() {
    let host = Host::embedded().expect("the engine starts");
    let begin = async || {
        let session = open(&host, keeper()).await;
        remember(&session, "first").await;
        session
    };
    let mut session = begin().await;
    let (mut whole, mut poisoned) = (0, 0);
    for round in 0..2000_u32 {
        let call = session.call(keeper::check::HANDLE, ());
        let mut call = Box::pin(call.expect("it is there").into_future());
        let asked = Instant::now();
        let _ = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        while asked.elapsed() < Duration::from_nanos(u64::from(round % 200) * 500) {
            std::hint::spin_loop();
        }
        drop(call);
        let words = session.call(keeper::recall::HANDLE, ());
        match words.expect("it is there").await {
            Ok(words) => {
                assert_eq!(words, ["first"]);
                whole += 1;
            }
            Err(CallError::Refused(why)) if why.code == RefusalCode::SessionPoisoned => {
                session.close().await.expect("closed");
                session = begin().await;
                poisoned += 1;
            }
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    println!("{whole} times nothing had run or all, {poisoned} times something");
    assert!(whole > 0, "each was stopped while it ran");
}

#[tokio::test]
async fn a_session_outlives_its_connection() {
    let process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let session = open(&host, keeper()).await;
    remember(&session, "a").await;
    let id = session.id();
    drop((session, host));
    let host = process.connect(0).await;
    let session = host.session(id).await.expect("it is still there");
    assert_eq!(recall(&session).await, ["a"]);
}

#[tokio::test]
async fn a_guest_that_fails_as_it_begins_is_refused_with_its_error() {
    let beginning = |body: &str| Raw {
        more: format!("(func (export \"_initialize\") {body})"),
        ..Raw::default()
    };
    // Hosts of its own, on which nobody else has a session.
    let both = Both::of(Setup::default());
    for host in both.hosts().await {
        let traps = beginning("unreachable").bundle();
        let opened = host.open_session(&traps).await;
        failed(opened);
        let spins = beginning("(loop br 0)").bundle();
        let opened = host.open_session(&spins).limits(CallLimits {
            wall_ms: Some(50),
            ..CallLimits::default()
        });
        refused(opened.await, RefusalCode::WallTime);
        assert!(host.sessions().await.expect("listed").is_empty());
    }
}

#[tokio::test]
async fn code_whose_state_no_image_can_hold_is_refused_when_it_is_opened() {
    let change = "(table 1 funcref) (func $change (table.set (i32.const 0) (ref.null func)))";
    let tables = Raw {
        more: change.to_owned(),
        ..Raw::default()
    };
    let bundle = bundle_with(tables.code(), |manifest| {
        manifest.callables[0].resumable = true;
    });
    let hosts = BOTH.hosts().await;
    for host in &hosts {
        let opened = host.open_session(&bundle).await;
        let why = refused(opened, RefusalCode::NoImage);
        assert!(why.message.contains("function change"), "{why}");
        let run = bundle.callable("run").expect("it is there");
        let started = host.start(&run, json!(["AQ=="])).await;
        let why = refused(started, RefusalCode::NoImage);
        assert!(why.message.contains("function change"), "{why}");
    }
    // Its code has not even been sent there, where its manifest is known.
    let [_, remote] = hosts;
    let shipped = remote
        .shipped(bundle.id())
        .await
        .expect("it has heard of it");
    let run = shipped.callable("run").expect("it is there");
    let called = remote.call(&run, json!(["AQ=="])).await;
    refused(called, RefusalCode::BlobAbsent);
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused() {
    use spore_bundle::image::{Global, GlobalValue, Image, Index};
    let image = |change: fn(&mut Index)| {
        let mut index = Index {
            memory_pages: 64,
            ..Index::of(keeper().inner().code_id())
        };
        change(&mut index);
        let image = Image::new(index, Vec::new()).expect("sound in itself");
        Bundle::from(keeper().inner().with_image(image).expect("it belongs"))
    };
    for host in BOTH.hosts().await {
        let too_small = image(|index| index.memory_pages = 1);
        refused(
            host.open_session(&too_small).await,
            RefusalCode::ImageMisfit,
        );
        let no_global = image(|index| {
            index.globals = vec![Global {
                index: 1000,
                value: GlobalValue::I32(0),
            }];
        });
        refused(
            host.open_session(&no_global).await,
            RefusalCode::ImageMisfit,
        );
        let wrong_type = image(|index| {
            index.globals = vec![Global {
                index: 0,
                value: GlobalValue::F64(0),
            }];
        });
        refused(
            host.open_session(&wrong_type).await,
            RefusalCode::ImageMisfit,
        );
        let too_large = image(|index| index.memory_pages = 65_536);
        refused(host.open_session(&too_large).await, RefusalCode::Memory);
        // The same bundles cannot be called either.
        let recall = too_small.callable("recall").expect("it is there");
        let called = host.call(&recall, json!([])).await;
        refused(called, RefusalCode::ImageMisfit);
    }
}

#[tokio::test]
async fn the_same_calls_give_the_same_image_on_every_host() {
    let [embedded, remote] = BOTH.hosts().await;
    let mut ids = Vec::new();
    for host in [embedded, remote] {
        let session = open(&host, keeper()).await;
        for word in ["x", "y"] {
            let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
            call.expect("it is there")
                .seed(1)
                .await
                .expect("remembered");
        }
        ids.push(session.save().await.expect("saved").id());
        session.close().await.expect("closed");
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_hostile_guest_takes_its_session_and_nothing_else() {
    for host in BOTH.hosts().await {
        let session = open(&host, hostile()).await;
        let trap = session.call(hostile::trap::HANDLE, ());
        failed(trap.expect("it is there").await);
        let take = session.call(hostile::take::HANDLE, (1 << 20,));
        let poisoned = take.expect("it is there").await;
        assert!(matches!(poisoned, Err(CallError::Refused(_))));
        session.close().await.expect("closed");
        spore_tests::guests::assert_serves(&host).await;
    }
}

#[tokio::test]
async fn a_session_that_is_given_up_before_it_has_begun_is_not_there() {
    let spins = Raw {
        more: "(func (export \"_initialize\") (loop br 0))".to_owned(),
        ..Raw::default()
    };
    for host in Both::of(Setup::default()).hosts().await {
        let bundle = spins.bundle();
        let opening = host.open_session(&bundle).into_future();
        let given_up = tokio::time::timeout(Duration::from_millis(300), opening).await;
        assert!(given_up.is_err(), "it never begins");
        until("nothing is left of it", || async {
            host.sessions().await.expect("listed").is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn what_nobody_could_open_is_not_saved() {
    let mut setup = Setup::default();
    setup.limits.state = 128 << 10;
    for host in Both::of(setup).hosts().await {
        let session = open(&host, keeper()).await;
        remember(&session, "small").await;
        session.save().await.expect("it has room");
        let fill = session.call(keeper::fill::HANDLE, (500_000,));
        fill.expect("it is there").await.expect("filled");
        let why = refused(session.save().await, RefusalCode::StateTooLarge);
        assert_eq!(why.limit, Some(128 << 10));
        assert!(why.actual > Some(500_000), "{why}");
        // It goes on, and can be put back.
        assert_eq!(recall(&session).await, ["small"]);
        session.restore().await.expect("restored");
        session.save().await.expect("it has room again");
    }
}

/// Segments of a byte, a block from each other: little code, and much memory to compare with.
#[tokio::test]
async fn what_code_lays_out_in_memory_counts_with_it() {
    const BLOCKS: usize = 4096;
    let segments = (0..BLOCKS).map(|block| format!("(data (i32.const {}) \"a\")", block * 4096));
    let sparse = Raw {
        memory: r#"(memory (export "memory") 256)"#.to_owned(),
        more: segments.collect(),
        ..Raw::default()
    };
    let bundle = sparse.bundle();
    assert!(bundle.inner().code().len() < 64 * BLOCKS);
    for host in Both::of(Setup::default()).hosts().await {
        open(&host, &bundle).await;
        let code = host.status().await.expect("it serves").cached_code;
        assert_eq!(code.count, 1);
        assert!(code.bytes > 4096 * BLOCKS as u64, "{code:?}");
    }
}
