//! Warm calls with 64 bytes there and back.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use spore_client::Host;

use super::{Bench, FLIGHT, SMALL_BYTES};
use crate::figure::{Figure, Unit, cores};
use crate::product::{self, EchoCallable};
use crate::statistics::{median, micros, percentile};

const ROUNDS: usize = 15;
/// Calls of a round, one at a time.
const CALLS: usize = 300;
/// Length of a round with many calls in flight.
const TIME: Duration = Duration::from_millis(200);

pub(super) const NAMES: [&str; 6] = [
    "warm call, remote, p50",
    "warm call, remote, p99",
    "warm call, embedded, p50",
    "warm call, embedded, p99",
    "warm calls, 64 in flight, remote",
    "warm calls, 64 in flight, embedded",
];

pub(super) async fn measure(bench: &Bench) -> Result<[Figure; 6]> {
    let [p50, p99, embedded_p50, embedded_p99, many, embedded_many] = NAMES;
    let mut p50 = Figure::new(p50, Unit::Microseconds);
    let mut p99 = Figure::new(p99, Unit::Microseconds);
    let mut embedded_p50 = Figure::new(embedded_p50, Unit::Microseconds);
    let mut embedded_p99 = Figure::new(embedded_p99, Unit::Microseconds);
    let mut many = Figure::new(many, Unit::CallsPerSecond);
    let mut embedded_many = Figure::new(embedded_many, Unit::CallsPerSecond);

    let callable = product::echo_callable()?;
    let remote = &bench.remote.host;
    let embedded = Host::embedded()?;
    let call = |host: &Host| {
        let call = host.call(&callable, (vec![0; SMALL_BYTES],));
        async {
            call.await?;
            anyhow::Ok(())
        }
    };
    // The argument as it is encoded: its length and its bytes.
    let argument = spore_value::codec::encode(&vec![0u8; SMALL_BYTES])?;
    let alone = || async {
        bench.alone.run(&[], &argument)?;
        anyhow::Ok(())
    };
    // Both hosts compile; quinn finds the path's size.
    for _ in 0..CALLS {
        call(remote).await?;
        call(&embedded).await?;
        bench.echo.echo(SMALL_BYTES).await?;
        alone().await?;
    }

    for _ in 0..ROUNDS {
        let quinn = one_at_a_time(|| bench.echo.echo(SMALL_BYTES)).await?;
        let product = one_at_a_time(|| call(remote)).await?;
        let wasmtime = one_at_a_time(alone).await?;
        let product_embedded = one_at_a_time(|| call(&embedded)).await?;
        // A call waits for wasmtime after quinn, so the middles add up; a call that meets the
        // slowest of one seldom meets the slowest of the other.
        let wasmtime_p50 = median(&wasmtime);
        let at = percentile;
        p50.round(
            median(&product),
            &[("quinn", median(&quinn)), ("wasmtime", wasmtime_p50)],
        );
        p99.round(
            at(&product, 0.99),
            &[("quinn", at(&quinn, 0.99)), ("wasmtime", wasmtime_p50)],
        );
        embedded_p50.round(median(&product_embedded), &[("wasmtime", wasmtime_p50)]);
        let wasmtime_p99 = at(&wasmtime, 0.99);
        embedded_p99.round(at(&product_embedded, 0.99), &[("wasmtime", wasmtime_p99)]);

        let quinn = bench.echo.rate(SMALL_BYTES, FLIGHT, TIME).await?;
        let product = rate(remote, &callable).await?;
        let wasmtime = bench.alone.rate(&argument, cores(), TIME)?;
        let product_embedded = rate(&embedded, &callable).await?;
        // Both take turns on the same cores, and each alone keeps them busy.
        let both = 1.0 / (1.0 / quinn + 1.0 / wasmtime);
        many.round_of(product, both, &[("quinn", quinn), ("wasmtime", wasmtime)]);
        embedded_many.round(product_embedded, &[("wasmtime", wasmtime)]);
    }
    Ok([p50, p99, embedded_p50, embedded_p99, many, embedded_many])
}

async fn rate(host: &Host, callable: &EchoCallable) -> Result<f64> {
    product::rate(host, callable, SMALL_BYTES, FLIGHT, TIME).await
}

/// What each of a round's calls takes, in microseconds.
async fn one_at_a_time<F: Future<Output = Result<()>>>(call: impl Fn() -> F) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        call().await?;
        took.push(micros(began.elapsed()));
    }
    Ok(took)
}
