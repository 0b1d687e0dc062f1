//! A guest that does what a guest should not: each callable is one way to misbehave.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use spore_guest::prelude::*;

/// Never ends, and never gives up the processor by itself.
#[callable]
pub fn spin() -> u64 {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns).wrapping_add(1);
        if turns == u64::MAX {
            return turns;
        }
    }
}

/// Says that it runs, and then never ends.
#[callable]
pub fn announce_and_spin() -> u64 {
    println!("spinning");
    spin()
}

/// Sleeps, as far as the host lets it.
#[callable]
pub fn sleep(milliseconds: u64) -> u64 {
    println!("sleeping");
    std::thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

/// Takes memory until there is no more, and uses all of it.
#[callable]
pub fn hoard() -> u64 {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        blocks.push(vec![0xa5; 1 << 20]);
        if black_box(&blocks).len() == usize::MAX {
            return blocks.len() as u64;
        }
    }
}

/// Takes so many bytes at once, and says how many it got.
#[callable]
pub fn take(bytes: u32) -> u64 {
    black_box(vec![1u8; bytes as usize]).len() as u64
}

/// Takes so many bytes at once, and sleeps on them.
#[callable]
pub fn hold(bytes: u32, milliseconds: u64) -> u64 {
    let held = black_box(vec![1u8; bytes as usize]);
    sleep(milliseconds);
    black_box(held).len() as u64
}

/// Sleeps with captures, whatever they are.
#[callable]
pub fn sleep_with(#[capture] bytes: &[u8], milliseconds: u64) -> u64 {
    sleep(milliseconds);
    bytes.len() as u64
}

/// Calls itself without an end.
#[callable]
pub fn recurse() -> u64 {
    deeper(0)
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deeper(level: u64) -> u64 {
    black_box(level) + deeper(black_box(level) + 1)
}

/// Prints without an end.
#[callable]
pub fn chatter() -> u64 {
    let line = "all work and no play\n".repeat(200);
    loop {
        print!("{line}");
        if black_box(&line).is_empty() {
            return 0;
        }
    }
}

/// Prints so many bytes, half of them to each stream, and then returns.
#[callable]
pub fn print(bytes: u32) -> u32 {
    let half = "x".repeat(bytes as usize / 2);
    print!("{half}");
    eprint!("{half}");
    bytes
}

/// Reports progress many times.
#[callable]
pub fn report(times: u64) -> u64 {
    for done in 1..=times {
        progress(done, times);
    }
    times
}

/// Panics with this message.
#[callable]
pub fn panic_with(message: String) -> u32 {
    panic!("{message}")
}

/// Reads past the end of a list.
#[callable]
pub fn index(list: Vec<u32>, at: u32) -> u32 {
    list[at as usize]
}

/// Reaches code that cannot be reached, three calls deep.
#[callable]
pub fn trap() -> u32 {
    outer_of_the_trap(1)
}

#[inline(never)]
fn outer_of_the_trap(n: u32) -> u32 {
    black_box(inner_of_the_trap(black_box(n)))
}

#[inline(never)]
fn inner_of_the_trap(n: u32) -> u32 {
    if black_box(n) > 0 {
        unreachable_instruction()
    }
    n
}

#[cfg(target_arch = "wasm32")]
fn unreachable_instruction() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn unreachable_instruction() -> ! {
    std::process::abort()
}

/// Ends the process, as it thinks.
#[callable]
pub fn exit(status: u8) -> u32 {
    std::process::exit(status.into())
}

/// Returns so many bytes.
#[callable]
pub fn return_bytes(bytes: u32) -> Vec<u8> {
    vec![7; bytes as usize]
}

/// Spins after so much output as the host keeps, one piece and one progress at a time.
#[callable]
pub fn stream(lines: u32) -> u32 {
    for line in 0..lines {
        println!("line {line}");
        progress(line.into(), lines.into());
    }
    lines
}

/// Opens a file of the granted directory so many times, and reads the last.
#[callable(directory = "data")]
pub fn open_many(name: &str, times: u32) -> Result<(u32, String), String> {
    use std::io::Read;
    let open = || std::fs::File::open(format!("/data/{name}"));
    let opened: Result<Vec<_>, _> = (0..times).map(|_| open()).collect();
    let mut opened = opened.map_err(|error| error.kind().to_string())?;
    let mut text = String::new();
    if let Some(file) = opened.last_mut() {
        file.read_to_string(&mut text)
            .map_err(|error| error.kind().to_string())?;
    }
    Ok((opened.len() as u32, text))
}

/// Asks for a directory that hosts have under this name, if any.
#[callable(directory = "secrets")]
pub fn read_secrets() -> Result<String, String> {
    std::fs::read_to_string("/secrets/key").map_err(|error| error.kind().to_string())
}
