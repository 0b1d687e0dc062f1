//! The file: a Wasm binary whose last sections are Spore's.

use bytes::Bytes;
use wasm_encoder::{CustomSection, Section as _};

use super::{Bundle, PartsError, parts};
use crate::image::{BLOCK_BYTES, Image, Partial};
use crate::limits::Limits;
use crate::manifest::{Manifest, ManifestError, StateKind};
use crate::sections::{self, Section, SectionError};
use crate::state::{self, StateError};

/// What the names of Spore's sections begin with. Code has none that does.
pub const RESERVED_PREFIX: &str = "spore.";

/// Name of the section that holds the manifest.
pub const MANIFEST_SECTION: &str = "spore.manifest";

/// Name of the section that holds the state, compressed.
pub const STATE_SECTION: &str = "spore.state";

/// Name of the section that holds the blocks of an image, compressed.
pub const BLOCKS_SECTION: &str = "spore.blocks";

/// Why [`Bundle::decode`] refused its input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file is not a sequence of sections. It may be cut off.
    #[error(transparent)]
    Sections(#[from] SectionError),
    /// It is Wasm, and not a bundle.
    #[error("a Wasm binary without manifest is not a bundle; `spore build` makes one of a crate")]
    NoManifest,
    /// A section has a name that is reserved for Spore, and that this release does not know.
    #[error("unknown section {name}")]
    UnknownSection {
        /// Its name
        name: String,
    },
    /// A section is there twice.
    #[error("a second section {name}")]
    DuplicateSection {
        /// Its name
        name: &'static str,
    },
    /// The sections are not in order: those of the code, the manifest, the state.
    #[error("section {section} after {after}")]
    Order {
        /// The section that comes too late
        section: String,
        /// The section of Spore's that it follows
        after: &'static str,
    },
    /// The section of the manifest does not hold one.
    #[error("unreadable manifest")]
    Manifest(#[source] ManifestError),
    /// The section of the state does not hold one.
    #[error("unreadable state")]
    State(#[from] StateError),
    /// The section of the blocks does not hold them.
    #[error("unreadable blocks")]
    Blocks(#[source] StateError),
    /// Code, manifest and state do not belong together, or go beyond the limits.
    #[error(transparent)]
    Parts(#[from] PartsError),
}

impl Bundle {
    /// Reads a `.spore` file.
    ///
    /// Code and manifest share the input's bytes, which stay in memory as long as the bundle. What
    /// is decompressed is never more than the manifest announces and `limits` allow.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file. What is returned has the ids it says it has.
    pub fn decode(file: impl Into<Bytes>, limits: &Limits) -> Result<Self, DecodeError> {
        let file = file.into();
        let layout = Layout::of(&sections::sections(&file)?)?;
        let manifest_section = layout.manifest.ok_or(DecodeError::NoManifest)?;
        let manifest_bytes = file.slice(manifest_section.contents);
        let manifest = Manifest::decode(&manifest_bytes).map_err(DecodeError::Manifest)?;
        limits.admit(&manifest)?;

        let code = file.slice(..manifest_section.offset);
        let state = match (layout.state, manifest.state) {
            (Some(section), Some(announced)) => {
                let frame = &file[section.contents];
                Some(Bytes::from(state::decompress(frame, announced.bytes)?))
            }
            (Some(_), None) => return Err(PartsError::StateUnannounced.into()),
            (None, _) => None,
        };
        parts::check_parts(&manifest, &code, state.as_deref())?;
        parts::check_ids(&manifest, &code, state.as_deref())?;
        let blocks = layout.blocks.map(|section| &file[section.contents]);
        let image = image(&manifest, state.as_ref(), blocks, limits)?;
        Ok(Self::assemble(manifest, manifest_bytes, code, state, image))
    }

    /// Writes a `.spore` file. One bundle gives the same bytes each time.
    pub fn encode(&self) -> Vec<u8> {
        let state = self.state.as_deref().map(state::compress);
        let blocks = self
            .image
            .as_ref()
            .map(|it| state::compress(&it.contents()));
        let compressed = |it: &Option<Vec<u8>>| it.as_ref().map_or(0, Vec::len);
        let appended = self.manifest_bytes.len() + compressed(&state) + compressed(&blocks);
        let headers = 3 * (HEADER_BYTES_MAX + MANIFEST_SECTION.len());
        let mut file = Vec::with_capacity(self.code.len() + appended + headers);

        file.extend_from_slice(&self.code);
        append(&mut file, MANIFEST_SECTION, &self.manifest_bytes);
        if let Some(state) = state {
            append(&mut file, STATE_SECTION, &state);
        }
        if let Some(blocks) = blocks {
            append(&mut file, BLOCKS_SECTION, &blocks);
        }
        file
    }
}

/// The image whose index is the state, if the manifest says that it is one.
fn image(
    manifest: &Manifest,
    state: Option<&Bytes>,
    frame: Option<&[u8]>,
    limits: &Limits,
) -> Result<Option<Image>, DecodeError> {
    let is_image = matches!(
        manifest.state.map(|state| state.kind),
        Some(StateKind::Image { .. })
    );
    let (Some(index_bytes), true) = (state, is_image) else {
        return match frame {
            Some(_) => Err(PartsError::BlocksUnannounced.into()),
            None => Ok(None),
        };
    };
    let partial = Partial::of_bundle(index_bytes.clone(), manifest, []);
    let partial = partial.map_err(PartsError::from)?;
    let frame = frame.ok_or(PartsError::BlocksMissing)?;
    let announced = limits.admit_image(index_bytes.len() as u64, partial.distinct_blocks())?;
    let contents = state::decompress(frame, announced).map_err(DecodeError::Blocks)?;
    let (blocks, _) = contents.as_chunks::<BLOCK_BYTES>();
    Ok(Some(partial.complete(blocks).map_err(PartsError::from)?))
}

/// Bytes that the id of a section, its length and that of its name may take.
const HEADER_BYTES_MAX: usize = 1 + 5 + 5;

fn append(file: &mut Vec<u8>, name: &str, data: &[u8]) {
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
    .append_to(file);
}

/// The name of the first section of the code that only Spore may add.
pub(super) fn reserved_section(code: &[u8]) -> Result<Option<String>, SectionError> {
    let reserved = |section: Section| {
        section
            .name
            .filter(|name| name.starts_with(RESERVED_PREFIX))
    };
    Ok(sections::sections(code)?.into_iter().find_map(reserved))
}

/// Where Spore's sections are.
#[derive(Default)]
struct Layout {
    manifest: Option<Section>,
    state: Option<Section>,
    blocks: Option<Section>,
}

impl Layout {
    fn of(sections: &[Section]) -> Result<Self, DecodeError> {
        let mut layout = Self::default();
        for section in sections {
            layout.take(section)?;
        }
        Ok(layout)
    }

    fn take(&mut self, section: &Section) -> Result<(), DecodeError> {
        let last = self.last();
        // Spore's sections, in the only order that they may have.
        let (name, place) = match section.name.as_deref() {
            Some(MANIFEST_SECTION) => (MANIFEST_SECTION, &mut self.manifest),
            Some(STATE_SECTION) => (STATE_SECTION, &mut self.state),
            Some(BLOCKS_SECTION) => (BLOCKS_SECTION, &mut self.blocks),
            Some(name) if name.starts_with(RESERVED_PREFIX) => {
                return Err(DecodeError::UnknownSection {
                    name: name.to_owned(),
                });
            }
            _ => {
                return match last {
                    Some(after) => Err(DecodeError::Order {
                        section: section.title().to_owned(),
                        after,
                    }),
                    None => Ok(()),
                };
            }
        };
        if place.is_some() {
            return Err(DecodeError::DuplicateSection { name });
        }
        let before = match name {
            MANIFEST_SECTION => &[STATE_SECTION, BLOCKS_SECTION][..],
            STATE_SECTION => &[BLOCKS_SECTION][..],
            _ => &[],
        };
        if let Some(after) = last.filter(|last| before.contains(last)) {
            return Err(DecodeError::Order {
                section: name.to_owned(),
                after,
            });
        }
        *place = Some(section.clone());
        Ok(())
    }

    /// The last of Spore's sections so far.
    fn last(&self) -> Option<&'static str> {
        match (&self.manifest, &self.state, &self.blocks) {
            (_, _, Some(_)) => Some(BLOCKS_SECTION),
            (_, Some(_), None) => Some(STATE_SECTION),
            (Some(_), None, None) => Some(MANIFEST_SECTION),
            (None, None, None) => None,
        }
    }
}
