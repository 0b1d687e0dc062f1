//! Second requests on one stream.

use std::time::Duration;

use resumer::strides;
use spore_client::{JobId, JobState, MoveId, Persist, RefusalCode, SessionId};
use spore_tests::guests::of;
use spore_tests::outcome::{idle, soon, until};
use spore_tests::peer::{self, Peer};
use spore_tests::{keeper, resumer};
use spore_transport::Connection;
use spore_transport::job::{
    CallItems, JobAcknowledge, JobCancel, JobLeave, JobOffer, JobOpen, JobPause, JobResult,
    JobResume, JobSave, JobStart, JobWatch, Lock, MoveStep, Place,
};
use spore_transport::message::{CallLimits, Cancel, Message};
use spore_transport::session::{
    Fetch, SessionCall, SessionClose, SessionOpen, SessionRestore, SessionSave,
};
use spore_value::codec;

use super::{
    ARRIVING, NOWHERE, UNKNOWN, all_refused, arrive, call_of, ends_refused, index_of, offered,
    serves, start, step,
};
use crate::asking::{ask, outcome};

#[tokio::test]
async fn a_second_request_while_the_first_waits_for_its_bundle() {
    let (local, host, connection) = start().await;
    let open = Message::SessionOpen(SessionOpen {
        bundle: UNKNOWN,
        limits: CallLimits::default(),
        idle_ms: None,
    });
    let call = call_of(UNKNOWN, 0, 0);
    let persist = Persist::Off;
    let move_id = offered(&connection).await;
    let firsts = [
        open.clone(),
        Message::CallItems(CallItems {
            call: call.clone(),
            window: 1,
        }),
        Message::JobStart(JobStart { call, persist }),
        Message::JobOpen(JobOpen {
            bundle: UNKNOWN,
            limits: CallLimits::default(),
            persist,
            paused: true,
        }),
        Message::JobOffer(JobOffer {
            job: JobId([8; 16]),
            from: NOWHERE,
            bundle: Some(UNKNOWN),
        }),
        arrive(move_id, Lock([4; 32]), UNKNOWN, None),
    ];
    for first in &firsts {
        for second in [first, &Message::SessionList, &Message::JobList, &open] {
            let mut peer = Peer::open(&connection).await;
            peer.say(first).await;
            assert_eq!(peer.missing().await.len(), 1, "{}", first.name());
            peer.say(second).await;
            let what = format!("{} in {}", second.name(), first.name());
            ends_refused(&mut peer, RefusalCode::OutOfOrder, &what).await;
        }
    }
    // Word to stop is for calls, and a job is ended by a request of its own.
    for first in &firsts {
        let mut peer = Peer::open(&connection).await;
        peer.say(first).await;
        peer.missing().await;
        peer.say(&Message::Cancel(Cancel { index: 0 })).await;
        let code = match first {
            Message::SessionOpen(_) | Message::CallItems(_) => RefusalCode::Cancelled,
            _ => RefusalCode::OutOfOrder,
        };
        ends_refused(&mut peer, code, first.name()).await;
    }
    assert!(host.sessions().await.expect("listed").is_empty());
    assert!(host.jobs().await.expect("listed").is_empty());
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_second_request_while_the_first_waits_for_a_job() {
    let (local, host, connection) = start().await;
    let job = host.start(&of(resumer(), strides::HANDLE), (1, u64::MAX));
    let job = job.await.expect("started");
    until("it is in a stride without an end", || async {
        job.info().await.expect("it is listed").done == 1
    })
    .await;
    let id = job.id();
    let within_ms = 3_000;
    let firsts = [
        Message::JobWatch(JobWatch {
            job: id,
            items: None,
        }),
        Message::JobResult(JobResult {
            job: id,
            wait: true,
        }),
        Message::JobSave(JobSave { job: id, within_ms }),
        Message::JobPause(JobPause { job: id, within_ms }),
        Message::JobLeave(JobLeave {
            job: id,
            move_id: MoveId([3; 16]),
            to: NOWHERE,
            within_ms,
            since: None,
        }),
    ];
    let cancel = Message::JobCancel(JobCancel { job: id });
    for first in &firsts {
        for second in [first, &Message::JobList, &cancel] {
            let messages = [first.clone(), second.clone()];
            all_refused(&connection, &messages, RefusalCode::OutOfOrder).await;
        }
        let info = job.info().await.expect("it is listed");
        assert_eq!(info.place, Place::Here);
        assert!(
            matches!(info.state, JobState::Running | JobState::Pausing),
            "{info:?}"
        );
    }
    // Once it is about no request that waits, the job is ended by one.
    soon("the end", job.cancel()).await.expect("it runs");
    job.acknowledge().await.expect("it has ended");
    serves(&local, &connection).await;
}

/// Has a session run a callable that never ends but by its time, and says so.
async fn spinning(connection: &Connection, session: SessionId, wall_ms: u64) -> Peer {
    let arguments = codec::encode(&("bad".to_owned(),)).expect("flat");
    let mut peer = Peer::open(connection).await;
    peer.say(&Message::SessionCall(SessionCall {
        session,
        callable: index_of(keeper(), "spin_after"),
        limits: peer::wall(wall_ms),
        seed: None,
        args_bytes: arguments.len() as u64,
    }))
    .await;
    peer.pour(arguments).await;
    match peer.message().await {
        Message::Output(output) => assert_eq!(output.bytes, "spinning\n"),
        other => panic!("expected a guest that spins, got {other:?}"),
    }
    peer
}

#[tokio::test]
async fn a_second_request_while_the_first_waits_for_a_session() {
    let (local, host, connection) = start().await;
    let session = host.open_session(keeper()).await.expect("opened");
    let remember = session.call(keeper::remember::HANDLE, ("good".to_owned(),));
    remember.expect("it is there").await.expect("remembered");
    session.save().await.expect("saved");
    let id = session.id();
    let mut spins = spinning(&connection, id, 60_000).await;
    let firsts = [
        Message::SessionSave(SessionSave { session: id }),
        Message::SessionRestore(SessionRestore { session: id }),
        // It is not what was saved, by the time that this is looked at.
        Message::SessionClose(SessionClose {
            session: id,
            expected: Some(UNKNOWN),
        }),
    ];
    for first in &firsts {
        for second in [first, &Message::SessionList] {
            let messages = [first.clone(), second.clone()];
            all_refused(&connection, &messages, RefusalCode::OutOfOrder).await;
        }
    }
    // The same of the call itself, which stops for it.
    spins.say(&Message::SessionList).await;
    ends_refused(&mut spins, RefusalCode::OutOfOrder, "within a call").await;
    idle(&host).await;
    session.restore().await.expect("it was saved");
    let recall = session.call(keeper::recall::HANDLE, ());
    let words = recall.expect("it is there").await.expect("recalled");
    assert_eq!(words, ["good"]);
    // Arguments that are not whole are in the way of anything else.
    let mut peer = Peer::open(&connection).await;
    peer.say(&Message::SessionCall(SessionCall {
        session: id,
        callable: 0,
        limits: CallLimits::default(),
        seed: None,
        args_bytes: 5,
    }))
    .await;
    peer.say(&Message::SessionList).await;
    ends_refused(&mut peer, RefusalCode::OutOfOrder, "within arguments").await;
    session.close().await.expect("closed");
    serves(&local, &connection).await;
}

#[tokio::test]
async fn a_close_that_nobody_waits_for_any_more_closes_or_does_not() {
    let (local, host, connection) = start().await;
    let session = host.open_session(keeper()).await.expect("opened");
    session.save().await.expect("saved");
    let id = session.id();
    let close = Message::SessionClose(SessionClose {
        session: id,
        expected: None,
    });
    let mut spins = spinning(&connection, id, 3_000).await;
    let messages = [close.clone(), Message::SessionList];
    all_refused(&connection, &messages, RefusalCode::OutOfOrder).await;
    ends_refused(&mut spins, RefusalCode::WallTime, "its time is over").await;
    // Either it is there and can be closed, or it is gone; and not a bit of both.
    let settled = async {
        loop {
            let listed = host.sessions().await.expect("listed");
            let is_there = listed.iter().any(|it| it.session == id);
            match (is_there, ask(&connection, &close).await) {
                (_, Message::SessionClosed(_)) => break,
                (false, Message::Refused(why)) if why.code == RefusalCode::UnknownSession => break,
                // It may just be closing.
                (true, Message::Refused(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(10), settled).await;
    settled.expect("a session that is listed can be closed");
    assert!(host.sessions().await.expect("listed").is_empty());
    serves(&local, &connection).await;
}

#[tokio::test]
async fn what_follows_a_request_that_does_not_wait_means_nothing() {
    let (local, _, connection) = start().await;
    let (job, session) = (ARRIVING, SessionId([7; 16]));
    let firsts = [
        (Message::SessionList, None),
        (Message::JobList, None),
        (
            Message::SessionSave(SessionSave { session }),
            Some(RefusalCode::UnknownSession),
        ),
        (
            Message::JobResume(JobResume { job }),
            Some(RefusalCode::UnknownJob),
        ),
        (
            Message::JobAcknowledge(JobAcknowledge { job }),
            Some(RefusalCode::UnknownJob),
        ),
        (
            Message::Fetch(Fetch { blob: UNKNOWN }),
            Some(RefusalCode::UnknownBundle),
        ),
        (step(job, MoveId([3; 16]), MoveStep::Forget), None),
        (
            step(job, MoveId([3; 16]), MoveStep::Settle),
            Some(RefusalCode::MoveUnknown),
        ),
    ];
    for (first, code) in firsts {
        let mut peer = Peer::open(&connection).await;
        peer.say(&first).await;
        peer.say(&Message::Status).await;
        peer.pour(vec![0; 100]).await;
        // One outcome, which is that of the first, unless the host has looked up in between.
        match (outcome(&mut peer).await, code) {
            (Message::Refused(why), _) if why.code == RefusalCode::OutOfOrder => {}
            (Message::Refused(why), Some(code)) => assert_eq!(why.code, code),
            (Message::Sessions(_) | Message::Jobs(_) | Message::JobMoved(_), None) => {}
            other => panic!("{}: {other:?}", first.name()),
        }
    }
    serves(&local, &connection).await;
}
