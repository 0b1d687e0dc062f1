//! Code that was rewritten, in a runtime that knows nothing of Spore: what a host adds for itself changes
//! nothing that the code computes, and a module that was baked goes on as the instance would have.

mod author;
mod common;

use std::sync::Arc;

use author::{Author, Call};
use common::module;
use proptest::prelude::*;
use spore_bundle::image::{BLOCK_BYTES, Block, Global, GlobalValue, Image, Index, PAGE_BYTES};
use spore_bundle::module::{
    Interior, PRIVATE_GLOBAL, PRIVATE_PREFIX, PRIVATE_START, bake, instrument,
};
use spore_bundle::{BlockId, CodeId, Interface, ModuleLimits, sections};
use wasmi::Val;

/// Random modules that each property is tried with.
const MODULES: u32 = 200;

/// What a call gives, or what it traps with.
type Outcome = Result<Vec<GlobalValue>, String>;

/// What everybody sees of an instance: its memory, and the globals that are exported as `g` and their
/// index.
#[derive(PartialEq)]
struct Seen {
    memory: Vec<u8>,
    globals: Vec<Option<GlobalValue>>,
}

/// An instance in a plain runtime.
struct Plain {
    store: wasmi::Store<()>,
    instance: wasmi::Instance,
}

impl Plain {
    /// After the start function, if there is one; or what that traps with.
    fn new(code: &[u8]) -> Result<Plain, String> {
        let engine = wasmi::Engine::default();
        let module = wasmi::Module::new(&engine, code).expect("valid");
        let mut store = wasmi::Store::new(&engine, ());
        let linker = wasmi::Linker::new(&engine);
        match linker.instantiate_and_start(&mut store, &module) {
            Ok(instance) => Ok(Plain { store, instance }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Of code as a host compiles it, after the start function that a host runs itself.
    fn instrumented(code: &[u8]) -> Result<Plain, String> {
        let mut plain = Plain::new(&rewritten(code))?;
        if plain
            .instance
            .get_func(&plain.store, PRIVATE_START)
            .is_some()
        {
            plain.call(PRIVATE_START, &[])?;
        }
        Ok(plain)
    }

    fn call(&mut self, name: &str, arguments: &[Val]) -> Outcome {
        let function = self.instance.get_func(&self.store, name).expect(name);
        let ty = function.ty(&self.store);
        let mut results: Vec<Val> = ty.results().iter().map(|ty| Val::default(*ty)).collect();
        match function.call(&mut self.store, arguments, &mut results) {
            Ok(()) => Ok(results.iter().map(number).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn memory(&self) -> &[u8] {
        let memory = self.instance.get_memory(&self.store, "memory");
        memory.expect("exported").data(&self.store)
    }

    fn global(&self, name: &str) -> Option<GlobalValue> {
        let global = self.instance.get_global(&self.store, name)?;
        Some(number(&global.get(&self.store)))
    }

    fn seen(&self) -> Seen {
        let globals = (0..16).map(|index| self.global(&format!("g{index}")));
        Seen {
            memory: self.memory().to_vec(),
            globals: globals.collect(),
        }
    }
}

/// A number, bit by bit.
fn number(value: &Val) -> GlobalValue {
    match *value {
        Val::I32(value) => GlobalValue::I32(value.cast_unsigned()),
        Val::I64(value) => GlobalValue::I64(value.cast_unsigned()),
        Val::F32(value) => GlobalValue::F32(value.to_bits()),
        Val::F64(value) => GlobalValue::F64(value.to_bits()),
        Val::V128(value) => GlobalValue::V128(value.as_u128()),
        Val::FuncRef(_) | Val::ExternRef(_) => panic!("a reference is no number"),
    }
}

fn interior(code: &[u8]) -> Interior {
    Interior::read(code).expect("valid")
}

fn rewritten(code: &[u8]) -> Vec<u8> {
    instrument(code, &interior(code)).expect("it has no private names")
}

/// Whether code was only given exports, and its start function left to the host.
fn assert_only_added(code: &[u8], rewritten: &[u8]) {
    let kept = |code: &[u8]| -> Vec<(String, Vec<u8>)> {
        let sections = sections::sections(code).expect("a module");
        let others = sections
            .iter()
            .filter(|section| !["export", "start"].contains(&section.title()));
        others
            .map(|section| {
                let contents = code[section.contents.clone()].to_vec();
                (section.title().to_owned(), contents)
            })
            .collect()
    };
    assert!(kept(code) == kept(rewritten), "another section has changed");
    let exports = |code: &[u8]| {
        let interface = Interface::read(code, &ModuleLimits::NONE).expect("valid");
        interface.exports().to_vec()
    };
    let (before, after) = (exports(code), exports(rewritten));
    let (own, added) = after.split_at(before.len());
    assert_eq!(own, before);
    assert!(added.iter().all(|it| it.name.starts_with(PRIVATE_PREFIX)));
}

/// Whether code gives the same with what a host adds as without, call by call and in the end.
fn assert_computes_the_same(code: &[u8], calls: &[Call]) {
    assert_only_added(code, &rewritten(code));
    let (mut plain, mut instrumented) = match (Plain::new(code), Plain::instrumented(code)) {
        (Ok(plain), Ok(instrumented)) => (plain, instrumented),
        // The start function traps, whoever runs it.
        (plain, instrumented) => {
            assert!(plain.is_err() && instrumented.is_err());
            assert_eq!(plain.err(), instrumented.err());
            return;
        }
    };
    assert!(plain.seen() == instrumented.seen(), "after the start");
    for (name, arguments) in calls {
        let expected = plain.call(name, arguments);
        let found = instrumented.call(name, arguments);
        assert_eq!(found, expected, "{name} {arguments:?}");
        assert!(plain.seen() == instrumented.seen(), "after {name}");
    }
    for (index, _) in interior(code).mutable_globals() {
        let shown = instrumented.global(&format!("{PRIVATE_GLOBAL}{index}"));
        assert!(shown.is_some(), "global {index} is not shown");
        if let Some(own) = plain.global(&format!("g{index}")) {
            assert_eq!(shown, Some(own), "global {index}");
        }
    }
}

/// The image of an instance, taken as a host takes it: what differs from one in which nothing has run.
fn image(code: &[u8], now: &Plain) -> Image {
    let fresh = Plain::new(&rewritten(code)).expect("nothing runs in it");
    let block = |memory: &[u8], number: usize| -> Block {
        let bytes = memory.chunks_exact(BLOCK_BYTES).nth(number);
        bytes.map_or([0; BLOCK_BYTES], |bytes| bytes.try_into().expect("a block"))
    };
    let (before, after) = (fresh.memory(), now.memory());
    let blocks = (0..after.len() / BLOCK_BYTES).filter_map(|number| {
        let found = block(after, number);
        let changed = found != block(before, number);
        changed.then(|| (number as u32, BlockId::of(&found), Arc::new(found)))
    });
    let globals = interior(code);
    let globals = globals.mutable_globals().filter_map(|(index, _)| {
        let name = format!("{PRIVATE_GLOBAL}{index}");
        let value = now.global(&name).expect("shown");
        (fresh.global(&name) != Some(value)).then_some(Global { index, value })
    });
    let index = Index {
        memory_pages: (after.len() as u64 / PAGE_BYTES) as u32,
        globals: globals.collect(),
        // What is no state of the module's own has no place in a plain one.
        clock_ns: 7,
        directories: vec!["data".to_owned()],
        ..Index::of(CodeId::of(code))
    };
    Image::new(index, blocks.collect()).expect("sound")
}

/// Everything that may hold state or run by itself, several of each where that is valid.
const EVERYTHING: &str = r#"
(module
  (type $word (func (result i32)))
  (memory (export "memory") 1 3)
  (table $one (export "one") 3 5 funcref)
  (table $two 3 funcref)
  (global $i32 (export "g0") (mut i32) (i32.const -5))
  (global $fixed (export "g1") i32 (i32.const 40))
  (global $i64 (export "g2") (mut i64) (i64.const 0x8000000000000000))
  (global $f32 (export "g3") (mut f32) (f32.const -0))
  (global $f64 (export "g4") (mut f64) (f64.const 0x1p-1060))
  (global $nan (export "g5") (mut f32) (f32.const nan:0x200001))
  (global $v128 (export "g6") (mut v128) (v128.const i64x2 -1 2))
  (global $hidden (mut i64) (i64.const 7))
  (global $held (mut funcref) (ref.func $nine))
  (elem (table $one) (i32.const 0) func $seven $eight)
  (elem (table $two) (i32.const 0) func $eight)
  (elem $more funcref (ref.func $nine) (ref.func $seven))
  (data (i32.const 16) "first")
  (data $later "later")
  (func $seven (type $word) (i32.const 7))
  (func $eight (type $word) (i32.const 8))
  (func $nine (type $word) (i32.const 9))
  (func $start
    (memory.init $later (i32.const 32) (i32.const 0) (i32.const 5))
    (data.drop $later)
    (table.init $two $more (i32.const 1) (i32.const 0) (i32.const 2))
    (elem.drop $more)
    (global.set $hidden (i64.const 70))
    (call $turn))
  (func $turn (export "turn")
    (global.set $i32
      (i32.add (i32.mul (global.get $i32) (i32.const 31)) (i32.load (i32.const 32))))
    (global.set $i64 (i64.rotl (i64.add (global.get $i64) (global.get $hidden)) (i64.const 9)))
    (global.set $f32 (f32.div (f32.add (global.get $f32) (f32.const 0.1)) (f32.const 3)))
    (global.set $f64 (f64.mul (global.get $f64) (f64.const 1.7)))
    (global.set $nan (f32.neg (global.get $nan)))
    (global.set $v128
      (i32x4.mul (global.get $v128) (i32x4.splat (i32.or (global.get $i32) (i32.const 1)))))
    (global.set $hidden (i64.mul (global.get $hidden) (i64.const 3)))
    (i32.store (i32.const 4096) (global.get $i32)))
  (func (export "all") (result i32 i32 i64 f32 f64 f32 v128 i64)
    (global.get $i32) (global.get $fixed) (global.get $i64) (global.get $f32)
    (global.get $f64) (global.get $nan) (global.get $v128) (global.get $hidden))
  (func (export "through one") (param i32) (result i32)
    (call_indirect $one (type $word) (local.get 0)))
  (func (export "through two") (param i32) (result i32)
    (call_indirect $two (type $word) (local.get 0)))
  (func (export "swap") (param i32 i32)
    (global.set $held (table.get $one (local.get 0)))
    (table.set $one (local.get 0) (table.get $two (local.get 1)))
    (table.set $two (local.get 1) (global.get $held)))
  (func (export "enlarge") (result i32 i32)
    (table.grow $one (global.get $held) (i32.const 1))
    (memory.grow (i32.const 1)))
  (func (export "again") (param i32)
    (memory.init $later (i32.const 0) (i32.const 0) (local.get 0)))
  (func (export "poke") (param i32 i32)
    (i32.store (local.get 0) (local.get 1)))
  (start $start))
"#;

#[test]
fn everything_that_holds_state_computes_the_same() {
    let code = module(EVERYTHING);
    let call = |name: &str, arguments: &[i32]| -> Call {
        let arguments = arguments.iter().map(|value| Val::I32(*value));
        (name.to_owned(), arguments.collect())
    };
    let mut calls = vec![
        call("turn", &[]),
        call("all", &[]),
        // The last has nothing in it yet.
        call("through one", &[0]),
        call("through one", &[1]),
        call("through one", &[2]),
        call("through two", &[0]),
        call("through two", &[1]),
        call("through two", &[2]),
        call("swap", &[2, 1]),
        call("through one", &[2]),
        call("through two", &[1]),
        call("swap", &[0, 2]),
        call("swap", &[9, 2]),
        call("poke", &[70_000, 5]),
        call("again", &[0]),
        call("again", &[1]),
    ];
    // As often as there is room for, and once more.
    for index in 2..6 {
        calls.push(call("enlarge", &[]));
        calls.push(call("through one", &[index]));
        calls.push(call("poke", &[70_000, 5]));
        calls.push(call("turn", &[]));
    }
    calls.push(call("all", &[]));
    assert_computes_the_same(&code, &calls);

    // The calls do what they are there for.
    let mut plain = Plain::new(&code).expect("it starts");
    let word = |value| Ok(vec![GlobalValue::I32(value)]);
    assert_eq!(plain.call("through two", &[Val::I32(1)]), word(9));
    assert!(plain.call("through one", &[Val::I32(2)]).is_err());
    assert_eq!(plain.call("swap", &calls[8].1), Ok(vec![]));
    assert_eq!(plain.call("through one", &[Val::I32(2)]), word(9));
    assert!(plain.call("again", &[Val::I32(1)]).is_err());
}

#[test]
fn a_start_function_traps_whoever_runs_it_and_one_is_not_needed() {
    let traps = module(
        r#"(module (memory (export "memory") 1)
             (global (export "g0") (mut i32) (i32.const 0))
             (func $start (global.set 0 (i32.const 1)) unreachable)
             (start $start))"#,
    );
    assert!(Plain::new(&traps).is_err());
    assert_computes_the_same(&traps, &[]);
    let none = module(
        r#"(module (memory (export "memory") 1)
             (func (export "f") (result i32) (i32.load (i32.const 0))))"#,
    );
    assert_computes_the_same(&none, &[("f".to_owned(), vec![])]);
}

#[test]
fn a_baked_module_has_every_bit_of_every_type_of_global() {
    let code = module(
        r#"(module (memory (export "memory") 1)
             (global (export "g0") (mut i32) (i32.const 1))
             (global (export "g1") (mut i64) (i64.const 2))
             (global (export "g2") (mut f32) (f32.const 3))
             (global (export "g3") (mut f64) (f64.const 4))
             (global (export "g4") (mut v128) (v128.const i64x2 5 6))
             (global (export "g5") f64 (f64.const nan:0x4))
             (global (export "g6") (mut f64) (f64.const -0)))"#,
    );
    let signals = f32::from_bits(0x7fa0_0001);
    assert!(signals.is_nan());
    let values = [
        GlobalValue::I32(0x8000_0001),
        GlobalValue::I64(u64::MAX - 1),
        GlobalValue::F32(0x7fa0_0001),
        GlobalValue::F64(0xfff0_0000_0000_0001),
        GlobalValue::V128(u128::MAX << 3),
    ];
    let globals = (0..).zip(values);
    let index = Index {
        memory_pages: 1,
        globals: globals
            .map(|(index, value)| Global { index, value })
            .collect(),
        ..Index::of(CodeId::of(&code))
    };
    let image = Image::new(index, vec![]).expect("sound");
    let baked = bake(&code, &image).expect("it fits");
    let plain = Plain::new(&baked).expect("nothing runs in it");
    let mut expected: Vec<_> = values.map(Some).to_vec();
    // What the image does not name is as the code has it.
    expected.push(Some(GlobalValue::F64(0x7ff0_0000_0000_0004)));
    expected.push(Some(GlobalValue::F64((-0f64).to_bits())));
    assert_eq!(plain.seen().globals[..7], expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(MODULES))]

    #[test]
    fn a_random_module_computes_the_same(seed: u64) {
        let (code, calls) = Author::new(seed, true).module();
        assert_computes_the_same(&code, &calls);
    }

    #[test]
    fn a_random_instance_goes_on_when_it_is_baked(seed: u64) {
        let (code, calls) = Author::new(seed, false).module();
        interior(&code).check_imageable().expect("no table changes");
        // One whose start function traps has no instance.
        if let Ok(mut live) = Plain::instrumented(&code) {
            let (before, after) = calls.split_at(calls.len() / 2);
            for (name, arguments) in before {
                let _ = live.call(name, arguments);
            }
            let baked = bake(&code, &image(&code, &live)).expect("it fits");
            let then = live.seen();
            let expected: Vec<Outcome> = after
                .iter()
                .map(|(name, arguments)| live.call(name, arguments))
                .collect();
            // As often as it is started, and whatever became of the one before.
            for _ in 0..2 {
                let mut copy = Plain::new(&baked).expect("nothing runs in it");
                assert!(copy.seen() == then, "it begins otherwise");
                for ((name, arguments), expected) in after.iter().zip(&expected) {
                    assert_eq!(&copy.call(name, arguments), expected, "{name} {arguments:?}");
                }
                assert!(copy.seen() == live.seen(), "it ends otherwise");
            }
        }
    }
}
