//! Collects the definitions of types.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::TypeId;

use crate::types::{Definition, Fields, Shape, Type};
use crate::value::Value;

/// Describes types into one table of definitions.
///
/// ```
/// use spore_value::{Describer, Type, Value};
///
/// #[derive(Value)]
/// struct Tree {
///     children: Vec<Tree>,
/// }
///
/// let mut types = Describer::new();
/// assert_eq!(types.describe::<Tree>(), Type::Named(0));
/// assert_eq!(types.describe::<Vec<Tree>>(), Type::List(Box::new(Type::Named(0))));
/// assert_eq!(types.finish().len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Describer {
    /// Every instance of a generic type is a definition of its own.
    indices: BTreeMap<TypeId, u32>,
    definitions: Vec<Definition>,
}

impl Describer {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The type `T`, with what it refers to in the table.
    pub fn describe<T: Value>(&mut self) -> Type {
        T::describe(self)
    }

    /// The type of a struct or an enum `T`: its index in the table.
    ///
    /// `shape` is called the first time only. The index is taken before that, so a type may contain
    /// itself.
    pub fn define<T: Value>(
        &mut self,
        name: &str,
        docs: &str,
        shape: impl FnOnce(&mut Self) -> Shape,
    ) -> Type {
        let key = TypeId::of::<T>();
        if let Some(&index) = self.indices.get(&key) {
            return Type::Named(index);
        }
        let index = u32::try_from(self.definitions.len()).expect("memory ends before types do");
        self.indices.insert(key, index);
        self.definitions.push(Definition {
            name: String::from(name),
            docs: String::from(docs),
            shape: Shape::Struct(Fields::Unit),
        });
        let shape = shape(self);
        self.definitions[index as usize].shape = shape;
        Type::Named(index)
    }

    /// The table: what [`Type::Named`] of the described types refers to.
    #[must_use]
    pub fn finish(self) -> Vec<Definition> {
        self.definitions
    }
}
