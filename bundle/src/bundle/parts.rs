//! A bundle from parts that travelled apart: manifest, code and state.

use bytes::Bytes;

use super::{Bundle, file};
use crate::ids::{CodeId, StateId};
use crate::image::{BLOCK_BYTES, Image, ImageError};
use crate::limits::Limits;
use crate::manifest::{CodeKind, Manifest, ManifestError, StateKind};
use crate::sections::{self, SectionError};

/// What the format has room for, and this release does not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Code that is a component
    #[error("code that is a component")]
    Component,
}

/// Why parts make no bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// The manifest was refused.
    #[error("unreadable manifest")]
    Manifest(#[from] ManifestError),
    /// The bundle uses what this release does not know.
    #[error("this release does not support {0}")]
    Unsupported(#[from] Unsupported),
    /// The manifest announces more code than the limits allow.
    #[error("code of {bytes} bytes, at most {limit} are allowed")]
    CodeTooLarge {
        /// The size announced
        bytes: u64,
        /// [`Limits::code_bytes_max`]
        limit: u64,
    },
    /// The manifest announces a larger state than the limits allow.
    #[error("state of {bytes} bytes, at most {limit} are allowed")]
    StateTooLarge {
        /// The size announced
        bytes: u64,
        /// [`Limits::state_bytes_max`]
        limit: u64,
    },
    /// The code has another size than the manifest announces.
    #[error("code of {found} bytes, the manifest announces {announced}")]
    CodeSize {
        /// The size announced
        announced: u64,
        /// The size found
        found: u64,
    },
    /// The code is not that which the manifest names.
    #[error("code {found}, the manifest names {named}")]
    CodeId {
        /// The id in the manifest
        named: CodeId,
        /// The id of the code
        found: CodeId,
    },
    /// The code is not of the kind that the manifest says.
    #[error("code is {found}, the manifest says {announced}")]
    CodeKind {
        /// What the manifest says
        announced: CodeKind,
        /// What the code is
        found: CodeKind,
    },
    /// The code is not a sequence of sections.
    #[error("unreadable code")]
    Code(#[from] SectionError),
    /// The code has a section that only Spore may add.
    #[error("section {name} within the code")]
    ReservedSection {
        /// Its name
        name: String,
    },
    /// The manifest names a state and there is none.
    #[error("the manifest names state {named}, none is there")]
    StateMissing {
        /// The id in the manifest
        named: StateId,
    },
    /// The state is an image, and its blocks are not there.
    #[error("the manifest names an image, its blocks are not there")]
    BlocksMissing,
    /// There are blocks, and the manifest names no image.
    #[error("blocks are there, the manifest names no image")]
    BlocksUnannounced,
    /// There is a state and the manifest names none.
    #[error("a state is there, the manifest names none")]
    StateUnannounced,
    /// The state has another size than the manifest announces.
    #[error("state of {found} bytes, the manifest announces {announced}")]
    StateSize {
        /// The size announced
        announced: u64,
        /// The size found
        found: u64,
    },
    /// The state is an image, and it is not that which the manifest names.
    #[error("the image cannot be used")]
    Image(#[from] ImageError),
    /// The state is not that which the manifest names.
    #[error("state {found}, the manifest names {named}")]
    StateId {
        /// The id in the manifest
        named: StateId,
        /// The id of the state
        found: StateId,
    },
}

impl Limits {
    /// Says whether a bundle with this manifest may be read, before its code and state are there.
    ///
    /// # Errors
    ///
    /// Carries the size that is too large and its limit, or what is not supported.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), PartsError> {
        supported(manifest)?;
        let (bytes, limit) = (manifest.code.bytes, self.code_bytes_max);
        if bytes > limit {
            return Err(PartsError::CodeTooLarge { bytes, limit });
        }
        let (bytes, limit) = (
            manifest.state.map_or(0, |state| state.bytes),
            self.state_bytes_max,
        );
        if bytes > limit {
            return Err(PartsError::StateTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Says whether the blocks of an image may be read, before they are there, and how many bytes
    /// they are. Index and blocks together are a state like any other.
    ///
    /// # Errors
    ///
    /// Carries the size that is too large and its limit.
    pub fn admit_image(&self, index_bytes: u64, distinct_blocks: usize) -> Result<u64, PartsError> {
        let blocks = distinct_blocks as u64 * BLOCK_BYTES as u64;
        let (bytes, limit) = (index_bytes + blocks, self.state_bytes_max);
        if bytes > limit {
            return Err(PartsError::StateTooLarge { bytes, limit });
        }
        Ok(blocks)
    }
}

impl Bundle {
    /// Puts a bundle together from an encoded manifest and the code and state that it names.
    ///
    /// Hashes both. Sizes are those of what the caller holds already, so that no limits are asked
    /// for; [`Limits::admit`] is for the moment before.
    ///
    /// # Errors
    ///
    /// Says which part does not fit.
    pub fn from_parts(
        manifest_bytes: impl Into<Bytes>,
        code: impl Into<Bytes>,
        state: Option<Bytes>,
    ) -> Result<Self, PartsError> {
        let (manifest_bytes, code) = (manifest_bytes.into(), code.into());
        let manifest = Manifest::decode(&manifest_bytes)?;
        check_parts(&manifest, &code, state.as_deref())?;
        check_ids(&manifest, &code, state.as_deref())?;
        let image = no_image(&manifest)?;
        Ok(Self::assemble(manifest, manifest_bytes, code, state, image))
    }

    /// As [`from_parts`](Self::from_parts), without hashing code and state again.
    ///
    /// For hosts that have checked both against the ids in this very manifest when they arrived.
    /// Parts that were not checked give a bundle whose ids are wrong: one guest's code would run
    /// under another's name.
    ///
    /// # Errors
    ///
    /// As [`from_parts`](Self::from_parts), except for wrong ids.
    pub fn dangerous_from_checked_parts(
        manifest_bytes: impl Into<Bytes>,
        code: impl Into<Bytes>,
        state: Option<Bytes>,
    ) -> Result<Self, PartsError> {
        let (manifest_bytes, code) = (manifest_bytes.into(), code.into());
        let manifest = Manifest::decode(&manifest_bytes)?;
        check_parts(&manifest, &code, state.as_deref())?;
        let image = no_image(&manifest)?;
        Ok(Self::assemble(manifest, manifest_bytes, code, state, image))
    }

    /// As [`dangerous_from_checked_parts`](Self::dangerous_from_checked_parts), for a state that is
    /// an image. The index of the image must have been checked against the manifest's id; that it
    /// agrees with what the manifest says is checked here.
    ///
    /// # Errors
    ///
    /// As [`from_parts`](Self::from_parts), except for wrong ids.
    pub fn dangerous_from_checked_image(
        manifest_bytes: impl Into<Bytes>,
        code: impl Into<Bytes>,
        image: Image,
    ) -> Result<Self, PartsError> {
        let (manifest_bytes, code) = (manifest_bytes.into(), code.into());
        let manifest = Manifest::decode(&manifest_bytes)?;
        let index = image.index_bytes().clone();
        check_parts(&manifest, &code, Some(&index))?;
        image.index().check_manifest(&manifest)?;
        let (state, image) = (Some(index), Some(image));
        Ok(Self::assemble(manifest, manifest_bytes, code, state, image))
    }
}

/// Nothing, for a manifest that names no image: those that do need the blocks besides.
fn no_image(manifest: &Manifest) -> Result<Option<Image>, PartsError> {
    match manifest.state.map(|state| state.kind) {
        Some(StateKind::Image { .. }) => Err(PartsError::BlocksMissing),
        _ => Ok(None),
    }
}

/// Refuses what later releases will use, rather than run a guest without it.
fn supported(manifest: &Manifest) -> Result<(), Unsupported> {
    if manifest.code.kind == CodeKind::Component {
        return Err(Unsupported::Component);
    }
    Ok(())
}

/// Holds code and state against what the manifest says of them, except for their ids.
pub(super) fn check_parts(
    manifest: &Manifest,
    code: &[u8],
    state: Option<&[u8]>,
) -> Result<(), PartsError> {
    supported(manifest)?;

    let (announced, found) = (manifest.code.bytes, code.len() as u64);
    if announced != found {
        return Err(PartsError::CodeSize { announced, found });
    }
    let (announced, found) = (manifest.code.kind, sections::code_kind(code)?);
    if announced != found {
        return Err(PartsError::CodeKind { announced, found });
    }
    if let Some(name) = file::reserved_section(code)? {
        return Err(PartsError::ReservedSection { name });
    }

    match (manifest.state, state) {
        (None, None) => Ok(()),
        (Some(named), None) => Err(PartsError::StateMissing { named: named.id }),
        (None, Some(_)) => Err(PartsError::StateUnannounced),
        (Some(named), Some(state)) => {
            let (announced, found) = (named.bytes, state.len() as u64);
            if announced != found {
                return Err(PartsError::StateSize { announced, found });
            }
            Ok(())
        }
    }
}

/// Hashes code and state, and holds them against the manifest.
pub(super) fn check_ids(
    manifest: &Manifest,
    code: &[u8],
    state: Option<&[u8]>,
) -> Result<(), PartsError> {
    let (named, found) = (manifest.code.id, CodeId::of(code));
    if named != found {
        return Err(PartsError::CodeId { named, found });
    }
    if let (Some(named), Some(state)) = (manifest.state, state) {
        let (named, found) = (named.id, StateId::of(state));
        if named != found {
            return Err(PartsError::StateId { named, found });
        }
    }
    Ok(())
}
