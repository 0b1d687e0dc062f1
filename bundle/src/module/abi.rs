//! What the ABI demands of a module's exports. `docs/ABI.md` specifies it.

use std::collections::HashMap;

use spore_abi::export;

use super::{FunctionType, Item, ValueType};
use crate::manifest::Manifest;

/// Why code does not follow the ABI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AbiError {
    /// An export that every guest has, or that the manifest names, is missing.
    #[error("no export {name}: not a guest of Spore")]
    Missing {
        /// Its name
        name: String,
    },
    /// The exports of a callable are missing.
    #[error("no export {name}, which callable {callable} needs")]
    MissingCallable {
        /// Its name
        name: String,
        /// The callable
        callable: String,
    },
    /// An export has another type than the ABI gives it.
    #[error("export {name} is {found}, the ABI has {expected}")]
    WrongType {
        /// Its name
        name: String,
        /// What the ABI has
        expected: String,
        /// What the code has
        found: String,
    },
    /// A guest has exactly one memory.
    #[error("{count} memories, a guest has one")]
    Memories {
        /// How many there are
        count: u32,
    },
}

/// The exports that every guest has, as numbers of `i32` parameters and results.
const COMMON: [(&str, usize, usize); 6] = [
    (export::ALLOC, 2, 1),
    (export::FREE, 3, 0),
    (export::POLL, 1, 1),
    (export::CANCEL, 1, 0),
    (export::DROP, 1, 0),
    (export::UNBIND, 1, 0),
];

/// The exports of each callable, likewise.
const CALLABLE: [(&str, usize, usize); 2] = [(export::BIND, 2, 1), (export::START, 3, 1)];

/// Checks the exports of a module that has this many memories.
pub(super) fn check(
    exports: &HashMap<&str, &Item>,
    memories: u32,
    manifest: &Manifest,
) -> Result<(), AbiError> {
    match exports.get(export::MEMORY) {
        Some(Item::Memory(memory)) if !memory.is_64 && !memory.shared => {}
        Some(item) => return Err(wrong(export::MEMORY, "32-bit memory", item)),
        None => return Err(missing(export::MEMORY)),
    }
    if memories != 1 {
        return Err(AbiError::Memories { count: memories });
    }

    if let Some(item) = exports.get(export::INITIALIZE) {
        function(export::INITIALIZE, item, 0, 0)?;
    }
    for name in manifest.init.iter().chain(&manifest.restored) {
        let item = exports.get(name.as_str()).ok_or_else(|| missing(name))?;
        function(name, item, 0, 0)?;
    }
    for (name, parameters, results) in COMMON {
        let item = exports.get(name).ok_or_else(|| missing(name))?;
        function(name, item, parameters, results)?;
    }
    for callable in &manifest.callables {
        for (prefix, parameters, results) in CALLABLE {
            let name = format!("{prefix}{}", callable.name);
            let Some(item) = exports.get(name.as_str()) else {
                return Err(AbiError::MissingCallable {
                    name,
                    callable: callable.name.clone(),
                });
            };
            function(&name, item, parameters, results)?;
        }
    }
    Ok(())
}

/// Checks that an export is a function of so many `i32` to so many `i32`.
fn function(name: &str, item: &Item, parameters: usize, results: usize) -> Result<(), AbiError> {
    let expected = FunctionType {
        parameters: vec![ValueType::I32; parameters].into(),
        results: vec![ValueType::I32; results].into(),
    };
    match item {
        Item::Function(found) if **found == expected => Ok(()),
        item => Err(wrong(name, &format!("function {expected}"), item)),
    }
}

fn missing(name: &str) -> AbiError {
    AbiError::Missing {
        name: name.to_owned(),
    }
}

fn wrong(name: &str, expected: &str, found: &Item) -> AbiError {
    let (name, expected) = (name.to_owned(), expected.to_owned());
    AbiError::WrongType {
        name,
        expected,
        found: found.to_string(),
    }
}
