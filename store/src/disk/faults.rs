//! A disk in memory that does what a disk may do at worst. For tests.
//!
//! It keeps a log of every step that changes something. [`FaultyDisk::crash`] makes of any prefix of
//! it one of the disks that a loss of power at that moment may leave: of what no sync has covered,
//! each write is there, not there, or there in part (some bytes from its beginning, or some of its
//! sectors), and each name that was given, changed or taken away is so or not, in any order. So one
//! run of a test gives as many crashes as it has steps.
//!
//! [`FaultyDisk::fail`] makes steps fail as they come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// How steps fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What needs space finds none. A write that fails may have written a part.
    NoSpace,
    /// Syncs fail. What the sync of a file was to cover is not covered by a later one either: systems
    /// take pages that they could not write for written.
    Sync,
}

/// A disk in memory. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    memory: Arc<Mutex<Memory>>,
}

type FileNumber = u64;

/// Names and contents.
#[derive(Clone, Debug, Default)]
struct Contents {
    folders: BTreeSet<String>,
    names: BTreeMap<String, FileNumber>,
    files: HashMap<FileNumber, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// As it was made.
    before: Contents,
    /// As a process sees it.
    now: Contents,
    log: Vec<Step>,
    files_made: FileNumber,
    failing: Option<Failing>,
    chance: Chance,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    failure: Failure,
    from: usize,
    until: usize,
}

/// Something that a disk was asked to do, and did.
#[derive(Clone, Debug)]
enum Step {
    Name(NameStep),
    SyncFolder(String),
    Content(FileNumber, ContentStep),
    Sync(FileNumber),
    SyncFailed(FileNumber),
    /// A step that failed and changed nothing.
    Nothing,
}

#[derive(Clone, Debug)]
enum NameStep {
    MakeFolder(String),
    Create(String, FileNumber),
    Rename {
        from: String,
        to: String,
        file: FileNumber,
    },
    Remove(String),
}

#[derive(Clone, Debug)]
enum ContentStep {
    Write(u64, Vec<u8>),
    SetSize(u64),
}

impl Default for FaultyDisk {
    fn default() -> Self {
        FaultyDisk::new(0)
    }
}

