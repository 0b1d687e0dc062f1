//! Random modules.

use wasmi::{F32, F64, Val};

use crate::common::module;

/// A function, and what it is called with.
pub(crate) type Call = (String, Vec<Val>);

/// Types of numbers, by their places in the tables below.
const TYPES: [&str; 4] = ["i32", "i64", "f32", "f64"];

const OF_TWO_INTEGERS: &[&str] = &[
    "add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr", "div_s",
    "rem_u",
];
const OF_TWO_REALS: &[&str] = &["add", "sub", "mul", "div", "min", "max", "copysign"];
const OF_AN_INTEGER: &[&str] = &["clz", "ctz", "popcnt", "extend8_s", "extend16_s"];
const OF_A_REAL: &[&str] = &["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"];

/// What makes a number of each type of one of another.
const CONVERSIONS: [[(&str, usize); 4]; 4] = [
    [
        ("i32.wrap_i64", 1),
        ("i64.eqz", 1),
        ("i32.trunc_sat_f32_s", 2),
        ("i32.trunc_sat_f64_u", 3),
    ],
    [
        ("i64.extend_i32_s", 0),
        ("i64.extend_i32_u", 0),
        ("i64.trunc_sat_f64_s", 3),
        ("i64.reinterpret_f64", 3),
    ],
    [
        ("f32.convert_i32_u", 0),
        ("f32.convert_i64_s", 1),
        ("f32.demote_f64", 3),
        ("f32.reinterpret_i32", 0),
    ],
    [
        ("f64.convert_i32_s", 0),
        ("f64.convert_i64_u", 1),
        ("f64.promote_f32", 2),
        ("f64.reinterpret_i64", 1),
    ],
];

/// Numbers at which something happens, as the text format has them.
const CONSTANTS: [[&str; 6]; 4] = [
    ["0", "1", "-1", "-2147483648", "65535", "1234567891"],
    ["0", "1", "-1", "-9223372036854775808", "4294967296", "77"],
    ["0", "-0", "1.5", "-inf", "nan:0x200001", "0x1p-140"],
    ["0", "-0", "-2.25", "inf", "-nan:0x4000000000001", "1e300"],
];

/// Functions of a random module.
const FUNCTIONS: usize = 6;

/// Writes random modules. Functions call those before them and no others, so that every call ends.
pub(crate) struct Author {
    state: u64,
    /// Whether functions change tables. Then instances have no images.
    changes_tables: bool,
    /// Parameters and result of the functions so far.
    functions: Vec<(Vec<usize>, usize)>,
}

impl Author {
    pub(crate) fn new(seed: u64, changes_tables: bool) -> Author {
        let mut author = Author {
            state: seed | 1,
            changes_tables,
            functions: Vec::new(),
        };
        // Seeds that differ in few bits begin alike.
        for _ in 0..20 {
            author.below(2);
        }
        author
    }

    fn below(&mut self, count: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) as usize % count
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number of this type, in a function that has these parameters.
    fn number(&mut self, ty: usize, locals: &[usize], depth: u32) -> String {
        let Some(depth) = depth.checked_sub(1) else {
            return self.leaf(ty, locals);
        };
        let of = TYPES[ty];
        match self.below(12) {
            0..4 => {
                let two = if ty < 2 {
                    OF_TWO_INTEGERS
                } else {
                    OF_TWO_REALS
                };
                let two = self.one(two);
                let a = self.number(ty, locals, depth);
                let b = self.number(ty, locals, depth);
                format!("({of}.{two} {a} {b})")
            }
            4 => {
                let one = if ty < 2 { OF_AN_INTEGER } else { OF_A_REAL };
                let one = self.one(one);
                let a = self.number(ty, locals, depth);
                format!("({of}.{one} {a})")
            }
            5..7 => {
                let (conversion, from) = self.one(&CONVERSIONS[ty]);
                let a = self.number(from, locals, depth);
                format!("({conversion} {a})")
            }
            7 => {
                let address = self.address(locals, depth);
                format!("({of}.load {address})")
            }
            8 => {
                let a = self.number(ty, locals, depth);
                let b = self.number(ty, locals, depth);
                let condition = self.condition(locals, depth);
                format!("(select {a} {b} {condition})")
            }
            9 => {
                let condition = self.condition(locals, depth);
                let a = self.number(ty, locals, depth);
                let b = self.number(ty, locals, depth);
                format!("(if (result {of}) {condition} (then {a}) (else {b}))")
            }
            10 => self.call(ty, locals, depth),
            _ => self.leaf(ty, locals),
        }
    }

