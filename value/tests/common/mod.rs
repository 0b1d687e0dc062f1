//! Types that have one of everything, with values of them.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, hash_map, hash_set, vec};
use proptest::prelude::*;
use spore_value::{Definition, Describer, Limits, Type, Value, codec, json};

/// Every width of number.
#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Numbers {
    pub unsigned: (u8, u16, u32, u64, u128),
    pub signed: (i8, i16, i32, i64, i128),
    pub sizes: (usize, isize),
    pub bits_32: Bits<f32>,
    pub bits_64: Bits<f64>,
}

/// A float that equals itself when its bits do.
#[derive(Value, Clone, Debug)]
pub(crate) struct Bits<T>(pub T);

impl PartialEq for Bits<f32> {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl PartialEq for Bits<f64> {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// Every kind of container.
#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Containers<T> {
    pub bytes: Vec<u8>,
    pub ring: VecDeque<u8>,
    pub list: Vec<T>,
    pub boxed: Box<[u16]>,
    pub array: [char; 3],
    pub option: Option<T>,
    pub options: Option<Option<()>>,
    pub map: BTreeMap<String, T>,
    pub hashed: HashMap<(u16, bool), String>,
    pub set: BTreeSet<String>,
    pub hashed_set: HashSet<i64>,
    pub nested_keys: BTreeMap<BTreeSet<u32>, Option<u8>>,
    pub result: Result<T, String>,
    pub span: Duration,
    #[serde(rename = "type")]
    pub kind: Kind,
}

#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Marker;

#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Wrapped(pub Option<Marker>);

#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Pair(pub String, pub Option<Wrapped>);

/// Every form of variant.
#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Unit,
    Empty(),
    One(Pair),
    #[serde(rename = "both")]
    Two(Box<str>, char),
    Named {
        option: Option<u8>,
        r#type: Duration,
    },
}

/// Contains itself in each way there is.
#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub name: String,
    pub children: Vec<Tree>,
    pub expression: Expression,
}

#[derive(Value, Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Number(i64),
    Add(Box<Expression>, Box<Expression>),
    Not { of: Option<Box<Expression>> },
}

pub(crate) fn numbers() -> impl Strategy<Value = Numbers> {
    let bits_32 = prop_oneof![
        any::<u32>(),
        Just(0x7fc0_0000),
        Just(0x7f80_0001),
        Just(1 << 31)
    ];
    let bits_64 = prop_oneof![
        any::<u64>(),
        Just(f64::NAN.to_bits()),
        Just(0x7ff0 << 48 | 1)
    ];
    let unsigned = any::<(u8, u16, u32, u64, u128)>();
    let signed = any::<(i8, i16, i32, i64, i128)>();
    let sizes = any::<(u32, i32)>().prop_map(|(size, signed)| (size as usize, signed as isize));
    (unsigned, signed, sizes, bits_32, bits_64).prop_map(|(unsigned, signed, sizes, a, b)| {
        let (bits_32, bits_64) = (Bits(f32::from_bits(a)), Bits(f64::from_bits(b)));
        Numbers {
            unsigned,
            signed,
            sizes,
            bits_32,
            bits_64,
        }
    })
}

pub(crate) fn duration() -> impl Strategy<Value = Duration> {
    let nanos = prop_oneof![0..1_000_000_000u32, Just(0), Just(500_000_000)];
    (any::<u64>(), nanos).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

pub(crate) fn pair() -> impl Strategy<Value = Pair> {
    let marker = proptest::option::of(Just(Marker));
    let wrapped = proptest::option::of(marker.prop_map(Wrapped));
    (any::<String>(), wrapped).prop_map(|(name, wrapped)| Pair(name, wrapped))
}

pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        Just(Kind::Empty()),
        pair().prop_map(Kind::One),
        any::<(String, char)>().prop_map(|(text, letter)| Kind::Two(text.into(), letter)),
        (any::<Option<u8>>(), duration()).prop_map(|(option, span)| Kind::Named {
            option,
            r#type: span
        }),
    ]
}

