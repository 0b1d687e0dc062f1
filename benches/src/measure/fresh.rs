//! The host's own time of a call in a fresh instance.

use std::time::Instant;

use anyhow::{Context, Result};
use spore_client::{Host, Timing};

use super::{Bench, FLIGHT, SMALL_BYTES};
use crate::figure::{Figure, Unit};
use crate::product::{self, EchoCallable};
use crate::statistics::{median, micros};

const ROUNDS: usize = 9;
const CALLS: usize = 1000;

pub(super) const NAMES: [&str; 4] = [
    "fresh instance, run",
    "fresh instance, queue",
    "fresh instance, run, 64 in flight",
    "fresh instance, queue, 64 in flight",
];

pub(super) async fn measure(bench: &Bench) -> Result<[Figure; 4]> {
    let mut figures = NAMES.map(|name| Figure::new(name, Unit::Microseconds));
    let callable = product::echo_callable()?;
    let host = &bench.remote.host;
    let argument = spore_value::codec::encode(&vec![0u8; SMALL_BYTES])?;
    let alone = || -> Result<f64> {
        let mut took = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let began = Instant::now();
            let returned = bench.alone.run(&[], &argument)?;
            took.push(micros(began.elapsed()));
            // The host does this after the caller has its result.
            drop(returned);
        }
        Ok(median(&took))
    };
    timings(host, &callable, 1, CALLS).await?;
    alone()?;
    for _ in 0..ROUNDS {
        let floor = [("wasmtime", alone()?)];
        let one = timings(host, &callable, 1, CALLS).await?;
        let many = timings(host, &callable, FLIGHT, CALLS).await?;
        let middle = |timings: &[Timing], of: fn(&Timing) -> u64| {
            median(
                &timings
                    .iter()
                    .map(|timing| of(timing) as f64 / 1e3)
                    .collect::<Vec<_>>(),
            )
        };
        let [run, queue, run_many, queue_many] = &mut figures;
        run.round(middle(&one, |timing| timing.run_ns), &floor);
        queue.round(middle(&one, |timing| timing.queue_ns), &[]);
        run_many.round(middle(&many, |timing| timing.run_ns), &floor);
        queue_many.round(middle(&many, |timing| timing.queue_ns), &[]);
    }
    Ok(figures)
}

/// What the host says of about `calls` calls, `flight` at a time.
async fn timings(
    host: &Host,
    callable: &EchoCallable,
    flight: usize,
    calls: usize,
) -> Result<Vec<Timing>> {
    let work = (0..flight).map(|_| {
        let (host, callable) = (host.clone(), callable.clone());
        tokio::spawn(async move {
            let mut timings = Vec::new();
            for _ in 0..calls.div_ceil(flight) {
                let completed = host
                    .call(&callable, (vec![0; SMALL_BYTES],))
                    .completed()
                    .await;
                completed.result?;
                timings.push(completed.timing.context("a call that ran has a timing")?);
            }
            anyhow::Ok(timings)
        })
    });
    let mut timings = Vec::new();
    for work in work.collect::<Vec<_>>() {
        timings.extend(work.await??);
    }
    Ok(timings)
}
