//! Steps of moves that do not fit where the job is.

use std::time::Duration;

use resumer::told;
use spore_client::{JobId, MoveId, PublicKey, RefusalCode, Refused};
use spore_tests::guests::of;
use spore_tests::peer::Peer;
use spore_tests::resumer;
use spore_transport::Connection;
use spore_transport::job::{
    JobAcknowledge, JobCancel, JobLeave, JobLeft, JobOffer, JobPause, JobResult, JobResume,
    JobSave, JobWatch, Lock, MoveStep, Place, Release,
};
use spore_transport::message::Message;

use super::{
    ARRIVING, NOWHERE, WITHIN, arrive, ends_refused, moved, offered, saved_job, serves, start, step,
};
use crate::asking::{ask, refused};

/// Requests about a job for which it has to be on this host.
fn requests_to_be_served(job: JobId) -> [Message; 7] {
    let within_ms = 1_000;
    [
        Message::JobPause(JobPause { job, within_ms }),
        Message::JobResume(JobResume { job }),
        Message::JobSave(JobSave { job, within_ms }),
        Message::JobCancel(JobCancel { job }),
        Message::JobResult(JobResult { job, wait: false }),
        Message::JobResult(JobResult { job, wait: true }),
        Message::JobAcknowledge(JobAcknowledge { job }),
    ]
}

/// None of them is served, while it is not.
async fn are_refused(connection: &Connection, job: JobId, code: RefusalCode) -> Vec<Refused> {
    /// One that is answered waits for nothing.
    const AT_ONCE: Duration = Duration::from_secs(10);
    let mut refusals = Vec::new();
    for request in requests_to_be_served(job) {
        let answer = tokio::time::timeout(AT_ONCE, ask(connection, &request)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} waits", request.name()));
        refusals.push(refused(answer, code, request.name()));
    }
    refusals
}

