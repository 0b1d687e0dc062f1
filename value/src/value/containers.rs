//! Options, boxes, lists and arrays.

use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserializer, Serializer};

use super::{Ref, Seed, Value};
use crate::describe::Describer;
use crate::types::Type;

/// Most bytes that a list takes up because of a length that it was told. Beyond this it grows as
/// elements come.
const TRUSTED_BYTES: usize = 1 << 20;

/// The room to make for as many elements as the input says are coming.
pub(super) fn capacity<T>(hint: Option<usize>) -> usize {
    hint.unwrap_or(0).min(TRUSTED_BYTES / size_of::<T>().max(1))
}

impl<T: Value> Value for Option<T> {
    fn describe(types: &mut Describer) -> Type {
        Type::Option(T::describe(types).into())
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => serializer.serialize_some(&Ref(value)),
            None => serializer.serialize_none(),
        }
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(OptionVisitor(PhantomData))
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

struct OptionVisitor<T>(PhantomData<T>);

impl<'de, T: Value> Visitor<'de> for OptionVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an option")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::deserialize_value(deserializer).map(Some)
    }
}

impl<T: Value> Value for Box<T> {
    fn describe(types: &mut Describer) -> Type {
        T::describe(types)
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize_value(serializer)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize_value(deserializer).map(Box::new)
    }

    fn missing() -> Option<Self> {
        T::missing().map(Box::new)
    }
}

impl<T: Value> Value for Vec<T> {
    fn describe(types: &mut Describer) -> Type {
        T::describe_list(types)
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize_list(self, &[], serializer)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize_list(deserializer)
    }
}

impl<T: Value> Value for Box<[T]> {
    fn describe(types: &mut Describer) -> Type {
        T::describe_list(types)
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize_list(self, &[], serializer)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize_list(deserializer).map(Vec::into_boxed_slice)
    }
}

impl<T: Value> Value for VecDeque<T> {
    fn describe(types: &mut Describer) -> Type {
        T::describe_list(types)
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (front, back) = self.as_slices();
        T::serialize_list(front, back, serializer)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize_list(deserializer).map(Self::from)
    }
}

pub(super) struct ListVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: Value> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::with_capacity(capacity::<T>(elements.size_hint()));
        while let Some(element) = elements.next_element_seed(Seed::new())? {
            list.push(element);
        }
        Ok(list)
    }
}

impl<T: Value, const N: usize> Value for [T; N] {
    fn describe(types: &mut Describer) -> Type {
        let length = const {
            assert!(
                N as u64 <= u32::MAX as u64,
                "an array of more than 2³² elements cannot travel"
            );
            N as u32
        };
        Type::Array(T::describe(types).into(), length)
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut elements = serializer.serialize_tuple(N)?;
        for element in self {
            elements.serialize_element(&Ref(element))?;
        }
        elements.end()
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(N, ArrayVisitor(PhantomData))
    }
}

struct ArrayVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Value, const N: usize> Visitor<'de> for ArrayVisitor<T, N> {
    type Value = [T; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an array of {N} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[T; N], A::Error> {
        let mut list = Vec::with_capacity(capacity::<T>(Some(N)));
        while list.len() < N {
            match elements.next_element_seed(Seed::new())? {
                Some(element) => list.push(element),
                None => return Err(A::Error::invalid_length(list.len(), &self)),
            }
        }
        <[T; N]>::try_from(list).map_err(|list| A::Error::invalid_length(list.len(), &self))
    }
}
