//! An image as what is otherwise than in another.

use super::{Block, Image, ImageError, Index, PART_BLOCKS, Taking, ascending};

impl Image {
    /// The image that is as this one but for these blocks, with their numbers, ascending: with nothing
    /// for one that is as in a fresh instance. The rest is in `index`, whose blocks are ignored.
    ///
    /// Blocks that come are hashed.
    ///
    /// # Errors
    ///
    /// When the index would not be sound.
    pub(crate) fn but<'b>(
        &self,
        index: Index,
        changes: &[(u32, Option<&'b Block>)],
    ) -> Result<Image, ImageError> {
        ascending("block", changes.iter().map(|(number, _)| *number))?;
        let mut taking = Taking::like(Some(self));
        let mut by_part = changes
            .chunk_by(|a, b| a.0 / PART_BLOCKS == b.0 / PART_BLOCKS)
            .peekable();
        let last = |numbers: Option<u32>| numbers.map_or(0, |number| number / PART_BLOCKS + 1);
        let parts = last(self.index.numbers.last().copied());
        let parts = parts.max(last(changes.last().map(|(number, _)| *number)));
        for part in 0..parts {
            let changed = by_part.next_if(|changes| changes[0].0 / PART_BLOCKS == part);
            let changed = changed.into_iter().flatten().copied();
            taking.part_but(part, changed);
        }
        taking.image(index)
    }
}
