//! Moves of sessions between hosts that break: at no time can a session be called at two hosts, and
//! once both are back it is on one, as it was.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use spore_client::{
    CallError, CallLimits, Host, RefusalCode, Session, SessionError, SessionId, SessionInfo,
    SessionMoveError, SessionMoveStage, SessionSettled,
};
use spore_tests::damage::{damage, own_block};
use spore_tests::outcome::{refused, soon, until};
use spore_tests::{Process, keeper};
use tokio::sync::Mutex;

use crate::pair::{Broken, Pair};

const STAGES: [SessionMoveStage; 4] = [
    SessionMoveStage::Saved,
    SessionMoveStage::Arrived,
    SessionMoveStage::GivenUp,
    SessionMoveStage::TakenOver,
];

async fn pair() -> Pair {
    Pair::start("[limits]\nconnections_per_key = 64\n").await
}

async fn remember(session: &Session, word: &str) -> Result<u32, SessionError> {
    let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
    call.expect("it is there").await
}

async fn words(session: &Session) -> Vec<String> {
    let call = session.call(keeper::recall::HANDLE, ());
    call.expect("it is there").await.expect("recalled")
}

async fn sessions(host: &Host) -> Vec<SessionInfo> {
    host.sessions().await.expect("listed")
}

/// A session that remembers one word, and nothing of it is saved.
async fn open(host: &Host) -> Session {
    let session = host.open_session(keeper()).await.expect("opened");
    remember(&session, "one").await.expect("remembered");
    session
}

/// The sessions that can be called, with their hosts.
async fn callable(hosts: &[Host; 2]) -> Vec<(usize, SessionId)> {
    let mut found = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        let listed = sessions(host).await.into_iter();
        found.extend(
            listed
                .filter(|it| it.held.is_none() && it.gave_up.is_none())
                .map(|it| (at, it.session)),
        );
    }
    found
}

#[tokio::test]
async fn a_session_that_moves_goes_on_where_it_is() {
    let pair = pair().await;
    let [one, other] = pair.connect().await;
    let session = open(&one).await;
    let moved = session.move_to(&other).await.expect("moved");
    assert!(sessions(&one).await.is_empty());
    refused(
        remember(&session, "lost").await,
        RefusalCode::UnknownSession,
    );
    assert_eq!(remember(&moved, "two").await.expect("remembered"), 2);
    // Settling what is settled says where it is not.
    refused(
        one.settle_session(session.id(), &other).await,
        RefusalCode::UnknownSession,
    );
    let back = moved.move_to(&one).await.expect("moved back");
    assert_eq!(words(&back).await, ["one", "two"]);
    assert!(sessions(&other).await.is_empty());
}

