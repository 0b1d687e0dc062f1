//! Frames: a tag, a length and a body.
//!
//! ```text
//! tag: u8 | length: u32, little endian | body: length bytes
//! ```
//!
//! [`FrameReader`] takes bytes as they arrive and gives frames. It refuses a length at the header,
//! before a byte of the body is taken, and holds at most one unfinished body. Bodies of `Data` are
//! handed on as they come, in pieces that share the memory they arrived in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::tag;

/// Bytes before a body: tag and length.
pub const HEADER_BYTES: usize = 5;

/// Why bytes are no frames. The peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A tag that this version does not know and may not skip.
    #[error("unknown frame tag {tag:#04x}")]
    UnknownTag {
        /// The tag
        tag: u8,
    },
    /// A body longer than frames of its tag may have.
    #[error("frame {tag:#04x} announces {announced} bytes, at most {limit} are allowed")]
    TooLong {
        /// The tag
        tag: u8,
        /// Length in the header, in bytes
        announced: u32,
        /// Longest body, in bytes
        limit: u32,
    },
    /// A `Data` frame without data, which would let a peer send frames for ever without progress.
    #[error("empty Data frame")]
    EmptyData,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, {missing} bytes short")]
    Truncated {
        /// Bytes that the header or the body lacks
        missing: u32,
    },
}

/// What a [`FrameReader`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame, other than `Data`.
    Whole {
        /// A tag of [`tag::TABLE`]
        tag: u8,
        /// The body
        body: Bytes,
    },
    /// A piece of the body of a `Data` frame, never empty. Pieces do not show where frames end.
    Data(Bytes),
}

#[derive(Debug)]
enum State {
    Header,
    Body { tag: u8, length: usize },
    Data { left: usize },
    Skipped { left: usize },
}

/// Takes bytes as they arrive, gives frames.
///
/// Feed with [`push`](Self::push), then call [`next`](Self::next) until it yields nothing.
#[derive(Debug)]
pub struct FrameReader {
    state: State,
    /// The beginning of a header or body whose rest has not arrived.
    partial: BytesMut,
    input: Bytes,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader at the beginning of a stream.
    pub fn new() -> Self {
        FrameReader {
            state: State::Header,
            partial: BytesMut::new(),
            input: Bytes::new(),
        }
    }

    /// Gives the next bytes of the stream.
    ///
    /// Call it when [`next`](Self::next) has yielded nothing: then nothing is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.input.is_empty() {
            self.input = chunk;
        } else if !chunk.is_empty() {
            let mut joined = BytesMut::with_capacity(self.input.len() + chunk.len());
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&chunk);
            self.input = joined.freeze();
        }
    }

    /// The next frame, or nothing until more bytes arrive.
    ///
    /// # Errors
    ///
    /// When the bytes are no frame. The stream cannot be read on: there is no telling where the
    /// next frame begins.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would not say that it may resume"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            match self.state {
                State::Header => {
                    let Some(mut header) = self.take(HEADER_BYTES) else {
                        return Ok(None);
                    };
                    let tag = header.get_u8();
                    let length = header.get_u32_le();
                    self.state = Self::body_state(tag, length)?;
                }
                State::Body { tag, length } => {
                    let Some(body) = self.take(length) else {
                        return Ok(None);
                    };
                    self.state = State::Header;
                    return Ok(Some(Frame::Whole { tag, body }));
                }
                State::Data { left } => {
                    let piece = self.take_up_to(left);
                    if piece.is_empty() {
                        return Ok(None);
                    }
                    self.state = match left - piece.len() {
                        0 => State::Header,
                        left => State::Data { left },
                    };
                    return Ok(Some(Frame::Data(piece)));
                }
                State::Skipped { left } => {
                    let skipped = self.take_up_to(left).len();
                    if skipped < left {
                        self.state = State::Skipped {
                            left: left - skipped,
                        };
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] when it ended inside a frame.
    pub fn end(&self) -> Result<(), FrameError> {
        let here = self.partial.len() + self.input.len();
        let missing = match self.state {
            State::Header if here == 0 => return Ok(()),
            State::Header => HEADER_BYTES - here,
            State::Body { length, .. } => length - here,
            State::Data { left } | State::Skipped { left } => left,
        };
        // No body is longer than a `u32` can say.
        Err(FrameError::Truncated {
            missing: u32::try_from(missing).unwrap_or(u32::MAX),
        })
    }

    fn body_state(tag: u8, announced: u32) -> Result<State, FrameError> {
        let limit = match tag::lookup(tag) {
            Some(entry) => entry.body_bytes_max,
            None if tag >= tag::SKIPPABLE => tag::BODY_BYTES_MAX,
            None => return Err(FrameError::UnknownTag { tag }),
        };
        if announced > limit {
            return Err(FrameError::TooLong {
                tag,
                announced,
                limit,
            });
        }
        let length = announced as usize;
        match tag {
            tag::DATA if length == 0 => Err(FrameError::EmptyData),
            tag::DATA => Ok(State::Data { left: length }),
            tag if tag >= tag::SKIPPABLE => Ok(State::Skipped { left: length }),
            tag => Ok(State::Body { tag, length }),
        }
    }

    /// Exactly `length` bytes, or nothing while they have not all arrived. Memory grows with what
    /// has arrived, not with what was announced.
    fn take(&mut self, length: usize) -> Option<Bytes> {
        if self.partial.is_empty() {
            if self.input.len() >= length {
                return Some(self.input.split_to(length));
            }
            self.partial.extend_from_slice(&self.input);
            self.input.clear();
            return None;
        }
        let wanted = length - self.partial.len();
        let piece = self.take_up_to(wanted);
        self.partial.extend_from_slice(&piece);
        (self.partial.len() == length).then(|| self.partial.split().freeze())
    }

    fn take_up_to(&mut self, length: usize) -> Bytes {
        self.input.split_to(length.min(self.input.len()))
    }
}

