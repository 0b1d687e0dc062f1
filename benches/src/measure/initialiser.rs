//! Initialisers: what they cost once, and what a first call costs then.

use std::time::Instant;

use anyhow::{Result, ensure};
use spore_bundle::{Bundle, Limits};

use super::images::Kept;
use crate::figure::{Figure, Unit};
use crate::statistics::{micros, millis};

const ROUNDS: usize = 5;

pub(super) const NAMES: [&str; 2] = ["initialiser with a table of 20 MB", "first call after it"];

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let mut figures = [
        Figure::new(NAMES[0], Unit::Milliseconds),
        Figure::new(NAMES[1], Unit::Microseconds),
    ];
    let table = include_bytes!(concat!(env!("OUT_DIR"), "/bench_table.spore"));
    let table = Bundle::decode(&table[..], &Limits::default())?;
    let row = spore_value::codec::encode(&(7_000_u32,))?;
    let nothing = spore_value::codec::encode(&(0_u32,))?;
    for _ in 0..ROUNDS {
        // A new host each time: it has seen neither.
        let folder = tempfile::tempdir()?;
        let host = Kept::start(folder.path())?;
        host.load(&host.bundle).await?;
        let began = Instant::now();
        host.load(&table).await?;
        figures[0].round(millis(began.elapsed()), &[]);
        let (value, first) = host.run(&table, "bench_table::look_up", &row).await?;
        let value: Option<f64> =
            spore_value::codec::decode(&value, &spore_value::Limits::default())?;
        ensure!(value == Some(1000.0), "the table has {value:?}");
        let (_, plain) = host
            .run(&host.bundle, "bench_guest::touch", &nothing)
            .await?;
        figures[1].round(micros(first), &[("of a guest without", micros(plain))]);
    }
    Ok(figures.into())
}
