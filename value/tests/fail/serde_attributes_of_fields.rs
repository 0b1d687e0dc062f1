use spore_value::Value;

#[derive(Value)]
struct Inner {
    a: u8,
}

#[derive(Value)]
struct Outer {
    #[serde(flatten)]
    inner: Inner,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    option: Option<u8>,
    #[serde(skip)]
    cache: u8,
    #[serde(with = "somewhere")]
    number: u64,
    #[serde(rename(serialize = "a", deserialize = "b"))]
    twice: u8,
    #[serde(no_such_attribute)]
    unknown: u8,
}

fn main() {}
