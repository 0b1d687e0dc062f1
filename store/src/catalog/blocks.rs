//! The blocks of an owner: which there are, where they lie, and how many images have each.

use std::collections::{HashMap, HashSet};

use crate::names::BlockId;
use crate::pack::PackNumber;

/// The number of a block, as long as something holds it.
pub(crate) type SlotNumber = u32;

/// What is known of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) id: BlockId,
    /// Zero when it is in no pack that can be read.
    pack: u64,
    position: u32,
    /// Images that have it, and calls that are about to save one.
    pub(crate) holders: u32,
}

impl Slot {
    /// Its pack and its position there; nothing when no pack has it.
    pub(crate) fn at(&self) -> Option<(PackNumber, u32)> {
        (self.pack != 0).then_some((PackNumber(self.pack), self.position))
    }
}

/// Blocks by number and by id. Images keep the numbers, an eighth of the ids.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    slots: Vec<Slot>,
    free: Vec<SlotNumber>,
    by_id: HashMap<BlockId, SlotNumber>,
    missing: usize,
    /// Packs in which bytes of a block were found to be others. Their number is never used again, so
    /// that one which has gone matters to nobody.
    damaged: HashSet<u64>,
}

impl Blocks {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many are in no pack.
    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    pub(crate) fn find(&self, id: &BlockId) -> Option<SlotNumber> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn slot(&self, number: SlotNumber) -> Slot {
        self.slots[number as usize]
    }

    /// Whether the block can be read, as far as is known: what has spoilt one block of a pack may have
    /// spoilt others.
    pub(crate) fn is_good(&self, number: SlotNumber) -> bool {
        let pack = self.slot(number).pack;
        pack != 0 && !self.damaged.contains(&pack)
    }

    /// Whether nothing is known of damage.
    pub(crate) fn all_are_good(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether nothing is known of damage in this pack.
    pub(crate) fn is_good_pack(&self, pack: PackNumber) -> bool {
        !self.damaged.contains(&pack.0)
    }

    /// Whether there is a block of this id that can be read, as far as is known.
    pub(crate) fn has_good(&self, id: &BlockId) -> bool {
        self.find(id).is_some_and(|number| self.is_good(number))
    }

    /// Adds a block that is not there, held once and in no pack.
    pub(crate) fn insert(&mut self, id: BlockId) -> SlotNumber {
        let slot = Slot {
            id,
            pack: 0,
            position: 0,
            holders: 1,
        };
        self.missing += 1;
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as SlotNumber
            }
        };
        self.by_id.insert(id, number);
        number
    }

    pub(crate) fn hold(&mut self, number: SlotNumber) {
        self.slots[number as usize].holders += 1;
    }

    /// Lets go of a block once. When nothing holds it any more it is forgotten, and this says where
    /// it was.
    pub(crate) fn let_go(&mut self, number: SlotNumber) -> Option<Option<(PackNumber, u32)>> {
        let slot = &mut self.slots[number as usize];
        slot.holders -= 1;
        if slot.holders > 0 {
            return None;
        }
        let (id, at) = (slot.id, slot.at());
        self.missing -= usize::from(at.is_none());
        self.by_id.remove(&id);
        self.free.push(number);
        Some(at)
    }

    /// Notes where good bytes of the block lie.
    pub(crate) fn put_at(&mut self, number: SlotNumber, pack: PackNumber, position: u32) {
        let slot = &mut self.slots[number as usize];
        self.missing -= usize::from(slot.pack == 0);
        slot.pack = pack.0;
        slot.position = position;
    }

    /// Notes that a block's bytes in this pack are others. What is saved again of the pack is written
    /// again.
    pub(crate) fn note_damage(&mut self, pack: PackNumber) {
        self.damaged.insert(pack.0);
    }
}
