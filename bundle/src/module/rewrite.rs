//! Code with something added or changed, section by section. What is not named here stays byte for
//! byte as it was.
//!
//! Nothing of this travels as a bundle's code: a host adds what it must see inside for itself, and
//! [`bake`] makes a module that begins as an image left off, for hosts and, detached, for other runtimes.

use std::collections::BTreeMap;

use spore_abi::export;
use wasm_encoder::{
    ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, GlobalSection, GlobalType,
    Ieee32, Ieee64, MemorySection, MemoryType, Module, RawSection, SectionId, ValType, reencode,
};
use wasmparser::{BinaryReader, ExternalKind};

use super::detach::DetachError;
use super::{Interior, Misfit, ModuleError};
use crate::image::{BLOCK_BYTES, GlobalValue, Image};
use crate::sections::{self, Section};

/// What the names of exports begin with that [`instrument`] adds. Code may not have one itself.
pub const PRIVATE_PREFIX: &str = "spore.private/";

/// The start function of instrumented code, which no longer runs by itself.
pub const PRIVATE_START: &str = "spore.private/start";

/// Followed by the index of a mutable global.
pub const PRIVATE_GLOBAL: &str = "spore.private/global/";

/// Version of what [`instrument`] does: part of what compiled code is kept under.
pub const INSTRUMENTATION: u32 = 1;

/// Most data segments that [`bake`] adds. Engines take 100,000 in all.
const SEGMENTS_MAX: usize = 50_000;

/// Why code could not be rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The code cannot be read.
    #[error("the code cannot be read")]
    Module(#[from] ModuleError),
    /// The code has an export that only a host may add.
    #[error("an export {name}: names that begin with {PRIVATE_PREFIX} are the host's")]
    Reserved {
        /// Its name
        name: String,
    },
    /// The image is none of the code's.
    #[error("the image does not fit the code")]
    Misfit(#[from] Misfit),
    /// The code cannot do without a host.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// The code has something that cannot be written again.
    #[error("the code cannot be written again")]
    Unsupported(#[source] reencode::Error<DetachError>),
    /// The image is in more pieces than a module may have segments.
    #[error("{pieces} pieces of changed memory, at most {limit} can be written as segments")]
    Fragmented {
        /// Pieces found
        pieces: usize,
        /// Pieces allowed
        limit: usize,
    },
}

impl From<reencode::Error<DetachError>> for RewriteError {
    fn from(error: reencode::Error<DetachError>) -> Self {
        match error {
            reencode::Error::ParseError(error) => ModuleError::from(error).into(),
            reencode::Error::UserError(error) => error.into(),
            error => RewriteError::Unsupported(error),
        }
    }
}

impl From<wasmparser::BinaryReaderError> for RewriteError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        ModuleError::from(error).into()
    }
}

/// The code as a host compiles it: every mutable global is exported under a private name, and the
/// start function is exported instead of run. It computes what the code computes.
///
/// # Errors
///
/// When the code cannot be read, or has a private name itself.
pub fn instrument(code: &[u8], interior: &Interior) -> Result<Vec<u8>, RewriteError> {
    let mut module = Module::new();
    for section in sections::sections(code).map_err(ModuleError::from)? {
        match section.id {
            id if id == SectionId::Export as u8 => {
                let mut exports = exports(code, &section, |_| true)?;
                for (index, _) in interior.mutable_globals() {
                    let name = format!("{PRIVATE_GLOBAL}{index}");
                    exports.export(&name, ExportKind::Global, index);
                }
                if let Some(start) = interior.start() {
                    exports.export(PRIVATE_START, ExportKind::Func, start);
                }
                module.section(&exports);
            }
            id if id == SectionId::Start as u8 => {}
            _ => copy(code, &section, &mut module),
        }
    }
    Ok(module.finish())
}

/// A plain module that begins as the image left off: the image in its data segments and globals,
/// neither start function nor `_initialize`.
///
/// What is not memory or globals is not in it: a runtime gives it directories and clocks anew.
///
/// # Errors
///
/// When the image does not fit the code, or is in too many pieces.
pub fn bake(code: &[u8], image: &Image) -> Result<Vec<u8>, RewriteError> {
    let interior = Interior::read(code)?;
    interior.check(image.index())?;
    let added = segments(image);
    if added.len() > SEGMENTS_MAX {
        return Err(RewriteError::Fragmented {
            pieces: added.len(),
            limit: SEGMENTS_MAX,
        });
    }

    let sections = sections::sections(code).map_err(ModuleError::from)?;
    let has = |id: SectionId| sections.iter().any(|section| section.id == id as u8);
    let mut module = Module::new();
    let mut data_written = false;
    for section in &sections {
        let reader = || BinaryReader::new(&code[section.contents.clone()], section.contents.start);
        match section.id {
            id if id == SectionId::Memory as u8 => {
                module.section(&memory(reader(), image.index().memory_pages)?);
            }
            id if id == SectionId::Global as u8 => {
                module.section(&globals(code, reader(), image)?);
            }
            id if id == SectionId::Export as u8 => {
                // It has run. A runtime that finds it would run it again.
                let kept = |name: &str| name != export::INITIALIZE;
                module.section(&exports(code, section, kept)?);
            }
            id if id == SectionId::Start as u8 => {}
            id if id == SectionId::DataCount as u8 => {
                let count = reader().read_var_u32()? + added.len() as u32;
                module.section(&DataCountSection { count });
            }
            id if id == SectionId::Data as u8 => {
                let mut data = DataSection::new();
                copy_data(code, reader(), &mut data)?;
                add_segments(&mut data, &added);
                module.section(&data);
                data_written = true;
            }
            _ => {
                // Custom sections may stand anywhere; the data goes behind the code.
                copy(code, section, &mut module);
                if section.id == SectionId::Code as u8 && !has(SectionId::Data) {
                    let mut data = DataSection::new();
                    add_segments(&mut data, &added);
                    module.section(&data);
                    data_written = true;
                }
            }
        }
    }
    if !data_written {
        let mut data = DataSection::new();
        add_segments(&mut data, &added);
        module.section(&data);
    }
    Ok(module.finish())
}

