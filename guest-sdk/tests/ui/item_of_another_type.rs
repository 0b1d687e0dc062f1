use spore_guest::prelude::*;

#[callable]
pub async fn squares(items: Emitter<u64>) {
    items.emit("four").await;
}

fn main() {}
