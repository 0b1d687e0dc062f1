//! What was written to a guest's memory since an image of it was taken.

use spore_bundle::image::{BLOCK_BYTES, Image, ImageMark};
use spore_dirty_pages::DirtyPages;

/// Memory that is watched is at least as large, in bytes: less is looked through as fast.
const BYTES_MIN: usize = 2 << 20;

/// And at most as large: the kernel looks through the pages of all of it at one time, 64 MiB in a
/// millisecond when none was noted yet, while the worker does nothing else.
const BYTES_MAX: usize = 512 << 20;

/// Of a memory of which more than one block in so many was written between two images all is looked
/// through, and it is not watched for a while: each page that is written first costs the guest a page
/// fault.
const MANY_PART: usize = 4;

/// Images until it is tried again.
const REST_IMAGES: u32 = 8;

/// Says what was written to the memory of an instance, if the kernel tells.
///
/// It goes with what is beside the instance, before the memory of that is cleared for the next: wasmtime
/// asks the kernel what to clear, which tells less of memory that is watched.
#[derive(Default)]
pub(crate) struct Writes {
    watch: Option<DirtyPages>,
    /// The image since which what is written is noted.
    since: Option<ImageMark>,
    /// Images for which it is not watched.
    rests: u32,
}

impl Writes {
    /// The numbers of the blocks that may have been written since this image was taken, ascending; or
    /// nothing when that is not known. What is written from now on is noted, where it can be.
    pub(crate) fn since(&mut self, last: Option<&Image>, memory: &[u8]) -> Option<Vec<u32>> {
        let since = self.since.take();
        if self.rests > 0 {
            self.rests -= 1;
            return None;
        }
        let begin = memory.as_ptr().addr();
        let is_same = |watch: &DirtyPages| watch.addresses() == (begin..begin + memory.len());
        if !self.watch.as_ref().is_some_and(is_same) {
            // It has grown. No page is watched twice.
            self.watch = None;
            self.watch = watch(memory);
        }
        let Ok(written) = self.watch.as_mut()?.written() else {
            self.watch = None;
            return None;
        };
        last.filter(|last| since.is_some_and(|since| since.is_of(last)))?;
        let bytes: usize = written.iter().map(|range| range.len()).sum();
        if bytes > memory.len() / MANY_PART {
            self.watch = None;
            self.rests = REST_IMAGES;
            return None;
        }
        let block = |at: usize| ((at - begin) / BLOCK_BYTES) as u32;
        // Pages are as large as blocks, or some times as large.
        let blocks = written
            .iter()
            .flat_map(|range| block(range.start)..block(range.end));
        Some(blocks.collect())
    }

    /// Says that this image was taken of the memory as it was at the last question.
    pub(crate) fn are_since(&mut self, image: &Image) {
        self.since = self.watch.as_ref().map(|_| image.mark());
    }
}

fn watch(memory: &[u8]) -> Option<DirtyPages> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&memory.len()) {
        return None;
    }
    match DirtyPages::watch(memory) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::debug!(%error, "the kernel does not note writes");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store};

    use super::*;
    use crate::limits::Limits;

    /// A module with a memory of 4 MiB, exported as `m`.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\x00\x40\x07\x05\x01\x01m\x02\x00";

    /// wasmtime drops what is beside an instance before it clears the memory of that for the next, and asks
    /// the kernel what to clear.
    #[tokio::test]
    async fn what_is_watched_is_cleared_for_the_next_instance() {
        let limits = Limits {
            instances: 1,
            ..Limits::default()
        };
        let engine = crate::engine::build(&limits).expect("it builds").engine;
        let module = Module::new(&engine, MODULE).expect("it is valid");
        for round in 1..10 {
            let mut store = Store::new(&engine, Writes::default());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = Instance::new_async(&mut store, &module, &[]).await;
            let instance = instance.expect("there is room");
            let memory = instance.get_memory(&mut store, "m").expect("exported");
            let (data, writes) = memory.data_and_store_mut(&mut store);
            assert!(data.iter().all(|byte| *byte == 0), "round {round}");
            // Fewer pages than wasmtime clears one by one, and more.
            data.iter_mut()
                .step_by(4096 * 1024 / (1 << round))
                .for_each(|byte| *byte = round);
            assert_eq!(writes.since(None, data), None);
            data[round as usize] = round;
        }
    }
}
