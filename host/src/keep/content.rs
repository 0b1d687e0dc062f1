//! How what a host keeps lies in its store: under each record an index, and blocks.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spore_bundle::Bundle;
use spore_bundle::image::{BLOCK_BYTES, Block, Changes, Image};
use spore_store::BlockId;
use spore_value::{Limits, codec};

use super::{KeepError, records};

/// The bundle, and the arguments of a job.
#[derive(Serialize, Deserialize)]
struct Parts {
    #[serde(with = "records::bytes_of")]
    manifest: Vec<u8>,
    code_bytes: u64,
    captures_bytes: u64,
    arguments_bytes: u64,
    /// The index of the image that it has instead of captures, or nothing.
    #[serde(with = "records::bytes_of")]
    image: Vec<u8>,
    has_captures: bool,
}

/// What is to be kept under a record.
pub(crate) struct Content<'a> {
    pub(crate) index: Vec<u8>,
    pub(crate) ids: Vec<BlockId>,
    /// The first blocks.
    blocks: Vec<Arc<Block>>,
    /// Those that follow.
    rest: Rest<'a>,
}

/// The last blocks of what is to be kept.
enum Rest<'a> {
    None,
    /// Those of an image, each once.
    Image(&'a Image),
    /// Those that are otherwise in an image than in another.
    Changed(Vec<&'a Arc<Block>>),
}

impl<'a> Content<'a> {
    pub(crate) fn of(
        index: Vec<u8>,
        blocks: Vec<Arc<Block>>,
        image: Option<&'a Image>,
    ) -> Content<'a> {
        let mut ids: Vec<BlockId> = blocks.iter().map(|block| BlockId::of(block)).collect();
        if let Some(image) = image {
            ids.extend(image.distinct_ids().map(|id| BlockId(*id.as_bytes())));
        }
        Content {
            index,
            ids,
            blocks,
            rest: image.map_or(Rest::None, Rest::Image),
        }
    }

    pub(crate) fn of_changes(changes: Changes<'a>, beside: &[u8]) -> Content<'a> {
        let index = records::ToIndex {
            image: &changes.head,
            beside,
        };
        let ids = changes.blocks.iter().map(|(id, _)| BlockId(*id.as_bytes()));
        Content {
            index: encode(&index),
            ids: ids.collect(),
            blocks: Vec::new(),
            rest: Rest::Changed(changes.blocks.iter().map(|(_, block)| *block).collect()),
        }
    }

    pub(crate) fn of_image(image: &'a Image, beside: &[u8]) -> Content<'a> {
        let index = records::ToIndex {
            image: image.index_bytes(),
            beside,
        };
        Content::of(encode(&index), Vec::new(), Some(image))
    }

    pub(crate) fn of_parts(bundle: &'a Bundle, arguments: &[u8]) -> Content<'a> {
        let image = bundle.image();
        let captures = match image {
            Some(_) => None,
            None => bundle.state(),
        };
        let parts = Parts {
            manifest: bundle.manifest_bytes().to_vec(),
            code_bytes: bundle.code().len() as u64,
            captures_bytes: captures.map_or(0, |captures| captures.len() as u64),
            arguments_bytes: arguments.len() as u64,
            image: image.map_or_else(Vec::new, |image| image.index_bytes().to_vec()),
            has_captures: captures.is_some(),
        };
        let mut all = Vec::new();
        blocks(bundle.code(), &mut all);
        blocks(captures.map_or(&[], |captures| captures), &mut all);
        blocks(arguments, &mut all);
        Content::of(encode(&parts), all, image)
    }

    pub(crate) fn block(&self, at: usize) -> Option<&Block> {
        let block = match (at.checked_sub(self.blocks.len()), &self.rest) {
            (None, _) => self.blocks.get(at),
            (Some(_), Rest::None) => None,
            (Some(place), Rest::Image(image)) => image.distinct_at(place),
            (Some(place), Rest::Changed(changed)) => changed.get(place).copied(),
        };
        block.map(|block| &**block)
    }
}

/// The bundle of a record, and the arguments of a job. Each block was hashed as it was read, and the index
/// with the pack.
pub(super) fn parts(index: &[u8], blocks: &[Arc<Block>]) -> Result<(Bundle, Bytes), KeepError> {
    let parts: Parts = codec::decode_serde(index, &limits(index))?;
    let mut rest = blocks;
    let mut next = |bytes| -> Result<Bytes, KeepError> {
        let (bytes, count) = bytes_of(rest, bytes)?;
        rest = &rest[count..];
        Ok(bytes)
    };
    let code = next(parts.code_bytes)?;
    let captures = next(parts.captures_bytes)?;
    let arguments = next(parts.arguments_bytes)?;
    let bundle = if parts.image.is_empty() {
        let captures = parts.has_captures.then_some(captures);
        Bundle::dangerous_from_checked_parts(parts.manifest, code, captures)?
    } else {
        let image = Image::dangerous_from_checked_blocks(parts.image.into(), rest)?;
        Bundle::dangerous_from_checked_image(parts.manifest, code, image)?
    };
    Ok((bundle, arguments))
}

/// Bytes as blocks, the last one filled up with zeros.
pub(super) fn blocks(bytes: &[u8], into: &mut Vec<Arc<Block>>) {
    for chunk in bytes.chunks(BLOCK_BYTES) {
        let mut block = [0; BLOCK_BYTES];
        block[..chunk.len()].copy_from_slice(chunk);
        into.push(Arc::new(block));
    }
}

/// The first so many bytes of blocks, and how many blocks that are.
pub(super) fn bytes_of(blocks: &[Arc<Block>], bytes: u64) -> Result<(Bytes, usize), KeepError> {
    let length = usize::try_from(bytes).map_err(|_| KeepError::Missing("a block"))?;
    let count = length.div_ceil(BLOCK_BYTES);
    let own = blocks.get(..count).ok_or(KeepError::Missing("a block"))?;
    let mut bytes = own
        .iter()
        .flat_map(|block| block.iter().copied())
        .collect::<Vec<u8>>();
    bytes.truncate(length);
    Ok((bytes.into(), count))
}

/// Bytes of a record whose sizes the host bounds itself.
pub(crate) fn limits(bytes: &[u8]) -> Limits {
    let length = bytes.len() as u64;
    Limits::default()
        .with_bytes(length)
        .with_elements(length)
        .with_work(4 * length + 64)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode_serde(value).expect("a record is nested a few levels deep")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_after_they_were_blocks() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut all = Vec::new();
            blocks(&bytes, &mut all);
            let (back, count) = bytes_of(&all, length as u64).expect("they are there");
            assert_eq!((back.as_ref(), count), (&bytes[..], all.len()));
        }
        assert!(matches!(bytes_of(&[], 1), Err(KeepError::Missing(_))));
        assert!(matches!(
            bytes_of(&[], u64::MAX),
            Err(KeepError::Missing(_))
        ));
    }
}
