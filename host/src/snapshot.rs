//! Images of live instances: taken from memory and globals, and put back.

use std::collections::HashMap;
use std::sync::Arc;

use spore_bundle::image::{
    BLOCK_BYTES, Block, Bound, Global, GlobalValue, Image, Index, Random, Run,
};
use spore_bundle::{BlockId, ImageError};
use wasmtime::{Instance, Memory, Store, Val};

use crate::code::Code;
use crate::guest::Guest;
use crate::run::yield_now;

/// Blocks that are looked at before others get their turn: a time slice's worth of hashing.
const BLOCKS_AT_ONCE: usize = 256;

const ZERO: Block = [0; BLOCK_BYTES];

/// Memory and globals of an instance in which nothing has run.
pub(crate) struct Fresh {
    /// The blocks that are not zero, by ascending number.
    blocks: Vec<(u32, Box<Block>)>,
    /// The mutable globals, in the order of [`Code::globals`](crate::code::Code).
    globals: Vec<GlobalValue>,
}

impl Fresh {
    /// Of an instance in which nothing has run.
    fn of(store: &mut Store<Guest>, instance: Instance, memory: Memory, code: &Code) -> Fresh {
        let globals = globals(store, instance, code);
        let (blocks, _) = memory.data(&*store).as_chunks::<BLOCK_BYTES>();
        let blocks = (0u32..).zip(blocks).filter(|(_, block)| **block != ZERO);
        Fresh {
            blocks: blocks
                .map(|(number, block)| (number, Box::new(*block)))
                .collect(),
            globals,
        }
    }

    /// The blocks that are not zero, to be looked up in ascending order.
    fn ascending(&self) -> Ascending<'_, Box<Block>> {
        Ascending(&self.blocks)
    }
}

/// What has ascending numbers, looked up in that order: memory is gone through from its begin to its
/// end.
struct Ascending<'a, T>(&'a [(u32, T)]);

impl<'a, T> Ascending<'a, T> {
    /// What has this number, which is greater than any that was asked for before.
    fn at(&mut self, number: u32) -> Option<&'a T> {
        loop {
            let [(next, it), rest @ ..] = self.0 else {
                return None;
            };
            if *next > number {
                return None;
            }
            self.0 = rest;
            if *next == number {
                return Some(it);
            }
        }
    }
}

/// What of an image is neither memory nor globals.
pub(crate) struct Around {
    /// By ascending index of their callable.
    pub(crate) bound: Vec<Bound>,
    /// The run that is under way, and where its random bytes go on.
    pub(crate) run: Option<(Run, Random)>,
    pub(crate) directories: Vec<String>,
}

/// Notes what a fresh instance is, the first time that one is seen. Nothing may have run in it.
pub(crate) fn note_fresh(
    store: &mut Store<Guest>,
    instance: Instance,
    memory: Memory,
    code: &Code,
) {
    code.fresh
        .get_or_init(|| Fresh::of(store, instance, memory, code));
}

/// Takes an image between two calls. Blocks that `last` has are not copied and hashed again.
///
/// # Errors
///
/// When the guest's state is more than an image may have.
pub(crate) async fn take(
    store: &mut Store<Guest>,
    instance: Instance,
    memory: Memory,
    code: &Code,
    around: Around,
    last: Option<&Image>,
) -> Result<Image, ImageError> {
    let fresh = fresh_of(code);
    let mut as_fresh = fresh.ascending();
    let known = last.into_iter().flat_map(Image::blocks);
    let known: Vec<_> = known
        .map(|(number, id, block)| (number, (id, block)))
        .collect();
    let mut blocks = Vec::with_capacity(known.len());
    let mut known = Ascending(&known);
    let count = memory.data_size(&*store) / BLOCK_BYTES;
    for first in (0..count).step_by(BLOCKS_AT_ONCE) {
        let (data, _) = memory.data(&*store).as_chunks::<BLOCK_BYTES>();
        let last = count.min(first + BLOCKS_AT_ONCE);
        for (number, block) in (first as u32..).zip(&data[first..last]) {
            if block == as_fresh.at(number).map_or(&ZERO, |block| block) {
                continue;
            }
            blocks.push(match known.at(number) {
                Some((id, known)) if known[..] == block[..] => (number, **id, (*known).clone()),
                _ => (number, BlockId::of(block), Arc::new(*block)),
            });
        }
        yield_now().await;
    }
    let values = globals(store, instance, code);
    let changed = code.globals.iter().zip(values).zip(&fresh.globals);
    let globals =
        changed
            .filter(|((_, value), fresh)| value != *fresh)
            .map(|((global, value), _)| Global {
                index: global.index,
                value,
            });
    let index = Index {
        memory_pages: memory.size(&*store) as u32,
        globals: globals.collect(),
        clock_ns: store.data().clock_ns(),
        directories: around.directories,
        bound: around.bound,
        random: around.run.map(|(_, random)| random),
        run: around.run.map(|(run, _)| run),
        ..Index::of(code.id)
    };
    Image::new(index, blocks)
}

