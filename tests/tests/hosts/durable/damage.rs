//! Images of which a byte is not any more what was written.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Debug;

use spore_client::{Bundle, CallError, Host, Persist, RefusalCode, Session};
use spore_tests::damage::{damage, own_block, spoil};
use spore_tests::outcome::{refused, soon};
use spore_tests::{Process, keeper};

use super::{WITHIN, ends_with, reached, started, take_leave, undisturbed};

/// A session that remembers a word, and what it was saved as.
async fn saved(host: &Host, word: &str) -> (Session, Bundle) {
    let session = host.open_session(keeper()).await.expect("opened");
    remember(&session, word).await;
    let saved = session.save().await.expect("saved");
    (session, saved)
}

async fn remember(session: &Session, word: &str) {
    let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
    call.expect("it is there").await.expect("remembered");
}

async fn recall(session: &Session) -> Result<Vec<String>, CallError<Infallible>> {
    let call = session.call(keeper::recall::HANDLE, ());
    soon("an answer", call.expect("it is there").into_future()).await
}

/// Holds a request to be refused, or its job to have ended, because of the damage.
#[track_caller]
fn is_damaged<R: Debug, E: Debug>(result: Result<R, CallError<E>>) {
    match result {
        Err(CallError::Refused(why) | CallError::JobEnded(why))
            if why.code == RefusalCode::StoreDamaged => {}
        other => panic!("expected that the store is damaged, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_on_the_disk_is_refused_and_nothing_else_is() {
    const ROUNDS: u32 = 300;
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let expected = tokio::spawn(undisturbed(ROUNDS));
    let (lost, lost_image) = saved(&host, "lost").await;
    let (whole, whole_image) = saved(&host, "whole").await;
    let lost_job = started(&host, ROUNDS, Persist::HostDefault).await;
    let whole_job = started(&host, ROUNDS, Persist::HostDefault).await;
    // One is further than the other, so that it has blocks of its own.
    for (job, round) in [(&lost_job, 10), (&whole_job, 30)] {
        reached(job, round).await;
        job.pause(WITHIN).await.expect("it sleeps often");
    }
    // That is what they were written down as when they were paused.
    let lost_run = lost_job.save(WITHIN).await.expect("it stands still");
    let whole_run = whole_job.save(WITHIN).await.expect("it stands still");
    take_leave(&host).await;
    process.kill();
    let others = [&whole_image, &whole_run];
    let in_session = own_block(&lost_image, &[&lost_run, others[0], others[1]]);
    let in_job = own_block(&lost_run, &[&lost_image, others[0], others[1]]);
    damage(&process, &in_session);
    damage(&process, &in_job);
    process.restart();

    // However often it is asked for: what cannot be read is not made up for.
    for _ in 0..2 {
        refused(recall(&lost).await, RefusalCode::StoreDamaged);
        refused(lost.save().await, RefusalCode::StoreDamaged);
        is_damaged(soon("an answer", lost_job.result()).await);
    }
    // Also to whoever does not know of what they are.
    refused(host.session(lost.id()).await, RefusalCode::StoreDamaged);
    refused(host.job(lost_job.id()).await, RefusalCode::StoreDamaged);
    let resumed = lost_job.resume().await;
    assert!(
        resumed.is_err(),
        "there is nothing to go on from: {resumed:?}"
    );
    // The others have lost nothing.
    assert_eq!(recall(&whole).await.expect("recalled"), ["whole"]);
    remember(&whole, "more").await;
    whole.save().await.expect("saved");
    let (new, _) = saved(&host, "new").await;
    whole_job.resume().await.expect("it is paused");
    let expected = expected.await.expect("no panic");
    ends_with(&whole_job, &expected).await;
    // What is damaged can be let go of, for ever.
    let id = lost.id();
    host.close_session(id, None).await.expect("closed");
    let gone = host.session_of(id, keeper());
    refused(recall(&gone).await, RefusalCode::UnknownSession);
    // One that counts as ended has nothing to be cancelled.
    let _ = lost_job.cancel().await;
    let forgotten = host.acknowledge_job(lost_job.id()).await;
    forgotten.expect("it is forgotten");
    take_leave(&host).await;
    process.kill();
    process.restart();

    let sessions = host.sessions().await.expect("listed");
    let sessions: HashSet<_> = sessions.iter().map(|it| it.session).collect();
    assert_eq!(sessions, HashSet::from([whole.id(), new.id()]));
    assert_eq!(recall(&new).await.expect("recalled"), ["new"]);
    assert_eq!(recall(&whole).await.expect("recalled"), ["whole", "more"]);
    let jobs = host.jobs().await.expect("listed");
    assert!(jobs.is_empty(), "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_saved_after_damage_was_found_needs_nothing_of_it() {
    let mut process = Process::start("", &[""]);
    let host = process.connect(0).await;
    let (lost, lost_image) = saved(&host, "lost").await;
    // Its code lies where that of the first does.
    let (whole, whole_image) = saved(&host, "whole").await;
    take_leave(&host).await;
    process.kill();
    let damaged = damage(&process, &own_block(&lost_image, &[&whole_image]));
    process.restart();

    refused(recall(&lost).await, RefusalCode::StoreDamaged);
    assert_eq!(recall(&whole).await.expect("recalled"), ["whole"]);
    remember(&whole, "more").await;
    whole.save().await.expect("saved");
    let (new, _) = saved(&host, "new").await;
    take_leave(&host).await;
    process.kill();
    // What has spoilt one block goes on.
    damaged.iter().for_each(|pack| spoil(pack));
    process.restart();

    assert_eq!(recall(&whole).await.expect("recalled"), ["whole", "more"]);
    assert_eq!(recall(&new).await.expect("recalled"), ["new"]);
}
