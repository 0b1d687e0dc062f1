//! What an image must know of code: its memory, its globals, and what stands in the way of one.

use std::fmt;
use std::ops::Range;

use wasmparser::{DataKind, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

use super::{Memory, ModuleError, ValueType};
use crate::image::{BLOCK_BYTES, BLOCKS_PER_PAGE, GlobalValue, Index, PAGES_MAX};
use crate::sections;

/// The parts of code that hold state, and whether an image can hold all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interior {
    memory: Option<Memory>,
    globals: Vec<GlobalType>,
    start: Option<u32>,
    laid_out_blocks: u64,
    obstacle: Option<Obstacle>,
}

/// The type of a global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalType {
    /// What it holds.
    pub ty: ValueType,
    /// Whether code may change it.
    pub mutable: bool,
}

/// Why instances of code have no image: state that is neither in memory nor in a global that holds
/// a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A function changes a table.
    #[error("{function} changes a table ({instruction})")]
    Table {
        /// The function, by name if the code says it
        function: FunctionName,
        /// The instruction
        instruction: &'static str,
    },
    /// A function drops a segment, which a fresh instance has.
    #[error("{function} drops a segment ({instruction})")]
    Segment {
        /// The function, by name if the code says it
        function: FunctionName,
        /// The instruction
        instruction: &'static str,
    },
    /// A global that may change holds a reference.
    #[error("global {index} holds a reference that may change")]
    Reference {
        /// Its index
        index: u32,
    },
    /// State that is the host's is imported.
    #[error("{what} is imported")]
    Imported {
        /// What
        what: &'static str,
    },
    /// Its memory is none that an image describes.
    #[error("it has no memory of 32 bits of its own")]
    Memory,
}

/// A function as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// Its index, imported ones counted.
    pub index: u32,
    /// Its name, if the code has one.
    pub name: Option<String>,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "function {}", name.escape_debug()),
            None => write!(f, "function {}", self.index),
        }
    }
}

/// Why an image does not fit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// Instances of the code have no image.
    #[error("the code has no images: {0}")]
    Obstacle(#[from] Obstacle),
    /// The image has less memory than the code begins with, or more than it may grow to.
    #[error("memory of {pages} pages, the code has {min} to {max}")]
    Memory {
        /// Pages of the image
        pages: u32,
        /// Pages that the code begins with
        min: u64,
        /// Pages that it may grow to
        max: u64,
    },
    /// The image has a global that the code does not have, or that never changes.
    #[error("global {index} is none that changes")]
    Global {
        /// Its index
        index: u32,
    },
    /// A global has another type.
    #[error("global {index} is {found}, in the code {expected}")]
    GlobalType {
        /// Its index
        index: u32,
        /// The type in the code
        expected: ValueType,
        /// The type in the image
        found: ValueType,
    },
}

impl Interior {
    /// Reads the code, bodies of functions included: takes time in proportion to it.
    ///
    /// # Errors
    ///
    /// When the code is no core module, or is not valid where it is looked at.
    pub fn read(code: &[u8]) -> Result<Interior, ModuleError> {
        let kind = sections::code_kind(code)?;
        if kind != crate::manifest::CodeKind::Module {
            return Err(ModuleError::NotAModule(kind));
        }
        let mut reading = Reading::default();
        for payload in Parser::new(0).parse_all(code) {
            reading.payload(payload?)?;
        }
        Ok(reading.finish())
    }

    /// The mutable globals that hold numbers, with their indices.
    pub fn mutable_globals(&self) -> impl Iterator<Item = (u32, ValueType)> {
        let globals = (0..).zip(&self.globals);
        globals
            .filter(|(_, global)| global.mutable && global.ty != ValueType::Reference)
            .map(|(index, global)| (index, global.ty))
    }

    /// Blocks of memory in which active data segments lay something out when an instance is made: at
    /// most as many are otherwise than zero in an instance in which nothing has run. Memory as a whole
    /// where the place of a segment is no constant.
    pub fn laid_out_blocks(&self) -> u64 {
        self.laid_out_blocks
    }

    /// The function that runs by itself when an instance is made.
    pub fn start(&self) -> Option<u32> {
        self.start
    }

    /// Whether instances of the code have images.
    ///
    /// # Errors
    ///
    /// Names what stands in the way.
    pub fn check_imageable(&self) -> Result<(), Obstacle> {
        self.obstacle.clone().map_or(Ok(()), Err)
    }

