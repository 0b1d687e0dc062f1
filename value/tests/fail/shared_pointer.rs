use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use spore_value::Value;

#[derive(Value)]
struct Shared {
    counter: Rc<RefCell<u32>>,
    total: Arc<Mutex<f64>>,
    cell: Option<RefCell<u8>>,
}

fn main() {}
