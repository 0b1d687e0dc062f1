//! Maps and sets.
//!
//! Bytes have them in the order of their keys' bytes whatever the container; the encoder sees to
//! that. So that it can, sets reach it as maps to `()`, which takes no bytes.

use core::fmt;
use core::hash::Hash;
use core::marker::PhantomData;

use alloc::collections::{BTreeMap, BTreeSet};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};

use super::{Ref, Seed, Value};
use crate::describe::Describer;
use crate::types::Type;

/// What can be a key of a `BTreeMap` or an element of a `BTreeSet`: all that has an order.
///
/// There is nothing to implement but [`Ord`]; the trait says what to do where that is missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key of a `BTreeMap` or an element of a `BTreeSet`",
    label = "has no order among its values",
    note = "floats have none, since a NaN is neither less nor more than anything: use integers of a \
            fixed unit, such as cents, or a list of pairs in place of the map",
    note = "for a struct or an enum of your own, derive `PartialEq`, `Eq`, `PartialOrd` and `Ord`; \
            for a generic parameter, add the bound `Ord`"
)]
pub trait OrderedKey: Ord {}

// Without this the message would be that `f64: Ord` is not satisfied, and no more.
#[diagnostic::do_not_recommend]
impl<K: Ord> OrderedKey for K {}

/// What can be a key of a `HashMap` or an element of a `HashSet`: all that can be hashed.
///
/// There is nothing to implement but [`Eq`] and [`Hash`]; the trait says what to do where one is
/// missing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key of a `HashMap` or an element of a `HashSet`",
    label = "cannot be hashed",
    note = "floats cannot, since a NaN is not equal to itself: use integers of a fixed unit, such as \
            cents, or a list of pairs in place of the map",
    note = "for a struct or an enum of your own, derive `PartialEq`, `Eq` and `Hash`; for a generic \
            parameter, add the bounds `Eq` and `Hash`"
)]
pub trait HashedKey: Eq + Hash {}

#[diagnostic::do_not_recommend]
impl<K: Eq + Hash> HashedKey for K {}

/// A map or a set while it is filled. A second equal key is refused, not merged.
trait Fill<K, V>: Sized {
    fn with_capacity(hint: Option<usize>) -> Self;
    /// Whether the key was new.
    fn put(&mut self, key: K, value: V) -> bool;
}

impl<K: Ord, V> Fill<K, V> for BTreeMap<K, V> {
    fn with_capacity(_hint: Option<usize>) -> Self {
        Self::new()
    }

    fn put(&mut self, key: K, value: V) -> bool {
        self.insert(key, value).is_none()
    }
}

impl<K: Ord> Fill<K, ()> for BTreeSet<K> {
    fn with_capacity(_hint: Option<usize>) -> Self {
        Self::new()
    }

    fn put(&mut self, key: K, (): ()) -> bool {
        self.insert(key)
    }
}

struct MapVisitor<C, K, V>(PhantomData<(C, K, V)>);

impl<'de, C: Fill<K, V>, K: Value, V: Value> Visitor<'de> for MapVisitor<C, K, V> {
    type Value = C;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<C, A::Error> {
        let mut container = C::with_capacity(entries.size_hint());
        while let Some(key) = entries.next_key_seed(Seed::<K>::new())? {
            let value = entries.next_value_seed(Seed::<V>::new())?;
            if !container.put(key, value) {
                return Err(A::Error::custom("two keys of a map or set are equal"));
            }
        }
        Ok(container)
    }
}

struct SetVisitor<C, K>(PhantomData<(C, K)>);

impl<'de, C: Fill<K, ()>, K: Value> Visitor<'de> for SetVisitor<C, K> {
    type Value = C;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a set")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<C, A::Error> {
        MapVisitor(PhantomData).visit_map(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<C, A::Error> {
        let mut container = C::with_capacity(elements.size_hint());
        while let Some(element) = elements.next_element_seed(Seed::<K>::new())? {
            if !container.put(element, ()) {
                return Err(A::Error::custom("two elements of a set are equal"));
            }
        }
        Ok(container)
    }
}

fn serialize_set<'a, K: Value, S: Serializer>(
    elements: impl ExactSizeIterator<Item = &'a K>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_seq(elements.map(Ref))
    } else {
        serializer.collect_map(elements.map(|element| (Ref(element), ())))
    }
}

fn deserialize_set<'de, C: Fill<K, ()>, K: Value, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<C, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_seq(SetVisitor(PhantomData))
    } else {
        deserializer.deserialize_map(SetVisitor(PhantomData))
    }
}

macro_rules! map {
    () => {
        fn describe(types: &mut Describer) -> Type {
            let key = K::describe(types);
            Type::Map(key.into(), V::describe(types).into())
        }

        fn serialize_value<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
            serializer.collect_map(self.iter().map(|(key, value)| (Ref(key), Ref(value))))
        }

        fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(MapVisitor::<Self, K, V>(PhantomData))
        }
    };
}

macro_rules! set {
    () => {
        fn describe(types: &mut Describer) -> Type {
            Type::Set(K::describe(types).into())
        }

        fn serialize_value<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
            serialize_set(self.iter(), serializer)
        }

        fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserialize_set(deserializer)
        }
    };
}

impl<K: Value + OrderedKey, V: Value> Value for BTreeMap<K, V> {
    map!();
}

impl<K: Value + OrderedKey> Value for BTreeSet<K> {
    set!();
}

#[cfg(feature = "std")]
mod hashed {
    use core::hash::BuildHasher;
    use std::collections::{HashMap, HashSet};

    use super::super::containers::capacity;
    use super::*;

    impl<K: Eq + Hash, V, S: BuildHasher + Default> Fill<K, V> for HashMap<K, V, S> {
        fn with_capacity(hint: Option<usize>) -> Self {
            Self::with_capacity_and_hasher(capacity::<(K, V)>(hint), S::default())
        }

        fn put(&mut self, key: K, value: V) -> bool {
            self.insert(key, value).is_none()
        }
    }

    impl<K: Eq + Hash, S: BuildHasher + Default> Fill<K, ()> for HashSet<K, S> {
        fn with_capacity(hint: Option<usize>) -> Self {
            Self::with_capacity_and_hasher(capacity::<K>(hint), S::default())
        }

        fn put(&mut self, key: K, (): ()) -> bool {
            self.insert(key)
        }
    }

    impl<K, V, S> Value for HashMap<K, V, S>
    where
        K: Value + HashedKey,
        V: Value,
        S: BuildHasher + Default + 'static,
    {
        map!();
    }

    impl<K: Value + HashedKey, S: BuildHasher + Default + 'static> Value for HashSet<K, S> {
        set!();
    }
}
