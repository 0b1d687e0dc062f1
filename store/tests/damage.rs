//! Files that are not what was written: reported, never believed, and never the end of the rest.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use spore_store::disk::Disk;
use spore_store::disk::faults::FaultyDisk;
use spore_store::{
    BLOCK_BYTES, Block, BlockId, DiskError, ImageToSave, Key, Kind, OpenError, Owner, PackError,
    ReadError, Save, Saved, Store,
};

const ROOM: u64 = 1 << 30;
const HEADER_BYTES: usize = 4096;

fn key(owner: u8, id: u8) -> Key {
    Key {
        owner: Owner([owner; 32]),
        kind: Kind(1),
        id: [id; 16],
    }
}

fn memory(blocks: std::ops::Range<u8>) -> Vec<Block> {
    blocks.map(|number| [number; BLOCK_BYTES]).collect()
}

fn save(store: &Store, key: &Key, memory: &[Block]) -> Saved {
    let ids: Vec<BlockId> = memory.iter().map(BlockId::of).collect();
    let image = ImageToSave {
        index: &[7; 100],
        ids: &ids,
        block: &|at| memory.get(at),
    };
    store
        .save(key, &Save::meta(b"meta").with_image(image))
        .unwrap()
}

fn read(store: &Store, key: &Key) -> Result<Vec<Block>, ReadError> {
    let image = store.image(key)?.expect("the record has an image");
    let mut memory = vec![[0; BLOCK_BYTES]; image.ids().len()];
    image.read(0..memory.len(), |at, block| memory[at] = *block)?;
    assert_eq!(image.index(), [7; 100]);
    Ok(memory)
}

fn open(disk: &FaultyDisk) -> Result<Store, OpenError> {
    Store::open_on(Arc::new(disk.clone()), ROOM)
}

/// A disk with two packs of one owner and one of another: the second needs blocks of the first.
fn disk() -> FaultyDisk {
    let disk = FaultyDisk::default();
    let store = open(&disk).unwrap();
    save(&store, &key(1, 1), &memory(0..10));
    save(&store, &key(1, 2), &memory(5..15));
    save(&store, &key(2, 1), &memory(0..10));
    drop(store);
    settle(&disk)
}

/// The disk as a process leaves it that ends well.
fn settle(disk: &FaultyDisk) -> FaultyDisk {
    disk.crash(disk.steps(), 1)
}

fn pack(number: u64) -> String {
    format!("packs/{number:016x}.pack")
}

fn overwrite(disk: &FaultyDisk, path: &str, bytes: &[u8]) {
    let file = disk.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
}

