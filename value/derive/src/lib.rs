//! The derive macro of `spore-value`, which documents and re-exports it.
#![forbid(unsafe_code)]

mod attributes;
mod expand;
mod input;
mod krate;
mod types;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum a value that can travel, and implements serde's `Serialize` and
/// `Deserialize` for it.
///
/// Everything that it is made of must be a value too. Documentation comments on the type, its
/// fields and its variants become part of the type that manifests hold.
///
/// Attributes:
/// - `#[serde(rename = "…")]` on a field or a variant gives it another name outside of Rust. Other
///   attributes of serde are errors, because they would change what the bytes mean.
/// - `#[value(crate = "…")]` on the type gives the path to `spore-value` where it is neither a
///   dependency itself nor reached through `spore-guest` or `spore-client`.
#[proc_macro_derive(Value, attributes(value, serde))]
pub fn derive_value(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    expand::derive(&item).into()
}
