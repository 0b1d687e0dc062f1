use spore_guest::prelude::*;

#[callable]
pub fn squares(first: u64) -> impl Iterator {
    (first..).map(|n| n * n)
}

#[callable]
pub fn words(text: &str) -> Result<impl Iterator + '_, String> {
    Ok(text.split(' '))
}

#[callable]
pub async fn numbers(_items: Emitter) {}

fn main() {}
