//! Bundles and images in a store, each under a record.

use std::sync::Arc;

use bytes::Bytes;
use spore_bundle::Bundle;
use spore_bundle::image::{Block, Image};
use spore_store::{ImageToSave, Key, Owner, Quota, Save};
use spore_value::codec;

use super::content::{self, Content, limits};
use super::{KeepError, records};

/// The owner that the program is which embeds the host. It shares with nobody.
pub(crate) const EMBEDDING: [u8; 32] = [0; 32];

/// An index and its blocks.
type Indexed<T = Vec<u8>> = (T, Vec<Arc<Block>>);

/// A store of records whose images are blocks of bundles and of guests' memories.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    pub(crate) store: spore_store::Store,
}

impl Images {
    /// What one owner may keep: a half of what all may, as of everything.
    fn quota(&self, owner: Owner) -> Quota {
        let all = self.store.bytes_max();
        Quota {
            bytes_max: if owner.0 == EMBEDDING { all } else { all / 2 },
            ..Quota::NONE
        }
    }

    /// Keeps this under a record.
    pub(super) fn save(&self, key: &Key, content: &Content<'_>) -> Result<(), KeepError> {
        let image = ImageToSave {
            index: &content.index,
            ids: &content.ids,
            block: &|at| content.block(at),
        };
        let save = Save::meta(&[]).with_image(image);
        self.store.save(key, &save.within(self.quota(key.owner)))?;
        Ok(())
    }

    /// Keeps an image under a record, and the parts of what it is an image of under another, if they are
    /// not there and whole, as far as is known.
    pub(crate) fn save_image(
        &self,
        (key, parts_key): (&Key, &Key),
        meta: &[u8],
        (bundle, arguments): (&Bundle, &[u8]),
        content: &Content<'_>,
        like: Option<&Key>,
    ) -> Result<(), KeepError> {
        let quota = self.quota(key.owner);
        let image = ImageToSave {
            index: &content.index,
            ids: &content.ids,
            block: &|at| content.block(at),
        };
        let save = Save::meta(meta).within(quota).like(like.unwrap_or(key));
        // What was found damaged is written again, since it is here.
        if self.store.is_good(parts_key)? {
            self.store.save(key, &save.with_image(image))?;
            return Ok(());
        }
        let parts = Content::of_parts(bundle, arguments);
        let parts_image = ImageToSave {
            index: &parts.index,
            ids: &parts.ids,
            block: &|at| parts.block(at),
        };
        let save_parts = Save::meta(&[]).within(quota);
        let both = [(*parts_key, save_parts, parts_image), (*key, save, image)];
        self.store.save_all(&key.owner, &both)?;
        Ok(())
    }

    /// An image that is kept whole, and what was kept with it. Each block is hashed as it is read.
    pub(crate) fn image(&self, key: &Key) -> Result<Option<(Image, Vec<u8>)>, KeepError> {
        let Some((indexed, blocks)) = self.indexed(key)? else {
            return Ok(None);
        };
        // Each block was hashed as it was read, and the index with the pack.
        let image = Image::dangerous_from_checked_blocks(indexed.image.into(), &blocks)?;
        Ok(Some((image, indexed.beside)))
    }

    pub(super) fn indexed(
        &self,
        key: &Key,
    ) -> Result<Option<Indexed<records::Indexed>>, KeepError> {
        let Some((index, blocks)) = self.blocks_of(key)? else {
            return Ok(None);
        };
        Ok(Some((
            codec::decode_serde(&index, &limits(&index))?,
            blocks,
        )))
    }

    pub(super) fn blocks_of(&self, key: &Key) -> Result<Option<Indexed>, KeepError> {
        let Some(image) = self.store.image(key)? else {
            return Ok(None);
        };
        let count = image.ids().len();
        let mut blocks: Vec<Option<Arc<Block>>> = vec![None; count];
        image.read(0..count, |at, block| blocks[at] = Some(Arc::new(*block)))?;
        let blocks: Option<Vec<_>> = blocks.into_iter().collect();
        let blocks = blocks.ok_or(KeepError::Missing("a block"))?;
        Ok(Some((image.index().to_vec(), blocks)))
    }

    pub(crate) fn parts(&self, key: &Key) -> Result<(Bundle, Bytes), KeepError> {
        let found = self.blocks_of(key)?;
        let (index, blocks) = found.ok_or(KeepError::Missing("its bundle"))?;
        content::parts(&index, &blocks)
    }
}
