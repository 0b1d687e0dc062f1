//! Images: saved, restored, begun from; checkpoints; sessions that rest.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use spore_bundle::{Bundle, Limits};
use spore_host::{
    Caller, Event, Host, JobRequest, Loaded, Outcome, Running, SessionRequest, Setup,
};
use spore_transport::SessionId;
use spore_transport::job::Persist;
use spore_transport::message::{CallLimits, Timing};

use crate::figure::{Figure, Unit};
use crate::statistics::{median, micros, millis};

const ROUNDS: usize = 5;
const IMAGE_BYTES: usize = 64 << 20;
const CHANGED_BYTES: usize = 1 << 20;
const TOUCHED_PAGES: u32 = 16;
const CALLS: usize = 300;
const CHECKPOINTS: u32 = 1_000_000;
const SESSIONS: usize = 1000;
const STORE_BYTES: u64 = 8 << 30;

pub(super) const NAMES: [&str; 8] = [
    "save of 64 MiB",
    "save after 1 MiB changed",
    "save after 1 MiB changed, bytes",
    "restore of 64 MiB",
    "call from an image of 64 MiB",
    "checkpoint that nobody uses",
    "session that rests, memory",
    "image of 64 MiB, memory",
];

/// A host in this process that keeps its sessions in a folder.
pub(super) struct Kept {
    host: Host,
    caller: Caller,
    /// The guest that is measured.
    pub(super) bundle: Bundle,
}

impl Kept {
    pub(super) fn start(folder: &Path) -> Result<Kept> {
        let host = Host::start(Setup::default())?;
        host.keep_in(folder, STORE_BYTES)?;
        let caller = host.embedding_caller();
        let bundle = include_bytes!(concat!(env!("OUT_DIR"), "/bench_guest.spore"));
        let bundle = Bundle::decode(&bundle[..], &Limits::default())?;
        Ok(Kept {
            host,
            caller,
            bundle,
        })
    }

    async fn open(&self, bundle: &Bundle) -> Result<SessionId> {
        let limits = CallLimits::default();
        let opening =
            self.host
                .open_session(&self.caller, bundle, &limits, None, None, Timing::default());
        let (session, running) = opening.await.map_err(refused)?;
        ended(running).await?;
        Ok(session)
    }

    async fn call(&self, session: SessionId, name: &str, arguments: &[u8]) -> Result<Bytes> {
        let request = SessionRequest {
            callable: index(&self.bundle, name)?,
            arguments: Bytes::copy_from_slice(arguments),
            limits: CallLimits::default(),
            seed: Some(0),
            items: false,
            timing: Timing::default(),
        };
        let running = self.host.call_session(&self.caller, session, request);
        Ok(ended(running).await?.0)
    }

    /// Has the host have a bundle compiled.
    pub(super) async fn load(&self, bundle: &Bundle) -> Result<Arc<Loaded>> {
        let loaded = self.host.load(&self.caller, bundle).await;
        Ok(loaded.map_err(refused)?.0)
    }

    /// What a call in a fresh instance ends with, and the host's own time of it.
    pub(super) async fn run(
        &self,
        bundle: &Bundle,
        name: &str,
        arguments: &[u8],
    ) -> Result<(Bytes, Duration)> {
        let loaded = self.load(bundle).await?;
        let request = spore_host::Request {
            callable: index(bundle, name)?,
            arguments: Bytes::copy_from_slice(arguments),
            limits: CallLimits::default(),
            seed: 0,
            items: false,
            timing: Timing::default(),
        };
        let running = self.host.call(&self.caller, loaded, request);
        let (value, timing) = ended(running).await?;
        Ok((value, Duration::from_nanos(timing.run_ns)))
    }
}

fn index(bundle: &Bundle, name: &str) -> Result<u32> {
    let callables = &bundle.manifest().callables;
    let found = callables.iter().position(|it| it.name == name);
    Ok(found.context("the guest has no such callable")? as u32)
}

