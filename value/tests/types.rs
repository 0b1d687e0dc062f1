//! Types as they are described, written, compared and checked.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;

use common::*;
use spore_value::{
    DEFINITIONS_MAX, DOCS_BYTES_MAX, Definition, Describer, Field, Fields, NAME_BYTES_MAX,
    PARAMETERS_MAX, Parameter, Shape, Signature, TYPE_DEPTH_MAX, TYPES_MAX, Type, TypeError, Value,
    Variant, difference, render, signature_difference, validate,
};

fn named(index: u32) -> Type {
    Type::Named(index)
}

/// What a book holds.
///
/// In two paragraphs.
#[derive(Value)]
#[allow(dead_code)]
struct Holding<T> {
    /// Its ticker.
    symbol: String,
    #[serde(rename = "weight")]
    /** How much
    of it. */
    share: T,
    /** What comes then,
     *
     * - or
     *   nothing.
     */
    next: Option<Box<Holding<T>>>,
}

/// Types of one's own that have names of the standard library.
#[derive(Value)]
#[allow(dead_code)]
struct Cell {
    weak: Weak,
    cells: Vec<Cell>,
}

#[derive(Value)]
#[allow(dead_code)]
struct Weak {
    mutex: u8,
}

#[test]
fn a_type_is_not_taken_for_another_of_its_name() {
    let (ty, definitions) = described::<Cell>();
    assert_eq!((ty, definitions.len()), (named(0), 2));
}

#[test]
fn definitions_hold_names_and_documentation() {
    let (ty, definitions) = described::<Holding<f64>>();
    assert_eq!(ty, named(0));
    let field = |name: &str, docs: &str, ty| Field {
        name: name.into(),
        docs: docs.into(),
        ty,
    };
    let fields = vec![
        field("symbol", "Its ticker.", Type::String),
        field("weight", "How much\nof it.", Type::F64),
        field(
            "next",
            "What comes then,\n\n- or\n  nothing.",
            Type::Option(Box::new(named(0))),
        ),
    ];
    assert_eq!(
        definitions,
        [Definition {
            name: "Holding".into(),
            docs: "What a book holds.\n\nIn two paragraphs.".into(),
            shape: Shape::Struct(Fields::Named(fields)),
        }]
    );
}

#[test]
fn forms_of_fields_and_variants() {
    let (_, definitions) = described::<Kind>();
    let Shape::Enum(variants) = &definitions[0].shape else {
        panic!("an enum")
    };
    let names: Vec<_> = variants
        .iter()
        .map(|variant| variant.name.as_str())
        .collect();
    assert_eq!(names, ["Unit", "Empty", "One", "both", "Named"]);
    assert_eq!(variants[0].fields, Fields::Unit);
    assert_eq!(variants[1].fields, Fields::Tuple(vec![]));
    assert_eq!(variants[2].fields, Fields::Tuple(vec![named(1)]));
    assert_eq!(
        variants[3].fields,
        Fields::Tuple(vec![Type::String, Type::Char])
    );
    let Fields::Named(fields) = &variants[4].fields else {
        panic!("named fields")
    };
    assert_eq!(
        (fields[1].name.as_str(), &fields[1].ty),
        ("type", &Type::Duration)
    );
}

#[test]
fn each_instance_of_a_generic_type_is_a_definition_and_each_type_one() {
    let mut types = Describer::new();
    let first = types.describe::<Holding<f64>>();
    let second = types.describe::<Holding<u8>>();
    let third = types.describe::<(Holding<f64>, Vec<Holding<u8>>)>();
    assert_eq!((&first, &second), (&named(0), &named(1)));
    assert_eq!(
        third,
        Type::Tuple(vec![first, Type::List(Box::new(second))])
    );
    assert_eq!(types.finish().len(), 2);
}

#[test]
fn types_of_the_library() {
    let plain = |described: (Type, Vec<Definition>)| {
        assert!(described.1.is_empty());
        render(&described.0, &[])
    };
    assert_eq!(plain(described::<Vec<u8>>()), "Vec<u8>");
    assert_eq!(described::<Vec<u8>>().0, Type::Bytes);
    assert_eq!(described::<Box<[u8]>>().0, Type::Bytes);
    assert_eq!(described::<std::collections::VecDeque<u8>>().0, Type::Bytes);
    assert_eq!(described::<[u8; 4]>().0, Type::Array(Box::new(Type::U8), 4));
    assert_eq!(described::<Vec<i8>>().0, Type::List(Box::new(Type::I8)));
    assert_eq!(
        described::<(usize, isize)>().0,
        Type::Tuple(vec![Type::U32, Type::I32])
    );
    assert_eq!(
        described::<std::borrow::Cow<'static, str>>().0,
        Type::String
    );
    assert_eq!(
        described::<PhantomData<std::thread::Thread>>().0,
        Type::Unit
    );
    assert_eq!(
        plain(described::<Option<Box<Result<(), (char,)>>>>()),
        "Option<Result<(), (char,)>>"
    );
    assert_eq!(
        plain(described::<BTreeMap<String, HashSet<[i16; 2]>>>()),
        "Map<String, Set<[i16; 2]>>"
    );
}

