//! A pack: the file that one save makes.
//!
//! It holds the blocks that the store lacked, and of each image the index and the ids of all its
//! blocks, those in other packs too. A pack never changes; it is replaced by another or removed.
//! Numbers are little-endian. Version 1:
//!
//! ```text
//! header, 4,096 bytes, so that blocks lie on pages
//!    0   8  "SPOREPCK"
//!    8   4  version of this layout
//!   12   4  blocks of the pack
//!   16   8  number of the pack, which is its file's name too
//!   24  32  owner
//!   56   4  images of the pack
//!   60   4  zero
//!   64   8  length of the file
//!   72  32  BLAKE3 of the table
//!  104  32  BLAKE3 of the 104 bytes before
//!  136      zeros
//! blocks, 4,096 bytes each
//! table
//!           id of each block, 32 bytes each
//!           of each image, 72 bytes each:
//!    0   4  bytes of its index
//!    4   4  blocks that it names
//!    8  32  BLAKE3 of its index
//!   40  32  BLAKE3 of the ids of its blocks
//! of each image
//!           its index
//!           the ids of its blocks, 32 bytes each
//! ```
//!
//! The blocks have no checksum of their own: their ids are that. Each other part is covered by one,
//! and only read when it fits into the file.

use std::io;

use crate::disk::{Disk, DiskFile};
use crate::names::{BLOCK_BYTES, Block, BlockId, Owner};

/// Version of the layout that this release writes.
pub(crate) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"SPOREPCK";
const HEADER_BYTES: usize = BLOCK_BYTES;
/// The part of the header that its checksum covers.
const HEADER_SAID_BYTES: usize = 104;
const ID_BYTES: usize = 32;
const ENTRY_BYTES: usize = 72;

/// Size of the pieces that packs are written in. Fits into a core's own cache, and makes the price
/// of a call to the system a small part of that of a copy.
const PIECE_BYTES: usize = 64 << 10;

/// The folder of the packs.
pub(crate) const FOLDER: &str = "packs";

/// The number of a pack, from 1. None is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackNumber(pub(crate) u64);

impl PackNumber {
    /// Its file.
    pub(crate) fn path(self) -> String {
        format!("{FOLDER}/{:016x}.pack", self.0)
    }

    /// Its file while it is being written.
    pub(crate) fn path_new(self) -> String {
        format!("{FOLDER}/{:016x}.new", self.0)
    }

    /// The number in the name of a file of either kind; nothing when it is a stranger's.
    pub(crate) fn of_name(name: &str) -> Option<(PackNumber, Written)> {
        let (digits, end) = name.split_once('.')?;
        let written = match end {
            "pack" => Written::Whole,
            "new" => Written::Partly,
            _ => return None,
        };
        let number = u64::from_str_radix(digits, 16).ok()?;
        (digits == format!("{number:016x}")).then_some((PackNumber(number), written))
    }
}

/// Whether a file has its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Whole,
    Partly,
}

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// It could not be read, or is not there.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
    /// A later release wrote it.
    #[error("it has version {found}, this release knows {VERSION}")]
    Newer {
        /// Its version
        found: u32,
    },
    /// A part of it has other bytes than were written.
    #[error("its {part} is damaged")]
    Damaged {
        /// Which part
        part: &'static str,
    },
}

/// An image as it lies in a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where its index begins in the file. The ids follow it.
    offset: u64,
    index_bytes: u32,
    pub(crate) blocks: u32,
    index_hash: [u8; 32],
    ids_hash: [u8; 32],
}

impl Place {
    /// Bytes of the index and the ids.
    pub(crate) fn bytes(&self) -> u64 {
        body_bytes(self.index_bytes as usize, self.blocks as usize)
    }
}

/// Bytes of an image in a pack beside its blocks.
pub(crate) fn body_bytes(index_bytes: usize, blocks: usize) -> u64 {
    (index_bytes + blocks * ID_BYTES) as u64
}

/// An image to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a> {
    pub(crate) index: &'a [u8],
    pub(crate) ids: &'a [BlockId],
}

/// What a pack is to hold, but for the bytes of the blocks.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) number: PackNumber,
    pub(crate) owner: Owner,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) images: Vec<Body<'a>>,
}

