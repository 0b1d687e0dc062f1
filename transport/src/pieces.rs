//! A payload as it came, in pieces.

use bytes::{Bytes, BytesMut};

use crate::message::Encoding;
use crate::packing;

/// What is shorter is put together with its neighbours, in bytes: each piece holds a little memory of its
/// own, and what it came in.
const PIECE_BYTES_MIN: usize = 1 << 10;
/// Until they are so many bytes.
const TOGETHER_BYTES: usize = 64 << 10;

/// A payload that is gathered without a copy of it, unless it comes in crumbs.
#[derive(Debug, Default)]
pub struct Pieces {
    whole: Vec<Bytes>,
    crumbs: BytesMut,
    bytes: u64,
}

impl Pieces {
    /// Takes the next piece.
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        if piece.len() >= PIECE_BYTES_MIN {
            self.put_together();
            self.whole.push(piece);
            return;
        }
        self.crumbs.extend_from_slice(&piece);
        if self.crumbs.len() >= TOGETHER_BYTES {
            self.put_together();
        }
    }

    fn put_together(&mut self) {
        if !self.crumbs.is_empty() {
            self.whole.push(self.crumbs.split().freeze());
        }
    }

    /// How many bytes have come.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether none have.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What was packed, in pieces: nothing when it does not have this length.
    pub fn unpacked(mut self, encoding: Encoding, raw_bytes: u64) -> Option<Vec<Bytes>> {
        self.put_together();
        match encoding {
            Encoding::Raw => (self.bytes == raw_bytes).then_some(self.whole),
            Encoding::Zstd => {
                let packed = self.whole.concat().into();
                Some(vec![packing::unpack(encoding, packed, raw_bytes)?])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_came_and_crumbs_are_put_together() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let mut pieces = Pieces::default();
        for piece in bytes[..100_000].chunks(1) {
            pieces.push(Bytes::copy_from_slice(piece));
        }
        let large = Bytes::copy_from_slice(&bytes[100_000..199_000]);
        pieces.push(large.clone());
        pieces.push(Bytes::copy_from_slice(&bytes[199_000..]));
        assert_eq!((pieces.len(), pieces.is_empty()), (200_000, false));
        let gathered = pieces
            .unpacked(Encoding::Raw, 200_000)
            .expect("so many came");
        assert_eq!(gathered.concat(), bytes);
        assert_eq!(gathered.len(), 4);
        assert!(gathered.iter().any(|it| it.as_ptr() == large.as_ptr()));
    }

    #[test]
    fn what_was_packed_is_unpacked_and_another_length_is_none() {
        let bytes = Bytes::from(vec![7; 100_000]);
        let (encoding, packed) = packing::pack(bytes.clone());
        let gathered = |encoding, length| {
            let mut pieces = Pieces::default();
            pieces.push(packed.clone());
            pieces.unpacked(encoding, length)
        };
        assert_eq!(encoding, Encoding::Zstd);
        assert_eq!(gathered(encoding, 100_000), Some(vec![bytes]));
        assert_eq!(gathered(encoding, 99_999), None);
        assert_eq!(gathered(Encoding::Raw, 100_000), None);
    }
}
