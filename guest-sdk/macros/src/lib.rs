//! The macros `#[callable]`, `#[init]` and `#[restored]`. Guests use them as those of `spore_guest`.
//!
//! `input` reads the item and collects what is wrong with it, `types` turns the types of
//! parameters into types of values, `expand` writes the exports and the typed handle. `hook` is the
//! other two macros.

#![forbid(unsafe_code)]

mod expand;
mod hook;
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
/// takes any capture by value *consumes* its captures: each run starts from freshly bound ones, and
/// no session is opened of them. Numbers, `bool` and `char` are copied, and consume nothing.
/// There are at most 256 captures and 256 other parameters.
///
/// # Return types
///
/// A value, nothing, or `Result<T, E>` with both types written out and both of them values: its
/// error reaches the caller as the guest's own, typed. A macro sees only the words, so that an
/// alias of `Result` with one type is refused.
///
/// # Resumable callables
///
/// An `async fn` is a resumable callable: its run can be stopped at each `checkpoint().await` and
/// while it sleeps, saved, and continued elsewhere. Captures and parameters are as those of any
/// other.
///
/// # Streams
///
/// A callable emits items in one of two ways, and in both its run can be stopped between items:
///
/// - A function that is not async returns `impl Iterator<Item = T>`, or
///   `Result<impl Iterator<Item = T>, E>` where it may fail before the first item.
/// - An `async fn` has one parameter `Emitter<T>`, by value or by reference, which its caller does
///   not pass, and returns nothing or `Result<(), E>`.
///
/// ```ignore
/// #[callable]
/// pub async fn primes(from: u64, items: Emitter<u64>) {
///     for n in (from..).filter(|n| is_prime(*n)) {
///         items.emit(n).await;
///     }
/// }
/// ```
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

/// Runs a function once, and lets every instance begin with what it left in memory.
///
/// ```ignore
/// static PRICES: OnceLock<Table> = OnceLock::new();
///
/// #[init]
/// pub fn parse_prices() {
///     PRICES.get_or_init(|| Table::parse(include_str!("prices.csv")));
/// }
/// ```
///
/// A host calls it before it binds anything, in each instance or, to save the time, in one whose
/// memory all others begin with. It sees what any call sees without grants; what it draws at random
/// is the same in all of them. One that panics refuses the guest. A guest has one, the crates that it
/// depends on included.
///
/// The function takes and returns nothing. A native program that wants what it does calls it.
#[proc_macro_attribute]
pub fn init(options: TokenStream, item: TokenStream) -> TokenStream {
    hook::expand("init", options.into(), item.into()).into()
}

/// Runs a function when an instance goes on from a saved image, before anything else: to reseed a
/// generator, or to forget what held only where the image was taken.
///
/// It is not called for an instance that begins with what [`macro@init`] left. A guest has one, the
/// crates that it depends on included. What it changes is for the guest to answer for: without it, a
/// run that was saved and continued gives the same result as one that was not.
///
/// The function takes and returns nothing.
#[proc_macro_attribute]
pub fn restored(options: TokenStream, item: TokenStream) -> TokenStream {
    hook::expand("restored", options.into(), item.into()).into()
}
