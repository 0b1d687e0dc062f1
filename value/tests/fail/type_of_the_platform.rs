use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use spore_value::Value;

#[derive(Value)]
struct Event {
    started: Instant,
    ended: SystemTime,
    log: PathBuf,
}

fn main() {}
