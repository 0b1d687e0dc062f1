use spore_value::Value;

#[derive(Value)]
#[value(name = "Other")]
struct Named {
    #[value(crate = "spore_value")]
    field: u8,
}

fn main() {}