/// Puts an image into an instance in which nothing has run, and its clock and random bytes where
/// they were. The image fits the code. Memory that is there as `ahead` has it was put in before.
///
/// # Errors
///
/// When there is no room for its memory.
pub(crate) async fn restore(
    store: &mut Store<Guest>,
    instance: Instance,
    memory: Memory,
    code: &Code,
    image: &Image,
    ahead: Option<&Image>,
) -> wasmtime::Result<()> {
    restore_memory(store, memory, code, image, ahead).await?;
    let by_index: HashMap<u32, &GlobalValue> = image
        .index()
        .globals
        .iter()
        .map(|global| (global.index, &global.value))
        .collect();
    for global in &code.globals {
        if let Some(value) = by_index.get(&global.index) {
            let found = instance.get_module_export(&mut *store, &global.export);
            let found = found.and_then(wasmtime::Extern::into_global);
            let found = found.ok_or_else(|| wasmtime::Error::msg("a global is missing"))?;
            found.set(&mut *store, value_of(value))?;
        }
    }
    store.data().clock().move_to(image.index().clock_ns);
    if let Some(place) = image.index().random {
        store.data_mut().go_on_at(place);
    }
    Ok(())
}

/// Puts the memory of an image where a fresh instance's is, or that of the image `ahead`, which is no
/// larger.
///
/// # Errors
///
/// When there is no room for it.
pub(crate) async fn restore_memory(
    store: &mut Store<Guest>,
    memory: Memory,
    code: &Code,
    image: &Image,
    ahead: Option<&Image>,
) -> wasmtime::Result<()> {
    let pages = u64::from(image.index().memory_pages);
    let missing = pages.saturating_sub(memory.size(&*store));
    if missing > 0 {
        memory.grow_async(&mut *store, missing).await?;
    }
    for some in differing(code, image, ahead).chunks(BLOCKS_AT_ONCE) {
        let data = memory.data_mut(&mut *store);
        for (number, block) in some {
            let address = *number as usize * BLOCK_BYTES;
            data[address..address + BLOCK_BYTES].copy_from_slice(&block[..]);
        }
        yield_now().await;
    }
    Ok(())
}

/// The blocks in which the memory of an image differs from that of another, or of a fresh instance.
fn differing<'a>(
    code: &'a Code,
    image: &'a Image,
    other: Option<&'a Image>,
) -> Vec<(u32, &'a Block)> {
    let Some(other) = other else {
        let blocks = image.blocks();
        return blocks
            .map(|(number, _, block)| (number, &**block))
            .collect();
    };
    let ids = |image: &'a Image| -> Vec<(u32, &'a BlockId)> {
        image.blocks().map(|(number, id, _)| (number, id)).collect()
    };
    let (here, there) = (ids(image), ids(other));
    let mut differing = Vec::new();
    let mut in_other = Ascending(&there);
    for (number, id, block) in image.blocks() {
        if in_other.at(number) != Some(&id) {
            differing.push((number, &**block));
        }
    }
    let mut in_image = Ascending(&here);
    let mut as_fresh = fresh_of(code).ascending();
    for (number, _) in &there {
        if in_image.at(*number).is_none() {
            let fresh = as_fresh.at(*number).map_or(&ZERO, |block| block);
            differing.push((*number, fresh));
        }
    }
    differing
}

fn fresh_of(code: &Code) -> &Fresh {
    let fresh = code.fresh.get();
    fresh.expect("noted when the first instance was made")
}

fn globals(store: &mut Store<Guest>, instance: Instance, code: &Code) -> Vec<GlobalValue> {
    let global = |export| {
        let found = instance.get_module_export(&mut *store, export);
        let found = found
            .and_then(wasmtime::Extern::into_global)
            .expect("the host has exported it itself");
        match found.get(&mut *store) {
            Val::I32(value) => GlobalValue::I32(value.cast_unsigned()),
            Val::I64(value) => GlobalValue::I64(value.cast_unsigned()),
            Val::F32(bits) => GlobalValue::F32(bits),
            Val::F64(bits) => GlobalValue::F64(bits),
            Val::V128(value) => GlobalValue::V128(value.as_u128()),
            _ => unreachable!("code with such a global has no image"),
        }
    };
    code.globals
        .iter()
        .map(|it| &it.export)
        .map(global)
        .collect()
}

fn value_of(value: &GlobalValue) -> Val {
    match *value {
        GlobalValue::I32(value) => Val::I32(value.cast_signed()),
        GlobalValue::I64(value) => Val::I64(value.cast_signed()),
        GlobalValue::F32(bits) => Val::F32(bits),
        GlobalValue::F64(bits) => Val::F64(bits),
        GlobalValue::V128(value) => Val::V128(value.into()),
    }
}
