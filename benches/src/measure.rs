//! The figures, in groups that are measured together.

mod capture;
mod fresh;
mod images;
mod initialiser;
mod moving;
mod unseen;
mod warm;

use anyhow::{Result, ensure};
use wasmtime::Engine;

use crate::alone::{self, Alone};
use crate::child;
use crate::echo::Echo;
use crate::figure::{Figure, Report};
use crate::product::{self, Remote};

/// Bytes there and back of a small call.
const SMALL_BYTES: usize = 64;

/// Calls under way at a time, where many are.
const FLIGHT: usize = 64;

/// Everything that figures are measured with, on one runtime of one thread.
struct Bench {
    engine: Engine,
    echo: Echo,
    remote: Remote,
    /// The guest's `bench_guest::echo` in wasmtime alone.
    alone: Alone,
}

impl Bench {
    async fn start() -> Result<Bench> {
        let engine = alone::engine()?;
        Ok(Bench {
            echo: Echo::start().await?,
            remote: Remote::start().await?,
            alone: Alone::new(&engine, &product::code()?, bench_guest::echo::HANDLE.name())?,
            engine,
        })
    }
}

/// Measures all figures whose name contains `filter`.
pub(crate) fn all(filter: &str) -> Result<Report> {
    let chosen = |names: &[&str]| names.iter().any(|name| name.contains(filter));
    let groups: [&[&str]; 7] = [
        &warm::NAMES,
        &fresh::NAMES,
        &unseen::NAMES,
        &capture::NAMES,
        &images::NAMES,
        &initialiser::NAMES,
        &moving::NAMES,
    ];
    let names = groups.concat();
    ensure!(
        chosen(&names),
        "no figure has {filter:?} in its name; there are: {}",
        names.join("; ")
    );
    child::runtime()?.block_on(async {
        let bench = Bench::start().await?;
        let mut figures: Vec<Figure> = Vec::new();
        if chosen(&warm::NAMES) {
            figures.extend(warm::measure(&bench).await?);
        }
        if chosen(&fresh::NAMES) {
            figures.extend(fresh::measure(&bench).await?);
        }
        if chosen(&unseen::NAMES) {
            figures.extend(unseen::measure(&bench).await?);
        }
        if chosen(&capture::NAMES) {
            figures.extend(capture::measure(&bench).await?);
        }
        if chosen(&images::NAMES) {
            figures.extend(images::measure().await?);
        }
        if chosen(&initialiser::NAMES) {
            figures.extend(initialiser::measure().await?);
        }
        if chosen(&moving::NAMES) {
            figures.extend(moving::measure(&bench).await?);
        }
        figures.retain(|figure| figure.name.contains(filter));
        Ok(Report { figures })
    })
}
