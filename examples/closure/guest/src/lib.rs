//! The smallest guest that captures something.
#![forbid(unsafe_code)]

use spore_guest::prelude::*;

/// `x` times the captured factor.
#[callable]
pub fn scale(#[capture] factor: f64, x: f64) -> f64 {
    factor * x
}
