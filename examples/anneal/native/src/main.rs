//! Searches for a short tour through 200 cities in a job, stops it on the way, lets it go on
//! elsewhere, and compares the tour with that of a search that nothing stopped.
//!
//! ```text
//! anneal-example [--steps N] [HOST | --from HOST --to HOST …]
//! ```
#![forbid(unsafe_code)]

mod arguments;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anneal::Tour;
use anyhow::{Context, Result, ensure};
use arguments::{Arguments, Route};
use spore_client::{Bundle, Host, Job, JobNews, embedded_bundle};

/// How many cities there are.
const CITIES: u32 = 200;
/// Where the random numbers begin that strew them.
const MAP: u64 = 7;
/// Where the random numbers of the search begin.
const SEED: u64 = 1;
/// Time within which the job is to reach a checkpoint. There is one every few ten microseconds of
/// its own time, but it may have to wait for its turn.
const WITHIN: Duration = Duration::from_secs(10);

/// A job of this example.
type Search = Job<Tour, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { steps, route } = Arguments::read(std::env::args().skip(1))?;
    let cities = anneal::cities(CITIES, MAP);
    let search = embedded_bundle!("anneal")
        .callable(anneal::tour::HANDLE)?
        .capture(&cities)?;

    let places = route.places().await?;
    for place in &places {
        // Ahead, so that the job need not wait anywhere for its code to be compiled.
        place.host.ship(&search.bundle()).await?;
    }
    let (first, others) = places.split_first().expect("a route begins somewhere");
    let mut job = first.host.start(&search, (steps, SEED)).await?;
    println!("{}: started", first.name);
    let part = steps / places.len() as u64;
    for (number, (before, next)) in (1..).zip(places.iter().zip(others)) {
        let percent = shown_until(&job, &before.name, number * part).await?;
        let began = Instant::now();
        job = match &route {
            Route::Moved { .. } => job.move_to(&next.host, WITHIN).await?,
            Route::Saved { .. } => save_and_open(&job, &before.name, &next.host).await?,
        };
        let took = began.elapsed();
        println!(
            "{}: goes on from {percent:.0} %, after {took:.1?}",
            next.name
        );
    }
    let last = places.last().expect("a route ends somewhere");
    shown_until(&job, &last.name, steps).await?;
    let stopped = job.result().await?;
    job.acknowledge().await?;
    println!("{}: ended\n", last.name);

    let job = last.host.start(&search, (steps, SEED)).await?;
    let unstopped = job.result().await?;
    job.acknowledge().await?;
    // The same function, run by this program itself.
    let native = anneal::tour(&cities, steps, SEED).await;
    show(&stopped, steps);
    ensure!(stopped == unstopped, "unstopped it is {unstopped:?}");
    ensure!(stopped == native, "natively it is {native:?}");
    println!("unstopped, and natively: the same tour, bit for bit");

    for place in places {
        place.host.close().await;
    }
    Ok(())
}

/// Shows the job's progress until it has done so many steps, or has ended. Gives how many percent of
/// all were done then.
async fn shown_until(job: &Search, name: &str, steps: u64) -> Result<f64> {
    let mut watch = job.watch().await?;
    let (mut percent, mut shown) = (0.0, -1.0);
    while let Some(news) = watch.next().await {
        if let JobNews::Progress { done, total } = news? {
            percent = 100.0 * done as f64 / total as f64;
            if percent >= shown + 1.0 {
                shown = percent;
                eprint!("\r{name}: {percent:.0} %");
            }
            if done >= steps {
                break;
            }
        }
    }
    eprintln!();
    Ok(percent)
}

/// Pauses the job, writes it to a file, and opens what the file holds as a job of its own.
async fn save_and_open(job: &Search, name: &str, next: &Host) -> Result<Search> {
    job.pause(WITHIN).await?;
    let saved = job.save(WITHIN).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("half.spore");
    let bytes = saved.inner().encode();
    println!("{name}: paused, {} KiB in a file", bytes.len() / 1024);
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;

    // What is in the file is all that is needed.
    job.cancel().await?;
    job.acknowledge().await?;
    let saved = Bundle::open(&path)?;
    Ok(next.open_job_of(anneal::tour::HANDLE, &saved).await?)
}

fn show(tour: &Tour, steps: u64) {
    let shorter = 100.0 * (1.0 - tour.length / tour.length_before);
    println!("{CITIES} cities, {steps} steps");
    println!("before {:>9.2}", tour.length_before);
    println!("after  {:>9.2}, {shorter:.1} % shorter", tour.length);
}
