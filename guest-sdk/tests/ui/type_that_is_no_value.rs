use spore_guest::prelude::*;

pub struct Book;

#[callable]
pub fn worth(book: &Book) -> f64 {
    let _ = book;
    0.0
}

fn main() {}