impl Plan<'_> {
    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        let bodies = self.images.iter();
        let bodies: u64 = bodies
            .map(|it| body_bytes(it.index.len(), it.ids.len()))
            .sum();
        let entries = self.images.len() * ENTRY_BYTES;
        let blocks = self.blocks.len() * (BLOCK_BYTES + ID_BYTES);
        (HEADER_BYTES + blocks + entries) as u64 + bodies
    }

    /// Writes the pack to its final name, durable when this returns. `blocks` are the bytes of the
    /// blocks in their order. After an error neither name of the file is left, if the disk lets it go.
    pub(crate) fn write(&self, disk: &dyn Disk, blocks: &[&Block]) -> io::Result<Table> {
        let (new, path) = (self.number.path_new(), self.number.path());
        let written = (|| {
            let file = disk.create(&new)?;
            let table = self.write_file(&*file, blocks)?;
            file.sync()?;
            drop(file);
            disk.rename(&new, &path)?;
            disk.sync_folder(FOLDER)?;
            Ok(table)
        })();
        if written.is_err() {
            for path in [new, path] {
                // The file is nobody's, and the next start removes it if this does not.
                let _ = disk.remove(&path);
            }
        }
        written
    }

    fn write_file(&self, file: &dyn DiskFile, blocks: &[&Block]) -> io::Result<Table> {
        debug_assert_eq!(blocks.len(), self.blocks.len());
        let bytes = self.bytes();
        let mut places = Vec::with_capacity(self.images.len());
        let mut lists = Vec::with_capacity(self.images.len());
        let mut table =
            Vec::with_capacity(self.blocks.len() * ID_BYTES + self.images.len() * ENTRY_BYTES);
        push_ids(&mut table, &self.blocks);
        let mut offset = (HEADER_BYTES + self.blocks.len() * BLOCK_BYTES + table.capacity()) as u64;
        for image in &self.images {
            let mut list = Vec::with_capacity(image.ids.len() * ID_BYTES);
            push_ids(&mut list, image.ids);
            let place = Place {
                offset,
                index_bytes: image.index.len() as u32,
                blocks: image.ids.len() as u32,
                index_hash: blake3::hash(image.index).into(),
                ids_hash: blake3::hash(&list).into(),
            };
            offset += place.bytes();
            table.extend_from_slice(&place.index_bytes.to_le_bytes());
            table.extend_from_slice(&place.blocks.to_le_bytes());
            table.extend_from_slice(&place.index_hash);
            table.extend_from_slice(&place.ids_hash);
            places.push(place);
            lists.push(list);
        }

        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        header.extend_from_slice(&self.number.0.to_le_bytes());
        header.extend_from_slice(&self.owner.0);
        header.extend_from_slice(&(self.images.len() as u32).to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&bytes.to_le_bytes());
        header.extend_from_slice(blake3::hash(&table).as_bytes());
        debug_assert_eq!(header.len(), HEADER_SAID_BYTES);
        let said = blake3::hash(&header);
        header.extend_from_slice(said.as_bytes());
        header.resize(HEADER_BYTES, 0);

        let mut to = Pieces {
            file,
            offset: 0,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        to.push(&header)?;
        for block in blocks {
            to.push(*block)?;
        }
        to.push(&table)?;
        for (image, list) in self.images.iter().zip(&lists) {
            to.push(image.index)?;
            to.push(list)?;
        }
        to.flush()?;
        debug_assert_eq!(to.offset, bytes);
        Ok(Table {
            bytes,
            blocks: self.blocks.len() as u32,
            images: places,
        })
    }
}

/// Collects what is written one after the other into pieces of a good size.
struct Pieces<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    piece: Vec<u8>,
}

impl Pieces<'_> {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.file.write_at(self.offset, &self.piece)?;
            self.offset += self.piece.len() as u64;
            self.piece.clear();
        }
        Ok(())
    }
}

/// What a pack holds, without the ids of its blocks.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// How many blocks there are.
    pub(crate) blocks: u32,
    pub(crate) images: Vec<Place>,
}

