use spore_value::Value;

struct Plain;

#[derive(Value)]
struct Holder {
    plain: Plain,
}

fn main() {}
