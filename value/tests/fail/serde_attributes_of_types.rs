use spore_value::Value;

#[derive(Value)]
#[serde(untagged)]
enum Untagged {
    A(u8),
}

#[derive(Value)]
#[serde(tag = "kind", content = "of", rename_all = "snake_case")]
enum Tagged {
    A(u8),
    #[serde(other)]
    Other,
}

#[derive(Value)]
#[serde(rename = "Renamed", transparent, deny_unknown_fields, from = "u8")]
struct Wrapper(u8);

fn main() {}
