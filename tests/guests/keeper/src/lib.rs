//! A guest that remembers from one call to the next.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use spore_guest::prelude::*;

static WORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static BYTES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static OPEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Remembers a word, and says how many there are.
#[callable]
pub fn remember(word: String) -> u32 {
    println!("remembering {word}");
    let mut words = WORDS.lock().expect("calls come one by one");
    words.push(word);
    words.len() as u32
}

/// Every word that was remembered, in order.
#[callable]
pub fn recall() -> Vec<String> {
    WORDS.lock().expect("calls come one by one").clone()
}

/// The words between captured ones.
#[callable]
pub fn recall_between(#[capture] before: &str, #[capture] after: &str) -> Vec<String> {
    let words = WORDS.lock().expect("calls come one by one");
    let before = std::iter::once(before.to_owned());
    before
        .chain(words.iter().cloned())
        .chain([after.to_owned()])
        .collect()
}

/// Takes its captures over, so that nothing of them stays.
#[callable]
pub fn consume(#[capture] word: String) -> String {
    word
}

/// Fills so many bytes, each block of them differently.
#[callable]
pub fn fill(bytes: u32) {
    let block = |n: u32| (n / 4096).wrapping_mul(2_654_435_761).to_le_bytes();
    let filled = (0..bytes).map(|n| block(n)[n as usize % 4]);
    *BYTES.lock().expect("calls come one by one") = filled.collect();
}

/// Changes one of the bytes.
#[callable]
pub fn poke(at: u32, value: u8) {
    BYTES.lock().expect("calls come one by one")[at as usize] = value;
}

/// A sum over the bytes that tells their places.
#[callable]
pub fn check() -> u64 {
    let bytes = BYTES.lock().expect("calls come one by one");
    bytes.iter().fold(7, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}

/// A random number.
#[callable]
pub fn draw() -> u64 {
    RandomState::new().hash_one(0)
}

/// Remembers a word after so many milliseconds.
#[callable]
pub fn remember_after(ms: u32, word: String) {
    println!("waiting");
    std::thread::sleep(Duration::from_millis(ms.into()));
    WORDS.lock().expect("calls come one by one").push(word);
}

/// Half remembers a word, and panics.
#[callable]
pub fn panic_after(word: String) {
    WORDS.lock().expect("calls come one by one").push(word);
    panic!("half done");
}

/// Remembers a word, and never ends.
#[callable]
pub fn spin_after(word: String) {
    println!("spinning");
    WORDS.lock().expect("calls come one by one").push(word);
    loop {
        std::hint::black_box(());
    }
}

/// Opens a granted file and keeps it open.
#[callable(directory = "data")]
pub fn hold_open(name: &str) -> bool {
    let file = File::open(format!("/data/{name}"));
    let opened = file.is_ok();
    OPEN.lock()
        .expect("calls come one by one")
        .extend(file.ok());
    opened
}

/// Emits numbers while it has a granted file open, so that there is no image of it.
#[callable(directory = "data")]
pub async fn emit_while_open(name: &str, count: u32, numbers: Emitter<u32>) {
    let _open = File::open(format!("/data/{name}")).expect("it is granted");
    for number in 0..count {
        numbers.emit(number).await;
    }
}

/// Closes what is open.
#[callable]
pub fn close_all() {
    OPEN.lock().expect("calls come one by one").clear();
}

/// Reads a granted file.
#[callable(directory = "data")]
pub fn read(name: &str) -> Result<String, String> {
    std::fs::read_to_string(format!("/data/{name}")).map_err(|error| error.kind().to_string())
}
