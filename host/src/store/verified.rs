//! Bytes that are checked against the id that they came under.

use bytes::Bytes;
use spore_transport::BlobId;

/// Bytes whose hash was checked: nothing else enters the store or is looked at.
#[derive(Clone, Debug)]
pub struct Verified {
    id: BlobId,
    bytes: Bytes,
}

impl Verified {
    /// Hashes `bytes` and compares with `id`.
    ///
    /// # Errors
    ///
    /// Gives the id that the bytes have instead.
    pub fn check(id: BlobId, bytes: Bytes) -> Result<Verified, BlobId> {
        let found = BlobId(*blake3::hash(&bytes).as_bytes());
        if found == id {
            Ok(Verified { id, bytes })
        } else {
            Err(found)
        }
    }

    /// The blob's id.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Bytes that are hashed together. BLAKE3 hashes many chunks of 1 KiB side by side, more than
/// arrive in one piece; these are still in the processor's cache when it comes to them.
const HASH_BYTES: usize = 128 << 10;

/// Bytes that arrive piece by piece and are hashed on the way.
pub(crate) struct Collecting {
    bytes: Vec<u8>,
    hash: blake3::Hasher,
    /// How many of the bytes are hashed.
    hashed: usize,
    announced: u64,
}

/// Why collected bytes are not the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTheBlob {
    /// More or fewer bytes than announced: how many so far.
    Length(u64),
    /// The bytes have this id.
    Id(BlobId),
}

impl Collecting {
    /// Room for `announced` bytes. The system gives memory only for what is written, so an
    /// announcement alone takes none.
    pub(crate) fn new(announced: u64) -> Collecting {
        let capacity = usize::try_from(announced).unwrap_or(0);
        Collecting {
            bytes: Vec::with_capacity(capacity),
            hash: blake3::Hasher::new(),
            hashed: 0,
            announced,
        }
    }

    /// Takes a piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), NotTheBlob> {
        let bytes = self.bytes.len() as u64 + piece.len() as u64;
        if bytes > self.announced {
            return Err(NotTheBlob::Length(bytes));
        }
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() - self.hashed >= HASH_BYTES {
            self.hash.update(&self.bytes[self.hashed..]);
            self.hashed = self.bytes.len();
        }
        Ok(())
    }

    /// The bytes, when all of them came, for who checks them part by part.
    pub(crate) fn finish_unchecked(self) -> Result<Bytes, NotTheBlob> {
        let bytes = self.bytes.len() as u64;
        if bytes != self.announced {
            return Err(NotTheBlob::Length(bytes));
        }
        Ok(self.bytes.into())
    }

    /// The blob, when all of it came and its hash is `id`.
    pub(crate) fn finish(mut self, id: BlobId) -> Result<Verified, NotTheBlob> {
        let bytes = self.bytes.len() as u64;
        if bytes != self.announced {
            return Err(NotTheBlob::Length(bytes));
        }
        self.hash.update(&self.bytes[self.hashed..]);
        let found = BlobId(*self.hash.finalize().as_bytes());
        if found == id {
            Ok(Verified {
                id,
                bytes: self.bytes.into(),
            })
        } else {
            Err(NotTheBlob::Id(found))
        }
    }
}
