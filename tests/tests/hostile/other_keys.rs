//! What belongs to another key is not there: for no request about sessions, jobs and moves, and for
//! nothing of what they were saved as.

use std::convert::Infallible;

use crate::asking::{Parts, ask, outcome, refused};
use resumer::{primes, rounds, told};
use spore_client::{
    Bundle, Host, Job, JobId, JobState, MoveId, Persist, PublicKey, RefusalCode, Session, SessionId,
};
use spore_host::Setup;
use spore_tests::guests::of;
use spore_tests::kept::WITHIN;
use spore_tests::outcome::until;
use spore_tests::peer::{Peer, ship};
use spore_tests::{Local, keeper, resumer};
use spore_transport::job::{
    JobAcknowledge, JobArrive, JobCancel, JobForgotten, JobLeave, JobLeft, JobMove, JobMoved,
    JobOffer, JobOffered, JobOpen, JobPause, JobResult, JobResume, JobSave, JobStart, JobTerms,
    JobWatch, Lock, MoveStep, Place, Release, WatchItems,
};
use spore_transport::message::{Absent, BlobKind, Call, CallLimits, Describe, Message};
use spore_transport::session::{
    BlockSet, Fetch, FetchBlocks, Origin, SessionArrive, SessionCall, SessionClose, SessionOpen,
    SessionRestore, SessionSave, SessionTakeOver,
};
use spore_transport::{BlobId, Connection};

/// A job that emits, and returns nothing.
type Primes = Job<(), Infallible, u64>;

/// A key of no host at all.
const NOWHERE: PublicKey = PublicKey([9; 32]);

/// A move that nobody has begun.
const MOVE: MoveId = MoveId([3; 16]);

/// A host, a client that has something there with a connection of its key, and one of another key.
struct Scene {
    local: Local,
    owner: Host,
    own: Connection,
    other: Connection,
}

impl Scene {
    async fn start() -> Scene {
        let local = Local::start(Setup::default(), &["", ""]);
        Scene {
            owner: local.connect(0).await,
            own: local.connection(0).await,
            other: local.connection(1).await,
            local,
        }
    }

    /// The other key is refused what it asks for, as for an id that nobody has.
    async fn refuses(&self, request: &Message, code: RefusalCode) {
        refused(ask(&self.other, request).await, code, request.name());
    }
}

/// A session that was saved, and what it was saved as.
async fn saved_session(host: &Host) -> (Session, Bundle) {
    let session = host.open_session(keeper()).await.expect("opened");
    let remember = session.call(keeper::remember::HANDLE, ("word".to_owned(),));
    remember.expect("it is there").await.expect("remembered");
    let saved = session.save().await.expect("saved");
    (session, saved)
}

fn blob(bundle: &Bundle) -> BlobId {
    BlobId(*bundle.id().as_bytes())
}

fn about_session(session: SessionId, saved: BlobId) -> Vec<Message> {
    let close = |expected| Message::SessionClose(SessionClose { session, expected });
    let call = |args_bytes| {
        Message::SessionCall(SessionCall {
            session,
            callable: 0,
            limits: CallLimits::default(),
            seed: None,
            args_bytes,
        })
    };
    vec![
        call(0),
        // Before the arguments have come.
        call(1_000),
        Message::SessionSave(SessionSave { session }),
        Message::SessionRestore(SessionRestore { session }),
        Message::SessionTakeOver(SessionTakeOver { session }),
        close(None),
        close(Some(saved)),
    ]
}

#[tokio::test]
async fn no_request_finds_the_session_of_another_key() {
    let scene = Scene::start().await;
    let (session, saved) = saved_session(&scene.owner).await;
    for id in [session.id(), SessionId([7; 16])] {
        for request in about_session(id, blob(&saved)) {
            scene.refuses(&request, RefusalCode::UnknownSession).await;
        }
    }
    let listed = ask(&scene.other, &Message::SessionList).await;
    assert!(
        matches!(&listed, Message::Sessions(list) if list.sessions.is_empty()),
        "{listed:?}"
    );
    // Nothing of it has happened: the session is still what was saved.
    let recall = session.call(keeper::recall::HANDLE, ());
    let words = recall.expect("it is there").await.expect("recalled");
    assert_eq!(words, ["word"]);
    let saved = session.save().await.expect("saved");
    session.close_unchanged(&saved).await.expect("unchanged");
}

