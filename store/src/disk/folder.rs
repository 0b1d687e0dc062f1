//! A folder of the system's file system.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile};

/// Name of the file that is locked while a process has the folder open.
const LOCK: &str = "lock";

/// Only the user who runs the host reads what guests keep in their memories.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A folder of the file system, locked against other processes while it is open.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held, not read: two processes would remove each other's files.
    _lock: File,
}

impl Folder {
    /// Opens a folder, and makes it when it is not there. Nothing when another process has it open.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or its lock neither taken nor found taken.
    pub fn open(path: &Path) -> io::Result<Option<Folder>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE).create(path)?;
        let lock = options().truncate(false).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The names that lead to the folder, some of which may be new: without them all that lies in
        // it could be lost at once.
        for parent in path.canonicalize()?.ancestors().skip(1) {
            match File::open(parent) {
                Ok(parent) => parent.sync_all()?,
                // Whoever may not read it has not made anything in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Folder {
            path: path.to_owned(),
            _lock: lock,
        }))
    }
}

impl Disk for Folder {
    fn make_folder(&self, path: &str) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        // Recursive ones take one that is there for made.
        builder.recursive(true).mode(FOLDER_MODE);
        builder.create(self.path.join(path))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = options().truncate(true).open(self.path.join(path))?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.path.join(path))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path.join(folder))? {
            // A name that is no text is none of the store's.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path.join(folder))?.sync_all()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // The length is synced with the data; times are not, which spares a write of the journal.
        self.sync_data()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(FILE_MODE);
    options
}
