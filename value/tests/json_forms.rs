//! The written form of every type in JSON, and what is said of JSON that is not of its type.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use common::*;
use serde_json::{Value as Json, json};
use spore_value::json::{
    JSON_WORK_MAX, captures_from_json_object, from_json, parameters_from_json_array,
    parameters_to_json, to_json,
};
use spore_value::{
    Definition, Describer, Fields, Limits, Parameter, Shape, Type, Value, Variant, codec,
};

/// The value and the JSON stand for each other.
#[track_caller]
fn written<T: Value + std::fmt::Debug>(value: T, json: Json) {
    let (ty, definitions) = described::<T>();
    let bytes = codec::encode(&value).unwrap();
    let limits = Limits::default();
    let text = serde_json::to_string(&to_json(&ty, &definitions, &bytes, &limits).unwrap());
    assert_eq!(text.unwrap(), serde_json::to_string(&json).unwrap());
    assert_eq!(
        from_json(&ty, &definitions, &json, &limits),
        Ok(bytes),
        "{json}"
    );
}

/// The JSON is read as the value, although it is written otherwise.
#[track_caller]
fn read<T: Value + std::fmt::Debug>(json: Json, value: T) {
    let (ty, definitions) = described::<T>();
    let bytes = codec::encode(&value).unwrap();
    assert_eq!(
        from_json(&ty, &definitions, &json, &Limits::default()),
        Ok(bytes)
    );
}

