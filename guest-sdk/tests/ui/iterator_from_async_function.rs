use spore_guest::prelude::*;

#[callable]
pub async fn squares(first: u64) -> impl Iterator<Item = u64> {
    (first..).map(|n| n * n)
}

fn main() {}
