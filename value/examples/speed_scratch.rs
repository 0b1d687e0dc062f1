use spore_value::{codec, Limits, Value};
use std::time::Instant;
#[derive(Value, Clone, PartialEq, Debug)]
struct P { symbol: String, weight: f64, n: u32 }
fn t<T: Value>(name: &str, v: &T) {
    let a = Instant::now();
    let b = codec::encode(v).unwrap();
    let e = a.elapsed();
    let a = Instant::now();
    let x: T = codec::decode(&b, &Limits::default()).unwrap();
    let d = a.elapsed();
    std::hint::black_box(&x);
    println!("{name}: {} MiB encode {e:?} decode {d:?}", b.len() >> 20);
}
fn main() {
    t("bytes", &vec![7u8; 64 << 20]);
    t("f64", &vec![1.5f64; 8 << 20]);
    t("u32", &(0..8u32 << 20).collect::<Vec<_>>());
    t("struct", &vec![P { symbol: "IBM".into(), weight: 1.0, n: 300 }; 1 << 20]);
    t("map", &(0..1u64 << 20).map(|i| (i, i)).collect::<std::collections::HashMap<_, _>>());
}
