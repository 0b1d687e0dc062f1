//! A bundle with an image as what is otherwise than in another of the same code.

use super::{Bundle, PartsError};
use crate::ids::{BundleId, StateId};
use crate::image::{BLOCK_BYTES, Block, Changes};
use crate::limits::Limits;
use crate::manifest::Manifest;
use std::sync::Arc;

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

/// What is otherwise in a bundle than in another: bytes that need not lie one after the other.
#[derive(Clone, Debug)]
pub struct Difference {
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

    /// The bundle of this id, from how it differs from `since`: bytes that came in pieces. All that came
    /// is hashed.
    ///
    /// # Errors
    ///
    /// When it does not make that bundle, or one beyond the limits.
    pub fn from_difference(
        since: &Bundle,
        id: BundleId,
        difference: &[Bytes],
        limits: &Limits,
    ) -> Result<Bundle, DifferenceError> {
        let mut rest = Pieces::of(difference);
        let bytes = rest.left;
        if bytes > DIFFERENCE_BYTES_MAX {
            return Err(DifferenceError::TooLong { bytes });
        }
        let before = since.image().ok_or(DifferenceError::NoImage)?;
        let [manifest_length, head_length] = [rest.length()?, rest.length()?];
        let (manifest_bytes, head) = (rest.part(manifest_length)?, rest.part(head_length)?);
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
        let image = before.with_changes(&head, rest.blocks()?);
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
        let code = since.code().clone();
        Ok(Bundle::dangerous_from_checked_image(
            manifest_bytes,
            code,
            image,
        )?)
    }
}

/// What is left of bytes that came in pieces.
struct Pieces<'a> {
    /// What is left of the piece that is being read.
    piece: &'a [u8],
    pieces: std::slice::Iter<'a, Bytes>,
    left: usize,
}

impl<'a> Pieces<'a> {
    fn of(pieces: &'a [Bytes]) -> Pieces<'a> {
        Pieces {
            piece: &[],
            pieces: pieces.iter(),
            left: pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// Takes as many bytes as fit.
    fn fill(&mut self, mut into: &mut [u8]) -> Result<(), DifferenceError> {
        self.left = self
            .left
            .checked_sub(into.len())
            .ok_or(DifferenceError::Length)?;
        while !into.is_empty() {
            if self.piece.is_empty() {
                self.piece = self.pieces.next().ok_or(DifferenceError::Length)?;
            }
            let now = self.piece.len().min(into.len());
            let (piece, later) = self.piece.split_at(now);
            let (here, behind) = into.split_at_mut(now);
            here.copy_from_slice(piece);
            (self.piece, into) = (later, behind);
        }
        Ok(())
    }

    fn length(&mut self) -> Result<usize, DifferenceError> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        Ok(u32::from_le_bytes(length) as usize)
    }

    fn part(&mut self, length: usize) -> Result<Vec<u8>, DifferenceError> {
        if length > self.left {
            return Err(DifferenceError::Length);
        }
        let mut part = vec![0; length];
        self.fill(&mut part)?;
        Ok(part)
    }

    /// All that is left.
    fn blocks(mut self) -> Result<Vec<Arc<Block>>, DifferenceError> {
        let mut blocks = Vec::with_capacity(self.left / BLOCK_BYTES);
        while self.left > 0 {
            let mut block = Arc::new([0; BLOCK_BYTES]);
            let bytes = Arc::get_mut(&mut block).expect("nobody else has it");
            self.fill(bytes)?;
            blocks.push(block);
        }
        Ok(blocks)
    }
}
