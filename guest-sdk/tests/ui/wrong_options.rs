use spore_guest::prelude::*;

#[callable(nam = "a")]
pub fn unknown() {}

#[callable(name)]
pub fn without_value() {}

#[callable(name = "not a name", directory = "../etc", directory = "data", directory = "data")]
pub fn values() {}

#[callable]
pub fn captures(#[capture(mutable)] _a: u32, #[capture] #[capture] _b: u32, #[cfg(test)] _c: u32) {}

fn main() {}
