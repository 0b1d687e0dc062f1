//! Code that imports nothing of Spore's.

use std::convert::Infallible;

use spore_abi::IMPORT_MODULE;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, ImportSection, Module};
use wasmparser::{
    CodeSectionReader, FuncType, FunctionSectionReader, Import, ImportSectionReader, Parser,
    Payload, TypeRef, ValType,
};

use super::RewriteError;

/// The code for a runtime that knows nothing of Spore: what a host would answer it answers itself, that
/// nobody wants it to stop, and nobody hears of its progress and of why it traps. It computes what the
/// code computes, and code that imports nothing of Spore's stays byte for byte as it was.
///
/// # Errors
///
/// When the code cannot be read, or imports as Spore's what no host offers.
pub fn detach(code: Vec<u8>) -> Result<Vec<u8>, RewriteError> {
    let Some(mut replacing) = Replacing::read(&code)? else {
        return Ok(code);
    };
    let mut module = Module::new();
    replacing.parse_core_module(&mut module, Parser::new(0), &code)?;
    Ok(module.finish())
}

/// The type of a function that is imported, and whether it is one of Spore's.
fn function(import: &Import<'_>) -> Option<(u32, bool)> {
    match import.ty {
        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => Some((ty, import.module == IMPORT_MODULE)),
        _ => None,
    }
}

/// Functions that were imported become the first that the code defines, so that those it defined before
/// keep their indices.
struct Replacing {
    /// Of each imported function, the index that it has from now on.
    indices: Vec<u32>,
    /// Those that are replaced: the index of their type, and what they return.
    replaced: Vec<(u32, Vec<ValType>)>,
}

impl Replacing {
    /// Nothing when the code imports no function of Spore's.
    fn read(code: &[u8]) -> Result<Option<Replacing>, Error> {
        let mut types: Vec<FuncType> = Vec::new();
        let mut imported = Vec::new();
        for payload in Parser::new(0).parse_all(code) {
            match payload? {
                Payload::TypeSection(section) => {
                    types = section
                        .into_iter_err_on_gc_types()
                        .collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        imported.extend(function(&import?));
                    }
                }
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        let kept = imported.iter().filter(|(_, spores)| !spores).count();
        let (mut next_kept, mut next_replaced) = (0, kept as u32);
        let mut indices = Vec::new();
        let mut replaced = Vec::new();
        for (ty, spores) in imported {
            let next = match spores {
                true => &mut next_replaced,
                false => &mut next_kept,
            };
            indices.push(*next);
            *next += 1;
            if spores {
                let results = types.get(ty as usize).map(FuncType::results);
                replaced.push((ty, results.unwrap_or_default().to_vec()));
            }
        }
        Ok((!replaced.is_empty()).then_some(Replacing { indices, replaced }))
    }
}

/// A function that does nothing and returns zeros, which is what the ABI's imports answer at rest.
fn zeros(results: &[ValType]) -> Result<Function, Error> {
    let mut function = Function::new([]);
    let mut body = function.instructions();
    for result in results {
        match result {
            ValType::I32 => body.i32_const(0),
            ValType::I64 => body.i64_const(0),
            ValType::F32 => body.f32_const(0.0.into()),
            ValType::F64 => body.f64_const(0.0.into()),
            // The ABI has no others.
            ValType::V128 | ValType::Ref(_) => return Err(Error::InvalidConstExpr),
        };
    }
    body.end();
    Ok(function)
}

impl Reencode for Replacing {
    type Error = Infallible;

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
            if !function(&import).is_some_and(|(_, spores)| spores) {
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
            code.function(&zeros(results)?);
        }
        utils::parse_code_section(self, code, section)
    }
}
