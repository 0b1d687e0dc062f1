//! The smallest guest, from its source to a result.

mod common;
#[path = "common/host.rs"]
mod host;

use host::{Guest, Outcome};
use spore_value::codec;

#[test]
fn the_smallest_guest_is_built_and_runs() {
    let built = spore_build::Guest::at(common::workspace().join("examples/closure/guest"))
        .target_dir(common::target_dir())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(built.name, "closure");
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);

    // A program that was compiled with the guest crate and the bundle agree on its callables.
    let described = spore_build::describe(built.bundle.code()).expect("it is what build did");
    assert_eq!(described, [closure::scale::HANDLE.description()]);

    let encode = |value: f64| codec::encode(&value).expect("shallow");
    let outcome = Guest::new(built.bundle.code()).run(
        closure::scale::HANDLE.name(),
        &encode(2.0),
        &encode(3.0),
    );
    assert_eq!(outcome, Outcome::Ready(encode(closure::scale(2.0, 3.0))));
}
