//! The smallest guest that captures something.

use spore_guest::prelude::*;

/// `x` times the captured factor.
#[callable]
pub fn scale(#[capture] factor: f64, x: f64) -> f64 {
    factor * x
}
