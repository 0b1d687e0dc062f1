//! Random work on a disk that loses power at every step, runs out of space, or fails to sync.
//!
//! Whatever was acknowledged is there and whole, and what was under way is there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spore_store::disk::Disk;
use spore_store::disk::faults::{Failure, FaultyDisk};
use spore_store::{
    BLOCK_BYTES, Block, BlockId, ImageToSave, Key, Kind, Owner, Save, SaveError, Store, Usage, When,
};

const ROOM: u64 = 1 << 30;

/// Of a block it is enough to know from which number it is made.
type BlockNumber = u16;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    meta: Vec<u8>,
    /// Index and blocks.
    image: Option<(Vec<u8>, Vec<BlockNumber>)>,
}

/// What a store is to hold.
type Model = BTreeMap<Key, Record>;

#[derive(Clone, Debug)]
enum Work {
    Save(Key, Record),
    /// Only the `meta`, when it is as before.
    Note(Key, Vec<u8>),
    DropImage(Key),
    Remove(Key),
    Compact,
}

/// Numbers that a seed decides.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn key(&mut self) -> Key {
        Key {
            owner: Owner([self.below(2) as u8; 32]),
            kind: Kind(self.below(2) as u8),
            id: [self.below(2) as u8; 16],
        }
    }

    fn meta(&mut self) -> Vec<u8> {
        let bytes = [0, 5, 300, 9000][self.below(4) as usize];
        vec![self.below(256) as u8; bytes]
    }

    fn work(&mut self) -> Work {
        let key = self.key();
        match self.below(16) {
            0..8 => {
                let index = vec![self.below(256) as u8; self.below(400) as usize];
                // From few, so that images share blocks, and packs live on in parts.
                let count = [0, 3, 12, 40][self.below(4) as usize];
                let blocks: BTreeSet<_> = (0..count).map(|_| self.below(60) as u16).collect();
                let image = Some((index, blocks.into_iter().collect()));
                let meta = self.meta();
                Work::Save(key, Record { meta, image })
            }
            8..11 => Work::Note(key, self.meta()),
            11 => Work::DropImage(key),
            12..14 => Work::Remove(key),
            _ => Work::Compact,
        }
    }
}

fn block(number: BlockNumber) -> Block {
    let mut block = [number as u8; BLOCK_BYTES];
    block[1..3].copy_from_slice(&number.to_le_bytes());
    block
}

fn save(store: &Store, key: &Key, record: &Record) -> Result<(), SaveError> {
    let save = Save::meta(&record.meta);
    let Some((index, numbers)) = &record.image else {
        store.save(key, &save.without_image())?;
        return Ok(());
    };
    let blocks: Vec<Block> = numbers.iter().copied().map(block).collect();
    let ids: Vec<BlockId> = blocks.iter().map(BlockId::of).collect();
    let image = ImageToSave {
        index,
        ids: &ids,
        block: &|at| blocks.get(at),
    };
    store.save(key, &save.with_image(image))?;
    Ok(())
}

