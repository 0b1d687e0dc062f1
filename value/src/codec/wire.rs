//! Numbers, characters and lengths as bincode writes them. Nothing else names bincode.

use alloc::vec::Vec;

use bincode::config::{Configuration, standard};
use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{BorrowDecoder, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encoder, EncoderImpl};
use bincode::error::{DecodeError as Refusal, EncodeError as WriteError};
use bincode::{Decode, Encode};

use super::DecodeError;

/// Numbers below this are their own byte; from here on bytes tell the width that follows, except
/// that 255 is not used.
const TAG_U16: u8 = 251;
const TAG_U32: u8 = 252;
const TAG_U64: u8 = 253;
const TAG_U128: u8 = 254;

/// What has a written form of its own: numbers, truth values, characters.
pub(crate) trait Plain: Encode + Decode<()> {}

macro_rules! plain {
    ($($type:ty),+) => { $(impl Plain for $type {})+ };
}

plain!(
    bool, char, f32, f64, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128
);

/// Where bytes are written.
pub(super) struct Output(EncoderImpl<Buffer, Configuration>);

struct Buffer(Vec<u8>);

impl Writer for Buffer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Output {
    /// Writes on after what `buffer` holds.
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        Self(EncoderImpl::new(Buffer(buffer), standard()))
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.0.into_writer().0
    }

    /// All that has been written.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0.writer().0
    }

    /// Writes a number, a truth value or a character.
    pub(super) fn put<T: Plain>(&mut self, value: T) {
        value
            .encode(&mut self.0)
            .expect("a vector takes every write");
    }

    pub(super) fn put_length(&mut self, length: usize) {
        self.put(length as u64);
    }
}

/// Where bytes are read.
pub(super) struct Input<'de>(DecoderImpl<Rest<'de>, Configuration, ()>);

struct Rest<'de>(&'de [u8]);

impl Reader for Rest<'_> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        bytes.copy_from_slice(self.take_bytes(bytes.len())?);
        Ok(())
    }

    #[inline]
    fn peek_read(&mut self, count: usize) -> Option<&[u8]> {
        self.0.get(..count)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }
}

impl<'de> BorrowReader<'de> for Rest<'de> {
    #[inline]
    fn take_bytes(&mut self, count: usize) -> Result<&'de [u8], Refusal> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(Refusal::UnexpectedEnd {
                additional: count - self.0.len(),
            });
        };
        self.0 = rest;
        Ok(taken)
    }
}

impl<'de> Input<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self(DecoderImpl::new(Rest(bytes), standard(), ()))
    }

    /// What has not been read yet.
    pub(super) fn rest(&mut self) -> &'de [u8] {
        self.0.borrow_reader().0
    }

    /// Reads what has one form only: a byte, a float, a truth value, a character.
    pub(super) fn take<T: Plain>(&mut self) -> Result<T, DecodeError> {
        T::decode(&mut self.0).map_err(refusal)
    }

    /// Reads a number of variable length.
    pub(super) fn take_number<T: Plain>(&mut self) -> Result<T, DecodeError> {
        let before = self.rest();
        let number = self.take()?;
        let written = &before[..before.len() - self.rest().len()];
        if is_shortest(written) {
            Ok(number)
        } else {
            Err(DecodeError::NotShortest)
        }
    }

    pub(super) fn take_bytes(&mut self, count: u64) -> Result<&'de [u8], DecodeError> {
        let available = self.rest().len() as u64;
        match usize::try_from(count) {
            Ok(count) => self.0.borrow_reader().take_bytes(count).map_err(refusal),
            Err(_) => Err(DecodeError::Truncated {
                missing: count - available,
            }),
        }
    }
}

/// Whether a number that bincode accepted is in the form in which it writes it: whether the width
/// below would not have held it.
#[inline]
fn is_shortest(written: &[u8]) -> bool {
    match written {
        [TAG_U16, low, 0] => *low >= TAG_U16,
        [TAG_U32, number @ ..] => number[2..] != [0; 2],
        [TAG_U64, number @ ..] => number[4..] != [0; 4],
        [TAG_U128, number @ ..] => number[8..] != [0; 8],
        _ => true,
    }
}

fn refusal(refusal: Refusal) -> DecodeError {
    match refusal {
        Refusal::UnexpectedEnd { additional } => DecodeError::Truncated {
            missing: additional as u64,
        },
        Refusal::InvalidIntegerType { .. } => DecodeError::NumberTooWide,
        Refusal::InvalidBooleanValue(found) => DecodeError::NotBool { found },
        Refusal::InvalidCharEncoding(_) => DecodeError::NotChar,
        other => <DecodeError as serde::de::Error>::custom(other),
    }
}
