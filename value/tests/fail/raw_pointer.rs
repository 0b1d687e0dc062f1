use spore_value::Value;

#[derive(Value)]
struct Points {
    at: *const u8,
}

fn main() {}