#[tokio::test]
async fn a_target_takes_over_with_the_release_of_this_move_and_nothing_else() {
    let (local, host, connection) = start().await;
    let parts = saved_job(&host).await;
    let move_id = offered(&connection).await;
    let other = MoveId([3; 16]);
    let release = Release([1; 16]);
    let lock = release.lock(ARRIVING, move_id);
    let arrives = async |lock| {
        let request = arrive(move_id, lock, parts.id(), None);
        parts.answer(&connection, &request).await.0
    };
    let steps = async |move_id, step: MoveStep| {
        let request = super::step(ARRIVING, move_id, step);
        ask(&connection, &request).await
    };
    let before = moved(arrives(lock).await).place;
    let is_arriving = matches!(before, Some(Place::Arriving { lock: held, .. }) if held == lock);
    assert!(is_arriving, "{before:?}");
    // Another release, and that of another job, move or departure.
    let take_over = |release| MoveStep::TakeOver { release };
    let half: [u8; 16] = lock.0[..16].try_into().expect("16 bytes");
    for wrong in [[0; 16], [2; 16], [0xff; 16], half] {
        let refusal = steps(move_id, take_over(Release(wrong))).await;
        refused(refusal, RefusalCode::WrongRelease, "another release");
    }
    for (what, move_id, step, code) in [
        (
            "the release, for another move",
            other,
            take_over(release),
            RefusalCode::MoveUnknown,
        ),
        (
            "a step of its source",
            move_id,
            MoveStep::GiveUp { lock },
            RefusalCode::MoveUnknown,
        ),
        (
            "forgotten",
            move_id,
            MoveStep::Forget,
            RefusalCode::MoveUnknown,
        ),
        (
            "settled before it was taken over",
            move_id,
            MoveStep::Settle,
            RefusalCode::MoveUnknown,
        ),
        ("staying", move_id, MoveStep::Stay, RefusalCode::MoveUnknown),
        (
            "dropped without its lock",
            move_id,
            MoveStep::Drop { lock: None },
            RefusalCode::MoveUnderWay,
        ),
        (
            "dropped with another",
            move_id,
            MoveStep::Drop {
                lock: Some(Lock([4; 32])),
            },
            RefusalCode::MoveUnderWay,
        ),
        (
            "another move dropped",
            other,
            MoveStep::Drop { lock: Some(lock) },
            RefusalCode::MoveUnknown,
        ),
        (
            "adopted from another move",
            other,
            MoveStep::Adopt,
            RefusalCode::MoveUnknown,
        ),
    ] {
        refused(steps(move_id, step).await, code, what);
    }
    let refusal = arrives(Lock([4; 32])).await;
    refused(refusal, RefusalCode::MoveUnderWay, "another departure");
    let offer = Message::JobOffer(JobOffer {
        job: ARRIVING,
        from: NOWHERE,
        bundle: None,
    });
    let refusal = ask(&connection, &offer).await;
    refused(refusal, RefusalCode::MoveUnderWay, "offered again");
    let leave = Message::JobLeave(JobLeave {
        job: ARRIVING,
        move_id: other,
        to: NOWHERE,
        within_ms: 1_000,
        since: None,
    });
    let refusal = ask(&connection, &leave).await;
    refused(refusal, RefusalCode::MoveUnderWay, "leaving again");
    are_refused(&connection, ARRIVING, RefusalCode::MoveUnderWay).await;
    // None of it has moved it, and asked again it is where it was.
    let job = host.job_of(told::HANDLE, ARRIVING).await.expect("found");
    let info = job.info().await.expect("it is listed");
    assert_eq!((info.done, Some(info.place)), (0, before));
    assert_eq!(moved(arrives(lock).await).place, before);

    // The right one, twice.
    for _ in 0..2 {
        let place = moved(steps(move_id, take_over(release)).await).place;
        assert!(matches!(place, Some(Place::Arrived { .. })), "{place:?}");
    }
    let refusal = arrives(lock).await;
    refused(refusal, RefusalCode::JobHere, "arriving again");
    let refusal = steps(move_id, MoveStep::Drop { lock: Some(lock) }).await;
    refused(refusal, RefusalCode::JobHere, "dropped when it runs");
    assert_eq!(job.result().await.expect("a value"), 100);
    // Its source may still have a copy: until that is settled it can neither end nor go on.
    let acknowledge = Message::JobAcknowledge(JobAcknowledge { job: ARRIVING });
    let refusal = ask(&connection, &acknowledge).await;
    refused(refusal, RefusalCode::MoveUnderWay, "not settled");
    let settled = moved(steps(move_id, MoveStep::Settle).await).place;
    assert_eq!(settled, Some(Place::Here));
    job.acknowledge().await.expect("it has ended");
    serves(&local, &connection).await;
}

/// Has a job leave, by hand.
async fn leave(connection: &Connection, job: JobId, move_id: MoveId, to: PublicKey) -> Message {
    let leave = JobLeave {
        job,
        move_id,
        to,
        within_ms: WITHIN.as_millis() as u64,
        since: None,
    };
    ask(connection, &Message::JobLeave(leave)).await
}

#[track_caller]
fn left(message: Message) -> JobLeft {
    match message {
        Message::JobLeft(left) => left,
        other => panic!("expected a job that leaves, got {other:?}"),
    }
}

