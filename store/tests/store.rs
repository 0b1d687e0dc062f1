//! A store on the system's own disk.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use spore_store::{
    BLOCK_BYTES, Block, BlockId, COMPACT_BYTES, ImageToSave, Key, Kind, META_BYTES_MAX, OpenError,
    Owner, Quota, ReadError, Save, SaveError, Saved, Store, Usage, When,
};

const SESSION: Kind = Kind(1);
const JOB: Kind = Kind(2);
const ROOM: u64 = 1 << 30;

fn key(owner: u8, id: u8) -> Key {
    Key {
        owner: Owner([owner; 32]),
        kind: SESSION,
        id: [id; 16],
    }
}

/// A memory whose blocks say which they are and in what version.
fn memory(blocks: impl IntoIterator<Item = (u32, u32)>) -> Vec<Block> {
    let block = |(number, version): (u32, u32)| {
        let mut block = [version as u8; BLOCK_BYTES];
        block[..4].copy_from_slice(&number.to_le_bytes());
        block[4..8].copy_from_slice(&version.to_le_bytes());
        block
    };
    blocks.into_iter().map(block).collect()
}

fn ids(memory: &[Block]) -> Vec<BlockId> {
    memory.iter().map(BlockId::of).collect()
}

fn save(store: &Store, key: &Key, memory: &[Block]) -> Result<Saved, SaveError> {
    let image = ImageToSave {
        index: b"index",
        ids: &ids(memory),
        block: &|at| memory.get(at),
    };
    store.save(key, &Save::meta(b"saved").with_image(image))
}

fn read(store: &Store, key: &Key) -> Result<Vec<Block>, ReadError> {
    let image = store.image(key)?.expect("the record has an image");
    let mut memory = vec![[0; BLOCK_BYTES]; image.ids().len()];
    image.read(0..image.ids().len(), |at, block| memory[at] = *block)?;
    assert_eq!(image.index(), b"index");
    Ok(memory)
}

fn packs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("packs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let large = memory((0..2000).map(|number| (number, 1)));
    {
        let store = Store::open(folder.path(), ROOM).unwrap();
        save(&store, &key(1, 1), &large).unwrap();
        save(&store, &key(1, 2), &large[..10]).unwrap();
        store.save(&key(2, 1), &Save::meta(b"no image")).unwrap();
        assert_eq!(read(&store, &key(1, 1)).unwrap(), large);
    }
    let store = Store::open(folder.path(), ROOM).unwrap();
    assert_eq!(read(&store, &key(1, 1)).unwrap(), large);
    assert_eq!(read(&store, &key(1, 2)).unwrap(), large[..10]);
    let record = store.load(&key(2, 1)).unwrap().unwrap();
    assert_eq!(
        (&record.meta[..], record.has_image),
        (&b"no image"[..], false)
    );
    assert!(store.image(&key(2, 1)).unwrap().is_none());
    assert!(store.load(&key(2, 2)).unwrap().is_none());
    assert!(store.image(&key(3, 1)).unwrap().is_none());
}

#[test]
fn only_changed_blocks_are_written_and_the_rest_goes_with_the_last_that_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let one = memory((0..100).map(|number| (number, 1)));
    assert_eq!(save(&store, &key(1, 1), &one).unwrap().new_blocks, 100);
    assert_eq!(save(&store, &key(1, 1), &one).unwrap().new_blocks, 0);
    let two = memory((0..100).map(|number| (number, 1 + u32::from(number < 3))));
    assert_eq!(save(&store, &key(1, 1), &two).unwrap().new_blocks, 3);
    // A copy shares everything, and another owner nothing.
    assert_eq!(save(&store, &key(1, 2), &two).unwrap().new_blocks, 0);
    assert_eq!(save(&store, &key(2, 1), &two).unwrap().new_blocks, 100);
    let owner = Owner([1; 32]);
    let other = memory([(7, 7)]);
    assert_eq!(store.lacking(&owner, &ids(&two)).unwrap(), []);
    assert_eq!(store.lacking(&owner, &ids(&other)).unwrap(), [0]);
    assert_eq!(store.lacking(&owner, &ids(&one[..4])).unwrap(), [0, 1, 2]);

    assert!(store.remove(&key(1, 1)).unwrap());
    assert!(!store.remove(&key(1, 1)).unwrap());
    assert_eq!(read(&store, &key(1, 2)).unwrap(), two);
    assert!(store.remove(&key(1, 2)).unwrap());
    assert_eq!(packs(folder.path()).len(), 1);
    assert!(store.remove(&key(2, 1)).unwrap());
    assert_eq!(packs(folder.path()), [""; 0]);
    assert_eq!(store.totals().unwrap(), Default::default());
}

