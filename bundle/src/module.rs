//! What code says of itself before anything of it runs: imports, exports, sizes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::manifest::Manifest;
use crate::sections::Section;

mod abi;
mod detach;
mod interior;
mod reading;
mod rewrite;

pub use abi::AbiError;
pub use detach::{DetachError, detach};
pub use interior::{FunctionName, GlobalType, Interior, Misfit, Obstacle};
pub use reading::ModuleError;
pub use rewrite::{
    INSTRUMENTATION, PRIVATE_GLOBAL, PRIVATE_PREFIX, PRIVATE_START, RewriteError, bake, instrument,
};

/// Most functions that code may define, unless set otherwise.
///
/// Bounds the time that a compiler takes. A guest in Rust has a few hundred, CPython ten thousand.
pub const FUNCTIONS_MAX_DEFAULT: u32 = 100_000;

/// Largest body of a function, unless set otherwise, in bytes.
///
/// Bounds the time and memory that a compiler takes for one function, which grow faster than its
/// size. Interpreter loops, the largest that people write, have a few hundred KiB.
pub const BODY_BYTES_MAX_DEFAULT: u32 = 4 << 20;

/// Most imports, unless set otherwise. WASI has 46 functions, and each needs one import.
pub const IMPORTS_MAX_DEFAULT: u32 = 1_000;

/// Most exports, unless set otherwise: three for each of
/// [`CALLABLES_MAX`](crate::limits::CALLABLES_MAX) callables, and as many again that are not Spore's.
pub const EXPORTS_MAX_DEFAULT: u32 = 6_144;

/// Most types of functions, unless set otherwise: as many as functions.
pub const TYPES_MAX_DEFAULT: u32 = FUNCTIONS_MAX_DEFAULT;

/// What a reader of code accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleLimits {
    /// Most functions defined. [`FUNCTIONS_MAX_DEFAULT`] by default.
    pub functions_max: u32,
    /// Largest body of a function, in bytes. [`BODY_BYTES_MAX_DEFAULT`] by default.
    pub body_bytes_max: u32,
    /// Most imports. [`IMPORTS_MAX_DEFAULT`] by default.
    pub imports_max: u32,
    /// Most exports. [`EXPORTS_MAX_DEFAULT`] by default.
    pub exports_max: u32,
    /// Most types of functions. [`TYPES_MAX_DEFAULT`] by default.
    pub types_max: u32,
}

impl ModuleLimits {
    /// No limits: for who compiled the code, or only looks at it.
    ///
    /// What is read is bounded by the size of the code all the same.
    pub const NONE: Self = Self {
        functions_max: u32::MAX,
        body_bytes_max: u32::MAX,
        imports_max: u32::MAX,
        exports_max: u32::MAX,
        types_max: u32::MAX,
    };
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            functions_max: FUNCTIONS_MAX_DEFAULT,
            body_bytes_max: BODY_BYTES_MAX_DEFAULT,
            imports_max: IMPORTS_MAX_DEFAULT,
            exports_max: EXPORTS_MAX_DEFAULT,
            types_max: TYPES_MAX_DEFAULT,
        }
    }
}

/// What code imports and exports, and how large it is.
///
/// Reading it takes one pass over the binary that skips the bodies of functions. That they are
/// valid is for the engine to say, which checks them before it compiles them.
#[derive(Clone, Debug)]
pub struct Interface {
    imports: Vec<Import>,
    exports: Vec<Export>,
    sections: Vec<Section>,
    memories: u32,
    functions: u32,
    largest_body_bytes: u32,
}

impl Interface {
    /// Reads the interface of a core module.
    ///
    /// # Errors
    ///
    /// Refuses what is not a module, and what goes beyond `limits`. Takes memory in proportion to
    /// the code at most.
    pub fn read(code: &[u8], limits: &ModuleLimits) -> Result<Self, ModuleError> {
        reading::read(code, limits)
    }

    /// What the code imports, in its order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// The imports for which `offered` is false, given module and name.
    pub fn imports_without(&self, offered: impl Fn(&str, &str) -> bool) -> Vec<&Import> {
        self.imports
            .iter()
            .filter(|import| !offered(&import.module, &import.name))
            .collect()
    }

    /// What the code exports, in its order.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// The export of this name.
    pub fn export(&self, name: &str) -> Option<&Item> {
        self.exports
            .iter()
            .find(|export| export.name == name)
            .map(|export| &export.item)
    }

    /// The sections of the binary, in its order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// How many functions the code defines, imported ones not counted.
    pub fn functions(&self) -> u32 {
        self.functions
    }

    /// Size of the largest body of a function, in bytes.
    pub fn largest_body_bytes(&self) -> u32 {
        self.largest_body_bytes
    }

    /// Checks that the code has what the ABI demands for these callables, each with its type.
    ///
    /// # Errors
    ///
    /// Names the first export that is missing or has another type.
    pub fn check_abi(&self, manifest: &Manifest) -> Result<(), AbiError> {
        let exports: HashMap<&str, &Item> = self
            .exports
            .iter()
            .map(|export| (export.name.as_str(), &export.item))
            .collect();
        abi::check(&exports, self.memories, manifest)
    }
}

/// Something that code wants from its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module that it is imported from.
    pub module: String,
    /// Its name in that module.
    pub name: String,
    /// What it is.
    pub item: Item,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}: {}",
            self.module.escape_debug(),
            self.name.escape_debug(),
            self.item
        )
    }
}

/// Something that code offers to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it is.
    pub item: Item,
}

/// What is imported or exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A function
    Function(Arc<FunctionType>),
    /// A memory
    Memory(Memory),
    /// A table
    Table,
    /// A global
    Global,
    /// A tag of exceptions
    Tag,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(ty) => write!(f, "function {ty}"),
            Self::Memory(memory) => write!(f, "{memory}"),
            Self::Table => f.write_str("table"),
            Self::Global => f.write_str("global"),
            Self::Tag => f.write_str("tag"),
        }
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionType {
    /// What it takes.
    pub parameters: Box<[ValueType]>,
    /// What it returns.
    pub results: Box<[ValueType]>,
}

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[ValueType]| {
            types
                .iter()
                .map(ValueType::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(f, "({}) → ", list(&self.parameters))?;
        match &*self.results {
            [result] => write!(f, "{result}"),
            results => write!(f, "({})", list(results)),
        }
    }
}

/// The type of a WebAssembly value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `i32`
    I32,
    /// `i64`
    I64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `v128`
    V128,
    /// A reference of any kind
    Reference,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::Reference => "reference",
        })
    }
}

/// A linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its size at first, in pages of 64 KiB unless the code says otherwise.
    pub pages_min: u64,
    /// The size it may grow to, in pages, if it says so.
    pub pages_max: Option<u64>,
    /// Whether addresses have 64 bits.
    pub is_64: bool,
    /// Whether threads may share it.
    pub shared: bool,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.is_64 { 64 } else { 32 };
        let shared = if self.shared { "shared " } else { "" };
        write!(f, "{shared}{bits}-bit memory of {} pages", self.pages_min)
    }
}
