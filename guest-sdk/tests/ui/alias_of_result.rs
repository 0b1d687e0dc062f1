use spore_guest::prelude::*;
use std::io;

#[callable]
pub fn read() -> io::Result<String> {
    Ok(String::new())
}

fn main() {}
