//! Images: what is written can be read again, and what contradicts itself is refused by name.

mod common;

use std::sync::Arc;

use common::{SUM, chain, custom, decode, module, unbound};
use proptest::prelude::*;
use spore_bundle::image::{
    BLOCK_BYTES, Block, Bound, CLOCK_NS_MAX, Global, GlobalValue, Image, ImageError, Index,
    MissingBlock, Partial, RUN_ITEMS_MAX, Random, Run,
};
use spore_bundle::module::{
    DetachError, Interior, Misfit, Obstacle, PRIVATE_GLOBAL, PRIVATE_START, RewriteError, bake,
    detach, instrument,
};
use spore_bundle::{BlockId, Bundle, CodeId, DecodeError, ImageStateError, Limits, PartsError};

/// A block of one byte, repeated.
fn block(byte: u8) -> (BlockId, Arc<Block>) {
    let block = [byte; BLOCK_BYTES];
    (BlockId::of(&block), Arc::new(block))
}

/// An image of one page with these blocks, each of one byte repeated.
fn image(index: Index, blocks: &[(u32, u8)]) -> Result<Image, ImageError> {
    let blocks = blocks.iter().map(|(number, byte)| {
        let (id, block) = block(*byte);
        (*number, id, block)
    });
    Image::new(index, blocks.collect())
}

fn one_page() -> Index {
    Index {
        memory_pages: 1,
        ..Index::of(unbound().code_id())
    }
}

/// An image of SUM in which everything is there that may be there.
fn full() -> Image {
    let index = Index {
        memory_pages: 2,
        globals: vec![Global {
            index: 0,
            value: GlobalValue::I32(0x1234_5678),
        }],
        clock_ns: 7,
        random: Some(Random {
            key: [9; 32],
            position: 3,
        }),
        directories: vec!["data".to_owned(), "more".to_owned()],
        bound: vec![Bound {
            callable: 0,
            handle: 64,
        }],
        run: Some(Run {
            callable: 0,
            handle: 64,
            task: 5,
            items: 2,
        }),
        ..Index::of(unbound().code_id())
    };
    image(index, &[(0, 1), (3, 2), (4, 1), (31, 3)]).expect("it is sound")
}

#[test]
fn an_image_survives_its_file() {
    let bundle = unbound()
        .with_image(full())
        .expect("it belongs to the bundle");
    let file = bundle.encode();
    let again = decode(file.clone()).expect("it is sound");
    assert_eq!(again.id(), bundle.id());
    assert_eq!(again.encode(), file);
    let (a, b) = (bundle.image().expect("one"), again.image().expect("one"));
    assert_eq!(a.index(), b.index());
    assert!(a.blocks().eq(b.blocks()));
    assert_eq!(b.changed_bytes(), 4 * BLOCK_BYTES as u64);
    // Blocks that are equal travel once.
    assert_eq!(b.distinct().len(), 3);
    assert_eq!(again.without_state().id(), unbound().id());
    assert!(again.without_state().image().is_none());
}

#[test]
fn an_image_is_completed_from_others_and_what_they_lack() {
    let memory = |blocks: &[(u32, u8)]| image(one_page(), blocks).expect("sound");
    // Block 3 is the same, 5 lies elsewhere in another, 7 and 8 are one that none has, 9 is another.
    let wanted = memory(&[(3, 1), (5, 2), (7, 3), (8, 3), (9, 4)]);
    let known = [memory(&[(3, 1), (9, 5)]), memory(&[(1, 2)])];
    let partial = || Partial::new(wanted.index_bytes().clone(), &known).expect("sound");
    assert_eq!(partial().distinct_blocks(), 4);
    let missing = partial().missing().to_vec();
    let [(three, bytes), (four, other)] = [block(3), block(4)];
    let expected = [(2, three), (3, four)].map(|(place, id)| MissingBlock { place, id });
    assert_eq!(missing, expected);
    let whole = partial().complete([&*bytes, &*other]).expect("they are");
    assert!(whole.blocks().eq(wanted.blocks()));
    assert!(whole.distinct().eq(wanted.distinct()));
    assert_eq!(wanted.distinct_at(2), Some(&bytes));
    assert_eq!(wanted.distinct_at(4), None);

    let error = partial().complete([&*bytes]).unwrap_err();
    assert!(matches!(error, ImageError::BlockMissing { id } if id == four));
    let error = partial().complete([&*other, &*bytes]).unwrap_err();
    assert!(
        matches!(error, ImageError::BlockId { named, found } if named == three && found == four)
    );

    assert_eq!(wanted.blocks_new_since(&known[0]), 3);
    assert_eq!(wanted.blocks_new_since(&known[1]), 3);
    assert_eq!(wanted.blocks_new_since(&wanted), 0);
}