#[test]
fn an_image_is_the_same_whatever_other_it_is_like() {
    let of = |numbers: &[(u32, u32)]| memory(numbers.iter().copied());
    let before: Vec<_> = (0..1500).map(|number| (number, 1)).collect();
    let changed = |change: fn(&mut Vec<(u32, u32)>)| {
        let mut after = before.clone();
        change(&mut after);
        after
    };
    let cases = [
        changed(|_| {}),
        changed(|after| after[100..400].iter_mut().for_each(|block| block.1 = 2)),
        changed(|after| drop(after.drain(700..1400))),
        changed(|after| drop(after.splice(10..10, (0..600).map(|number| (number, 3))))),
        changed(|after| after.rotate_left(333)),
        changed(|after| after.reverse()),
        changed(Vec::clear),
    ];
    for (number, after) in cases.iter().enumerate() {
        let known: std::collections::HashSet<_> = before.iter().collect();
        let new = after.iter().filter(|block| !known.contains(block)).count();
        let after = of(after);
        // Like the one that has most of it, like itself, and like none.
        for like in [key(1, 1), key(1, 2), key(1, 9)] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), ROOM).unwrap();
            save(&store, &key(1, 1), &of(&before)).unwrap();
            let image = ImageToSave {
                index: b"index",
                ids: &ids(&after),
                block: &|at| after.get(at),
            };
            let save = Save::meta(b"saved").with_image(image).like(&like);
            let saved = store.save(&key(1, 2), &save).unwrap();
            assert_eq!(saved.new_blocks, new, "case {number}");
            store.remove(&key(1, 1)).unwrap();
            assert_eq!(read(&store, &key(1, 2)).unwrap(), after, "case {number}");
            let blocks = (after.len() * BLOCK_BYTES) as u64;
            let usage = store.usage(&Owner([1; 32])).unwrap();
            assert_eq!(usage.image_bytes, blocks + 5 + 32 * after.len() as u64);
        }
    }
}

#[test]
fn an_image_that_is_being_read_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let one = memory((0..10).map(|number| (number, 1)));
    save(&store, &key(1, 1), &one).unwrap();
    let image = store.image(&key(1, 1)).unwrap().unwrap();
    store.remove(&key(1, 1)).unwrap();
    assert_eq!(packs(folder.path()).len(), 1);
    let mut seen = 0;
    image
        .read([9, 3], |at, block| {
            assert_eq!(*block, one[at]);
            seen += 1;
        })
        .unwrap();
    assert_eq!(seen, 2);
    drop(image);
    assert_eq!(packs(folder.path()), [""; 0]);
}

#[test]
fn a_record_changes_only_when_it_is_as_expected() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let key = key(1, 1);
    let when = |meta, when| store.save(&key, &Save::meta(meta).when(when));
    assert!(matches!(
        when(b"a", When::MetaIs(b"")),
        Err(SaveError::Changed)
    ));
    when(b"a", When::New).unwrap();
    assert!(matches!(when(b"b", When::New), Err(SaveError::Changed)));
    assert!(matches!(
        when(b"b", When::MetaIs(b"c")),
        Err(SaveError::Changed)
    ));
    assert_eq!(store.load(&key).unwrap().unwrap().meta, b"a");
    when(b"b", When::MetaIs(b"a")).unwrap();
    assert_eq!(store.load(&key).unwrap().unwrap().meta, b"b");
}

#[test]
fn the_image_stays_goes_or_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let one = memory([(0, 1), (1, 1)]);
    save(&store, &key(1, 1), &one).unwrap();
    store.save(&key(1, 1), &Save::meta(b"paused")).unwrap();
    assert_eq!(read(&store, &key(1, 1)).unwrap(), one);
    let done = Save::meta(b"done").without_image();
    store.save(&key(1, 1), &done).unwrap();
    assert!(store.image(&key(1, 1)).unwrap().is_none());
    assert_eq!(packs(folder.path()), [""; 0]);
}

