//! The walk that reads a value and counts what it costs.

use serde::Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::DecodeError;
use super::wire::{Input, Plain};
use crate::limits::{BYTES_PER_WORK, DEPTH_MAX_DEFAULT, Limits};

/// A reader of values, which counts what they cost.
pub(crate) struct Reader<'de> {
    input: Input<'de>,
    limits: Limits,
    /// What is left of each.
    elements: u64,
    work: u64,
    depth: u32,
}

impl<'de> Reader<'de> {
    pub(crate) fn new(bytes: &'de [u8], limits: &Limits) -> Result<Self, DecodeError> {
        let found = bytes.len() as u64;
        if found > limits.bytes {
            return Err(DecodeError::TooLong {
                found,
                limit: limits.bytes,
            });
        }
        let depth = limits.depth.min(DEPTH_MAX_DEFAULT);
        Ok(Self {
            input: Input::new(bytes),
            limits: Limits { depth, ..*limits },
            elements: limits.elements,
            work: limits.work,
            depth,
        })
    }

    pub(crate) fn finish(mut self) -> Result<(), DecodeError> {
        match self.input.rest().len() as u64 {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    /// Takes the cost of one value, or of several, off what is left.
    #[inline]
    pub(crate) fn work(&mut self, cost: u64) -> Result<(), DecodeError> {
        match self.work.checked_sub(cost) {
            Some(left) => {
                self.work = left;
                Ok(())
            }
            None => Err(DecodeError::TooMuchWork {
                limit: self.limits.work,
            }),
        }
    }

    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), DecodeError> {
        match self.depth.checked_sub(1) {
            Some(left) => {
                self.depth = left;
                Ok(())
            }
            None => Err(DecodeError::TooDeep {
                limit: self.limits.depth,
            }),
        }
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth += 1;
    }

    /// What has not been read yet.
    fn rest(&mut self) -> &'de [u8] {
        self.input.rest()
    }

    /// Reads what has one form only: a byte, a float, a truth value, a character.
    #[inline]
    pub(crate) fn take<T: Plain>(&mut self) -> Result<T, DecodeError> {
        self.work(1)?;
        self.input.take()
    }

    /// Reads a number of variable length.
    #[inline]
    pub(crate) fn take_number<T: Plain>(&mut self) -> Result<T, DecodeError> {
        self.work(1)?;
        self.input.take_number()
    }

    /// Reads whether an option is `Some`.
    pub(crate) fn take_option(&mut self) -> Result<bool, DecodeError> {
        match self.take()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(DecodeError::NotOption { found }),
        }
    }

    /// Reads the number of a variant, the work of which is that of its enum.
    pub(crate) fn take_variant(&mut self) -> Result<u32, DecodeError> {
        self.input.take_number()
    }

    /// Reads a length and takes it off the elements before anything is made of it.
    pub(crate) fn take_length(&mut self) -> Result<usize, DecodeError> {
        let claimed: u64 = self.take_number()?;
        let refused = DecodeError::TooManyElements {
            claimed,
            limit: self.limits.elements,
        };
        let Some(left) = self.elements.checked_sub(claimed) else {
            return Err(refused);
        };
        let length = usize::try_from(claimed).map_err(|_| refused)?;
        self.elements = left;
        Ok(length)
    }

    /// Bytes of the input itself: nothing is allocated until they are known to be there.
    pub(crate) fn take_bytes(&mut self) -> Result<&'de [u8], DecodeError> {
        let count: u64 = self.take_number()?;
        let bytes = self.input.take_bytes(count)?;
        self.work(count / BYTES_PER_WORK)?;
        Ok(bytes)
    }

    pub(crate) fn take_text(&mut self) -> Result<&'de str, DecodeError> {
        let bytes = self.take_bytes()?;
        core::str::from_utf8(bytes).map_err(|error| DecodeError::NotText {
            valid: error.valid_up_to() as u64,
        })
    }

    fn sequence<V: Visitor<'de>>(
        &mut self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.enter()?;
        let mut elements = Elements { reader: self, left };
        let value = visitor.visit_seq(&mut elements)?;
        let Elements { reader, left } = elements;
        reader.leave();
        if left == 0 {
            Ok(value)
        } else {
            Err(Error::custom("elements are left over"))
        }
    }
}