/// Does a piece of work on a store, and says what is to be there after it.
fn work(store: &Store, model: &Model, work: &Work) -> Result<Model, SaveError> {
    let mut after = model.clone();
    match work {
        Work::Save(key, record) => {
            save(store, key, record)?;
            after.insert(*key, record.clone());
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
fn imagined(model: &Model, work: &Work) -> Model {
    let mut after = model.clone();
    match work {
        Work::Save(key, record) => {
            after.insert(*key, record.clone());
        }
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

/// Reads all that a store holds, every block of it.
fn contents(store: &Store) -> Model {
    let list = store.list(None, None).expect("the records are readable");
    let read = |(key, record): (Key, spore_store::Record)| {
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

/// Holds what a store says of itself, and its files, against what it holds.
fn check_accounts(store: &Store, disk: &FaultyDisk, model: &Model) {
    let owners: BTreeSet<Owner> = model.keys().map(|key| key.owner).collect();
    for owner in owners {
        let mut expected = Usage::default();
        let mut blocks: BTreeSet<BlockNumber> = BTreeSet::new();
        for record in model
            .iter()
            .filter(|(key, _)| key.owner == owner)
            .map(|it| it.1)
        {
            expected.records += 1;
            expected.meta_bytes += record.meta.len() as u64;
            if let Some((index, numbers)) = &record.image {
                expected.image_bytes += (index.len() + 32 * numbers.len()) as u64;
                blocks.extend(numbers);
            }
        }
        expected.image_bytes += (blocks.len() * BLOCK_BYTES) as u64;
        assert_eq!(store.usage(&owner).unwrap(), expected);
    }
    let totals = store.totals().unwrap();
    let files = disk.list("packs").unwrap();
    assert_eq!(files.len() as u64, totals.packs, "{files:?}");
    let files = files
        .iter()
        .map(|name| disk.bytes(&format!("packs/{name}")).unwrap());
    let pack_bytes: usize = files.map(|bytes| bytes.len()).sum();
    let meta_bytes: usize = model.values().map(|record| record.meta.len()).sum();
    assert_eq!(totals.bytes, (pack_bytes + meta_bytes) as u64);
}

fn open(disk: &FaultyDisk) -> Store {
    Store::open_on(Arc::new(disk.clone()), ROOM).expect("the store opens")
}

/// A run of work without faults: after each piece the number of steps, and what is to be there.
struct Run {
    disk: FaultyDisk,
    opened: usize,
    works: Vec<(Work, usize, Model)>,
}

fn run(seed: u64, count: usize) -> Run {
    let mut chance = Chance(seed);
    let disk = FaultyDisk::new(seed);
    let store = open(&disk);
    let opened = disk.steps();
    let mut works: Vec<(Work, usize, Model)> = Vec::new();
    for _ in 0..count {
        let next = chance.work();
        let before = works.last().map(|it| it.2.clone()).unwrap_or_default();
        let after = work(&store, &before, &next).unwrap();
        works.push((next, disk.steps(), after));
    }
    assert_eq!(contents(&store), works.last().unwrap().2);
    check_accounts(&store, &disk, &works.last().unwrap().2);
    drop(store);
    Run {
        disk,
        opened,
        works,
    }
}

impl Run {
    /// What may be there when power is lost after so many steps: the state that was acknowledged
    /// last, and the one that was on its way.
    fn states_at(&self, steps: usize) -> (Model, Model) {
        let done = self.works.iter().take_while(|(_, end, _)| *end <= steps);
        let done = done.count();
        let acknowledged = match done {
            0 => Model::new(),
            done => self.works[done - 1].2.clone(),
        };
        let next = match self.works.get(done) {
            Some((work, ..)) if steps > self.opened => imagined(&acknowledged, work),
            _ => acknowledged.clone(),
        };
        (acknowledged, next)
    }
}

#[test]
fn power_is_lost_at_every_step() {
    let (mut crashes, mut again, mut pending, mut landed) = (0, 0, 0, 0);
    for seed in 0..4 {
        let run = run(seed, 14);
        for steps in 0..=run.disk.steps() {
            for outcome in [0, 1, 2 + steps as u64] {
                let context = format!("run {seed}, step {steps}, outcome {outcome}");
                let disk = run.disk.crash(steps, outcome);
                let store = open(&disk);
                let (acknowledged, next) = run.states_at(steps);
                let found = contents(&store);
                assert!(
                    found == acknowledged || found == next,
                    "{context}: {found:#?}"
                );
                check_accounts(&store, &disk, &found);
                crashes += 1;
                pending += usize::from(acknowledged != next);
                landed += usize::from(acknowledged != next && found == next);

                // What was seen once stays, also when power is lost while the store is opened or
                // closed; and the store works.
                let extra = Chance(outcome).work();
                let after = work(&store, &found, &extra).unwrap();
                let steps = disk.steps();
                drop(store);
                if outcome < 2 {
                    continue;
                }
                for crash in [steps / 3, steps / 2, steps * 2 / 3, steps, disk.steps()] {
                    let disk = disk.crash(crash, outcome);
                    let store = open(&disk);
                    let now = contents(&store);
                    match crash < steps {
                        true => assert!(now == found || now == after, "{context}, then {crash}"),
                        false => assert!(now == after, "{context}, then {crash}"),
                    }
                    again += 1;
                }
            }
        }
    }
    println!(
        "{crashes} crashes, {again} more after them; of {pending} works under way {landed} were done"
    );
    assert!(landed > 0 && landed < pending);
}

#[test]
fn space_runs_out_at_every_step() {
    let (mut refused, mut done, mut unsure) = (0, 0, 0);
    for (seed, failing) in [(10, 1), (11, 3), (12, 40)] {
        let calm = run(seed, 12);
        for from in calm.opened..calm.works.last().unwrap().1 {
            let disk = FaultyDisk::new(seed + from as u64);
            let store = open(&disk);
            disk.fail(Failure::NoSpace, from, failing);
            let mut model = Model::new();
            for (next, ..) in &calm.works {
                match work(&store, &model, next) {
                    Ok(after) => {
                        model = after;
                        done += 1;
                    }
                    Err(SaveError::Disk(error)) => {
                        assert!(error.is_no_space(), "{error:?}");
                        refused += 1;
                        disk.recover();
                        let found = contents(&store);
                        if found != model {
                            assert_eq!(found, imagined(&model, next));
                            unsure += 1;
                            model = found;
                        }
                        check_accounts(&store, &disk, &model);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(contents(&store), model);
            let crashed = disk.crash(disk.steps(), from as u64);
            assert_eq!(contents(&open(&crashed)), model, "run {seed}, step {from}");
        }
    }
    println!("{refused} works found no space, {done} were done, {unsure} were done and refused");
    assert!(refused > 100);
}

#[test]
fn syncs_fail_at_every_step() {
    let (mut refused, mut crashes) = (0, 0);
    for seed in [20, 21] {
        let calm = run(seed, 12);
        for from in calm.opened..calm.works.last().unwrap().1 {
            let disk = FaultyDisk::new(seed);
            let store = open(&disk);
            disk.fail(Failure::Sync, from, 1);
            let mut model = Model::new();
            let mut maybe = None;
            for (next, ..) in &calm.works {
                match work(&store, &model, next) {
                    Ok(after) => model = after,
                    Err(_) => {
                        refused += 1;
                        // When the database is in doubt, all that follows is refused too.
                        if maybe.is_none() {
                            maybe = Some(imagined(&model, next));
                        }
                        if store.load(&calm_key()).is_err() {
                            break;
                        }
                        maybe = None;
                    }
                }
            }
            for outcome in 0..4 {
                let crashed = disk.crash(disk.steps(), outcome);
                let found = contents(&open(&crashed));
                let expected = found == model || Some(&found) == maybe.as_ref();
                assert!(expected, "run {seed}, step {from}, outcome {outcome}");
                crashes += 1;
            }
        }
    }
    println!("{refused} works were refused for a failed sync, {crashes} crashes after them");
    assert!(refused > 20);
}

fn calm_key() -> Key {
    Chance(0).key()
}
