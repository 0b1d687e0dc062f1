//! Types and values that no program was compiled for.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use spore_value::json::{from_json, to_json};
use spore_value::{
    DecodeError, Definition, Difference, Field, Fields, Limits, Parameter, Shape, Signature, Type,
    Variant, codec, difference, render, validate,
};

/// A type whose named types are among the first `definitions`.
fn ty(definitions: u32) -> impl Strategy<Value = Type> {
    let plain = prop::sample::select(vec![
        Type::Unit,
        Type::Bool,
        Type::U8,
        Type::U16,
        Type::U32,
        Type::U64,
        Type::U128,
        Type::I8,
        Type::I16,
        Type::I32,
        Type::I64,
        Type::I128,
        Type::F32,
        Type::F64,
        Type::Char,
        Type::String,
        Type::Bytes,
        Type::Duration,
    ]);
    let leaf = match definitions {
        0 => plain.boxed(),
        _ => prop_oneof![2 => plain, 1 => (0..definitions).prop_map(Type::Named)].boxed(),
    };
    leaf.prop_recursive(3, 8, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Type::Option),
            boxed.clone().prop_map(Type::List),
            (boxed.clone(), 0..3u32).prop_map(|(element, length)| Type::Array(element, length)),
            boxed.clone().prop_map(Type::Set),
            (boxed.clone(), boxed.clone()).prop_map(|(key, value)| Type::Map(key, value)),
            vec(inner, 0..3).prop_map(Type::Tuple),
            (boxed.clone(), boxed).prop_map(|(ok, error)| Type::Result(ok, error)),
        ]
    })
}

fn fields(definitions: u32) -> impl Strategy<Value = Fields> {
    let types = || vec(ty(definitions), 0..4);
    prop_oneof![
        Just(Fields::Unit),
        types().prop_map(Fields::Tuple),
        types().prop_map(|types| {
            let field = |(index, ty)| Field {
                name: format!("f{index}"),
                docs: String::new(),
                ty,
            };
            Fields::Named(types.into_iter().enumerate().map(field).collect())
        }),
    ]
}

/// A table where a definition may refer to any, itself too.
fn table() -> impl Strategy<Value = Vec<Definition>> {
    let definition = prop_oneof![
        fields(3).prop_map(Shape::Struct),
        vec(fields(3), 1..4).prop_map(|list| {
            let variant = |(index, fields)| Variant {
                name: format!("V{index}"),
                docs: String::new(),
                fields,
            };
            Shape::Enum(list.into_iter().enumerate().map(variant).collect())
        }),
    ];
    vec(definition, 3).prop_map(|shapes| {
        let definition = |(index, shape)| Definition {
            name: format!("T{index}"),
            docs: String::new(),
            shape,
        };
        shapes.into_iter().enumerate().map(definition).collect()
    })
}

fn signature(ty: Type, definitions: Vec<Definition>) -> Signature {
    let captures = vec![Parameter {
        name: "a".into(),
        ty,
    }];
    Signature {
        captures,
        parameters: Vec::new(),
        returns: Type::Unit,
        error: None,
        definitions,
    }
}

/// Reads the choices that make a value off a list; without choices left everything is small.
struct Choices<'a> {
    definitions: &'a [Definition],
    left: std::slice::Iter<'a, u64>,
}

