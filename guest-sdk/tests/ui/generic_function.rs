use spore_guest::prelude::*;

#[callable]
pub fn first<T: Clone>(values: &[T]) -> T {
    values[0].clone()
}

#[callable]
pub fn shown(value: impl ToString) -> String {
    value.to_string()
}

fn main() {}
