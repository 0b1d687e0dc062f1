//! The sections of a Wasm binary, without looking into them.

use std::ops::Range;

use wasmparser::BinaryReader;

use crate::manifest::CodeKind;

/// What every Wasm binary begins with.
const MAGIC: &[u8; 4] = b"\0asm";

/// Version and layer of a core module.
const MODULE: &[u8; 4] = &[1, 0, 0, 0];

/// Layer of a component; its version is still changing.
const COMPONENT_LAYER: &[u8; 2] = &[1, 0];

/// Bytes of the preamble: the magic number, version and layer.
const PREAMBLE_BYTES: usize = 8;

/// Most sections of a binary. A section may have a single byte, so that their number would
/// otherwise be bounded by the size of the file alone.
///
/// Compilers write a dozen; linkers keep custom sections of which each name is there once.
pub const SECTIONS_MAX: usize = 4096;

/// The id of custom sections.
pub(crate) const CUSTOM: u8 = 0;

/// A section of a Wasm binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its id, as the specification of WebAssembly numbers them.
    pub id: u8,
    /// The name of a custom section.
    pub name: Option<String>,
    /// Where it begins, its id and length included.
    pub offset: usize,
    /// Where its contents are; for a custom section, what follows its name.
    pub contents: Range<usize>,
}

impl Section {
    /// Its size in bytes, id and length included.
    pub fn bytes(&self) -> u64 {
        (self.contents.end - self.offset) as u64
    }

    /// What people call it: the name of a custom section, or that of its id.
    pub fn title(&self) -> &str {
        const NAMES: [&str; 14] = [
            "custom",
            "type",
            "import",
            "function",
            "table",
            "memory",
            "global",
            "export",
            "start",
            "element",
            "code",
            "data",
            "data count",
            "tag",
        ];
        match &self.name {
            Some(name) => name,
            None => NAMES
                .get(usize::from(self.id))
                .copied()
                .unwrap_or("unknown"),
        }
    }
}

/// Why the sections of a binary could not be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SectionError {
    /// It does not begin as Wasm does.
    #[error("not a Wasm binary")]
    NotWasm,
    /// It begins as Wasm of an unknown version.
    #[error("Wasm of unknown version {version} and layer {layer}")]
    UnknownVersion {
        /// The version
        version: u16,
        /// The layer: 0 for modules, 1 for components
        layer: u16,
    },
    /// It ends within the length of a section.
    #[error("ends within the header of the section at byte {offset}")]
    Truncated {
        /// Where the section begins
        offset: usize,
    },
    /// The length of a section is not a LEB128 number of 32 bits.
    #[error("unreadable length of the section at byte {offset}")]
    Length {
        /// Where the section begins
        offset: usize,
    },
    /// A section claims more bytes than there are.
    #[error("section {id} declares {declared} bytes, {available} remain")]
    Overrun {
        /// The id of the section
        id: u8,
        /// The bytes that it claims
        declared: u64,
        /// The bytes that there are
        available: u64,
    },
    /// The name of a custom section is not UTF-8, or longer than the section.
    #[error("unreadable name of the custom section at byte {offset}")]
    Name {
        /// Where the section begins
        offset: usize,
    },
    /// There are more sections than are read.
    #[error("more than {limit} sections")]
    TooMany {
        /// [`SECTIONS_MAX`]
        limit: usize,
    },
}

/// Tells modules and components apart.
pub(crate) fn code_kind(bytes: &[u8]) -> Result<CodeKind, SectionError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(SectionError::NotWasm);
    };
    let Some(version) = rest.first_chunk::<4>().filter(|_| magic == MAGIC) else {
        return Err(SectionError::NotWasm);
    };
    if version == MODULE {
        return Ok(CodeKind::Module);
    }
    let [low, high, layer @ ..] = *version;
    if layer == *COMPONENT_LAYER {
        return Ok(CodeKind::Component);
    }
    let (version, layer) = (u16::from_le_bytes([low, high]), u16::from_le_bytes(layer));
    Err(SectionError::UnknownVersion { version, layer })
}

/// Lists the sections of a module or component, from headers alone.
///
/// # Errors
///
/// Says where the binary stops being a sequence of sections.
pub fn sections(bytes: &[u8]) -> Result<Vec<Section>, SectionError> {
    code_kind(bytes)?;
    let mut sections = Vec::new();
    let mut offset = PREAMBLE_BYTES;
    while offset < bytes.len() {
        if sections.len() == SECTIONS_MAX {
            return Err(SectionError::TooMany {
                limit: SECTIONS_MAX,
            });
        }
        let section = section(bytes, offset)?;
        offset = section.contents.end;
        sections.push(section);
    }
    Ok(sections)
}

/// Reads the header of the section at `offset`, which lies within `bytes`.
fn section(bytes: &[u8], offset: usize) -> Result<Section, SectionError> {
    let id = bytes[offset];
    let mut header = BinaryReader::new(&bytes[offset + 1..], offset + 1);
    let declared = header.read_var_u32().map_err(|_| {
        // A length that ends the file can still be completed; any other is wrong for good.
        if header_is_cut(&bytes[offset + 1..]) {
            SectionError::Truncated { offset }
        } else {
            SectionError::Length { offset }
        }
    })?;
    let start = header.original_position();
    let available = bytes.len() - start;
    let (declared, length) = (u64::from(declared), declared as usize);
    if declared > available as u64 {
        return Err(SectionError::Overrun {
            id,
            declared,
            available: available as u64,
        });
    }

    let end = start + length;
    if id != CUSTOM {
        return Ok(Section {
            id,
            name: None,
            offset,
            contents: start..end,
        });
    }
    let mut contents = BinaryReader::new(&bytes[start..end], start);
    let name = contents
        .read_string()
        .map_err(|_| SectionError::Name { offset })?;
    let contents = contents.original_position()..end;
    Ok(Section {
        id,
        name: Some(name.to_owned()),
        offset,
        contents,
    })
}

/// Whether the bytes of a LEB128 number go on where the file ends.
fn header_is_cut(bytes: &[u8]) -> bool {
    const LEB128_BYTES_MAX: usize = 5;
    bytes.len() < LEB128_BYTES_MAX && bytes.iter().all(|byte| byte & 0x80 != 0)
}
