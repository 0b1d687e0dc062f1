use spore_guest::prelude::*;

#[callable]
pub fn squares(first: u64, items: Emitter<u64>) {
    let _ = items.emit(first);
}

fn main() {}
