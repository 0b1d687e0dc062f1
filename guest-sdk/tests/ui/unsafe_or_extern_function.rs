use spore_guest::prelude::*;

#[callable]
pub unsafe fn trusted(x: u32) -> u32 {
    x
}

#[callable]
pub extern "C" fn foreign(x: u32) -> u32 {
    x
}

fn main() {}
