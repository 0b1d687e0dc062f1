use spore_guest::prelude::*;

#[callable]
pub fn distance((x, y): (f64, f64), _: u32) -> f64 {
    x.hypot(y)
}

fn main() {}
