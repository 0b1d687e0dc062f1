use spore_guest::prelude::*;

#[callable]
pub fn sort(values: &mut Vec<u32>) {
    values.sort();
}

#[callable]
pub fn count(#[capture] total: &mut u32, by: u32) {
    *total += by;
}

fn main() {}
