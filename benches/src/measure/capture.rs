//! Calls of a callable that has captured much.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::Bench;
use crate::alone::Alone;
use crate::figure::{Figure, Unit};
use crate::product;
use crate::statistics::{median, millis};

const ROUNDS: usize = 5;
const CAPTURE_BYTES: usize = 64 << 20;

/// Calls that are measured once captures are decoded.
const FEW: usize = 4;
/// Longest that it may take to decode them once for all.
const PREPARE_MAX: Duration = Duration::from_secs(20);

pub(super) const NAMES: [&str; 3] = [
    "capture of 64 MiB, first call",
    "capture of 64 MiB, second call",
    "capture of 64 MiB, once decoded",
];

pub(super) async fn measure(bench: &Bench) -> Result<[Figure; 3]> {
    let mut figures = NAMES.map(|name| Figure::new(name, Unit::Milliseconds));
    let length = product::bundle().callable(bench_guest::length::HANDLE)?;
    let host = &bench.remote.host;
    let alone = Alone::new(
        &bench.engine,
        &product::code()?,
        bench_guest::length::HANDLE.name(),
    )?;
    // Its code is there before anything is captured.
    host.ship(&product::bundle()).await?;
    for round in 0..ROUNDS {
        let captured = noise(round as u64);
        let encoded = Bytes::from(spore_value::codec::encode(&captured)?);
        let argument = spore_value::codec::encode(&(round as u64,))?;

        let transfer = millis(bench.echo.transfer(encoded.clone()).await?);
        let began = Instant::now();
        std::hint::black_box(blake3::hash(&encoded));
        let hash = millis(began.elapsed());
        let began = Instant::now();
        let passed = alone.pass(&encoded)?;
        let copy = millis(began.elapsed());
        drop(passed);
        let began = Instant::now();
        let returned = alone.run(&encoded, &argument)?;
        let run = millis(began.elapsed());
        drop(returned);

        // Encoding and hashing of what is captured belong to neither call.
        let bound = length.capture(&captured)?;
        let mut took = [0.0; 2];
        for took in &mut took {
            let began = Instant::now();
            let answer = host.call(&bound, (round as u64,)).await?;
            *took = millis(began.elapsed());
            ensure!(
                answer == (CAPTURE_BYTES + round) as u64,
                "the capture came as {answer}"
            );
        }
        // The host thinks of it after a few calls, and is done some time later.
        let began = Instant::now();
        loop {
            let call = Instant::now();
            host.call(&bound, (round as u64,)).await?;
            if millis(call.elapsed()) < took[1] / 10.0 {
                break;
            }
            ensure!(
                began.elapsed() < PREPARE_MAX,
                "the captures are not decoded once"
            );
        }
        let mut decoded = Vec::new();
        for _ in 0..FEW {
            let began = Instant::now();
            host.call(&bound, (round as u64,)).await?;
            decoded.push(millis(began.elapsed()));
        }
        let [first, second, once] = &mut figures;
        once.round(median(&decoded), &[("wasmtime", run)]);
        first.round(
            took[0],
            &[("quinn", transfer), ("BLAKE3", hash), ("copy", copy)],
        );
        second.round(took[1], &[("wasmtime", run)]);
    }
    Ok(figures)
}

/// Bytes that do not shrink, and that no other round has.
fn noise(round: u64) -> Vec<u8> {
    let mut bytes = vec![0; CAPTURE_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&round.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
