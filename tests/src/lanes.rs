//! Calculations in the lanes of vectors whose results processors give in ways of their own: the bits
//! of a number that is none, and whatever relaxed SIMD leaves open.

use spore_client::Bundle;

use crate::module::{Raw, record};

/// One instruction, and the only result that it may have.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// The instruction, in the text format of Wasm
    pub name: &'static str,
    /// What it is given
    pub operands: Vec<[u8; 16]>,
    /// What it gives
    pub expected: [u8; 16],
}

/// Where the operands lie in the guest's memory. They are loaded from there, so that no compiler
/// knows them.
const OPERANDS: usize = 128;

impl Lanes {
    /// A guest of which `raw::run` gives the result.
    pub fn bundle(&self) -> Bundle {
        let byte = |byte: &u8| format!("\\{byte:02x}");
        let data: String = self.operands.as_flattened().iter().map(byte).collect();
        let load = |operand| format!("(v128.load (i32.const {}))", OPERANDS + 16 * operand);
        let loads: String = (0..self.operands.len()).map(load).collect();
        // A list of sixteen bytes: their number, and then they.
        Raw {
            more: format!(r#"(data (i32.const {OPERANDS}) "{data}") (data (i32.const 64) "\10")"#),
            poll: format!(
                "(v128.store (i32.const 65) ({} {loads})) {}",
                self.name,
                record(0, 64, 17)
            ),
            ..Raw::default()
        }
        .bundle()
    }
}

/// All of them.
pub fn all() -> Vec<Lanes> {
    [nans(), relaxed_floats(), relaxed_integers()].concat()
}

fn lanes<const N: usize>(name: &'static str, operands: [[u8; 16]; N], expected: [u8; 16]) -> Lanes {
    Lanes {
        name,
        operands: operands.into(),
        expected,
    }
}

// The one form of what is no number, and others: with other bits, without a sign and with one, those
// that signal among them.
const NAN: u32 = 0x7fc0_0000;
const QUIET: u32 = 0x7fc1_2345;
const MINUS_QUIET: u32 = 0xffd6_789a;
const SIGNALS: u32 = 0x7f80_0001;
const MINUS_SIGNALS: u32 = 0xff81_2345;
const NAN_64: u64 = 0x7ff8_0000_0000_0000;
const MINUS_QUIET_64: u64 = 0xfff8_dead_beef_0001;
const SIGNALS_64: u64 = 0x7ff0_0000_0000_0001;

/// Every instruction that calculates, given what is no number or making it.
fn nans() -> Vec<Lanes> {
    let unary = [bits([QUIET, MINUS_QUIET, SIGNALS, MINUS_SIGNALS])];
    let binary = [
        bits([QUIET, MINUS_SIGNALS, 1f32.to_bits(), 2f32.to_bits()]),
        bits([1f32.to_bits(), QUIET, SIGNALS, MINUS_QUIET]),
    ];
    let unary_64 = [bits_64([MINUS_QUIET_64, SIGNALS_64])];
    let binary_64 = [
        bits_64([SIGNALS_64, 1f64.to_bits()]),
        bits_64([MINUS_QUIET_64, MINUS_QUIET_64]),
    ];
    let (four, two) = (bits([NAN; 4]), bits_64([NAN_64; 2]));
    vec![
        lanes("f32x4.ceil", unary, four),
        lanes("f32x4.floor", unary, four),
        lanes("f32x4.trunc", unary, four),
        lanes("f32x4.nearest", unary, four),
        lanes("f32x4.sqrt", unary, four),
        lanes("f32x4.add", binary, four),
        lanes("f32x4.sub", binary, four),
        lanes("f32x4.mul", binary, four),
        lanes("f32x4.div", binary, four),
        lanes("f32x4.min", binary, four),
        lanes("f32x4.max", binary, four),
        lanes("f64x2.ceil", unary_64, two),
        lanes("f64x2.floor", unary_64, two),
        lanes("f64x2.trunc", unary_64, two),
        lanes("f64x2.nearest", unary_64, two),
        lanes("f64x2.sqrt", unary_64, two),
        lanes("f64x2.add", binary_64, two),
        lanes("f64x2.sub", binary_64, two),
        lanes("f64x2.mul", binary_64, two),
        lanes("f64x2.div", binary_64, two),
        lanes("f64x2.min", binary_64, two),
        lanes("f64x2.max", binary_64, two),
        lanes("f64x2.promote_low_f32x4", unary, two),
        lanes("f32x4.demote_f64x2_zero", unary_64, bits([NAN, NAN, 0, 0])),
        // Made of numbers, where x86-64 makes one with a sign and aarch64 one without.
        lanes(
            "f32x4.div",
            [
                floats([0.0, -0.0, f32::INFINITY, 0.0]),
                floats([0.0, 0.0, f32::INFINITY, -0.0]),
            ],
            four,
        ),
        lanes("f32x4.sqrt", [floats([-1.0; 4])], four),
        lanes(
            "f64x2.sub",
            [doubles([f64::INFINITY; 2]), doubles([f64::INFINITY; 2])],
            two,
        ),
    ]
}

/// Numbers that are rounded once by who fuses and twice by who does not: 2⁻²⁴ and 2⁻⁵⁴ are lost in
/// between. The largest one, doubled, is infinite in between.
fn relaxed_floats() -> Vec<Lanes> {
    let near = 1.0 + 2f32.powi(-12);
    let near_64 = 1.0 + 2f64.powi(-27);
    let [one, none] = [1f32.to_bits(), QUIET];
    let factors = [
        bits([near.to_bits(), f32::MAX.to_bits(), SIGNALS, one]),
        bits([near.to_bits(), 2f32.to_bits(), one, one]),
    ];
    let square = 1.0 + 2f32.powi(-11);
    let [rest, most] = [2f32.powi(-24), f32::MAX];
    let added = |signs: f32| {
        bits([
            (signs * square).to_bits(),
            (signs * most).to_bits(),
            one,
            none,
        ])
    };
    let factors_64 = [doubles([near_64, f64::MAX]), doubles([near_64, 2.0])];
    let square_64 = 1.0 + 2f64.powi(-26);
    let rest_64 = 2f64.powi(-54);
    let order = [
        bits([SIGNALS, one, (-0f32).to_bits(), 0]),
        bits([one, MINUS_QUIET, 0, (-0f32).to_bits()]),
    ];
    let order_64 = [doubles([-0.0, 0.0]), doubles([0.0, -0.0])];
    let (minus, plus) = ((-0f32).to_bits(), 0);
    vec![
        lanes(
            "f32x4.relaxed_madd",
            [factors[0], factors[1], added(-1.0)],
            bits([rest.to_bits(), most.to_bits(), NAN, NAN]),
        ),
        lanes(
            "f32x4.relaxed_nmadd",
            [factors[0], factors[1], added(1.0)],
            bits([(-rest).to_bits(), (-most).to_bits(), NAN, NAN]),
        ),
        lanes(
            "f64x2.relaxed_madd",
            [
                factors_64[0],
                factors_64[1],
                doubles([-square_64, -f64::MAX]),
            ],
            doubles([rest_64, f64::MAX]),
        ),
        lanes(
            "f64x2.relaxed_nmadd",
            [factors_64[0], factors_64[1], doubles([square_64, f64::MAX])],
            doubles([-rest_64, -f64::MAX]),
        ),
        lanes("f32x4.relaxed_min", order, bits([NAN, NAN, minus, minus])),
        lanes("f32x4.relaxed_max", order, bits([NAN, NAN, plus, plus])),
        lanes("f64x2.relaxed_min", order_64, doubles([-0.0, -0.0])),
        lanes("f64x2.relaxed_max", order_64, doubles([0.0, 0.0])),
        // What no integer can be is the nearest one, and 0 where there is none.
        lanes(
            "i32x4.relaxed_trunc_f32x4_s",
            [floats([f32::NAN, 3e9, -3e9, -1.9])],
            integers([0, i32::MAX, i32::MIN, -1]),
        ),
        lanes(
            "i32x4.relaxed_trunc_f32x4_u",
            [floats([f32::NAN, 5e9, -1.0, 4e9])],
            bits([0, u32::MAX, 0, 4_000_000_000]),
        ),
        lanes(
            "i32x4.relaxed_trunc_f64x2_s_zero",
            [doubles([f64::NAN, 3e9])],
            integers([0, i32::MAX, 0, 0]),
        ),
        lanes(
            "i32x4.relaxed_trunc_f64x2_u_zero",
            [doubles([-1.0, 5e9])],
            bits([0, u32::MAX, 0, 0]),
        ),
    ]
}

fn relaxed_integers() -> Vec<Lanes> {
    // From 16 on there is no such byte. x86-64 looks at the last four bits and the first.
    let letters = *b"abcdefghijklmnop";
    let indices = [
        0, 15, 16, 17, 31, 32, 64, 127, 128, 129, 143, 240, 255, 1, 2, 3,
    ];
    let found = *b"ap\0\0\0\0\0\0\0\0\0\0\0bcd";
    // Bit by bit. x86-64 looks at the first bit of each lane.
    let mask = [
        0x00, 0x7f, 0x80, 0xff, 0x0f, 0xf0, 0x01, 0xfe, 0x55, 0xaa, 0x40, 0x3f, 0xc0, 0x10, 0x08,
        0x81,
    ];
    let choice = [[0xff; 16], [0; 16], mask];
    // As bytes with a sign: −128 times −127, where x86-64 takes one of them for 129.
    let [low, high] = [[0x80; 16], [0x81; 16]];
    vec![
        lanes("i8x16.relaxed_swizzle", [letters, indices], found),
        lanes("i8x16.relaxed_laneselect", choice, mask),
        lanes("i16x8.relaxed_laneselect", choice, mask),
        lanes("i32x4.relaxed_laneselect", choice, mask),
        lanes("i64x2.relaxed_laneselect", choice, mask),
        // −1 times −1, which has no such number.
        lanes(
            "i16x8.relaxed_q15mulr_s",
            [words([i16::MIN; 8]), words([i16::MIN; 8])],
            words([i16::MAX; 8]),
        ),
        lanes(
            "i16x8.relaxed_dot_i8x16_i7x16_s",
            [low, high],
            words([2 * 128 * 127; 8]),
        ),
        lanes(
            "i32x4.relaxed_dot_i8x16_i7x16_add_s",
            [low, high, integers([1, 0, -1, i32::MIN])],
            integers([1, 0, -1, i32::MIN].map(|added| 4 * 128 * 127 + added)),
        ),
    ]
}

fn bits(lanes: [u32; 4]) -> [u8; 16] {
    flat(lanes.map(u32::to_le_bytes).as_flattened())
}

fn bits_64(lanes: [u64; 2]) -> [u8; 16] {
    flat(lanes.map(u64::to_le_bytes).as_flattened())
}

fn floats(lanes: [f32; 4]) -> [u8; 16] {
    bits(lanes.map(f32::to_bits))
}

fn doubles(lanes: [f64; 2]) -> [u8; 16] {
    bits_64(lanes.map(f64::to_bits))
}

fn integers(lanes: [i32; 4]) -> [u8; 16] {
    flat(lanes.map(i32::to_le_bytes).as_flattened())
}

fn words(lanes: [i16; 8]) -> [u8; 16] {
    flat(lanes.map(i16::to_le_bytes).as_flattened())
}

fn flat(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().expect("the lanes fill a vector")
}