#[test]
fn checked_blocks_are_put_where_the_index_names_them() {
    let wanted = full();
    let distinct: Vec<_> = wanted.distinct().map(|(_, block)| block.clone()).collect();
    let put = |blocks| Image::dangerous_from_checked_blocks(wanted.index_bytes().clone(), blocks);
    let whole = put(&distinct).expect("all are there");
    assert!(whole.blocks().eq(wanted.blocks()));
    let error = put(&distinct[..2]).unwrap_err();
    assert!(matches!(error, ImageError::BlockMissing { .. }));
}

#[test]
fn the_state_id_covers_every_block() {
    let one = |byte| {
        let image = image(one_page(), &[(0, byte)]).expect("sound");
        unbound().with_image(image).expect("fits")
    };
    assert_ne!(one(1).state_id(), one(2).state_id());
    assert_eq!(one(1).state_id(), one(1).state_id());
}

#[test]
fn an_index_that_contradicts_itself_is_refused() {
    type Case = (&'static str, fn(&mut Index));
    let cases: [Case; 9] = [
        ("65537 pages, at most 65536 are allowed", |index| {
            index.memory_pages = 65_537;
        }),
        ("global 0 after 0", |index| {
            index.globals.push(index.globals[0]);
        }),
        ("captures of callable 0 after 0", |index| {
            index.bound.push(index.bound[0]);
        }),
        ("a directory named \"..\"", |index| {
            index.directories.push("..".to_owned());
        }),
        ("a directory named \"data\"", |index| {
            index.directories.push("data".to_owned());
        }),
        (
            "a run from handle 1, which is not bound to callable 0",
            |index| {
                if let Some(run) = &mut index.run {
                    run.handle = 1;
                }
            },
        ),
        ("65 directories, at most 64 are allowed", |index| {
            index.directories = (0..65).map(|n| format!("d{n}")).collect();
        }),
        ("1025 globals, at most 1024 are allowed", |index| {
            index.globals = (0..1025)
                .map(|index| Global {
                    index,
                    value: GlobalValue::I32(0),
                })
                .collect();
        }),
        ("1025 bound captures, at most 1024 are allowed", |index| {
            index.bound = (0..1025)
                .map(|callable| Bound {
                    callable,
                    handle: 0,
                })
                .collect();
        }),
    ];
    for (expected, change) in cases {
        let mut index = full().index().clone();
        change(&mut index);
        let error = image(index, &[]).expect_err(expected);
        assert_eq!(chain(&error), expected);
    }
    for (expected, blocks) in [
        ("block 3 after 3", &[(3, 1), (3, 2)][..]),
        ("block 2 after 3", &[(3, 1), (2, 2)]),
        ("block 16, the memory has 16", &[(16, 1)]),
    ] {
        let error = image(one_page(), blocks).expect_err(expected);
        assert_eq!(chain(&error), expected);
    }
}

/// The file of SUM with this index and these contents of the section of blocks.
fn file(index: &[u8], blocks: Option<&[u8]>) -> Vec<u8> {
    use spore_bundle::{State, StateId, StateKind};
    let mut manifest = unbound().manifest().clone();
    manifest.state = Some(State {
        id: StateId::of(index),
        bytes: index.len() as u64,
        kind: StateKind::Image {
            layout: 1,
            job: Some(0),
        },
    });
    let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).expect("compresses");
    let mut file = module(SUM);
    file.extend(custom("spore.manifest", &manifest.encode().expect("sound")));
    file.extend(custom("spore.state", &pack(index)));
    if let Some(blocks) = blocks {
        file.extend(custom("spore.blocks", &pack(blocks)));
    }
    file
}

