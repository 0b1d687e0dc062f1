use spore_value::Value;

#[derive(Value)]
union Word {
    signed: i32,
    unsigned: u32,
}

fn main() {}
