//! From bytes to JSON.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::{forms, may_be_null};
use crate::codec::DecodeError;
use crate::codec::decoder::{KeyOrder, Reader};
use crate::types::{Definition, Field, Fields, Shape, Type};

/// Most elements that room is made for before they are read.
const ROOM_MAX: usize = 1024;

/// Reads a value and gives its JSON.
///
/// Costs the work and the depth of reading the type in Rust.
pub(super) fn value(
    ty: &Type,
    definitions: &[Definition],
    reader: &mut Reader<'_>,
) -> Result<Value, DecodeError> {
    Writing {
        definitions,
        reader,
    }
    .value(ty)
}

struct Writing<'a, 'b, 'de> {
    definitions: &'a [Definition],
    reader: &'b mut Reader<'de>,
}

impl<'a> Writing<'a, '_, '_> {
    fn value(&mut self, ty: &'a Type) -> Result<Value, DecodeError> {
        let reader = &mut *self.reader;
        Ok(match ty {
            Type::Unit => {
                reader.work(1)?;
                Value::Null
            }
            Type::Bool => Value::Bool(reader.take()?),
            Type::U8 => forms::unsigned(reader.take::<u8>()?.into()),
            Type::U16 => forms::unsigned(reader.take_number::<u16>()?.into()),
            Type::U32 => forms::unsigned(reader.take_number::<u32>()?.into()),
            Type::U64 => forms::unsigned(reader.take_number::<u64>()?.into()),
            Type::U128 => forms::unsigned(reader.take_number::<u128>()?),
            Type::I8 => forms::signed(reader.take::<i8>()?.into()),
            Type::I16 => forms::signed(reader.take_number::<i16>()?.into()),
            Type::I32 => forms::signed(reader.take_number::<i32>()?.into()),
            Type::I64 => forms::signed(reader.take_number::<i64>()?.into()),
            Type::I128 => forms::signed(reader.take_number::<i128>()?),
            Type::F32 => forms::float_32(reader.take()?),
            Type::F64 => forms::float_64(reader.take()?),
            Type::Char => Value::String(String::from(reader.take::<char>()?)),
            Type::String => Value::from(reader.take_text()?),
            Type::Bytes => Value::String(BASE64.encode(reader.take_bytes()?)),
            Type::Duration => self.duration()?,
            Type::Option(inner) => self.option(inner)?,
            Type::List(element) => {
                let length = self.reader.take_length()?;
                self.elements(element, length)?
            }
            Type::Array(element, length) => {
                self.reader.work(1)?;
                // Wider than memory only where the work runs out before.
                self.elements(element, usize::try_from(*length).unwrap_or(usize::MAX))?
            }
            Type::Set(element) => self.set(element)?,
            Type::Map(key, value) => self.map(key, value)?,
            Type::Tuple(types) => {
                self.reader.work(1)?;
                self.tuple(types)?
            }
            Type::Result(ok, error) => {
                self.reader.work(1)?;
                let (name, ty) = match self.variant(2)? {
                    0 => ("Ok", ok),
                    _ => ("Err", error),
                };
                let json = self.nested(ty)?;
                single(name, json)
            }
            Type::Named(index) => self.named(*index)?,
        })
    }

    fn nested(&mut self, ty: &'a Type) -> Result<Value, DecodeError> {
        self.reader.enter()?;
        let json = self.value(ty)?;
        self.reader.leave();
        Ok(json)
    }

    fn duration(&mut self) -> Result<Value, DecodeError> {
        self.reader.work(1)?;
        self.reader.enter()?;
        let seconds: u64 = self.reader.take_number()?;
        let nanos: u32 = self.reader.take_number()?;
        self.reader.leave();
        let second = Duration::from_secs(1).as_nanos();
        if u128::from(nanos) >= second {
            let message = format_args!("{nanos} nanoseconds are a second or more");
            return Err(serde::de::Error::custom(message));
        }
        Ok(forms::duration(Duration::new(seconds, nanos)))
    }

    fn option(&mut self, inner: &'a Type) -> Result<Value, DecodeError> {
        if !self.reader.take_option()? {
            return Ok(Value::Null);
        }
        let json = self.nested(inner)?;
        Ok(if may_be_null(inner, self.definitions) {
            single("some", json)
        } else {
            json
        })
    }