/// The value that a call ends with.
async fn ended(mut running: Running) -> Result<(Bytes, Timing)> {
    loop {
        if let Event::Finished(finished) = running.next().await {
            return match finished.outcome {
                Outcome::Value(value) => Ok((value, finished.timing)),
                other => bail!("the guest ended with {other:?}"),
            };
        }
    }
}

fn refused(refused: spore_transport::message::Refused) -> anyhow::Error {
    anyhow::Error::msg(refused.to_string())
}

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let units = [
        Unit::Milliseconds,
        Unit::Milliseconds,
        Unit::Kibibytes,
        Unit::Milliseconds,
        Unit::Microseconds,
        Unit::Nanoseconds,
        Unit::Kibibytes,
        Unit::Kibibytes,
    ];
    let mut figures: Vec<Figure> = NAMES
        .into_iter()
        .zip(units)
        .map(|(name, unit)| Figure::new(name, unit))
        .collect();
    let folder = tempfile::tempdir()?;
    let kept = folder.path().join("kept");
    for round in 0..ROUNDS {
        let host = Kept::start(&kept)?;
        saves(&host, &kept, folder.path(), round, &mut figures).await?;
        drop(host);
        restores(&kept, folder.path(), &mut figures).await?;
        std::fs::remove_dir_all(&kept)?;
    }
    let host = Kept::start(&kept)?;
    from_image(&host, &mut figures[4]).await?;
    checkpoints(&host, &mut figures[5]).await?;
    drop(host);
    std::fs::remove_dir_all(&kept)?;
    resting(&Kept::start(&kept)?, &mut figures[6]).await?;
    Ok(figures)
}

/// Copies, hashes and writes so many bytes with one fsync: the floor of a save.
fn floor_of_save(folder: &Path, round: usize) -> Result<[(&'static str, f64); 3]> {
    let bytes = vec![round as u8 ^ 0x5a; IMAGE_BYTES];
    let began = Instant::now();
    let copied = std::hint::black_box(bytes.clone());
    let copy = millis(began.elapsed());
    let began = Instant::now();
    std::hint::black_box(blake3::hash(&copied));
    let hash = millis(began.elapsed());
    let began = Instant::now();
    let mut file = std::fs::File::create(folder.join("floor"))?;
    file.write_all(&copied)?;
    file.sync_all()?;
    let write = millis(began.elapsed());
    Ok([("copy", copy), ("BLAKE3", hash), ("write + fsync", write)])
}

async fn saves(
    host: &Kept,
    kept: &Path,
    folder: &Path,
    round: usize,
    figures: &mut [Figure],
) -> Result<()> {
    let session = host.open(&host.bundle).await?;
    let fill = spore_value::codec::encode(&(IMAGE_BYTES as u32, round as u32))?;
    host.call(session, "bench_guest::fill", &fill).await?;
    let floor = floor_of_save(folder, round)?;
    let before = resident_kib()?;
    let began = Instant::now();
    let save = host.host.save_session(&host.caller, session);
    save.await.map_err(refused)?;
    let first = millis(began.elapsed());
    let all = (IMAGE_BYTES >> 10) as f64;
    figures[7].round(resident_kib()? - before, &[("all of it", all)]);
    figures[0].round(first, &floor);

    let before = bytes_in(kept)?;
    let change = spore_value::codec::encode(&(CHANGED_BYTES as u32, round as u32 + 1))?;
    host.call(session, "bench_guest::fill_begin", &change)
        .await?;
    let began = Instant::now();
    let save = host.host.save_session(&host.caller, session);
    save.await.map_err(refused)?;
    figures[1].round(millis(began.elapsed()), &[("the first save", first)]);
    let written = bytes_in(kept)?.saturating_sub(before) as f64 / 1024.0;
    figures[2].round(written, &[("all of it", (IMAGE_BYTES >> 10) as f64)]);
    Ok(())
}

/// The host of another process, as it were, takes the session up.
async fn restores(kept: &Path, folder: &Path, figures: &mut [Figure]) -> Result<()> {
    let began = Instant::now();
    let read = std::fs::read(folder.join("floor"))?;
    let reading = millis(began.elapsed());
    let began = Instant::now();
    std::hint::black_box(read.clone());
    let copy = millis(began.elapsed());

    let host = Kept::start(kept)?;
    // Its code is compiled before, as it is for a session of code that is in use.
    host.host
        .load(&host.caller, &host.bundle)
        .await
        .map_err(refused)?;
    let began = Instant::now();
    host.host.revive_own().await;
    let sessions = host.host.sessions(&host.caller);
    ensure!(sessions.len() == 1, "{} sessions were kept", sessions.len());
    host.call(sessions[0].session, "bench_guest::filled", &[])
        .await?;
    let took = millis(began.elapsed());
    figures[3].round(took, &[("read", reading), ("copy", copy)]);
    Ok(())
}

async fn from_image(host: &Kept, figure: &mut Figure) -> Result<()> {
    let session = host.open(&host.bundle).await?;
    let fill = spore_value::codec::encode(&(IMAGE_BYTES as u32, 1u32))?;
    host.call(session, "bench_guest::fill", &fill).await?;
    let save = host.host.save_session(&host.caller, session);
    let saved = save.await.map_err(refused)?.bundle;
    let touch = spore_value::codec::encode(&(TOUCHED_PAGES,))?;
    for _ in 0..ROUNDS {
        let (mut from_image, mut empty) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            let (_, touched) = host.run(&saved, "bench_guest::touch", &touch).await?;
            from_image.push(micros(touched));
            let (_, touched) = host.run(&host.bundle, "bench_guest::touch", &touch).await?;
            empty.push(micros(touched));
        }
        figure.round(
            median(&from_image),
            &[("from an empty one", median(&empty))],
        );
    }
    Ok(())
}