/// Every request about a job but the steps of a move.
fn about_job(job: JobId) -> Vec<Message> {
    let within_ms = 1_000;
    let watch = |items| Message::JobWatch(JobWatch { job, items });
    let result = |wait| Message::JobResult(JobResult { job, wait });
    vec![
        watch(None),
        watch(Some(WatchItems {
            from: None,
            window: 1,
        })),
        watch(Some(WatchItems {
            from: Some(0),
            window: 1,
        })),
        result(false),
        result(true),
        Message::JobPause(JobPause { job, within_ms }),
        Message::JobResume(JobResume { job }),
        Message::JobSave(JobSave { job, within_ms }),
        Message::JobCancel(JobCancel { job }),
        Message::JobAcknowledge(JobAcknowledge { job }),
        Message::JobLeave(JobLeave {
            job,
            move_id: MOVE,
            to: NOWHERE,
            within_ms,
            since: None,
        }),
    ]
}

/// Every step of a move of a job that a host does not have, and the refusal; nothing for those that
/// there is nothing to do for.
fn steps(lock: Lock) -> [(MoveStep, Option<RefusalCode>); 8] {
    let release = Release([1; 16]);
    [
        (MoveStep::GiveUp { lock }, Some(RefusalCode::MoveUnknown)),
        (
            MoveStep::TakeOver { release },
            Some(RefusalCode::MoveUnknown),
        ),
        (MoveStep::Forget, None),
        (MoveStep::Settle, Some(RefusalCode::MoveUnknown)),
        (MoveStep::Stay, Some(RefusalCode::UnknownJob)),
        (MoveStep::Drop { lock: None }, None),
        (MoveStep::Drop { lock: Some(lock) }, None),
        (MoveStep::Adopt, Some(RefusalCode::UnknownJob)),
    ]
}

/// No step of a move does anything to a job of another key.
async fn steps_find_nothing(scene: &Scene, job: JobId, move_id: MoveId, lock: Lock) {
    for (step, code) in steps(lock) {
        let request = Message::JobMove(JobMove { job, move_id, step });
        let answer = ask(&scene.other, &request).await;
        let Some(code) = code else {
            let nothing = Message::JobMoved(JobMoved {
                place: None,
                release: None,
            });
            assert_eq!(answer, nothing, "{step:?}");
            continue;
        };
        refused(answer, code, &format!("{step:?}"));
    }
}

#[tokio::test]
async fn no_request_finds_the_job_of_another_key() {
    let scene = Scene::start().await;
    let endless = scene
        .owner
        .start(&of(resumer(), rounds::HANDLE), (u32::MAX,));
    let endless = endless.await.expect("started");
    endless.pause(WITHIN).await.expect("it has checkpoints");
    endless.save(WITHIN).await.expect("it stands still");
    let done = scene.owner.start(&of(resumer(), told::HANDLE), (2,));
    let done = done.await.expect("started");
    assert_eq!(done.result().await.expect("a value"), 2);
    let emits = scene.owner.start(&of(resumer(), primes::HANDLE), (2,));
    let emits = emits.await.expect("started");

    for id in [endless.id(), done.id(), emits.id(), JobId([7; 16])] {
        for request in about_job(id) {
            scene.refuses(&request, RefusalCode::UnknownJob).await;
        }
        steps_find_nothing(&scene, id, MOVE, Lock([4; 32])).await;
    }
    let listed = ask(&scene.other, &Message::JobList).await;
    assert!(
        matches!(&listed, Message::Jobs(list) if list.jobs.is_empty()),
        "{listed:?}"
    );
    // Nothing of it has happened.
    let info = endless.info().await.expect("it is listed");
    assert_eq!((info.state, info.place), (JobState::Paused, Place::Here));
    assert_eq!(done.result().await.expect("it is kept"), 2);
    let watch = emits.watch().await.expect("watched");
    assert_eq!(watch.items_from(), Some(0));
    done.acknowledge().await.expect("it has ended");
    endless.cancel().await.expect("it stands still");
    emits.cancel().await.expect("it runs");
}

