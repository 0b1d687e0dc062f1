//! Code that imports nothing of Spore's.

use spore_abi::{IMPORT_MODULE, import};
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, Function, FunctionSection, ImportSection, IndirectNameMap, Module, NameMap,
    NameSection,
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, FuncType, FunctionSectionReader, Import,
    ImportSectionReader, KnownCustom, Name, Parser, Payload, TypeRef, ValType,
};

use super::RewriteError;

type Error = reencode::Error<DetachError>;

/// A function that a host offers, with the types that `docs/ABI.md` gives it.
struct Offered {
    name: &'static str,
    parameters: &'static [ValType],
    results: &'static [ValType],
}

/// All that a host offers besides WASI.
const OFFERED: [Offered; 3] = [
    Offered {
        name: import::PROGRESS,
        parameters: &[ValType::I64, ValType::I64],
        results: &[],
    },
    Offered {
        name: import::STOP_WANTED,
        parameters: &[],
        results: &[ValType::I32],
    },
    Offered {
        name: import::FAULT,
        parameters: &[ValType::I32; 6],
        results: &[],
    },
];

/// Why code cannot do without a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// It imports as Spore's what no host offers.
    #[error("an import {IMPORT_MODULE}.{name}, which no host offers")]
    NotOffered {
        /// The name of the import
        name: String,
    },
    /// It defines no function.
    #[error("code that defines no function of its own")]
    NothingDefined,
}

/// The code for a runtime that knows nothing of Spore: what a host would answer it answers itself, that
/// nobody wants it to stop, and nobody hears of its progress and of why it traps. Code that imports nothing
/// of Spore's stays byte for byte as it was.
///
/// # Errors
///
/// When the code cannot be read, defines no function, or imports as Spore's what no host offers.
pub fn detach(code: Vec<u8>) -> Result<Vec<u8>, RewriteError> {
    let Some(mut replacing) = Replacing::read(&code)? else {
        return Ok(code);
    };
    let mut module = Module::new();
    replacing.parse_core_module(&mut module, Parser::new(0), &code)?;
    Ok(module.finish())
}

/// Functions that were imported become the first that the code defines, so that those it defined before
/// keep their indices.
struct Replacing {
    /// Of each imported function, the index that it has from now on.
    indices: Vec<u32>,
    /// Those that are replaced: the index of their type, and what they return.
    replaced: Vec<(u32, &'static [ValType])>,
}

impl Replacing {
    /// Nothing when the code imports nothing of Spore's.
    fn read(code: &[u8]) -> Result<Option<Replacing>, Error> {
        let mut types: Vec<FuncType> = Vec::new();
        let mut imported = Vec::new();
        let mut defines = [false; 2];
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::TypeSection(section) => {
                    types = section
                        .into_iter_err_on_gc_types()
                        .collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let spores = offered(&import, &types).map_err(Error::UserError)?;
                        if matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                            imported.push(spores);
                        }
                    }
                }
                Payload::FunctionSection(_) => defines[0] = true,
                Payload::CodeSectionStart { .. } => {
                    defines[1] = true;
                    break;
                }
                _ => {}
            }
        }
        let replaced: Vec<_> = imported.iter().flatten().copied().collect();
        if replaced.is_empty() {
            return Ok(None);
        }
        // Both sections are where what is defined instead goes.
        if defines != [true; 2] {
            return Err(Error::UserError(DetachError::NothingDefined));
        }
        let (mut next_kept, mut next_replaced) = (0, (imported.len() - replaced.len()) as u32);
        let indices = imported.iter().map(|spores| {
            let next = match spores {
                Some(_) => &mut next_replaced,
                None => &mut next_kept,
            };
            *next += 1;
            *next - 1
        });
        Ok(Some(Replacing {
            indices: indices.collect(),
            replaced,
        }))
    }
}

/// The type of a function of Spore's, with what it returns; nothing for an import of another module.
fn offered(
    import: &Import<'_>,
    types: &[FuncType],
) -> Result<Option<(u32, &'static [ValType])>, DetachError> {
    if import.module != IMPORT_MODULE {
        return Ok(None);
    }
    let not_offered = || DetachError::NotOffered {
        name: import.name.to_owned(),
    };
    let TypeRef::Func(index) = import.ty else {
        return Err(not_offered());
    };
    let ty = types.get(index as usize).ok_or_else(not_offered)?;
    let found = OFFERED.iter().find(|it| {
        it.name == import.name && it.parameters == ty.params() && it.results == ty.results()
    });
    found
        .map(|it| Some((index, it.results)))
        .ok_or_else(not_offered)
}

/// A function that does nothing and returns zeros, which is what hosts answer where nobody waits.
fn zeros(results: &[ValType]) -> Function {
    let mut function = Function::new([]);
    let mut body = function.instructions();
    for _ in results {
        // They are numbers of 32 bits, as `OFFERED` says.
        body.i32_const(0);
    }
    body.end();
    function
}

impl Reencode for Replacing {
    type Error = DetachError;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.indices.get(index as usize).copied().unwrap_or(index))
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for import in section.into_imports() {
            let import = import?;
            if import.module != IMPORT_MODULE {
                let ty = self.entity_type(import.ty)?;
                imports.import(import.module, import.name, ty);
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for (ty, _) in &self.replaced {
            functions.function(*ty);
        }
        utils::parse_function_section(self, functions, section)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        for (_, results) in &self.replaced {
            code.function(&zeros(results));
        }
        utils::parse_code_section(self, code, section)
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        match section.as_known() {
            // Names that cannot be read name nothing, and stand in nobody's way.
            KnownCustom::Name(names) => {
                if let Ok(names) = self.custom_name_section(names) {
                    module.section(&names);
                }
                Ok(())
            }
            _ => utils::parse_custom_section(self, module, section),
        }
    }

    /// Names stand in the order of what they name.
    fn parse_custom_name_subsection(
        &mut self,
        names: &mut NameSection,
        section: Name<'_>,
    ) -> Result<(), Error> {
        match section {
            Name::Function(map) => {
                let mut named = Vec::new();
                for naming in map {
                    let naming = naming?;
                    named.push((self.function_index(naming.index)?, naming.name));
                }
                named.sort_by_key(|(index, _)| *index);
                let mut functions = NameMap::new();
                for (index, name) in named {
                    functions.append(index, name);
                }
                names.functions(&functions);
                Ok(())
            }
            Name::Local(map) => {
                // Those that are imported have none, and the others stay where they are.
                let mut locals = IndirectNameMap::new();
                for function in map {
                    let function = function?;
                    if function.index as usize >= self.indices.len() {
                        locals.append(
                            function.index,
                            &utils::name_map(function.names, Ok::<_, Error>)?,
                        );
                    }
                }
                names.locals(&locals);
                Ok(())
            }
            // Few tools write them.
            Name::Label(_) => Ok(()),
            other => utils::parse_custom_name_subsection(self, names, other),
        }
    }
}
