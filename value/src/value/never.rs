//! The value that does not exist.

use core::convert::Infallible;

use serde::de::Error;
use serde::{Deserializer, Serializer};

use super::Value;
use crate::describe::Describer;
use crate::types::{Shape, Type};

/// The error of callables that return none: an enum without variants.
impl Value for Infallible {
    fn describe(types: &mut Describer) -> Type {
        types.define::<Self>("Infallible", "", |_| Shape::Enum([].into()))
    }

    fn serialize_value<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }

    fn deserialize_value<'de, D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a value of a type that has none"))
    }
}
