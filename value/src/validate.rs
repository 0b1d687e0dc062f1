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
    let mut ending = Ending::new(definitions);
    while ending.step() {}
    match (0..definitions.len()).find(|index| !ending.ends(*index)) {
        None => Ok(()),
        Some(index) => Err(TypeError::Endless {
            name: definitions[index].name.clone(),
        }),
    }
}

/// Which definitions end, found in steps of bounded work.
///
/// A table may be a chain in which each definition ends because the next one does. Going over all
/// types once for each link would take the product of definitions and types, so news of an end
/// travels along what waits for it instead: each type is met once, and each edge at most once.
struct Ending {
    /// What ends once enough of its parts do. The first ones are the definitions, in their order.
    nodes: Vec<Node>,
    /// By definition: the nodes that it is a part of, as often as it is one.
    users: Vec<Vec<usize>>,
    /// Nodes of which one more part ends, not yet counted.
    news: Vec<usize>,
}

struct Node {
    /// How many more parts have to end.
    missing: usize,
    /// What this is a part of; a definition has users instead.
    whole: Option<usize>,
}

impl Ending {
    fn new(definitions: &[Definition]) -> Self {
        let mut ending = Self {
            nodes: Vec::new(),
            users: vec![Vec::new(); definitions.len()],
            news: Vec::new(),
        };
        // A definition ends with one of its variants; a struct is its only one.
        ending.nodes.extend(definitions.iter().map(|_| Node {
            missing: 1,
            whole: None,
        }));
        for (index, definition) in definitions.iter().enumerate() {
            match &definition.shape {
                Shape::Struct(fields) => ending.fields(fields, index),
                // An enum without variants has no value to be without end.
                Shape::Enum(variants) if variants.is_empty() => ending.news.push(index),
                Shape::Enum(variants) => {
                    for variant in variants {
                        ending.fields(&variant.fields, index);
                    }
                }
            }
        }
        ending
    }

    /// Adds fields as one part of `whole`.
    fn fields(&mut self, fields: &Fields, whole: usize) {
        match fields {
            Fields::Unit => self.news.push(whole),
            Fields::Tuple(types) => self.all(types.iter(), whole),
            Fields::Named(fields) => self.all(fields.iter().map(|field| &field.ty), whole),
        }
    }

    /// Adds types that only end together as one part of `whole`.
    fn all<'t>(&mut self, types: impl ExactSizeIterator<Item = &'t Type>, whole: usize) {
        if types.len() == 0 {
            self.news.push(whole);
            return;
        }
        let node = self.node(types.len(), whole);
        for ty in types {
            self.ty(ty, node);
        }
    }

    /// Adds a type as one part of `whole`.
    fn ty(&mut self, ty: &Type, whole: usize) {
        match ty {
            Type::Named(index) => self.users[*index as usize].push(whole),
            Type::Array(element, length) if *length > 0 => self.ty(element, whole),
            Type::Tuple(types) => self.all(types.iter(), whole),
            Type::Result(ok, error) => {
                let either = self.node(1, whole);
                self.ty(ok, either);
                self.ty(error, either);
            }
            _ => self.news.push(whole),
        }
    }

    fn node(&mut self, missing: usize, whole: usize) -> usize {
        self.nodes.push(Node {
            missing,
            whole: Some(whole),
        });
        self.nodes.len() - 1
    }

    /// Passes on one end; false when there is none left to pass on.
    fn step(&mut self) -> bool {
        let Some(index) = self.news.pop() else {
            return false;
        };
        let node = &mut self.nodes[index];
        // What needs one of several parts may hear of the others later.
        if node.missing == 0 {
            return true;
        }
        node.missing -= 1;
        if node.missing == 0 {
            match node.whole {
                Some(whole) => self.news.push(whole),
                // A definition ends once, so its users are needed once.
                None => self.news.append(&mut self.users[index]),
            }
        }
        true
    }

    fn ends(&self, definition: usize) -> bool {
        self.nodes[definition].missing == 0
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::format;

    use super::*;

    /// A chain as long as a table can be, each link padded so that the table is as full as it can
    /// be, which ends, or not, at its last link.
    fn chain(last: Type) -> Vec<Definition> {
        let padding = TYPES_MAX / DEFINITIONS_MAX - 4;
        (1..=DEFINITIONS_MAX)
            .map(|next| {
                let link = match next {
                    DEFINITIONS_MAX => last.clone(),
                    _ => Type::Named(u32::try_from(next).expect("a table is small")),
                };
                // Either way out of the result leads on, so that all of it is walked.
                let link = Type::Result(Box::new(link.clone()), Box::new(link));
                let types = core::iter::repeat_n(Type::U8, padding).chain([link]);
                Definition {
                    name: format!("Link{next}"),
                    docs: String::new(),
                    shape: Shape::Struct(Fields::Tuple(types.collect())),
                }
            })
            .collect()
    }

    #[test]
    fn a_long_chain_takes_steps_with_its_types_and_not_with_their_product() {
        let definitions = chain(Type::Unit);
        let mut ending = Ending::new(&definitions);
        let mut steps = 0;
        while ending.step() {
            steps += 1;
        }
        assert!(steps >= DEFINITIONS_MAX, "{steps} steps walk no chain");
        assert!(steps <= 2 * TYPES_MAX, "{steps} steps");
        assert!((0..definitions.len()).all(|index| ending.ends(index)));
    }

    #[test]
    fn a_long_chain_that_bites_its_tail_is_endless() {
        let signature = |last| Signature {
            captures: Vec::new(),
            parameters: Vec::new(),
            returns: Type::Named(0),
            error: None,
            definitions: chain(last),
        };
        assert_eq!(validate(&signature(Type::Unit)), Ok(()));
        assert_eq!(
            validate(&signature(Type::Named(0))),
            Err(TypeError::Endless {
                name: "Link1".into()
            })
        );
    }
}
