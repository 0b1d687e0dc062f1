//! Whether a table of types from elsewhere makes sense.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::types::{Definition, Fields, Parameter, Shape, Signature, Type};

/// Most captures, and most parameters, of a callable.
pub const PARAMETERS_MAX: usize = 256;
/// Most definitions in a table.
///
/// Comparing two tables takes time with the square of this.
pub const DEFINITIONS_MAX: usize = 1024;
/// Most types in a table, each part counted.
pub const TYPES_MAX: usize = 1 << 16;
/// Deepest nesting of a type that is written out, as in `Vec<Option<u8>>`, in levels.
pub const TYPE_DEPTH_MAX: usize = 64;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest documentation of one thing, in bytes.
pub const DOCS_BYTES_MAX: usize = 64 << 10;

/// Why a signature makes no sense. The fault is with whoever wrote the manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// A type refers to a definition that is not in the table.
    #[error("definition {index} is referred to, where there are {definitions}")]
    NoDefinition {
        /// The number found.
        index: u32,
        /// How many there are, numbered from 0.
        definitions: usize,
    },
    /// A type contains itself, with nothing between that could be empty, so that it has no value.
    #[error("`{name}` contains itself without end")]
    Endless {
        /// Its name.
        name: String,
    },
    /// A name is empty.
    #[error("a name in {place} is empty")]
    EmptyName {
        /// The definition, or what else holds the name.
        place: String,
    },
    /// A name occurs twice among the fields of a struct, the variants of an enum, or the like.
    #[error("the name `{name}` occurs twice in {place}")]
    DuplicateName {
        /// The name.
        name: String,
        /// The definition, or what else holds the name.
        place: String,
    },
    /// There is more of something than there may be.
    #[error("{found} {what}, where {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are, or how many were counted before counting ended.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
}

/// Checks a signature that comes from elsewhere: that it refers to definitions that are there, that
/// no type contains itself without end, that names are unique where values are read by name, and
/// that it is of bounded size.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(signature: &Signature) -> Result<(), TypeError> {
    let Signature {
        captures,
        parameters,
        returns,
        error,
        definitions,
    } = signature;
    bound("definitions", definitions.len(), DEFINITIONS_MAX)?;
    let mut check = Check {
        definitions: definitions.len(),
        types: 0,
    };
    for (place, list) in [("the captures", captures), ("the parameters", parameters)] {
        bound("captures or parameters", list.len(), PARAMETERS_MAX)?;
        check.names(place, list.iter().map(|Parameter { name, .. }| name))?;
        for Parameter { ty, .. } in list {
            check.ty(ty, 0)?;
        }
    }
    check.ty(returns, 0)?;
    if let Some(error) = error {
        check.ty(error, 0)?;
    }
    for definition in definitions {
        check.definition(definition)?;
    }
    check_endless(definitions)
}

fn bound(what: &'static str, found: usize, limit: usize) -> Result<(), TypeError> {
    if found > limit {
        Err(TypeError::TooMany { what, found, limit })
    } else {
        Ok(())
    }
}

struct Check {
    definitions: usize,
    /// Types counted.
    types: usize,
}

impl Check {
    fn definition(&mut self, definition: &Definition) -> Result<(), TypeError> {
        let Definition { name, docs, shape } = definition;
        bound("bytes of a name", name.len(), NAME_BYTES_MAX)?;
        bound("bytes of documentation", docs.len(), DOCS_BYTES_MAX)?;
        match shape {
            Shape::Struct(fields) => self.fields(name, fields),
            Shape::Enum(variants) => {
                self.names(name, variants.iter().map(|variant| &variant.name))?;
                for variant in variants {
                    self.count()?;
                    bound("bytes of documentation", variant.docs.len(), DOCS_BYTES_MAX)?;
                    self.fields(name, &variant.fields)?;
                }
                Ok(())
            }
        }
    }

    fn fields(&mut self, place: &str, fields: &Fields) -> Result<(), TypeError> {
        match fields {
            Fields::Unit => Ok(()),
            Fields::Tuple(types) => types.iter().try_for_each(|ty| self.ty(ty, 0)),
            Fields::Named(fields) => {
                self.names(place, fields.iter().map(|field| &field.name))?;
                for field in fields {
                    bound("bytes of documentation", field.docs.len(), DOCS_BYTES_MAX)?;
                    self.ty(&field.ty, 0)?;
                }
                Ok(())
            }
        }
    }

    fn names<'n>(
        &self,
        place: &str,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<(), TypeError> {
        let mut met = BTreeSet::new();
        for name in names {
            bound("bytes of a name", name.len(), NAME_BYTES_MAX)?;
            if name.is_empty() {
                return Err(TypeError::EmptyName {
                    place: place.into(),
                });
            }
            if !met.insert(name) {
                return Err(TypeError::DuplicateName {
                    name: name.clone(),
                    place: place.into(),
                });
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), TypeError> {
        self.types += 1;
        bound("types", self.types, TYPES_MAX)
    }

    fn ty(&mut self, ty: &Type, depth: usize) -> Result<(), TypeError> {
        self.count()?;
        bound("levels of a type", depth, TYPE_DEPTH_MAX)?;
        let depth = depth + 1;
        match ty {
            Type::Option(inner) | Type::List(inner) | Type::Set(inner) | Type::Array(inner, _) => {
                self.ty(inner, depth)
            }
            Type::Map(first, second) | Type::Result(first, second) => {
                self.ty(first, depth)?;
                self.ty(second, depth)
            }
            Type::Tuple(types) => types.iter().try_for_each(|ty| self.ty(ty, depth)),
            Type::Named(index) if *index as usize >= self.definitions => {
                Err(TypeError::NoDefinition {
                    index: *index,
                    definitions: self.definitions,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Finds a definition that no finite value has.
///
/// What ends a type that contains itself is an option, a list, a set or a map, or a variant that
/// does not contain it: boxes leave no trace in types.
fn check_endless(definitions: &[Definition]) -> Result<(), TypeError> {
    let mut ends = vec![false; definitions.len()];
    // Each round finds at least one more that ends, or is the last.
    loop {
        let round: Vec<bool> = definitions
            .iter()
            .zip(&ends)
            .map(|(definition, known)| *known || definition_ends(definition, &ends))
            .collect();
        if round == ends {
            break;
        }
        ends = round;
    }
    match ends.iter().position(|ends| !ends) {
        None => Ok(()),
        Some(index) => Err(TypeError::Endless {
            name: definitions[index].name.clone(),
        }),
    }
}

fn definition_ends(definition: &Definition, ends: &[bool]) -> bool {
    match &definition.shape {
        Shape::Struct(fields) => fields_end(fields, ends),
        // An enum without variants has no value to be without end.
        Shape::Enum(variants) => {
            variants.is_empty()
                || variants
                    .iter()
                    .any(|variant| fields_end(&variant.fields, ends))
        }
    }
}

fn fields_end(fields: &Fields, ends: &[bool]) -> bool {
    match fields {
        Fields::Unit => true,
        Fields::Tuple(types) => types.iter().all(|ty| type_ends(ty, ends)),
        Fields::Named(fields) => fields.iter().all(|field| type_ends(&field.ty, ends)),
    }
}

fn type_ends(ty: &Type, ends: &[bool]) -> bool {
    match ty {
        Type::Named(index) => ends[*index as usize],
        Type::Array(element, length) => *length == 0 || type_ends(element, ends),
        Type::Tuple(types) => types.iter().all(|ty| type_ends(ty, ends)),
        Type::Result(ok, error) => type_ends(ok, ends) || type_ends(error, ends),
        _ => true,
    }
}
