//! From JSON to bytes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::error::{JsonError, JsonReason};
use super::messages::{form_of, found, quote};
use super::{forms, may_be_null};
use crate::codec::encoder::{Keys, Writer};
use crate::codec::wire::Plain;
use crate::limits::{BYTES_PER_WORK, Limits};
use crate::render::render;
use crate::types::{Definition, Field, Fields, Parameter, Shape, Type};

/// JSON on its way to bytes.
pub(super) struct Reading<'a> {
    definitions: &'a [Definition],
    limits: Limits,
    elements: u64,
    work: u64,
    depth: u32,
    writer: Writer,
    /// The way from the whole value to where the reading is.
    path: Vec<Step<'a>>,
}

enum Step<'a> {
    /// A capture or parameter
    Parameter(&'a str),
    /// A field, or the entry of an object
    Name(&'a str),
    Index(usize),
}

type Result<T> = core::result::Result<T, JsonError>;

impl<'a> Reading<'a> {
    pub(super) fn new(definitions: &'a [Definition], limits: &Limits) -> Self {
        Self {
            definitions,
            limits: *limits,
            elements: limits.elements,
            work: limits.work,
            depth: limits.depth,
            writer: Writer::new(Vec::new()),
            path: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.writer.into_buffer())
    }

    pub(super) fn parameters(
        &mut self,
        parameters: &'a [Parameter],
        json: &'a Value,
    ) -> Result<()> {
        let expected = || match parameters.len() {
            1 => "an array of 1 argument".into(),
            count => format!("an array of {count} arguments"),
        };
        let Value::Array(list) = json else {
            return Err(self.wrong(expected(), json));
        };
        if list.len() != parameters.len() {
            return Err(self.wrong(expected(), json));
        }
        for (parameter, json) in parameters.iter().zip(list) {
            self.at(Step::Parameter(&parameter.name), |this| {
                this.value(&parameter.ty, json)
            })?;
        }
        Ok(())
    }

    pub(super) fn captures(&mut self, captures: &'a [Parameter], json: &'a Value) -> Result<()> {
        let Value::Object(object) = json else {
            return Err(self.wrong("an object by the names of captures".into(), json));
        };
        let known = |name: &str| captures.iter().any(|capture| capture.name == name);
        self.refuse_unknown(object, known, || {
            captures.iter().map(|capture| &capture.name)
        })?;
        for capture in captures {
            let json = self.named(object, &capture.name, &capture.ty)?;
            self.at(Step::Parameter(&capture.name), |this| {
                this.value(&capture.ty, json)
            })?;
        }
        Ok(())
    }

    /// Writes the bytes of a value of type `ty`.
    pub(super) fn value(&mut self, ty: &'a Type, json: &'a Value) -> Result<()> {
        self.spend(1)?;
        self.form(ty, json)?;
        self.check_bytes()
    }

    fn form(&mut self, ty: &'a Type, json: &'a Value) -> Result<()> {
        match ty {
            Type::Unit if json.is_null() => Ok(()),
            Type::Bool => self.put(ty, json, json.as_bool()),
            Type::U8 => self.put(ty, json, forms::integer::<u8>(json)),
            Type::U16 => self.put(ty, json, forms::integer::<u16>(json)),
            Type::U32 => self.put(ty, json, forms::integer::<u32>(json)),
            Type::U64 => self.put(ty, json, forms::integer::<u64>(json)),
            Type::U128 => self.put(ty, json, forms::integer::<u128>(json)),
            Type::I8 => self.put(ty, json, forms::integer::<i8>(json)),
            Type::I16 => self.put(ty, json, forms::integer::<i16>(json)),
            Type::I32 => self.put(ty, json, forms::integer::<i32>(json)),
            Type::I64 => self.put(ty, json, forms::integer::<i64>(json)),
            Type::I128 => self.put(ty, json, forms::integer::<i128>(json)),
            Type::F32 => self.put(ty, json, forms::to_float_32(json)),
            Type::F64 => self.put(ty, json, forms::to_float_64(json)),
            Type::Char => {
                let mut characters = json.as_str().unwrap_or_default().chars();
                let first = characters.next().filter(|_| characters.next().is_none());
                self.put(ty, json, first)
            }
            Type::String => match json {
                Value::String(text) => self.bytes(text.as_bytes()),
                _ => Err(self.mismatch(ty, json)),
            },
            Type::Bytes => {
                let bytes = json
                    .as_str()
                    .and_then(|text| BASE64.decode(text.as_bytes()).ok());
                let bytes = bytes.ok_or_else(|| self.mismatch(ty, json))?;
                self.bytes(&bytes)
            }
            Type::Duration => {
                let span = json.as_str().and_then(forms::to_duration);
                let span = span.ok_or_else(|| self.mismatch(ty, json))?;
                self.nested(|this| {
                    this.spend(2)?;
                    this.writer.put(span.as_secs());
                    this.writer.put(span.subsec_nanos());
                    Ok(())
                })
            }
            Type::Option(inner) => self.option(ty, inner, json),
            Type::List(element) => {
                let list = self.array(ty, json, None)?;
                self.length(list.len())?;
                self.nested(|this| this.elements(list.iter().map(|json| (&**element, json))))
            }
            Type::Array(element, length) => {
                let list = self.array(ty, json, Some(*length as usize))?;
                self.nested(|this| this.elements(list.iter().map(|json| (&**element, json))))
            }
            Type::Tuple(types) => {
                let list = self.array(ty, json, Some(types.len()))?;
                self.nested(|this| this.elements(types.iter().zip(list)))
            }
            Type::Set(element) => self.set(ty, element, json),
            Type::Map(key, value) if **key == Type::String => self.object(ty, value, json),
            Type::Map(key, value) => self.pairs(ty, key, value, json),
            Type::Result(ok, error) => {
                let (index, inner, json) = match single(json) {
                    Some(("Ok", json)) => (0u32, ok, json),
                    Some(("Err", json)) => (1, error, json),
                    _ => return Err(self.mismatch(ty, json)),
                };
                self.writer.put(index);
                let step = if index == 0 { "Ok" } else { "Err" };
                self.nested(|this| this.at(Step::Name(step), |this| this.value(inner, json)))
            }
            Type::Named(index) => self.definition(ty, *index, json),
            Type::Unit => Err(self.mismatch(ty, json)),
        }
    }

    fn option(&mut self, ty: &'a Type, inner: &'a Type, json: &'a Value) -> Result<()> {
        if json.is_null() {
            self.writer.put(0u8);
            return Ok(());
        }
        let json = match may_be_null(inner, self.definitions) {
            false => json,
            true => match single(json) {
                Some(("some", json)) => json,
                _ => return Err(self.mismatch(ty, json)),
            },
        };
        self.writer.put(1u8);
        self.nested(|this| this.value(inner, json))
    }

    fn elements(&mut self, list: impl Iterator<Item = (&'a Type, &'a Value)>) -> Result<()> {
        for (index, (ty, json)) in list.enumerate() {
            self.at(Step::Index(index), |this| this.value(ty, json))?;
        }
        Ok(())
    }

    fn set(&mut self, ty: &'a Type, element: &'a Type, json: &'a Value) -> Result<()> {
        let list = self.array(ty, json, None)?;
        self.length(list.len())?;
        self.nested(|this| {
            let mut keys = Keys::new(&mut this.writer);
            for (index, json) in list.iter().enumerate() {
                let start = this.writer.position();
                this.at(Step::Index(index), |this| this.value(element, json))?;
                keys.add(start, &mut this.writer);
                // The unit that a set maps its elements to.
                this.spend(1)?;
            }
            this.order(keys)
        })
    }

    fn object(&mut self, ty: &'a Type, value: &'a Type, json: &'a Value) -> Result<()> {
        let Value::Object(object) = json else {
            return Err(self.mismatch(ty, json));
        };
        self.length(object.len())?;
        self.nested(|this| {
            let mut keys = Keys::new(&mut this.writer);
            for (key, json) in object {
                let start = this.writer.position();
                this.spend(1)?;
                this.bytes(key.as_bytes())?;
                keys.add(start, &mut this.writer);
                this.at(Step::Name(key), |this| this.value(value, json))?;
            }
            this.order(keys)
        })
    }

    fn pairs(
        &mut self,
        ty: &'a Type,
        key: &'a Type,
        value: &'a Type,
        json: &'a Value,
    ) -> Result<()> {
        let list = self.array(ty, json, None)?;
        self.length(list.len())?;
        self.nested(|this| {
            let mut keys = Keys::new(&mut this.writer);
            for (index, json) in list.iter().enumerate() {
                this.at(Step::Index(index), |this| {
                    let Some([key_json, value_json]) = json.as_array().map(Vec::as_slice) else {
                        return Err(this.wrong("a pair of key and value".into(), json));
                    };
                    let start = this.writer.position();
                    this.at(Step::Index(0), |this| this.value(key, key_json))?;
                    keys.add(start, &mut this.writer);
                    this.at(Step::Index(1), |this| this.value(value, value_json))
                })?;
            }
            this.order(keys)
        })
    }

    fn definition(&mut self, ty: &'a Type, index: u32, json: &'a Value) -> Result<()> {
        let definition = usize::try_from(index)
            .ok()
            .and_then(|at| self.definitions.get(at));
        let Some(definition) = definition else {
            let definitions = self.definitions.len() as u64;
            return Err(self.error(JsonReason::NoDefinition { index, definitions }));
        };
        let variants = match &definition.shape {
            Shape::Struct(fields) => return self.fields(ty, fields, json),
            Shape::Enum(variants) => variants,
        };
        let (name, inner) = match (json, single(json)) {
            (Value::String(name), _) => (name.as_str(), None),
            (_, Some((name, inner))) => (name, Some(inner)),
            _ => return Err(self.mismatch(ty, json)),
        };
        let found = (0u32..)
            .zip(variants)
            .find(|(_, variant)| variant.name == name);
        let Some((index, variant)) = found else {
            let known = variants
                .iter()
                .map(|variant| variant.name.clone())
                .collect();
            return Err(self.error(JsonReason::UnknownName {
                name: name.into(),
                known,
            }));
        };
        self.writer.put(index);
        match (&variant.fields, inner) {
            (Fields::Unit, None) => self.nested(|_| Ok(())),
            (Fields::Unit, Some(_)) => Err(self.wrong(
                format!("the string \"{name}\", since it has no fields"),
                json,
            )),
            (_, None) => Err(self.wrong(format!("{{\"{name}\": …}}, since it has fields"), json)),
            (fields, Some(inner)) => {
                self.at(Step::Name(name), |this| this.fields(ty, fields, inner))
            }
        }
    }

    fn fields(&mut self, ty: &'a Type, fields: &'a Fields, json: &'a Value) -> Result<()> {
        match fields {
            Fields::Unit if json.is_null() => Ok(()),
            Fields::Unit => Err(self.mismatch(ty, json)),
            Fields::Tuple(types) => match types.as_slice() {
                [field] => self.nested(|this| this.value(field, json)),
                types => {
                    let list = self.array(ty, json, Some(types.len()))?;
                    self.nested(|this| this.elements(types.iter().zip(list)))
                }
            },
            Fields::Named(fields) => self.named_fields(ty, fields, json),
        }
    }

    fn named_fields(&mut self, ty: &'a Type, fields: &'a [Field], json: &'a Value) -> Result<()> {
        let Value::Object(object) = json else {
            return Err(self.mismatch(ty, json));
        };
        let known = |name: &str| fields.iter().any(|field| field.name == name);
        self.refuse_unknown(object, known, || fields.iter().map(|field| &field.name))?;
        self.nested(|this| {
            for field in fields {
                let json = this.named(object, &field.name, &field.ty)?;
                this.at(Step::Name(&field.name), |this| this.value(&field.ty, json))?;
            }
            Ok(())
        })
    }

    /// The entry of that name, or `null` for an option that is left out.
    fn named(&self, object: &'a Map<String, Value>, name: &str, ty: &Type) -> Result<&'a Value> {
        match (object.get(name), ty) {
            (Some(json), _) => Ok(json),
            (None, Type::Option(_)) => Ok(&Value::Null),
            (None, ty) => Err(self.error(JsonReason::MissingName {
                name: name.into(),
                ty: render(ty, self.definitions),
            })),
        }
    }

    fn refuse_unknown<'n, I: Iterator<Item = &'n String>>(
        &self,
        object: &Map<String, Value>,
        known: impl Fn(&str) -> bool,
        names: impl Fn() -> I,
    ) -> Result<()> {
        match object.keys().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(self.error(JsonReason::UnknownName {
                name: quote(name),
                known: names().cloned().collect(),
            })),
        }
    }

    fn array(&self, ty: &Type, json: &'a Value, length: Option<usize>) -> Result<&'a Vec<Value>> {
        match json {
            Value::Array(list) if length.is_none_or(|length| length == list.len()) => Ok(list),
            _ => Err(self.mismatch(ty, json)),
        }
    }

    fn put<T: Plain>(&mut self, ty: &Type, json: &Value, value: Option<T>) -> Result<()> {
        let value = value.ok_or_else(|| self.mismatch(ty, json))?;
        self.writer.put(value);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.spend(bytes.len() as u64 / BYTES_PER_WORK)?;
        self.writer.put_bytes(bytes);
        Ok(())
    }

    fn length(&mut self, length: usize) -> Result<()> {
        let left = self.elements.checked_sub(length as u64);
        let limit = self.limits.elements;
        self.elements = left.ok_or_else(|| self.error(JsonReason::TooManyElements { limit }))?;
        self.writer.put_length(length);
        Ok(())
    }

    fn check_bytes(&mut self) -> Result<()> {
        let limit = self.limits.bytes;
        if self.writer.position() as u64 > limit {
            return Err(self.error(JsonReason::TooLong { limit }));
        }
        Ok(())
    }

    fn spend(&mut self, cost: u64) -> Result<()> {
        let limit = self.limits.work;
        let left = self.work.checked_sub(cost);
        self.work = left.ok_or_else(|| self.error(JsonReason::TooMuchWork { limit }))?;
        Ok(())
    }

    fn order(&mut self, keys: Keys) -> Result<()> {
        keys.finish(&mut self.writer)
            .map_err(|error| self.error(error.into()))
    }

    fn nested(&mut self, inside: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let limit = self.limits.depth;
        let left = self.depth.checked_sub(1);
        self.depth = left.ok_or_else(|| self.error(JsonReason::TooDeep { limit }))?;
        self.writer
            .enter()
            .map_err(|error| self.error(error.into()))?;
        inside(self)?;
        self.writer.leave();
        self.depth += 1;
        Ok(())
    }

    /// Stays at the step when that fails, for the path in the error.
    fn at(&mut self, step: Step<'a>, inside: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.path.push(step);
        inside(self)?;
        self.path.pop();
        Ok(())
    }

    fn mismatch(&self, ty: &Type, json: &Value) -> JsonError {
        let mut expected = render(ty, self.definitions);
        if let Some(form) = form_of(ty, self.definitions) {
            let _ = write!(expected, " ({form})");
        }
        self.wrong(expected, json)
    }

    fn wrong(&self, expected: String, json: &Value) -> JsonError {
        self.error(JsonReason::WrongType {
            expected,
            found: found(json),
        })
    }

    fn error(&self, reason: JsonReason) -> JsonError {
        let mut path = String::new();
        for step in &self.path {
            let written = match step {
                Step::Parameter(name) => write!(path, "{name}"),
                Step::Name(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
            written.expect("a string takes every write");
        }
        JsonError { path, reason }
    }
}

/// The one entry of an object that has one.
fn single(json: &Value) -> Option<(&str, &Value)> {
    let object = json.as_object()?;
    let (name, value) = object.iter().next()?;
    (object.len() == 1).then_some((name, value))
}