#[test]
fn records_are_listed_by_owner_and_kind() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let job = |owner, id| Key {
        kind: JOB,
        ..key(owner, id)
    };
    for key in [key(1, 2), job(1, 1), key(1, 1), key(2, 1), job(255, 1)] {
        store.save(&key, &Save::meta(&key.id[..1])).unwrap();
    }
    let keys = |owner: Option<u8>, kind| {
        let owner = owner.map(|owner| Owner([owner; 32]));
        let list = store.list(owner, kind).unwrap();
        list.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys(Some(1), None), [key(1, 1), key(1, 2), job(1, 1)]);
    assert_eq!(keys(Some(1), Some(SESSION)), [key(1, 1), key(1, 2)]);
    assert_eq!(keys(Some(255), Some(JOB)), [job(255, 1)]);
    assert_eq!(keys(None, Some(JOB)), [job(1, 1), job(255, 1)]);
    assert_eq!(keys(Some(3), None), []);
    assert_eq!(keys(None, None).len(), 5);
}

#[test]
fn what_an_owner_keeps_is_counted_once_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let one = memory((0..10).map(|number| (number, 1)));
    save(&store, &key(1, 1), &one).unwrap();
    save(&store, &key(1, 2), &one[..5]).unwrap();
    let expected = Usage {
        records: 2,
        meta_bytes: 2 * 5,
        image_bytes: 10 * 4096 + (5 + 10 * 32) + (5 + 5 * 32),
    };
    let owner = Owner([1; 32]);
    assert_eq!(store.usage(&owner).unwrap(), expected);

    let quota = Quota {
        records_max: 2,
        bytes_max: expected.bytes(),
    };
    let try_save = |key: &Key, memory: &[Block]| {
        let image = ImageToSave {
            index: b"index",
            ids: &ids(memory),
            block: &|at| memory.get(at),
        };
        store.save(key, &Save::meta(b"saved").with_image(image).within(quota))
    };
    // The same amount in the place of what is there fits, and a block more does not.
    let two = memory((0..10).map(|number| (number, u32::from(number >= 5))));
    let after = match try_save(&key(1, 1), &two) {
        Err(SaveError::Quota { after, .. }) => after,
        other => panic!("{other:?}"),
    };
    // Half of the old image stays for the other record.
    assert_eq!(after.bytes(), expected.bytes() + 5 * 4096);
    assert_eq!(read(&store, &key(1, 1)).unwrap(), one);
    let two = memory((0..10).map(|number| (number, 1 + u32::from(number >= 5))));
    try_save(&key(1, 1), &two).unwrap();
    assert_eq!(store.usage(&owner).unwrap(), expected);
    assert!(matches!(
        store.save(&key(1, 3), &Save::meta(b"").within(quota)),
        Err(SaveError::Quota { after, .. }) if after.records == 3
    ));
    // What is to be noted about a record that is there is never refused.
    let long = [0; 1000];
    store
        .save(&key(1, 1), &Save::meta(&long).within(quota))
        .unwrap();
}

#[test]
fn records_are_saved_together_if_they_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let (one, two) = (memory([(1, 1), (2, 1)]), memory([(2, 1), (3, 1)]));
    let (one_ids, two_ids) = (ids(&one), ids(&two));
    let owner = Owner([1; 32]);
    let save_both = |bytes_max| {
        let quota = Quota {
            records_max: 2,
            bytes_max,
        };
        let one = ImageToSave {
            index: b"index",
            ids: &one_ids,
            block: &|at| one.get(at),
        };
        let two = ImageToSave {
            index: b"index",
            ids: &two_ids,
            block: &|at| two.get(at),
        };
        let save = Save::meta(b"saved").within(quota);
        store.save_all(&owner, &[(key(1, 1), save, one), (key(1, 2), save, two)])
    };
    // Each alone would have room.
    let refused = save_both(3 * 4096);
    assert!(matches!(refused, Err(SaveError::Quota { after, .. }) if after.records == 2));
    assert_eq!(store.usage(&owner).unwrap(), Usage::default());
    assert_eq!(packs(folder.path()).len(), 0);
    // The block that both have is written and counted once.
    let expected = 3 * 4096 + 2 * (5 + 2 * 32);
    let saved = save_both(expected + 2 * 5).unwrap();
    assert_eq!(saved.new_blocks, 3);
    assert_eq!(packs(folder.path()).len(), 1);
    assert_eq!(read(&store, &key(1, 1)).unwrap(), one);
    assert_eq!(read(&store, &key(1, 2)).unwrap(), two);
    assert_eq!(store.usage(&owner).unwrap().image_bytes, expected);
    assert!(store.remove(&key(1, 1)).unwrap());
    assert_eq!(read(&store, &key(1, 2)).unwrap(), two);
}

