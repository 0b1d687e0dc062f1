//! The walk that writes a value.

use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use serde::ser::{self, Serialize, Serializer};

use super::EncodeError;
use super::wire::{Output, Plain};
use crate::limits::DEPTH_MAX_DEFAULT;

/// Appends the bytes of `value`, or leaves `output` as it was.
pub(super) fn append<T: Serialize + ?Sized>(
    value: &T,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = output.len();
    let mut writer = Writer::new(mem::take(output));
    let result = value.serialize(&mut writer);
    *output = writer.into_buffer();
    if result.is_err() {
        output.truncate(start);
    }
    result
}

/// A writer of values, which counts how deep it is and puts maps in order.
pub(crate) struct Writer {
    output: Output,
    /// Levels entered and not left.
    depth: u32,
}

impl Writer {
    /// Writes on after what `buffer` holds.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self {
            output: Output::new(buffer),
            depth: 0,
        }
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.output.into_buffer()
    }

    /// How many bytes have been written.
    pub(crate) fn position(&mut self) -> usize {
        self.output.buffer().len()
    }

    pub(crate) fn put<T: Plain>(&mut self, value: T) {
        self.output.put(value);
    }

    pub(crate) fn put_length(&mut self, length: usize) {
        self.output.put_length(length);
    }

    /// Writes text or bytes, behind their length.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_length(bytes.len());
        self.output.buffer().extend_from_slice(bytes);
    }

    pub(crate) fn enter(&mut self) -> Result<(), EncodeError> {
        if self.depth == DEPTH_MAX_DEFAULT {
            return Err(EncodeError::TooDeep {
                limit: DEPTH_MAX_DEFAULT,
            });
        }
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.leave();
        Ok(())
    }
}

/// The entries of a map or a set: written as they come, put in order at the end.
///
/// The order needs the keys' bytes, which here are written once whatever the nesting. Encoding each
/// key by itself first would double the work with every level of maps that are keys of maps.
pub(crate) struct Keys {
    start: usize,
    keys: Vec<Range<usize>>,
    ascending: bool,
}

impl Keys {
    /// For entries that begin where the writer stands.
    pub(crate) fn new(writer: &mut Writer) -> Self {
        Self {
            start: writer.position(),
            keys: Vec::new(),
            ascending: true,
        }
    }

    /// Takes note of a key that has been written from `start` to where the writer stands.
    pub(crate) fn add(&mut self, start: usize, writer: &mut Writer) {
        let key = start..writer.position();
        if let (true, Some(last)) = (self.ascending, self.keys.last()) {
            let bytes = writer.output.buffer();
            self.ascending = bytes[last.clone()] < bytes[key.clone()];
        }
        self.keys.push(key);
    }

    /// Puts the entries in order, the last of which ends where the writer stands.
    pub(crate) fn finish(self, writer: &mut Writer) -> Result<(), EncodeError> {
        if self.ascending {
            return Ok(());
        }
        let bytes = writer.output.buffer();
        let ends = self
            .keys
            .iter()
            .skip(1)
            .map(|key| key.start)
            .chain([bytes.len()]);
        let mut entries: Vec<_> = self.keys.iter().cloned().zip(ends).collect();
        entries.sort_unstable_by(|(a, _), (b, _)| bytes[a.clone()].cmp(&bytes[b.clone()]));
        if entries
            .windows(2)
            .any(|pair| bytes[pair[0].0.clone()] == bytes[pair[1].0.clone()])
        {
            return Err(EncodeError::DuplicateKey);
        }
        let mut ordered = Vec::with_capacity(bytes.len() - self.start);
        for (key, end) in entries {
            ordered.extend_from_slice(&bytes[key.start..end]);
        }
        bytes[self.start..].copy_from_slice(&ordered);
        Ok(())
    }
}

macro_rules! put {
    ($($method:ident: $type:ty),+) => {
        $(fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.put(value);
            Ok(())
        })+
    };
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Elements<'a>;
    type SerializeStructVariant = Elements<'a>;

    put! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64, serialize_char: char
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.put_bytes(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.put_bytes(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.put(0u8);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.put(1u8);
        self.nested(value)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        // A level is counted even though nothing is nested, as the decoder does: it cannot know.
        self.enter()?;
        self.leave();
        self.put(index);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.nested(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.put(index);
        self.nested(value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Elements<'a>, EncodeError> {
        let length = length.ok_or(EncodeError::UnknownLength)?;
        self.put_length(length);
        Elements::new(self, length)
    }

    fn serialize_tuple(self, length: usize) -> Result<Elements<'a>, EncodeError> {
        Elements::new(self, length)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<Elements<'a>, EncodeError> {
        Elements::new(self, length)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        length: usize,
    ) -> Result<Elements<'a>, EncodeError> {
        self.put(index);
        Elements::new(self, length)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Entries<'a>, EncodeError> {
        let length = length.ok_or(EncodeError::UnknownLength)?;
        self.put_length(length);
        self.enter()?;
        let keys = Keys::new(self);
        Ok(Entries {
            writer: self,
            length,
            keys,
        })
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        length: usize,
    ) -> Result<Elements<'a>, EncodeError> {
        Elements::new(self, length)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        length: usize,
    ) -> Result<Elements<'a>, EncodeError> {
        self.put(index);
        Elements::new(self, length)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Elements or fields, in the order in which they come.
pub(crate) struct Elements<'a> {
    writer: &'a mut Writer,
    length: usize,
    written: usize,
}

impl<'a> Elements<'a> {
    fn new(writer: &'a mut Writer, length: usize) -> Result<Self, EncodeError> {
        writer.enter()?;
        Ok(Self {
            writer,
            length,
            written: 0,
        })
    }

    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        value.serialize(&mut *self.writer)
    }

    fn finish(self) -> Result<(), EncodeError> {
        self.writer.leave();
        check_length(self.length, self.written)
    }
}

fn check_length(claimed: usize, found: usize) -> Result<(), EncodeError> {
    if claimed == found {
        Ok(())
    } else {
        Err(EncodeError::WrongLength { claimed, found })
    }
}

macro_rules! elements {
    ($($trait:ident: $method:ident($($key:ty)?)),+) => {
        $(impl ser::$trait for Elements<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $(_key: $key,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                self.put(value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        })+
    };
}

elements! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str)
}

pub(crate) struct Entries<'a> {
    writer: &'a mut Writer,
    length: usize,
    keys: Keys,
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        let start = self.writer.position();
        key.serialize(&mut *self.writer)?;
        self.keys.add(start, self.writer);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.writer.leave();
        check_length(self.length, self.keys.keys.len())?;
        self.keys.finish(self.writer)
    }
}
