//! Images of live instances: taken from memory and globals, and put back.

use std::collections::HashMap;
use std::ops::Range;

use spore_bundle::ImageError;
use spore_bundle::image::{
    BLOCK_BYTES, Block, Bound, Global, GlobalValue, HeldBlock, Image, Index, PART_BLOCKS, Random,
    Run, Taking, has_cores, in_halves,
};
use wasmtime::{Instance, Memory, Store, Val};

use crate::code::Code;
use crate::guest::Guest;
use crate::run::yield_now;

/// Blocks that are looked at before others get their turn: a time slice's worth of hashing.
const BLOCKS_AT_ONCE: usize = PART_BLOCKS as usize;

/// Parts that each of two threads looks at before others get their turn: a time slice's worth where most
/// blocks are as before. Where they are not, one thread looks at one part.
const PARTS_AT_ONCE: u32 = 4;

/// Parts that are taken much as they were before others get their turn: half a megabyte of ids.
const SAME_PARTS_AT_ONCE: u32 = 64;

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

    /// Those from this number on.
    fn ascending_from(&self, number: u32) -> Ascending<'_, Box<Block>> {
        let before = self.blocks.partition_point(|(it, _)| *it < number);
        Ascending(&self.blocks[before..])
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

/// Takes an image between two calls. Blocks that `last` has are not copied and hashed again; where the kernel
/// has noted what was written since, no others are looked at, and those that were written are.
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
    let written = {
        let (data, guest) = memory.data_and_store_mut(&mut *store);
        guest.writes.since(last, data)
    };
    let taking = match (&written, last) {
        (Some(written), Some(last)) => {
            let taking = take_written(store, memory, code, last, written).await;
            if cfg!(debug_assertions) {
                let all = take_all(store, memory, code, Some(last)).await;
                assert!(taking.is_as(&all), "the kernel has not told all writes");
            }
            taking
        }
        _ => take_all(store, memory, code, last).await,
    };
    let values = globals(store, instance, code);
    let changed = code.globals.iter().zip(values).zip(&fresh_of(code).globals);
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
    let image = taking.image(index)?;
    store.data_mut().writes.are_since(&image);
    Ok(image)
}

/// Takes all of a memory.
async fn take_all<'a>(
    store: &mut Store<Guest>,
    memory: Memory,
    code: &Code,
    last: Option<&'a Image>,
) -> Taking<'a> {
    let fresh = fresh_of(code);
    let mut taking = Taking::like(last);
    let parts = parts_of(memory.data(&*store));
    let (mut first, mut at_once) = (0, 1);
    while first < parts {
        let (data, _) = memory.data(&*store).as_chunks::<BLOCK_BYTES>();
        let behind = parts.min(first + at_once);
        let new_before = taking.new_blocks();
        take_parts(&mut taking, fresh, data, first..behind);
        let many_are_new = taking.new_blocks() - new_before > BLOCKS_AT_ONCE / 8;
        at_once = match many_are_new || !has_cores() {
            true => 1,
            false => 2 * PARTS_AT_ONCE,
        };
        first = behind;
        yield_now().await;
    }
    taking
}

/// Takes what was written of a memory, by the numbers of blocks, and the rest as the last image has it.
async fn take_written<'a>(
    store: &mut Store<Guest>,
    memory: Memory,
    code: &Code,
    last: &'a Image,
    written: &[u32],
) -> Taking<'a> {
    let mut held = Vec::with_capacity(written.len());
    let at_once = BLOCKS_AT_ONCE * (1 + usize::from(has_cores()));
    for some in written.chunks(at_once) {
        let (data, _) = memory.data(&*store).as_chunks::<BLOCK_BYTES>();
        held.extend(hold(fresh_of(code), data, some));
        yield_now().await;
    }
    let mut held = held.into_iter().peekable();
    let mut taking = Taking::like(Some(last));
    for part in 0..parts_of(memory.data(&*store)) {
        let blocks = || held.next_if(|(number, _)| number / PART_BLOCKS == part);
        taking.part_but(part, std::iter::from_fn(blocks));
        // Each costs little, but there may be thousands.
        if part % SAME_PARTS_AT_ONCE == SAME_PARTS_AT_ONCE - 1 {
            yield_now().await;
        }
    }
    taking
}

/// Copies and hashes those of these blocks that are otherwise than in a fresh instance: by two threads, if
/// there are many.
fn hold(fresh: &Fresh, data: &[Block], numbers: &[u32]) -> Vec<(u32, Option<HeldBlock>)> {
    let hold = |numbers: &[u32]| -> Vec<_> {
        let first = numbers.first().copied().unwrap_or_default();
        let mut as_fresh = fresh.ascending_from(first);
        let held = numbers.iter().map(|number| {
            let block = &data[*number as usize];
            let fresh = as_fresh.at(*number).map_or(&ZERO, |fresh| fresh);
            (*number, (block != fresh).then(|| HeldBlock::of(block)))
        });
        held.collect()
    };
    in_halves(numbers, hold)
}

/// How many parts a memory has.
fn parts_of(memory: &[u8]) -> u32 {
    memory.len().div_ceil(BLOCKS_AT_ONCE * BLOCK_BYTES) as u32
}

/// Takes parts of a memory: by two threads, if there are many. What costs time is that the memory is read.
fn take_parts(taking: &mut Taking<'_>, fresh: &Fresh, data: &[Block], parts: Range<u32>) {
    let look = |taking: &mut Taking<'_>, parts: Range<u32>| {
        let mut as_fresh = fresh.ascending_from(parts.start * PART_BLOCKS);
        for part in parts {
            let first = part as usize * BLOCKS_AT_ONCE;
            let blocks = &data[first..data.len().min(first + BLOCKS_AT_ONCE)];
            let changed = (first as u32..).zip(blocks).filter(|(number, block)| {
                let fresh = as_fresh.at(*number).map_or(&ZERO, |fresh| fresh);
                *block != fresh
            });
            taking.part(part, changed);
        }
    };
    if parts.len() <= PARTS_AT_ONCE as usize {
        return look(taking, parts);
    }
    let middle = parts.start + PARTS_AT_ONCE;
    let mut later = taking.of_later_parts();
    let is_taken = std::thread::scope(|threads| {
        let beside = || look(&mut later, middle..parts.end);
        let beside = std::thread::Builder::new().spawn_scoped(threads, beside);
        look(taking, parts.start..middle);
        beside.is_ok()
    });
    match is_taken {
        true => taking.append(later),
        // There is no other thread to be had.
        false => look(taking, middle..parts.end),
    }
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
    let mut as_fresh = fresh_of(code).ascending();
    let differing = image.differing(other).into_iter();
    let differing = differing.map(|(number, block)| {
        let fresh = || as_fresh.at(number).map_or(&ZERO, |block| block);
        (number, block.map_or_else(fresh, |(_, block)| block))
    });
    differing.collect()
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