/// What is wrong with the pack of an image.
fn part(error: ReadError, of: u64) -> &'static str {
    match error {
        ReadError::Pack { pack: path, source } => match &*source {
            PackError::Damaged { part } => {
                assert_eq!(path, pack(of));
                part
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_block_is_named_and_costs_only_its_images() {
    let disk = disk();
    let store = open(&disk).unwrap();
    // The seventh block, which both images of the owner have.
    disk.damage(&pack(1), HEADER_BYTES + 7 * BLOCK_BYTES + 99, 1);
    for record in [1, 2] {
        match read(&store, &key(1, record)) {
            Err(ReadError::DamagedBlock { id, pack: path }) => {
                assert_eq!(id, BlockId::of(&[7; BLOCK_BYTES]));
                assert_eq!(path, pack(1));
            }
            other => panic!("{other:?}"),
        }
    }
    // Other blocks of the image, and the same block of another owner, are as they were.
    let image = store.image(&key(1, 1)).unwrap().unwrap();
    image
        .read([6, 8], |at, block| {
            assert_eq!(*block, [at as u8; BLOCK_BYTES])
        })
        .unwrap();
    assert_eq!(read(&store, &key(2, 1)).unwrap(), memory(0..10));
    drop(image);

    // Who still has the image in memory can save it again, and that mends both. No block of a pack that
    // is not as it was is relied on.
    let ids = [7, 8, 12].map(|number| BlockId::of(&[number; BLOCK_BYTES]));
    assert_eq!(store.lacking(&key(1, 1).owner, &ids).unwrap(), [0, 1]);
    assert_eq!(save(&store, &key(1, 1), &memory(0..10)).new_blocks, 10);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(read(&store, &key(1, 1)).unwrap(), memory(0..10));
    assert_eq!(read(&store, &key(1, 2)).unwrap(), memory(5..15));
}

#[test]
fn what_is_saved_beside_damage_is_whole() {
    let disk = disk();
    let store = open(&disk).unwrap();
    // A block of each pack that the second image needs, and others of the same packs.
    for (number, blocks) in [(1, [5, 8]), (2, [0, 3])] {
        for block in blocks {
            disk.damage(&pack(number), HEADER_BYTES + block * BLOCK_BYTES, 1);
        }
    }
    let damaged = read(&store, &key(1, 2));
    assert!(matches!(damaged, Err(ReadError::DamagedBlock { .. })));
    // One of the first pack, one of the second, none of which was named as damaged.
    let new = [memory(8..9), memory(13..14)].concat();
    assert_eq!(save(&store, &key(1, 3), &new).new_blocks, 2);
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(read(&store, &key(1, 3)).unwrap(), new);
}

#[test]
fn each_damaged_part_is_named() {
    let table = HEADER_BYTES + 10 * BLOCK_BYTES;
    let index = table + 10 * 32 + 72;
    let list = index + 100;
    for (offset, expected) in [
        (0, "header"),
        (12, "header"),
        (20, "header"),
        (120, "header"),
        (table, "table"),
        (table + 10 * 32 + 1, "table"),
        (index, "index"),
        (list + 5, "list of blocks"),
    ] {
        let disk = disk();
        disk.damage(&pack(1), offset, 0x40);
        let store = open(&disk).unwrap();
        assert_eq!(part(read(&store, &key(1, 1)).unwrap_err(), 1), expected);
        // The other image has its own index and list, and wants blocks of this pack.
        match (expected, read(&store, &key(1, 2))) {
            ("header" | "table", Err(ReadError::MissingBlock { id })) => {
                assert_eq!(id, BlockId::of(&[5; BLOCK_BYTES]));
            }
            ("index" | "list of blocks", Ok(found)) => assert_eq!(found, memory(5..15)),
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(read(&store, &key(2, 1)).unwrap(), memory(0..10));
        assert_eq!(store.load(&key(1, 1)).unwrap().unwrap().meta, b"meta");

        // Nothing is removed in doubt: neither the pack nor what might be needed of others.
        save(&store, &key(1, 3), &memory(20..21));
        store.remove(&key(1, 3)).unwrap();
        while store.compact().unwrap().is_some() {}
        assert!(disk.bytes(&pack(1)).is_some(), "{expected}");
        // Saving both again mends all.
        save(&store, &key(1, 1), &memory(0..10));
        save(&store, &key(1, 2), &memory(5..15));
        while store.compact().unwrap().is_some() {}
        drop(store);
        let store = open(&disk).unwrap();
        assert_eq!(read(&store, &key(1, 1)).unwrap(), memory(0..10));
        assert_eq!(read(&store, &key(1, 2)).unwrap(), memory(5..15));
        store.remove(&key(1, 1)).unwrap();
        store.remove(&key(1, 2)).unwrap();
        assert_eq!(store.totals().unwrap().packs, 1, "{expected}");
    }
}

/// A pack that nothing is known to need may still be what a damaged image needs.
#[test]
fn no_pack_is_removed_in_doubt() {
    let list = HEADER_BYTES + 5 * BLOCK_BYTES + 5 * 32 + 72 + 100;
    // The list of the second image, or the table of the pack whose blocks it has.
    for (damaged, offset) in [(2, list + 5), (1, 20)] {
        let disk = disk();
        let store = open(&disk).unwrap();
        store.remove(&key(1, 1)).unwrap();
        drop(store);
        let disk = settle(&disk);
        disk.damage(&pack(damaged), offset, 1);
        let store = open(&disk).unwrap();
        save(&store, &key(1, 3), &memory(20..30));
        save(&store, &key(1, 3), &memory(20..21));
        while store.compact().unwrap().is_some() {}
        read(&store, &key(1, 2)).unwrap_err();
        for number in [1, 2] {
            assert!(disk.bytes(&pack(number)).is_some(), "{damaged}");
        }
        // With the image the doubt goes.
        store.remove(&key(1, 2)).unwrap();
        while store.compact().unwrap().is_some() {}
        for number in [1, 2] {
            assert!(disk.bytes(&pack(number)).is_none(), "{damaged}");
        }
        assert_eq!(read(&store, &key(1, 3)).unwrap(), memory(20..21));
    }
}

#[test]
fn a_pack_of_a_later_version_is_left_alone() {
    let disk = disk();
    disk.damage(&pack(1), 8, 2);
    let store = open(&disk).unwrap();
    match read(&store, &key(1, 1)) {
        Err(ReadError::Pack { source, .. }) => {
            assert!(matches!(*source, PackError::Newer { found: 3 }));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&store, &key(2, 1)).unwrap(), memory(0..10));
}

#[test]
fn a_pack_that_is_gone_is_missed() {
    let disk = disk();
    disk.remove(&pack(1)).unwrap();
    let store = open(&disk).unwrap();
    match read(&store, &key(1, 1)) {
        Err(ReadError::Pack { source, .. }) => match &*source {
            PackError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    store.remove(&key(1, 1)).unwrap();
    assert!(matches!(
        read(&store, &key(1, 2)),
        Err(ReadError::MissingBlock { .. })
    ));
}

#[test]
fn a_pack_cut_or_lengthened_anywhere_is_refused() {
    let disk = disk();
    let whole = disk.bytes(&pack(1)).unwrap();
    let lengths = (0..whole.len())
        .step_by(997)
        .chain([whole.len() - 1, whole.len() + 1]);
    for length in lengths {
        let mut bytes = whole.clone();
        bytes.resize(length, 0);
        overwrite(&disk, &pack(1), &bytes);
        let store = open(&disk).unwrap();
        let error = read(&store, &key(1, 1)).unwrap_err();
        assert_eq!(part(error, 1), "length", "{length}");
    }
}

/// A header that lies has the right checksum, and claims what would take all memory.
#[test]
fn counts_are_held_against_the_file_before_anything_is_allocated() {
    let whole = disk().bytes(&pack(1)).unwrap();
    // Blocks, images and length.
    for (offset, bytes) in [(12, 4), (56, 4), (64, 8)] {
        let disk = disk();
        let mut lying = whole.clone();
        lying[offset..offset + bytes].fill(0xff);
        let said = blake3::hash(&lying[..104]);
        lying[104..136].copy_from_slice(said.as_bytes());
        overwrite(&disk, &pack(1), &lying);
        let store = open(&disk).unwrap();
        assert_eq!(part(read(&store, &key(1, 1)).unwrap_err(), 1), "length");
    }
    // An image in a table that is sound otherwise: bytes of its index, and blocks that it names.
    let table = HEADER_BYTES + 10 * BLOCK_BYTES;
    for offset in [0, 4] {
        let disk = disk();
        let mut lying = whole.clone();
        lying[table + 10 * 32 + offset..][..4].fill(0xff);
        let hash = blake3::hash(&lying[table..table + 10 * 32 + 72]);
        lying[72..104].copy_from_slice(hash.as_bytes());
        let said = blake3::hash(&lying[..104]);
        lying[104..136].copy_from_slice(said.as_bytes());
        overwrite(&disk, &pack(1), &lying);
        let store = open(&disk).unwrap();
        assert_eq!(part(read(&store, &key(1, 1)).unwrap_err(), 1), "table");
    }
}

#[test]
fn compaction_moves_nothing_that_is_damaged() {
    let disk = FaultyDisk::default();
    let store = open(&disk).unwrap();
    save(&store, &key(1, 1), &memory(0..20));
    save(&store, &key(1, 2), &memory(0..3));
    store.remove(&key(1, 1)).unwrap();
    disk.damage(&pack(1), HEADER_BYTES + BLOCK_BYTES, 1);
    let mut calls = 0;
    while store.compact().unwrap().is_some() {
        calls += 1;
        assert!(calls < 10);
    }
    assert!(disk.bytes(&pack(1)).is_some());
    match read(&store, &key(1, 2)) {
        Err(ReadError::DamagedBlock { id, .. }) => assert_eq!(id, BlockId::of(&[1; BLOCK_BYTES])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_that_is_missing_empty_or_foreign_removes_no_pack() {
    let database = "records.redb";
    for bytes in [None, Some(&b""[..]), Some(&[1; 5000])] {
        let disk = disk();
        match bytes {
            None => disk.remove(database).unwrap(),
            Some(bytes) => overwrite(&disk, database, bytes),
        }
        match (bytes, open(&disk)) {
            (None, Err(OpenError::NoDatabase)) | (Some(_), Err(OpenError::Disk(_))) => {}
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(disk.list("packs").unwrap().len(), 3);
    }
}

#[test]
fn a_database_cut_anywhere_is_refused() {
    let disk = disk();
    let whole = disk.bytes("records.redb").unwrap();
    for length in (1..whole.len()).step_by(whole.len() / 50) {
        overwrite(&disk, "records.redb", &whole[..length]);
        assert!(matches!(open(&disk), Err(OpenError::Disk(_))), "{length}");
        assert_eq!(disk.list("packs").unwrap().len(), 3);
    }
}

/// Whatever bit of the database is another: the store does not open, or holds what was written.
#[test]
fn a_damaged_database_is_never_believed() {
    let disk = disk();
    let database = "records.redb";
    let whole = disk.bytes(database).unwrap();
    // Pages that were never written have nothing to be believed.
    let used: HashSet<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut offsets: Vec<usize> = used.into_iter().collect();
    offsets.sort_unstable();
    let (mut refused, mut held) = (0, 0);
    for (count, offset) in offsets.iter().enumerate().step_by(offsets.len() / 400 + 1) {
        let disk = settle(&disk);
        disk.damage(database, *offset, 1 << (count % 8));
        let store = match open(&disk) {
            Ok(store) => store,
            Err(OpenError::Disk(DiskError::SyncFailed)) => panic!("nothing was synced"),
            Err(OpenError::NoDatabase) => panic!("it is there"),
            Err(_) => {
                refused += 1;
                continue;
            }
        };
        held += 1;
        assert_eq!(store.list(None, None).unwrap().len(), 3, "{offset}");
        assert_eq!(read(&store, &key(1, 1)).unwrap(), memory(0..10), "{offset}");
        assert_eq!(read(&store, &key(1, 2)).unwrap(), memory(5..15), "{offset}");
        assert_eq!(read(&store, &key(2, 1)).unwrap(), memory(0..10), "{offset}");
    }
    println!(
        "of {} damaged databases {refused} were refused",
        refused + held
    );
    assert!(refused > 0);
}
