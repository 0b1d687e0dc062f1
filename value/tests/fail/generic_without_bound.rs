use spore_value::{EncodeError, Value, codec};

#[derive(Value)]
struct Pair<T>(T, T);

fn encode<T>(pair: &Pair<T>) -> Result<Vec<u8>, EncodeError> {
    codec::encode(pair)
}

fn main() {}
