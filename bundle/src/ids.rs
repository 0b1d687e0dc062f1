//! Ids: what code, states and bundles are known by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Size of an id, in bytes.
pub const ID_BYTES: usize = 32;

/// Digits of the short form of an id.
const SHORT_DIGITS: usize = 12;

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// An id has two digits for each of its bytes.
    #[error("an id has {} hexadecimal digits, this text has {digits} characters", 2 * ID_BYTES)]
    Length {
        /// Characters found
        digits: usize,
    },
    /// A character is not one of `0`–`9` and `a`–`f`.
    #[error("{found:?} at position {position} is not a lower-case hexadecimal digit")]
    Digit {
        /// The character
        found: char,
        /// Characters before it
        position: usize,
    },
}

/// Reads 64 lower-case digits. Upper case is refused, so that an id has one written form.
fn parse(text: &str) -> Result<[u8; ID_BYTES], ParseIdError> {
    let digits = text.chars().count();
    if digits != 2 * ID_BYTES {
        return Err(ParseIdError::Length { digits });
    }
    let mut bytes = [0; ID_BYTES];
    for (position, found) in text.chars().enumerate() {
        let digit = match found {
            '0'..='9' => found as u8 - b'0',
            'a'..='f' => found as u8 - b'a' + 10,
            _ => return Err(ParseIdError::Digit { found, position }),
        };
        bytes[position / 2] = bytes[position / 2] << 4 | digit;
    }
    Ok(bytes)
}

/// Writes the first `digits` hexadecimal digits.
fn hexadecimal(bytes: &[u8; ID_BYTES], digits: usize) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .take(digits)
        .map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)]))
        .collect()
}

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        ///
        /// Written as 64 lower-case hexadecimal digits; encoded as its 32 bytes, without a length.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; ID_BYTES]);

        impl $name {
            /// The id of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(blake3::hash(bytes).into())
            }

            /// The id as bytes.
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }

            /// The first 12 digits: enough for people to tell ids apart, never to look one up.
            pub fn short(&self) -> String {
                hexadecimal(&self.0, SHORT_DIGITS)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hexadecimal(&self.0, 2 * ID_BYTES))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl From<[u8; ID_BYTES]> for $name {
            fn from(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; ID_BYTES] {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id! {
    /// Names code: BLAKE3 of the module without Spore's sections.
    CodeId
}

id! {
    /// Names a state: BLAKE3 of its uncompressed bytes. Of an image these are the index, which names
    /// every block.
    StateId
}

id! {
    /// Names a bundle: BLAKE3 of its manifest, which names code and state.
    BundleId
}

id! {
    /// Names a block of an image: BLAKE3 of its 4,096 bytes.
    BlockId
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAKE3 of nothing, from the specification's test vectors.
    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn an_id_is_blake3_in_lower_case() {
        let id = CodeId::of(b"");
        assert_eq!(id.to_string(), EMPTY);
        assert_eq!(id.short(), &EMPTY[..12]);
        assert_eq!(format!("{id:?}"), format!("CodeId({EMPTY})"));
        assert_eq!(EMPTY.parse::<CodeId>(), Ok(id));
        assert_eq!(CodeId::from(<[u8; 32]>::from(id)), id);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(
            "af".parse::<StateId>(),
            Err(ParseIdError::Length { digits: 2 })
        );
        let upper = EMPTY.replacen('a', "A", 1);
        let expected = ParseIdError::Digit {
            found: 'A',
            position: 0,
        };
        assert_eq!(upper.parse::<StateId>(), Err(expected));
        let wide = EMPTY.replacen('1', "é", 1);
        let expected = ParseIdError::Digit {
            found: 'é',
            position: 2,
        };
        assert_eq!(wide.parse::<StateId>(), Err(expected));
    }
}