#[test]
fn blocks_that_are_not_those_of_the_index_are_refused() {
    let full = full();
    let index = full.index_bytes();
    let contents: Vec<u8> = [1, 2, 3].map(|byte| [byte; BLOCK_BYTES]).concat();
    decode(file(index, Some(&contents))).expect("the parts are right");

    let refused = |blocks: Option<&[u8]>| decode(file(index, blocks)).expect_err("refused");
    assert!(matches!(
        refused(None),
        DecodeError::Parts(PartsError::BlocksMissing)
    ));
    // Any other size is refused before anything is decompressed.
    for wrong in [&contents[1..], &[&contents[..], &[0]].concat(), &[]] {
        assert!(matches!(refused(Some(wrong)), DecodeError::Blocks(_)));
    }
    let mut flipped = contents.clone();
    flipped[BLOCK_BYTES] ^= 1;
    assert!(matches!(
        refused(Some(&flipped)),
        DecodeError::Parts(PartsError::Image(ImageError::BlockId { .. }))
    ));
    let swapped = [&contents[BLOCK_BYTES..], &contents[..BLOCK_BYTES]].concat();
    assert!(matches!(
        refused(Some(&swapped)),
        DecodeError::Parts(PartsError::Image(ImageError::BlockId { .. }))
    ));
    // Blocks where there is no image.
    let mut captured = common::bound().encode();
    captured.extend(custom("spore.blocks", &[]));
    assert!(matches!(
        decode(captured).expect_err("refused"),
        DecodeError::Parts(PartsError::BlocksUnannounced)
    ));
}

