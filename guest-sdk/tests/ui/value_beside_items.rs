use spore_guest::prelude::*;

#[callable]
pub async fn count(first: u64, items: Emitter<u64>) -> u64 {
    items.emit(first).await;
    1
}

#[callable]
pub async fn checked(first: u64, items: Emitter<u64>) -> Result<u64, String> {
    items.emit(first).await;
    Ok(1)
}

fn main() {}
