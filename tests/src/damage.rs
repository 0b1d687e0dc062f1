//! Blocks of images of which a byte is not any more what was written.

use std::collections::HashSet;

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

/// Changes a bit of this block where a host that does not run keeps it.
pub fn damage(process: &Process, block: &Block) {
    let packs = process.home().kept_path().join("packs");
    let mut found = 0;
    for entry in std::fs::read_dir(&packs).expect("something is kept") {
        let path = entry.expect("the folder is readable").path();
        let mut bytes = std::fs::read(&path).expect("the pack is readable");
        for place in bytes.chunks_exact_mut(BLOCK_BYTES) {
            if *place == block[..] {
                place[BLOCK_BYTES / 2] ^= 1;
                found += 1;
            }
        }
        std::fs::write(&path, bytes).expect("the pack is writable");
    }
    assert!(found > 0, "the block is in no pack of {}", packs.display());
}
