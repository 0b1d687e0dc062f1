//! A guest crate compiled natively: typed handles, and functions that are called directly.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]

use std::convert::Infallible;

use spore_guest::prelude::*;
use spore_guest::value::{Definition, Field, Fields, Parameter, Shape, Type};
use spore_guest::{Grant, Handle, NoCaptures};

/// Positions
#[derive(Value)]
pub struct Book {
    /// Number of shares
    pub shares: Vec<f64>,
}

/// Types and functions named by paths that begin where the function stands.
pub mod nested {
    use spore_guest::callable;

    #[derive(spore_guest::Value)]
    /// No price
    pub struct Missing;

    /// What `book` is worth.
    ///
    ///   At these prices.
    #[callable(name = "nested::worth", directory = "prices")]
    pub fn worth(
        prices: &[f64],
        #[capture] book: &super::Book,
        market: &str,
        #[capture] rate: f64,
    ) -> Result<f64, self::Missing> {
        if market.is_empty() || prices.len() != book.shares.len() {
            return Err(Missing);
        }
        Ok(prices
            .iter()
            .zip(&book.shares)
            .map(|(price, shares)| price * shares * rate)
            .sum())
    }
}

#[callable]
/// Nothing in, nothing out.
pub fn ping() {}

/// `x` times the captured factor.
#[callable]
#[must_use]
pub const fn scale(#[capture] factor: u32, mut x: u32) -> u32 {
    x *= factor;
    x
}

/// Names that are words of the language.
#[callable]
pub fn r#match(r#type: &Option<String>) -> bool {
    r#type.is_some()
}

/// Names that an expansion could have used for itself.
#[callable]
pub fn start(captures: u8, arguments: &[u8; 2], ptr: u8) -> u8 {
    captures + arguments[0] + arguments[1] + ptr
}

macro_rules! callables {
    ($($name:ident: $ty:ty),*) => { $(
        /// Made by another macro
        #[callable]
        pub fn $name(x: &$ty) -> $ty {
            x.clone()
        }
    )* };
}

callables!(echo_flags: [bool; 2], echo_text: Option<String>);

#[test]
fn functions_can_be_called_directly() {
    ping();
    assert_eq!(scale(3, 4), 12);
    assert!(!r#match(&None));
    assert_eq!(start(1, &[2, 3], 4), 10);
    assert_eq!(echo_flags(&[true, false]), [true, false]);
    assert_eq!(echo_text(&Some("a".to_owned())).as_deref(), Some("a"));
    let book = Book {
        shares: vec![2.0, 3.0],
    };
    assert_eq!(
        nested::worth(&[1.0, 10.0], &book, "XETR", 0.5).ok(),
        Some(16.0)
    );
    progress(1, 2);
}

#[test]
fn handles_have_the_types_of_values() {
    let _: Handle<NoCaptures, (), (), Infallible> = ping::HANDLE;
    let _: Handle<u32, (u32,), u32, Infallible> = scale::HANDLE;
    let _: Handle<(Book, f64), (Vec<f64>, String), f64, nested::Missing> = nested::worth::HANDLE;
    let _: Handle<NoCaptures, (Option<String>,), bool, Infallible> = r#match::HANDLE;
    let _: Handle<NoCaptures, (u8, [u8; 2], u8), u8, Infallible> = start::HANDLE;
    let _: Handle<NoCaptures, ([bool; 2],), [bool; 2], Infallible> = echo_flags::HANDLE;
}

#[test]
fn descriptions_say_what_the_source_says() {
    let description = scale::HANDLE.description();
    assert_eq!(scale::HANDLE.name(), "native::scale");
    assert_eq!(description.name, "native::scale");
    assert_eq!(description.docs, "`x` times the captured factor.");
    assert!(description.consumes_captures);
    assert!(!description.resumable && !description.streams && description.grants.is_empty());
    assert_eq!(
        description.signature.captures,
        [parameter("factor", Type::U32)]
    );
    assert_eq!(
        description.signature.parameters,
        [parameter("x", Type::U32)]
    );
    assert_eq!(description.signature.returns, Type::U32);
    assert_eq!(description.signature.error, None);
    assert_eq!(ping::HANDLE.description().docs, "Nothing in, nothing out.");
    assert_eq!(ping::HANDLE.description().signature.returns, Type::Unit);
    assert_eq!(r#match::HANDLE.name(), "native::match");
    let parameters = r#match::HANDLE.description().signature.parameters;
    assert_eq!(parameters[0].name, "type");
    assert_eq!(
        echo_text::HANDLE.description().docs,
        "Made by another macro"
    );
}

#[test]
fn captures_and_definitions_are_described_in_order() {
    let description = nested::worth::HANDLE.description();
    assert_eq!(description.name, "native::nested::worth");
    assert_eq!(
        description.docs,
        "What `book` is worth.\n\n  At these prices."
    );
    assert_eq!(description.grants, [Grant::Directory("prices".to_owned())]);
    // `rate` is taken by value.
    assert!(description.consumes_captures);
    let signature = description.signature;
    assert_eq!(
        signature.captures,
        [
            parameter("book", Type::Named(0)),
            parameter("rate", Type::F64)
        ]
    );
    assert_eq!(
        signature.parameters,
        [
            parameter("prices", Type::List(Box::new(Type::F64))),
            parameter("market", Type::String)
        ]
    );
    assert_eq!(
        (signature.returns, signature.error),
        (Type::F64, Some(Type::Named(1)))
    );
    let shares = Field {
        name: "shares".to_owned(),
        docs: "Number of shares".to_owned(),
        ty: Type::List(Box::new(Type::F64)),
    };
    assert_eq!(
        signature.definitions,
        [
            Definition {
                name: "Book".to_owned(),
                docs: "Positions".to_owned(),
                shape: Shape::Struct(Fields::Named(vec![shares])),
            },
            Definition {
                name: "Missing".to_owned(),
                docs: "No price".to_owned(),
                shape: Shape::Struct(Fields::Unit),
            },
        ]
    );
}

fn parameter(name: &str, ty: Type) -> Parameter {
    Parameter {
        name: name.to_owned(),
        ty,
    }
}
