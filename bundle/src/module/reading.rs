//! One pass over a module that skips the bodies of its functions.

use std::sync::Arc;

use wasmparser::{ExternalKind, Imports, Parser, Payload, TypeRef, ValType};

use super::{Export, FunctionType, Import, Interface, Item, Memory, ModuleLimits, ValueType};
use crate::manifest::CodeKind;
use crate::sections::{self, Section, SectionError};

/// Most memories that are listed. The ABI allows one; the rest is for the message that says so.
const MEMORIES_MAX: u32 = 100;

/// Why the interface of code could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// It is not a sequence of sections.
    #[error("unreadable sections")]
    Sections(#[from] SectionError),
    /// It is not a core module.
    #[error("{0}, where a core module is expected")]
    NotAModule(CodeKind),
    /// A section does not hold what it should.
    #[error("invalid Wasm")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// Something refers to a function or a type that is not there.
    #[error("{what} {index} does not exist")]
    Dangling {
        /// What is referred to
        what: &'static str,
        /// Its index
        index: u32,
    },
    /// Imports share the name of their module, in an encoding that Spore does not take.
    #[error("imports in groups")]
    GroupedImports,
    /// There are more of something than the limits allow.
    #[error("{count} {what}, at most {limit} are allowed")]
    TooMany {
        /// What
        what: &'static str,
        /// How many
        count: u64,
        /// How many are allowed
        limit: u32,
    },
    /// A function is larger than the limits allow.
    #[error("body of function {index} has {bytes} bytes, at most {limit} are allowed")]
    BodyTooLarge {
        /// Index of the function, imported ones counted
        index: u32,
        /// The size of its body
        bytes: u64,
        /// The size allowed
        limit: u32,
    },
}

/// Reads the interface of a core module.
pub(super) fn read(code: &[u8], limits: &ModuleLimits) -> Result<Interface, ModuleError> {
    let kind = sections::code_kind(code)?;
    if kind != CodeKind::Module {
        return Err(ModuleError::NotAModule(kind));
    }
    let mut reading = Reading::new(limits, sections::sections(code)?);
    for payload in Parser::new(0).parse_all(code) {
        reading.payload(payload?)?;
    }
    Ok(reading.interface)
}

/// An interface while it is read, with the index spaces that its parts refer to.
struct Reading<'a> {
    limits: &'a ModuleLimits,
    interface: Interface,
    types: Vec<Arc<FunctionType>>,
    /// Types of all functions, imported ones first.
    functions: Vec<u32>,
    /// All memories, imported ones first.
    memories: Vec<Memory>,
    /// Functions whose bodies have been seen, imported ones counted.
    bodies: u32,
}

impl<'a> Reading<'a> {
    fn new(limits: &'a ModuleLimits, sections: Vec<Section>) -> Self {
        Self {
            limits,
            interface: Interface {
                imports: Vec::new(),
                exports: Vec::new(),
                sections,
                memories: 0,
                functions: 0,
                largest_body_bytes: 0,
            },
            types: Vec::new(),
            functions: Vec::new(),
            memories: Vec::new(),
            bodies: 0,
        }
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::TypeSection(types) => {
                within("types", types.count(), self.limits.types_max)?;
                for ty in types.into_iter_err_on_gc_types() {
                    let ty = ty?;
                    let parameters = ty.params().iter().map(ValueType::from).collect();
                    let results = ty.results().iter().map(ValueType::from).collect();
                    self.types.push(Arc::new(FunctionType {
                        parameters,
                        results,
                    }));
                }
            }
            Payload::ImportSection(imports) => {
                within("imports", imports.count(), self.limits.imports_max)?;
                for import in imports {
                    let Imports::Single(_, import) = import? else {
                        return Err(ModuleError::GroupedImports);
                    };
                    self.import(import)?;
                }
                self.bodies = self.functions.len() as u32;
            }
            Payload::FunctionSection(functions) => {
                within("functions", functions.count(), self.limits.functions_max)?;
                self.interface.functions = functions.count();
                for ty in functions {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(memories) => {
                within("memories", memories.count(), MEMORIES_MAX)?;
                for memory in memories {
                    self.memory(memory?);
                }
            }
            Payload::ExportSection(exports) => {
                within("exports", exports.count(), self.limits.exports_max)?;
                for export in exports {
                    self.export(export?)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let bytes = body.as_bytes().len() as u64;
                let limit = self.limits.body_bytes_max;
                if bytes > u64::from(limit) {
                    return Err(ModuleError::BodyTooLarge {
                        index: self.bodies,
                        bytes,
                        limit,
                    });
                }
                let largest = &mut self.interface.largest_body_bytes;
                *largest = (*largest).max(bytes as u32);
                self.bodies = self.bodies.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'_>) -> Result<(), ModuleError> {
        let item = match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                Item::Function(self.function_type(ty)?)
            }
            TypeRef::Memory(memory) => Item::Memory(self.memory(memory)),
            TypeRef::Table(_) => Item::Table,
            TypeRef::Global(_) => Item::Global,
            TypeRef::Tag(_) => Item::Tag,
        };
        let (module, name) = (import.module.to_owned(), import.name.to_owned());
        self.interface.imports.push(Import { module, name, item });
        Ok(())
    }

    fn export(&mut self, export: wasmparser::Export<'_>) -> Result<(), ModuleError> {
        let index = export.index;
        let item = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let ty = self.functions.get(index as usize);
                let ty = *ty.ok_or(ModuleError::Dangling {
                    what: "function",
                    index,
                })?;
                Item::Function(self.function_type(ty)?)
            }
            ExternalKind::Memory => {
                let memory = self.memories.get(index as usize);
                Item::Memory(*memory.ok_or(ModuleError::Dangling {
                    what: "memory",
                    index,
                })?)
            }
            ExternalKind::Table => Item::Table,
            ExternalKind::Global => Item::Global,
            ExternalKind::Tag => Item::Tag,
        };
        self.interface.exports.push(Export {
            name: export.name.to_owned(),
            item,
        });
        Ok(())
    }

    fn function_type(&self, index: u32) -> Result<Arc<FunctionType>, ModuleError> {
        let ty = self.types.get(index as usize);
        ty.cloned().ok_or(ModuleError::Dangling {
            what: "type",
            index,
        })
    }

    fn memory(&mut self, memory: wasmparser::MemoryType) -> Memory {
        let memory = Memory::from(memory);
        self.memories.push(memory);
        self.interface.memories = self.interface.memories.saturating_add(1);
        memory
    }
}

fn within(what: &'static str, count: u32, limit: u32) -> Result<(), ModuleError> {
    if count > limit {
        return Err(ModuleError::TooMany {
            what,
            count: u64::from(count),
            limit,
        });
    }
    Ok(())
}

impl From<wasmparser::MemoryType> for Memory {
    fn from(memory: wasmparser::MemoryType) -> Self {
        Self {
            pages_min: memory.initial,
            pages_max: memory.maximum,
            is_64: memory.memory64,
            shared: memory.shared,
        }
    }
}

impl From<&ValType> for ValueType {
    fn from(ty: &ValType) -> Self {
        match ty {
            ValType::I32 => Self::I32,
            ValType::I64 => Self::I64,
            ValType::F32 => Self::F32,
            ValType::F64 => Self::F64,
            ValType::V128 => Self::V128,
            ValType::Ref(_) => Self::Reference,
        }
    }
}
