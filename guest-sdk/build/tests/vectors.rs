//! A guest that uses SIMD, from its source to a result.

mod common;
#[path = "common/host.rs"]
mod host;

use host::{Guest, Outcome};
use spore_value::codec;
use wasmi::{Config, Engine, Module};

const GUEST: &str = r#"
#![forbid(unsafe_code)]
//! Sums of products, four at a time.

use core::arch::wasm32::*;
use spore_guest::prelude::*;

/// The sum of `a * b`.
#[callable]
pub fn dot(a: [f32; 8], b: [f32; 8]) -> f32 {
    with_simd(&a, &b)
}

/// The same, each product and sum rounded once.
#[callable]
pub fn fused_dot(a: [f32; 8], b: [f32; 8]) -> f32 {
    with_relaxed_simd(&a, &b)
}

#[target_feature(enable = "simd128")]
fn with_simd(a: &[f32; 8], b: &[f32; 8]) -> f32 {
    let products = a.chunks(4).zip(b.chunks(4)).map(|(a, b)| f32x4_mul(four(a), four(b)));
    sum(products.fold(f32x4_splat(0.0), |sum, product| f32x4_add(sum, product)))
}

#[target_feature(enable = "relaxed-simd")]
fn with_relaxed_simd(a: &[f32; 8], b: &[f32; 8]) -> f32 {
    let pairs = a.chunks(4).zip(b.chunks(4));
    sum(pairs.fold(f32x4_splat(0.0), |sum, (a, b)| f32x4_relaxed_madd(four(a), four(b), sum)))
}

#[target_feature(enable = "simd128")]
fn four(lanes: &[f32]) -> v128 {
    f32x4(lanes[0], lanes[1], lanes[2], lanes[3])
}

#[target_feature(enable = "simd128")]
fn sum(lanes: v128) -> f32 {
    f32x4_extract_lane::<0>(lanes)
        + f32x4_extract_lane::<1>(lanes)
        + f32x4_extract_lane::<2>(lanes)
        + f32x4_extract_lane::<3>(lanes)
}
"#;

#[test]
fn a_guest_with_vectors_is_described_and_runs() {
    let root = common::guests("vectors", &[("vectors", "", GUEST)]);
    let built = spore_build::Guest::at(root.join("vectors"))
        .target_dir(common::target_dir())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);

    // Without this the test would prove nothing: the compiler has kept the vectors.
    let code = built.bundle.code();
    let without = Engine::new(Config::default().wasm_relaxed_simd(false));
    assert!(Module::new(&without, code).is_err());

    let arguments = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.5f32; 8]);
    let arguments = codec::encode(&arguments).expect("shallow");
    let sum = Outcome::Ready(codec::encode(&18.0f32).expect("shallow"));
    for name in ["vectors::dot", "vectors::fused_dot"] {
        assert_eq!(Guest::new(code).run(name, &[], &arguments), sum, "{name}");
    }
}
