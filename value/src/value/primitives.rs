//! Numbers, truth values, characters, text, time.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ref, Seed, Value};
use crate::__private::FieldSeed;
use crate::describe::Describer;
use crate::types::Type;

/// Types that serde carries as we want them.
macro_rules! as_serde {
    ($($type:ty => $described:ident),+) => {
        $(impl Value for $type {
            fn describe(_types: &mut Describer) -> Type {
                Type::$described
            }

            fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }

            fn deserialize_value<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        })+
    };
}

as_serde! {
    () => Unit, bool => Bool,
    u16 => U16, u32 => U32, u64 => U64, u128 => U128,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128,
    f32 => F32, f64 => F64, char => Char, String => String, Box<str> => String
}

impl Value for u8 {
    fn describe(_types: &mut Describer) -> Type {
        Type::U8
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn describe_list(_types: &mut Describer) -> Type {
        Type::Bytes
    }

    fn serialize_list<S: Serializer>(
        front: &[Self],
        back: &[Self],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if back.is_empty() {
            return serializer.serialize_bytes(front);
        }
        serializer.serialize_bytes(&[front, back].concat())
    }

    fn deserialize_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Self>, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    // Formats without bytes, such as serde_json, have a list of numbers here.
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Vec<u8>, A::Error> {
        super::containers::ListVisitor(PhantomData).visit_seq(elements)
    }
}

/// Sizes travel as 32 bits, because that is what they have in a guest.
macro_rules! as_32_bits {
    ($($type:ty as $narrow:ty => $described:ident),+) => {
        $(impl Value for $type {
            fn describe(_types: &mut Describer) -> Type {
                Type::$described
            }

            fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match <$narrow>::try_from(*self) {
                    Ok(narrow) => narrow.serialize(serializer),
                    Err(_) => Err(S::Error::custom(format_args!(
                        concat!(
                            stringify!($type), " {} is beyond ", stringify!($narrow),
                            ", as which it travels",
                        ),
                        self
                    ))),
                }
            }

            fn deserialize_value<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let narrow = <$narrow>::deserialize(deserializer)?;
                <$type>::try_from(narrow).map_err(|_| {
                    D::Error::custom(concat!("a number is beyond ", stringify!($type)))
                })
            }
        })+
    };
}

as_32_bits!(usize as u32 => U32, isize as i32 => I32);

impl Value for Cow<'static, str> {
    fn describe(_types: &mut Describer) -> Type {
        Type::String
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Cow::Owned)
    }
}

impl<T: 'static> Value for PhantomData<T> {
    fn describe(_types: &mut Describer) -> Type {
        Type::Unit
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self)
    }
}

const DURATION_FIELDS: &[&str] = &["secs", "nanos"];
/// From here on nanoseconds would be another second, and one span of time have two forms.
const NANOS_END: u32 = 1_000_000_000;

impl Value for Duration {
    fn describe(_types: &mut Describer) -> Type {
        Type::Duration
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Duration", DURATION_FIELDS.len())?;
        fields.serialize_field(DURATION_FIELDS[0], &self.as_secs())?;
        fields.serialize_field(DURATION_FIELDS[1], &self.subsec_nanos())?;
        fields.end()
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Duration", DURATION_FIELDS, DurationVisitor)
    }
}

struct DurationVisitor;

impl DurationVisitor {
    fn check<E: serde::de::Error>(secs: u64, nanos: u32) -> Result<Duration, E> {
        if nanos < NANOS_END {
            Ok(Duration::new(secs, nanos))
        } else {
            Err(E::custom(format_args!(
                "{nanos} nanoseconds are a second or more"
            )))
        }
    }
}

impl<'de> Visitor<'de> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a span of time")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Duration, A::Error> {
        let secs = u64::read_element(&mut fields, 0, &self)?;
        let nanos = u32::read_element(&mut fields, 1, &self)?;
        Self::check(secs, nanos)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Duration, A::Error> {
        let (mut secs, mut nanos) = (None, None);
        while let Some(index) = fields.next_key_seed(FieldSeed(DURATION_FIELDS))? {
            match index {
                0 => u64::read_entry(&mut fields, DURATION_FIELDS[0], &mut secs)?,
                _ => u32::read_entry(&mut fields, DURATION_FIELDS[1], &mut nanos)?,
            }
        }
        let secs = secs.ok_or_else(|| A::Error::missing_field(DURATION_FIELDS[0]))?;
        let nanos = nanos.ok_or_else(|| A::Error::missing_field(DURATION_FIELDS[1]))?;
        Self::check(secs, nanos)
    }
}

const RESULT_VARIANTS: &[&str] = &["Ok", "Err"];

impl<T: Value, E: Value> Value for Result<T, E> {
    fn describe(types: &mut Describer) -> Type {
        let ok = T::describe(types);
        Type::Result(ok.into(), E::describe(types).into())
    }

    fn serialize_value<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ok(value) => {
                serializer.serialize_newtype_variant("Result", 0, RESULT_VARIANTS[0], &Ref(value))
            }
            Err(error) => {
                serializer.serialize_newtype_variant("Result", 1, RESULT_VARIANTS[1], &Ref(error))
            }
        }
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Result", RESULT_VARIANTS, ResultVisitor(PhantomData))
    }
}

struct ResultVisitor<T, E>(PhantomData<(T, E)>);

impl<'de, T: Value, E: Value> Visitor<'de> for ResultVisitor<T, E> {
    type Value = Result<T, E>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ok or Err")
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        use serde::de::VariantAccess;
        let (index, variant) = data.variant_seed(crate::__private::VariantSeed(RESULT_VARIANTS))?;
        match index {
            0 => variant.newtype_variant_seed(Seed::new()).map(Ok),
            _ => variant.newtype_variant_seed(Seed::new()).map(Err),
        }
    }
}
