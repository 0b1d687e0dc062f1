//! A guest whose runs are stopped and continued.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use spore_guest::prelude::*;

/// Goes from checkpoint to checkpoint.
#[callable]
pub async fn rounds(count: u32) -> u32 {
    for _ in 0..count {
        checkpoint().await;
    }
    count
}

/// So many strides of so many steps of a calculation, with a checkpoint after each stride.
#[callable]
pub async fn strides(count: u32, steps: u64) -> u64 {
    let mut numbers = Numbers(1);
    for stride in 1..=count {
        progress(stride.into(), count.into());
        for _ in 1..steps {
            black_box(numbers.next());
        }
        checkpoint().await;
    }
    numbers.next()
}

/// Says how far it is, round by round, after a word about it.
#[callable]
pub async fn told(count: u32) -> u32 {
    for round in 1..=count {
        println!("round {round}");
        progress(round.into(), count.into());
        sleep(Duration::from_millis(10)).await;
    }
    count
}

/// Numbers of the table that [`roams`] holds: 3 MiB.
const NUMBERS: usize = 3 << 17;

/// Those of them that it changes: however long it runs, most of the table stays as it is.
const CHANGING: usize = NUMBERS / 16;

/// Changes a little of a large table in each round, and says how far it is. What it comes to depends on all
/// of the table.
#[callable]
pub async fn roams(count: u32) -> u64 {
    let mut at = 1u64;
    let mut next = |by: u64| {
        at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(by | 1);
        at
    };
    let mut table: Vec<u64> = (0..NUMBERS as u64).map(&mut next).collect();
    for round in 1..=count {
        progress(round.into(), count.into());
        for _ in 0..4 {
            let number = next(round.into());
            table[(number >> 33) as usize % CHANGING] ^= number;
        }
        sleep(Duration::from_millis(10)).await;
    }
    table
        .iter()
        .fold(0, |sum, number| sum.rotate_left(5) ^ number)
}

/// Takes its captures over and works on them between checkpoints.
#[callable]
pub async fn sorted(#[capture] mut list: Vec<u8>, #[capture] again: &u8, more: &[u8]) -> Vec<u8> {
    list.push(*again);
    for byte in more {
        checkpoint().await;
        list.push(*byte);
        list.sort_unstable();
    }
    list
}

/// A small generator whose numbers everything here is made of.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Fills a map round by round, with nested futures.
async fn fill(name: &str, numbers: &mut Numbers, rounds: u32) -> BTreeMap<String, f64> {
    let mut map = BTreeMap::new();
    for round in 0..rounds {
        let number = numbers.next() % 7;
        for _ in 0..number {
            checkpoint().await;
        }
        *map.entry(format!("{name} {number}")).or_insert(0.0) += f64::from(round).sqrt();
    }
    map
}

/// Branches that take turns, with floats, maps and a race between them.
#[callable]
pub async fn entwined(
    #[capture] weights: &[f64],
    seed: u64,
    rounds: u32,
) -> Result<(Vec<f64>, u32), String> {
    let (mut one, mut two) = (Numbers(seed), Numbers(!seed));
    let mut early = 0;
    let (first, second, sum) = join!(
        fill("one", &mut one, rounds),
        fill("two", &mut two, rounds / 2),
        async {
            let mut sum = 0.0;
            for (index, weight) in weights.iter().enumerate() {
                early += select! {
                    () = async {
                        for _ in 0..index % 3 {
                            checkpoint().await;
                        }
                    } => 1,
                    () = checkpoint() => 0,
                };
                sum += weight.sin() / (1.0 + index as f64);
            }
            sum
        },
    );
    if first.is_empty() {
        return Err("no rounds".to_owned());
    }
    let mut all: Vec<_> = first.into_values().chain(second.into_values()).collect();
    all.push(sum);
    Ok((all, early))
}

/// The same with what the crate `futures` has for it, where only what was woken is polled.
#[callable]
pub async fn by_futures(seed: u64, rounds: u32) -> Vec<f64> {
    let mut numbers: Vec<_> = (1..40).map(|index| Numbers(seed ^ index)).collect();
    let mut runs: FuturesUnordered<_> = numbers
        .iter_mut()
        .map(|numbers| fill("map", numbers, rounds))
        .collect();
    let mut all = Vec::new();
    while let Some(map) = runs.next().await {
        all.push(map.into_values().sum());
    }
    let (mut one, mut two) = (Numbers(seed), Numbers(!seed));
    let (first, second) =
        futures_util::join!(fill("one", &mut one, rounds), fill("two", &mut two, rounds));
    all.push(first.len() as f64 - second.len() as f64);
    let mut left = Box::pin(rounds_of(rounds).fuse());
    let mut right = Box::pin(rounds_of(rounds / 2).fuse());
    all.push(futures_util::select_biased! {
        rounds = left => f64::from(rounds),
        rounds = right => -f64::from(rounds),
    });
    all
}

/// Sums up numbers, one round in 10 ms. Gives the sums, and what it draws at random in the end.
#[callable]
pub async fn paced(seed: u64, count: u32) -> (Vec<f64>, u64) {
    let mut numbers = Numbers(seed);
    let mut sums = BTreeMap::new();
    for round in 1..=count {
        let number = numbers.next();
        let part = f64::from(round).sqrt() / (number % 13 + 1) as f64;
        *sums.entry(number % 61).or_insert(0.0) += part;
        progress(round.into(), count.into());
        sleep(Duration::from_millis(10)).await;
    }
    let drawn = RandomState::new().hash_one(count);
    (sums.into_values().collect(), drawn)
}

