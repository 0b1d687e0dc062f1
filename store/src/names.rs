//! What records and blocks are called.

use std::fmt;

/// Size of a block, in bytes. As in the images of `spore-bundle`.
pub const BLOCK_BYTES: usize = 4096;

/// A block of an image.
pub type Block = [u8; BLOCK_BYTES];

/// The name of a block: BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub [u8; 32]);

impl BlockId {
    /// The name of this block.
    pub fn of(block: &Block) -> BlockId {
        BlockId(blake3::hash(block).into())
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

/// Whose a record is: a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub [u8; 32]);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, f)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

/// What a record is about, as the host numbers it: a session, a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

/// The name of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose it is
    pub owner: Owner,
    /// What it is about
    pub kind: Kind,
    /// Its id among those of its owner and kind
    pub id: [u8; 16],
}

/// Bytes of a [`Key`].
pub(crate) const KEY_BYTES: usize = 32 + 1 + 16;

impl Key {
    /// Owner, kind and id one after the other: the order of bytes is the order of keys.
    pub(crate) fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..32].copy_from_slice(&self.owner.0);
        bytes[32] = self.kind.0;
        bytes[33..].copy_from_slice(&self.id);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let (owner, rest) = bytes.split_first_chunk::<32>()?;
        let (kind, id) = rest.split_first()?;
        Some(Key {
            owner: Owner(*owner),
            kind: Kind(*kind),
            id: id.try_into().ok()?,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.owner, self.kind.0)?;
        hexadecimal(&self.id, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

fn hexadecimal(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