/// Appends a header, and makes room for `room` bytes after it.
///
/// # Panics
///
/// When `length` exceeds what frames of `tag` may have, which is a mistake of the caller: the peer
/// would refuse the frame.
pub fn put_header(tag: u8, length: usize, room: usize, into: &mut BytesMut) {
    let limit = tag::lookup(tag).map_or(tag::BODY_BYTES_MAX, |entry| entry.body_bytes_max);
    assert!(
        length <= limit as usize,
        "frame {tag:#04x} of {length} bytes exceeds {limit}"
    );
    into.reserve(HEADER_BYTES + room);
    into.put_u8(tag);
    into.put_u32_le(length as u32);
}

/// Appends a frame: header and body.
///
/// # Panics
///
/// As [`put_header`].
pub fn encode_frame(tag: u8, body: &[u8], into: &mut BytesMut) {
    put_header(tag, body.len(), body.len(), into);
    into.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(chunks: impl IntoIterator<Item = Bytes>) -> Result<Vec<Frame>, FrameError> {
        let mut reader = FrameReader::new();
        let mut frames: Vec<Frame> = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(frame) = reader.next()? {
                match (&frame, frames.last_mut()) {
                    // Pieces are joined, so that cuts do not show.
                    (Frame::Data(piece), Some(Frame::Data(before))) => {
                        *before = [&before[..], &piece[..]].concat().into();
                    }
                    _ => frames.push(frame),
                }
            }
        }
        reader.end()?;
        Ok(frames)
    }

    fn whole(tag: u8, body: &[u8]) -> Frame {
        Frame::Whole {
            tag,
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let mut stream = BytesMut::new();
        encode_frame(tag::CANCEL, b"abc", &mut stream);
        encode_frame(tag::STATUS, b"", &mut stream);
        encode_frame(0x80, b"unknown to all", &mut stream);
        encode_frame(tag::DATA, b"payload", &mut stream);
        encode_frame(tag::SHIP, &[7; 32], &mut stream);
        let stream = stream.freeze();
        let expected = vec![
            whole(tag::CANCEL, b"abc"),
            whole(tag::STATUS, b""),
            Frame::Data(Bytes::from_static(b"payload")),
            whole(tag::SHIP, &[7; 32]),
        ];
        for size in 1..=stream.len() {
            let cut = stream.chunks(size).map(Bytes::copy_from_slice);
            assert_eq!(frames(cut), Ok(expected.clone()), "in pieces of {size}");
        }
        for length in 1..stream.len() {
            let outcome = frames([stream.slice(..length)]);
            if let Err(error) = outcome {
                assert!(
                    matches!(error, FrameError::Truncated { .. }),
                    "{error} at {length}"
                );
            }
        }
        assert_eq!(
            frames([stream.slice(..3)]),
            Err(FrameError::Truncated { missing: 2 })
        );
        assert_eq!(
            frames([stream.slice(..7)]),
            Err(FrameError::Truncated { missing: 1 })
        );
    }

    #[test]
    fn bodies_share_the_memory_they_arrived_in() {
        let mut stream = BytesMut::new();
        encode_frame(tag::DATA, &[1; 100], &mut stream);
        let stream = stream.freeze();
        let mut reader = FrameReader::new();
        reader.push(stream.clone());
        let Ok(Some(Frame::Data(piece))) = reader.next() else {
            panic!("no data")
        };
        assert_eq!(piece.as_ptr(), stream[HEADER_BYTES..].as_ptr());
    }

    #[test]
    fn lengths_are_refused_at_the_header() {
        for entry in tag::TABLE {
            let mut header = vec![entry.tag];
            header.extend((entry.body_bytes_max + 1).to_le_bytes());
            let expected = FrameError::TooLong {
                tag: entry.tag,
                announced: entry.body_bytes_max + 1,
                limit: entry.body_bytes_max,
            };
            assert_eq!(frames([header.into()]), Err(expected));
        }
        let header = [&[0xFF][..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(
            frames([header.into()]),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn unknown_tags_below_the_skippable_ones_are_errors() {
        for tag in (0..tag::SKIPPABLE).filter(|tag| tag::lookup(*tag).is_none()) {
            let header = Bytes::copy_from_slice(&[tag, 0, 0, 0, 0]);
            assert_eq!(frames([header]), Err(FrameError::UnknownTag { tag }));
        }
    }

    #[test]
    fn empty_data_is_refused() {
        let header = Bytes::from_static(&[tag::DATA, 0, 0, 0, 0]);
        assert_eq!(frames([header]), Err(FrameError::EmptyData));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(stream: Vec<u8>, size in 1usize..40) {
            let _ = frames(stream.chunks(size).map(Bytes::copy_from_slice));
        }
    }
}
