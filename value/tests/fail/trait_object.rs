use spore_value::Value;

#[derive(Value)]
struct Shapes {
    all: Vec<Box<dyn std::fmt::Debug>>,
}

fn main() {}
