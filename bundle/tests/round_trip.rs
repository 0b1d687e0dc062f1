//! What is packed can be read again, and says the same.

mod common;

use common::{SUM, add, bound, decode, module, unbound};
use proptest::prelude::*;
use spore_abi::Description;
use spore_bundle::manifest::v1::{Callable, Code, CodeKind, Grant};
use spore_bundle::{Bundle, BundleId, CallableError, CodeId, Limits, Manifest, State, StateId};
use spore_bundle::{PartsError, StateKind};
use spore_value::{Definition, Field, Fields, Parameter, Shape, Signature, Type, Variant};

#[test]
fn a_bundle_survives_its_file() {
    for bundle in [
        unbound(),
        bound(),
        unbound().with_captures(0, vec![7; 1 << 20]).unwrap(),
    ] {
        let file = bundle.encode();
        let again = decode(file.clone()).unwrap();
        assert_eq!(again.id(), bundle.id());
        assert_eq!(again.manifest(), bundle.manifest());
        assert_eq!(again.code(), bundle.code());
        assert_eq!(again.state(), bundle.state());
        assert_eq!(again.encode(), file);
    }
}

#[test]
fn ids_are_hashes_of_the_parts() {
    let bundle = bound();
    assert_eq!(bundle.code_id(), CodeId::of(&module(SUM)));
    assert_eq!(bundle.state_id(), Some(StateId::of(&[7])));
    assert_eq!(bundle.id(), BundleId::of(bundle.manifest_bytes()));
}

#[test]
fn the_file_begins_with_the_code_and_decoding_does_not_copy_it() {
    let file = bytes::Bytes::from(bound().encode());
    let bundle = Bundle::decode(file.clone(), &Limits::default()).unwrap();
    assert_eq!(bundle.code().as_ptr(), file.as_ptr());
    assert_eq!(*bundle.code(), module(SUM));
}

#[test]
fn captures_can_be_replaced_and_left_behind() {
    let eight = bound().with_captures(0, vec![8]).unwrap();
    assert_eq!(
        eight.captures().map(|(index, bytes)| (index, &bytes[..])),
        Some((0, &[8][..]))
    );
    assert_ne!(eight.id(), bound().id());
    assert_eq!(eight.without_state().id(), unbound().id());
    assert_eq!(eight.code_id(), unbound().code_id());
}

#[test]
fn the_order_of_descriptions_does_not_matter() {
    let [second, first] = ["two::f", "one::f"].map(|name| Description {
        name: name.to_owned(),
        ..add()
    });
    let text = SUM.replace(
        r#"(export "spore1:bind/sum::add")"#,
        r#"(export "spore1:bind/one::f") (export "spore1:bind/two::f")"#,
    );
    let text = text.replace(
        r#"(export "spore1:start/sum::add")"#,
        r#"(export "spore1:start/one::f") (export "spore1:start/two::f")"#,
    );
    let code = module(&text);
    let a = Bundle::pack(code.clone(), "g", "1", vec![second.clone(), first.clone()]).unwrap();
    let b = Bundle::pack(code, "g", "1", vec![first, second]).unwrap();
    assert_eq!(a.id(), b.id());

    assert_eq!(a.callable("two::f").unwrap().0, 1);
    let candidates = vec!["one::f".to_owned(), "two::f".to_owned()];
    let ambiguous = CallableError::Ambiguous {
        name: "f".to_owned(),
        candidates,
    };
    assert_eq!(a.callable("f").unwrap_err(), ambiguous);
    assert_eq!(ambiguous.to_string(), r#""f" could be one::f, two::f"#);
    assert!(matches!(
        a.default_callable(),
        Err(CallableError::Several { .. })
    ));
    let bound = a.with_captures(1, vec![1]).unwrap();
    assert_eq!(bound.default_callable().unwrap().1.name, "two::f");
}

#[test]
fn what_runs_once_is_found_in_the_exports() {
    let hooks = r#"(module (func (export "spore1:restored/b::y") (export "spore1:init/a::x"))"#;
    let code = module(&SUM.replace("(module", hooks));
    let bundle = Bundle::pack(code, "sum", "0.1.0", vec![add()]).unwrap();
    assert_eq!(bundle.manifest().init.as_deref(), Some("spore1:init/a::x"));
    assert_eq!(
        bundle.manifest().restored.as_deref(),
        Some("spore1:restored/b::y")
    );
    assert_eq!(
        (&unbound().manifest().init, &unbound().manifest().restored),
        (&None, &None)
    );
}

#[test]
fn callables_are_found_by_full_name_and_last_segment() {
    let bundle = unbound();
    assert_eq!(bundle.callable("sum::add").unwrap().0, 0);
    assert_eq!(bundle.callable("add").unwrap().1.name, "sum::add");
    assert_eq!(bundle.default_callable().unwrap().0, 0);
    let unknown = bundle.callable("sub").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        r#"no callable "sub"; there are sum::add"#
    );
}

