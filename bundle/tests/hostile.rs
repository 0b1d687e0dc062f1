//! Files that are damaged, or made to harm. Every case names its refusal.

mod common;

use common::{SUM, add, bound, chain, custom, decode, module, unbound};
use proptest::prelude::*;
use spore_abi::export;
use spore_bundle::AbiError;
use spore_bundle::Unsupported;
use spore_bundle::limits::MANIFEST_BYTES_MAX;
use spore_bundle::manifest::v1::Code;
use spore_bundle::manifest::{MANIFEST_VERSION, ManifestError};
use spore_bundle::sections::SECTIONS_MAX;
use spore_bundle::{Bundle, CodeId, CodeKind, DecodeError, Grant, Limits, Manifest};
use spore_bundle::{PackError, PartsError, SectionError, StateError, StateId, StateKind};

/// Reads what must be refused.
fn refused(file: Vec<u8>) -> DecodeError {
    decode(file).expect_err("the file is refused")
}

/// The manifest of [`bound`], changed and encoded without any check.
fn manifest(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut manifest = bound().manifest().clone();
    change(&mut manifest);
    let mut bytes = MANIFEST_VERSION.to_le_bytes().to_vec();
    bytes.extend(spore_value::codec::encode_serde(&manifest).unwrap());
    bytes
}

/// A file of [`SUM`], this manifest, and 7 as state.
fn file(manifest: &[u8]) -> Vec<u8> {
    let mut file = module(SUM);
    file.extend(custom("spore.manifest", manifest));
    file.extend(custom(
        "spore.state",
        &zstd::bulk::compress(&[7], 3).unwrap(),
    ));
    file
}