/// Needs `Eq` and `Hash` for the set, and a value for the type that is taken from `T`.
#[derive(Value)]
#[allow(dead_code)]
struct Bounded<T: std::hash::Hash + Eq + Iterator, const N: usize>
where
    T::Item: Clone,
{
    set: HashSet<T>,
    item: Option<T::Item>,
    array: [u8; N],
}

/// Has no values.
#[derive(Value, Debug, PartialEq)]
enum Never {}

#[test]
fn an_enum_without_variants_has_no_value() {
    let none: Vec<Never> = vec![];
    let bytes = spore_value::codec::encode(&none).unwrap();
    assert_eq!(
        spore_value::codec::decode::<Vec<Never>>(&bytes, &Default::default()),
        Ok(none)
    );
    assert!(spore_value::codec::decode::<Never>(&[0], &Default::default()).is_err());
    validate(&signature(described::<Result<u8, Never>>())).unwrap();
}

fn signature((returns, definitions): (Type, Vec<Definition>)) -> Signature {
    Signature {
        captures: vec![],
        parameters: vec![],
        returns,
        error: None,
        definitions,
    }
}

mod elsewhere {
    use spore_value::Value;

    /// The same structure.
    #[derive(Value)]
    #[allow(dead_code)]
    pub(crate) struct Item {
        pub(crate) name: String,
        pub(crate) children: Vec<Item>,
        pub(crate) expression: Sum,
    }

    #[derive(Value)]
    #[allow(dead_code)]
    pub(crate) enum Sum {
        Number(i64),
        Add(Box<Sum>, Box<Sum>),
        Not { of: Option<Box<Sum>> },
    }

    /// One field of another type, far inside.
    #[derive(Value)]
    #[allow(dead_code)]
    pub(crate) struct Other {
        name: String,
        children: Vec<Other>,
        expression: Difference,
    }

    #[derive(Value)]
    #[allow(dead_code)]
    pub(crate) enum Difference {
        Number(i64),
        Add(Box<Difference>, Box<Difference>),
        Not { of: Box<Difference> },
    }
}

#[track_caller]
fn differ(expected: (Type, Vec<Definition>), found: (Type, Vec<Definition>), message: &str) {
    let side = difference((&expected.0, &expected.1), (&found.0, &found.1));
    assert_eq!(side.unwrap().to_string(), message);
}

#[test]
fn names_and_documentation_of_types_do_not_matter() {
    let (tree, item) = (described::<Tree>(), described::<elsewhere::Item>());
    assert_eq!(difference((&tree.0, &tree.1), (&item.0, &item.1)), None);
}

#[test]
fn differences_are_shown_where_they_are() {
    differ(
        described::<Tree>(),
        described::<elsewhere::Other>(),
        ".expression.Not.of: expected Option<Expression>, found Difference",
    );
    differ(
        described::<Vec<u8>>(),
        described::<Vec<i8>>(),
        "expected Vec<u8>, found Vec<i8>",
    );
    differ(
        described::<BTreeMap<u8, [Option<u16>; 2]>>(),
        described::<BTreeMap<u8, [Option<u32>; 2]>>(),
        "{value}[]?: expected u16, found u32",
    );
    differ(
        described::<[u8; 2]>(),
        described::<[u8; 3]>(),
        "expected [u8; 2], found [u8; 3]",
    );
    differ(
        described::<(u8, bool)>(),
        described::<(u8, char)>(),
        ".1: expected bool, found char",
    );
    differ(
        described::<Result<u8, bool>>(),
        described::<Result<u8, Marker>>(),
        ".Err: expected bool, found Marker",
    );
    differ(
        described::<Marker>(),
        described::<Wrapped>(),
        "expected struct Marker without fields, found struct Wrapped of 1 unnamed fields",
    );
    differ(
        described::<Marker>(),
        described::<Never>(),
        "expected struct Marker without fields, found enum Never",
    );
    differ(
        described::<Holding<u8>>(),
        described::<Tree>(),
        "expected field `symbol`, found field `name`",
    );
    differ(
        described::<Never>(),
        described::<Kind>(),
        "expected no variant 1, found variant `Unit`",
    );
}

