//! Compression of blobs and blocks on their way.

use bytes::Bytes;

use crate::message::Encoding;

/// What is shorter travels as it is, in bytes.
const PACK_FROM: usize = 512;
/// Of what is longer, this much is tried first, in bytes.
const SAMPLE_BYTES: usize = 128 << 10;
/// Faster than most networks.
const ZSTD_LEVEL: i32 = 1;

/// Compresses bytes that lose an eighth of their length by it. Takes time with their length, of what
/// does not shrink only with the first 128 KiB.
///
/// To a peer on the same machine this costs more than it saves: see
/// [`Connection::is_near`](crate::Connection::is_near).
pub fn pack(bytes: Bytes) -> (Encoding, Bytes) {
    let shrinks = |bytes: &[u8]| {
        zstd::bulk::compress(bytes, ZSTD_LEVEL)
            .ok()
            .filter(|packed| packed.len() < bytes.len() / 8 * 7)
    };
    let begin = bytes.get(..SAMPLE_BYTES);
    if bytes.len() < PACK_FROM || begin.is_some_and(|begin| shrinks(begin).is_none()) {
        return (Encoding::Raw, bytes);
    }
    match shrinks(&bytes) {
        Some(packed) => (Encoding::Zstd, packed.into()),
        None => (Encoding::Raw, bytes),
    }
}

/// What was packed: nothing when it does not have this length.
pub fn unpack(encoding: Encoding, bytes: Bytes, raw_bytes: u64) -> Option<Bytes> {
    let length = usize::try_from(raw_bytes).ok()?;
    let raw = match encoding {
        Encoding::Raw => bytes,
        Encoding::Zstd => zstd::bulk::decompress(&bytes, length).ok()?.into(),
    };
    (raw.len() == length).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_shrink_travels_as_it_is() {
        let (encoding, packed) = pack(Bytes::from(vec![7; 1 << 20]));
        assert_eq!(encoding, Encoding::Zstd);
        assert!(packed.len() < 1000);
        let raw = |length| unpack(encoding, packed.clone(), length);
        assert_eq!(raw(1 << 20), Some(vec![7; 1 << 20].into()));
        assert_eq!([raw((1 << 20) - 1), raw((1 << 20) + 1)], [None, None]);
        let noise = |number: u32| *blake3::hash(&number.to_le_bytes()).as_bytes();
        let noise: Vec<u8> = (0..8192).flat_map(noise).collect();
        assert!(noise.len() > SAMPLE_BYTES);
        for noise in [&noise[..], &noise[..PACK_FROM]] {
            let (encoding, same) = pack(Bytes::copy_from_slice(noise));
            assert_eq!((encoding, &same[..]), (Encoding::Raw, noise));
            assert_eq!(unpack(encoding, same.clone(), 1), None);
            assert_eq!(
                unpack(encoding, same.clone(), same.len() as u64),
                Some(same)
            );
        }
    }
}