#[test]
fn parts_that_travelled_apart_make_the_same_bundle() {
    let bundle = bound();
    let parts = || {
        (
            bundle.manifest_bytes().clone(),
            bundle.code().clone(),
            bundle.state().cloned().unwrap(),
        )
    };
    let (manifest, code, state) = parts();
    assert_eq!(
        Bundle::from_parts(manifest, code, Some(state)).unwrap(),
        bundle
    );
    let (manifest, code, state) = parts();
    assert_eq!(
        Bundle::dangerous_from_checked_parts(manifest, code, Some(state)).unwrap(),
        bundle
    );
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let bundle = bound();
    let (manifest, code) = (bundle.manifest_bytes().clone(), bundle.code().clone());

    let mut other = code.to_vec();
    *other.last_mut().unwrap() ^= 1;
    let error = Bundle::from_parts(manifest.clone(), other, Some(vec![7].into())).unwrap_err();
    assert!(matches!(error, PartsError::CodeId { named, .. } if named == bundle.code_id()));

    let error = Bundle::from_parts(manifest.clone(), code.clone(), Some(vec![8].into()));
    assert!(matches!(error.unwrap_err(), PartsError::StateId { .. }));
    let error = Bundle::from_parts(manifest.clone(), code.clone(), Some(vec![7, 7].into()));
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            PartsError::StateSize {
                announced: 1,
                found: 2
            }
        ),
        "{error:?}"
    );
    let error = Bundle::from_parts(manifest.clone(), code.clone(), None).unwrap_err();
    assert!(
        matches!(error, PartsError::StateMissing { .. }),
        "{error:?}"
    );
    let manifest = unbound().manifest_bytes().clone();
    let error = Bundle::from_parts(manifest.clone(), code.clone(), Some(vec![7].into()));
    assert!(matches!(error.unwrap_err(), PartsError::StateUnannounced));
    let error = Bundle::from_parts(manifest, code.slice(1..), None).unwrap_err();
    assert!(matches!(error, PartsError::CodeSize { .. }), "{error:?}");
}

/// Types that refer to definitions below `definitions`.
fn types(definitions: u32) -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Unit),
        Just(Type::U8),
        Just(Type::I128),
        Just(Type::String),
        Just(Type::Bytes),
        (0..definitions).prop_map(Type::Named),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|ty| Type::Option(Box::new(ty))),
            inner.clone().prop_map(|ty| Type::List(Box::new(ty))),
            (inner.clone(), 0..9_u32).prop_map(|(ty, n)| Type::Array(Box::new(ty), n)),
            (inner.clone(), inner.clone())
                .prop_map(|(ok, err)| Type::Result(Box::new(ok), Box::new(err))),
            prop::collection::vec(inner, 1..4).prop_map(Type::Tuple),
        ]
    })
}

/// Distinct names of fields, parameters or variants.
fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-z_é][a-z0-9_]{0,8}", 0..4)
        .prop_map(|names| names.into_iter().collect())
}

fn parameters(definitions: u32) -> impl Strategy<Value = Vec<Parameter>> {
    names().prop_flat_map(move |names| {
        let types = prop::collection::vec(types(definitions), names.len());
        types.prop_map(move |types| {
            let pairs = names.clone().into_iter().zip(types);
            pairs.map(|(name, ty)| Parameter { name, ty }).collect()
        })
    })
}

