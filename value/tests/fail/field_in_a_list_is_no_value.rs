use spore_value::Value;

struct Plain;

#[derive(Value)]
struct Holder {
    list: Vec<Plain>,
}

#[derive(Value)]
enum Choice {
    One(Option<Plain>),
    Two(u8, [Plain; 2]),
}

fn main() {}
