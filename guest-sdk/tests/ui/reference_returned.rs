use spore_guest::prelude::*;

#[callable]
pub fn name() -> &'static str {
    "spore"
}

#[callable]
pub fn first(text: &str) -> Result<&str, String> {
    Ok(text)
}

fn main() {}
