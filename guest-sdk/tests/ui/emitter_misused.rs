use spore_guest::prelude::*;

#[callable]
pub async fn two(_numbers: Emitter<u64>, _names: &Emitter<String>) {}

#[callable]
pub async fn captured(#[capture] _numbers: Emitter<u64>) {}

#[callable]
pub async fn of_references(_names: Emitter<&'static str>) {}

#[callable]
pub async fn within(_names: Option<Emitter<u64>>) {}

fn main() {}
