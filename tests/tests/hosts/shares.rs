//! What one key may take of what is there for all: at most a half, so that others have the rest.

use std::convert::Infallible;
use std::time::Duration;

use spore_client::{Bundle, Callable, Host, NoCaptures, RefusalCode};
use spore_host::{Limits, Setup};
use spore_tests::guests::{assert_serves, of};
use spore_tests::module::slow;
use spore_tests::outcome::{refused, running, soon, until};
use spore_tests::{Local, hostile};
use tokio::sync::oneshot;

const MIB: u64 = 1 << 20;

/// Longer than a test.
const LONG_MS: u64 = 600_000;

/// A host that serves two keys, and a client for each.
async fn start(setup: Setup) -> (Local, [Host; 2]) {
    let local = Local::start(setup, &["", ""]);
    let hosts = [local.connect(0).await, local.connect(1).await];
    (local, hosts)
}

#[tokio::test]
async fn memory_of_the_guests_of_a_key_is_bounded_and_others_have_the_rest() {
    let limits = Limits {
        memory_total: 24 * MIB,
        memory_per_key: 16 * MIB,
        ..Limits::default()
    };
    let (_local, [one, other]) = start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let hold = of(hostile(), hostile::hold::HANDLE);
    let take = of(hostile(), hostile::take::HANDLE);
    let (says, said) = oneshot::channel();
    let mut says = Some(says);
    let held = one.call(&hold, (10 << 20, LONG_MS)).on_output(move |_, _| {
        says.take().map(|says| says.send(()));
    });
    let held = tokio::spawn(held.into_future());
    soon("it has its memory", said).await.expect("it says so");
    let past = refused(one.call(&take, (10 << 20,)).await, RefusalCode::Memory);
    assert_eq!(past.limit, Some(16 * MIB), "{past}");
    assert!(past.message.contains("of the key"), "{past}");
    let taken = other.call(&take, (10 << 20,)).await;
    assert_eq!(taken.expect("the other key has its own"), 10 * MIB);
    held.abort();
}

/// The sleeper with captures of so many bytes, each of them `fill`.
fn sleeper(bytes: u64, fill: u8) -> Callable<NoCaptures, (u64,), u64, Infallible> {
    let sleep = hostile()
        .callable(hostile::sleep_with::HANDLE)
        .expect("it is there");
    let captures = vec![fill; bytes as usize];
    sleep.capture(&captures).expect("bytes")
}

#[tokio::test]
async fn bundles_that_calls_of_a_key_hold_are_bounded_and_others_have_the_rest() {
    let limits = Limits {
        blob_cache: 4 * MIB,
        uploads: 4 * MIB,
        ..Limits::default()
    };
    let (_local, [one, other]) = start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let held = sleeper(3 * MIB, 1);
    let first = tokio::spawn(one.call(&held, (LONG_MS,)).into_future());
    running(&one, 1).await;
    // The same one again is no other,
    let slept = one.call(&held, (0,)).await;
    assert_eq!(slept.expect("it is held once"), 3 * MIB);
    // and one that fits beside it does.
    let slept = one.call(&sleeper(MIB / 2, 2), (0,)).await;
    assert_eq!(slept.expect("there is room"), MIB / 2);
    let past = one.call(&sleeper(3 * MIB / 2, 3), (0,)).await;
    let past = refused(past, RefusalCode::QueueFull);
    assert_eq!(past.limit, Some(4 * MIB), "{past}");
    assert!(past.message.contains("of the key"), "{past}");
    // The other key has its own half, also for the very same bundle.
    for bundle in [&sleeper(3 * MIB / 2, 3), &held] {
        other
            .call(bundle, (0,))
            .await
            .expect("the other key's half");
    }
    first.abort();
}

#[tokio::test]
async fn calls_of_a_key_leave_room_in_the_queue() {
    let limits = Limits::default();
    assert!(limits.queue_per_key <= limits.queue / 2);
    let limits = Limits {
        queue: 4,
        queue_per_key: 2,
        instances_per_key: 1,
        ..limits
    };
    let (_local, [one, other]) = start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let sleep = of(hostile(), hostile::sleep::HANDLE);
    one.ship(hostile()).await.expect("shipped");
    let call = || tokio::spawn(one.call(&sleep, (LONG_MS,)).into_future());
    let calls = [call(), call()];
    until("one runs and one waits", || async {
        let status = one.status().await.expect("it serves");
        status.running.len() == 1 && status.queued == 1
    })
    .await;
    let past = soon("no place", call()).await.expect("no panic");
    let past = refused(past, RefusalCode::QueueFull);
    assert_eq!(past.limit, Some(2), "{past}");
    assert_serves(&other).await;
    for call in calls {
        call.abort();
    }
}

/// Names and nice values of the threads of this process.
fn threads() -> Vec<(String, i32)> {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let thread = |folder: std::path::PathBuf| {
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        // The third field comes first here, and the nineteenth is the nice value.
        let nice = rest.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.to_owned(), nice))
    };
    threads
        .filter_map(|entry| thread(entry.ok()?.path()))
        .collect()
}

#[tokio::test]
async fn threads_that_compile_give_way_to_those_that_serve() {
    let (_local, [one, _]) = start(Setup::default()).await;
    assert_serves(&one).await;
    let threads = threads();
    let nice_of = |prefix: &str| -> Vec<i32> {
        let named = threads.iter().filter(|(name, _)| name.starts_with(prefix));
        named.map(|(_, nice)| *nice).collect()
    };
    let (serve, compile) = (nice_of("spore-guest-"), nice_of("spore-compile-"));
    let usual = *serve.first().expect("there are workers");
    assert!(serve.iter().all(|nice| *nice == usual), "{threads:?}");
    assert!(!compile.is_empty(), "{threads:?}");
    let nicer = (usual + 5).min(19);
    assert!(compile.iter().all(|nice| *nice == nicer), "{threads:?}");
}

#[tokio::test]
async fn compilations_of_a_key_leave_places_for_others() {
    /// The other key is served before the first module is compiled in one of so many attempts.
    const ATTEMPTS: u32 = 5;
    let setup = Setup {
        workers: Some(2),
        ..Setup::default()
    };
    // Made before anything is connected: it takes long, and nothing else happens here meanwhile.
    let bundles: Vec<Bundle> = (0..3).map(slow).collect();
    for attempt in 1.. {
        let (_local, [one, other]) = start(setup.clone()).await;
        // A key has one of two places, though it brings three modules.
        let ship = |bundle: &Bundle| {
            let (one, bundle) = (one.clone(), bundle.clone());
            tokio::spawn(async move { one.ship(&bundle).await })
        };
        let ships: Vec<_> = bundles.iter().map(ship).collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_serves(&other).await;
        let done = ships.iter().filter(|ship| ship.is_finished()).count();
        for ship in ships {
            soon("they have their turn", ship)
                .await
                .expect("no panic")
                .expect("compiled");
        }
        if done == 0 {
            break;
        }
        // One that was compiled by then may have left its place to the other key.
        assert!(attempt < ATTEMPTS, "the other key waits each time");
    }
}
