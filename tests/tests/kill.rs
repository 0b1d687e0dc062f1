//! A host that is killed at random moments while sessions are saved and jobs are made durable: what it
//! has acknowledged is there afterwards, whole, and every job ends with the right result.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use spore_client::{
    CallError, Host, Job, JobError, JobId, JobNews, JobState, Persist, Session, SessionId,
};
use spore_tests::guests::of;
use spore_tests::kept::recall;
use spore_tests::outcome::{PATIENCE, soon};
use spore_tests::{Process, keeper, resumer};

/// How often hosts are killed, unless `SPORE_KILLS` says otherwise, as `cargo xtask test --kills 1000`
/// does. Each takes a good part of a second, for the host compiles its guests anew.
const KILLS: u32 = 200;

/// Hosts that are killed beside each other, so that a processor has work while one of them is waited for.
const HOSTS: u32 = 4;

/// Longest time between a start of the host and its end. A host looks four times a second whether
/// an image is due, so that most write one of each job.
const LIFE_MAX: Duration = Duration::from_millis(800);

/// Longest time between a start of the host and its end, if it is to end while it starts.
const START_MAX: Duration = Duration::from_millis(400);

/// Rounds of a job, and the least time that each takes: it outlives many hosts.
const ROUNDS: u32 = 60;
const ROUND: Duration = Duration::from_millis(10);

/// Sessions and jobs at one time.
const SESSIONS: usize = 3;
const JOBS: usize = 2;

/// A small generator: other moments in each run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// What is known of a session.
struct Known {
    id: SessionId,
    /// What it was saved with when the last save was acknowledged.
    acknowledged: Vec<String>,
    /// What it may have been saved with: a save that was asked for, and not answered.
    perhaps: Option<Vec<String>>,
}

/// What is known of jobs.
#[derive(Default)]
struct Jobs {
    /// Those that must be there.
    there: Vec<JobId>,
    /// Those among them that have ended.
    ended: Vec<JobId>,
    /// Those that must not be there any more.
    forgotten: Vec<JobId>,
    /// All that were found to have ended right.
    right: HashSet<JobId>,
}

impl Jobs {
    fn lacks_some(&self) -> bool {
        self.there.len() - self.ended.len() < JOBS
    }

    async fn start(&mut self, host: &Host, counts: &mut Counts) -> Result<(), JobError> {
        let paced = of(resumer(), resumer::paced::HANDLE);
        let start = host.start(&paced, (7, ROUNDS));
        let job = start.persist(Persist::HostDefault).await?;
        self.there.push(job.id());
        counts.jobs_started += 1;
        Ok(())
    }
}

#[derive(Default)]
struct Counts {
    saves: u32,
    jobs_started: u32,
    jobs_ended: u32,
    /// Jobs that were found further than they could have come from their beginning.
    went_on: u32,
    lost_answers: u32,
}

async fn connect(process: &Process) -> Host {
    soon("the host serves", process.connect(0)).await
}

/// Saves sessions, starts jobs and has others forgotten, until the host is gone.
async fn live(host: &Host, known: &mut [Known], jobs: &mut Jobs, counts: &mut Counts) {
    for word in 0u32.. {
        for session in &mut *known {
            let handle = host.session_of(session.id, keeper());
            let next = format!("{}.{word}", session.acknowledged.len());
            let call = handle.call(keeper::remember::HANDLE, (next.clone(),));
            if let Err(error) = call.expect("it is there").await {
                return is_gone(error);
            }
            // Calls that were not saved are gone after a restart, so that the words are asked for.
            let now = recall_or_none(&handle).await;
            let Some(now) = now else { return };
            session.perhaps = Some(now.clone());
            match handle.save().await {
                Ok(_) => {
                    session.acknowledged = now;
                    session.perhaps = None;
                    counts.saves += 1;
                }
                Err(error) => return is_gone(error),
            }
        }
        if let Some(id) = jobs.ended.pop() {
            // From here on it may be there or not, and once that is acknowledged it is gone.
            jobs.there.retain(|it| *it != id);
            match host.acknowledge_job(id).await {
                Ok(()) => jobs.forgotten.push(id),
                Err(error) => return is_gone(error),
            }
        }
        if jobs.lacks_some()
            && let Err(error) = jobs.start(host, counts).await
        {
            return is_gone(error);
        }
    }
}

/// Nothing else may go wrong than that the host is killed.
#[track_caller]
fn is_gone<E: Debug>(error: CallError<E>) {
    assert!(matches!(error, CallError::Lost(_)), "{error:?}");
}

async fn recall_or_none(session: &Session) -> Option<Vec<String>> {
    let call = session.call(keeper::recall::HANDLE, ());
    call.expect("it is there").await.ok()
}

/// The round that a job says next it has come to; nothing when it ends before.
async fn next_round(job: &Job<(Vec<f64>, u64), Infallible>) -> Option<u32> {
    let mut watch = job.watch().await.expect("watched");
    while let Some(news) = soon("news", watch.next()).await {
        if let JobNews::Progress { done, .. } = news.expect("the watch goes on") {
            return Some(done as u32);
        }
    }
    None
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.saves += other.saves;
        self.jobs_started += other.jobs_started;
        self.jobs_ended += other.jobs_ended;
        self.went_on += other.went_on;
        self.lost_answers += other.lost_answers;
    }
}

