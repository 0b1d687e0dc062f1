//! Values to and from bytes.
//!
//! The encoding is bincode's in its standard configuration, with two rules of our own that make it
//! one to one: the entries of maps and sets stand in ascending order of their keys' bytes, and a
//! decoder accepts a number in its shortest form only. So equal values have equal bytes, and
//! what decodes encodes to the same bytes again.
//!
//! bincode gives the written forms of numbers, characters and lengths, and only the private module
//! `wire` names it. The walk over the value is our own, since that is where maps are ordered and
//! elements, work and depth are counted.

pub(crate) mod decoder;
pub(crate) mod encoder;
mod error;
pub(crate) mod wire;

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::limits::Limits;
use crate::value::{Ref, Seed, Value};

use decoder::Reader;
pub use error::{DecodeError, EncodeError};

/// The number of this encoding, as manifests record it for each callable.
pub const CODEC: u8 = 1;

/// The bytes of a value.
///
/// # Errors
/// When the value is nested deeper than [`DEPTH_MAX_DEFAULT`](crate::limits::DEPTH_MAX_DEFAULT), or
/// holds a `usize` or `isize` beyond 32 bits.
pub fn encode<T: Value>(value: &T) -> Result<Vec<u8>, EncodeError> {
    encode_serde(&Ref(value))
}

/// Appends the bytes of a value, as captures and arguments are laid one after the other.
///
/// # Errors
/// As [`encode`]; `output` is then as it was.
pub fn encode_append<T: Value>(value: &T, output: &mut Vec<u8>) -> Result<(), EncodeError> {
    encoder::append(&Ref(value), output)
}

/// The bytes of anything that implements serde's `Serialize`: manifests and frames.
///
/// # Errors
/// As [`encode`], and when a sequence or a map does not know its length.
pub fn encode_serde<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut output = Vec::new();
    encoder::append(value, &mut output)?;
    Ok(output)
}

/// Reads a value that takes up all of `bytes`.
///
/// # Errors
/// When the bytes are not those of a `T`, or ask for more than `limits` allow.
pub fn decode<T: Value>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    decode_seed(Seed::new(), bytes, limits)
}

/// Reads anything that implements serde's `Deserialize` and takes up all of `bytes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_serde<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    decode_seed(core::marker::PhantomData::<T>, bytes, limits)
}

/// Reads what a seed asks for, which must take up all of `bytes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_seed<'de, S: DeserializeSeed<'de>>(
    seed: S,
    bytes: &'de [u8],
    limits: &Limits,
) -> Result<S::Value, DecodeError> {
    let mut decoder = Decoder::new(bytes, limits)?;
    let value = decoder.seed(seed)?;
    decoder.finish()?;
    Ok(value)
}

/// Reads values that were laid one after the other, all within one set of limits.
///
/// ```
/// use spore_value::{Limits, codec};
///
/// let mut bytes = codec::encode(&7u32)?;
/// codec::encode_append(&String::from("seven"), &mut bytes)?;
///
/// let mut values = codec::Decoder::new(&bytes, &Limits::default())?;
/// let number: u32 = values.value()?;
/// let name: String = values.value()?;
/// values.finish()?;
/// assert_eq!((number, name.as_str()), (7, "seven"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Decoder<'de>(Reader<'de>);

impl<'de> Decoder<'de> {
    /// A decoder at the start of `bytes`.
    ///
    /// # Errors
    /// When there are more bytes than `limits` allow.
    pub fn new(bytes: &'de [u8], limits: &Limits) -> Result<Self, DecodeError> {
        Ok(Self(Reader::new(bytes, limits)?))
    }

    /// The next value.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn value<T: Value>(&mut self) -> Result<T, DecodeError> {
        self.seed(Seed::new())
    }

    /// What the seed makes of the bytes that come next.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        seed.deserialize(&mut self.0)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        self.0.finish()
    }
}
