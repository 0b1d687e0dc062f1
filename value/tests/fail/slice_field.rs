use spore_value::Value;

#[derive(Value)]
struct Tail {
    bytes: [u8],
}

fn main() {}
