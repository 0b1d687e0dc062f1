use spore_guest::prelude::*;
use std::borrow::Cow;

#[callable]
pub fn lengths(words: Vec<&str>, title: Cow<'_, str>, word: Option<&'static str>) -> u32 {
    (words.len() + title.len() + word.map_or(0, str::len)) as u32
}

fn main() {}