async fn checkpoints(host: &Kept, figure: &mut Figure) -> Result<()> {
    let count = spore_value::codec::encode(&(CHECKPOINTS,))?;
    for _ in 0..ROUNDS {
        let (_, run) = host
            .run(&host.bundle, "bench_guest::rounds", &count)
            .await?;
        figure.round(run.as_nanos() as f64 / f64::from(CHECKPOINTS), &[]);
    }
    // As a job, whose host looks now and then, the same.
    let request = JobRequest {
        callable: index(&host.bundle, "bench_guest::rounds")?,
        arguments: count.into(),
        limits: CallLimits::default(),
        seed: 0,
        persist: Persist::Off,
        timing: Timing::default(),
    };
    let started = host.host.start_job(&host.caller, &host.bundle, request);
    let job = started.await.map_err(refused)?.job;
    let ended = host.host.job_result(&host.caller, job, true).await;
    ended.map_err(refused)?;
    Ok(())
}

async fn resting(host: &Kept, figure: &mut Figure) -> Result<()> {
    // What the first one takes is there for all.
    let first = host.open(&host.bundle).await?;
    host.call(first, "bench_guest::filled", &[]).await?;
    let before = resident_kib()?;
    for _ in 0..SESSIONS {
        let session = host.open(&host.bundle).await?;
        host.call(session, "bench_guest::filled", &[]).await?;
    }
    let rest = spore_transport::session::SessionState::Resting;
    let began = Instant::now();
    while host
        .host
        .sessions(&host.caller)
        .iter()
        .any(|it| it.state != rest)
    {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "sessions do not rest"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let each = (resident_kib()? - before) / SESSIONS as f64;
    figure.round(each, &[]);
    Ok(())
}

/// Memory of this process, as the system counts it.
fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.context("the system does not tell")?;
    let number = line.trim().trim_end_matches("kB").trim();
    Ok(number.parse()?)
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.join("packs"))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
