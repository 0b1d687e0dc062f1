use spore_value::Value;

#[derive(Value)]
struct Fields {
    name: String,
    #[serde(rename = "name")]
    title: String,
}

#[derive(Value)]
enum Variants {
    #[serde(rename = "B")]
    A,
    B,
}

#[derive(Value)]
struct Unnamed(#[serde(rename = "first")] u8);

fn main() {}
