//! The deepest nesting that may be decoded fits the stacks that decode it.

use std::cell::RefCell;
use std::thread;

use spore_value::limits::DEPTH_MAX_DEFAULT;
use spore_value::{Definition, Describer, Limits, Type, Value, codec, json};

/// The smallest stack that Spore decodes on: that of a guest, and of threads that ask for little.
const STACK_BYTES: usize = 1 << 20;

thread_local! {
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Takes note of how far down the stack is where it is read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Probe;

impl Value for Probe {
    fn describe(_types: &mut Describer) -> Type {
        Type::Unit
    }

    fn serialize_value<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }

    fn deserialize_value<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let local = 0u8;
        STACK.with_borrow_mut(|stack| stack.push(&raw const local as usize));
        <()>::deserialize_value(deserializer).map(|()| Self)
    }
}

/// A record of ordinary size: 200 bytes.
#[derive(Value, Clone, Debug, Default, PartialEq)]
struct Record {
    probe: Probe,
    name: String,
    note: String,
    tags: Vec<String>,
    numbers: [f64; 4],
    position: (u32, u32, i64),
    span: Option<std::time::Duration>,
    next: Option<Box<Record>>,
    others: Vec<Record>,
}

/// Variants of unlike size.
#[derive(Value, Clone, Debug, PartialEq)]
enum Choice {
    Leaf(Probe),
    Pair(Probe, Box<Choice>, u64),
    Named {
        probe: Probe,
        name: String,
        inner: Box<Choice>,
    },
    Large([f64; 16], Probe, Box<Choice>),
    One(Box<Choice>),
}

fn records(levels: usize) -> Record {
    let mut record = Record::default();
    for _ in 0..levels {
        record = Record {
            next: Some(Box::new(record)),
            name: "x".into(),
            ..Record::default()
        };
    }
    record
}

fn choices(levels: usize, make: impl Fn(Box<Choice>) -> Choice) -> Choice {
    (0..levels).fold(Choice::Leaf(Probe), |inner, _| make(Box::new(inner)))
}

fn on_small_stack(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

fn described<T: Value>() -> (Type, Vec<Definition>) {
    let mut types = Describer::new();
    (types.describe::<T>(), types.finish())
}

/// Writes and reads a value as deep as may be, and says what a level took of the stack.
fn dive<T: Value + PartialEq + std::fmt::Debug>(value: &T) -> usize {
    let limits = Limits::default();
    let bytes = codec::encode(value).unwrap();
    let before = STACK.with_borrow(Vec::len);
    assert_eq!(&codec::decode::<T>(&bytes, &limits).unwrap(), value);
    let deepest = STACK.with_borrow(|stack| {
        let (low, high) = (stack[before..].iter().min(), stack[before..].iter().max());
        high.unwrap() - low.unwrap()
    });
    let (ty, definitions) = described::<T>();
    let written = json::to_json(&ty, &definitions, &bytes, &limits).unwrap();
    assert_eq!(
        json::from_json(&ty, &definitions, &written, &limits).unwrap(),
        bytes
    );
    deepest / DEPTH_MAX_DEFAULT as usize
}

#[test]
fn the_deepest_values_fit_small_stacks() {
    on_small_stack(|| {
        let levels = DEPTH_MAX_DEFAULT as usize;
        // A record and its option are a level each.
        let record = dive(&records((levels - 1) / 2));
        let list = dive(
            &(0..levels / 2 - 1).fold(Record::default(), |record, _| Record {
                others: vec![record],
                ..Record::default()
            }),
        );
        let pair = dive(&choices(levels - 1, |inner| Choice::Pair(Probe, inner, 1)));
        let named = dive(&choices(levels - 1, |inner| Choice::Named {
            probe: Probe,
            name: "x".into(),
            inner,
        }));
        let large = dive(&choices(levels - 1, |inner| {
            Choice::Large([1.0; 16], Probe, inner)
        }));
        let one = choices(levels - 1, Choice::One);
        assert_eq!(
            codec::decode::<Choice>(&codec::encode(&one).unwrap(), &Limits::default()),
            Ok(one)
        );
        let levels = [record, list, pair, named, large];
        println!("bytes of stack a level: {levels:?}");
        // Half of the stack is left to what the guest or the thread does besides.
        assert!(
            levels
                .iter()
                .all(|bytes| bytes * DEPTH_MAX_DEFAULT as usize <= STACK_BYTES / 2)
        );
    });
}

#[test]
fn one_level_more_is_refused_before_it_is_written() {
    let levels = DEPTH_MAX_DEFAULT as usize;
    let too_deep = codec::EncodeError::TooDeep {
        limit: DEPTH_MAX_DEFAULT,
    };
    assert_eq!(codec::encode(&choices(levels, Choice::One)), Err(too_deep));
}

#[test]
fn the_deepest_type_fits_small_stacks() {
    on_small_stack(|| {
        let nest = |levels| (0..levels).fold(Type::Unit, |ty, _| Type::Option(Box::new(ty)));
        let deepest = nest(DEPTH_MAX_DEFAULT - 1);
        let bytes = codec::encode_serde(&deepest).unwrap();
        assert_eq!(
            codec::decode_serde::<Type>(&bytes, &Limits::default()),
            Ok(deepest)
        );
        assert!(codec::encode_serde(&nest(DEPTH_MAX_DEFAULT)).is_err());
    });
}
