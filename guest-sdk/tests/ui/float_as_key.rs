use std::collections::BTreeMap;

use spore_guest::prelude::*;

#[callable]
pub fn total(counts: &BTreeMap<f64, u32>) -> u32 {
    counts.values().sum()
}

fn main() {}