async fn rounds_of(count: u32) -> u32 {
    rounds(count).await
}

/// Sleeps so many milliseconds each at once. Returns the order in which they ended, and after how
/// many milliseconds each.
#[callable]
pub async fn naps(milliseconds: &[u64]) -> Vec<(u32, u64)> {
    let begin = Instant::now();
    let mut naps: FuturesUnordered<_> = (0..)
        .zip(milliseconds)
        .map(|(index, nap)| async move {
            sleep(Duration::from_millis(*nap)).await;
            index
        })
        .collect();
    let mut ended = Vec::new();
    while let Some(index) = naps.next().await {
        ended.push((index, begin.elapsed().as_millis() as u64));
    }
    ended
}

/// Races a nap against a number of checkpoints. Returns whether the nap was over first.
#[callable]
pub async fn nap_or_rounds(milliseconds: u64, count: u32) -> bool {
    select! {
        () = sleep(Duration::from_millis(milliseconds)) => true,
        _ = rounds(count) => false,
    }
}

/// Two branches of which one waits only for the other.
#[callable]
pub async fn handed_over(number: u32) -> u32 {
    let (given, waiting) = (Cell::new(None), RefCell::new(None::<Waker>));
    let taken = poll_fn(|context| match given.take() {
        Some(number) => Poll::Ready(number),
        None => {
            waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        }
    });
    let (taken, ()) = join!(taken, async {
        given.set(Some(number));
        if let Some(waker) = waiting.take() {
            waker.wake();
        }
    });
    taken
}

/// Awaits what never comes.
#[callable]
pub async fn stuck() {
    checkpoint().await;
    pending().await
}

/// Tells by `progress` that it is dropped.
struct Dropped(u64);

impl Drop for Dropped {
    fn drop(&mut self) {
        progress(self.0, 0);
    }
}

/// Never ends, and has things to give back.
#[callable]
pub async fn endless(first: u64) {
    let _first = Dropped(first);
    loop {
        let _second = Dropped(first + 1);
        checkpoint().await;
    }
}

/// The prime numbers from `first` on, with a checkpoint for each number.
#[callable]
pub async fn primes(first: u64, items: Emitter<u64>) {
    for n in first.. {
        checkpoint().await;
        if n > 1 && (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0) {
            items.emit(n).await;
        }
    }
}

/// A walk of so many steps, and where it is after each: every step depends on all before.
#[callable]
pub async fn walk(seed: u64, steps: u32, items: Emitter<f64>) {
    let mut numbers = Numbers(seed);
    let mut visits = BTreeMap::new();
    let mut place = 0.0;
    for _ in 0..steps {
        let number = numbers.next() % 97;
        let times: &mut u32 = visits.entry(number).or_insert(0);
        *times += 1;
        place += (number as f64 - 48.0) / f64::from(*times);
        items.emit(place).await;
    }
}

/// Two branches that emit `count` items each, and meet.
#[callable]
pub async fn pairs(#[capture] names: &[String], count: u32, items: &Emitter<(String, u32)>) {
    let branch = async |name: &String| {
        for n in 0..count {
            items.emit((name.clone(), n)).await;
        }
    };
    join!(branch(&names[0]), branch(&names[1]));
}

/// Emits the halves of a number until it is odd, which is an error.
#[callable]
pub async fn halves(mut number: u32, items: Emitter<u32>) -> Result<(), String> {
    while number.is_multiple_of(2) && number > 0 {
        number /= 2;
        items.emit(number).await;
    }
    match number {
        0 => Ok(()),
        odd => Err(format!("{odd} is odd")),
    }
}

/// Multiples of a captured number: an iterator that borrows from it.
#[callable]
pub fn multiples(#[capture] factor: &u64, first: u64, count: u32) -> impl Iterator<Item = u64> {
    (first..).map(move |n| n * factor).take(count as usize)
}

/// The digits of a number in `text`, if there are only digits in it.
#[callable]
pub fn digits(text: &str) -> Result<impl Iterator<Item = u32>, String> {
    match text.chars().find(|c| !c.is_ascii_digit()) {
        Some(c) => Err(format!("{c:?} is no digit")),
        None => Ok(text.chars().filter_map(|c| c.to_digit(10))),
    }
}

static TABLE: OnceLock<Vec<u32>> = OnceLock::new();
static RESTORED: AtomicU32 = AtomicU32::new(0);

/// Makes the table that `looked_up` looks into.
#[init]
pub fn make_table() {
    TABLE.get_or_init(|| (0..100).map(|n| n * n).collect());
    print!("a table");
}

/// Counts how often the instance was restored.
#[restored]
fn count_restored() {
    RESTORED.fetch_add(1, Relaxed);
}

/// What the table has at `index`, if there is a table, and how often the instance was restored.
#[callable]
pub fn looked_up(index: u32) -> (Option<u32>, u32) {
    let table = TABLE.get().and_then(|table| table.get(index as usize));
    (table.copied(), RESTORED.load(Relaxed))
}

/// The same behind a checkpoint, at which it was restored perhaps.
#[callable]
pub async fn looked_up_later(index: u32, milliseconds: u64) -> (Option<u32>, u32) {
    sleep(Duration::from_millis(milliseconds)).await;
    looked_up(index)
}

/// Where the stack is: the address of something on it.
#[callable]
pub fn stack() -> u32 {
    let here = black_box(0u8);
    (&raw const here).addr() as u32
}
