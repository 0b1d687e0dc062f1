//! Jobs whose owner's key is revoked, and jobs whose move never ends.

use spore_client::{Host, JobState, MoveStage, Persist, Place, RefusalCode, Session, Settled};
use spore_tests::outcome::{refused, soon, until};
use spore_tests::relay::Relay;
use spore_tests::{Process, keeper};
use tokio::sync::oneshot;

use super::{
    Paced, WITHIN, ends_with, info, joined, next_round, reached, served, started, take_leave,
    undisturbed,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_a_revoked_key_stands_still_until_the_key_is_authorised_again() {
    const ROUNDS: u32 = 220;
    /// Rounds of the other job meanwhile.
    const MEANWHILE: u64 = 120;
    let process = Process::start("", &["", ""]);
    let [owner, other] = [process.connect(0).await, process.connect(1).await];
    let [first, second] = [0, 1].map(|number: usize| process.clients[number].public());
    let expected = tokio::spawn(undisturbed(ROUNDS));
    let job = started(&owner, ROUNDS, Persist::Off).await;
    // It tells the time: what takes the one longer takes the other longer too.
    let clock = started(&other, u32::MAX, Persist::Off).await;
    reached(&job, 20).await;
    let before = (info(&job).await.done, info(&clock).await.done);
    process.write_authorized_keys(&format!("{second}\n"));
    until("the key is revoked", || async {
        owner.status().await.is_err()
    })
    .await;
    let revoked_at = info(&clock).await.done;
    reached(&clock, revoked_at + MEANWHILE).await;
    process.write_authorized_keys(&format!("{first}\n{second}\n"));
    served(&owner).await;
    has_its_job_again(&owner).await;
    let after = (info(&job).await.done, info(&clock).await.done);
    let (rounds, time) = (after.0 - before.0, after.1 - before.1);
    assert!(
        rounds + MEANWHILE / 2 < time,
        "{rounds} rounds in a time of {time}, of which it was to stand still for {MEANWHILE}"
    );
    until("the job goes on", async || {
        let state = info(&job).await.state;
        matches!(state, JobState::Running | JobState::Ended(_))
    })
    .await;
    ends_with(&job, &expected.await.expect("no panic")).await;
}

async fn has_its_job_again(owner: &Host) {
    until("the job is there again", || async {
        !owner.jobs().await.expect("listed").is_empty()
    })
    .await;
}

async fn recalled(session: &Session) -> Option<Vec<String>> {
    let call = session.call(keeper::recall::HANDLE, ());
    call.expect("it is there").await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_authorised_after_a_restart_has_its_sessions_and_jobs_again() {
    const ROUNDS: u32 = 600;
    let mut process = Process::start("", &["", ""]);
    let owner = process.connect(0).await;
    let [first, second] = [0, 1].map(|number: usize| process.clients[number].public());
    let expected = tokio::spawn(undisturbed(ROUNDS));
    let job = started(&owner, ROUNDS, Persist::Off).await;
    let session = owner.open_session(keeper()).await.expect("opened");
    let call = session.call(keeper::remember::HANDLE, ("a".to_owned(),));
    call.expect("it is there").await.expect("remembered");
    session.save().await.expect("saved");
    let from = reached(&job, 50).await;
    take_leave(&owner).await;
    assert!(process.terminate().success(), "{}", process.log());
    process.write_authorized_keys(&format!("{second}\n"));
    process.restart();

    let status = owner.status().await;
    assert!(status.is_err(), "the key is not authorised: {status:?}");
    process.write_authorized_keys(&format!("{first}\n{second}\n"));
    served(&owner).await;
    until("its session is there again", || async {
        recalled(&session).await.is_some()
    })
    .await;
    assert_eq!(recalled(&session).await.expect("recalled"), ["a"]);
    has_its_job_again(&owner).await;
    let mut watch = job.watch().await.expect("it is there");
    let round = next_round(&mut watch).await;
    assert!(round > from, "round {round} after {from}");
    ends_with(&job, &expected.await.expect("no panic")).await;
}

/// Moves a job to this stage and no further: its client goes away then, and a host for good.
async fn broken_off(job: &Paced, to: &Host, stage: MoveStage, gone: Option<Process>) {
    let (broken, breaks) = oneshot::channel();
    let mut end = Some((gone, broken));
    let moving = job.move_to(to, WITHIN).on_stage(move |reached| {
        if reached == stage
            && let Some((gone, broken)) = end.take()
        {
            // With its folder.
            drop(gone);
            let _ = broken.send(());
        }
    });
    tokio::select! {
        moved = moving.into_future() => panic!("it moved: {moved:?}"),
        Ok(()) = breaks => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_other_host_never_comes_back_is_adopted() {
    const ROUNDS: u32 = 300;
    let configuration = "job_persist = \"100ms\"\n";
    let source = Process::start(configuration, &[""]);
    let here = Process::start(configuration, &[]);
    let target = Process::start(configuration, &[]);
    let at_source = source.connect(0).await;
    let at_here = joined(&here, &source).await;
    let at_target = joined(&target, &source).await;
    let expected = tokio::spawn(undisturbed(ROUNDS));

    // The source is gone before it has given the job up.
    let job = started(&at_source, ROUNDS, Persist::HostDefault).await;
    let id = job.id();
    reached(&job, 20).await;
    broken_off(&job, &at_here, MoveStage::Arrived, Some(source)).await;
    let job = at_here.job_of(resumer::paced::HANDLE, id).await;
    let job = job.expect("it is there");
    let place = info(&job).await.place;
    assert!(matches!(place, Place::Arriving { .. }), "{place:?}");
    refused(job.pause(WITHIN).await, RefusalCode::MoveUnderWay);
    at_here.adopt_job(id).await.expect("it has all of it");
    assert_eq!(info(&job).await.place, Place::Here);
    let expected = expected.await.expect("no panic");
    ends_with(&job, &expected).await;

    // The target is gone after that.
    let job = started(&at_here, ROUNDS, Persist::HostDefault).await;
    reached(&job, 20).await;
    broken_off(&job, &at_target, MoveStage::GivenUp, Some(target)).await;
    let place = info(&job).await.place;
    assert!(matches!(place, Place::GaveUp { .. }), "{place:?}");
    refused(job.pause(WITHIN).await, RefusalCode::JobElsewhere);
    at_here.adopt_job(job.id()).await.expect("it has a copy");
    assert_eq!(info(&job).await.place, Place::Here);
    ends_with(&job, &expected).await;
    assert!(at_here.jobs().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_adopted_too_soon_is_told_to_be_on_both_hosts() {
    let configuration = "job_persist = \"100ms\"\n";
    let source = Process::start(configuration, &[""]);
    let target = Process::start(configuration, &[]);
    let at_source = source.connect(0).await;
    let at_target = joined(&target, &source).await;
    let job = started(&at_source, 1_000, Persist::HostDefault).await;
    let id = job.id();
    // Its client is cut off there: nothing asks the source to give it up.
    let way = Relay::start(source.address).await;
    let by_way = source.connect_by(way.address, &source.clients[0]).await;
    let (cutter, (cut, is_cut)) = (way.cutter(), oneshot::channel());
    let mut cut = Some(cut);
    let carried = by_way.job_of(resumer::paced::HANDLE, id).await;
    let moving = carried.expect("it is there").move_to(&at_target, WITHIN);
    let moving = moving.on_stage(move |reached| {
        if reached == MoveStage::Arrived
            && let Some(cut) = cut.take()
        {
            cutter.cut();
            let _ = cut.send(());
        }
    });
    tokio::select! {
        moved = moving.into_future() => panic!("it moved: {moved:?}"),
        Ok(()) = is_cut => {}
    }
    at_target.adopt_job(id).await.expect("it has all of it");
    let settled = || async { at_source.settle_move(id, &at_target).await.expect("there") };
    assert_eq!(settled().await, Settled::AtBoth);
    job.cancel().await.expect("it is there");
    job.acknowledge().await.expect("it has ended");
    assert_eq!(settled().await, Settled::AtTarget);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_job_hears_that_it_was_given_up_and_to_whom() {
    const ROUNDS: u32 = 400;
    let configuration = "job_persist = \"100ms\"\n";
    let source = Process::start(configuration, &[""]);
    let target = Process::start(configuration, &[]);
    let at_source = source.connect(0).await;
    let at_target = joined(&target, &source).await;
    let expected = tokio::spawn(undisturbed(ROUNDS));
    let job = started(&at_source, ROUNDS, Persist::HostDefault).await;
    let mut watch = job.watch().await.expect("watched");
    next_round(&mut watch).await;
    let waiting = job.clone();
    let waiting = tokio::spawn(async move { waiting.result().await });
    broken_off(&job, &at_target, MoveStage::GivenUp, None).await;

    let over = loop {
        match soon("the end of the watch", watch.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the job has not ended"),
        }
    };
    let ended = soon("the end of the wait", waiting)
        .await
        .expect("no panic");
    let why = [
        refused(Err::<(), _>(over), RefusalCode::JobElsewhere),
        refused(ended, RefusalCode::JobElsewhere),
    ];
    let to = target.key.to_string();
    assert!(why.iter().all(|why| why.message == to), "{why:?}");
    let settled = at_source.settle_move(job.id(), &at_target).await;
    assert_eq!(settled.expect("both are there"), Settled::AtTarget);
    let moved = at_target.job_of(resumer::paced::HANDLE, job.id()).await;
    let moved = moved.expect("it is there");
    ends_with(&moved, &expected.await.expect("no panic")).await;
}
