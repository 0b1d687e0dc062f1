//! A store of blobs that is too small for what comes: what a session and a job are made of goes
//! from it, and both go on, are saved and restored, also by a host that was started again.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use spore_client::{Bundle, CallError, Host, Job, JobNews, JobState, Persist, RefusalCode, Watch};
use spore_tests::guests::{assert_serves, of};
use spore_tests::kept::{WITHIN, recall, remember};
use spore_tests::outcome::{soon, until};
use spore_tests::peer::id_of;
use spore_tests::{Process, keeper, plain, resumer};

/// Room for the code of every guest here and for two of the states, and for no third.
const STORE: &str = "2200KiB";
const STATE_BYTES: usize = 600 << 10;

/// Bundles that come while the session and the job go on.
const BUNDLES: u8 = 8;

/// A bundle whose state no other has.
fn with_state(fill: u8) -> Bundle {
    let weigh = plain().callable(plain::weigh::HANDLE);
    let weigh = weigh.expect("it is there");
    let bound = weigh.capture(&vec![fill; STATE_BYTES]).expect("bytes");
    bound.bundle()
}

/// Uploads such a bundle. Of its parts one may have to go for another.
async fn ship(host: &Host, fill: u8) {
    match host.ship(&with_state(fill)).await {
        Ok(_) => {}
        Err(CallError::Refused(why)) if why.code == RefusalCode::StoreFull => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// Where a host has a blob.
fn path_of(store: &Path, bytes: &[u8]) -> PathBuf {
    let id = id_of(bytes).to_string();
    store.join("blobs").join(&id[..2]).join(&id)
}

/// The next items, which must be numbered from here on and be the primes that they stand for.
async fn take<R, E: Debug>(watch: &mut Watch<R, E, u64>, from: &mut u64, count: u64) {
    let until = *from + count;
    while *from < until {
        match soon("the next item", watch.next()).await {
            Some(Ok(JobNews::Item { sequence, item })) => {
                assert_eq!((sequence, item), (*from, prime(sequence)));
                *from += 1;
            }
            Some(Ok(_)) => {}
            other => panic!("expected an item, got {:?}", other.map(|news| news.err())),
        }
    }
}

/// The prime of this number, counted from 0.
fn prime(number: u64) -> u64 {
    let is_prime = |n: &u64| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    let mut primes = (2..).filter(is_prime);
    primes.nth(number as usize).expect("there are enough")
}

/// Saves a job that runs, and has the copy go on beside it from the next item.
async fn copied<R, E: Debug>(host: &Host, job: &Job<R, E, u64>) {
    let saved = soon("a checkpoint", job.save(WITHIN)).await.expect("saved");
    let copy = host.open_job_of(resumer::primes::HANDLE, &saved);
    let copy = copy.await.expect("opened");
    let mut watch = copy.watch().await.expect("watched");
    let mut from = watch.items_from().expect("it emits");
    take(&mut watch, &mut from, 20).await;
    drop(watch);
    copy.cancel().await.expect("it runs");
    copy.acknowledge().await.expect("it has ended");
}

#[tokio::test]
async fn sessions_and_jobs_go_on_when_their_blobs_are_gone() {
    let configuration = format!("[limits]\nstore = \"{STORE}\"\n");
    let mut process = Process::start(&configuration, &["", ""]);
    let store = process.home().store_path();
    let parts = [keeper(), resumer()].map(|bundle| {
        let bundle = bundle.inner();
        [&bundle.code()[..], &bundle.manifest_bytes()[..]].map(|blob| path_of(&store, blob))
    });
    let are_there = || parts.as_flattened().iter().any(|path| path.exists());

    let host = process.connect(0).await;
    let session = host.open_session(keeper()).await.expect("opened");
    assert_eq!(remember(&session, "before").await, 1);
    let first = session.save().await.expect("saved");
    let every = Persist::Every { ms: 100 };
    let job = host.start(&of(resumer(), resumer::primes::HANDLE), (2,));
    let job = job.persist(every).await.expect("started");
    let mut watch = job.watch().await.expect("watched");
    let mut items = 0;
    take(&mut watch, &mut items, 10).await;
    until("all is stored", || {
        std::future::ready(parts.as_flattened().iter().all(|it| it.exists()))
    })
    .await;

    // The key's own uploads, for whoever holds most makes room, and beside them another's.
    let (own, other) = (host.clone(), process.connect(1).await);
    let filling = tokio::spawn(async move {
        for fill in 0..BUNDLES {
            ship(&own, fill).await;
            ship(&other, u8::MAX - fill).await;
        }
    });
    let mut count = 1;
    while !filling.is_finished() {
        count += 1;
        assert_eq!(remember(&session, "meanwhile").await, count);
        session.save().await.expect("saved");
        take(&mut watch, &mut items, 5).await;
    }
    soon("the uploads", filling).await.expect("no panic");
    assert!(
        !are_there(),
        "blobs of the session and the job are still stored"
    );

    // Both are used, saved and restored, here
    assert_eq!(remember(&session, "after").await, count + 1);
    let saved = session.save().await.expect("saved");
    assert_eq!(remember(&session, "late").await, count + 2);
    session.restore().await.expect("restored");
    let words = recall(&session).await;
    assert_eq!(words.len() as u32, count + 1);
    assert_eq!(words.last().map(String::as_str), Some("after"));
    take(&mut watch, &mut items, 20).await;
    assert_eq!(
        job.pause(WITHIN).await.expect("it has checkpoints").state,
        JobState::Paused
    );
    job.resume().await.expect("it is paused");
    take(&mut watch, &mut items, 20).await;

    // and in copies of them.
    copied(&host, &job).await;
    for (image, expected) in [(&first, 1), (&saved, count + 1)] {
        let copy = host.open_session(image).await.expect("opened");
        assert_eq!(recall(&copy).await.len() as u32, expected);
        copy.close().await.expect("closed");
    }

    // A host that is started again has them of its own disk.
    let (session_id, job_id) = (session.id(), job.id());
    drop((session, job, watch));
    host.close().await;
    process.kill();
    process.restart();
    let host = process.connect(0).await;
    let session = host.session(session_id).await.expect("it was saved");
    let recalled = session.call(keeper::recall::HANDLE, ());
    let recalled = recalled.expect("it is there").await.expect("recalled");
    assert_eq!(recalled, words);
    assert_eq!(remember(&session, "again").await, count + 2);
    session.save().await.expect("saved");
    let job = host.job_of(resumer::primes::HANDLE, job_id);
    let job = job.await.expect("it was kept");
    let mut watch = job.watch().await.expect("watched");
    let mut items = watch.items_from().expect("it emits");
    take(&mut watch, &mut items, 20).await;
    copied(&host, &job).await;
    drop(watch);
    job.cancel().await.expect("it runs");
    job.acknowledge().await.expect("it has ended");
    session.close().await.expect("closed");
    assert_serves(&host).await;
}
