use spore_guest::prelude::*;

#[callable]
pub async fn wait(seconds: u32) -> u32 {
    seconds
}

fn main() {}
