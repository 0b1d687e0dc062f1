use spore_value::Value;

#[derive(Value)]
struct Rule {
    apply: fn(f64) -> f64,
}

fn main() {}