#[test]
fn signatures_are_compared_with_their_names() {
    let with = |name: &str, ty: Type, error| Signature {
        captures: vec![Parameter {
            name: name.into(),
            ty: Type::Unit,
        }],
        parameters: vec![Parameter {
            name: "seed".into(),
            ty,
        }],
        returns: Type::F64,
        error,
        definitions: vec![],
    };
    let expected = with("book", Type::U64, None);
    let message = |found: &Signature| {
        signature_difference(&expected, found).map(|difference| difference.to_string())
    };
    assert_eq!(message(&expected.clone()), None);
    let found = with("bok", Type::U64, None);
    assert_eq!(
        message(&found).unwrap(),
        "expected capture `book`, found capture `bok`"
    );
    let found = with("book", Type::U32, None);
    assert_eq!(
        message(&found).unwrap(),
        "parameter seed: expected u64, found u32"
    );
    let found = with("book", Type::U64, Some(Type::String));
    assert_eq!(
        message(&found).unwrap(),
        "the error: expected none, found String"
    );
    let found = Signature {
        returns: Type::F32,
        ..expected.clone()
    };
    assert_eq!(
        message(&found).unwrap(),
        "the result: expected f64, found f32"
    );
}

fn refused(ty: Type, shapes: Vec<Shape>) -> TypeError {
    let definition = |shape| Definition {
        name: "A".into(),
        docs: String::new(),
        shape,
    };
    validate(&signature((
        ty,
        shapes.into_iter().map(definition).collect(),
    )))
    .unwrap_err()
}

fn accepted(shapes: Vec<Shape>) {
    let definition = |shape| Definition {
        name: "A".into(),
        docs: String::new(),
        shape,
    };
    let definitions = shapes.into_iter().map(definition).collect();
    assert_eq!(validate(&signature((Type::Unit, definitions))), Ok(()));
}

fn of(types: Vec<Type>) -> Shape {
    Shape::Struct(Fields::Tuple(types))
}

fn choice(variants: Vec<Fields>) -> Shape {
    let variant = |(index, fields)| Variant {
        name: format!("V{index}"),
        docs: String::new(),
        fields,
    };
    Shape::Enum(variants.into_iter().enumerate().map(variant).collect())
}

#[test]
fn every_derived_table_is_valid() {
    for described in [
        described::<Numbers>(),
        described::<Containers<Tree>>(),
        described::<Holding<Kind>>(),
        described::<elsewhere::Item>(),
    ] {
        assert_eq!(validate(&signature(described)), Ok(()));
    }
}

#[test]
fn what_contains_itself_must_end() {
    let endless = TypeError::Endless { name: "A".into() };
    assert_eq!(refused(Type::Unit, vec![of(vec![named(0)])]), endless);
    assert_eq!(
        refused(Type::Unit, vec![of(vec![named(1)]), of(vec![named(0)])]),
        endless
    );
    let both = Type::Result(Box::new(named(0)), Box::new(named(0)));
    assert_eq!(refused(Type::Unit, vec![of(vec![both])]), endless);
    assert_eq!(
        refused(
            Type::Unit,
            vec![choice(vec![Fields::Tuple(vec![named(0)])])]
        ),
        endless
    );
    let array = |length| of(vec![Type::Array(Box::new(named(0)), length)]);
    assert_eq!(refused(Type::Unit, vec![array(1)]), endless);
    accepted(vec![array(0)]);
    accepted(vec![choice(vec![
        Fields::Tuple(vec![named(0)]),
        Fields::Unit,
    ])]);
    for empty in [Type::Option, Type::List, Type::Set] {
        accepted(vec![of(vec![empty(Box::new(named(0)))])]);
    }
    accepted(vec![of(vec![Type::Map(
        Box::new(named(0)),
        Box::new(named(0)),
    )])]);
    accepted(vec![of(vec![Type::Result(
        Box::new(named(0)),
        Box::new(Type::Unit),
    )])]);
}

#[test]
fn tables_refer_to_themselves_only() {
    let missing = TypeError::NoDefinition {
        index: 1,
        definitions: 1,
    };
    assert_eq!(refused(named(1), vec![of(vec![])]), missing);
    assert_eq!(
        refused(Type::Unit, vec![of(vec![Type::List(Box::new(named(1)))])]),
        missing
    );
    let missing = TypeError::NoDefinition {
        index: u32::MAX,
        definitions: 0,
    };
    assert_eq!(refused(named(u32::MAX), vec![]), missing);
}

#[test]
fn names_are_there_and_unique() {
    let field = |name: &str| Field {
        name: name.into(),
        docs: String::new(),
        ty: Type::Unit,
    };
    let fields = |names: [&str; 2]| Shape::Struct(Fields::Named(names.map(field).into()));
    let duplicate = TypeError::DuplicateName {
        name: "a".into(),
        place: "A".into(),
    };
    assert_eq!(refused(Type::Unit, vec![fields(["a", "a"])]), duplicate);
    let empty = TypeError::EmptyName { place: "A".into() };
    assert_eq!(refused(Type::Unit, vec![fields(["a", ""])]), empty);
    let parameter = || Parameter {
        name: "x".into(),
        ty: Type::Unit,
    };
    let mut twice = signature((Type::Unit, vec![]));
    twice.parameters = vec![parameter(), parameter()];
    let duplicate = TypeError::DuplicateName {
        name: "x".into(),
        place: "the parameters".into(),
    };
    assert_eq!(validate(&twice), Err(duplicate));
    twice.captures = vec![twice.parameters.remove(0)];
    assert_eq!(validate(&twice), Ok(()));
}

