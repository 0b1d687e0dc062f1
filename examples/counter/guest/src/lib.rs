//! A guest that counts: what it has in memory stays from one call of a session to the next.
#![forbid(unsafe_code)]

use std::sync::Mutex;

use spore_guest::prelude::*;

static NUMBERS: Mutex<Vec<i64>> = Mutex::new(Vec::new());

/// Counts a number in, and gives the sum so far.
#[callable]
pub fn add(n: i64) -> i64 {
    let mut numbers = NUMBERS.lock().expect("calls come one by one");
    numbers.push(n);
    numbers.iter().sum()
}

/// Every number that was counted in, in order.
#[callable]
pub fn history() -> Vec<i64> {
    NUMBERS.lock().expect("calls come one by one").clone()
}
