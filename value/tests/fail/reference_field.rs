use spore_value::Value;

#[derive(Value)]
struct Borrows {
    name: &'static str,
    numbers: Option<&'static [f64]>,
    tree: &'static Box<u8>,
}

fn main() {}