#[tokio::test]
async fn a_call_in_between_keeps_a_session_where_it_is() {
    let pair = pair().await;
    let [one, other] = pair.connect().await;
    for stage in [SessionMoveStage::Saved, SessionMoveStage::Arrived] {
        let session = open(&one).await;
        let (calls, mut call) = tokio::sync::mpsc::channel(1);
        let moving = session.move_to(&other).on_stage(move |reached| {
            if reached == stage {
                // The move goes on when the call was made.
                let (made, is_made) = std::sync::mpsc::channel();
                calls.try_send(made).expect("once");
                is_made.recv().expect("it is made");
            }
        });
        let moving = tokio::task::spawn_blocking(|| {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(moving.into_future()).map_err(Box::new)
        });
        let made = call.recv().await.expect("the stage is reached");
        remember(&session, "two").await.expect("remembered");
        made.send(()).expect("it waits");
        let moved = moving.await.expect("no panic");
        match *moved.expect_err("it was changed") {
            SessionMoveError::NotMoved {
                stage: SessionMoveStage::GivenUp,
                source: CallError::Refused(why),
            } => assert_eq!(why.code, RefusalCode::SessionChanged),
            other => panic!("{other:?}"),
        }
        assert_eq!(words(&session).await, ["one", "two"]);
        assert!(sessions(&other).await.is_empty());
        session.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_held_session_waits_for_its_owner() {
    // Nothing else would wait so long.
    let mut pair = Pair::start("[limits]\nsession_idle = \"3s\"\n").await;
    let [one, other] = pair.connect().await;
    let session = open(&one).await;
    hold(&session, &pair, &other).await;
    pair.kill(Broken::Target);
    pair.restart(Broken::Target);
    let hosts = pair.connect().await;
    // One that is not held, and was used later, ends; and so does the one that this is a copy of.
    let other = open(&hosts[1]).await;
    until("those that nobody uses are gone", || async {
        let there = sessions(&hosts[1]).await;
        let gone = there.iter().all(|it| it.session != other.id());
        gone && sessions(&hosts[0]).await.is_empty()
    })
    .await;
    let listed = sessions(&hosts[1]).await;
    let [held] = &listed[..] else {
        panic!("one is held, however long: {listed:?}");
    };
    let from = held.held.expect("it is held");
    assert_eq!(from.session, session.id());
    assert_eq!(from.host, Some(pair.source.key));
    let there = hosts[1].session(held.session).await.expect("it is there");
    refused(remember(&there, "early").await, RefusalCode::SessionHeld);
    // The one that nobody used is gone meanwhile. That does not say that it was given up to this one,
    // and so a person decides.
    refused(
        hosts[0].settle_session(session.id(), &hosts[1]).await,
        RefusalCode::UnknownSession,
    );
    refused(remember(&there, "early").await, RefusalCode::SessionHeld);
    let adopted = hosts[1].take_over_session(held.session).await;
    adopted.expect("it is held");
    assert_eq!(words(&there).await, ["one"]);
    there.close().await.expect("closed");
}

#[tokio::test]
async fn a_second_move_waits_for_the_first_to_be_settled() {
    let pair = pair().await;
    let hosts = pair.connect().await;
    let session = open(&hosts[0]).await;
    let saved = session.save().await.expect("saved");
    let from = spore_client::Origin {
        session: session.id(),
        host: Some(pair.source.key),
    };
    let held = hosts[1].open_session(&saved).arriving(from).await;
    let held = held.expect("it is held");
    match session.move_to(&hosts[1]).await {
        Err(SessionMoveError::NotMoved {
            source: CallError::Refused(why),
            ..
        }) => assert_eq!(why.code, RefusalCode::MoveUnderWay),
        other => panic!("{other:?}"),
    }
    assert_eq!(callable(&hosts).await, [(0, session.id())]);
    // What has changed since is not lost.
    remember(&session, "two").await.expect("remembered");
    let settled = hosts[0].settle_session(session.id(), &hosts[1]).await;
    assert_eq!(settled.expect("settled"), SessionSettled::AtSource);
    assert!(sessions(&hosts[1]).await.is_empty());
    refused(
        hosts[1].take_over_session(held.id()).await,
        RefusalCode::UnknownSession,
    );
    let moved = session.move_to(&hosts[1]).await.expect("moved");
    assert_eq!(words(&moved).await, ["one", "two"]);
    // Taken over once more: nothing changes.
    hosts[1].take_over_session(moved.id()).await.expect("it is");
    assert_eq!(words(&moved).await, ["one", "two"]);
}

/// What is said of a session that is not there any more, or of what it was saved as.
fn is_gone(code: RefusalCode) -> bool {
    [RefusalCode::UnknownSession, RefusalCode::UnknownBundle].contains(&code)
}

/// What a client leaves that goes away once the target has the session: a copy that is held there.
async fn hold(session: &Session, source: &Pair, target: &Host) -> Session {
    let from = spore_client::Origin {
        session: session.id(),
        host: Some(source.source.key),
    };
    let saved = session.save().await.expect("saved");
    let held = target.open_session(&saved).arriving(from).await;
    held.expect("it is held")
}

#[tokio::test]
async fn what_is_held_is_not_given_up() {
    let pair = pair().await;
    let hosts = pair.connect().await;
    let session = open(&hosts[0]).await;
    let held = hold(&session, &pair, &hosts[1]).await;
    match held.move_to(&hosts[0]).await {
        Err(SessionMoveError::NotMoved {
            stage: SessionMoveStage::GivenUp,
            source: CallError::Refused(why),
        }) => assert_eq!(why.code, RefusalCode::SessionHeld),
        other => panic!("{other:?}"),
    }
    assert_eq!(callable(&hosts).await, [(0, session.id())]);
    assert_eq!(sessions(&hosts[0]).await.len(), 1);
    // What has no image would have to run to be there.
    let from = sessions(&hosts[1]).await[0].held.expect("it is held");
    let arrives = hosts[1].open_session(keeper()).arriving(from).await;
    refused(arrives, RefusalCode::NoImage);
    held.close().await.expect("closed");
}

#[tokio::test]
async fn of_two_moves_at_once_one_comes_about() {
    let pair = pair().await;
    let hosts = pair.connect().await;
    for _ in 0..8 {
        let session = open(&hosts[0]).await;
        let moves = [hosts[1].clone(), hosts[0].clone()].map(|to| {
            let moving = session.move_to(&to);
            tokio::spawn(moving.into_future())
        });
        let mut ended = Vec::new();
        for moving in moves {
            ended.push(moving.await.expect("no panic"));
        }
        let mut moved = Vec::new();
        for ended in ended {
            match ended {
                Ok(there) => moved.push(there),
                Err(SessionMoveError::NotMoved {
                    source: CallError::Refused(why),
                    ..
                }) => assert!(
                    why.code == RefusalCode::SessionElsewhere || is_gone(why.code),
                    "{why}"
                ),
                // The other was done with it: this copy is held, and never more than that.
                Err(SessionMoveError::HalfDone {
                    there,
                    source: CallError::Refused(why),
                    ..
                }) => {
                    assert_eq!(why.code, RefusalCode::UnknownSession);
                    for host in &hosts {
                        let settled = hosts[0].settle_session(session.id(), host).await;
                        refused(settled, RefusalCode::UnknownSession);
                        let _ = host.close_session(there, None).await;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let [moved] = &moved[..] else {
            panic!("one comes about: {moved:?}");
        };
        let there = callable(&hosts).await;
        assert!(
            matches!(there[..], [(_, id)] if id == moved.id()),
            "{there:?}"
        );
        assert_eq!(words(moved).await, ["one"]);
        moved.clone().close().await.expect("closed");
        for host in &hosts {
            assert!(sessions(host).await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_copy_of_what_went_elsewhere_is_never_called() {
    let pair = pair().await;
    let hosts = pair.connect().await;
    let session = open(&hosts[0]).await;
    let held = hold(&session, &pair, &hosts[1]).await;
    remember(&session, "two").await.expect("remembered");
    // It goes from its host to the same, under another id.
    let moved = session.move_to(&hosts[0]).await.expect("moved");
    refused(
        hosts[0].settle_session(session.id(), &hosts[1]).await,
        RefusalCode::UnknownSession,
    );
    assert_eq!(callable(&hosts).await, [(0, moved.id())]);
    refused(remember(&held, "late").await, RefusalCode::SessionHeld);
    // Given up to one copy, it is given up to no other.
    let saved = moved.save().await.expect("saved");
    let from = spore_client::Origin {
        session: moved.id(),
        host: Some(pair.source.key),
    };
    let mut to = from;
    for (copy, outcome) in [
        (1, None),
        (2, Some(RefusalCode::SessionElsewhere)),
        (1, None),
    ] {
        to.session = SessionId([copy; 16]);
        let given = hosts[0].give_up_session(moved.id(), saved.id(), to).await;
        match outcome {
            None => given.expect("it is still what was saved"),
            Some(code) => drop(refused(given, code)),
        }
    }
    refused(
        remember(&moved, "late").await,
        RefusalCode::SessionElsewhere,
    );
    refused(moved.save().await, RefusalCode::SessionElsewhere);
    refused(moved.restore().await, RefusalCode::SessionElsewhere);
    refused(
        moved.close_unchanged(&saved).await,
        RefusalCode::SessionElsewhere,
    );
    moved.close().await.expect("closed");
    held.close().await.expect("closed");
}

#[tokio::test]
async fn a_copy_that_was_refused_is_refused_whatever_becomes_of_the_session() {
    let mut pair = pair().await;
    let key = pair.target.key;
    let [host, other] = pair.connect().await;
    let session = open(&host).await;
    let saved = session.save().await.expect("saved");
    remember(&session, "two").await.expect("remembered");
    let give_up = async |host: &Host, copy| {
        let to = spore_client::Origin {
            session: SessionId([copy; 16]),
            host: Some(key),
        };
        host.give_up_session(session.id(), saved.id(), to).await
    };
    refused(give_up(&host, 1).await, RefusalCode::SessionChanged);
    // It is what was saved again, and another copy may have it: the first may be closed by now.
    session.restore().await.expect("it was saved");
    refused(give_up(&host, 1).await, RefusalCode::SessionChanged);
    // Also when nothing of that is left but what is on the disk.
    remember(&session, "two").await.expect("remembered");
    pair.kill(Broken::Source);
    pair.restart(Broken::Source);
    let [host, _] = pair.connect().await;
    refused(give_up(&host, 1).await, RefusalCode::SessionChanged);
    let again = host.session(session.id()).await.expect("it was saved");
    assert_eq!(words(&again).await, ["one"]);
    again.restore().await.expect("it was saved");
    give_up(&host, 2).await.expect("it is what was saved");
    refused(give_up(&host, 1).await, RefusalCode::SessionElsewhere);
    again.close().await.expect("closed");

    // Nor is one given up later to a copy that it was not given up to while it was held.
    let session = open(&host).await;
    let held = hold(&session, &pair, &other).await;
    let to = spore_client::Origin {
        session: SessionId([3; 16]),
        host: Some(pair.source.key),
    };
    let saved = session.save().await.expect("saved");
    let given = other.give_up_session(held.id(), saved.id(), to).await;
    refused(given, RefusalCode::SessionHeld);
    other
        .take_over_session(held.id())
        .await
        .expect("it is held");
    let saved = held.save().await.expect("saved");
    let given = other.give_up_session(held.id(), saved.id(), to).await;
    refused(given, RefusalCode::SessionChanged);
}

#[tokio::test]
async fn a_move_whose_copy_was_used_is_settled_whatever_became_of_the_copy() {
    let pair = pair().await;
    let hosts = pair.connect().await;
    let session = open(&hosts[0]).await;
    let copy = hold(&session, &pair, &hosts[1]).await;
    let to = spore_client::Origin {
        session: copy.id(),
        host: Some(pair.target.key),
    };
    let saved = session.save().await.expect("saved");
    let given = hosts[0].give_up_session(session.id(), saved.id(), to).await;
    given.expect("it is what was saved");
    hosts[1].take_over_session(copy.id()).await.expect("held");
    let fails = copy.call(keeper::panic_after::HANDLE, ("three".to_owned(),));
    fails.expect("it is there").await.expect_err("it panics");
    let settled = hosts[0].settle_session(session.id(), &hosts[1]).await;
    let there = SessionSettled::AtTarget(copy.id());
    assert_eq!(settled.expect("settled"), there);
    assert!(sessions(&hosts[0]).await.is_empty());
    copy.restore().await.expect("it was saved when it came");
    assert_eq!(words(&copy).await, ["one"]);
}

#[tokio::test]
async fn what_a_session_was_opened_with_goes_with_it() {
    let source = Process::start("[limits]\nsession_idle = \"90s\"\n", &[""]);
    let target = Process::start("[limits]\nsession_idle = \"60s\"\n", &[]);
    target.authorize(&source.clients[0]).await;
    let pair = Pair { source, target };
    let [one, other] = pair.connect().await;
    let limits = CallLimits {
        memory_bytes: Some(64 << 20),
        ..CallLimits::default()
    };
    // What is asked for, and how long it may be idle at either.
    for (idle, here, there) in [
        (Some(70), 70_000, 60_000),
        (Some(50), 50_000, 50_000),
        (None, 90_000, 60_000),
    ] {
        let mut opening = one.open_session(keeper()).limits(limits);
        if let Some(idle) = idle {
            opening = opening.idle(Duration::from_secs(idle));
        }
        let session = opening.await.expect("opened");
        let moved = session.move_to(&other).await.expect("moved");
        let [info] = &sessions(&other).await[..] else {
            panic!("it is there");
        };
        assert_eq!(info.idle_max_ms, Some(there));
        assert_eq!(info.asked.memory_bytes, limits.memory_bytes);
        // No host's own limit goes with it.
        let back = moved.move_to(&one).await.expect("moved back");
        let [info] = &sessions(&one).await[..] else {
            panic!("it is there");
        };
        assert_eq!(info.idle_max_ms, Some(here));
        back.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_session_is_not_given_up_to_a_copy_that_is_damaged() {
    let mut pair = pair().await;
    let hosts = pair.connect().await;
    let session = open(&hosts[0]).await;
    let held = hold(&session, &pair, &hosts[1]).await;
    let fresh = hosts[0].open_session(keeper()).await.expect("opened");
    let image = session.save().await.expect("saved");
    let block = own_block(&image, &[&fresh.save().await.expect("saved")]);
    pair.kill(Broken::Target);
    damage(&pair.target, &block);
    pair.restart(Broken::Target);
    let hosts = pair.connect().await;
    // It is listed as what it is, and no call is made in it.
    let [listed] = &sessions(&hosts[1]).await[..] else {
        panic!("one is held");
    };
    assert_eq!(listed.session, held.id());
    assert_eq!(listed.held.map(|from| from.session), Some(session.id()));
    assert_eq!(listed.unavailable, Some(RefusalCode::StoreDamaged));
    refused(hosts[1].session(held.id()).await, RefusalCode::StoreDamaged);
    let settled = hosts[0].settle_session(session.id(), &hosts[1]).await;
    assert_eq!(settled.expect("settled"), SessionSettled::AtSource);
    let session = hosts[0].session(session.id()).await.expect("it is there");
    assert_eq!(words(&session).await, ["one"]);
    // It is in nobody's way, and its owner lets go of it.
    let moved = session.move_to(&hosts[1]).await.expect("moved");
    assert_eq!(words(&moved).await, ["one"]);
    let closed = hosts[1].close_session(held.id(), None).await;
    closed.expect("closed");
    assert_eq!(sessions(&hosts[1]).await.len(), 1);
    // What came beside the damage is whole.
    pair.kill(Broken::Target);
    pair.restart(Broken::Target);
    let [_, other] = pair.connect().await;
    let there = other.session(moved.id()).await.expect("it is there");
    assert_eq!(words(&there).await, ["one"]);
    drop(hosts);

    // Nor is one said to be where its host cannot read it.
    let image = there.save().await.expect("saved");
    pair.kill(Broken::Target);
    damage(&pair.target, &own_block(&image, &[]));
    pair.restart(Broken::Target);
    let [one, other] = pair.connect().await;
    let settled = other.settle_session(there.id(), &one).await;
    refused(settled, RefusalCode::StoreDamaged);
}

/// Breaks a move at each of its stages, with a client that goes on and one that is gone as well.
async fn is_whole_when_broken_at_each_stage(what: Broken) {
    let pair = Arc::new(Mutex::new(pair().await));
    for (stage, stays) in STAGES.into_iter().flat_map(|it| [(it, true), (it, false)]) {
        // Both hosts at once are what each of them is to a client that waits for it.
        if stays && matches!(what, Broken::Client | Broken::Both) {
            continue;
        }
        let [one, other] = pair.lock().await.connect().await;
        let session = open(&one).await;
        let (broken, breaks) = tokio::sync::oneshot::channel();
        let (hosts, mut broken) = (pair.clone(), Some(broken));
        let moving = session.move_to(&other).on_stage(move |reached| {
            if reached != stage {
                return;
            }
            let mut hosts = hosts.try_lock().expect("nobody else has them now");
            hosts.kill(what);
            if stays {
                hosts.restart(what);
            } else if let Some(broken) = broken.take() {
                let _ = broken.send(());
            }
        });
        let ended = tokio::select! {
            moved = moving.into_future() => Some(moved.map(|it| it.id())),
            Ok(()) = breaks => None,
        };
        drop((one, other));
        let mut pair = pair.lock().await;
        if !stays {
            pair.restart(what);
        }
        let context = format!("{what:?} at {stage:?}, client stays: {stays}, {ended:?}");
        let hosts = pair.connect().await;
        let id = session.id();
        assert!(callable(&hosts).await.len() <= 1, "{context}");
        let settled = soon("it is settled", hosts[0].settle_session(id, &hosts[1])).await;
        let (at, id) = match (&settled, &ended) {
            (Ok(SessionSettled::AtSource), _) => (0, id),
            (Ok(SessionSettled::AtTarget(there)), _) => (1, *there),
            // It was moved before, to the end.
            (Err(CallError::Refused(why)), _) if why.code == RefusalCode::UnknownSession => {
                let there = callable(&hosts).await;
                assert!(matches!(there[..], [(1, _)]), "{there:?}: {context}");
                there[0]
            }
            other => panic!("{other:?}: {context}"),
        };
        // What the move was said to have come to is what it has come to.
        match ended {
            Some(Ok(there)) => assert_eq!((at, id), (1, there), "{context}"),
            Some(Err(SessionMoveError::NotMoved { .. })) => assert_eq!(at, 0, "{context}"),
            Some(Err(SessionMoveError::HalfDone { there, .. })) => {
                assert!(at == 0 || id == there, "{context}");
            }
            Some(Err(error)) => panic!("{error}: {context}"),
            None => {}
        }
        if stage >= SessionMoveStage::GivenUp {
            assert_eq!(at, 1, "{context}");
        }
        // It is on one of them, and on that alone, as it was.
        assert_eq!(callable(&hosts).await, [(at, id)], "{context}");
        assert!(sessions(&hosts[1 - at]).await.is_empty(), "{context}");
        let session = hosts[at].session(id).await.expect("it is there");
        assert_eq!(words(&session).await, ["one"], "{context}");
        session.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_killed_at_any_stage_of_a_move_loses_no_session() {
    is_whole_when_broken_at_each_stage(Broken::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_killed_at_any_stage_of_a_move_loses_no_session() {
    is_whole_when_broken_at_each_stage(Broken::Target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_that_are_killed_at_any_stage_of_a_move_lose_no_session() {
    is_whole_when_broken_at_each_stage(Broken::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_at_any_stage_of_a_move_loses_no_session() {
    is_whole_when_broken_at_each_stage(Broken::Client).await;
}