    /// Whether an image of this index is one of the code's.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    pub fn check(&self, index: &Index) -> Result<(), Misfit> {
        self.check_imageable()?;
        let memory = self.memory.ok_or(Obstacle::Memory)?;
        let (min, pages) = (memory.pages_min, index.memory_pages);
        let max = memory.pages_max.unwrap_or(u64::from(PAGES_MAX));
        if !(min..=max).contains(&u64::from(pages)) {
            return Err(Misfit::Memory { pages, min, max });
        }
        for global in &index.globals {
            let index = global.index;
            match self.globals.get(index as usize) {
                Some(it) if it.mutable => {
                    let (expected, found) = (it.ty, GlobalValue::ty(&global.value));
                    if expected != found {
                        return Err(Misfit::GlobalType {
                            index,
                            expected,
                            found,
                        });
                    }
                }
                _ => return Err(Misfit::Global { index }),
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Reading {
    memories: Vec<Memory>,
    globals: Vec<GlobalType>,
    start: Option<u32>,
    /// The blocks of memory, from and to, in which each active data segment lies.
    laid_out: Vec<Range<u64>>,
    /// The first found. One in a function waits for its name.
    obstacle: Option<Obstacle>,
    /// Functions so far, imported ones counted.
    functions: u32,
}

impl Reading {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    // What has another number then is not seen from outside.
                    if (import.module, import.name) == ("wasi_snapshot_preview1", "fd_renumber") {
                        self.found(Obstacle::Imported {
                            what: "fd_renumber",
                        });
                    }
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => self.functions += 1,
                        TypeRef::Memory(_) => self.found(Obstacle::Imported { what: "a memory" }),
                        TypeRef::Table(_) => self.found(Obstacle::Imported { what: "a table" }),
                        TypeRef::Global(_) => self.found(Obstacle::Imported { what: "a global" }),
                        TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memories.push(memory?.into());
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let ty = global?.ty;
                    let value = ValueType::from(&ty.content_type);
                    if ty.mutable && value == ValueType::Reference {
                        let index = self.globals.len() as u32;
                        self.found(Obstacle::Reference { index });
                    }
                    self.globals.push(GlobalType {
                        ty: value,
                        mutable: ty.mutable,
                    });
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::CodeSectionEntry(body) => {
                let index = self.functions;
                self.functions += 1;
                if self.obstacle.is_none() {
                    self.body(index, &body)?;
                }
            }
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    if let DataKind::Active { offset_expr, .. } = &segment.kind
                        && let len @ 1.. = segment.data.len() as u64
                    {
                        // In code that is valid it lies within the memory.
                        let (from, to) = match offset_of(offset_expr) {
                            Some(from) => (from, from.saturating_add(len)),
                            None => (0, u64::MAX),
                        };
                        let block = BLOCK_BYTES as u64;
                        self.laid_out.push(from / block..to.div_ceil(block));
                    }
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.name_obstacle(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, index: u32, body: &wasmparser::FunctionBody<'_>) -> Result<(), ModuleError> {
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (table, instruction) = match operators.read()? {
                Operator::TableSet { .. } => (true, "table.set"),
                Operator::TableGrow { .. } => (true, "table.grow"),
                Operator::TableFill { .. } => (true, "table.fill"),
                Operator::TableCopy { .. } => (true, "table.copy"),
                Operator::TableInit { .. } => (true, "table.init"),
                Operator::ElemDrop { .. } => (false, "elem.drop"),
                Operator::DataDrop { .. } => (false, "data.drop"),
                _ => continue,
            };
            let function = FunctionName { index, name: None };
            self.found(if table {
                Obstacle::Table {
                    function,
                    instruction,
                }
            } else {
                Obstacle::Segment {
                    function,
                    instruction,
                }
            });
            break;
        }
        Ok(())
    }

    fn found(&mut self, obstacle: Obstacle) {
        self.obstacle.get_or_insert(obstacle);
    }

    /// Gives the function of the obstacle its name. Names that cannot be read are none.
    fn name_obstacle(&mut self, names: wasmparser::NameSectionReader<'_>) {
        let Some(Obstacle::Table { function, .. } | Obstacle::Segment { function, .. }) =
            &mut self.obstacle
        else {
            return;
        };
        for part in names.into_iter().map_while(Result::ok) {
            if let Name::Function(map) = part {
                let mut map = map.into_iter().map_while(Result::ok);
                let naming = map.find(|naming| naming.index == function.index);
                function.name = naming.map(|naming| naming.name.to_owned());
            }
        }
    }

    fn finish(mut self) -> Interior {
        let memory = match *self.memories {
            [memory] if !memory.is_64 && !memory.shared => Some(memory),
            _ => {
                self.found(Obstacle::Memory);
                None
            }
        };
        let pages = self.memories.iter().map(|memory| memory.pages_min).max();
        let all = pages
            .unwrap_or(0)
            .saturating_mul(u64::from(BLOCKS_PER_PAGE));
        self.laid_out.sort_unstable_by_key(|blocks| blocks.start);
        let (mut laid_out_blocks, mut end) = (0, 0);
        for blocks in self.laid_out {
            let (from, to) = (blocks.start.max(end), blocks.end.min(all));
            laid_out_blocks += to.saturating_sub(from);
            end = end.max(to);
        }
        Interior {
            memory,
            globals: self.globals,
            start: self.start,
            laid_out_blocks,
            obstacle: self.obstacle,
        }
    }
}

/// Where a data segment lies, if that is a constant.
fn offset_of(offset: &wasmparser::ConstExpr<'_>) -> Option<u64> {
    let mut operators = offset.get_operators_reader();
    match (operators.read(), operators.read()) {
        (Ok(Operator::I32Const { value }), Ok(Operator::End)) => Some(u64::from(value as u32)),
        _ => None,
    }
}