#[tokio::test]
async fn a_source_gives_up_to_the_lock_of_this_departure_and_to_nothing_else() {
    let (local, host, connection) = start().await;
    let job = host.start(&of(resumer(), told::HANDLE), (1_000,));
    let job = job.await.expect("started");
    let (id, this, other) = (job.id(), MoveId([3; 16]), MoveId([4; 16]));
    let steps = async |move_id, step: MoveStep| {
        let request = super::step(id, move_id, step);
        ask(&connection, &request).await
    };
    // It has not left, so that there is nothing to settle, to give up or to forget.
    let settled = moved(steps(this, MoveStep::Settle).await).place;
    assert_eq!(settled, Some(Place::Here));
    let nothing = Lock([4; 32]);
    let refusal = steps(this, MoveStep::GiveUp { lock: nothing }).await;
    refused(refusal, RefusalCode::MoveUnknown, "it does not leave");
    let refusal = steps(this, MoveStep::Forget).await;
    refused(refusal, RefusalCode::MoveUnknown, "it is here");

    let lock = left(leave(&connection, id, this, NOWHERE).await).lock;
    assert_eq!(left(leave(&connection, id, this, NOWHERE).await).lock, lock);
    for (move_id, to) in [(other, NOWHERE), (this, PublicKey([8; 32]))] {
        let refusal = leave(&connection, id, move_id, to).await;
        refused(refusal, RefusalCode::MoveUnderWay, "another departure");
    }
    let release = Release([1; 16]);
    let give_up = |lock| MoveStep::GiveUp { lock };
    for (what, move_id, step) in [
        ("another lock", this, give_up(nothing)),
        ("a lock made up", this, give_up(release.lock(id, this))),
        ("the lock, for another move", other, give_up(lock)),
        ("a step of its target", this, MoveStep::TakeOver { release }),
        ("settled", this, MoveStep::Settle),
        ("forgotten", this, MoveStep::Forget),
        ("dropped", this, MoveStep::Drop { lock: Some(lock) }),
        ("staying, in another move", other, MoveStep::Stay),
        ("adopted, from another move", other, MoveStep::Adopt),
    ] {
        refused(steps(move_id, step).await, RefusalCode::MoveUnknown, what);
    }
    are_refused(&connection, id, RefusalCode::MoveUnderWay).await;
    let place = job.info().await.expect("it is listed").place;
    let leaving = Place::Leaving {
        move_id: this,
        to: NOWHERE,
        lock,
    };
    assert_eq!(place, leaving);

    // Given up to its lock, it is nobody else's, however often it is asked for.
    let given_up = moved(steps(this, give_up(lock)).await);
    let release = given_up.release.expect("it is given up");
    assert_eq!(release.lock(id, this), lock);
    assert_eq!(moved(steps(this, give_up(lock)).await), given_up);
    for (what, move_id, step, code) in [
        (
            "another lock",
            this,
            give_up(nothing),
            RefusalCode::MoveUnknown,
        ),
        (
            "taken over where it was",
            this,
            MoveStep::TakeOver { release },
            RefusalCode::MoveUnknown,
        ),
        ("staying", this, MoveStep::Stay, RefusalCode::JobElsewhere),
        (
            "forgotten, of another move",
            other,
            MoveStep::Forget,
            RefusalCode::MoveUnknown,
        ),
        (
            "adopted, from another move",
            other,
            MoveStep::Adopt,
            RefusalCode::MoveUnknown,
        ),
    ] {
        refused(steps(move_id, step).await, code, what);
    }
    let refusal = leave(&connection, id, other, NOWHERE).await;
    refused(refusal, RefusalCode::JobElsewhere, "leaving again");
    for why in are_refused(&connection, id, RefusalCode::JobElsewhere).await {
        assert_eq!(why.message, NOWHERE.to_string());
    }
    let forgotten = moved(steps(this, MoveStep::Forget).await);
    assert_eq!((forgotten.place, forgotten.release), (None, None));
    are_refused(&connection, id, RefusalCode::UnknownJob).await;
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_job_that_leaves_can_be_watched_and_one_that_is_given_up_cannot() {
    let (local, host, connection) = start().await;
    let job = host.start(&of(resumer(), told::HANDLE), (1_000,));
    let job = job.await.expect("started");
    let (id, move_id) = (job.id(), MoveId([3; 16]));
    let watch = Message::JobWatch(JobWatch {
        job: id,
        items: None,
    });
    let watched = async || {
        let mut peer = Peer::open(&connection).await;
        peer.say(&watch).await;
        match peer.message().await {
            Message::JobWatched(_) => peer,
            other => panic!("expected to watch, got {other:?}"),
        }
    };
    let before = watched().await;
    let lock = left(leave(&connection, id, move_id, NOWHERE).await).lock;
    let meanwhile = watched().await;
    let give_up = step(id, move_id, MoveStep::GiveUp { lock });
    moved(ask(&connection, &give_up).await);
    // They end with where it has gone.
    for mut peer in [before, meanwhile] {
        let end = ends_refused(&mut peer, RefusalCode::JobElsewhere, "a watch");
        let end = tokio::time::timeout(Duration::from_secs(10), end).await;
        let why = end.expect("a watch of a job that is given up ends");
        assert_eq!(why.message, NOWHERE.to_string());
    }
    let refusal = ask(&connection, &watch).await;
    refused(refusal, RefusalCode::JobElsewhere, "a new watch");
    serves(&local, &connection).await;
}
