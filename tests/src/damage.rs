//! Blocks of images of which a byte is not any more what was written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use spore_bundle::image::{BLOCK_BYTES, Block};
use spore_bundle::{BlockId, Image};
use spore_client::Bundle;

use crate::Process;

fn image_of(bundle: &Bundle) -> &Image {
    bundle.inner().image().expect("it was saved")
}

/// A block that the image of the first has and none of the others.
pub fn own_block(bundle: &Bundle, others: &[&Bundle]) -> Block {
    let ids = others.iter().flat_map(|other| &image_of(other).index().ids);
    let theirs: HashSet<&BlockId> = ids.collect();
    let mut blocks = image_of(bundle).blocks();
    let own = blocks.find(|(_, id, _)| !theirs.contains(id));
    let (_, _, block) = own.expect("it has done something of its own");
    **block
}

/// Changes a bit of this block where a host that does not run keeps it. Gives the packs that have it.
pub fn damage(process: &Process, block: &Block) -> Vec<PathBuf> {
    let packs = process.home().kept_path().join("packs");
    let mut damaged = Vec::new();
    for entry in std::fs::read_dir(&packs).expect("something is kept") {
        let path = entry.expect("the folder is readable").path();
        let mut bytes = std::fs::read(&path).expect("the pack is readable");
        let mut places = bytes.chunks_exact_mut(BLOCK_BYTES);
        if let Some(place) = places.find(|place| **place == block[..]) {
            place[BLOCK_BYTES / 2] ^= 1;
            std::fs::write(&path, bytes).expect("the pack is writable");
            damaged.push(path);
        }
    }
    let folder = packs.display();
    assert!(!damaged.is_empty(), "the block is in no pack of {folder}");
    damaged
}

/// Changes a bit of each block of a pack. `store/src/pack.rs` has the layout: behind a header of the size of
/// a block, which has their number.
pub fn spoil(pack: &Path) {
    let mut bytes = std::fs::read(pack).expect("the pack is readable");
    let count: &[u8; 4] = bytes[12..].first_chunk().expect("it has a header");
    let count = u32::from_le_bytes(*count) as usize;
    let blocks = bytes.chunks_exact_mut(BLOCK_BYTES).skip(1).take(count);
    let spoilt = blocks.map(|block| block[BLOCK_BYTES / 2] ^= 1).count();
    assert!(spoilt == count && count > 0);
    std::fs::write(pack, bytes).expect("the pack is writable");
}
