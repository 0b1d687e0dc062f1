use spore_guest::prelude::*;

#[callable]
pub struct Settings {
    pub depth: u32,
}

fn main() {
    let _ = Settings { depth: 1 };
}