/// Structs and enums whose fields are lists of each other, so that all of them have values.
fn definition(definitions: u32) -> impl Strategy<Value = Definition> {
    let field = (types(definitions), "[ -~]{0,20}").prop_map(|(ty, docs)| (docs, ty));
    let fields = (names(), prop::collection::vec(field, 4)).prop_map(|(names, fields)| {
        let fields = names.into_iter().zip(fields);
        Fields::Named(
            fields
                .map(|(name, (docs, ty))| Field {
                    name,
                    docs,
                    ty: Type::List(Box::new(ty)),
                })
                .collect(),
        )
    });
    let fields = fields.boxed();
    let shape = prop_oneof![
        fields.clone().prop_map(Shape::Struct),
        (fields, types(definitions)).prop_map(|(fields, ty)| {
            let variant = |name: &str, fields| Variant {
                name: name.to_owned(),
                docs: String::new(),
                fields,
            };
            let list = Fields::Tuple(vec![Type::List(Box::new(ty))]);
            Shape::Enum(vec![
                variant("None", Fields::Unit),
                variant("One", list),
                variant("Many", fields),
            ])
        }),
    ];
    ("[A-Z][a-z]{0,8}", "[ -~\n]{0,40}", shape).prop_map(|(name, docs, shape)| Definition {
        name,
        docs,
        shape,
    })
}

fn signature() -> impl Strategy<Value = Signature> {
    (1..4_u32).prop_flat_map(|count| {
        (
            parameters(count),
            parameters(count),
            types(count),
            prop::option::of(types(count)),
            prop::collection::vec(definition(count), count as usize),
        )
            .prop_map(
                |(captures, parameters, returns, error, definitions)| Signature {
                    captures,
                    parameters,
                    returns,
                    error,
                    definitions,
                },
            )
    })
}

fn callables() -> impl Strategy<Value = Vec<Callable>> {
    let grant = prop_oneof![
        "[a-z]{1,5}".prop_map(Grant::Directory),
        "[A-Z]{1,5}".prop_map(Grant::Environment),
        Just(Grant::Clock),
        Just(Grant::Random),
    ];
    let grants = prop::collection::btree_set(grant, 0..4);
    let rest = ("[ -~\n]{0,60}", signature(), any::<[bool; 3]>(), grants);
    prop::collection::btree_map("[a-z]{1,6}(::[a-z]{1,6}){1,2}", rest, 1..4).prop_map(|map| {
        let each = |(name, (docs, signature, flags, grants))| {
            let [consumes_captures, resumable, streams] = flags;
            let grants = std::collections::BTreeSet::into_iter(grants).collect();
            let codec = spore_value::CODEC;
            Callable {
                name,
                docs,
                codec,
                signature,
                consumes_captures,
                resumable,
                streams,
                grants,
            }
        };
        map.into_iter().map(each).collect()
    })
}

fn manifests() -> impl Strategy<Value = Manifest> {
    let kind = prop_oneof![Just(CodeKind::Module), Just(CodeKind::Component)];
    let code = (any::<[u8; 32]>(), any::<u64>(), kind);
    let state = prop::option::of((any::<[u8; 32]>(), any::<u64>(), any::<Option<u16>>()));
    let hooks = prop::option::of("[a-z:/]{1,9}");
    (
        "[a-z_-]{1,12}",
        "[0-9.]{1,8}",
        code,
        state,
        (hooks.clone(), hooks),
        callables(),
    )
        .prop_map(
            |(name, version, (id, bytes, kind), state, (init, restored), callables)| Manifest {
                abi: spore_abi::ABI_VERSION,
                name,
                version,
                code: Code {
                    id: id.into(),
                    bytes,
                    kind,
                },
                state: state.map(|(id, bytes, layout)| {
                    let captures = callables
                        .iter()
                        .position(|each| !each.signature.captures.is_empty());
                    let kind = match (layout, captures) {
                        (None, Some(index)) => StateKind::Captures {
                            callable: index as u32,
                        },
                        (layout, _) => StateKind::Image {
                            layout: layout.unwrap_or(9),
                            job: Some(0),
                        },
                    };
                    State {
                        id: id.into(),
                        bytes,
                        kind,
                    }
                }),
                init,
                restored,
                callables,
            },
        )
}

proptest! {
    #[test]
    fn manifests_survive(manifest in manifests()) {
        let bytes = manifest.encode().unwrap();
        let again = Manifest::decode(&bytes).unwrap();
        prop_assert_eq!(&again, &manifest);
        prop_assert_eq!(again.encode().unwrap(), bytes);
    }

    #[test]
    fn states_survive(state in prop::collection::vec(any::<u8>(), 0..5000)) {
        let bundle = unbound().with_captures(0, state.clone()).unwrap();
        let again = decode(bundle.encode()).unwrap();
        prop_assert_eq!(&again.state().unwrap()[..], &state[..]);
        prop_assert_eq!(again, bundle);
    }
}
