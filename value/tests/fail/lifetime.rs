use std::borrow::Cow;

use spore_value::Value;

#[derive(Value)]
struct Named<'a> {
    name: Cow<'a, str>,
}

fn main() {}
