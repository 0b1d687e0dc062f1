use spore_guest::prelude::*;

// The compiler reports these two by itself.
#[callable]
pub fn length(_text: str, _shapes: [u32]) {}

#[callable]
pub fn draw(_shape: &dyn ToString) {}

fn main() {}