// As many threads as hosts: each blocks one while its host starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_survives_a_host_that_is_killed() {
    let number = |name| std::env::var(name).map(|it| it.parse::<u32>().expect("a number"));
    let kills = number("SPORE_KILLS").unwrap_or(KILLS);
    let mut killing = tokio::task::JoinSet::new();
    for host in 0..HOSTS {
        let moments =
            Moments(0x9e37_79b9_7f4a_7c15 ^ (u64::from(std::process::id()) << 8) ^ u64::from(host));
        let kills = kills / HOSTS + u32::from(host < kills % HOSTS);
        killing.spawn(kill(kills, moments));
    }
    let mut counts = Counts::default();
    while let Some(counted) = killing.join_next().await {
        counts += counted.expect("what was acknowledged is there");
    }
    println!(
        "{kills} kills: {} saves acknowledged, {} answers lost, {} jobs started, {} ended right, \
         {} times one went on from an image",
        counts.saves, counts.lost_answers, counts.jobs_started, counts.jobs_ended, counts.went_on
    );
    // Some hosts are gone before anything was saved, on a slow disk many of them.
    assert!(counts.saves > kills / 4);
    // Half as many are killed while they start, and nobody looks at those.
    assert!(counts.went_on >= kills / 8, "jobs begin again and again");
    assert!(counts.jobs_ended > 0);
}

/// Kills a host so many times.
async fn kill(kills: u32, mut moments: Moments) -> Counts {
    let mut process = Process::start("job_persist = \"100ms\"\n", &[""]);
    let mut counts = Counts::default();

    let host = connect(&process).await;
    let paced = of(resumer(), resumer::paced::HANDLE);
    let expected = host.call(&paced, (7, ROUNDS)).await.expect("it runs");
    let mut known = Vec::new();
    for _ in 0..SESSIONS {
        let session = host.open_session(keeper()).await.expect("opened");
        session.save().await.expect("saved");
        known.push(Known {
            id: session.id(),
            acknowledged: Vec::new(),
            perhaps: None,
        });
    }
    let mut jobs = Jobs::default();
    drop(host);
    let mut restarted = Instant::now();

    let mut killed = 0;
    while killed < kills {
        let host = connect(&process).await;
        // Everything that was acknowledged is there, and whole.
        for session in &mut known {
            let handle = host.session_of(session.id, keeper());
            let found = recall(&handle).await;
            counts.lost_answers += u32::from(session.perhaps.is_some());
            if session.perhaps.as_ref() == Some(&found) {
                session.acknowledged = found;
            } else {
                assert_eq!(found, session.acknowledged, "kill {killed}");
            }
            session.perhaps = None;
        }
        let listed = host.jobs().await.expect("listed");
        let is_listed = |id: &JobId| listed.iter().any(|job| job.job == *id);
        for id in &jobs.there {
            assert!(is_listed(id), "kill {killed}: {id} is gone");
        }
        for id in &jobs.forgotten {
            assert!(!is_listed(id), "kill {killed}: {id} is there again");
        }
        for info in &listed {
            // One that was started, or was to be forgotten, as the host was killed is not known here.
            if !jobs.there.contains(&info.job) {
                jobs.there.push(info.job);
            }
            if jobs.ended.contains(&info.job) {
                continue;
            }
            let job = host.job_of(resumer::paced::HANDLE, info.job);
            let job = job.await.expect("it is of that callable");
            let running = match info.state {
                JobState::Ended(_) => None,
                _ => next_round(&job).await,
            };
            if let Some(round) = running {
                counts.went_on += u32::from(ROUND * round > restarted.elapsed());
            } else {
                let ended = job.result().await;
                assert_eq!(ended.expect("it ends well"), expected, "kill {killed}");
                counts.jobs_ended += u32::from(jobs.right.insert(info.job));
                jobs.ended.push(info.job);
            }
        }

        // Every other time; else it is killed while it starts some, which takes it a while.
        while jobs.lacks_some() && moments.next(2) == 0 {
            jobs.start(&host, &mut counts).await.expect("started");
        }
        let moment = Duration::from_micros(moments.next(LIFE_MAX.as_micros() as u64));
        let living = async {
            live(&host, &mut known, &mut jobs, &mut counts).await;
            std::future::pending::<()>().await;
        };
        let killing = async {
            tokio::time::sleep(moment).await;
            // While something is asked of it: what is asked is dropped after that.
            process.kill();
        };
        tokio::select! {
            () = killing => killed += 1,
            () = living => unreachable!("it goes on"),
        }
        drop(host);
        if killed < kills && moments.next(2) == 0 {
            // Once more while it starts, and takes up what it finds.
            process.die_early(Duration::from_micros(
                moments.next(START_MAX.as_micros() as u64),
            ));
            killed += 1;
        }
        process.restart();
        restarted = Instant::now();
    }

    // Every job that is left ends with the right result.
    let host = connect(&process).await;
    for id in jobs.there {
        let job = host.job_of(resumer::paced::HANDLE, id).await;
        let job = job.expect("it is there");
        let ended = tokio::time::timeout(PATIENCE, job.result()).await;
        assert_eq!(ended.expect("it ends").expect("it ends well"), expected);
        counts.jobs_ended += u32::from(jobs.right.insert(id));
    }
    counts
}