fn copy(code: &[u8], section: &Section, module: &mut Module) {
    // The contents of a custom section exclude its name, so that they begin later.
    let mut header = BinaryReader::new(&code[section.offset + 1..], section.offset + 1);
    let _ = header.read_var_u32();
    module.section(&RawSection {
        id: section.id,
        data: &code[header.original_position()..section.contents.end],
    });
}

/// The exports for which `keep` is true.
fn exports(
    code: &[u8],
    section: &Section,
    keep: impl Fn(&str) -> bool,
) -> Result<ExportSection, RewriteError> {
    let mut exports = ExportSection::new();
    let reader = BinaryReader::new(&code[section.contents.clone()], section.contents.start);
    for export in wasmparser::ExportSectionReader::new(reader)? {
        let export = export?;
        if export.name.starts_with(PRIVATE_PREFIX) {
            return Err(RewriteError::Reserved {
                name: export.name.to_owned(),
            });
        }
        if !keep(export.name) {
            continue;
        }
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
        };
        exports.export(export.name, kind, export.index);
    }
    Ok(exports)
}

fn memory(reader: BinaryReader<'_>, pages: u32) -> Result<MemorySection, RewriteError> {
    let mut section = MemorySection::new();
    for memory in wasmparser::MemorySectionReader::new(reader)? {
        let memory = memory?;
        section.memory(MemoryType {
            minimum: u64::from(pages),
            maximum: memory.maximum,
            memory64: memory.memory64,
            shared: memory.shared,
            page_size_log2: memory.page_size_log2,
        });
    }
    Ok(section)
}

fn globals(
    code: &[u8],
    reader: BinaryReader<'_>,
    image: &Image,
) -> Result<GlobalSection, RewriteError> {
    let values: BTreeMap<u32, GlobalValue> = image
        .index()
        .globals
        .iter()
        .map(|global| (global.index, global.value))
        .collect();
    let mut section = GlobalSection::new();
    let globals = wasmparser::GlobalSectionReader::new(reader)?;
    let end = globals.range().end;
    let items: Vec<_> = globals
        .into_iter_with_offsets()
        .map(|item| item.map(|(offset, _)| offset))
        .collect::<Result<_, _>>()?;
    for (index, offset) in items.iter().enumerate() {
        let Some(value) = values.get(&(index as u32)) else {
            let next = items.get(index + 1).copied().unwrap_or(end);
            section.raw(&code[*offset..next]);
            continue;
        };
        let (val_type, init) = match *value {
            GlobalValue::I32(bits) => (ValType::I32, ConstExpr::i32_const(bits.cast_signed())),
            GlobalValue::I64(bits) => (ValType::I64, ConstExpr::i64_const(bits.cast_signed())),
            GlobalValue::F32(bits) => (ValType::F32, ConstExpr::f32_const(Ieee32::new(bits))),
            GlobalValue::F64(bits) => (ValType::F64, ConstExpr::f64_const(Ieee64::new(bits))),
            GlobalValue::V128(bits) => (ValType::V128, ConstExpr::v128_const(bits.cast_signed())),
        };
        let ty = GlobalType {
            val_type,
            mutable: true,
            shared: false,
        };
        section.global(ty, &init);
    }
    Ok(section)
}

fn copy_data(
    code: &[u8],
    reader: BinaryReader<'_>,
    data: &mut DataSection,
) -> Result<(), RewriteError> {
    for segment in wasmparser::DataSectionReader::new(reader)? {
        data.raw(&code[segment?.range]);
    }
    Ok(())
}

/// Changed memory as pieces that follow one another without a gap: address and bytes.
fn segments(image: &Image) -> Vec<(u32, Vec<u8>)> {
    let mut segments: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut next = None;
    for (number, _, block) in image.blocks() {
        match segments.last_mut() {
            Some((_, bytes)) if next == Some(number) => bytes.extend_from_slice(&block[..]),
            _ => segments.push((number * BLOCK_BYTES as u32, block.to_vec())),
        }
        next = number.checked_add(1);
    }
    segments
}

fn add_segments(data: &mut DataSection, segments: &[(u32, Vec<u8>)]) {
    for (address, bytes) in segments {
        let offset = ConstExpr::i32_const(address.cast_signed());
        data.active(0, &offset, bytes.iter().copied());
    }
}