#[test]
fn tables_are_of_bounded_size() {
    let too_many = |what, found, limit| TypeError::TooMany { what, found, limit };

    let units = |count| vec![Shape::Struct(Fields::Unit); count];
    accepted(units(DEFINITIONS_MAX));
    let refusal = refused(Type::Unit, units(DEFINITIONS_MAX + 1));
    assert_eq!(
        refusal,
        too_many("definitions", DEFINITIONS_MAX + 1, DEFINITIONS_MAX)
    );

    // The result is a type too.
    accepted(vec![of(vec![Type::Unit; TYPES_MAX - 1])]);
    let refusal = refused(Type::Unit, vec![of(vec![Type::Unit; TYPES_MAX])]);
    assert_eq!(refusal, too_many("types", TYPES_MAX + 1, TYPES_MAX));
    let refusal = refused(Type::Unit, vec![choice(vec![Fields::Unit; TYPES_MAX])]);
    assert_eq!(refusal, too_many("types", TYPES_MAX + 1, TYPES_MAX));

    let nested = |levels| (0..levels).fold(Type::Unit, |ty, _| Type::List(Box::new(ty)));
    accepted(vec![of(vec![nested(TYPE_DEPTH_MAX)])]);
    let refusal = refused(nested(TYPE_DEPTH_MAX + 1), vec![]);
    assert_eq!(
        refusal,
        too_many("levels of a type", TYPE_DEPTH_MAX + 1, TYPE_DEPTH_MAX)
    );

    let parameter = |index| Parameter {
        name: format!("p{index}"),
        ty: Type::Unit,
    };
    let mut many = signature((Type::Unit, vec![]));
    many.captures = (0..PARAMETERS_MAX).map(parameter).collect();
    assert_eq!(validate(&many), Ok(()));
    many.captures.push(parameter(PARAMETERS_MAX));
    let refusal = too_many("captures or parameters", PARAMETERS_MAX + 1, PARAMETERS_MAX);
    assert_eq!(validate(&many), Err(refusal));

    let described = |name: usize, docs: usize| {
        let (name, docs) = ("n".repeat(name), "d".repeat(docs));
        let shape = Shape::Struct(Fields::Unit);
        validate(&signature((
            Type::Unit,
            vec![Definition { name, docs, shape }],
        )))
    };
    assert_eq!(described(NAME_BYTES_MAX, DOCS_BYTES_MAX), Ok(()));
    let refusal = too_many("bytes of a name", NAME_BYTES_MAX + 1, NAME_BYTES_MAX);
    assert_eq!(described(NAME_BYTES_MAX + 1, 0), Err(refusal));
    let refusal = too_many("bytes of documentation", DOCS_BYTES_MAX + 1, DOCS_BYTES_MAX);
    assert_eq!(described(1, DOCS_BYTES_MAX + 1), Err(refusal));
}

#[test]
fn the_largest_tables_are_compared_and_checked_in_bounded_time() {
    // Rings of lengths without a common divisor: every pair of definitions is met once.
    let ring = |count: u32| {
        let shape = |index| of(vec![Type::Option(Box::new(named((index + 1) % count)))]);
        let definition = |index| Definition {
            name: "R".into(),
            docs: String::new(),
            shape: shape(index),
        };
        (named(0), (0..count).map(definition).collect::<Vec<_>>())
    };
    let count = DEFINITIONS_MAX as u32;
    let (a, b) = (ring(count), ring(count - 1));
    assert_eq!(difference((&a.0, &a.1), (&b.0, &b.1)), None);
    // A chain that ends at its far end is the slowest to check.
    let mut chain: Vec<_> = (1..count).map(|next| of(vec![named(next)])).collect();
    chain.push(of(vec![]));
    accepted(chain);
}

mod reexport {
    pub(crate) use spore_value as value;
}

/// Finds the crate where it is told to.
#[derive(Value)]
#[value(crate = "crate::reexport::value")]
#[allow(dead_code)]
struct Elsewhere {
    field: u8,
}

#[test]
fn the_crate_may_be_reached_through_another() {
    assert_eq!(described::<Elsewhere>().1[0].name, "Elsewhere");
    assert_eq!(
        described::<std::convert::Infallible>().1[0].shape,
        Shape::Enum(vec![])
    );
}
