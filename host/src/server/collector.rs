//! The bytes of a blob as they arrive: decompressed, counted and hashed.
//!
//! No I/O and no waiting: pieces in, a checked blob or a refusal out.

use bytes::Bytes;
use spore_transport::RefusalCode;
use spore_transport::message::{Blob, Encoding, Refused};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::store::{Collecting, NotTheBlob, Verified};

/// Largest window of a zstd frame that is accepted, as a power of two: 32 MiB. A frame may demand
/// its window as memory before it yields a byte.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Decompressed bytes that are passed on together.
const BUFFER_BYTES: usize = 64 << 10;

/// A blob of which a part has arrived.
pub(super) struct Collector {
    blob: Blob,
    collecting: Collecting,
    frame: Option<Frame>,
}

/// The one zstd frame that a blob may be.
struct Frame {
    decoder: Decoder<'static>,
    ended: bool,
}

impl Collector {
    /// A blob of which nothing has arrived.
    pub(super) fn new(blob: Blob) -> Result<Collector, Refused> {
        let broken = |error: std::io::Error| encoding(&blob, &error.to_string());
        let frame = match blob.encoding {
            Encoding::Raw => None,
            Encoding::Zstd => {
                let mut decoder = Decoder::new().map_err(broken)?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                decoder.set_parameter(window).map_err(broken)?;
                Some(Frame {
                    decoder,
                    ended: false,
                })
            }
        };
        Ok(Collector {
            blob,
            collecting: Collecting::new(blob.raw_bytes),
            frame,
        })
    }

    /// Takes pieces in their order. Costs time with their length, and with what they decompress to.
    pub(super) fn push(&mut self, pieces: Vec<Bytes>) -> Result<(), Refused> {
        let blob = self.blob;
        let Some(frame) = &mut self.frame else {
            return pieces
                .iter()
                .try_for_each(|piece| self.collecting.push(piece))
                .map_err(|error| refuse(&blob, error));
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        for piece in pieces {
            let mut input = InBuffer::around(&piece);
            loop {
                if frame.ended {
                    if input.pos() < piece.len() {
                        return Err(encoding(&blob, "bytes after the end"));
                    }
                    break;
                }
                let mut output = OutBuffer::around(&mut buffer[..]);
                let more = frame
                    .decoder
                    .run(&mut input, &mut output)
                    .map_err(|error| encoding(&blob, &error.to_string()))?;
                self.collecting
                    .push(output.as_slice())
                    .map_err(|error| refuse(&blob, error))?;
                frame.ended = more == 0;
                // A full buffer may have left something behind, also when all input is taken.
                if input.pos() == piece.len() && output.pos() < BUFFER_BYTES {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The bytes, when they are whole, for who checks them part by part.
    pub(super) fn finish_unchecked(self) -> Result<Bytes, Refused> {
        self.check_frame()?;
        let bytes = self.collecting.finish_unchecked();
        bytes.map_err(|error| refuse(&self.blob, error))
    }

    fn check_frame(&self) -> Result<(), Refused> {
        if self.frame.as_ref().is_some_and(|frame| !frame.ended) {
            return Err(encoding(&self.blob, "it ends within its frame"));
        }
        Ok(())
    }

    /// The blob, when it is whole and the one that was asked for.
    pub(super) fn finish(self) -> Result<Verified, Refused> {
        self.check_frame()?;
        let checked = self.collecting.finish(self.blob.id);
        checked.map_err(|error| refuse(&self.blob, error))
    }
}

fn encoding(blob: &Blob, why: &str) -> Refused {
    Refused::new(RefusalCode::BlobEncoding, format!("{}: {why}", blob.id))
}

fn refuse(blob: &Blob, error: NotTheBlob) -> Refused {
    match error {
        NotTheBlob::Length(actual) => Refused::new(RefusalCode::BlobEncoding, blob.id.to_string())
            .past(blob.raw_bytes, actual),
        NotTheBlob::Id(found) => Refused::new(
            RefusalCode::BlobMismatch,
            format!("{} came as {found}", blob.id),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spore_transport::BlobId;

    fn collect(
        bytes: &[u8],
        wire: &[u8],
        encoding: Encoding,
        cut: usize,
    ) -> Result<Bytes, Refused> {
        let mut collector = Collector::new(Blob {
            id: BlobId(*blake3::hash(bytes).as_bytes()),
            encoding,
            raw_bytes: bytes.len() as u64,
            wire_bytes: wire.len() as u64,
        })?;
        for pieces in wire.chunks(3 * cut) {
            collector.push(pieces.chunks(cut).map(Bytes::copy_from_slice).collect())?;
        }
        collector.finish().map(|blob| blob.bytes().clone())
    }

    fn code(outcome: Result<Bytes, Refused>) -> RefusalCode {
        outcome.expect_err("refused").code
    }

    fn pack(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).expect("compresses")
    }

    /// Bytes of which some repeat.
    fn some(count: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes())
            .collect()
    }

    #[test]
    fn any_cut_gives_the_blob() {
        for count in [0, 1, 10_000, 100_000] {
            let bytes = some(count);
            let packed = pack(&bytes);
            for cut in [1, 7, 4096, 1 << 20] {
                let raw = collect(&bytes, &bytes, Encoding::Raw, cut);
                assert_eq!(raw.expect("raw"), bytes);
                let unpacked = collect(&bytes, &packed, Encoding::Zstd, cut);
                assert_eq!(unpacked.expect("packed"), bytes);
            }
        }
    }

    #[test]
    fn what_is_no_single_frame_of_the_announced_length_is_refused() {
        let bytes = some(1000);
        let packed = pack(&bytes);
        let cases = [
            ("truncated", packed[..packed.len() - 1].to_vec()),
            ("empty", Vec::new()),
            ("two frames", [&packed[..], &packed[..]].concat()),
            ("a byte after the end", [&packed[..], &[0]].concat()),
            ("no frame", bytes.clone()),
            ("longer", pack(&some(1001))),
            ("shorter", pack(&some(999))),
            ("a bomb", pack(&vec![0; 10 << 20])),
        ];
        for (what, wire) in cases {
            let outcome = collect(&bytes, &wire, Encoding::Zstd, 100);
            assert_eq!(code(outcome), RefusalCode::BlobEncoding, "{what}");
        }
        let other = pack(&[&bytes[1..], &[9]].concat());
        let outcome = collect(&bytes, &other, Encoding::Zstd, 100);
        assert_eq!(code(outcome), RefusalCode::BlobMismatch);
        let outcome = collect(&bytes, &bytes[1..], Encoding::Raw, 100);
        assert_eq!(code(outcome), RefusalCode::BlobEncoding);
    }
}