    fn leaf(&mut self, ty: usize, locals: &[usize]) -> String {
        let of = TYPES[ty];
        let own: Vec<usize> = (0..locals.len())
            .filter(|local| locals[*local] == ty)
            .collect();
        match self.below(4) {
            0 if !own.is_empty() => format!("(local.get {})", self.one(&own)),
            1 if ty == 0 => "(memory.size)".to_owned(),
            2 => format!("({of}.const {})", self.one(&CONSTANTS[ty])),
            _ => format!("(global.get {})", self.global(ty)),
        }
    }

    /// The name of a global of this type. One is hidden.
    fn global(&mut self, ty: usize) -> String {
        let count = if ty == 1 { 3 } else { 2 };
        format!("${}_{}", TYPES[ty], self.below(count))
    }

    fn condition(&mut self, locals: &[usize], depth: u32) -> String {
        let ty = self.below(4);
        let compare = if ty < 2 {
            ["eq", "lt_s", "ge_u"]
        } else {
            ["ne", "lt", "ge"]
        };
        let compare = self.one(&compare);
        let a = self.number(ty, locals, depth);
        let b = self.number(ty, locals, depth);
        format!("({}.{compare} {a} {b})", TYPES[ty])
    }

    /// An address, now and then one that the memory only has once it has grown.
    fn address(&mut self, locals: &[usize], depth: u32) -> String {
        let mask = if self.below(12) == 0 {
            0x3_fff8
        } else {
            0x1_fff8
        };
        let a = self.number(0, locals, depth);
        format!("(i32.and {a} (i32.const {mask}))")
    }

    /// A call of a function before this one, by itself or through a table.
    fn call(&mut self, ty: usize, locals: &[usize], depth: u32) -> String {
        let able: Vec<usize> = (0..self.functions.len())
            .filter(|function| self.functions[*function].1 == ty)
            .collect();
        if able.is_empty() {
            return self.leaf(ty, locals);
        }
        let callee = self.one(&able);
        let parameters = self.functions[callee].0.clone();
        let arguments: Vec<String> = parameters
            .iter()
            .map(|ty| self.number(*ty, locals, depth))
            .collect();
        let arguments = arguments.join(" ");
        let (table, place) = match self.below(8) {
            0..3 => ("$one", callee),
            3..5 => ("$two", FUNCTIONS - 1 - callee),
            // Perhaps one of another type, which traps.
            5 => ("$one", self.below(self.functions.len())),
            _ => return format!("(call $f{callee} {arguments})"),
        };
        format!("(call_indirect {table} (type $t{callee}) {arguments} (i32.const {place}))")
    }

