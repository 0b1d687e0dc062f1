//! Moves of jobs between hosts that break, and requests about them that meet: at no time do two
//! hosts run a job, and once both are back one does.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use resumer::roams;
use spore_client::{Host, JobId, MoveError, MoveStage, Settled};
use spore_host::{JobRequest, Setup};
use spore_tests::damage::spoil;
use spore_tests::guests::of;
use spore_tests::kept::WITHIN;
use spore_tests::outcome::{PATIENCE, soon};
use spore_tests::relay::Relay;
use spore_tests::resumer;
use spore_transport::job::{JobLeave, JobMove, MoveId, MoveStep, Persist, Place};
use spore_transport::message::{CallLimits, Timing};
use spore_transport::{PublicKey, RefusalCode};
use tokio::sync::Mutex;

use crate::pair::{Broken, Pair};

/// Moves that are broken, unless `SPORE_MOVES` says otherwise.
const MOVES: u32 = 12;

/// Latest time after which one is broken. One that nothing breaks takes about half of it.
const BREAK_MAX: Duration = Duration::from_millis(600);

/// Rounds of the job that is moved, each of 10 ms.
const ROUNDS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_given_up_or_stays_however_the_requests_meet() {
    let folder = tempfile::tempdir().expect("a folder for tests");
    let host = spore_host::Host::start(Setup::default()).expect("the engine starts");
    host.keep_in(folder.path(), 1 << 30).expect("it is empty");
    let caller = host.embedding_caller();
    let bundle = resumer().inner();
    let callables = &bundle.manifest().callables;
    let endless = callables
        .iter()
        .position(|it| it.name == "resumer::endless");
    let arguments = spore_value::codec::encode(&(1u64,)).expect("a number");
    let (mut gave_up, mut stayed) = (0, 0);
    for round in 0..40 {
        let request = JobRequest {
            callable: endless.expect("the guest has it") as u32,
            arguments: arguments.clone().into(),
            limits: CallLimits::default(),
            seed: 0,
            persist: Persist::Off,
            timing: Timing::default(),
        };
        let started = host.start_job(&caller, bundle, request).await;
        let job = started.expect("it is resumable").job;
        let leave = |move_id| JobLeave {
            job,
            move_id: MoveId([move_id; 16]),
            to: PublicKey([9; 32]),
            within_ms: WITHIN.as_millis() as u64,
            since: None,
        };
        // Two that want it to leave: one move comes about.
        let (first, second) = (leave(round), leave(round + 100));
        let (left, other) = tokio::join!(
            host.leave_job(&caller, &first),
            host.leave_job(&caller, &second),
        );
        let (left, move_id) = match (left, other) {
            (Ok(left), Err(why)) => {
                assert_eq!(why.code, RefusalCode::MoveUnderWay);
                (left, first.move_id)
            }
            (Err(why), Ok(left)) => {
                assert_eq!(why.code, RefusalCode::MoveUnderWay);
                (left, second.move_id)
            }
            both => panic!("one leaves: {both:?}"),
        };
        // One that gives it up and one that has it stay: it does one of the two.
        let step = |step| JobMove { job, move_id, step };
        let (give_up, stay) = (
            step(MoveStep::GiveUp {
                lock: left.left.lock,
            }),
            step(MoveStep::Stay),
        );
        let ask = |step: JobMove| {
            let (host, caller) = (host.clone(), caller.clone());
            tokio::spawn(async move { host.move_job(&caller, &step).await })
        };
        let (gave, stays) = match round % 2 {
            0 => (ask(give_up), ask(stay)),
            _ => {
                let stays = ask(stay);
                (ask(give_up), stays)
            }
        };
        let gave = gave.await.expect("no panic");
        let stays = stays.await.expect("no panic");
        let place = host.jobs(&caller)[0].place;
        match (gave, stays) {
            (Ok(moved), Err(why)) => {
                assert!(moved.release.is_some());
                assert_eq!(why.code, RefusalCode::JobElsewhere);
                assert!(matches!(place, Place::GaveUp { .. }), "{place:?}");
                gave_up += 1;
                let forgotten = host.move_job(&caller, &step(MoveStep::Forget)).await;
                assert_eq!(forgotten.expect("it was given up").place, None);
            }
            (Err(why), Ok(moved)) => {
                assert_eq!(why.code, RefusalCode::MoveUnknown);
                assert_eq!((moved.place, place), (Some(Place::Here), Place::Here));
                stayed += 1;
                host.cancel_job(&caller, job).await.expect("it runs");
                host.acknowledge_job(&caller, job).await.expect("ended");
            }
            both => panic!("it is given up or stays: {both:?}"),
        }
        assert!(host.jobs(&caller).is_empty());
    }
    assert_eq!(gave_up + stayed, 40);
}

