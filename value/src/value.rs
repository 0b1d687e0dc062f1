//! The trait of values.

mod containers;
pub(crate) mod keyed;
mod never;
mod primitives;
mod tuples;

use core::fmt;
use core::marker::PhantomData;

use alloc::vec::Vec;
use serde::de::{DeserializeSeed, Error, Expected, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{
    SerializeStruct, SerializeStructVariant, SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Deserializer, Serialize, Serializer};

use crate::describe::Describer;
use crate::types::Type;

/// A type whose values can be captured, passed and returned.
///
/// Derive it; the derive brings serde's `Serialize` and `Deserialize` with it, so that the type
/// also works with serde_json and the like.
///
/// ```
/// use spore_value::{Limits, Value, codec};
///
/// /// A holding.
/// #[derive(Value, Debug, PartialEq)]
/// struct Position {
///     /// Its ticker.
///     symbol: String,
///     weight: f64,
/// }
///
/// let position = Position { symbol: "IBM".into(), weight: 0.25 };
/// let bytes = codec::encode(&position)?;
/// assert_eq!(codec::decode::<Position>(&bytes, &Limits::default())?, position);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A value owns all that it is made of, since it leaves the memory that it was made in; hence
/// `'static`, and no implementation for references, cells or shared pointers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value that can travel",
    label = "not a `Value`",
    note = "for a struct or an enum of your own, add `#[derive(Value)]`; for a generic parameter, \
            the bound `T: Value`",
    note = "for a type of another crate, or of the standard library, such as `IpAddr`: keep its \
            parts in a type of your own, and convert",
    note = "values own what they hold: in place of references and slices use `String`, `Vec` or \
            `Box`, in place of `Rc`, `Arc`, `Cell`, `RefCell` or `Mutex` the value inside, in \
            place of functions and trait objects an enum of the cases"
)]
pub trait Value: Sized + 'static {
    /// The type, as manifests hold it. Structs and enums add their definition to `types`.
    fn describe(types: &mut Describer) -> Type;

    /// Writes the value. Called by Spore's encoding and by serde's traits alike.
    ///
    /// # Errors
    /// Those of the serializer, and a `usize` or `isize` beyond 32 bits.
    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads a value.
    ///
    /// # Errors
    /// Those of the deserializer, and any input that is not a value of this type.
    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// The type of a list of these: bytes for `u8`.
    #[doc(hidden)]
    fn describe_list(types: &mut Describer) -> Type {
        Type::List(Self::describe(types).into())
    }

    /// Writes a list that lies in two parts, as in a ring buffer.
    #[doc(hidden)]
    fn serialize_list<S: Serializer>(
        front: &[Self],
        back: &[Self],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Both(front, back).into_iter())
    }

    /// Reads a list.
    #[doc(hidden)]
    fn deserialize_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Self>, D::Error> {
        deserializer.deserialize_seq(containers::ListVisitor(PhantomData))
    }

    /// What stands for a field that named input leaves out, if anything does.
    #[doc(hidden)]
    fn missing() -> Option<Self> {
        None
    }

    // What follows is what the derive does with each field. It is asked of the field's type by
    // name, so that a type that is no value gives one message, at the field: the compiler drops
    // messages that are the same.

    /// Writes a struct of this one unnamed field.
    #[doc(hidden)]
    fn write_newtype<S: Serializer>(
        &self,
        serializer: S,
        name: &'static str,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(name, &Ref(self))
    }

    /// Writes a variant of this one unnamed field.
    #[doc(hidden)]
    fn write_newtype_variant<S: Serializer>(
        &self,
        serializer: S,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_variant(name, index, variant, &Ref(self))
    }

    /// Writes a field of a struct.
    #[doc(hidden)]
    fn write_field<S: SerializeStruct>(
        &self,
        state: &mut S,
        name: &'static str,
    ) -> Result<(), S::Error> {
        state.serialize_field(name, &Ref(self))
    }

    /// Writes a field of a tuple struct.
    #[doc(hidden)]
    fn write_element<S: SerializeTupleStruct>(&self, state: &mut S) -> Result<(), S::Error> {
        state.serialize_field(&Ref(self))
    }

    /// Writes a named field of a variant.
    #[doc(hidden)]
    fn write_variant_field<S: SerializeStructVariant>(
        &self,
        state: &mut S,
        name: &'static str,
    ) -> Result<(), S::Error> {
        state.serialize_field(name, &Ref(self))
    }

    /// Writes an unnamed field of a variant.
    #[doc(hidden)]
    fn write_variant_element<S: SerializeTupleVariant>(
        &self,
        state: &mut S,
    ) -> Result<(), S::Error> {
        state.serialize_field(&Ref(self))
    }

    /// The next field by position.
    #[doc(hidden)]
    fn read_element<'de, A: SeqAccess<'de>>(
        elements: &mut A,
        index: usize,
        expected: &dyn Expected,
    ) -> Result<Self, A::Error> {
        match elements.next_element_seed(Seed::new())? {
            Some(value) => Ok(value),
            None => Err(A::Error::invalid_length(index, expected)),
        }
    }

    /// The value of a field by name, which must not have come before.
    #[doc(hidden)]
    fn read_entry<'de, A: MapAccess<'de>>(
        fields: &mut A,
        name: &'static str,
        slot: &mut Option<Self>,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(A::Error::duplicate_field(name));
        }
        *slot = Some(fields.next_value_seed(Seed::new())?);
        Ok(())
    }

    /// A field by name at the end of the input.
    #[doc(hidden)]
    fn read_slot<E: Error>(name: &'static str, slot: Option<Self>) -> Result<Self, E> {
        slot.or_else(Self::missing)
            .ok_or_else(|| E::missing_field(name))
    }

    /// A variant of this one field.
    #[doc(hidden)]
    fn read_newtype_variant<'de, T, A: VariantAccess<'de>>(
        access: A,
        make: fn(Self) -> T,
    ) -> Result<T, A::Error> {
        access.newtype_variant_seed(Seed::new()).map(make)
    }

    /// A struct of this one field.
    #[doc(hidden)]
    fn read_newtype<'de, T, D: Deserializer<'de>>(
        deserializer: D,
        name: &'static str,
        make: fn(Self) -> T,
    ) -> Result<T, D::Error> {
        deserializer
            .deserialize_newtype_struct(name, NewtypeVisitor(PhantomData))
            .map(make)
    }
}

struct NewtypeVisitor<T>(PhantomData<T>);

impl<'de, T: Value> Visitor<'de> for NewtypeVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a struct of one field")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize_value(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<T, A::Error> {
        T::read_element(&mut elements, 0, &self)
    }
}

/// The two parts of a list, one after the other, of known length.
struct Both<'a, T>(&'a [T], &'a [T]);

impl<'a, T: Value> Both<'a, T> {
    fn into_iter(self) -> impl ExactSizeIterator<Item = Ref<'a, T>> {
        let Self(front, back) = self;
        (0..front.len() + back.len()).map(move |index| {
            Ref(front
                .get(index)
                .unwrap_or_else(|| &back[index - front.len()]))
        })
    }
}

/// Lends a value to serde.
pub(crate) struct Ref<'a, T>(pub(crate) &'a T);

impl<T: Value> Serialize for Ref<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_value(serializer)
    }
}

/// Asks serde for a value.
pub(crate) struct Seed<T>(PhantomData<T>);

impl<T> Seed<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Value> DeserializeSeed<'de> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize_value(deserializer)
    }
}