impl Choices<'_> {
    fn next(&mut self) -> u64 {
        self.left.next().copied().unwrap_or(0)
    }

    fn length(&mut self) -> u64 {
        self.next() % 4
    }

    /// The JSON of a value of the type, or `None` when it grows without end.
    fn json(&mut self, ty: &Type, depth: usize) -> Option<Json> {
        let depth = depth.checked_sub(1)?;
        let number = self.next();
        let integer = |bits: u32| match bits {
            // As many bits, so that all widths come up.
            64 => number >> (number % 64),
            bits => (number >> (number % 64)) & ((1 << bits) - 1),
        };
        let digits = |number: i128| match number.unsigned_abs() <= 1 << 53 {
            true => json!(number as i64),
            false => json!(number.to_string()),
        };
        let float = |number: f64, bits: u64, digits: usize, quiet: u64| {
            if number.is_finite() {
                json!(number)
            } else if bits == quiet {
                json!("NaN")
            } else if number.is_nan() {
                json!(format!("NaN:{bits:0digits$x}"))
            } else {
                json!(if number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                })
            }
        };
        Some(match ty {
            Type::Unit => Json::Null,
            Type::Bool => json!(number.is_multiple_of(2)),
            Type::U8 => json!(integer(8)),
            Type::U16 => json!(integer(16)),
            Type::U32 => json!(integer(32)),
            Type::U64 => digits(integer(64).into()),
            Type::U128 => digits((i128::from(integer(64)) << 63) * i128::from(number % 2)),
            Type::I8 => json!(integer(8) as i8),
            Type::I16 => json!(integer(16) as i16),
            Type::I32 => json!(integer(32) as i32),
            Type::I64 => digits((integer(64) as i64).into()),
            Type::I128 => digits(-(i128::from(integer(64)) << 60)),
            // Written as a float of its own width: a whole number is enough here.
            Type::F32 => json!(f64::from(integer(16) as f32)),
            Type::F64 => {
                let bits = if number.is_multiple_of(3) {
                    number | 0x7ff0 << 48
                } else {
                    number
                };
                float(f64::from_bits(bits), bits, 16, 0x7ff8 << 48)
            }
            Type::Char => json!(char::from_u32(integer(16) as u32).unwrap_or('x')),
            Type::String => json!("x".repeat(integer(8) as usize)),
            Type::Bytes => json!(["", "AA==", "AAE=", "AAEC"][(number % 4) as usize]),
            Type::Duration => json!(format!("{}s", integer(64))),
            Type::Option(inner) => match number % 2 {
                0 => Json::Null,
                _ => {
                    let some = self.json(inner, depth)?;
                    if nullable(inner, self.definitions, 9) {
                        json!({"some": some})
                    } else {
                        some
                    }
                }
            },
            Type::List(element) => self.list(element, depth)?,
            Type::Array(element, length) => (0..*length)
                .map(|_| self.json(element, depth))
                .collect::<Option<_>>()?,
            // Order is for `canonical.rs`, so that one element is enough.
            Type::Set(element) => match number % 2 {
                0 => json!([]),
                _ => json!([self.json(element, depth)?]),
            },
            Type::Map(key, value) if **key == Type::String => {
                let mut object = Map::new();
                // Keys of growing length are in the order of their bytes.
                for index in 0..self.length() {
                    object.insert("k".repeat(index as usize), self.json(value, depth)?);
                }
                Json::Object(object)
            }
            Type::Map(key, value) => {
                let key = self.json(key, depth)?;
                json!([[key, self.json(value, depth)?]])
            }
            Type::Tuple(types) => self.positions(types, depth)?,
            Type::Result(ok, error) => match number % 2 {
                0 => json!({"Ok": self.json(ok, depth)?}),
                _ => json!({"Err": self.json(error, depth)?}),
            },
            Type::Named(index) => match &self.definitions[*index as usize].shape {
                Shape::Struct(fields) => self.fields(fields, depth)?,
                Shape::Enum(variants) => {
                    let variant = &variants[(number % variants.len() as u64) as usize];
                    match &variant.fields {
                        Fields::Unit => json!(variant.name),
                        fields => json!({variant.name.clone(): self.fields(fields, depth)?}),
                    }
                }
            },
        })
    }
    fn list(&mut self, element: &Type, depth: usize) -> Option<Json> {
        (0..self.length())
            .map(|_| self.json(element, depth))
            .collect()
    }

    fn positions(&mut self, types: &[Type], depth: usize) -> Option<Json> {
        types.iter().map(|ty| self.json(ty, depth)).collect()
    }

    fn fields(&mut self, fields: &Fields, depth: usize) -> Option<Json> {
        Some(match fields {
            Fields::Unit => Json::Null,
            Fields::Tuple(types) if types.len() == 1 => self.json(&types[0], depth)?,
            Fields::Tuple(types) => self.positions(types, depth)?,
            Fields::Named(fields) => {
                let mut object = Map::new();
                for field in fields {
                    object.insert(field.name.clone(), self.json(&field.ty, depth)?);
                }
                Json::Object(object)
            }
        })
    }
}

