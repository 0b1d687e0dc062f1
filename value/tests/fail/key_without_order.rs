use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use spore_value::Value;

#[derive(Value)]
struct Own;

#[derive(Value)]
struct Holder {
    ordered: BTreeMap<f64, u8>,
    inside: BTreeMap<(u8, f32), u8>,
    of_own: BTreeSet<Own>,
    hashed: HashMap<f32, u8>,
    hashed_own: HashSet<Own>,
}

#[derive(Value)]
struct Generic<K> {
    set: BTreeSet<K>,
}

fn main() {}
