//! What the derive's expansions call. Not for use by hand.

use core::fmt;
use core::marker::PhantomData;

pub use alloc::vec;
pub use serde;

use serde::Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::types::{Field, Fields, Type, Variant};
use crate::value::Value;

/// Reads the name of a field as its index.
pub struct FieldSeed(pub &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldSeed {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let index = self.0.iter().position(|known| *known == name);
        index.ok_or_else(|| E::unknown_field(name, self.0))
    }
}

/// Reads the name or the number of a variant as its index.
pub struct VariantSeed(pub &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for VariantSeed {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for VariantSeed {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a variant")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<usize, E> {
        match usize::try_from(number) {
            Ok(index) if index < self.0.len() => Ok(index),
            _ => Err(E::custom(format_args!(
                "variant {number}, where there are {}",
                self.0.len()
            ))),
        }
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let index = self.0.iter().position(|known| *known == name);
        index.ok_or_else(|| E::unknown_variant(name, self.0))
    }
}

/// A field in a definition.
pub fn field(name: &str, docs: &str, ty: Type) -> Field {
    Field {
        name: name.into(),
        docs: docs.into(),
        ty,
    }
}

/// A variant in a definition.
pub fn variant(name: &str, docs: &str, fields: Fields) -> Variant {
    Variant {
        name: name.into(),
        docs: docs.into(),
        fields,
    }
}

/// How the fields of a struct (`INDEX` 0), or of the variant at `INDEX`, are read.
///
/// One implementation for each variant, so that the stack of reading one is not that of reading
/// them all.
pub trait Part<const INDEX: usize>: Value {
    /// What it is, for messages.
    const EXPECTING: &'static str;
    /// The fields' names, or none where they have places only.
    const NAMES: &'static [&'static str];

    /// Reads the fields by place.
    fn from_elements<'de, A: SeqAccess<'de>>(elements: &mut A) -> Result<Self, A::Error>;

    /// Reads the fields by name.
    fn from_fields<'de, A: MapAccess<'de>>(fields: &mut A) -> Result<Self, A::Error>;
}

/// Reads a [`Part`].
pub struct FieldsVisitor<T, const INDEX: usize>(pub PhantomData<T>);

impl<'de, T: Part<INDEX>, const INDEX: usize> Visitor<'de> for FieldsVisitor<T, INDEX> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTING)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<T, A::Error> {
        T::from_elements(&mut elements)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        T::from_fields(&mut fields)
    }
}

/// An enum, read by the number of its variant.
pub trait Choice: Value {
    /// What it is, for messages.
    const EXPECTING: &'static str;
    /// The variants' names.
    const NAMES: &'static [&'static str];

    /// Reads the variant at `index`.
    fn choose<'de, A: VariantAccess<'de>>(index: usize, access: A) -> Result<Self, A::Error>;
}

/// Reads a [`Choice`].
pub struct ChoiceVisitor<T>(pub PhantomData<T>);

impl<'de, T: Choice> Visitor<'de> for ChoiceVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTING)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<T, A::Error> {
        let (index, access) = data.variant_seed(VariantSeed(T::NAMES))?;
        T::choose(index, access)
    }
}

struct Unit;

impl Visitor<'_> for Unit {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a unit struct")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a struct without fields.
pub fn unit_struct<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    name: &'static str,
    make: fn() -> T,
) -> Result<T, D::Error> {
    deserializer
        .deserialize_unit_struct(name, Unit)
        .map(|()| make())
}

/// Reads a variant without fields.
pub fn unit_variant<'de, T, A: VariantAccess<'de>>(
    access: A,
    make: fn() -> T,
) -> Result<T, A::Error> {
    access.unit_variant().map(|()| make())
}

/// For an index that [`VariantSeed`] lets through and no arm takes, which there is not.
pub fn no_such_variant<T, E: Error>(index: usize) -> Result<T, E> {
    Err(E::custom(format_args!("there is no variant {index}")))
}

/// For fields that have places only.
pub fn not_by_name<T, E: Error>(expected: &'static str) -> Result<T, E> {
    Err(E::invalid_type(Unexpected::Map, &expected))
}
