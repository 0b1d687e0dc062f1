// Each is reported, and the uses of the type are not errors on top.
use spore_value::{Value, codec};

#[derive(Value)]
struct Wrong {
    name: &'static str,
    #[serde(skip)]
    rule: fn(),
}

#[derive(Value)]
struct Right {
    wrong: Vec<Wrong>,
}

fn main() {
    let _ = codec::encode(&Right { wrong: Vec::new() });
}
