//! Each mistake with `#[callable]` gives one message, where the mistake is.

#[test]
fn mistakes_are_reported_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
