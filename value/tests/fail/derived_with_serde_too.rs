// `Value` brings serde's traits along.
use spore_value::Value;

#[derive(Value, serde::Serialize)]
struct Twice {
    a: u8,
}

fn main() {}
