use spore_guest::prelude::*;

#[callable]
pub fn größe() -> u32 {
    1
}

fn main() {}
