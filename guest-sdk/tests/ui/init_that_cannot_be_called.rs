use spore_guest::prelude::*;

#[init]
async fn later() {}

#[init]
fn of(_table: &str) -> Result<(), String> {
    Ok(())
}

#[restored(now)]
unsafe extern "C" fn foreign<T>() {}

#[restored]
static COUNT: u32 = 0;

fn main() {
    // It can be named, so that only its own mistakes are reported.
    let _ = COUNT;
}
