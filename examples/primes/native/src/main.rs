//! Takes some primes from a job, saves it, and takes the next ones from where it was opened again:
//! in this process, or on the hosts that are named.
//!
//! ```text
//! primes-example [HOST [OTHER]]
//! ```
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use spore_client::{Bundle, Host, JobNews, Watch, embedded_bundle};

/// Primes that are taken before the job is stopped.
const FIRST: usize = 20;
/// Primes in the end. A host makes some that nobody has taken yet, and never as many as these.
const ALL: usize = 500;
/// Time within which the job is to reach a checkpoint.
const WITHIN: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (one, other) = hosts().await?;
    let primes = embedded_bundle!("primes").callable(primes::primes::HANDLE)?;
    let mut taken = Vec::new();

    let job = one.start(&primes, ()).await?;
    let mut watch = job.watch().await?;
    take(&mut watch, FIRST, &mut taken).await?;
    println!("the first {FIRST}: {}", in_words(&taken));

    job.pause(WITHIN).await?;
    let saved = job.save(WITHIN).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("primes.spore");
    std::fs::write(&path, saved.inner().encode())
        .with_context(|| format!("cannot write {}", path.display()))?;
    // The image goes on after the last prime that was made. Those that nobody has taken yet are
    // still where they were made.
    let image = saved.inner().image().context("a saved job has an image")?;
    let made = image.index().run.context("it holds a run")?.items;
    take(&mut watch, usize::try_from(made)?, &mut taken).await?;
    drop(watch);
    job.cancel().await?;
    job.acknowledge().await?;
    println!("saved to a file, and ended");

    let saved = Bundle::open(&path)?;
    let job = other.open_job_of(primes::primes::HANDLE, &saved).await?;
    let mut watch = job.watch().await?;
    take(&mut watch, ALL, &mut taken).await?;
    drop(watch);
    job.cancel().await?;
    job.acknowledge().await?;
    println!(
        "continued from the file, the last of {ALL}: {}",
        in_words(&taken[ALL - 5..])
    );

    ensure!(
        taken == sieved(taken[ALL - 1]),
        "repeated or left out: {taken:?}"
    );
    println!("none was repeated, and none left out");
    one.close().await;
    other.close().await;
    Ok(())
}

/// Where the primes are made first, and where then.
async fn hosts() -> Result<(Host, Host)> {
    let mut names = std::env::args().skip(1);
    let Some(one) = names.next() else {
        return Ok((Host::embedded()?, Host::embedded()?));
    };
    let one = Host::connect(&one).await?;
    let other = match names.next() {
        Some(other) => Host::connect(&other).await?,
        None => one.clone(),
    };
    Ok((one, other))
}

/// Takes the next primes until there are so many.
async fn take(
    watch: &mut Watch<(), Infallible, u64>,
    until: usize,
    taken: &mut Vec<u64>,
) -> Result<()> {
    while taken.len() < until {
        let news = watch.next().await.context("there is always a next prime")?;
        if let JobNews::Item { sequence, item } = news? {
            let expected = taken.len() as u64;
            ensure!(sequence == expected, "number {sequence} came as {expected}");
            taken.push(item);
        }
    }
    Ok(())
}

/// All primes up to this one, by the sieve of Eratosthenes.
fn sieved(last: u64) -> Vec<u64> {
    let mut left: Vec<u64> = (2..=last).collect();
    let mut primes = Vec::new();
    while let Some(prime) = left.first().copied() {
        primes.push(prime);
        left.retain(|n| n % prime != 0);
    }
    primes
}

fn in_words(primes: &[u64]) -> String {
    let words: Vec<String> = primes.iter().map(u64::to_string).collect();
    words.join(" ")
}