pub(crate) fn containers<T: Clone + std::fmt::Debug + 'static>(
    of: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Containers<T>> {
    let lists = (
        vec(any::<u8>(), 0..300),
        (vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9)),
        vec(of.clone(), 0..4),
        vec(any::<u16>(), 0..4),
        any::<[char; 3]>(),
    );
    let options = (
        proptest::option::of(of.clone()),
        any::<Option<Option<()>>>(),
        prop_oneof![of.clone().prop_map(Ok), any::<String>().prop_map(Err)],
        duration(),
        kind(),
    );
    let keyed = (
        btree_map(any::<String>(), of, 0..4),
        hash_map(any::<(u16, bool)>(), any::<String>(), 0..9),
        btree_set(any::<String>(), 0..9),
        hash_set(any::<i64>(), 0..9),
        btree_map(btree_set(any::<u32>(), 0..4), any::<Option<u8>>(), 0..4),
    );
    (lists, options, keyed).prop_map(|(lists, options, keyed)| {
        let (bytes, (back, front), list, boxed, array) = lists;
        let mut ring = VecDeque::from(back);
        front.into_iter().for_each(|byte| ring.push_front(byte));
        let (option, options, result, span, kind) = options;
        let (map, hashed, set, hashed_set, nested_keys) = keyed;
        let boxed = boxed.into();
        Containers {
            bytes,
            ring,
            list,
            boxed,
            array,
            option,
            options,
            map,
            hashed,
            set,
            hashed_set,
            nested_keys,
            result,
            span,
            kind,
        }
    })
}

pub(crate) fn expression() -> impl Strategy<Value = Expression> {
    let leaf = any::<i64>().prop_map(Expression::Number);
    leaf.prop_recursive(6, 24, 2, |inner| {
        let inner = inner.prop_map(Box::new);
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Add(a, b)),
            proptest::option::of(inner).prop_map(|of| Expression::Not { of }),
        ]
    })
}

pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (any::<String>(), expression()).prop_map(|(name, expression)| Tree {
        name,
        children: Vec::new(),
        expression,
    });
    leaf.prop_recursive(5, 16, 3, |inner| {
        (any::<String>(), vec(inner, 0..3), expression()).prop_map(
            |(name, children, expression)| Tree {
                name,
                children,
                expression,
            },
        )
    })
}

/// A type with its table.
pub(crate) fn described<T: Value>() -> (Type, Vec<Definition>) {
    let mut types = Describer::new();
    let ty = types.describe::<T>();
    (ty, types.finish())
}

/// What every value must do: come back from its bytes, its JSON by type, and serde's JSON; and cost
/// the same work and depth in either form.
pub(crate) fn survives<T: Value + Clone + std::fmt::Debug + PartialEq>(value: &T) {
    let limits = Limits::default();
    let bytes = codec::encode(value).unwrap();
    assert_eq!(codec::decode::<T>(&bytes, &limits).as_ref(), Ok(value));

    let (ty, definitions) = described::<T>();
    let written = json::to_json(&ty, &definitions, &bytes, &limits).unwrap();
    // Through text, as a person or another program would have it.
    let text = serde_json::to_string(&written).unwrap();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let again = json::from_json(&ty, &definitions, &read, &limits).unwrap();
    assert_eq!(again, bytes, "{text}");

    let work = least(|work| codec::decode::<T>(&bytes, &limits.with_work(work)).is_ok());
    for (enough, limits) in
        [(true, work), (false, work - 1)].map(|(enough, work)| (enough, limits.with_work(work)))
    {
        assert_eq!(
            json::to_json(&ty, &definitions, &bytes, &limits).is_ok(),
            enough
        );
        assert_eq!(
            json::from_json(&ty, &definitions, &read, &limits).is_ok(),
            enough
        );
    }
    let depth = least(|depth| codec::decode::<T>(&bytes, &limits.with_depth(depth as u32)).is_ok());
    if let Some(less) = depth.checked_sub(1) {
        let limits = limits.with_depth(less as u32);
        assert!(json::to_json(&ty, &definitions, &bytes, &limits).is_err());
        assert!(json::from_json(&ty, &definitions, &read, &limits).is_err());
    }
    let limits = limits.with_depth(depth as u32);
    assert!(json::to_json(&ty, &definitions, &bytes, &limits).is_ok());
    assert!(json::from_json(&ty, &definitions, &read, &limits).is_ok());
}

/// The least number that is enough.
pub(crate) fn least(enough: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, 1);
    while !enough(high) {
        low = high + 1;
        high *= 2;
    }
    while low < high {
        let middle = (low + high) / 2;
        if enough(middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    high
}