/// A job of the owner's that is leaving with items, and what the owner was told of it.
async fn leaving(scene: &Scene) -> (Primes, JobLeft) {
    let job = scene.owner.start(&of(resumer(), primes::HANDLE), (2,));
    let job = job.await.expect("started");
    until("items wait to be taken", || async {
        job.info().await.expect("it is listed").items > 1
    })
    .await;
    let leave = Message::JobLeave(JobLeave {
        job: job.id(),
        move_id: MOVE,
        to: NOWHERE,
        within_ms: WITHIN.as_millis() as u64,
        since: None,
    });
    match ask(&scene.own, &leave).await {
        Message::JobLeft(left) => (job, left),
        other => panic!("expected a job that leaves, got {other:?}"),
    }
}

#[tokio::test]
async fn no_step_finds_the_move_of_another_key() {
    let scene = Scene::start().await;
    let (job, left) = leaving(&scene).await;
    let place = async || job.info().await.expect("it is listed").place;
    let before = place().await;
    assert!(matches!(before, Place::Leaving { .. }), "{before:?}");
    let id = job.id();
    // Who knows all that its owner knows has nothing but a job of the same id, which is another.
    for request in about_job(id) {
        scene.refuses(&request, RefusalCode::UnknownJob).await;
    }
    steps_find_nothing(&scene, id, MOVE, left.lock).await;
    let offer = Message::JobOffer(JobOffer {
        job: id,
        from: NOWHERE,
        bundle: None,
    });
    let offered = ask(&scene.other, &offer).await;
    let Message::JobOffered(JobOffered { move_id }) = offered else {
        panic!("expected another job, got {offered:?}");
    };
    assert_ne!(move_id, MOVE);
    let step = MoveStep::Drop { lock: None };
    let drop_it = Message::JobMove(JobMove {
        job: id,
        move_id,
        step,
    });
    let dropped = ask(&scene.other, &drop_it).await;
    assert!(matches!(dropped, Message::JobMoved(_)), "{dropped:?}");
    assert_eq!(place().await, before);

    // The release is shown to its owner, and opens nothing for the other.
    let lock = left.lock;
    let give_up = Message::JobMove(JobMove {
        job: id,
        move_id: MOVE,
        step: MoveStep::GiveUp { lock },
    });
    let release = match ask(&scene.own, &give_up).await {
        Message::JobMoved(moved) => moved.release.expect("it is given up"),
        other => panic!("expected a release, got {other:?}"),
    };
    assert_eq!(release.lock(id, MOVE), lock);
    let take_over = Message::JobMove(JobMove {
        job: id,
        move_id: MOVE,
        step: MoveStep::TakeOver { release },
    });
    scene.refuses(&take_over, RefusalCode::MoveUnknown).await;
    steps_find_nothing(&scene, id, MOVE, lock).await;
    let given_up = place().await;
    assert!(matches!(given_up, Place::GaveUp { .. }), "{given_up:?}");
}

