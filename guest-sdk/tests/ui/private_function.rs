use spore_guest::prelude::*;

#[callable]
fn hidden(x: u32) -> u32 {
    x
}

#[callable]
pub(crate) fn half_hidden(x: u32) -> u32 {
    x
}

fn main() {
    // The functions are there all the same, so this is no second mistake.
    hidden(half_hidden(1));
}
