//! What a portfolio may lose in a month: computed in this process, and on the host that is named.
//!
//! ```text
//! risk-example [HOST]
//! ```
#![forbid(unsafe_code)]

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use risk::{Portfolio, Prices, Report};
use spore_client::{Host, embedded_bundle};

/// Prices from 2000 to 2010; see the notice beside the file.
const STOCKS: &str = include_str!("../../data/stocks.csv");
/// Simulated months.
const PATHS: u32 = 1_000_000;
/// Where the simulation's random numbers begin.
const SEED: u64 = 2010;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let history = Prices::parse(STOCKS)?.history()?;
    let book = Portfolio::example();

    let began = Instant::now();
    let native = risk::value_at_risk(&book, &history, PATHS, SEED)?;
    println!("native    {:>8.1?}", began.elapsed());

    let callable = embedded_bundle!("risk")
        .callable(risk::value_at_risk::HANDLE)?
        .capture(&(book, history))?;

    let embedded = run("embedded", &Host::embedded()?, &callable).await?;
    ensure!(
        bits(&embedded)? == bits(&native)?,
        "embedded and native differ:\n{embedded:?}\n{native:?}"
    );

    if let Some(name) = std::env::args().nth(1) {
        let host = Host::connect(&name)
            .await
            .with_context(|| format!("cannot use {name}"))?;
        let remote = run("remote", &host, &callable).await?;
        ensure!(
            bits(&remote)? == bits(&native)?,
            "remote and native differ:\n{remote:?}\n{native:?}"
        );
        println!("the same bits in all three");
    }

    show(&native);
    Ok(())
}

/// Calls once and says where the time went.
async fn run<C>(place: &str, host: &Host, callable: &C) -> Result<Report>
where
    C: spore_client::Callee<Arguments = (u32, u64), Output = Report, Error = risk::RiskError>,
{
    let began = Instant::now();
    let done = host.call(callable, (PATHS, SEED)).completed().await;
    let report = done.result?;
    let timing = done.timing.context("a call that returned has run")?;
    let ms = |ns: u64| ns as f64 / 1e6;
    println!(
        "{place:<9} {:>8.1?}  transfer {:.1} ms, compile {:.1} ms, queue {:.1} ms, run {:.1} ms",
        began.elapsed(),
        ms(timing.transfer_ns),
        ms(timing.compile_ns),
        ms(timing.queue_ns),
        ms(timing.run_ns),
    );
    Ok(report)
}

/// A report as a bundle would hold it, in which no two numbers are the same: `0.0 == -0.0`, and no NaN equals
/// another.
fn bits(report: &Report) -> Result<Vec<u8>> {
    Ok(spore_client::value::codec::encode(report)?)
}

fn show(report: &Report) {
    let rows = [
        ("history", report.months, &report.historical),
        ("simulation", report.paths, &report.simulated),
    ];
    println!(
        "\na portfolio worth {:.0}; what it may lose in a month:\n",
        report.worth
    );
    println!(
        "{:<11} {:>9} {:>11} {:>11} {:>11} {:>11}",
        "", "months", "VaR 95 %", "ES 95 %", "VaR 99 %", "ES 99 %"
    );
    for (name, months, measures) in rows {
        let tails = [&measures.at_95, &measures.at_99];
        print!("{name:<11} {months:>9}");
        for tail in tails {
            print!(
                " {:>11.2} {:>11.2}",
                tail.value_at_risk, tail.expected_shortfall
            );
        }
        println!();
    }
}