    fn elements(&mut self, element: &'a Type, length: usize) -> Result<Value, DecodeError> {
        self.reader.enter()?;
        let mut list = Vec::with_capacity(length.min(ROOM_MAX));
        for _ in 0..length {
            list.push(self.value(element)?);
        }
        self.reader.leave();
        Ok(Value::Array(list))
    }

    fn set(&mut self, element: &'a Type) -> Result<Value, DecodeError> {
        let length = self.reader.take_length()?;
        self.reader.enter()?;
        let mut order = KeyOrder::new();
        let mut list = Vec::with_capacity(length.min(ROOM_MAX));
        for _ in 0..length {
            order.before(self.reader);
            list.push(self.value(element)?);
            order.after(self.reader)?;
            // The unit that a set maps its elements to.
            self.reader.work(1)?;
        }
        self.reader.leave();
        Ok(Value::Array(list))
    }

    fn map(&mut self, key: &'a Type, value: &'a Type) -> Result<Value, DecodeError> {
        let length = self.reader.take_length()?;
        self.reader.enter()?;
        let mut order = KeyOrder::new();
        let json = if *key == Type::String {
            let mut object = Map::new();
            for _ in 0..length {
                order.before(self.reader);
                let key = self.reader.take_text()?;
                order.after(self.reader)?;
                object.insert(key.into(), self.value(value)?);
            }
            Value::Object(object)
        } else {
            let mut list = Vec::with_capacity(length.min(ROOM_MAX));
            for _ in 0..length {
                order.before(self.reader);
                let key = self.value(key)?;
                order.after(self.reader)?;
                list.push(Value::Array([key, self.value(value)?].into()));
            }
            Value::Array(list)
        };
        self.reader.leave();
        Ok(json)
    }

    fn tuple(&mut self, types: &'a [Type]) -> Result<Value, DecodeError> {
        self.reader.enter()?;
        let mut list = Vec::with_capacity(types.len().min(ROOM_MAX));
        for ty in types {
            list.push(self.value(ty)?);
        }
        self.reader.leave();
        Ok(Value::Array(list))
    }

    fn object(&mut self, fields: &'a [Field]) -> Result<Value, DecodeError> {
        self.reader.enter()?;
        let mut object = Map::with_capacity(fields.len().min(ROOM_MAX));
        for field in fields {
            object.insert(field.name.clone(), self.value(&field.ty)?);
        }
        self.reader.leave();
        Ok(Value::Object(object))
    }

    /// The number of a variant, of which there are `variants`.
    fn variant(&mut self, variants: usize) -> Result<usize, DecodeError> {
        let found: u32 = self.reader.take_variant()?;
        let index = usize::try_from(found).unwrap_or(usize::MAX);
        if index < variants {
            return Ok(index);
        }
        Err(DecodeError::NoVariant {
            found,
            variants: variants as u64,
        })
    }

    fn named(&mut self, index: u32) -> Result<Value, DecodeError> {
        let definition = usize::try_from(index)
            .ok()
            .and_then(|at| self.definitions.get(at));
        let Some(definition) = definition else {
            let definitions = self.definitions.len() as u64;
            return Err(DecodeError::NoDefinition { index, definitions });
        };
        self.reader.work(1)?;
        match &definition.shape {
            Shape::Struct(fields) => self.fields(fields),
            Shape::Enum(variants) => {
                let variant = &variants[self.variant(variants.len())?];
                if variant.fields == Fields::Unit {
                    self.reader.enter()?;
                    self.reader.leave();
                    return Ok(Value::from(variant.name.as_str()));
                }
                let json = self.fields(&variant.fields)?;
                Ok(single(&variant.name, json))
            }
        }
    }

    fn fields(&mut self, fields: &'a Fields) -> Result<Value, DecodeError> {
        match fields {
            Fields::Unit => Ok(Value::Null),
            Fields::Tuple(types) => match types.as_slice() {
                [field] => self.nested(field),
                types => self.tuple(types),
            },
            Fields::Named(fields) => self.object(fields),
        }
    }
}

fn single(name: &str, json: Value) -> Value {
    let mut object = Map::with_capacity(1);
    object.insert(name.into(), json);
    Value::Object(object)
}
