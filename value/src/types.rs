//! Types of values, as manifests hold them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The type of a value.
///
/// Named types are indices into the [`Definition`]s that accompany the type, so that a type may
/// contain itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Type {
    /// `()`
    Unit,
    /// `bool`
    Bool,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`; also `usize`, which travels as a 32-bit number.
    U32,
    /// `u64`
    U64,
    /// `u128`
    U128,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`; also `isize`, which travels as a 32-bit number.
    I32,
    /// `i64`
    I64,
    /// `i128`
    I128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// UTF-8 text
    String,
    /// `Vec<u8>`
    Bytes,
    /// A span of time: whole seconds (`u64`) and nanoseconds (`u32`).
    Duration,
    /// `Option<T>`
    Option(Box<Type>),
    /// `Vec<T>`
    List(Box<Type>),
    /// `[T; N]`
    Array(Box<Type>, u32),
    /// A set, in the order of its elements' bytes
    Set(Box<Type>),
    /// A map, in the order of its keys' bytes
    Map(Box<Type>, Box<Type>),
    /// `(A, B, …)`
    Tuple(Vec<Type>),
    /// `Result<T, E>`
    Result(Box<Type>, Box<Type>),
    /// The definition of this index
    Named(u32),
}

/// A struct or an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The name in the source, without its path or generic arguments; two types of one name may differ.
    pub name: String,
    /// The documentation comment, or empty.
    pub docs: String,
    /// What it is made of.
    pub shape: Shape,
}

/// What a definition is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A struct
    Struct(Fields),
    /// An enum: its variants in the order of their indices
    Enum(Vec<Variant>),
}

/// The fields of a struct or of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fields {
    /// None
    Unit,
    /// By position
    Tuple(Vec<Type>),
    /// By name
    Named(Vec<Field>),
}

/// A named field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name
    pub name: String,
    /// Its documentation comment, or empty
    pub docs: String,
    /// Its type
    pub ty: Type,
}

/// One variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name
    pub name: String,
    /// Its documentation comment, or empty
    pub docs: String,
    /// Its fields
    pub fields: Fields,
}

/// The types of a callable: what it captures, takes and returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What it captures, in order.
    pub captures: Vec<Parameter>,
    /// What it takes, in order.
    pub parameters: Vec<Parameter>,
    /// What it returns; of a `Result`, the `Ok` part.
    pub returns: Type,
    /// The `Err` part, for a callable that returns a `Result`.
    pub error: Option<Type>,
    /// What [`Type::Named`] refers to.
    pub definitions: Vec<Definition>,
}

/// A named capture or parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name
    pub name: String,
    /// Its type
    pub ty: Type,
}