#[test]
fn a_store_that_is_full_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 1 << 20).unwrap();
    let one = memory((0..200).map(|number| (number, 1)));
    save(&store, &key(1, 1), &one).unwrap();
    let two = memory((0..100).map(|number| (number, 2)));
    let before = store.totals().unwrap();
    match save(&store, &key(1, 2), &two) {
        Err(SaveError::Full {
            needed,
            used,
            limit,
        }) => {
            assert!(needed > 100 * 4096 && used > 200 * 4096 && limit == 1 << 20);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.totals().unwrap(), before);
    assert!(store.load(&key(1, 2)).unwrap().is_none());
    assert_eq!(packs(folder.path()).len(), 1);
    store
        .save(&key(1, 1), &Save::meta(b"noted all the same"))
        .unwrap();
    store.remove(&key(1, 1)).unwrap();
    save(&store, &key(1, 2), &two).unwrap();
}

#[test]
fn what_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let meta = vec![0; META_BYTES_MAX + 1];
    store.save(&key(1, 1), &Save::meta(&meta[1..])).unwrap();
    match store.save(&key(1, 1), &Save::meta(&meta)) {
        Err(SaveError::TooLarge { amount, limit, .. }) => {
            assert_eq!((amount, limit), (META_BYTES_MAX + 1, META_BYTES_MAX));
        }
        other => panic!("{other:?}"),
    }
    // A block that nobody has.
    let one = memory([(0, 1), (1, 1)]);
    let image = ImageToSave {
        index: b"index",
        ids: &ids(&one),
        block: &|at| one[..1].get(at),
    };
    match store.save(&key(1, 2), &Save::meta(b"").with_image(image)) {
        Err(SaveError::NoBlock { id }) => assert_eq!(id, BlockId::of(&one[1])),
        other => panic!("{other:?}"),
    }
    assert!(store.load(&key(1, 2)).unwrap().is_none());
    assert_eq!(store.usage(&Owner([1; 32])).unwrap().records, 1);
}

