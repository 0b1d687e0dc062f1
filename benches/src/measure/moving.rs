//! A job that moves between two hosts while it runs.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use spore_client::{Host, Identity, Job, JobId, JobNews, MoveStage};

use super::Bench;
use crate::figure::{Figure, Unit};
use crate::log;
use crate::product::{self, Remote};
use crate::statistics::millis;

const ROUNDS: usize = 5;
const JOB_BYTES: usize = 64 << 20;
/// Pages of 4 KiB that the job writes to in each of its rounds.
const CHANGED_PAGES: usize = 256;
/// Times that the two hosts wait for their disks between the stop of the job at one and its start at
/// the other, besides the one for what has changed of the memory. A save of an image syncs a pack with
/// that, the folder and the database, any other the database alone.
///
/// | host | what is saved | syncs |
/// | --- | --- | --- |
/// | target | the image as it arrives | 1 of what has changed + 2 |
/// | source | that the job is given up | 1 |
/// | target | that it is taken over | 1 |
const SYNCS: u32 = 4;
/// Longer than a round of the job takes.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) const NAMES: [&str; 4] = [
    "move of 64 MiB, pause",
    "move of 64 MiB, stop to first word",
    "move of 64 MiB, ahead of the pause",
    "pause, save, open elsewhere of 64 MiB",
];

pub(super) async fn measure(bench: &Bench) -> Result<[Figure; 4]> {
    let mut figures = NAMES.map(|name| Figure::new(name, Unit::Milliseconds));
    let identity = Identity::generate();
    let again = Identity::from_pem(&identity.to_pem())?;
    let (source, target) = (
        Remote::start_for(identity).await?,
        Remote::start_for(again).await?,
    );
    let roam = product::bundle().callable(bench_guest::roam::HANDLE)?;
    for host in [&source.host, &target.host] {
        host.ship(&product::bundle()).await?;
    }
    let folder = tempfile::tempdir()?;
    let (mut from, mut to) = (&source, &target);
    for round in 0..=ROUNDS {
        let pass = one_pass();
        let changed = vec![round as u8; CHANGED_PAGES * 4096];
        let transfer = millis(bench.echo.transfer(Bytes::from(changed)).await?);
        let syncs = one_sync(folder.path(), CHANGED_PAGES)?;
        let syncs = syncs + f64::from(SYNCS) * one_sync(folder.path(), 1)?;

        let arguments = (JOB_BYTES as u32, CHANGED_PAGES as u32);
        let job = from.host.start(&roam, arguments).await?;
        first_progress(&job).await?;
        let began = Instant::now();
        let stages = Stages::default();
        let (told, id, there) = (stages.clone(), job.id(), to.host.clone());
        let mut goes_on = None;
        let (hears, heard) = tokio::sync::oneshot::channel();
        let mut hears = Some(hears);
        let moving = job.move_to(&to.host, WITHIN).on_stage(move |stage| {
            told.reached(stage);
            if stage == MoveStage::Arrived {
                let hears = hears.take().expect("it arrives once");
                let (there, id) = (there.clone(), id);
                // Nobody is left to hear of it when the move fails.
                let _ = hears.send(tokio::spawn(goes_on_at(there, id)));
            }
        });
        let moved = moving.await?;
        goes_on.replace(heard.await.context("it has not arrived")?);
        let went_on = goes_on.context("it has not arrived")?.await??;
        moved.cancel().await?;
        moved.acknowledge().await?;
        // The first also compiles.
        if round > 0 {
            let stopped = stages.at(MoveStage::Ahead)?;
            let floor = [("pass", pass), ("quinn", transfer), ("syncs", syncs)];
            let id = id.to_string();
            let stood = from.log().when(&id, log::STOPS)?;
            let goes_on = to.log().when(&id, log::GOES_ON)?;
            let pause = goes_on.checked_sub(stood);
            let pause = millis(pause.context("the system's clock was put back meanwhile")?);
            figures[0].round(pause, &floor);
            figures[1].round(millis(went_on - stopped), &floor);
            figures[2].round(millis(stopped - began), &[]);
            let standing = without_going_ahead(&from.host, &to.host).await?;
            figures[3].round(standing, &[("the pause", pause)]);
        }
        std::mem::swap(&mut from, &mut to);
    }
    Ok(figures)
}

/// Milliseconds in which a job stands still that is paused, saved and opened at another host.
async fn without_going_ahead(from: &Host, to: &Host) -> Result<f64> {
    let roam = product::bundle().callable(bench_guest::roam::HANDLE)?;
    let job = from
        .start(&roam, (JOB_BYTES as u32, CHANGED_PAGES as u32))
        .await?;
    first_progress(&job).await?;
    let began = Instant::now();
    job.pause(WITHIN).await?;
    let saved = job.save(WITHIN).await?;
    let there = to.open_job_of(bench_guest::roam::HANDLE, &saved).await?;
    first_progress(&there).await?;
    let took = millis(began.elapsed());
    for job in [job, there] {
        job.cancel().await?;
        job.acknowledge().await?;
    }
    Ok(took)
}

/// When a move has come how far.
#[derive(Clone, Default)]
struct Stages(Arc<Mutex<Vec<(MoveStage, Instant)>>>);

impl Stages {
    fn reached(&self, stage: MoveStage) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((stage, Instant::now()));
    }

    fn at(&self, stage: MoveStage) -> Result<Instant> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().find(|(reached, _)| *reached == stage);
        Ok(found.context("the move did not come so far")?.1)
    }
}

/// Waits until the job has filled its memory.
async fn first_progress(job: &Job<(), std::convert::Infallible>) -> Result<()> {
    let mut watch = job.watch().await?;
    while let Some(news) = watch.next().await {
        if matches!(news?, JobNews::Progress { .. }) {
            return Ok(());
        }
    }
    anyhow::bail!("the job has ended")
}

/// When the job has said something at the host that it has moved to.
async fn goes_on_at(host: Host, id: JobId) -> Result<Instant> {
    let job = host.job_of(bench_guest::roam::HANDLE, id).await?;
    first_progress(&job).await?;
    Ok(Instant::now())
}

/// Milliseconds in which memory as large as the job's is compared with a copy of it.
fn one_pass() -> f64 {
    let bytes = vec![1u8; JOB_BYTES];
    let copy = bytes.clone();
    let began = Instant::now();
    assert!(std::hint::black_box(&bytes) == std::hint::black_box(&copy));
    millis(began.elapsed())
}

/// Milliseconds that it takes to write so many blocks and sync them.
fn one_sync(folder: &std::path::Path, blocks: usize) -> Result<f64> {
    let bytes = vec![1; blocks * 4096];
    let mut took = Vec::new();
    for number in 0..9 {
        let mut file = std::fs::File::create(folder.join(format!("{number}")))?;
        let began = Instant::now();
        file.write_all(&bytes)?;
        file.sync_all()?;
        took.push(millis(began.elapsed()));
    }
    Ok(crate::statistics::median(&took))
}
