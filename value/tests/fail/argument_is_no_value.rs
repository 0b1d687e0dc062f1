use std::sync::Mutex;

fn main() {
    let _ = spore_value::codec::encode(&Mutex::new(1));
}