#[test]
fn the_limit_on_state_counts_index_and_blocks_before_there_is_room_for_them() {
    let bundle = unbound().with_image(full()).expect("fits");
    let bytes = full().index_bytes().len() as u64 + 3 * BLOCK_BYTES as u64;
    let decode = |limit| {
        let limits = Limits {
            state_bytes_max: limit,
            ..Limits::default()
        };
        Bundle::decode(bundle.encode(), &limits)
    };
    decode(bytes).expect("as large as it may be");
    match decode(bytes - 1) {
        Err(DecodeError::Parts(PartsError::StateTooLarge {
            bytes: found,
            limit,
        })) => {
            assert_eq!((found, limit), (bytes, bytes - 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_another_layout_or_job_is_refused() {
    use spore_bundle::StateKind;
    let refused = |kind: StateKind| {
        let mut manifest = unbound()
            .with_image(full())
            .expect("fits")
            .manifest()
            .clone();
        if let Some(state) = &mut manifest.state {
            state.kind = kind;
        }
        full()
            .index()
            .check_manifest(&manifest)
            .expect_err("refused")
    };
    let later = refused(StateKind::Image {
        layout: 2,
        job: Some(0),
    });
    assert!(matches!(later, ImageError::UnknownLayout { found: 2 }));
    let none = refused(StateKind::Image {
        layout: 1,
        job: None,
    });
    assert!(matches!(none, ImageError::Job { .. }), "{none:?}");
    let other = Index {
        code: CodeId::of(b"another module"),
        ..one_page()
    };
    let other = image(other, &[]).expect("sound in itself");
    let error = unbound().with_image(other).expect_err("of other code");
    let ImageStateError::Image(error) = error else {
        panic!("{error:?}");
    };
    assert!(matches!(error, ImageError::OtherCode { .. }), "{error:?}");
}

#[test]
fn a_cut_file_is_refused_and_a_flip_changes_no_block() {
    let bundle = unbound().with_image(full()).expect("fits");
    let file = bundle.encode();
    for length in 0..file.len() {
        assert!(decode(file[..length].to_vec()).is_err(), "cut at {length}");
    }
    for position in 0..file.len() {
        let mut flipped = file.clone();
        flipped[position] ^= 0x10;
        // The manifest has bytes that may be others, and a zstd frame bits without a meaning.
        if let Ok(other) = decode(flipped) {
            assert_eq!(other.state_id(), bundle.state_id(), "byte {position}");
            let image = |bundle: &Bundle| bundle.image().expect("one").index().clone();
            assert_eq!(image(&other), image(&bundle), "byte {position}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_index_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Index::decode(&bytes);
    }

    #[test]
    fn a_changed_index_is_sound_or_refused(position in 0usize..400, byte: u8) {
        let mut bytes = full().index_bytes().to_vec();
        let position = position % bytes.len();
        bytes[position] = byte;
        if let Ok(index) = Index::decode(&bytes) {
            prop_assert!(index.numbers.len() == index.ids.len());
        }
    }

    #[test]
    fn images_survive(blocks in prop::collection::btree_map(0u32..48, 0u8..6, 0..20)) {
        let index = Index { memory_pages: 3, ..Index::of(unbound().code_id()) };
        let blocks: Vec<_> = blocks.into_iter().collect();
        let bundle = unbound().with_image(image(index, &blocks).unwrap()).unwrap();
        let again = decode(bundle.encode()).unwrap();
        prop_assert!(again.image().unwrap().blocks().eq(bundle.image().unwrap().blocks()));
        prop_assert_eq!(again.id(), bundle.id());
    }
}

#[test]
fn what_has_no_image_is_named() {
    let module = |body: &str| {
        module(&format!(
            "(module (memory 1) (table 1 funcref) (elem declare func $f) (elem $e func $f)
               (data $d \"x\") {body})"
        ))
    };
    let obstacle = |body: &str| {
        let interior = Interior::read(&module(body)).expect("valid");
        interior
            .check_imageable()
            .map_or_else(|obstacle| obstacle.to_string(), |()| String::new())
    };
    assert_eq!(obstacle("(func $f)"), "");
    assert_eq!(
        obstacle("(func $f (table.set (i32.const 0) (ref.func $f)))"),
        "function f changes a table (table.set)"
    );
    assert_eq!(
        obstacle("(func $f (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))"),
        "function f changes a table (table.init)"
    );
    assert_eq!(
        obstacle("(func $f (data.drop $d))"),
        "function f drops a segment (data.drop)"
    );
    assert_eq!(
        obstacle("(func $f (elem.drop $e))"),
        "function f drops a segment (elem.drop)"
    );
    assert_eq!(
        obstacle("(func $f) (global (mut funcref) (ref.null func))"),
        "global 0 holds a reference that may change"
    );
    let imported = common::module("(module (import \"a\" \"b\" (global i32)) (memory 1))");
    let imported = Interior::read(&imported).expect("valid").check_imageable();
    assert_eq!(imported, Err(Obstacle::Imported { what: "a global" }));
    let none = Interior::read(&common::module("(module)")).expect("valid");
    assert_eq!(none.check_imageable(), Err(Obstacle::Memory));
}

#[test]
fn an_image_that_does_not_fit_the_code_is_refused() {
    let code = module(
        "(module (memory 2 3) (global (mut i32) (i32.const 0)) (global i64 (i64.const 0))
           (global (mut f64) (f64.const 0)))",
    );
    let interior = Interior::read(&code).expect("valid");
    let check = |pages, globals: &[(u32, GlobalValue)]| {
        let globals = globals.iter().map(|(index, value)| Global {
            index: *index,
            value: *value,
        });
        interior.check(&Index {
            memory_pages: pages,
            globals: globals.collect(),
            ..Index::of(unbound().code_id())
        })
    };
    let (i32, f64) = (GlobalValue::I32(1), GlobalValue::F64(1));
    assert_eq!(check(2, &[(0, i32), (2, f64)]), Ok(()));
    assert_eq!(check(3, &[]), Ok(()));
    for pages in [1, 4] {
        let misfit = Misfit::Memory {
            pages,
            min: 2,
            max: 3,
        };
        assert_eq!(check(pages, &[]), Err(misfit));
    }
    assert_eq!(
        check(2, &[(1, GlobalValue::I64(0))]),
        Err(Misfit::Global { index: 1 })
    );
    assert_eq!(check(2, &[(3, i32)]), Err(Misfit::Global { index: 3 }));
    assert!(matches!(
        check(2, &[(2, i32)]),
        Err(Misfit::GlobalType { index: 2, .. })
    ));
}

/// A guest with a start function, an initialiser, a hidden global and two kinds of data.
const COUNTER: &str = r#"
(module
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 5))
  (global $fixed i32 (i32.const 40))
  (global $wide (mut i64) (i64.const 9))
  (data (i32.const 8) "data")
  (data $passive "later")
  (func $start (global.set $count (i32.add (global.get $count) (i32.const 100))))
  (func (export "_initialize") (global.set $count (i32.const 1)))
  (func (export "count") (result i32) (i32.add (global.get $count) (i32.load (i32.const 8192))))
  (func (export "wide") (result i64) (global.get $wide))
  (func (export "copy") (memory.init $passive (i32.const 16) (i32.const 0) (i32.const 5)))
  (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (start $start))
"#;

#[test]
fn instrumented_code_shows_its_globals_and_leaves_its_start_to_the_host() {
    let code = module(COUNTER);
    let interior = Interior::read(&code).expect("valid");
    let instrumented = instrument(&code, &interior).expect("it can be");
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, &instrumented[..]).expect("valid");
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::new(&engine)
        .instantiate_and_start(&mut store, &module)
        .expect("it starts");
    let count = instance
        .get_global(&store, &format!("{PRIVATE_GLOBAL}0"))
        .expect("it is shown");
    assert_eq!(count.get(&store).i32(), Some(5), "start has not run");
    assert!(
        instance
            .get_global(&store, &format!("{PRIVATE_GLOBAL}1"))
            .is_none()
    );
    let start = instance
        .get_typed_func::<(), ()>(&store, PRIVATE_START)
        .expect("it is shown");
    start.call(&mut store, ()).expect("it runs");
    assert_eq!(count.get(&store).i32(), Some(105));

    let own = common::module("(module (memory 1) (func (export \"spore.private/x\")))");
    let interior = Interior::read(&own).expect("valid");
    assert!(matches!(
        instrument(&own, &interior),
        Err(RewriteError::Reserved { .. })
    ));
}

#[test]
fn a_baked_module_begins_where_the_image_left_off() {
    let code = module(COUNTER);
    let index = Index {
        memory_pages: 3,
        globals: vec![
            Global {
                index: 0,
                value: GlobalValue::I32(7),
            },
            Global {
                index: 2,
                value: GlobalValue::I64(u64::MAX),
            },
        ],
        ..Index::of(unbound().code_id())
    };
    let image = image(index, &[(2, 0), (3, 9), (47, 4)]).expect("sound");
    let baked = bake(&code, &image).expect("it fits");
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, &baked[..]).expect("valid");
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::new(&engine)
        .instantiate_and_start(&mut store, &module)
        .expect("it starts");
    let call = |store: &mut wasmi::Store<()>, name: &str, at: Option<i32>| {
        let mut results = [wasmi::Val::I32(-1)];
        let arguments: Vec<_> = at.map(wasmi::Val::I32).into_iter().collect();
        let function = instance.get_func(&*store, name).expect("exported");
        function
            .call(store, &arguments, &mut results)
            .expect("it runs");
        results[0].i32().expect("an i32")
    };
    assert!(instance.get_func(&store, "_initialize").is_none());
    assert_eq!(
        call(&mut store, "count", None),
        7,
        "neither start nor init ran"
    );
    assert_eq!(call(&mut store, "byte", Some(8)), i32::from(b'd'));
    assert_eq!(call(&mut store, "byte", Some(3 * 4096)), 9);
    assert_eq!(call(&mut store, "byte", Some(3 * 65536 - 1)), 4);
    let wide = instance
        .get_typed_func::<(), i64>(&store, "wide")
        .expect("exported");
    assert_eq!(wide.call(&mut store, ()).expect("it runs"), -1);
    // Passive segments keep their numbers.
    let copy = instance
        .get_typed_func::<(), ()>(&store, "copy")
        .expect("exported");
    copy.call(&mut store, ()).expect("it runs");
    assert_eq!(call(&mut store, "byte", Some(16)), i32::from(b'l'));
}

#[test]
fn code_without_data_is_baked_too() {
    let code = module(
        "(module (memory 1) (func (export \"byte\") (result i32) (i32.load8_u (i32.const 0))))",
    );
    let image = image(one_page(), &[(0, 8)]).expect("sound");
    let baked = bake(&code, &image).expect("it fits");
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, &baked[..]).expect("valid");
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::new(&engine)
        .instantiate_and_start(&mut store, &module)
        .expect("it starts");
    let byte = instance
        .get_typed_func::<(), i32>(&store, "byte")
        .expect("exported");
    assert_eq!(byte.call(&mut store, ()).expect("it runs"), 8);
}

#[test]
fn detached_code_answers_itself_what_a_host_would() {
    let code = module(
        "(module
            (import \"spore1\" \"progress\" (func $progress (param i64 i64)))
            (import \"other\" \"ten\" (func $ten (result i32)))
            (import \"spore1\" \"stop_wanted\" (func $stop (result i32)))
            (import \"other\" \"twenty\" (func $twenty (result i32)))
            (memory 1)
            (table funcref (elem $twenty $stop $own))
            (func $own (result i32) (i32.const 3))
            (func (export \"direct\") (result i32)
                (call $progress (i64.const 1) (i64.const 2))
                (i32.add (call $twenty) (call $stop)))
            (func (export \"by_table\") (param i32) (result i32)
                (call_indirect (result i32) (local.get 0)))
            (global $begun (mut i32) (i32.const 0))
            (func $begin
                (global.set $begun (i32.add (i32.const 7) (call $stop)))
                (drop (ref.func $stop)))
            (start $begin)
            (elem declare func $stop)
            (func (export \"begun\") (result i32) (global.get $begun))
            (export \"ten\" (func $ten))
            (export \"stop\" (func $stop)))",
    );
    let detached = detach(code.clone()).expect("only what hosts offer");
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&detached) {
        if let wasmparser::Payload::CustomSection(section) = payload.expect("valid")
            && let wasmparser::KnownCustom::Name(subsections) = section.as_known()
        {
            for subsection in subsections {
                if let wasmparser::Name::Function(map) = subsection.expect("readable") {
                    let map = map.into_iter().map(|it| it.expect("readable"));
                    names.extend(map.map(|it| (it.index, it.name.to_owned())));
                }
            }
        }
    }
    // Two of those that are exported have no names.
    let expected = [
        (0, "ten"),
        (1, "twenty"),
        (2, "progress"),
        (3, "stop"),
        (4, "own"),
        (7, "begin"),
    ];
    assert_eq!(
        names,
        expected.map(|(index, name)| (index, name.to_owned()))
    );
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, &detached[..]).expect("valid");
    let imports: Vec<_> = module.imports().map(|it| it.name()).collect();
    assert_eq!(imports, ["ten", "twenty"]);
    let mut store = wasmi::Store::new(&engine, ());
    let mut linker = wasmi::Linker::new(&engine);
    linker.func_wrap("other", "ten", || 10).expect("new");
    linker.func_wrap("other", "twenty", || 20).expect("new");
    let instance = linker.instantiate_and_start(&mut store, &module);
    let instance = instance.expect("it has what it imports");
    for (name, expected) in [("direct", 20), ("ten", 10), ("stop", 0), ("begun", 7)] {
        let function = instance.get_typed_func::<(), i32>(&store, name);
        let answer = function.expect("exported").call(&mut store, ());
        assert_eq!(answer.expect("it runs"), expected, "{name}");
    }
    let by_table = instance.get_typed_func::<i32, i32>(&store, "by_table");
    let by_table = by_table.expect("exported");
    let found = [0, 1, 2].map(|place| by_table.call(&mut store, place).expect("it runs"));
    assert_eq!(found, [20, 0, 3]);
    // What has nothing to detach stays as it is.
    assert_eq!(detach(detached.clone()).expect("again"), detached);
    detach(code[..code.len() - 1].to_vec()).expect_err("it is cut");
}

#[test]
fn what_no_host_offers_is_not_detached() {
    for import in [
        "\"later\" (func)",
        "\"progress\" (func (param i64))",
        "\"stop_wanted\" (func (result v128))",
        "\"fault\" (global i32)",
    ] {
        let code = module(&format!("(module (import \"spore1\" {import}) (func))"));
        let refused = detach(code);
        assert!(
            matches!(
                refused,
                Err(RewriteError::Detach(DetachError::NotOffered { .. }))
            ),
            "{refused:?}"
        );
    }
    let nothing_defined =
        module("(module (import \"spore1\" \"stop_wanted\" (func (result i32))))");
    let refused = detach(nothing_defined);
    assert!(
        matches!(
            refused,
            Err(RewriteError::Detach(DetachError::NothingDefined))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_clock_and_a_number_of_items_that_cannot_be_are_refused() {
    let index = |clock_ns| Index {
        memory_pages: 1,
        clock_ns,
        ..Index::of(unbound().code_id())
    };
    assert!(image(index(CLOCK_NS_MAX), &[]).is_ok());
    let late = image(index(CLOCK_NS_MAX + 1), &[]).expect_err("too late");
    assert!(matches!(late, ImageError::Clock { .. }), "{late:?}");

    let emitted = |items| Index {
        memory_pages: 1,
        bound: vec![Bound {
            callable: 0,
            handle: 8,
        }],
        run: Some(Run {
            callable: 0,
            handle: 8,
            task: 16,
            items,
        }),
        ..Index::of(unbound().code_id())
    };
    assert!(image(emitted(RUN_ITEMS_MAX), &[]).is_ok());
    let many = image(emitted(RUN_ITEMS_MAX + 1), &[]).expect_err("too many");
    assert!(matches!(many, ImageError::TooMany { .. }), "{many:?}");
}

#[test]
fn blocks_that_segments_lay_out_are_counted_once_each() {
    let blocks = |segments: &str| {
        let code = module(&format!(
            "(module (memory 2) (global $at i32 (i32.const 9)) {segments})"
        ));
        Interior::read(&code).expect("valid").laid_out_blocks()
    };
    assert_eq!(blocks(""), 0);
    assert_eq!(blocks(r#"(data (i32.const 0) "") (data "passive")"#), 0);
    assert_eq!(blocks(r#"(data (i32.const 4095) "a")"#), 1);
    assert_eq!(
        blocks(r#"(data (i32.const 4095) "ab") (data (i32.const 1) "c")"#),
        2
    );
    assert_eq!(
        blocks(r#"(data (i32.const 8192) "a") (data (i32.const 0) "b")"#),
        2
    );
    // Where it lies is known to none but an instance.
    assert_eq!(blocks(r#"(data (global.get $at) "a")"#), 32);
    assert_eq!(blocks(r#"(data (i32.const 131072) "beyond")"#), 0);
}
