//! A host that is killed at random moments while sessions are saved and jobs are made durable: what it
//! has acknowledged is there afterwards, whole, and every job ends with the right result.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use spore_client::{Host, Job, JobId, JobNews, JobState, Persist, Session, SessionId};
use spore_tests::guests::of;
use spore_tests::outcome::{PATIENCE, soon};
use spore_tests::{Process, keeper, resumer};

/// How often hosts are killed, unless `SPORE_KILLS` says otherwise, as `cargo xtask test --kills 1000`
/// does. Each takes a good part of a second, for the host compiles its guests anew.
const KILLS: u32 = 200;

/// Hosts that are killed beside each other, so that a processor has work while one of them is waited for.
const HOSTS: u32 = 4;

/// Longest time between a start of the host and its end. A host looks four times a second whether
/// an image is due, so that most write one of each job.
const LIFE_MAX: Duration = Duration::from_millis(400);

/// Rounds of a job, and the least time that each takes: it outlives many hosts.
const ROUNDS: u32 = 150;
const ROUND: Duration = Duration::from_millis(10);

/// Sessions and jobs at one time.
const SESSIONS: usize = 3;
const JOBS: usize = 2;

/// A small generator whose seed is printed: a failure can be looked at again with the same moments.
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

async fn recall(session: &Session) -> Vec<String> {
    let call = session.call(keeper::recall::HANDLE, ());
    call.expect("it is there").await.expect("recalled")
}

/// Saves sessions and watches jobs until the host is gone.
async fn live(host: &Host, known: &mut [Known], counts: &mut Counts, life: Duration) {
    let began = Instant::now();
    let mut word = 0u32;
    while began.elapsed() < life {
        for session in &mut *known {
            let handle = host.session_of(session.id, keeper());
            let next = format!("{}.{word}", session.acknowledged.len());
            word += 1;
            let call = handle.call(keeper::remember::HANDLE, (next.clone(),));
            if call.expect("it is there").await.is_err() {
                return;
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
                Err(_) => return,
            }
        }
    }
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
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let kills =
        std::env::var("SPORE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let mut killing = tokio::task::JoinSet::new();
    for host in 0..HOSTS {
        let moments = Moments(0x9e37_79b9_7f4a_7c15 ^ (seed << 8) ^ u64::from(host));
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
    assert!(counts.saves > kills);
    assert!(counts.went_on >= kills / 4, "jobs begin again and again");
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
    let mut jobs: Vec<JobId> = Vec::new();
    drop(host);
    let mut restarted = Instant::now();

    for kill in 0..kills {
        let host = connect(&process).await;
        // Everything that was acknowledged is there, and whole.
        for session in &mut known {
            let handle = host.session_of(session.id, keeper());
            let found = recall(&handle).await;
            counts.lost_answers += u32::from(session.perhaps.is_some());
            if session.perhaps.as_ref() == Some(&found) {
                session.acknowledged = found;
            } else {
                assert_eq!(found, session.acknowledged, "kill {kill}");
            }
            session.perhaps = None;
        }
        let listed = host.jobs().await.expect("listed");
        for id in &jobs {
            assert!(
                listed.iter().any(|job| job.job == *id),
                "kill {kill}: {id} is gone"
            );
        }
        let mut left = Vec::new();
        for info in &listed {
            // One that was started as the host was killed is not known here.
            left.push(info.job);
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
                assert_eq!(ended.expect("it ends well"), expected, "kill {kill}");
                job.acknowledge().await.expect("forgotten");
                counts.jobs_ended += 1;
                left.pop();
            }
        }
        jobs = left;
        while jobs.len() < JOBS {
            let start = host
                .start(&paced, (7, ROUNDS))
                .persist(Persist::HostDefault);
            let job = start.await.expect("started");
            jobs.push(job.id());
            counts.jobs_started += 1;
        }

        let life = Duration::from_micros(moments.next(LIFE_MAX.as_micros() as u64));
        let moment = Duration::from_micros(moments.next(LIFE_MAX.as_micros() as u64));
        // Nobody waits until the client has noticed: that takes as long as a connection may be idle.
        let living = live(&host, &mut known, &mut counts, life + LIFE_MAX);
        let _ = tokio::time::timeout(moment, living).await;
        process.kill();
        drop(host);
        process.restart();
        restarted = Instant::now();
    }

    // Every job that is left ends with the right result.
    let host = connect(&process).await;
    for id in jobs {
        let job = host.job_of(resumer::paced::HANDLE, id).await;
        let job = job.expect("it is there");
        let ended = tokio::time::timeout(PATIENCE, job.result()).await;
        assert_eq!(ended.expect("it ends").expect("it ends well"), expected);
        counts.jobs_ended += 1;
    }
    assert!(counts.jobs_ended >= JOBS as u32);
    counts
}