#[test]
fn two_processes_do_not_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    // Locks are of open files, so a second opening in one process stands for one in another.
    let second = Store::open(folder.path(), ROOM);
    assert!(matches!(second, Err(OpenError::InUse)));
    drop(store);
    Store::open(folder.path(), ROOM).unwrap();
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path(), ROOM).unwrap());
    let database = redb::Database::open(folder.path().join("records.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let about = redb::TableDefinition::<&str, u64>::new("about");
    write
        .open_table(about)
        .unwrap()
        .insert("format", 2)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    match Store::open(folder.path(), ROOM) {
        Err(OpenError::Newer { found: 2 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_the_user_can_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/here");
    let store = Store::open(&path, ROOM).unwrap();
    save(&store, &key(1, 1), &memory([(0, 1)])).unwrap();
    let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o777;
    let pack = format!("packs/{}", packs(&path)[0]);
    assert_eq!([mode(""), mode("packs")], [0o700; 2]);
    assert_eq!(
        [mode("lock"), mode("records.redb"), mode(&pack)],
        [0o600; 3]
    );
}

/// Saves an image and then, of most of its blocks, other versions, so that its pack is half dead.
fn save_and_change(store: &Store, key: &Key, blocks: u32) -> Vec<Block> {
    let one = memory((0..blocks).map(|number| (number, 1)));
    save(store, key, &one).unwrap();
    let changed = |number| number % 4 != 0;
    let two = memory((0..blocks).map(|number| (number, 1 + u32::from(changed(number)))));
    save(store, key, &two).unwrap();
    two
}

#[test]
fn compaction_gives_back_what_dead_blocks_take() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let two = save_and_change(&store, &key(1, 1), 400);
    let untouched = memory((0..50).map(|number| (number, 9)));
    save(&store, &key(2, 1), &untouched).unwrap();
    let before = store.totals().unwrap();
    assert_eq!(before.dead_bytes, 300 * 4096 + (5 + 400 * 32));

    // A reader that has begun goes on reading what is being moved.
    let image = store.image(&key(1, 1)).unwrap().unwrap();
    let compacted = store.compact().unwrap().unwrap();
    assert!(compacted.freed_bytes > 400 * 4096 && compacted.written_bytes > 100 * 4096);
    image
        .read(0..400, |at, block| assert_eq!(*block, two[at]))
        .unwrap();
    drop(image);
    assert_eq!(store.compact().unwrap(), None);
    let after = store.totals().unwrap();
    assert_eq!((after.packs, after.dead_bytes), (3, 0));
    assert!(before.bytes - after.bytes >= before.dead_bytes);
    assert_eq!(packs(folder.path()).len(), 3);

    drop(store);
    let store = Store::open(folder.path(), ROOM).unwrap();
    assert_eq!(store.totals().unwrap(), after);
    assert_eq!(read(&store, &key(1, 1)).unwrap(), two);
    assert_eq!(read(&store, &key(2, 1)).unwrap(), untouched);
}

#[test]
fn one_call_of_compaction_moves_a_bounded_amount() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    // What stays needed of the first pack is more than one call moves.
    let blocks = 5 * COMPACT_BYTES as u32 / 4096;
    let two = save_and_change(&store, &key(1, 1), blocks);
    let mut calls = 0;
    while let Some(compacted) = store.compact().unwrap() {
        assert!(compacted.written_bytes < COMPACT_BYTES + (1 << 20));
        assert_eq!(read(&store, &key(1, 1)).unwrap(), two);
        calls += 1;
    }
    assert_eq!(calls, 2);
    assert_eq!(store.totals().unwrap().dead_bytes, 0);
}

/// Two saves at one time each write what both lack. Of the one that is done last only the list is
/// needed then, so that compaction moves it.
#[test]
fn lists_move_where_others_have_written_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let images = (0..4).map(|number| memory((0..40).map(|block| (block, 10 + number))));
    let images: Vec<_> = images.collect();
    for (id, image) in (0..).zip(&images) {
        let overtake = |at: usize| {
            if at == 0 {
                save(&store, &key(1, 100 + id), image).unwrap();
            }
            image.get(at)
        };
        let late = ImageToSave {
            index: b"index",
            ids: &ids(image),
            block: &overtake,
        };
        let saved = store.save(&key(1, id), &Save::meta(b"saved").with_image(late));
        assert_eq!(saved.unwrap().new_blocks, 40);
    }
    assert_eq!(
        store.usage(&Owner([1; 32])).unwrap().image_bytes / (4 * 40 * 4096),
        1
    );
    assert_eq!(store.totals().unwrap().packs, 8);
    let compacted = store.compact().unwrap().unwrap();
    assert!(compacted.written_bytes < 3 * 4096, "{compacted:?}");
    assert_eq!(store.compact().unwrap(), None);
    assert_eq!(store.totals().unwrap().packs, 5);

    store.remove(&key(1, 100)).unwrap();
    store.remove(&key(1, 1)).unwrap();
    drop(store);
    let store = Store::open(folder.path(), ROOM).unwrap();
    for id in [0, 2, 3] {
        assert_eq!(read(&store, &key(1, id)).unwrap(), images[usize::from(id)]);
    }
    for id in 1..4 {
        assert_eq!(
            read(&store, &key(1, 100 + id)).unwrap(),
            images[usize::from(id)]
        );
    }
}

#[test]
fn a_save_that_finds_no_room_compacts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), 4 << 20).unwrap();
    let two = save_and_change(&store, &key(1, 1), 400);
    let more = memory((0..400).map(|number| (number, 3)));
    let used = store.totals().unwrap().bytes;
    assert!(used + 400 * 4096 > 4 << 20);
    save(&store, &key(1, 2), &more).unwrap();
    assert_eq!(read(&store, &key(1, 1)).unwrap(), two);
    assert_eq!(read(&store, &key(1, 2)).unwrap(), more);
    assert!(store.totals().unwrap().bytes <= 4 << 20);
}

#[test]
fn a_damaged_block_is_found_by_whichever_thread_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), ROOM).unwrap();
    let large = memory((0..4000).map(|number| (number, 1)));
    save(&store, &key(1, 1), &large).unwrap();
    let pack = folder.path().join("packs").join(&packs(folder.path())[0]);
    let file = fs::File::options().write(true).open(pack).unwrap();
    for at in [0, 1333, 3999] {
        let offset = 4096 * (1 + at as u64) + 10;
        file.write_at(&[2], offset).unwrap();
        match read(&store, &key(1, 1)) {
            Err(ReadError::DamagedBlock { id, .. }) => assert_eq!(id, BlockId::of(&large[at])),
            other => panic!("{other:?}"),
        }
        file.write_at(&[1], offset).unwrap();
        assert_eq!(read(&store, &key(1, 1)).unwrap(), large);
    }
}
