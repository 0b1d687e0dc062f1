//! Types of values, their encoding, and the limits of decoding.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "json")]
extern crate std;

pub mod types;

pub use types::{Definition, Field, Fields, Parameter, Shape, Signature, Type, Variant};
