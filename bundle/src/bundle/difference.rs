//! A bundle with an image as what is otherwise than in another of the same code.

use super::{Bundle, PartsError};
use crate::ids::{BundleId, StateId};
use crate::image::{BLOCK_BYTES, Changes};
use crate::limits::Limits;
use crate::manifest::Manifest;
use bytes::Bytes;

/// Longest difference, in bytes. Of what differs more, the parts travel.
pub const DIFFERENCE_BYTES_MAX: usize = 16 << 20;

/// Why bytes are no difference from a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DifferenceError {
    /// There are more than there may be.
    #[error("a difference of {bytes} bytes, at most {DIFFERENCE_BYTES_MAX} are allowed")]
    TooLong {
        /// How many there are
        bytes: usize,
    },
    /// They end early, or not with a whole block.
    #[error("a difference that is cut off, or goes on behind its end")]
    Length,
    /// The bundle that it is said to differ from has no image.
    #[error("a difference from a bundle without an image")]
    NoImage,
    /// It makes another bundle than it is said to.
    #[error("a difference that makes bundle {found} instead of {named}")]
    OtherBundle {
        /// The bundle that it is said to make
        named: BundleId,
        /// The bundle whose manifest came
        found: BundleId,
    },
    /// It makes no bundle.
    #[error(transparent)]
    Parts(#[from] PartsError),
}

impl Bundle {
    /// What is otherwise in this bundle than in another of the same code, where both have images, and
    /// not too much is.
    pub fn difference(&self, since: &Bundle) -> Option<Bytes> {
        let (Some(image), Some(before)) = (self.image(), since.image()) else {
            return None;
        };
        if self.code_id() != since.code_id() {
            return None;
        }
        let Changes { head, blocks } = image.changes_since(before);
        let lengths = [self.manifest_bytes().len(), head.len()];
        let bytes = 8 + lengths[0] + lengths[1] + blocks.len() * BLOCK_BYTES;
        if bytes > DIFFERENCE_BYTES_MAX {
            return None;
        }
        let mut whole = Vec::with_capacity(bytes);
        for length in lengths {
            whole.extend_from_slice(&(length as u32).to_le_bytes());
        }
        whole.extend_from_slice(self.manifest_bytes());
        whole.extend_from_slice(&head);
        for (_, block) in blocks {
            whole.extend_from_slice(&block[..]);
        }
        Some(whole.into())
    }

    /// The bundle of this id, from how it differs from `since`. All that came is hashed.
    ///
    /// # Errors
    ///
    /// When it does not make that bundle, or one beyond the limits.
    pub fn from_difference(
        since: &Bundle,
        id: BundleId,
        difference: &[u8],
        limits: &Limits,
    ) -> Result<Bundle, DifferenceError> {
        let bytes = difference.len();
        if bytes > DIFFERENCE_BYTES_MAX {
            return Err(DifferenceError::TooLong { bytes });
        }
        let before = since.image().ok_or(DifferenceError::NoImage)?;
        let (manifest_length, rest) = length(difference)?;
        let (head_length, rest) = length(rest)?;
        let (manifest_bytes, rest) = part(rest, manifest_length)?;
        let (head, blocks) = part(rest, head_length)?;
        let found = BundleId::of(manifest_bytes);
        if found != id {
            return Err(DifferenceError::OtherBundle { named: id, found });
        }
        let manifest = Manifest::decode(manifest_bytes).map_err(PartsError::from)?;
        limits.admit(&manifest)?;
        let (named, found) = (manifest.code.id, since.code_id());
        if named != found {
            return Err(PartsError::CodeId { named, found }.into());
        }
        let (blocks, rest) = blocks.as_chunks::<BLOCK_BYTES>();
        if !rest.is_empty() {
            return Err(DifferenceError::Length);
        }
        let image = before.with_changes(head, blocks.iter());
        let image = image.map_err(PartsError::from)?;
        let distinct = image.distinct_ids().len();
        limits.admit_image(image.index_bytes().len() as u64, distinct)?;
        let Some(state) = manifest.state else {
            return Err(PartsError::StateUnannounced.into());
        };
        let (named, found) = (state.id, StateId::of(image.index_bytes()));
        if named != found {
            return Err(PartsError::StateId { named, found }.into());
        }
        let manifest_bytes = Bytes::copy_from_slice(manifest_bytes);
        let code = since.code().clone();
        Ok(Bundle::dangerous_from_checked_image(
            manifest_bytes,
            code,
            image,
        )?)
    }
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), DifferenceError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(DifferenceError::Length)?;
    Ok((u32::from_le_bytes(*length) as usize, rest))
}

fn part(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8]), DifferenceError> {
    bytes
        .split_at_checked(length)
        .ok_or(DifferenceError::Length)
}