#[track_caller]
fn refused<T: Value>(json: Json, message: &str) {
    let (ty, definitions) = described::<T>();
    let error = from_json(&ty, &definitions, &json, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn numbers() {
    written(255u8, json!(255));
    written(-1i8, json!(-1));
    written(1u64 << 53, json!(9_007_199_254_740_992u64));
    written((1u64 << 53) + 1, json!("9007199254740993"));
    written(-(1i64 << 53), json!(-9_007_199_254_740_992i64));
    written(-(1i64 << 53) - 1, json!("-9007199254740993"));
    written(u128::MAX, json!("340282366920938463463374607431768211455"));
    written(i128::MIN, json!("-170141183460469231731687303715884105728"));
    read(json!(u64::MAX), u64::MAX);
    read(json!(i64::MIN), i64::MIN);
    read(json!("7"), 7u8);
    read(json!(1e3), 1000u16);
    read(json!("-0"), 0i8);
    refused::<u8>(json!(256), "the value: expected u8, found the number 256");
    refused::<u8>(json!(-1), "the value: expected u8, found the number -1");
    refused::<u8>(json!(1.5), "the value: expected u8, found the number 1.5");
    refused::<i32>(
        json!("+1"),
        "the value: expected i32, found the string \"+1\"",
    );
    // 2⁵³ + 1 as a float would be 2⁵³, so a float beyond that may not be what was meant.
    refused::<u128>(
        json!(1e20),
        "the value: expected u128 (a number, or its digits as a string), \
         found the number 1e+20",
    );
}

#[test]
fn an_integer_is_read_as_a_float_only_if_one_is_that() {
    read(json!(16_777_216), 16_777_216f32);
    read(json!(-16_777_216), -16_777_216f32);
    for wrong in [json!(16_777_217), json!(-16_777_217)] {
        let message = format!(
            "the value: expected f32 (a number, \"NaN\", \"Infinity\" or \"-Infinity\"), \
             found the number {wrong}"
        );
        refused::<f32>(wrong, &message);
    }
    // A fraction is rounded to the nearest, as everywhere.
    read(json!(16_777_217.5), 16_777_218f32);
}

#[test]
fn floats() {
    written(1.5f64, json!(1.5));
    written(-0.0f64, json!(-0.0));
    written(0.1f32, json!(0.1));
    written(f32::MAX, json!(3.4028235e38));
    written(f32::from_bits(1), json!(1e-45));
    written(f64::MIN_POSITIVE, json!(f64::MIN_POSITIVE));
    written(f64::INFINITY, json!("Infinity"));
    written(f32::NEG_INFINITY, json!("-Infinity"));
    written(f64::from_bits(0x7ff8_0000_0000_0000), json!("NaN"));
    written(
        f64::from_bits(0xfff8_0000_0000_0000),
        json!("NaN:fff8000000000000"),
    );
    written(
        f64::from_bits(0x7ff0_0000_0000_0001),
        json!("NaN:7ff0000000000001"),
    );
    written(f32::from_bits(0x7fc0_0000), json!("NaN"));
    written(f32::from_bits(0x7f80_0001), json!("NaN:7f800001"));
    read(json!(3), 3.0f64);
    read(serde_json::from_str("-0").unwrap(), -0.0f64);
    let form = "(a number, \"NaN\", \"Infinity\" or \"-Infinity\")";
    for (json, found) in [
        // A NaN that is none, and one of the other width.
        (
            json!("NaN:7ff0000000000000"),
            "the string \"NaN:7ff0000000000000\"",
        ),
        (json!("NaN:7f800001"), "the string \"NaN:7f800001\""),
        // No float is this integer.
        (json!((1u64 << 53) + 1), "the number 9007199254740993"),
        (json!("1.5"), "the string \"1.5\""),
    ] {
        refused::<f64>(
            json,
            &format!("the value: expected f64 {form}, found {found}"),
        );
    }
    refused::<f32>(
        json!(1e39),
        &format!("the value: expected f32 {form}, found the number 1e+39"),
    );
}

#[test]
fn plain_types() {
    written((), json!(null));
    written(true, json!(true));
    written('é', json!("é"));
    written(String::from("a\"b"), json!("a\"b"));
    written(vec![0u8, 255, 16], json!("AP8Q"));
    written(vec![1u8], json!("AQ=="));
    written(Duration::from_millis(1500), json!("1.5s"));
    written(Duration::from_secs(60), json!("60s"));
    written(Duration::from_nanos(1), json!("0.000000001s"));
    written(Duration::MAX, json!("18446744073709551615.999999999s"));
    read(json!("1.50s"), Duration::from_millis(1500));
    for text in [
        "",
        "s",
        "1",
        ".5s",
        "1.s",
        "-1s",
        "1.0000000000s",
        "1e3s",
        "18446744073709551616s",
    ] {
        let message = "the value: expected Duration (a string of seconds like \"1.5s\"), \
                       found the string ";
        refused::<Duration>(json!(text), &format!("{message}\"{text}\""));
    }
    refused::<Vec<u8>>(
        json!("AQ"),
        "the value: expected Vec<u8> (a string of base64), found the string \"AQ\"",
    );
    refused::<char>(
        json!("ab"),
        "the value: expected char (a string of one character), found the string \"ab\"",
    );
    refused::<()>(json!(false), "the value: expected () (null), found false");
    let long = "x".repeat(1000);
    let cut = format!(
        "the value: expected bool, found the string \"{}…\"",
        &long[..40]
    );
    refused::<bool>(json!(long), &cut);
}

#[test]
fn options() {
    written(None::<u8>, json!(null));
    written(Some(1u8), json!(1));
    written(None::<Option<u8>>, json!(null));
    written(Some(None::<u8>), json!({"some": null}));
    written(Some(Some(1u8)), json!({"some": 1}));
    written(Some(()), json!({"some": null}));
    written(Some(Marker), json!({"some": null}));
    written(Some(Wrapped(Some(Marker))), json!({"some": {"some": null}}));
    written(Some(vec![()]), json!([null]));
    refused::<Option<Option<u8>>>(
        json!(1),
        "the value: expected Option<Option<u8>> (null or {\"some\": …}), found the number 1",
    );
}

#[test]
fn containers() {
    written(vec![1u16, 2], json!([1, 2]));
    written([1u8, 2], json!([1, 2]));
    written((1u8, "a".to_string()), json!([1, "a"]));
    written((7u8,), json!([7]));
    written(BTreeSet::from([1u16, 255, 256]), json!([1, 256, 255]));
    read(json!([256, 255, 1]), BTreeSet::from([1u16, 255, 256]));
    written(
        HashMap::from([("b".to_string(), 1u8), ("aa".into(), 2)]),
        json!({"b": 1, "aa": 2}),
    );
    written(
        BTreeMap::from([(2u8, 'b'), (1, 'a')]),
        json!([[1, "a"], [2, "b"]]),
    );
    read(
        json!([[2, "b"], [1, "a"]]),
        BTreeMap::from([(2u8, 'b'), (1, 'a')]),
    );
    written(Ok::<u8, String>(1), json!({"Ok": 1}));
    written(Err::<u8, String>("no".into()), json!({"Err": "no"}));
    refused::<BTreeSet<u8>>(
        json!([1, 2, 1]),
        "the value: two keys or elements are the same",
    );
    refused::<BTreeMap<u8, u8>>(
        json!([[1, 2], [1, 3]]),
        "the value: two keys or elements are the same",
    );
    refused::<[u8; 2]>(
        json!([1]),
        "the value: expected [u8; 2] (an array), found an array of 1",
    );
    refused::<(u8, u8)>(
        json!([1, 2, 3]),
        "the value: expected (u8, u8) (an array), found an array of 3",
    );
    refused::<BTreeMap<u8, u8>>(
        json!([[1]]),
        "[0]: expected a pair of key and value, found an array of 1",
    );
    refused::<BTreeMap<u8, u8>>(json!([[1, true]]), "[0][1]: expected u8, found true");
    refused::<BTreeMap<u8, u8>>(
        json!({}),
        "the value: expected Map<u8, u8> (an array of [key, value]), found an object of 0",
    );
    refused::<Result<u8, u8>>(
        json!({"Ok": 1, "Err": 2}),
        "the value: expected Result<u8, u8> ({\"Ok\": …} or {\"Err\": …}), found an object of 2",
    );
}

#[test]
fn structs_and_enums() {
    written(Marker, json!(null));
    written(Bits(1.0f64), json!(1.0));
    written(Pair("a".into(), None), json!(["a", null]));
    written(Kind::Unit, json!("Unit"));
    written(Kind::Empty(), json!({"Empty": []}));
    written(
        Kind::One(Pair("a".into(), None)),
        json!({"One": ["a", null]}),
    );
    written(Kind::Two("a".into(), 'b'), json!({"both": ["a", "b"]}));
    let named = Kind::Named {
        option: None,
        r#type: Duration::ZERO,
    };
    written(
        named.clone(),
        json!({"Named": {"option": null, "type": "0s"}}),
    );
    // Fields in any order, and an option left out.
    read(json!({"Named": {"type": "0s"}}), named);
    let number = Expression::Number(1);
    written(
        Expression::Not {
            of: Some(number.into()),
        },
        json!({"Not": {"of": {"Number": 1}}}),
    );

    refused::<Kind>(
        json!("One"),
        "the value: expected {\"One\": …}, since it has fields, found the string \"One\"",
    );
    refused::<Kind>(
        json!({"Unit": null}),
        "the value: expected the string \"Unit\", since it has no fields, found an object of 1",
    );
    refused::<Kind>(
        json!("unit"),
        "the value: `unit` is not known, only `Unit`, `Empty`, `One`, `both`, `Named`",
    );
    refused::<Kind>(
        json!({"Named": {}}),
        ".Named: `type` is missing, of type Duration",
    );
    refused::<Kind>(
        json!({"Named": {"type": "0s", "typ": 1}}),
        ".Named: `typ` is not known, only `option`, `type`",
    );
    refused::<Kind>(
        json!(1),
        "the value: expected Kind (the name of a variant, or {\"Name\": …}), found the number 1",
    );
}

#[test]
fn a_path_leads_to_what_is_wrong() {
    refused::<Vec<Tree>>(
        json!([{"name": "a", "children": [{
            "name": "b",
            "children": [],
            "expression": {"Add": [{"Number": 1}, {"Not": {"of": {"Number": "x"}}}]},
        }], "expression": {"Number": 1}}]),
        "[0].children[0].expression.Add[1].Not.of.Number: \
         expected i64 (a number, or its digits as a string), found the string \"x\"",
    );
    refused::<HashMap<String, u8>>(
        json!({"a b": 1, "c": "d"}),
        ".c: expected u8, found the string \"d\"",
    );
}

fn parameters() -> (Vec<Parameter>, Vec<Definition>) {
    let mut types = Describer::new();
    let parameters = vec![
        Parameter {
            name: "pair".into(),
            ty: types.describe::<Pair>(),
        },
        Parameter {
            name: "count".into(),
            ty: types.describe::<u32>(),
        },
        Parameter {
            name: "seed".into(),
            ty: types.describe::<Option<u64>>(),
        },
    ];
    (parameters, types.finish())
}

#[test]
fn parameters_are_an_array_and_captures_an_object() {
    let (list, definitions) = parameters();
    let limits = Limits::default();
    let bytes = codec::encode(&(Pair("a".into(), None), 300u32, Some(5u64))).unwrap();
    let array = json!([["a", null], 300, 5]);
    assert_eq!(
        parameters_from_json_array(&list, &definitions, &array, &limits),
        Ok(bytes.clone())
    );
    let object = json!({"seed": 5, "count": 300, "pair": ["a", null]});
    assert_eq!(
        captures_from_json_object(&list, &definitions, &object, &limits),
        Ok(bytes.clone())
    );
    let values = parameters_to_json(&list, &definitions, &bytes, &limits).unwrap();
    let names = ["pair", "count", "seed"].map(String::from);
    assert_eq!(
        values,
        Vec::from_iter(
            names
                .into_iter()
                .zip([json!(["a", null]), json!(300), json!(5)])
        )
    );

    let cut = &bytes[..bytes.len() - 1];
    assert!(parameters_to_json(&list, &definitions, cut, &limits).is_err());
    let none = parameters_from_json_array(&[], &[], &json!([]), &limits);
    assert_eq!(none, Ok(Vec::new()));
}

#[test]
fn parameters_and_captures_are_named_in_errors() {
    let (list, definitions) = parameters();
    let limits = Limits::default();
    let array = |json| {
        parameters_from_json_array(&list, &definitions, &json, &limits)
            .unwrap_err()
            .to_string()
    };
    let object = |json| {
        captures_from_json_object(&list, &definitions, &json, &limits)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        array(json!([["a", 1], 3, 4])),
        "pair[1]: expected Option<Wrapped> (null or {\"some\": …}), found the number 1"
    );
    assert_eq!(
        array(json!([1])),
        "the value: expected an array of 3 arguments, found an array of 1"
    );
    assert_eq!(
        array(json!({})),
        "the value: expected an array of 3 arguments, found an object of 0"
    );
    assert_eq!(
        object(json!({"pair": ["a", null]})),
        "the value: `count` is missing, of type u32"
    );
    assert_eq!(
        object(json!({"books": 1})),
        "the value: `books` is not known, only `pair`, `count`, `seed`"
    );
    assert_eq!(
        object(json!({"pair": ["a", null], "count": -1})),
        "count: expected u32, found the number -1"
    );
    assert_eq!(
        object(json!([])),
        "the value: expected an object by the names of captures, found an array of 0"
    );
    let nothing = captures_from_json_object(&[], &[], &json!({"a": 1}), &limits).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "the value: `a` is not known, only that there are none"
    );
}

#[test]
fn limits_hold_for_json_too() {
    let refusal = |json: &Json, limits: Limits| {
        let (ty, definitions) = described::<Vec<Option<String>>>();
        from_json(&ty, &definitions, json, &limits).map_err(|error| error.to_string())
    };
    let json = json!(["ab", null]);
    let limits = Limits::default();
    assert!(
        refusal(
            &json,
            limits
                .with_elements(2)
                .with_bytes(6)
                .with_work(4)
                .with_depth(2)
        )
        .is_ok()
    );
    assert_eq!(
        refusal(&json, limits.with_elements(1)),
        Err("the value: more than 1 elements".into())
    );
    assert_eq!(
        refusal(&json, limits.with_bytes(5)),
        Err("[1]: the value takes more than 5 bytes".into())
    );
    assert_eq!(
        refusal(&json, limits.with_work(3)),
        Err("[1]: more than 3 values".into())
    );
    assert_eq!(
        refusal(&json, limits.with_depth(1)),
        Err("[0]: nested deeper than 1 levels".into())
    );
}

/// `struct A(A)`, `struct A(A, A)`, `enum A { A(A) }`: tables that no Rust type gives.
#[test]
fn types_without_end_end() {
    let one = Fields::Tuple(vec![Type::Named(0)]);
    let two = Fields::Tuple(vec![Type::Named(0), Type::Named(0)]);
    let variant = Variant {
        name: "A".into(),
        docs: String::new(),
        fields: one.clone(),
    };
    for shape in [
        Shape::Struct(one),
        Shape::Struct(two),
        Shape::Enum(vec![variant]),
    ] {
        let table = [Definition {
            name: "A".into(),
            docs: String::new(),
            shape,
        }];
        let option = Type::Option(Box::new(Type::Named(0)));
        for ty in [Type::Named(0), option] {
            let limits = Limits::default();
            assert!(to_json(&ty, &table, &[1; 200], &limits).is_err());
            let mut json = json!([]);
            for _ in 0..100 {
                json = json!({"A": [json, 1]});
            }
            assert!(from_json(&ty, &table, &json, &limits).is_err());
            assert!(from_json(&ty, &table, &json!(1), &limits).is_err());
        }
    }
}

#[test]
fn types_that_are_wide_end() {
    // 2⁶⁰ units without a byte, by way of sixty definitions.
    let table: Vec<_> = (0..60)
        .map(|index| {
            let next = if index == 59 {
                Type::Unit
            } else {
                Type::Named(index + 1)
            };
            let shape = Shape::Struct(Fields::Tuple(vec![next.clone(), next]));
            Definition {
                name: "W".into(),
                docs: String::new(),
                shape,
            }
        })
        .collect();
    let limits = Limits::default().with_work(1 << 12);
    let error = to_json(&Type::Named(0), &table, &[], &limits).unwrap_err();
    assert_eq!(error, codec::DecodeError::TooMuchWork { limit: 1 << 12 });
    assert!(limits.work < JSON_WORK_MAX);
}

#[test]
fn a_definition_that_is_not_there_is_an_error() {
    let limits = Limits::default();
    let ty = Type::List(Box::new(Type::Named(3)));
    let message = "definition 3, where there are 0";
    assert_eq!(
        to_json(&ty, &[], &[1], &limits).unwrap_err().to_string(),
        message
    );
    let message = "[0]: the type refers to definition 3, where there are 0";
    assert_eq!(
        from_json(&ty, &[], &json!([1]), &limits)
            .unwrap_err()
            .to_string(),
        message
    );
    let ty = Type::Option(Box::new(Type::Named(u32::MAX)));
    assert!(from_json(&ty, &[], &json!(1), &limits).is_err());
}

#[test]
fn messages_list_few_names() {
    let parameter = |index| Parameter {
        name: format!("p{index}"),
        ty: Type::Unit,
    };
    let list: Vec<_> = (0..18).map(parameter).collect();
    let error = captures_from_json_object(&list, &[], &json!({"x": 1}), &Limits::default());
    let message = error.unwrap_err().to_string();
    assert!(message.ends_with("`p14`, `p15` and 2 more"), "{message}");
}
