//! A guest that is slow to begin: its initialiser parses a table of 20 MB.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::sync::OnceLock;

use spore_guest::prelude::*;

/// What is parsed, in bytes.
const TEXT_BYTES: usize = 20_000_000;

static ROWS: OnceLock<Vec<f64>> = OnceLock::new();

/// Writes the table as text, as it would come from a file, and parses it.
#[init]
pub fn parse() {
    ROWS.get_or_init(|| {
        let mut text = String::with_capacity(TEXT_BYTES + 32);
        for row in 0_u32.. {
            if text.len() >= TEXT_BYTES {
                break;
            }
            // Text takes whatever is written to it.
            let _ = writeln!(text, "{row},{}.{:03}", row / 7, row % 1000);
        }
        let rows = text.lines().filter_map(|line| line.split_once(','));
        rows.filter_map(|(_, price)| price.parse().ok()).collect()
    });
}

/// What the table has in a row; nothing beyond its end, and nothing without a table.
#[callable]
pub fn look_up(row: u32) -> Option<f64> {
    ROWS.get()?.get(row as usize).copied()
}
