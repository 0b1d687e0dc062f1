//! Types of values, their encoding, and the limits of decoding.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;
// The derive names this crate by its name, here too.
extern crate self as spore_value;

pub mod codec;
mod compare;
mod describe;
#[cfg(feature = "json")]
pub mod json;
pub mod limits;
mod render;
pub mod types;
mod validate;
mod value;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use codec::{CODEC, DecodeError, EncodeError};
pub use compare::{Difference, difference, signature_difference};
pub use describe::Describer;
pub use limits::Limits;
pub use render::render;
pub use spore_value_derive::Value;
pub use types::{Definition, Field, Fields, Parameter, Shape, Signature, Type, Variant};
pub use validate::{
    DEFINITIONS_MAX, DOCS_BYTES_MAX, NAME_BYTES_MAX, PARAMETERS_MAX, TYPE_DEPTH_MAX, TYPES_MAX,
    TypeError, validate,
};
pub use value::Value;
