//! Values to and from JSON, by type.
//!
//! JSON has one written form for each thing that it lacks:
//!
//! | type | JSON |
//! | --- | --- |
//! | `()`, a unit struct | `null` |
//! | `bool` | `true`, `false` |
//! | integers | a number within ±2⁵³, beyond a string of its decimal digits; either is read |
//! | `f32`, `f64` | a number, `"NaN"`, `"NaN:"` and the bits in hexadecimal for other NaNs, `"Infinity"`, `"-Infinity"` |
//! | `char` | a string of one character |
//! | `String` | a string |
//! | `Vec<u8>` | a string of base64, with padding |
//! | `Duration` | a string of seconds, `"1.5s"`, with up to nine digits behind the point |
//! | `Option<T>` | `null` and the form of `T`; where that may be `null` itself, `{"some": …}` |
//! | `Vec<T>`, `[T; N]`, sets, tuples, tuple structs | an array |
//! | maps of `String` keys | an object |
//! | other maps | an array of `[key, value]` |
//! | a struct of one unnamed field | the form of the field |
//! | other structs | an object by field name; an `Option` left out is `None` |
//! | a unit variant | its name, a string |
//! | other variants | `{"Name": fields}`, the fields as of a struct |
//! | `Result<T, E>` | `{"Ok": …}` or `{"Err": …}` |
//!
//! Maps and sets are written in the order of their bytes and read in any.

mod error;
mod forms;
mod messages;
mod read;
mod write;

use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::DecodeError;
use crate::codec::decoder::Reader;
use crate::limits::Limits;
use crate::types::{Definition, Fields, Parameter, Shape, Type};

pub use error::{JsonError, JsonReason};

/// Most values that JSON is made from at once, whatever the limits say.
///
/// A value in JSON takes up 72 bytes or more of memory where its own bytes may be none, so that
/// [`WORK_MAX_DEFAULT`](crate::limits::WORK_MAX_DEFAULT) would not bound memory. This covers 64 MiB
/// of `f64`, twice over.
pub const JSON_WORK_MAX: u64 = 1 << 24;

/// The JSON of a value of type `ty`, from its bytes.
///
/// The type may come from an untrusted table.
///
/// # Errors
/// As [`codec::decode`](crate::codec::decode); at most [`JSON_WORK_MAX`] units of work are done.
pub fn to_json(
    ty: &Type,
    definitions: &[Definition],
    bytes: &[u8],
    limits: &Limits,
) -> Result<serde_json::Value, DecodeError> {
    let mut reader = Reader::new(bytes, &bounded(limits))?;
    let json = write::value(ty, definitions, &mut reader)?;
    reader.finish()?;
    Ok(json)
}

/// The name and the JSON of each capture or parameter, from their bytes laid one after the other.
///
/// # Errors
/// As [`to_json`].
pub fn parameters_to_json(
    parameters: &[Parameter],
    definitions: &[Definition],
    bytes: &[u8],
    limits: &Limits,
) -> Result<Vec<(String, serde_json::Value)>, DecodeError> {
    let mut reader = Reader::new(bytes, &bounded(limits))?;
    let mut values = Vec::with_capacity(parameters.len());
    for parameter in parameters {
        let json = write::value(&parameter.ty, definitions, &mut reader)?;
        values.push((parameter.name.clone(), json));
    }
    reader.finish()?;
    Ok(values)
}

fn bounded(limits: &Limits) -> Limits {
    limits.with_work(limits.work.min(JSON_WORK_MAX))
}

/// The bytes of a value of type `ty`, from its JSON.
///
/// The type may come from an untrusted table.
///
/// # Errors
/// A [`JsonError`] with the path to the first part that is not of its type, and when the value
/// would ask for more than `limits` allow.
pub fn from_json(
    ty: &Type,
    definitions: &[Definition],
    json: &serde_json::Value,
    limits: &Limits,
) -> Result<Vec<u8>, JsonError> {
    let mut reading = read::Reading::new(definitions, limits);
    reading.value(ty, json)?;
    reading.finish()
}

/// The bytes of the parameters of a call, laid one after the other, from an array of their JSON.
///
/// # Errors
/// As [`from_json`], with a path that begins with the parameter's name; and when `json` is not an
/// array of as many elements as there are parameters.
pub fn parameters_from_json_array(
    parameters: &[Parameter],
    definitions: &[Definition],
    json: &serde_json::Value,
    limits: &Limits,
) -> Result<Vec<u8>, JsonError> {
    let mut reading = read::Reading::new(definitions, limits);
    reading.parameters(parameters, json)?;
    reading.finish()
}

/// The bytes of captures, laid one after the other, from an object by their names.
///
/// # Errors
/// As [`from_json`], with a path that begins with the capture's name; and when `json` is not an
/// object, or has a name that is no capture, or lacks one. An `Option` may be left out.
pub fn captures_from_json_object(
    captures: &[Parameter],
    definitions: &[Definition],
    json: &serde_json::Value,
    limits: &Limits,
) -> Result<Vec<u8>, JsonError> {
    let mut reading = read::Reading::new(definitions, limits);
    reading.captures(captures, json)?;
    reading.finish()
}

/// Whether the JSON of some value of the type is `null`, so that an option of it needs another
/// form for `Some`.
fn may_be_null<'a>(mut ty: &'a Type, definitions: &'a [Definition]) -> bool {
    // Follows structs of one field; a ring of those has no values and ends here.
    for _ in 0..=definitions.len() {
        let definition = match ty {
            Type::Unit | Type::Option(_) => return true,
            Type::Named(index) => usize::try_from(*index)
                .ok()
                .and_then(|at| definitions.get(at)),
            _ => return false,
        };
        match definition.map(|definition| &definition.shape) {
            Some(Shape::Struct(Fields::Unit)) => return true,
            Some(Shape::Struct(Fields::Tuple(types))) if types.len() == 1 => ty = &types[0],
            _ => return false,
        }
    }
    false
}
