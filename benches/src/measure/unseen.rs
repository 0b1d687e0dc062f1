//! The first call of code that the host has never seen.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::alone;
use crate::figure::{Figure, Unit};
use crate::generated;
use crate::statistics::millis;

/// Sizes of code in bytes, and how often each is measured: the large one takes its time.
const SIZES: [(usize, usize); 2] = [(25_000, 9), (1_000_000, 5)];

pub(super) const NAMES: [&str; 2] = [
    "unseen code of 25 KB, first call",
    "unseen code of 1 MB, first call",
];

pub(super) async fn measure(bench: &Bench) -> Result<[Figure; 2]> {
    let mut figures = NAMES.map(|name| Figure::new(name, Unit::Milliseconds));
    for (figure, (size, rounds)) in figures.iter_mut().zip(SIZES) {
        // The first round of all finds threads not started and memory not mapped.
        for round in 0..=rounds {
            let code = generated::code(size, (size + round) as u32);
            let bundle = generated::bundle(code.clone())?;
            let transfer = millis(bench.echo.transfer(code.clone()).await?);

            let began = Instant::now();
            alone::compile(&bench.engine, &code)?;
            let compile = millis(began.elapsed());

            let callable = bundle.callable(generated::CALLABLE)?;
            let began = Instant::now();
            bench.remote.host.call(&callable, json!([])).await?;
            let product = millis(began.elapsed());
            if round > 0 {
                figure.round(product, &[("quinn", transfer), ("compile", compile)]);
            }
        }
    }
    Ok(figures)
}
