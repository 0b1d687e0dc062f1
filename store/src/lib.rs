//! Where a host keeps what must survive `kill -9` and power loss.
//!
//! A [`Store`] holds **records**: a few bytes about a session or a job, by owner, kind and id, and
//! with each, if wanted, an **image**: an index and the blocks of 4 KiB that it names. What a method
//! has returned is on the disk. What had not returned when the power went is there whole or not at
//! all.
//!
//! ```
//! use spore_store::{BlockId, ImageToSave, Key, Kind, Owner, Save, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().join("sessions"), 1 << 30)?;
//! let key = Key { owner: Owner([7; 32]), kind: Kind(1), id: [1; 16] };
//! let memory = [[1; 4096], [2; 4096]];
//! let ids = memory.map(|block| BlockId::of(&block));
//! let image = ImageToSave { index: b"where they go", ids: &ids, block: &|at| memory.get(at) };
//! store.save(&key, &Save::meta(b"idle").with_image(image))?;
//!
//! let image = store.image(&key)?.expect("it was just saved");
//! let mut restored = [[0; 4096]; 2];
//! image.read(0..2, |at, block| restored[at] = *block)?;
//! assert_eq!(restored, memory);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the disk
//!
//! ```text
//! lock            locked by the process that has the store open
//! records.redb    records, and which packs there are
//! packs/N.pack    blocks, indices and lists of blocks; N has 16 hexadecimal digits
//! packs/N.new     a pack that is being written
//! ```
//!
//! A save writes the blocks that the store lacks, the index and the list of all blocks into one new
//! **pack**, syncs it, renames it, syncs the folder, and then puts the record and the pack into the
//! database in one transaction of redb. That transaction is the moment at which the save has
//! happened. It also takes out the packs that the record alone has needed; their files go after it.
//! So a file that no transaction knows is one of an unfinished save or of a finished removal, and is
//! removed when the store is opened. `pack.rs` has the layout of packs.
//!
//! # Why it is so
//!
//! - **The database knows packs, not blocks.** A row for each of the 16,384 blocks of 64 MiB would
//!   cost more than writing them. Where each block lies is read from the tables of the packs when
//!   the store is opened, and kept in memory.
//! - **Owners share no blocks.** One could otherwise tell from the time or the size of a save what is
//!   in the memory of another's guest, and what an owner keeps could not be counted. It also makes
//!   each owner's packs its own, to be counted and removed.
//! - **Reading checks each block against its id**, and a damaged one is an error that names it. From
//!   then on nothing that is saved is kept as what lies in that pack, or in others of the image in which
//!   bytes have changed: its blocks are written again.
//! - **Nothing is thrown away in doubt.** When the list of an image cannot be read, none of its
//!   owner's packs is removed until that record is replaced or removed.
//! - **The store calls no other Spore crate.** `meta` and index are the host's, in types that carry
//!   versions of their own.
#![forbid(unsafe_code)]

mod catalog;
mod compact;
mod database;
pub mod disk;
mod names;
mod pack;
mod read;
mod save;
mod store;

pub use catalog::Usage;
pub use compact::{COMPACT_BYTES, Compacted};
pub use names::{BLOCK_BYTES, Block, BlockId, Key, Kind, Owner};
pub use pack::PackError;
pub use read::{ReadError, SavedImage};
pub use save::{
    BLOCKS_MAX, INDEX_BYTES_MAX, ImageToSave, META_BYTES_MAX, Quota, Save, SaveError, Saved, When,
};
pub use store::{DiskError, OpenError, Record, Store, Totals};
