//! A guest crate compiled natively: typed handles, and functions that are called directly.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use spore_guest::native::{Items, block_on};
use spore_guest::prelude::*;
use spore_guest::value::{Definition, Field, Fields, Parameter, Shape, Type};
use spore_guest::{Description, Grant, Handle, NoCaptures, Resumable, Streaming};

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

/// Uses its capture up.
#[callable]
pub fn joined(#[capture] mut words: String, more: &str) -> String {
    words.push_str(more);
    words
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
    assert_eq!(joined("a".to_owned(), "b"), "ab");
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
    // `factor` is copied, and `words` is not.
    assert!(!description.consumes_captures);
    assert!(joined::HANDLE.description().consumes_captures);
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
    // `rate` is copied.
    assert!(!description.consumes_captures);
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

/// Two branches that take turns.
#[callable]
pub async fn turns(#[capture] first: &str, count: u32) -> Result<Vec<String>, u8> {
    let told = std::cell::RefCell::new(Vec::new());
    let branch = async |name: &str| {
        for round in 0..count {
            told.borrow_mut().push(format!("{name}{round}"));
            checkpoint().await;
        }
        name.len()
    };
    let (one, two) = join!(branch(first), branch("b"));
    if one + two == 2 {
        Ok(told.take())
    } else {
        Err(3)
    }
}

/// Counts down.
#[callable]
pub async fn down(from: u32, items: &Emitter<u32>) -> Result<(), String> {
    for n in (0..from).rev() {
        items.emit(n).await;
    }
    Err("zero".to_owned())
}

/// Counts up.
#[callable]
pub fn up(#[capture] to: u32, from: &u32) -> Result<impl Iterator<Item = u32>, String> {
    if *from > to {
        return Err("beyond".to_owned());
    }
    Ok(*from..to)
}

#[init]
fn nothing_to_prepare() {}

#[restored]
fn nothing_to_mend() {}

#[test]
fn async_functions_run_on_any_executor() {
    assert_eq!(
        block_on(turns("a", 2)),
        Ok(["a0", "b0", "a1", "b1"].map(str::to_owned).to_vec())
    );
    assert_eq!(block_on(turns("aa", 0)), Err(3));

    let mut down = Items::of(|items| async move { down(3, &items).await });
    assert_eq!(down.next(), Some(2));
    assert_eq!(down.by_ref().collect::<Vec<_>>(), [1, 0]);
    assert_eq!(down.next(), None);
    assert_eq!(down.output(), Some(Err("zero".to_owned())));
    let unfinished = Items::of(|items| async move { items.emit(1).await });
    assert_eq!(unfinished.output(), None);

    let up: Vec<_> = up(5, &3).expect("it is not beyond").collect();
    assert_eq!(up, [3, 4]);
}

#[test]
fn sleeps_take_their_time_side_by_side() {
    let nap = Duration::from_millis(40);
    let begin = Instant::now();
    let (first, second) = block_on(async {
        let first = async {
            sleep(nap).await;
            begin.elapsed()
        };
        let second = async {
            sleep(2 * nap).await;
            begin.elapsed()
        };
        join!(first, second)
    });
    assert!(first >= nap && second >= 2 * nap);
    assert!(first < second);
    // Ready at once, and never.
    let winner = block_on(async {
        select! {
            () = sleep(Duration::MAX) => 1,
            () = sleep(Duration::ZERO) => 2,
            () = checkpoint() => 3,
        }
    });
    assert_eq!(winner, 2);
}

#[test]
fn who_lost_a_race_is_gone_when_the_arm_runs() {
    let mut count = 0;
    let total = block_on(async {
        select! {
            (one, two) = async { (1, 2) } => {
                // It was borrowed by the other.
                count += 10;
                one + two
            },
            never = async {
                loop {
                    count += 1;
                    checkpoint().await;
                }
            } => never,
        }
    });
    assert_eq!((total, count), (3, 10));
}

#[test]
fn handles_say_how_a_callable_runs() {
    let _: Handle<String, (u32,), Vec<String>, u8, Resumable> = turns::HANDLE;
    let _: Handle<NoCaptures, (u32,), u32, String, Streaming> = down::HANDLE;
    let _: Handle<u32, (u32,), u32, String, Streaming> = up::HANDLE;
    let kind = |description: Description| (description.resumable, description.streams);
    assert_eq!(kind(turns::HANDLE.description()), (true, false));
    assert_eq!(kind(down::HANDLE.description()), (true, true));
    let up = up::HANDLE.description();
    assert!(!up.consumes_captures);
    assert_eq!(up.signature.returns, Type::U32);
    assert_eq!(up.signature.error, Some(Type::String));
    assert_eq!(kind(up), (true, true));
}
