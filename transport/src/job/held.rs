//! Items that were emitted and not taken, as the blob in which they move with their job.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spore_value::{DecodeError, Limits, codec};

use crate::exchange::HELD_ITEMS_BYTES_MAX_DEFAULT;
use crate::message::byte_string;

/// Items that a host holds for a job at most before the guest waits.
pub const HELD_ITEMS_MAX: u64 = 64;

/// The same in bytes. One item alone may have more.
pub const HELD_BYTES_MAX: u64 = 256 << 10;

/// Items that a host holds for a job, one after the other. The blob is their encoding as a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldItems {
    /// The sequence number of the first
    pub first: u64,
    /// The encoded items
    items: Vec<HeldItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldItem(#[serde(with = "byte_string")] Bytes);

/// Why bytes are no held items. The fault of who sent them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeldItemsError {
    /// They are not the encoding.
    #[error("unreadable items")]
    Body(#[source] DecodeError),
    /// They are more bytes than a host holds for a job.
    #[error("{bytes} bytes of items, at most {limit} are held")]
    TooLarge {
        /// Bytes of the blob
        bytes: u64,
        /// How many it may have
        limit: u64,
    },
    /// They are not those that the run has emitted.
    #[error("{count} items from {first} do not end where the run stands, at {emitted}")]
    Count {
        /// The sequence number of the first
        first: u64,
        /// How many there are
        count: u64,
        /// Items that the run has emitted
        emitted: u64,
    },
}

impl HeldItems {
    /// These items, the first of this sequence number.
    pub fn new(first: u64, items: impl IntoIterator<Item = Bytes>) -> HeldItems {
        HeldItems {
            first,
            items: items.into_iter().map(HeldItem).collect(),
        }
    }

    /// Each with its sequence number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        let items = (0..).zip(&self.items);
        // The numbers of those that were read end within 64 bits.
        items.map(|(at, item)| (self.first.saturating_add(at), &item.0))
    }

    /// The bytes of the blob.
    ///
    /// # Panics
    ///
    /// Never: the value is nested two levels deep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_serde(self).expect("a list of bytes is encodable")
    }

    /// Reads what [`encode`](Self::encode) has written here before.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding, or more than a host holds.
    pub fn decode_any(bytes: &[u8]) -> Result<HeldItems, HeldItemsError> {
        let length = bytes.len() as u64;
        if length > HELD_ITEMS_BYTES_MAX_DEFAULT {
            return Err(HeldItemsError::TooLarge {
                bytes: length,
                limit: HELD_ITEMS_BYTES_MAX_DEFAULT,
            });
        }
        let limits = Limits::default()
            .with_bytes(length)
            .with_elements(HELD_ITEMS_MAX)
            .with_work(4 * length + 64);
        codec::decode_serde(bytes, &limits).map_err(HeldItemsError::Body)
    }

    /// Reads the bytes of the blob, and holds them against the
    /// number of items that the image says were emitted.
    ///
    /// # Errors
    ///
    /// When they are not the encoding, more than a host holds, or others than the last that were emitted.
    pub fn decode(bytes: &[u8], emitted: u64) -> Result<HeldItems, HeldItemsError> {
        let held = Self::decode_any(bytes)?;
        let count = held.items.len() as u64;
        if held.first.checked_add(count) != Some(emitted) {
            return Err(HeldItemsError::Count {
                first: held.first,
                count,
                emitted,
            });
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_items_are_those_that_the_run_has_emitted_last() {
        let held = HeldItems::new(5, [Bytes::from_static(b"a"), Bytes::new()]);
        let bytes = held.encode();
        assert_eq!(bytes, [5, 2, 1, b'a', 0]);
        assert_eq!(HeldItems::decode(&bytes, 7).expect("own encoding"), held);
        let numbers: Vec<_> = held.iter().map(|(sequence, _)| sequence).collect();
        assert_eq!(numbers, [5, 6]);
        for emitted in [6, 8, 0] {
            let wrong = HeldItems::decode(&bytes, emitted);
            assert!(
                matches!(wrong, Err(HeldItemsError::Count { .. })),
                "{wrong:?}"
            );
        }
        let over = HeldItems::new(u64::MAX, [Bytes::new()]).encode();
        let wrong = HeldItems::decode(&over, 0);
        assert!(
            matches!(wrong, Err(HeldItemsError::Count { .. })),
            "{wrong:?}"
        );
        let many = HeldItems::new(0, vec![Bytes::new(); 65]).encode();
        let wrong = HeldItems::decode(&many, 65);
        assert!(matches!(wrong, Err(HeldItemsError::Body(_))), "{wrong:?}");
        // Two thousand million items, in five bytes.
        let wrong = HeldItems::decode(&[0, 0xFC, 0, 0, 0, 0x80], 0);
        assert!(matches!(wrong, Err(HeldItemsError::Body(_))), "{wrong:?}");
    }
}