    fn statement(&mut self, locals: &[usize], depth: u32) -> String {
        let Some(depth) = depth.checked_sub(1) else {
            return "(nop)".to_owned();
        };
        let ty = self.below(4);
        match self.below(12) {
            0..4 => {
                let global = self.global(ty);
                let a = self.number(ty, locals, depth);
                format!("(global.set {global} {a})")
            }
            4..7 => {
                let address = self.address(locals, depth);
                let a = self.number(ty, locals, depth);
                format!("({}.store {address} {a})", TYPES[ty])
            }
            7 if !locals.is_empty() => {
                let local = self.below(locals.len());
                let a = self.number(locals[local], locals, depth);
                format!("(local.set {local} {a})")
            }
            8 => {
                let condition = self.condition(locals, depth);
                let statement = self.statement(locals, depth);
                format!("(if {condition} (then {statement}))")
            }
            9 => "(drop (memory.grow (i32.const 1)))".to_owned(),
            10 => {
                let address = self.address(locals, depth);
                format!("(memory.init $later {address} (i32.const 0) (i32.const 5))")
            }
            11 if self.changes_tables && !self.functions.is_empty() => {
                // A function before that one, so that calls through the table still end.
                let place = self.below(self.functions.len());
                let with = self.below(place + 1);
                let place = FUNCTIONS - 1 - place;
                format!("(table.set $two (i32.const {place}) (table.get $one (i32.const {with})))")
            }
            _ => {
                let a = self.number(ty, locals, depth);
                format!("(drop {a})")
            }
        }
    }

    fn statements(&mut self, locals: &[usize], count: usize) -> String {
        (0..count).map(|_| self.statement(locals, 3)).collect()
    }

    /// The module, and calls of its functions.
    pub(crate) fn module(mut self) -> (Vec<u8>, Vec<Call>) {
        let (mut types, mut functions) = (String::new(), String::new());
        for index in 0..FUNCTIONS {
            let parameters: Vec<usize> = (0..self.below(4)).map(|_| self.below(4)).collect();
            let result = self.below(4);
            let count = self.below(4);
            let statements = self.statements(&parameters, count);
            let number = self.number(result, &parameters, 4);
            let names: Vec<&str> = parameters.iter().map(|ty| TYPES[*ty]).collect();
            types += &format!(
                "(type $t{index} (func (param {}) (result {})))",
                names.join(" "),
                TYPES[result]
            );
            functions += &format!(
                r#"(func $f{index} (export "f{index}") (type $t{index}) {statements} {number})"#
            );
            self.functions.push((parameters, result));
        }
        let start = self.statements(&[], 2);
        let mut globals = String::new();
        for index in 0..8 {
            let (ty, constant) = (TYPES[index / 2], self.one(&CONSTANTS[index / 2]));
            globals += &format!(
                r#"(global ${ty}_{} (export "g{index}") (mut {ty}) ({ty}.const {constant}))"#,
                index % 2
            );
        }
        let place = 8 * self.below(1000);
        let held = match self.changes_tables {
            true => "(global (mut funcref) (ref.func $f0))",
            false => "",
        };
        let names: Vec<String> = (0..FUNCTIONS).map(|index| format!("$f{index}")).collect();
        let in_order = names.join(" ");
        let reversed: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        let reversed = reversed.join(" ");
        let text = format!(
            r#"(module {types}
              (memory (export "memory") 2 4)
              (table $one {FUNCTIONS} funcref)
              (table $two {FUNCTIONS} funcref)
              {globals}
              (global (export "g8") i32 (i32.const 3))
              (global $i64_2 (mut i64) (i64.const 5))
              {held}
              (elem (table $one) (i32.const 0) func {in_order})
              (elem (table $two) (i32.const 0) func {reversed})
              (data (i32.const {place}) "some data")
              (data $later "later")
              {functions}
              (func $start {start})
              (start $start))"#
        );
        let calls = (0..4 * FUNCTIONS).map(|call| {
            let function = call % FUNCTIONS;
            let parameters = self.functions[function].0.clone();
            let arguments: Vec<Val> = parameters.iter().map(|ty| self.argument(*ty)).collect();
            (format!("f{function}"), arguments)
        });
        let calls: Vec<Call> = calls.collect();
        (module(&text), calls)
    }

    fn argument(&mut self, ty: usize) -> Val {
        let high = self.below(1 << 31) as u64;
        let bits = (high << 33) | self.below(1 << 31) as u64;
        match ty {
            0 => Val::I32((bits as u32).cast_signed()),
            1 => Val::I64(bits.cast_signed()),
            2 => Val::F32(F32::from_bits((bits >> 20) as u32)),
            _ => Val::F64(F64::from_bits(bits)),
        }
    }
}