impl FaultyDisk {
    /// An empty disk. The seed decides what is left of writes that fail.
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk::of(Contents::default(), seed)
    }

    fn of(contents: Contents, seed: u64) -> FaultyDisk {
        let memory = Memory {
            files_made: contents.files.keys().max().map_or(0, |last| last + 1),
            before: contents.clone(),
            now: contents,
            chance: Chance(seed),
            ..Memory::default()
        };
        FaultyDisk {
            memory: Arc::new(Mutex::new(memory)),
        }
    }

    /// How many steps were done.
    pub fn steps(&self) -> usize {
        self.lock().log.len()
    }

    /// A disk as a loss of power after so many steps may leave it. The seed decides among them; of
    /// all, that of seed 0 has lost and that of seed 1 has kept everything that was not synced.
    pub fn crash(&self, steps: usize, seed: u64) -> FaultyDisk {
        let memory = self.lock();
        let mut chance = Chance(seed);
        let keeps = match seed {
            0 => Keeps::Nothing,
            1 => Keeps::All,
            _ => Keeps::Some,
        };
        let mut durable = Durable {
            contents: memory.before.clone(),
            ..Durable::default()
        };
        for step in &memory.log[..steps] {
            durable.take(step, &mut chance);
        }
        FaultyDisk::of(durable.crash(keeps, &mut chance), seed)
    }

    /// Makes `steps` steps fail, beginning with the one after the `from` first of all.
    pub fn fail(&self, failure: Failure, from: usize, steps: usize) {
        self.lock().failing = Some(Failing {
            failure,
            from,
            until: from.saturating_add(steps),
        });
    }

    /// Ends what [`FaultyDisk::fail`] has begun.
    pub fn recover(&self) {
        self.lock().failing = None;
    }

    /// Changes the bits of a byte of a file, as a disk that ages does.
    ///
    /// # Panics
    ///
    /// When there is no such file or byte.
    pub fn damage(&self, path: &str, offset: usize, bits: u8) {
        let mut memory = self.lock();
        let memory = &mut *memory;
        for contents in [&mut memory.before, &mut memory.now] {
            let file = contents.names.get(path).copied();
            let bytes = file.and_then(|file| contents.files.get_mut(&file));
            if let Some(bytes) = bytes {
                bytes[offset] ^= bits;
            }
        }
        assert!(memory.now.names.contains_key(path), "{path} is not there");
    }

    /// The bytes of a file; nothing when there is none.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let memory = self.lock();
        let file = memory.now.names.get(path)?;
        memory.now.files.get(file).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for FaultyDisk {
    fn make_folder(&self, path: &str) -> io::Result<()> {
        let mut memory = self.lock();
        if memory.now.folders.contains(path) {
            return Ok(());
        }
        memory.may_need_space()?;
        memory.name(NameStep::MakeFolder(path.to_owned()));
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut memory = self.lock();
        memory.check_folder(path)?;
        memory.may_need_space()?;
        let number = match memory.now.names.get(path).copied() {
            Some(number) => {
                memory.content(number, ContentStep::SetSize(0));
                number
            }
            None => {
                let number = memory.files_made;
                memory.files_made += 1;
                memory.now.files.insert(number, Vec::new());
                memory.name(NameStep::Create(path.to_owned(), number));
                number
            }
        };
        Ok(self.handle(number))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let number = self.lock().find(path)?;
        Ok(self.handle(number))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut memory = self.lock();
        let file = memory.find(from)?;
        memory.may_need_space()?;
        memory.name(NameStep::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut memory = self.lock();
        memory.find(path)?;
        memory.name(NameStep::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let memory = self.lock();
        if !folder.is_empty() && !memory.now.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = memory.now.names.keys().chain(&memory.now.folders);
        let names = names.filter(|path| parent(path) == folder);
        let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(names.map(last).collect())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut memory = self.lock();
        if memory.fails(Failure::Sync) {
            memory.log.push(Step::Nothing);
            return Err(no_answer());
        }
        memory.log.push(Step::SyncFolder(folder.to_owned()));
        Ok(())
    }
}

impl FaultyDisk {
    fn handle(&self, number: FileNumber) -> Box<dyn DiskFile> {
        Box::new(Handle {
            disk: self.clone(),
            number,
        })
    }
}

#[derive(Debug)]
struct Handle {
    disk: FaultyDisk,
    number: FileNumber,
}

impl Handle {
    fn with<T>(&self, with: impl FnOnce(&Vec<u8>) -> T) -> T {
        with(&self.disk.lock().now.files[&self.number])
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(|bytes| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let there = bytes.get(offset..).unwrap_or_default();
            let there = there.get(..into.len());
            into.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.disk.lock();
        if memory.fails(Failure::NoSpace) {
            let part = memory.chance.below(bytes.len() + 1);
            memory.content(
                self.number,
                ContentStep::Write(offset, bytes[..part].to_vec()),
            );
            return Err(io::ErrorKind::StorageFull.into());
        }
        memory.content(self.number, ContentStep::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut memory = self.disk.lock();
        if bytes > memory.now.files[&self.number].len() as u64 {
            memory.may_need_space()?;
        }
        memory.content(self.number, ContentStep::SetSize(bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut memory = self.disk.lock();
        if memory.fails(Failure::Sync) {
            memory.log.push(Step::SyncFailed(self.number));
            return Err(no_answer());
        }
        memory.log.push(Step::Sync(self.number));
        Ok(())
    }
}

impl Memory {
    fn find(&self, path: &str) -> io::Result<FileNumber> {
        let number = self.now.names.get(path).copied();
        number.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_folder(&self, path: &str) -> io::Result<()> {
        let folder = parent(path);
        match folder.is_empty() || self.now.folders.contains(folder) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether the next step fails in this way.
    fn fails(&self, failure: Failure) -> bool {
        let step = self.log.len();
        let failing = self.failing.filter(|failing| failing.failure == failure);
        failing.is_some_and(|failing| (failing.from..failing.until).contains(&step))
    }

    fn may_need_space(&mut self) -> io::Result<()> {
        if self.fails(Failure::NoSpace) {
            self.log.push(Step::Nothing);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn name(&mut self, step: NameStep) {
        self.now.name(&step);
        self.log.push(Step::Name(step));
    }

    fn content(&mut self, file: FileNumber, step: ContentStep) {
        self.now.content(file, &step);
        self.log.push(Step::Content(file, step));
    }
}

impl Contents {
    fn name(&mut self, step: &NameStep) {
        match step {
            NameStep::MakeFolder(path) => {
                self.folders.insert(path.clone());
            }
            NameStep::Create(path, file) => {
                self.names.insert(path.clone(), *file);
            }
            NameStep::Rename { from, to, file } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *file);
            }
            NameStep::Remove(path) => {
                self.names.remove(path);
            }
        }
    }

    fn content(&mut self, file: FileNumber, step: &ContentStep) {
        let content = self.files.entry(file).or_default();
        match step {
            ContentStep::Write(offset, bytes) => {
                let offset = *offset as usize;
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[offset..end].copy_from_slice(bytes);
            }
            ContentStep::SetSize(bytes) => content.resize(*bytes as usize, 0),
        }
    }
}

/// What is on the disk for certain, and what may be.
#[derive(Default)]
struct Durable {
    contents: Contents,
    names: Vec<NameStep>,
    /// By file, in the order of steps; and whether a sync that was to cover it has failed.
    steps: BTreeMap<FileNumber, Vec<(ContentStep, bool)>>,
}

/// What a crash leaves of what is not certain.
#[derive(Clone, Copy)]
enum Keeps {
    Nothing,
    All,
    Some,
}

impl Durable {
    fn take(&mut self, step: &Step, chance: &mut Chance) {
        match step {
            Step::Name(step) => self.names.push(step.clone()),
            Step::SyncFolder(folder) => {
                let pending = std::mem::take(&mut self.names);
                for step in pending {
                    match step.folder() == folder {
                        true => self.contents.name(&step),
                        false => self.names.push(step),
                    }
                }
            }
            Step::Content(file, step) => {
                let steps = self.steps.entry(*file).or_default();
                steps.push((step.clone(), false));
            }
            Step::Sync(file) => {
                let keeps = Keeps::Some;
                for (step, failed) in self.steps.remove(file).unwrap_or_default() {
                    match failed {
                        true => self.contents.maybe(*file, &step, keeps, chance),
                        false => self.contents.content(*file, &step),
                    }
                }
                // A file without a byte is there too.
                self.contents.files.entry(*file).or_default();
            }
            Step::SyncFailed(file) => {
                let steps = self.steps.entry(*file).or_default();
                steps.iter_mut().for_each(|(_, failed)| *failed = true);
            }
            Step::Nothing => {}
        }
    }

    fn crash(mut self, keeps: Keeps, chance: &mut Chance) -> Contents {
        for (file, steps) in &self.steps {
            for (step, _) in steps {
                self.contents.maybe(*file, step, keeps, chance);
            }
        }
        match keeps {
            Keeps::Nothing => self.names.clear(),
            Keeps::All => {}
            Keeps::Some => {
                self.names.retain(|_| chance.below(2) == 0);
                if chance.below(2) == 0 {
                    chance.shuffle(&mut self.names);
                }
            }
        }
        for step in &self.names {
            self.contents.name(step);
        }
        let Contents {
            folders,
            names,
            files,
        } = &mut self.contents;
        names.retain(|path, _| parent(path).is_empty() || folders.contains(parent(path)));
        for file in names.values() {
            // Of a file that was only named there is the name.
            files.entry(*file).or_default();
        }
        files.retain(|file, _| names.values().any(|named| named == file));
        self.contents
    }
}

impl Contents {
    /// Applies a step that no sync has covered, as far as it has reached the disk.
    fn maybe(&mut self, file: FileNumber, step: &ContentStep, keeps: Keeps, chance: &mut Chance) {
        match (keeps, step) {
            (Keeps::Nothing, _) => {}
            (Keeps::All, step) => self.content(file, step),
            (Keeps::Some, ContentStep::SetSize(_)) => {
                if chance.below(2) == 0 {
                    self.content(file, step);
                }
            }
            (Keeps::Some, ContentStep::Write(offset, bytes)) => match chance.below(4) {
                0 => {}
                1 => self.content(file, step),
                2 => {
                    let part = bytes[..chance.below(bytes.len() + 1)].to_vec();
                    self.content(file, &ContentStep::Write(*offset, part));
                }
                _ => {
                    let mut at = *offset;
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let sector = SECTOR_BYTES - at as usize % SECTOR_BYTES;
                        let (now, later) = rest.split_at(sector.min(rest.len()));
                        if chance.below(2) == 0 {
                            self.content(file, &ContentStep::Write(at, now.to_vec()));
                        }
                        at += now.len() as u64;
                        rest = later;
                    }
                }
            },
        }
    }
}

impl NameStep {
    /// The folder in which it changes names.
    fn folder(&self) -> &str {
        match self {
            NameStep::MakeFolder(path) | NameStep::Create(path, _) | NameStep::Remove(path) => {
                parent(path)
            }
            NameStep::Rename { to, .. } => parent(to),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::other("the disk does not answer")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Numbers that a seed decides: SplitMix64.
#[derive(Clone, Debug, Default)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