/// Two hosts, and what the job comes to that is moved between them.
struct Jobs {
    pair: Pair,
    expected: u64,
}

impl Deref for Jobs {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

impl DerefMut for Jobs {
    fn deref_mut(&mut self) -> &mut Pair {
        &mut self.pair
    }
}

impl Jobs {
    async fn start() -> Jobs {
        let configuration = "job_persist = \"100ms\"\n[limits]\nconnections_per_key = 64\n";
        let pair = Pair::start(configuration).await;
        let [host, _] = pair.connect().await;
        let expected = host.call(&of(resumer(), roams::HANDLE), (ROUNDS,)).await;
        Jobs {
            pair,
            expected: expected.expect("it ends well"),
        }
    }

    /// What holds once both are back, however a move has broken: one host at most runs the job, and
    /// once somebody has settled the move, one has it, where it ends as it is to. Says which.
    async fn is_whole(&self, id: JobId, context: &str) -> Settled {
        let [source, target] = self.connect().await;
        one_may_run(&source, &target, id, context).await;
        let looks = async {
            loop {
                one_may_run(&source, &target, id, context).await;
            }
        };
        let settled = tokio::select! {
            settled = settled(&source, &target, id) => settled,
            () = looks => unreachable!("it goes on"),
        };
        one_may_run(&source, &target, id, context).await;
        let has = [place(&source, id).await, place(&target, id).await];
        let keeps = match settled {
            Settled::AtSource => {
                assert_eq!(has, [Some(Place::Here), None], "{context}");
                &source
            }
            Settled::AtTarget => {
                assert_eq!(has, [None, Some(Place::Here)], "{context}");
                &target
            }
            settled => panic!("{settled:?}: {context}"),
        };
        let job = keeps.job_of(roams::HANDLE, id).await;
        let job = job.unwrap_or_else(|error| panic!("{error}: {context}"));
        let result = soon("the job ends", job.result()).await;
        assert_eq!(result.expect("it ends well"), self.expected, "{context}");
        job.acknowledge().await.expect("it has ended");
        settled
    }
}

/// Looks whether both hosts may run the job.
async fn one_may_run(source: &Host, target: &Host, id: JobId, context: &str) {
    // In this order: once it runs at the target, there is no way back at the source.
    let there = place(target, id).await;
    let here = place(source, id).await;
    let may_run = |place: Option<Place>| {
        matches!(
            place,
            Some(Place::Here | Place::Leaving { .. } | Place::Arrived { .. })
        )
    };
    assert!(
        !(may_run(there) && may_run(here)),
        "both may run it: {here:?} and {there:?}: {context}"
    );
}

/// What a host says of where the job is.
async fn place(host: &Host, id: JobId) -> Option<Place> {
    let jobs = host.jobs().await.expect("listed");
    jobs.iter().find(|it| it.job == id).map(|it| it.place)
}

/// Settles the move, as somebody does who knows nothing of it but the job's id.
async fn settled(source: &Host, target: &Host, id: JobId) -> Settled {
    let began = Instant::now();
    loop {
        match source.settle_move(id, target).await {
            Ok(settled) => return settled,
            // Another request may still be carried out.
            Err(error @ (MoveError::Unclear { .. } | MoveError::Ask(_))) => {
                assert!(began.elapsed() < PATIENCE, "not settled: {error}");
            }
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A job that runs for two seconds, whose code the other host has compiled: else it would be over
/// before its move has begun.
async fn started(host: &Host, other: &Host) -> spore_client::Job<u64, std::convert::Infallible> {
    // Its memory is so large that it travels, and is kept, as what is otherwise than before.
    let roams = of(resumer(), roams::HANDLE);
    other.call(&roams, (0,)).await.expect("it serves");
    host.start(&roams, (ROUNDS,)).await.expect("started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_breaks_leaves_the_job_on_one_host() {
    let mut pair = Jobs::start().await;
    let moves =
        std::env::var("SPORE_MOVES").map_or(MOVES, |moves| moves.parse().expect("a number"));
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id());
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let (mut at_source, mut at_target) = (0, 0);
    for number in 0..moves {
        let [one, other] = pair.connect().await;
        let job = started(&one, &other).await;
        let what =
            [Broken::Source, Broken::Target, Broken::Both, Broken::Client][below(4) as usize];
        let moment = Duration::from_micros(below(BREAK_MAX.as_micros() as u64));
        // The move is dropped where it stands: its client is gone too.
        let moved = tokio::time::timeout(moment, job.move_to(&other, WITHIN)).await;
        let ended = moved.is_ok();
        pair.kill(what);
        drop((one, other, moved));
        pair.restart(what);
        let context = format!("move {number}, {what:?} after {moment:?}, ended: {ended}");
        match pair.is_whole(job.id(), &context).await {
            Settled::AtSource => at_source += 1,
            _ => at_target += 1,
        }
    }
    println!("{moves} broken moves: {at_source} jobs stayed, {at_target} went");
}

/// Every stage of a move but the last, after which there is nothing to break.
const STAGES: [MoveStage; 8] = [
    MoveStage::Saved,
    MoveStage::Ahead,
    MoveStage::Stopped,
    MoveStage::Fetched,
    MoveStage::Arrived,
    MoveStage::GivenUp,
    MoveStage::TakenOver,
    MoveStage::Forgotten,
];

/// Breaks a move at each of its stages: with a client that goes on and one that is gone as well,
/// whose next request may be on its way.
async fn is_whole_when_broken_at_each_stage(what: Broken) {
    let pair = Arc::new(Mutex::new(Jobs::start().await));
    let mut ends = String::new();
    for (stage, stays) in STAGES.into_iter().flat_map(|it| [(it, true), (it, false)]) {
        // Both hosts at once are what each of them is to a client that waits for it.
        if stays && matches!(what, Broken::Client | Broken::Both) {
            continue;
        }
        let [one, other] = pair.lock().await.connect().await;
        let job = started(&one, &other).await;
        let (broken, breaks) = tokio::sync::oneshot::channel();
        let (hosts, mut broken) = (pair.clone(), Some(broken));
        let moving = job.move_to(&other, WITHIN).on_stage(move |reached| {
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
            moved = moving.into_future() => Some(moved.map(|_| ())),
            Ok(()) = breaks => None,
        };
        drop((one, other));
        let mut pair = pair.lock().await;
        if !stays {
            pair.restart(what);
        }
        let context = format!("{what:?} at {stage:?}, client stays: {stays}, {ended:?}");
        let settled = pair.is_whole(job.id(), &context).await;
        // What the move was said to have come to is what it has come to.
        match ended {
            Some(Ok(())) => assert_eq!(settled, Settled::AtTarget, "{context}"),
            Some(Err(MoveError::NotMoved { .. })) => {
                assert_eq!(settled, Settled::AtSource, "{context}");
            }
            Some(Err(MoveError::HalfDone { .. })) | None => {}
            Some(Err(error)) => panic!("{error}: {context}"),
        }
        // Before the source has stopped it, it cannot go on at the target, and once the source has given it
        // up, nowhere else. In between, a client that is gone may have passed all of it on.
        if !stays && stage < MoveStage::Stopped {
            assert_eq!(settled, Settled::AtSource, "{context}");
        }
        if stage >= MoveStage::GivenUp {
            assert_eq!(settled, Settled::AtTarget, "{context}");
        }
        ends += &format!("  {context}: {settled:?}\n");
    }
    println!("{ends}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_killed_at_any_stage_of_a_move_loses_no_job() {
    is_whole_when_broken_at_each_stage(Broken::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_killed_at_any_stage_of_a_move_loses_no_job() {
    is_whole_when_broken_at_each_stage(Broken::Target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_that_are_killed_at_any_stage_of_a_move_lose_no_job() {
    is_whole_when_broken_at_each_stage(Broken::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_at_any_stage_of_a_move_loses_no_job() {
    is_whole_when_broken_at_each_stage(Broken::Client).await;
}

/// Cuts the way to one of two hosts at each stage of a move, while both hosts and the client stay, and
/// the client connects anew.
async fn is_whole_when_cut_at_each_stage(what: Broken) {
    let pair = Arc::new(Jobs::start().await);
    // A client finds out after seconds, so that some are cut side by side; of all at once, a host would
    // refuse some to begin a connection.
    let mut moves = tokio::task::JoinSet::new();
    for stage in STAGES {
        if moves.len() >= 4 {
            let moved = moves.join_next().await.expect("there are some");
            moved.expect("the move is whole");
        }
        let pair = pair.clone();
        moves.spawn(async move {
            let ways = [
                Relay::start(pair.source.address).await,
                Relay::start(pair.target.address).await,
            ];
            let client = &pair.source.clients[0];
            let one = pair.source.connect_by(ways[0].address, client).await;
            let other = pair.target.connect_by(ways[1].address, client).await;
            let job = started(&one, &other).await;
            let cutter = ways[usize::from(what == Broken::Target)].cutter();
            let moved = job.move_to(&other, WITHIN).on_stage(move |reached| {
                if reached == stage {
                    cutter.cut();
                }
            });
            let moved = moved.await.map(|_| ());
            let context = format!("the way to the {what:?} is cut at {stage:?}: {moved:?}");
            let settled = pair.is_whole(job.id(), &context).await;
            match moved {
                Ok(()) => assert_eq!(settled, Settled::AtTarget, "{context}"),
                // It was over before the client had found out.
                Err(MoveError::NotMoved { .. }) if stage <= MoveStage::Ahead => {
                    assert_eq!(settled, Settled::AtSource, "{context}");
                }
                Err(error) => panic!("{error}: {context}"),
            }
        });
    }
    while let Some(moved) = moves.join_next().await {
        moved.expect("the move is whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_to_the_source_that_is_cut_at_any_stage_of_a_move_loses_no_job() {
    is_whole_when_cut_at_each_stage(Broken::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_to_the_target_that_is_cut_at_any_stage_of_a_move_loses_no_job() {
    is_whole_when_cut_at_each_stage(Broken::Target).await;
}

/// Branches that take turns, and a race between them, are where they were on the other host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_joined_and_raced_branches_moves_and_comes_to_the_same() {
    let pair = Jobs::start().await;
    let [one, other] = pair.connect().await;
    let weights: Vec<f64> = (0..20_000).map(f64::from).collect();
    let entwined = resumer().callable(resumer::entwined::HANDLE);
    let entwined = entwined.expect("it is there").capture(&weights);
    let entwined = entwined.expect("they fit");
    let arguments = (7, 3_200_000);
    // Its code is compiled there, else it would be over before the move has begun.
    other.call(&entwined, (7, 1)).await.expect("it runs");
    let unmoved = one.start(&entwined, arguments).await.expect("started");
    let moved = one.start(&entwined, arguments).await.expect("started");
    let moved = moved.move_to(&other, WITHIN).await.expect("it moves");
    let stops = moved.info().await.expect("listed").stops;
    assert!(stops > 0, "it had ended before");
    let [unmoved, moved] = [unmoved.result().await, moved.result().await];
    let unmoved = unmoved.expect("it ends well");
    assert_eq!(moved.expect("it ends well"), unmoved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_settled_whichever_host_is_named_first() {
    let jobs = Jobs::start().await;
    let [source, target] = jobs.connect().await;
    // Not earlier: what has a job leave may be carried out when nobody waits for it any more, and after
    // its move was settled.
    for stage in [MoveStage::Stopped, MoveStage::Arrived, MoveStage::GivenUp] {
        let job = started(&source, &target).await;
        let (reached, goes) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let moving = job.move_to(&target, WITHIN).on_stage(move |at| {
            if at == stage {
                let _ = reached.take().map(|reached| reached.send(()));
            }
        });
        tokio::select! {
            biased;
            Ok(()) = goes => {}
            moved = moving.into_future() => panic!("{stage:?} comes first: {moved:?}"),
        }
        let settled = settled(&target, &source, job.id()).await;
        let at = match settled {
            Settled::AtSource => &target,
            Settled::AtTarget => &source,
            other => panic!("{stage:?}: {other:?}"),
        };
        assert_eq!(place(at, job.id()).await, Some(Place::Here), "{stage:?}");
        let there = at
            .job_of(roams::HANDLE, job.id())
            .await
            .expect("it is there");
        let result = soon("the job ends", there.result()).await;
        let result = result.unwrap_or_else(|error| panic!("{stage:?}: {error}"));
        assert_eq!(result, jobs.expected, "{stage:?}");
        there.acknowledge().await.expect("it has ended");
    }
}

/// The client stands just before the source is asked to give the job up, and the target has all of
/// it on its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_stays_where_it_is_when_its_copy_is_damaged() {
    let mut pair = Jobs::start().await;
    let [one, other] = pair.connect().await;
    let job = started(&one, &other).await;
    let (arrives, arrived) = tokio::sync::oneshot::channel();
    let (lets_go, stands) = std::sync::mpsc::channel::<()>();
    let mut arrives = Some(arrives);
    let moving = job.move_to(&other, WITHIN).on_stage(move |stage| {
        if stage == MoveStage::Arrived
            && let Some(arrives) = arrives.take()
        {
            let _ = arrives.send(());
            let _ = tokio::task::block_in_place(|| stands.recv());
        }
    });
    let moving = tokio::spawn(moving.into_future());
    soon("it is at both", arrived).await.expect("it arrives");
    pair.kill(Broken::Target);
    let packs = pair.target.home().kept_path().join("packs");
    for pack in std::fs::read_dir(&packs).expect("something is kept") {
        spoil(&pack.expect("the folder is readable").path());
    }
    pair.restart(Broken::Target);
    let [_, target] = pair.connect().await;
    let jobs = target.jobs().await.expect("listed");
    assert_eq!(jobs[0].unavailable, Some(RefusalCode::StoreDamaged));
    assert!(matches!(jobs[0].place, Place::Arriving { .. }), "{jobs:?}");
    let settled = pair.is_whole(job.id(), "its copy is damaged").await;
    assert_eq!(settled, Settled::AtSource);
    drop(lets_go);
    let moved = moving.await.expect("no panic");
    assert!(moved.is_err(), "it was settled otherwise");
}
