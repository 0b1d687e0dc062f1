use spore_guest::prelude::*;

#[callable]
pub fn length(text: str, shapes: [u32]) {}

#[callable]
pub fn draw(shape: &dyn ToString) {}

fn main() {}
