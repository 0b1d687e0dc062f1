//! Random work on a disk that loses power at every step, runs out of space, or fails to sync.
//!
//! Whatever was acknowledged is there and whole, and what was under way is there or not.

mod work;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use spore_store::disk::Disk;
use spore_store::disk::faults::{Failure, FaultyDisk};
use spore_store::{
    BLOCK_BYTES, Block, BlockId, ImageToSave, Key, Kind, Owner, Save, SaveError, Store, Usage,
};

use work::{BlockNumber, Chance, Model, Work, block, contents, imagined, work};

const ROOM: u64 = 1 << 30;

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
    let mut chance = Chance::new(seed, 0..2);
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
    assert_eq!(contents(&store, None), works.last().unwrap().2);
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
                let found = contents(&store, None);
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
                let extra = Chance::new(outcome, 0..2).work();
                let after = work(&store, &found, &extra).unwrap();
                let steps = disk.steps();
                drop(store);
                if outcome < 2 {
                    continue;
                }
                for crash in [steps / 3, steps / 2, steps * 2 / 3, steps, disk.steps()] {
                    let disk = disk.crash(crash, outcome);
                    let store = open(&disk);
                    let now = contents(&store, None);
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
                        let found = contents(&store, None);
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
            assert_eq!(contents(&store, None), model);
            let crashed = disk.crash(disk.steps(), from as u64);
            assert_eq!(
                contents(&open(&crashed), None),
                model,
                "run {seed}, step {from}"
            );
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
                        if store.totals().is_err() {
                            break;
                        }
                        maybe = None;
                    }
                }
            }
            for outcome in 0..4 {
                let crashed = disk.crash(disk.steps(), outcome);
                let found = contents(&open(&crashed), None);
                let expected = found == model || Some(&found) == maybe.as_ref();
                assert!(expected, "run {seed}, step {from}, outcome {outcome}");
                crashes += 1;
            }
        }
    }
    println!("{refused} works were refused for a failed sync, {crashes} crashes after them");
    assert!(refused > 20);
}

/// The database is opened again when a transaction fails. A save that has begun before must not go by
/// what it then knew.
#[test]
fn a_save_outlives_the_failure_of_another() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    let key = |id| Key {
        owner: Owner([1; 32]),
        kind: Kind(1),
        id: [id; 16],
    };
    let blocks: Vec<Block> = (0..10).map(block).collect();
    let ids: Vec<BlockId> = blocks.iter().map(BlockId::of).collect();
    let image = ImageToSave {
        index: b"",
        ids: &ids[..9],
        block: &|at| blocks.get(at),
    };
    store
        .save(&key(1), &Save::meta(b"").with_image(image))
        .unwrap();
    let asked = Cell::new(0);
    let fail_another = |at: usize| {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            disk.fail(Failure::NoSpace, disk.steps(), 1);
            let failed = store.save(&key(2), &Save::meta(&[0; 60_000]));
            assert!(matches!(failed, Err(SaveError::Disk(error)) if error.is_no_space()));
            disk.recover();
        }
        blocks.get(at)
    };
    let image = ImageToSave {
        ids: &ids,
        block: &fail_another,
        ..image
    };
    store
        .save(&key(3), &Save::meta(b"").with_image(image))
        .unwrap();
    assert_eq!(asked.get(), 2, "it began again");
    // Nothing but the last save holds the blocks of the first now.
    store.remove(&key(1)).unwrap();
    let found = contents(&store, None);
    assert_eq!(
        found[&key(3)].image.as_ref().unwrap().1,
        (0..10).collect::<Vec<_>>()
    );
    check_accounts(&store, &disk, &found);
}