fn nullable(ty: &Type, definitions: &[Definition], left: usize) -> bool {
    left > 0
        && match ty {
            Type::Unit | Type::Option(_) => true,
            Type::Named(index) => match &definitions[*index as usize].shape {
                Shape::Struct(Fields::Unit) => true,
                Shape::Struct(Fields::Tuple(types)) if types.len() == 1 => {
                    nullable(&types[0], definitions, left - 1)
                }
                _ => false,
            },
            _ => false,
        }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1 << 20, ..ProptestConfig::with_cases(512) })]

    /// JSON → bytes → JSON gives the same JSON, and the same bytes from there.
    #[test]
    fn values_of_any_type_survive(
        ty in ty(3),
        definitions in table(),
        choices in vec(any::<u64>(), 0..200),
    ) {
        let mut choices = Choices { definitions: &definitions, left: choices.iter() };
        let json = choices.json(&ty, 40);
        prop_assume!(json.is_some());
        let json = json.unwrap();
        let limits = Limits::default();
        let bytes = from_json(&ty, &definitions, &json, &limits).unwrap();
        let written = to_json(&ty, &definitions, &bytes, &limits).unwrap();
        prop_assert_eq!(written.to_string(), json.to_string());
    }

    /// Whatever the bytes and the type, the end is a value or an error.
    #[test]
    fn any_bytes_of_any_type_end(
        ty in ty(5),
        definitions in table(),
        bytes in vec(prop_oneof![4 => 0..3u8, 1 => any::<u8>()], 0..64),
    ) {
        let limits = Limits::default().with_work(1 << 14).with_elements(1 << 10);
        if let Ok(json) = to_json(&ty, &definitions, &bytes, &limits) {
            prop_assert_eq!(from_json(&ty, &definitions, &json, &limits), Ok(bytes));
        }
        let _ = from_json(&ty, &definitions, &json!([{"V0": [null, 1]}, "V1", {}]), &limits);
    }

    /// What validation lets through has values, which are found without end being a danger.
    #[test]
    fn validation_comes_before_use(ty in ty(5), definitions in table()) {
        let signature = signature(ty.clone(), definitions.clone());
        let none = render(&ty, &definitions).contains("type #");
        prop_assert!(!(none && validate(&signature).is_ok()));
        let bytes = codec::encode_serde(&signature).unwrap();
        prop_assert_eq!(codec::decode_serde::<Signature>(&bytes, &Limits::default()), Ok(signature));
    }

    /// A type is equal to itself under other numbers and names, and not to one with a change.
    #[test]
    fn comparison_sees_structure(ty in ty(3), definitions in table()) {
        let turned: Vec<_> = (0..3).map(|index| turn(&definitions[(index + 1) % 3])).collect();
        let other = turn_type(&ty);
        prop_assert_eq!(difference((&ty, &definitions), (&other, &turned)), None);
        prop_assert_eq!(difference((&other, &turned), (&ty, &definitions)), None);
        let option = Type::Option(Box::new(ty.clone()));
        let found = difference((&option, &definitions), (&Type::List(Box::new(ty)), &definitions));
        let nearest = found.map(|Difference { path, .. }| path);
        prop_assert_eq!(nearest, Some(String::new()));
    }
}

/// Definitions under the number before, the first under the last.
fn turn_type(ty: &Type) -> Type {
    let boxed = |ty: &Type| Box::new(turn_type(ty));
    match ty {
        Type::Named(index) => Type::Named((index + 2) % 3),
        Type::Option(inner) => Type::Option(boxed(inner)),
        Type::List(inner) => Type::List(boxed(inner)),
        Type::Set(inner) => Type::Set(boxed(inner)),
        Type::Array(inner, length) => Type::Array(boxed(inner), *length),
        Type::Map(key, value) => Type::Map(boxed(key), boxed(value)),
        Type::Result(ok, error) => Type::Result(boxed(ok), boxed(error)),
        Type::Tuple(types) => Type::Tuple(types.iter().map(turn_type).collect()),
        plain => plain.clone(),
    }
}

fn turn_fields(fields: &Fields) -> Fields {
    match fields {
        Fields::Unit => Fields::Unit,
        Fields::Tuple(types) => Fields::Tuple(types.iter().map(turn_type).collect()),
        Fields::Named(fields) => Fields::Named(
            fields
                .iter()
                .map(|field| Field {
                    docs: "other".into(),
                    ty: turn_type(&field.ty),
                    ..field.clone()
                })
                .collect(),
        ),
    }
}

fn turn(definition: &Definition) -> Definition {
    let shape = match &definition.shape {
        Shape::Struct(fields) => Shape::Struct(turn_fields(fields)),
        Shape::Enum(variants) => Shape::Enum(
            variants
                .iter()
                .map(|variant| Variant {
                    fields: turn_fields(&variant.fields),
                    ..variant.clone()
                })
                .collect(),
        ),
    };
    Definition {
        name: "Other".into(),
        docs: "other".into(),
        shape,
    }
}

#[test]
fn a_variant_that_is_not_there_is_an_error() {
    let variants = vec![Variant {
        name: "A".into(),
        docs: String::new(),
        fields: Fields::Unit,
    }];
    let shape = Shape::Enum(variants);
    let table = [Definition {
        name: "E".into(),
        docs: String::new(),
        shape,
    }];
    let refusal = to_json(&Type::Named(0), &table, &[1], &Limits::default());
    assert_eq!(
        refusal,
        Err(DecodeError::NoVariant {
            found: 1,
            variants: 1
        })
    );
    let result = Type::Result(Box::new(Type::Unit), Box::new(Type::Unit));
    let refusal = to_json(&result, &[], &[2], &Limits::default());
    assert_eq!(
        refusal,
        Err(DecodeError::NoVariant {
            found: 2,
            variants: 2
        })
    );
}
