//! The trait of values.

mod containers;
mod keyed;
mod primitives;
mod tuples;

use core::marker::PhantomData;

use alloc::vec::Vec;
use serde::de::DeserializeSeed;
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
#[doc(hidden)]
pub struct Ref<'a, T>(pub &'a T);

impl<T: Value> Serialize for Ref<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_value(serializer)
    }
}

/// Asks serde for a value.
#[doc(hidden)]
pub struct Seed<T>(PhantomData<T>);

impl<T> Seed<T> {
    /// For the type that is inferred.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Seed<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'de, T: Value> DeserializeSeed<'de> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize_value(deserializer)
    }
}
