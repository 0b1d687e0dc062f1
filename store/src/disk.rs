//! What a store needs of a disk, as a trait, so that tests can put one under it that fails.

use std::fmt::Debug;
use std::io;

#[cfg(feature = "faults")]
pub mod faults;
mod folder;

pub use folder::Folder;

/// Files in folders, by paths relative to the store's own folder, with `/` between their parts.
///
/// What a method did is durable only after the sync that covers it: [`DiskFile::sync`] for the bytes
/// and the length of a file, [`Disk::sync_folder`] for its name. Until then a crash may undo any of
/// it, in any order, and leave any part of what was written.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder, unless it is there.
    fn make_folder(&self, path: &str) -> io::Result<()>;

    /// Makes a file, or empties the one that is there, to be read and written.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, to be read and written.
    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name in the same folder; one that has that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles that are open on it stay good.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Names of the files in a folder, in any order. The empty path is the store's own folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length, in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `into` from the bytes at `offset`; an error when there are not as many.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. After an error any part of it may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or lengthens it by zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable.
    fn sync(&self) -> io::Result<()>;
}