/// Refuses a manifest, and checks that this is what was refused.
fn manifest_error(change: impl FnOnce(&mut Manifest)) -> ManifestError {
    match refused(file(&manifest(change))) {
        DecodeError::Manifest(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_helpers_make_a_sound_file() {
    assert_eq!(decode(file(&manifest(|_| {}))).unwrap(), bound());
}

#[test]
fn every_truncation_is_refused() {
    let file = bound().encode();
    for length in 0..file.len() {
        let error = refused(file[..length].to_vec());
        let expected = match &error {
            DecodeError::Sections(
                SectionError::NotWasm
                | SectionError::Truncated { .. }
                | SectionError::Overrun { .. },
            ) => true,
            // Cut where a section ends, what is left is Wasm.
            DecodeError::NoManifest => true,
            DecodeError::Parts(PartsError::StateMissing { .. }) => true,
            _ => false,
        };
        assert!(expected, "cut at {length}: {error:?}");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_another_bundle() {
    let original = bound();
    let file = original.encode();
    let mut others = 0;
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(bundle) = decode(flipped) else {
            continue;
        };
        if bundle.id() == original.id() {
            assert_eq!(bundle.manifest(), original.manifest(), "bit {bit}");
            assert_eq!(bundle.code(), original.code(), "bit {bit}");
            assert_eq!(bundle.state(), original.state(), "bit {bit}");
        } else {
            // A letter of a name, or the like: a bundle of its own, with its own id.
            assert_eq!(bundle.code(), original.code(), "bit {bit}");
            others += 1;
        }
    }
    assert!(others > 0, "bits of documentation can be flipped");
}

#[test]
fn bits_of_the_code_and_of_the_state_are_all_covered() {
    let code = module(SUM);
    let file = bound().encode();
    for bit in 0..code.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(flipped);
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(bytes.clone()).is_err());
        let mut wasm = module("(module)");
        wasm.extend(&bytes);
        prop_assert!(decode(wasm).is_err());
        prop_assert!(decode(file(&bytes)).is_err());
        let mut versioned = MANIFEST_VERSION.to_le_bytes().to_vec();
        versioned.extend(&bytes);
        prop_assert!(decode(file(&versioned)).is_err());
    }

    #[test]
    fn damaged_files_never_keep_their_id_with_other_contents(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let original = bound();
        let mut file = original.encode();
        for (index, byte) in damage {
            let index = index.index(file.len());
            file[index] = byte;
        }
        if let Ok(bundle) = decode(file) && bundle.id() == original.id() {
            prop_assert_eq!(bundle.manifest(), original.manifest());
            prop_assert_eq!(bundle.code(), original.code());
            prop_assert_eq!(bundle.state(), original.state());
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(
        refused(vec![]),
        DecodeError::Sections(SectionError::NotWasm)
    ));
    let elf = b"\x7fELF\x02\x01\x01\0".to_vec();
    assert!(matches!(
        refused(elf),
        DecodeError::Sections(SectionError::NotWasm)
    ));
    let future = b"\0asm\x02\0\0\0".to_vec();
    let error = refused(future);
    let expected = SectionError::UnknownVersion {
        version: 2,
        layer: 0,
    };
    assert!(
        matches!(&error, DecodeError::Sections(found) if *found == expected),
        "{error:?}"
    );
    let error = refused(module(SUM));
    assert!(matches!(error, DecodeError::NoManifest), "{error:?}");
    assert!(error.to_string().contains("spore build"), "{error}");
}

#[test]
fn a_section_that_lies_about_its_length_is_refused_with_numbers() {
    let mut file = module("(module)");
    file.extend([1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    let error = refused(file);
    let lie = SectionError::Overrun {
        id: 1,
        declared: 0xffff_ffff,
        available: 1,
    };
    assert!(
        matches!(&error, DecodeError::Sections(found) if *found == lie),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "section 1 declares 4294967295 bytes, 1 remain"
    );

    let mut file = module("(module)");
    file.extend([1, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]);
    let error = refused(file);
    assert!(matches!(
        error,
        DecodeError::Sections(SectionError::Length { offset: 8 })
    ));

    let mut file = module("(module)");
    file.extend([0, 2, 9, b'x']);
    let error = refused(file);
    assert!(matches!(
        error,
        DecodeError::Sections(SectionError::Name { offset: 8 })
    ));
}

#[test]
fn sections_without_end_are_refused() {
    let mut file = module("(module)");
    for _ in 0..=SECTIONS_MAX {
        file.extend([0, 1, 0]);
    }
    let error = refused(file);
    let expected = SectionError::TooMany {
        limit: SECTIONS_MAX,
    };
    assert!(
        matches!(&error, DecodeError::Sections(found) if *found == expected),
        "{error:?}"
    );
}

#[test]
fn spores_sections_are_last_in_order_and_once() {
    let manifest = manifest(|_| {});
    let (m, s) = (
        custom("spore.manifest", &manifest),
        custom("spore.state", &[]),
    );
    let of = |parts: &[&[u8]]| refused([&module(SUM), &parts.concat()[..]].concat());

    let error = of(&[&m, &m]);
    let name = "spore.manifest";
    assert!(matches!(error, DecodeError::DuplicateSection { name: found } if found == name));
    let error = of(&[&m, &s, &s]);
    assert!(
        matches!(
            error,
            DecodeError::DuplicateSection {
                name: "spore.state"
            }
        ),
        "{error:?}"
    );
    let error = of(&[&s, &m]);
    assert_eq!(
        error.to_string(),
        "section spore.manifest after spore.state"
    );
    let error = of(&[&m, &custom("name", &[]), &s]);
    assert_eq!(error.to_string(), "section name after spore.manifest");
    let error = of(&[&m, &s, &[11, 1, 0]]);
    assert_eq!(error.to_string(), "section data after spore.state");
    let error = of(&[&m, &s, &custom("spore.signature", &[])]);
    assert!(matches!(&error, DecodeError::UnknownSection { name } if name == "spore.signature"));
    let error = of(&[&custom("spore.x", &[]), &m, &s]);
    assert!(matches!(&error, DecodeError::UnknownSection { name } if name == "spore.x"));
}

#[test]
fn a_manifest_of_a_later_version_says_so() {
    let mut later = manifest(|_| {});
    later[..2].copy_from_slice(&7_u16.to_le_bytes());
    let error = refused(file(&later));
    let text = chain(&error);
    assert_eq!(
        text,
        "unreadable manifest: manifest of version 7, this release reads versions up to 1",
    );
    let error = refused(file(&[1]));
    let found = matches!(
        error,
        DecodeError::Manifest(ManifestError::NoVersion { bytes: 1 })
    );
    assert!(found, "{error:?}");
}

#[test]
fn a_manifest_one_byte_too_large_is_not_decoded() {
    let error = refused(file(&vec![0; MANIFEST_BYTES_MAX as usize + 1]));
    let DecodeError::Manifest(ManifestError::TooLarge { bytes, limit }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((bytes, limit), (MANIFEST_BYTES_MAX + 1, MANIFEST_BYTES_MAX));
    let error = refused(file(&vec![0; MANIFEST_BYTES_MAX as usize]));
    assert!(matches!(
        error,
        DecodeError::Manifest(ManifestError::UnknownVersion { .. })
    ));
}

#[test]
fn announced_sizes_are_held_against_limits_before_anything_is_done() {
    let limits = Limits {
        code_bytes_max: 100,
        ..Limits::default()
    };
    let error = Bundle::decode(bound().encode(), &limits).unwrap_err();
    let DecodeError::Parts(PartsError::CodeTooLarge { bytes, limit: 100 }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(bytes, module(SUM).len() as u64);

    let limits = Limits {
        state_bytes_max: 9,
        ..Limits::default()
    };
    let ten = unbound().with_captures(0, vec![0; 10]).unwrap().encode();
    let error = Bundle::decode(ten, &limits).unwrap_err();
    let expected = PartsError::StateTooLarge {
        bytes: 10,
        limit: 9,
    };
    assert_eq!(error.to_string(), expected.to_string());
    let nine = unbound().with_captures(0, vec![0; 9]).unwrap().encode();
    Bundle::decode(nine, &limits).unwrap();
}

#[test]
fn a_bomb_is_never_decompressed() {
    // 64 MiB of zeros take a few KiB as a frame.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    assert!(bomb.len() < 10_000, "{}", bomb.len());
    let state = |bytes| {
        let mut file = module(SUM);
        let change = |m: &mut Manifest| m.state.as_mut().unwrap().bytes = bytes;
        file.extend(custom("spore.manifest", &manifest(change)));
        file.extend(custom("spore.state", &bomb));
        file
    };
    let error = refused(state(1));
    let DecodeError::State(StateError::Size {
        frame,
        announced: 1,
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(frame, 64 << 20);

    let error = refused(state(1 << 40));
    assert!(
        matches!(error, DecodeError::Parts(PartsError::StateTooLarge { .. })),
        "{error:?}"
    );
}

#[test]
fn a_state_that_is_no_frame_is_refused() {
    let with = |frame: &[u8]| {
        let mut file = module(SUM);
        file.extend(custom("spore.manifest", &manifest(|_| {})));
        file.extend(custom("spore.state", frame));
        refused(file)
    };
    for frame in [&[][..], &[7], b"not zstd at all"] {
        let error = with(frame);
        assert!(
            matches!(error, DecodeError::State(StateError::NotOneFrame)),
            "{error:?}"
        );
    }
    let eight = zstd::bulk::compress(&[8], 3).unwrap();
    let error = with(&eight);
    let DecodeError::Parts(PartsError::StateId { named, found }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((named, found), (StateId::of(&[7]), StateId::of(&[8])));
}

#[test]
fn code_must_be_what_the_manifest_names() {
    let other = CodeId::of(b"other");
    let error = refused(file(&manifest(|m| m.code.id = other)));
    assert!(
        matches!(error, DecodeError::Parts(PartsError::CodeId { named, .. }) if named == other)
    );
    let error = refused(file(&manifest(|m| m.code.bytes += 1)));
    assert!(
        matches!(error, DecodeError::Parts(PartsError::CodeSize { .. })),
        "{error:?}"
    );
    let error = refused(file(&manifest(|m| m.state = None)));
    assert!(
        matches!(error, DecodeError::Parts(PartsError::StateUnannounced)),
        "{error:?}"
    );
}

#[test]
fn what_is_reserved_is_refused_by_name() {
    let unsupported = |change: fn(&mut Manifest)| match refused(file(&manifest(change))) {
        DecodeError::Parts(PartsError::Unsupported(what)) => what,
        other => panic!("{other:?}"),
    };
    let component = unsupported(|m| m.code.kind = CodeKind::Component);
    assert_eq!(component, Unsupported::Component);
}

#[test]
fn a_component_does_not_pass_for_a_module() {
    let code = b"\0asm\x0d\0\x01\0".to_vec();
    let changed = manifest(|m| {
        m.code = Code {
            id: CodeId::of(&code),
            bytes: 8,
            kind: CodeKind::Module,
        };
        m.state = None;
    });
    let file = [code, custom("spore.manifest", &changed)].concat();
    let error = refused(file);
    assert!(
        matches!(error, DecodeError::Parts(PartsError::CodeKind { .. })),
        "{error:?}"
    );
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    use ManifestError as E;
    let name = |name: &str| {
        let name = name.to_owned();
        move |m: &mut Manifest| m.callables[0].name = name
    };
    for bad in [
        "",
        "a::",
        "::a",
        "a b",
        "sum:add",
        "..",
        "a::..",
        "é",
        "\u{1b}[2J",
        &"x".repeat(257),
    ] {
        let error = manifest_error(name(bad));
        assert!(
            matches!(
                &error,
                E::Name {
                    what: "a callable",
                    ..
                }
            ),
            "{bad:?}: {error:?}"
        );
    }
    let error = manifest_error(|m| m.name = String::new());
    assert!(
        matches!(
            error,
            E::Name {
                what: "the guest",
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.version = "1 0".to_owned());
    assert!(
        matches!(
            error,
            E::Name {
                what: "the guest's version",
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.abi = 2);
    assert!(
        matches!(error, E::UnknownAbi { found: 2, known: 1 }),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables.clear());
    assert!(matches!(error, E::NoCallables), "{error:?}");
    let error = manifest_error(|m| m.callables.push(m.callables[0].clone()));
    assert!(matches!(error, E::Order { .. }), "{error:?}");
    let error = manifest_error(|m| m.callables[0].codec = 9);
    assert!(
        matches!(error, E::UnknownCodec { found: 9, .. }),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].docs = "\u{1b}]0;x".to_owned());
    assert!(
        matches!(
            error,
            E::Docs {
                found: '\u{1b}',
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].docs = "\u{202e}".to_owned());
    assert!(
        matches!(
            error,
            E::Docs {
                found: '\u{202e}',
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].signature.captures[0].name = "a\0".to_owned());
    assert!(
        matches!(
            error,
            E::Name {
                what: "a parameter",
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].signature.returns = spore_value::Type::Named(0));
    assert!(matches!(error, E::Signature { .. }), "{error:?}");
    let error = manifest_error(|m| m.callables[0].grants = vec![Grant::Directory("../x".into())]);
    assert!(
        matches!(
            error,
            E::Name {
                what: "a directory",
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].grants = vec![Grant::Clock, Grant::Clock]);
    assert!(
        matches!(
            error,
            E::GrantTwice {
                grant: Grant::Clock,
                ..
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| {
        m.state.as_mut().unwrap().kind = StateKind::Captures { callable: 1 };
    });
    assert!(
        matches!(
            error,
            E::NoSuchCallable {
                index: 1,
                callables: 1
            }
        ),
        "{error:?}"
    );
    let error = manifest_error(|m| m.callables[0].signature.captures.clear());
    assert!(matches!(error, E::NothingToCapture { .. }), "{error:?}");
}

#[test]
fn one_more_callable_or_grant_than_allowed_is_refused() {
    use spore_bundle::limits::{CALLABLES_MAX, GRANTS_MAX};
    let many = |count: usize| {
        move |m: &mut Manifest| {
            let first = m.callables[0].clone();
            m.callables = (0..count)
                .map(|i| spore_bundle::Callable {
                    name: format!("f{i:05}"),
                    ..first.clone()
                })
                .collect();
        }
    };
    let error = manifest_error(many(CALLABLES_MAX + 1));
    assert!(
        matches!(
            error,
            ManifestError::TooMany {
                what: "callables",
                ..
            }
        ),
        "{error:?}"
    );
    decode(file(&manifest(many(CALLABLES_MAX)))).unwrap();

    let grants = |count: usize| {
        move |m: &mut Manifest| {
            m.callables[0].grants = (0..count)
                .map(|i| Grant::Directory(format!("d{i}")))
                .collect();
        }
    };
    let error = manifest_error(grants(GRANTS_MAX + 1));
    assert!(matches!(error, ManifestError::TooMany { .. }), "{error:?}");
    decode(file(&manifest(grants(GRANTS_MAX)))).unwrap();
}

#[test]
fn types_that_nest_without_end_are_refused() {
    // Options in options: the decoder stops at its depth, long before the stack does.
    let mut bytes = manifest(|m| m.callables[0].signature.returns = spore_value::Type::U128);
    let option = spore_value::codec::encode_serde(&spore_value::Type::Option(Box::new(
        spore_value::Type::Unit,
    )))
    .unwrap();
    let u128 = spore_value::codec::encode_serde(&spore_value::Type::U128).unwrap();
    let at = bytes.len() - (1 + 1 + 3 + 1) - u128.len();
    assert_eq!(
        bytes[at..at + u128.len()],
        u128,
        "returns stands before error, definitions, flags"
    );
    bytes.splice(at..at, option[..1].repeat(100_000));
    let error = refused(file(&bytes));
    let text = chain(&error);
    assert!(text.contains("nested deeper than"), "{text}");
}

#[test]
fn packing_refuses_what_could_not_be_read() {
    let pack = |code: Vec<u8>| Bundle::pack(code, "sum", "0.1.0", vec![add()]).unwrap_err();
    let error = pack(bound().encode());
    assert!(matches!(&error, PackError::ReservedSection { name } if name == "spore.manifest"));
    assert!(matches!(
        pack(vec![1, 2, 3]),
        PackError::Sections(SectionError::NotWasm)
    ));
    assert!(matches!(pack(module("(module)")), PackError::Abi(_)));
    let with = |more: &str| pack(module(&SUM.replace("(module", &format!("(module {more}"))));
    for prefix in [export::INIT, export::RESTORED] {
        let error = with(&format!(
            r#"(func (export "{prefix}a::x") (export "{prefix}b::y"))"#
        ));
        assert!(
            matches!(&error, PackError::Twice { first, second }
                if *first == format!("{prefix}a::x") && *second == format!("{prefix}b::y")),
            "{error:?}"
        );
        let error = with(&format!(r#"(func (export "{prefix}a::x") (param i32))"#));
        assert!(
            matches!(&error, PackError::Abi(AbiError::WrongType { name, .. })
                if *name == format!("{prefix}a::x")),
            "{error:?}"
        );
    }
    let error = Bundle::pack(module(SUM), "sum", "0.1.0", vec![]).unwrap_err();
    assert!(
        matches!(error, PackError::Manifest(ManifestError::NoCallables)),
        "{error:?}"
    );
    let error = Bundle::pack(module(SUM), "sum", "0.1.0", vec![add(), add()]).unwrap_err();
    assert!(
        matches!(error, PackError::Manifest(ManifestError::Order { .. })),
        "{error:?}"
    );
    let error = unbound().with_captures(1, vec![]).unwrap_err();
    assert_eq!(
        chain(&error),
        "the captures cannot be bound: state of callable 1, there are 1"
    );
}