#[tokio::test]
async fn an_arrival_under_the_id_of_another_keys_job_is_another_job() {
    let scene = Scene::start().await;
    let job = scene.owner.start(&of(resumer(), told::HANDLE), (100,));
    let job = job.await.expect("started");
    job.pause(WITHIN).await.expect("it sleeps often");
    let saved = job.save(WITHIN).await.expect("it stands still");
    let parts = Parts::of(&saved);
    let lock = Release([1; 16]).lock(job.id(), MOVE);
    let terms = JobTerms {
        limits: CallLimits::default(),
        persist: Persist::Off,
        paused: true,
        age_ms: 0,
        stops: 0,
        done: 0,
        total: 0,
        items: None,
    };
    let arrive = |move_id| {
        Message::JobArrive(JobArrive {
            job: job.id(),
            move_id,
            lock,
            bundle: parts.id(),
            terms,
            difference: None,
        })
    };
    // It has no offer of the other key's, though the job is here.
    let (refusal, _) = parts.answer(&scene.other, &arrive(MOVE)).await;
    refused(refusal, RefusalCode::MoveUnknown, "no offer");
    let offer = Message::JobOffer(JobOffer {
        job: job.id(),
        from: NOWHERE,
        bundle: None,
    });
    let offered = ask(&scene.other, &offer).await;
    let Message::JobOffered(JobOffered { move_id }) = offered else {
        panic!("expected another job, got {offered:?}");
    };
    let (arrived, _) = parts.answer(&scene.other, &arrive(move_id)).await;
    assert!(matches!(arrived, Message::JobMoved(_)), "{arrived:?}");
    // Each key has its own.
    let info = job.info().await.expect("it is listed");
    assert_eq!((info.state, info.place), (JobState::Paused, Place::Here));
    let other = scene.local.connect(1).await;
    let jobs = other.jobs().await.expect("listed");
    assert_eq!(jobs.len(), 1);
    assert!(matches!(jobs[0].place, Place::Arriving { .. }), "{jobs:?}");
    job.cancel().await.expect("it stands still");
    job.acknowledge().await.expect("it has ended");
    let jobs = other.jobs().await.expect("listed");
    assert!(matches!(jobs[0].place, Place::Arriving { .. }), "{jobs:?}");
}

/// Requests for everything that a bundle with an image is made of.
fn fetches(parts: &Parts, saved: &Bundle) -> Vec<Message> {
    let fetch = |blob| Message::Fetch(Fetch { blob });
    let bundle = saved.inner();
    let state = bundle.state_id().expect("it has an image");
    let index = BlobId(*state.as_bytes());
    let all = BlockSet::new(0..parts.blocks.len());
    vec![
        fetch(parts.id()),
        fetch(BlobId(*bundle.code_id().as_bytes())),
        fetch(index),
        Message::FetchBlocks(FetchBlocks { index, wanted: all }),
    ]
}

#[tokio::test]
async fn what_another_key_has_saved_is_fetched_by_nobody_else() {
    let scene = Scene::start().await;
    let (_session, saved) = saved_session(&scene.owner).await;
    let (job, left) = leaving(&scene).await;
    let items = left.terms.items.expect("items wait to be taken");
    let mut requests = fetches(&Parts::of(&saved), &saved);
    requests.push(Message::Fetch(Fetch {
        blob: left.saved.bundle,
    }));
    requests.push(Message::Fetch(Fetch { blob: items }));
    for request in &requests {
        let name = request.name();
        scene.refuses(request, RefusalCode::UnknownBundle).await;
        let fetched = ask(&scene.own, request).await;
        assert!(
            matches!(fetched, Message::Fetched(_)),
            "{name}: {fetched:?}"
        );
    }
    // Neither is it described.
    for bundle in [blob(&saved), BlobId(*resumer().id().as_bytes())] {
        let describe = Message::Describe(Describe { bundle });
        scene.refuses(&describe, RefusalCode::UnknownBundle).await;
    }
    // What has gone is gone for its owner too.
    let stay = Message::JobMove(JobMove {
        job: job.id(),
        move_id: MOVE,
        step: MoveStep::Stay,
    });
    let stays = ask(&scene.own, &stay).await;
    assert!(matches!(stays, Message::JobMoved(_)), "{stays:?}");
    job.cancel().await.expect("it runs");
    let acknowledge = Message::JobAcknowledge(JobAcknowledge { job: job.id() });
    let forgotten = ask(&scene.own, &acknowledge).await;
    let expected = Message::JobForgotten(JobForgotten { job: job.id() });
    assert_eq!(forgotten, expected);
    for blob in [left.saved.bundle, items] {
        let fetch = Message::Fetch(Fetch { blob });
        let gone = ask(&scene.own, &fetch).await;
        refused(gone, RefusalCode::UnknownBundle, "it was forgotten");
    }
}

