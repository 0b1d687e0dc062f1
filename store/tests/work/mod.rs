//! Random work on a store, and what it is to hold after it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use spore_store::{
    BLOCK_BYTES, Block, BlockId, ImageToSave, Key, Kind, Owner, Record as Stored, Save, SaveError,
    Store, When,
};

/// Of a block it is enough to know from which number it is made.
pub(crate) type BlockNumber = u16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) meta: Vec<u8>,
    /// Index and blocks.
    pub(crate) image: Option<(Vec<u8>, Vec<BlockNumber>)>,
}

/// What a store is to hold.
pub(crate) type Model = BTreeMap<Key, Record>;

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Of one owner, together.
    Save(Vec<(Key, Record)>),
    /// Only the `meta`, when it is as before.
    Note(Key, Vec<u8>),
    DropImage(Key),
    Remove(Key),
    Compact,
}

/// Numbers that a seed decides.
pub(crate) struct Chance {
    state: u64,
    /// Whose records the work is on.
    owners: Range<u8>,
}

impl Chance {
    pub(crate) fn new(seed: u64, owners: Range<u8>) -> Chance {
        Chance {
            state: seed,
            owners,
        }
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn key(&mut self) -> Key {
        let owner = self.owners.start + self.below(self.owners.len() as u64) as u8;
        Key {
            owner: Owner([owner; 32]),
            kind: Kind(self.below(2) as u8),
            id: [self.below(2) as u8; 16],
        }
    }

    fn meta(&mut self) -> Vec<u8> {
        let bytes = [0, 5, 300, 9000][self.below(4) as usize];
        vec![self.below(256) as u8; bytes]
    }

    pub(crate) fn work(&mut self) -> Work {
        let key = self.key();
        match self.below(16) {
            0..8 => {
                let mut records = vec![(key, self.record())];
                // With another of the same owner.
                if self.below(3) == 0 {
                    let id = [2; 16];
                    records.push((Key { id, ..key }, self.record()));
                }
                Work::Save(records)
            }
            8..11 => Work::Note(key, self.meta()),
            11 => Work::DropImage(key),
            12..14 => Work::Remove(key),
            _ => Work::Compact,
        }
    }

    fn record(&mut self) -> Record {
        let index = vec![self.below(256) as u8; self.below(400) as usize];
        // From few, so that images share blocks, and packs live on in parts.
        let count = [0, 3, 12, 40][self.below(4) as usize];
        let blocks: BTreeSet<_> = (0..count).map(|_| self.below(60) as u16).collect();
        let image = Some((index, blocks.into_iter().collect()));
        let meta = self.meta();
        Record { meta, image }
    }
}

pub(crate) fn block(number: BlockNumber) -> Block {
    let mut block = [number as u8; BLOCK_BYTES];
    block[1..3].copy_from_slice(&number.to_le_bytes());
    block
}

fn save(store: &Store, records: &[(Key, Record)]) -> Result<(), SaveError> {
    let images = records.iter().map(|(_, record)| {
        let (index, numbers) = record.image.as_ref().expect("it is made with one");
        let blocks: Vec<Block> = numbers.iter().copied().map(block).collect();
        let ids: Vec<BlockId> = blocks.iter().map(BlockId::of).collect();
        (index, ids, blocks)
    });
    let images: Vec<_> = images.collect();
    let blocks = images.iter().map(|(_, _, blocks)| |at| blocks.get(at));
    let blocks: Vec<_> = blocks.collect();
    let saves = records.iter().zip(&images).zip(&blocks);
    let saves = saves.map(|(((key, record), (index, ids, _)), block)| {
        let image = ImageToSave { index, ids, block };
        (*key, Save::meta(&record.meta), image)
    });
    let saves: Vec<_> = saves.collect();
    match &saves[..] {
        [(key, save, image)] => store.save(key, &save.with_image(*image))?,
        [(key, ..), ..] => store.save_all(&key.owner, &saves)?,
        [] => unreachable!("at least one is saved"),
    };
    Ok(())
}

/// Does a piece of work on a store, and says what is to be there after it.
pub(crate) fn work(store: &Store, model: &Model, work: &Work) -> Result<Model, SaveError> {
    let mut after = model.clone();
    match work {
        Work::Save(records) => {
            save(store, records)?;
            after.extend(records.iter().cloned());
        }
        Work::Note(key, meta) => {
            let old = after.entry(*key).or_insert(Record {
                meta: Vec::new(),
                image: None,
            });
            let when = match model.get(key) {
                Some(record) => When::MetaIs(&record.meta),
                None => When::New,
            };
            store.save(key, &Save::meta(meta).when(when))?;
            old.meta = meta.clone();
        }
        Work::DropImage(key) => {
            if let Some(record) = after.get_mut(key) {
                store.save(key, &Save::meta(&record.meta).without_image())?;
                record.image = None;
            }
        }
        Work::Remove(key) => {
            let was_there = store.remove(key)?;
            assert_eq!(was_there, after.remove(key).is_some());
        }
        Work::Compact => {
            store.compact()?;
        }
    }
    Ok(after)
}

/// What the model is after a piece of work that succeeds.
pub(crate) fn imagined(model: &Model, work: &Work) -> Model {
    let mut after = model.clone();
    match work {
        Work::Save(records) => after.extend(records.iter().cloned()),
        Work::Note(key, meta) => {
            let image = model.get(key).and_then(|record| record.image.clone());
            let meta = meta.clone();
            after.insert(*key, Record { meta, image });
        }
        Work::DropImage(key) => {
            if let Some(record) = after.get_mut(key) {
                record.image = None;
            }
        }
        Work::Remove(key) => {
            after.remove(key);
        }
        Work::Compact => {}
    }
    after
}

/// Reads all that a store holds for an owner, or for all, every block of it.
pub(crate) fn contents(store: &Store, owner: Option<Owner>) -> Model {
    let list = store.list(owner, None).expect("the records are readable");
    let read = |(key, record): (Key, Stored)| {
        let image = store.image(&key).expect("the image is readable");
        assert_eq!(image.is_some(), record.has_image);
        let image = image.map(|image| {
            let mut numbers = vec![0; image.ids().len()];
            let read = image.read(0..numbers.len(), |at, bytes| {
                numbers[at] = u16::from_le_bytes([bytes[1], bytes[2]]);
                assert_eq!(*bytes, block(numbers[at]));
            });
            read.expect("every block is readable");
            (image.index().to_vec(), numbers)
        });
        let meta = record.meta;
        (key, Record { meta, image })
    };
    list.into_iter().map(read).collect()
}