impl Table {
    /// Reads the table of a pack, and the ids of its blocks in the order in which they lie there.
    pub(crate) fn read(
        file: &dyn DiskFile,
        number: PackNumber,
        owner: Owner,
    ) -> Result<(Table, Vec<BlockId>), PackError> {
        let damaged = |part| PackError::Damaged { part };
        let size = file.size().map_err(PackError::Io)?;
        if size < HEADER_BYTES as u64 {
            return Err(damaged("length"));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header).map_err(PackError::Io)?;
        let mut fields = Fields(&header);
        if fields.take::<8>() != MAGIC {
            return Err(damaged("header"));
        }
        // Before the checksum: another version may have it elsewhere.
        let version = fields.u32();
        if version > VERSION {
            return Err(PackError::Newer { found: version });
        }
        let said = blake3::hash(&header[..HEADER_SAID_BYTES]);
        if said != header[HEADER_SAID_BYTES..][..32] {
            return Err(damaged("header"));
        }
        let blocks = fields.u32();
        let (number_said, owner_said) = (fields.u64(), *fields.take::<32>());
        let images = fields.u32();
        fields.take::<4>();
        let (bytes, table_hash) = (fields.u64(), *fields.take::<32>());
        if number_said != number.0 || owner_said != owner.0 {
            return Err(damaged("header"));
        }

        // Neither sum can overflow: each count has 32 bits.
        let table_offset = HEADER_BYTES as u64 + u64::from(blocks) * BLOCK_BYTES as u64;
        let ids_bytes = u64::from(blocks) * ID_BYTES as u64;
        let table_bytes = ids_bytes + u64::from(images) * ENTRY_BYTES as u64;
        let mut offset = table_offset + table_bytes;
        if bytes != size || offset > size {
            return Err(damaged("length"));
        }
        let mut table = vec![0; table_bytes as usize];
        file.read_at(table_offset, &mut table)
            .map_err(PackError::Io)?;
        if blake3::hash(&table) != table_hash {
            return Err(damaged("table"));
        }
        let (ids, entries) = table.split_at(ids_bytes as usize);
        let mut places = Vec::with_capacity(images as usize);
        for entry in entries.as_chunks::<ENTRY_BYTES>().0 {
            let mut fields = Fields(entry);
            let place = Place {
                offset,
                index_bytes: fields.u32(),
                blocks: fields.u32(),
                index_hash: *fields.take(),
                ids_hash: *fields.take(),
            };
            // Bounded by the file's length before, and each addend has less than 40 bits.
            offset += place.bytes();
            if offset > size {
                return Err(damaged("table"));
            }
            places.push(place);
        }
        if offset != size {
            return Err(damaged("length"));
        }
        let table = Table {
            bytes,
            blocks,
            images: places,
        };
        Ok((table, ids_of(ids)))
    }
}

impl Place {
    /// Reads the ids of the image's blocks.
    pub(crate) fn read_ids(&self, file: &dyn DiskFile) -> Result<Vec<BlockId>, PackError> {
        let offset = self.offset + u64::from(self.index_bytes);
        let bytes = self.blocks as usize * ID_BYTES;
        let part = "list of blocks";
        read_part(file, offset, bytes, &self.ids_hash, part).map(|bytes| ids_of(&bytes))
    }

    /// Reads the image's index.
    pub(crate) fn read_index(&self, file: &dyn DiskFile) -> Result<Vec<u8>, PackError> {
        let bytes = self.index_bytes as usize;
        read_part(file, self.offset, bytes, &self.index_hash, "index")
    }
}

/// Where the block of this position begins.
pub(crate) fn block_offset(position: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(position) * BLOCK_BYTES as u64
}

/// Reads a part whose length was held against that of the file.
fn read_part(
    file: &dyn DiskFile,
    offset: u64,
    bytes: usize,
    hash: &[u8; 32],
    part: &'static str,
) -> Result<Vec<u8>, PackError> {
    let mut read = vec![0; bytes];
    file.read_at(offset, &mut read).map_err(PackError::Io)?;
    match blake3::hash(&read) == *hash {
        true => Ok(read),
        false => Err(PackError::Damaged { part }),
    }
}

fn push_ids(to: &mut Vec<u8>, ids: &[BlockId]) {
    for id in ids {
        to.extend_from_slice(&id.0);
    }
}

fn ids_of(bytes: &[u8]) -> Vec<BlockId> {
    bytes.as_chunks().0.iter().copied().map(BlockId).collect()
}

/// Takes fixed fields from a part that is as long as all of them.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> &'a [u8; N] {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .expect("the part holds all its fields");
        self.0 = rest;
        field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(*self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(*self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_packs_are_names_of_packs() {
        let number = PackNumber(0x1f);
        let name = |path: String| {
            path.strip_prefix("packs/")
                .expect("it has a folder")
                .to_owned()
        };
        let of = |name: &str| PackNumber::of_name(name);
        assert_eq!(of(&name(number.path())), Some((number, Written::Whole)));
        assert_eq!(
            of(&name(number.path_new())),
            Some((number, Written::Partly))
        );
        for stranger in [
            "1f.pack",
            "000000000000001F.pack",
            "+00000000000001f.pack",
            "000000000000001f.pack.bak",
            "000000000000001f",
            "note",
        ] {
            assert_eq!(of(stranger), None, "{stranger}");
        }
    }
}
