//! The `#[callable]` macro. Guests use it as `spore_guest::callable`.
//!
//! `input` reads the item and collects what is wrong with it, `types` turns the types of
//! parameters into types of values, `expand` writes the exports and the typed handle.

#![forbid(unsafe_code)]

mod expand;
mod input;
mod options;
mod types;

use proc_macro::TokenStream;

/// Exports a function for shipping.
///
/// ```ignore
/// use spore_guest::prelude::*;
///
/// /// The loss that `book` exceeds once in twenty scenarios.
/// #[callable]
/// pub fn value_at_risk(#[capture] book: &Book, scenarios: u32, seed: u64) -> f64 {
///     book.simulate(scenarios, seed)
/// }
/// ```
///
/// The function is `pub`, free and not generic, and stands in a module rather than inside another
/// function. It stays callable as it is. Its documentation comment travels in the bundle's
/// manifest.
///
/// # Parameters
///
/// Each is a `Value`, by value or by reference: `&T` receives a
/// `T`, `&str` a `String`, `&[T]` a `Vec<T>`. Those marked `#[capture]` are bound before the
/// callable ships; their order among themselves is the order of the captures. A function that
/// takes any capture by value *consumes* its captures: each run starts from freshly bound ones.
/// There are at most 256 captures and 256 other parameters.
///
/// # Return types
///
/// A value, nothing, or `Result<T, E>` with both types written out and both of them values: its
/// error reaches the caller as the guest's own, typed. A macro sees only the words, so that an
/// alias of `Result` with one type is refused.
///
/// # Options
///
/// - `#[callable(name = "risk::value_at_risk")]` takes the place of the function's name. The
///   crate's name always comes before it: the callable is `CRATE::risk::value_at_risk`.
/// - `#[callable(directory = "data")]` asks the host for the directory of that name, which the
///   guest sees read-only as `/data`. It may be repeated.
///
/// # What it expands to
///
/// Compiled for Wasm: the exports `spore1:bind/NAME`, `spore1:start/NAME` and
/// `spore1:describe/NAME` of the ABI. Elsewhere: a module with the function's name, which holds
/// `HANDLE`, a `spore_guest::Handle` with the types of captures, parameters and results. So a
/// guest crate may not have a module of that name of its own beside the function.
///
/// A guest may depend on a guest: its module has the callables of both, as long as it names the
/// other crate anywhere, if only by `use other as _;`.
///
/// A crate with `#![forbid(unsafe_code)]` may use it: the attributes of exports, which that lint
/// counts as unsafe, are the macro's.
#[proc_macro_attribute]
pub fn callable(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::callable(options.into(), item.into()).into()
}