macro_rules! take {
    ($take:ident, $($method:ident => $visit:ident),+) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.$take()?)
        })+
    };
}

macro_rules! not_described {
    ($($method:ident),+) => {
        $(fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
            Err(Error::custom("the bytes of a value do not tell its type"))
        })+
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = DecodeError;

    take! {
        take,
        deserialize_bool => visit_bool,
        deserialize_i8 => visit_i8,
        deserialize_u8 => visit_u8,
        deserialize_f32 => visit_f32,
        deserialize_f64 => visit_f64,
        deserialize_char => visit_char
    }

    take! {
        take_number,
        deserialize_i16 => visit_i16,
        deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64,
        deserialize_i128 => visit_i128,
        deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
        deserialize_u128 => visit_u128
    }

    not_described!(
        deserialize_any,
        deserialize_identifier,
        deserialize_ignored_any
    );

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.take_text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_bytes(self.take_bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if !self.take_option()? {
            return visitor.visit_none();
        }
        self.enter()?;
        let value = visitor.visit_some(&mut *self)?;
        self.leave();
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.work(1)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.work(1)?;
        self.enter()?;
        let value = visitor.visit_newtype_struct(&mut *self)?;
        self.leave();
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let length = self.take_length()?;
        self.sequence(length, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.work(1)?;
        self.sequence(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let length = self.take_length()?;
        self.enter()?;
        let mut entries = Entries {
            reader: self,
            left: length,
            order: KeyOrder::new(),
        };
        let value = visitor.visit_map(&mut entries)?;
        let Entries { reader, left, .. } = entries;
        reader.leave();
        if left == 0 {
            Ok(value)
        } else {
            Err(Error::custom("entries are left over"))
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.work(1)?;
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Holds the keys of a map, or the elements of a set, to their order.
pub(crate) struct KeyOrder<'de> {
    index: u64,
    /// The bytes of the key before.
    last: Option<&'de [u8]>,
    before: &'de [u8],
}

impl<'de> KeyOrder<'de> {
    pub(crate) fn new() -> Self {
        Self {
            index: 0,
            last: None,
            before: &[],
        }
    }

    /// To be called before each key is read.
    pub(crate) fn before(&mut self, reader: &mut Reader<'de>) {
        self.before = reader.rest();
    }

    /// To be called when the key has been read.
    pub(crate) fn after(&mut self, reader: &mut Reader<'de>) -> Result<(), DecodeError> {
        let key = &self.before[..self.before.len() - reader.rest().len()];
        let index = self.index;
        match self.last {
            Some(last) if last == key => return Err(DecodeError::DuplicateKey { index }),
            Some(last) if last > key => return Err(DecodeError::KeyOrder { index }),
            _ => self.last = Some(key),
        }
        self.index += 1;
        Ok(())
    }
}

struct Entries<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
    order: KeyOrder<'de>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.order.before(self.reader);
        let key = seed.deserialize(&mut *self.reader)?;
        self.order.after(self.reader)?;
        Ok(Some(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'a, 'de> EnumAccess<'de> for &'a mut Reader<'de> {
    type Error = DecodeError;
    type Variant = &'a mut Reader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), DecodeError> {
        let index = self.take_variant()?;
        let variant =
            seed.deserialize(IntoDeserializer::<DecodeError>::into_deserializer(index))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        // Counted, so that an enum is one level whichever its variant.
        self.enter()?;
        self.leave();
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        self.enter()?;
        let value = seed.deserialize(&mut *self)?;
        self.leave();
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.sequence(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.sequence(fields.len(), visitor)
    }
}
