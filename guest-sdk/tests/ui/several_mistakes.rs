use spore_guest::prelude::*;

#[callable(speed = "fast")]
async fn tangled<T>((a, b): (u32, u32), text: &mut String) -> &str {
    let _ = (a, b);
    text
}

fn main() {
    // It can be named, so that only its own mistakes are reported.
    let _ = tangled::<u32>;
}
