//! A bundle with an image as what is otherwise than in another of the same code.

use std::sync::Arc;

use bytes::Bytes;

use super::{Bundle, PartsError};
use crate::ids::BundleId;
use crate::image::{BLOCK_BYTES, Block, Changes};
use crate::limits::Limits;
use crate::manifest::Manifest;

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

/// What is otherwise in a bundle than in another.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What comes before the blocks.
    front: Bytes,
    blocks: Vec<Arc<Block>>,
}

impl Difference {
    /// How many bytes there are.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.front.len() + self.blocks.len() * BLOCK_BYTES
    }

    /// The bytes, without a copy of them.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        let blocks = self.blocks.into_iter().map(Held).map(Bytes::from_owner);
        std::iter::once(self.front).chain(blocks)
    }

    /// The bytes, one after the other.
    pub fn into_bytes(self) -> Bytes {
        let mut whole = Vec::with_capacity(self.len());
        for piece in self.into_pieces() {
            whole.extend_from_slice(&piece);
        }
        whole.into()
    }
}

/// A difference that comes in pieces, of which each is copied once.
#[derive(Debug, Default)]
pub struct DifferenceReader {
    /// Bytes that have come.
    bytes: usize,
    front: Vec<u8>,
    blocks: Vec<Arc<Block>>,
    /// Bytes that have come of the last block, if it is not whole.
    of_last: usize,
}

impl DifferenceReader {
    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// When it is too much.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), DifferenceError> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > DIFFERENCE_BYTES_MAX {
            return Err(DifferenceError::TooLong { bytes: self.bytes });
        }
        while !piece.is_empty() {
            let wanted = self.front_wanted();
            if wanted > 0 {
                let (now, later) = piece.split_at(wanted.min(piece.len()));
                self.front.extend_from_slice(now);
                piece = later;
                continue;
            }
            if self.of_last == 0 {
                self.blocks.push(Arc::new([0; BLOCK_BYTES]));
            }
            let block = self.blocks.last_mut().and_then(Arc::get_mut);
            let rest = &mut block.expect("nobody else has it yet")[self.of_last..];
            let (now, later) = piece.split_at(rest.len().min(piece.len()));
            rest[..now.len()].copy_from_slice(now);
            self.of_last = (self.of_last + now.len()) % BLOCK_BYTES;
            piece = later;
        }
        Ok(())
    }

    /// Bytes that are still to come before the blocks, as far as it is known.
    fn front_wanted(&self) -> usize {
        let has = self.front.len();
        match lengths(&self.front) {
            None => LENGTHS_BYTES - has,
            Some([manifest, head]) => LENGTHS_BYTES + manifest + head - has,
        }
    }

    /// The difference.
    ///
    /// # Errors
    ///
    /// When it ends early, or not with a whole block.
    pub fn finish(self) -> Result<Difference, DifferenceError> {
        if self.front_wanted() > 0 || self.of_last > 0 {
            return Err(DifferenceError::Length);
        }
        Ok(Difference {
            front: self.front.into(),
            blocks: self.blocks,
        })
    }
}

/// Bytes of the two lengths at the begin.
const LENGTHS_BYTES: usize = 8;

/// The lengths of manifest and head, if they are there. One that is more than may come is cut to just that,
/// so that sums of them are right where an address has 32 bits: it is never whole.
fn lengths(front: &[u8]) -> Option<[usize; 2]> {
    let lengths: &[u8; LENGTHS_BYTES] = front.first_chunk()?;
    let (lengths, _) = lengths.as_chunks();
    let mut lengths = lengths.iter();
    let mut next = || {
        let length = u32::from_le_bytes(*lengths.next()?) as usize;
        Some(length.min(DIFFERENCE_BYTES_MAX + 1))
    };
    Some([next()?, next()?])
}

/// A block as bytes that somebody holds.
struct Held(Arc<Block>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0[..]
    }
}

impl Bundle {
    /// What is otherwise in this bundle than in another of the same code, where both have images, and
    /// not too much is.
    pub fn difference(&self, since: &Bundle) -> Option<Difference> {
        let (Some(image), Some(before)) = (self.image(), since.image()) else {
            return None;
        };
        if self.code_id() != since.code_id() {
            return None;
        }
        let Changes { head, blocks } = image.changes_since(before);
        let parts = [&self.manifest_bytes()[..], &head];
        let mut front = Vec::new();
        for part in parts {
            front.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        parts.iter().for_each(|part| front.extend_from_slice(part));
        let difference = Difference {
            front: front.into(),
            blocks: blocks.into_iter().map(|(_, block)| block.clone()).collect(),
        };
        (difference.len() <= DIFFERENCE_BYTES_MAX).then_some(difference)
    }

    /// The bundle of this id, from how it differs from `since`. All that came is hashed.
    ///
    /// # Errors
    ///
    /// When it does not make that bundle, or one beyond the limits.
    pub fn from_difference(
        since: &Bundle,
        id: BundleId,
        difference: Difference,
        limits: &Limits,
    ) -> Result<Bundle, DifferenceError> {
        let Difference { front, blocks } = difference;
        let before = since.image().ok_or(DifferenceError::NoImage)?;
        let [manifest_length, head_length] = lengths(&front).ok_or(DifferenceError::Length)?;
        let behind = LENGTHS_BYTES + manifest_length;
        if behind + head_length != front.len() {
            return Err(DifferenceError::Length);
        }
        let manifest_bytes = front.slice(LENGTHS_BYTES..behind);
        let head = front.slice(behind..);
        let found = BundleId::of(&manifest_bytes);
        if found != id {
            return Err(DifferenceError::OtherBundle { named: id, found });
        }
        let manifest = Manifest::decode(&manifest_bytes).map_err(PartsError::from)?;
        limits.admit(&manifest)?;
        let (named, found) = (manifest.code.id, since.code_id());
        if named != found {
            return Err(PartsError::CodeId { named, found }.into());
        }
        let image = before.with_changes(&head, blocks);
        let image = image.map_err(PartsError::from)?;
        let distinct = image.distinct_ids().len();
        limits.admit_image(image.index_bytes().len() as u64, distinct)?;
        let Some(state) = manifest.state else {
            return Err(PartsError::StateUnannounced.into());
        };
        let (named, found) = (state.id, image.id());
        if named != found {
            return Err(PartsError::StateId { named, found }.into());
        }
        let code = since.code().clone();
        Ok(Bundle::dangerous_from_checked_image(
            manifest_bytes,
            code,
            image,
        )?)
    }
}