/// What a job was saved as that stands still.
async fn saved_run(owner: &Host) -> Bundle {
    let job = owner.start(&of(resumer(), rounds::HANDLE), (u32::MAX,));
    let job = job.await.expect("started");
    job.pause(WITHIN).await.expect("it has checkpoints");
    job.save(WITHIN).await.expect("it stands still")
}

#[tokio::test]
async fn blocks_that_another_key_has_saved_have_to_be_brought() {
    let opens = |bundle| SessionOpen {
        bundle,
        limits: CallLimits::default(),
        idle_ms: None,
    };
    let open = |bundle| Message::SessionOpen(opens(bundle));
    let arrive = |bundle| {
        Message::SessionArrive(SessionArrive {
            open: opens(bundle),
            from: Origin {
                session: SessionId([7; 16]),
                host: None,
            },
        })
    };
    let start = |bundle| {
        Message::JobOpen(JobOpen {
            bundle,
            limits: CallLimits::default(),
            persist: Persist::Off,
            paused: true,
        })
    };
    let requests: [&dyn Fn(BlobId) -> Message; 3] = [&open, &arrive, &start];
    for (number, request) in requests.into_iter().enumerate() {
        // One that has seen nothing of it.
        let scene = Scene::start().await;
        let saved = match number {
            0 | 1 => saved_session(&scene.owner).await.1,
            _ => saved_run(&scene.owner).await,
        };
        let request = request(blob(&saved));
        let parts = Parts::of(&saved);
        // Its id is no right to it: the host asks for what it has.
        let mut peer = Peer::open(&scene.other).await;
        peer.say(&request).await;
        let asked = peer.missing().await;
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (asked[0].id, asked[0].kind),
            (parts.id(), BlobKind::Manifest)
        );
        peer.say(&Message::Absent(Absent { id: parts.id() })).await;
        let refusal = outcome(&mut peer).await;
        refused(refusal, RefusalCode::UnknownBundle, request.name());
        // Its owner need not bring a block, and whoever else has all of it has to bring each.
        let (opened, asked) = parts.answer(&scene.own, &request).await;
        assert!(is_there(&opened), "{opened:?}");
        assert_eq!(asked, 0);
        let (opened, asked) = parts.answer(&scene.other, &request).await;
        assert!(is_there(&opened), "{opened:?}");
        assert_eq!(asked, parts.blocks.len() as u64);
    }
}

fn is_there(opened: &Message) -> bool {
    matches!(opened, Message::SessionOpened(_) | Message::JobStarted(_))
}

#[tokio::test]
async fn bundles_that_another_key_has_shipped_are_asked_for_again() {
    let scene = Scene::start().await;
    scene.owner.ship(resumer()).await.expect("shipped");
    let bundle = BlobId(*resumer().id().as_bytes());
    let call = Call {
        bundle,
        callable: 0,
        limits: CallLimits::default(),
        seed: 0,
        args_bytes: 0,
    };
    let requests = [
        ship(bundle),
        Message::Call(call.clone()),
        Message::JobStart(JobStart {
            call,
            persist: Persist::Off,
        }),
        Message::JobOffer(JobOffer {
            job: JobId([7; 16]),
            from: NOWHERE,
            bundle: Some(bundle),
        }),
    ];
    for request in requests {
        let mut peer = Peer::open(&scene.other).await;
        peer.say(&request).await;
        let asked = peer.missing().await;
        assert_eq!((asked.len(), asked[0].kind), (1, BlobKind::Manifest));
        peer.say(&Message::Absent(Absent { id: bundle })).await;
        let refusal = outcome(&mut peer).await;
        refused(refusal, RefusalCode::UnknownBundle, request.name());
    }
    assert!(
        scene
            .local
            .connect(1)
            .await
            .jobs()
            .await
            .expect("listed")
            .is_empty()
    );
}
