//! Types of values, their encoding, and the limits of decoding.
//!
//! A value is what a callable captures, takes and returns. Its type derives [`Value`], which says
//! how it is written, how it is read, and what it is made of:
//!
//! ```
//! use spore_value::{Describer, Limits, Value, codec, json};
//!
//! #[derive(Value, Debug, PartialEq)]
//! struct Position {
//!     symbol: String,
//!     weight: f64,
//! }
//!
//! // To bytes, and from bytes that need not be trusted.
//! let position = Position { symbol: "IBM".into(), weight: 0.25 };
//! let bytes = codec::encode(&position)?;
//! assert_eq!(codec::decode::<Position>(&bytes, &Limits::default())?, position);
//!
//! // To JSON, by a description of the type: a program that does not know `Position` can do this.
//! let mut types = Describer::new();
//! let ty = types.describe::<Position>();
//! let definitions = types.finish();
//! let json = json::to_json(&ty, &definitions, &bytes, &Limits::default())?;
//! assert_eq!(json.to_string(), r#"{"symbol":"IBM","weight":0.25}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The modules: [`codec`] is values to and from bytes, within [`limits`]; [`types`] is what
//! manifests hold; [`json`] needs the feature of that name. Types from elsewhere are checked with
//! [`validate`] and compared with [`difference`].
//!
//! The crate is `no_std` with `alloc` unless its features ask for more, because guests link it.
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
pub use value::keyed::{HashedKey, OrderedKey};
