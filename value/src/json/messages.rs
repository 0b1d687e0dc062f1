//! What messages say of types and of JSON.

use alloc::format;
use alloc::string::{String, ToString};

use serde_json::Value;

use super::may_be_null;
use crate::types::{Definition, Fields, Shape, Type};

/// Longest piece of JSON that a message quotes, in characters.
const QUOTE_MAX: usize = 40;

/// How a type is written in JSON, where its name does not say.
pub(super) fn form_of(ty: &Type, definitions: &[Definition]) -> Option<&'static str> {
    Some(match ty {
        Type::Unit => "null",
        Type::U64 | Type::I64 | Type::U128 | Type::I128 => "a number, or its digits as a string",
        Type::F32 | Type::F64 => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
        Type::Char => "a string of one character",
        Type::Bytes => "a string of base64",
        Type::Duration => "a string of seconds like \"1.5s\"",
        Type::Option(inner) if may_be_null(inner, definitions) => "null or {\"some\": …}",
        Type::List(_) | Type::Set(_) | Type::Array(..) | Type::Tuple(_) => "an array",
        Type::Map(key, _) if **key == Type::String => "an object",
        Type::Map(..) => "an array of [key, value]",
        Type::Result(..) => "{\"Ok\": …} or {\"Err\": …}",
        Type::Named(index) => match &definitions.get(*index as usize)?.shape {
            Shape::Struct(Fields::Unit) => "null",
            Shape::Struct(Fields::Tuple(_)) => "an array",
            Shape::Struct(Fields::Named(_)) => "an object",
            Shape::Enum(_) => "the name of a variant, or {\"Name\": …}",
        },
        _ => return None,
    })
}

/// What stands in the JSON, in few words.
pub(super) fn found(json: &Value) -> String {
    match json {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string \"{}\"", quote(text)),
        Value::Array(list) => format!("an array of {}", list.len()),
        Value::Object(object) => format!("an object of {}", object.len()),
    }
}

/// The beginning of a text, fit for a message.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(QUOTE_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}
