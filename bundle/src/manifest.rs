//! What a bundle says of itself.
//!
//! A manifest begins with the version of its format. Each version is a frozen type in a module of
//! its own, [`v1`] so far; [`Manifest`] is the newest, and what the rest of the program uses.

use spore_value::codec;

use crate::limits::MANIFEST_BYTES_MAX;

mod check;
pub mod v1;

pub use check::{is_hidden, is_plain_name};
pub use v1::{Callable, Code, CodeKind, Grant, Manifest, State, StateKind};

/// The newest version of the format, and the one that is written.
pub const MANIFEST_VERSION: u16 = v1::VERSION;

/// Bytes of the version that a manifest begins with.
const VERSION_BYTES: usize = size_of::<u16>();

/// What decoding a manifest may take. Its bytes are bounded, and every element has at least one.
const LIMITS: spore_value::Limits = spore_value::Limits {
    bytes: MANIFEST_BYTES_MAX,
    elements: MANIFEST_BYTES_MAX,
    work: 2 * MANIFEST_BYTES_MAX,
    depth: spore_value::limits::DEPTH_MAX_DEFAULT,
};

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It has more bytes than a manifest may have.
    #[error("manifest of {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size
        bytes: u64,
        /// [`MANIFEST_BYTES_MAX`]
        limit: u64,
    },
    /// It ends before its version does.
    #[error("manifest of {bytes} bytes has no version")]
    NoVersion {
        /// Its size
        bytes: u64,
    },
    /// It is of a version that this release does not know.
    #[error("manifest of version {found}, this release reads versions up to {newest}")]
    UnknownVersion {
        /// The version it begins with
        found: u16,
        /// [`MANIFEST_VERSION`]
        newest: u16,
    },
    /// The bytes after the version are not a manifest of that version.
    #[error("manifest that does not decode")]
    Decode(#[source] codec::DecodeError),
    /// The value could not be encoded.
    #[error("manifest that does not encode")]
    Encode(#[source] codec::EncodeError),
    /// The code follows a version of the ABI that this release does not know.
    #[error("code for version {found} of the ABI, this release knows version {known}")]
    UnknownAbi {
        /// The version found
        found: u32,
        /// [`spore_abi::ABI_VERSION`]
        known: u32,
    },
    /// It has no callable.
    #[error("manifest without a callable")]
    NoCallables,
    /// There are more of something than there may be.
    #[error("{count} {what}, at most {limit} are read")]
    TooMany {
        /// What
        what: &'static str,
        /// How many
        count: usize,
        /// How many there may be
        limit: usize,
    },
    /// A name is empty, too long, or has a character that it may not have.
    #[error("{name:?} cannot be the name of {what}")]
    Name {
        /// What it names
        what: &'static str,
        /// The name, cut to [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX)
        name: String,
    },
    /// A documentation comment has a character that a terminal would not show as it is.
    #[error("{found:?} in the documentation of {of}")]
    Docs {
        /// What is documented
        of: String,
        /// The character
        found: char,
    },
    /// Two callables have one name, or are not in order.
    #[error("callable {second} after {first}: callables are in ascending order, each once")]
    Order {
        /// The first
        first: String,
        /// The one that follows it
        second: String,
    },
    /// A callable uses a codec that this release does not know.
    #[error("callable {callable} uses codec {found}, this release knows {known}")]
    UnknownCodec {
        /// Its name
        callable: String,
        /// The codec found
        found: u8,
        /// [`codec::CODEC`]
        known: u8,
    },
    /// The types of a callable are not sound.
    #[error("unsound types of callable {callable}")]
    Signature {
        /// Its name
        callable: String,
        /// What is wrong
        #[source]
        source: spore_value::TypeError,
    },
    /// A callable asks for one grant twice.
    #[error("callable {callable} asks for {grant} twice")]
    GrantTwice {
        /// Its name
        callable: String,
        /// The grant
        grant: Grant,
    },
    /// The state belongs to a callable that does not exist.
    #[error("state of callable {index}, there are {callables}")]
    NoSuchCallable {
        /// The index that the state names
        index: u32,
        /// How many callables there are
        callables: usize,
    },
    /// The state is captures of a callable that has none.
    #[error("captures for {callable}, which captures nothing")]
    NothingToCapture {
        /// Its name
        callable: String,
    },
}

impl Manifest {
    /// Reads a manifest of any known version, and checks all that can be checked without the code
    /// and the state.
    ///
    /// # Errors
    ///
    /// Says what is wrong. Never takes more memory than a small multiple of [`MANIFEST_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_size(bytes)?;
        let Some((version, body)) = bytes.split_first_chunk::<VERSION_BYTES>() else {
            return Err(ManifestError::NoVersion {
                bytes: bytes.len() as u64,
            });
        };
        let manifest: v1::Manifest = match u16::from_le_bytes(*version) {
            v1::VERSION => codec::decode_serde(body, &LIMITS).map_err(ManifestError::Decode)?,
            found => {
                return Err(ManifestError::UnknownVersion {
                    found,
                    newest: MANIFEST_VERSION,
                });
            }
        };
        check::manifest(&manifest)?;
        Ok(manifest)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    ///
    /// Refuses what [`decode`](Self::decode) would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        check::manifest(self)?;
        let mut bytes = MANIFEST_VERSION.to_le_bytes().to_vec();
        bytes.extend(codec::encode_serde(self).map_err(ManifestError::Encode)?);
        check_size(&bytes)?;
        Ok(bytes)
    }
}

fn check_size(bytes: &[u8]) -> Result<(), ManifestError> {
    let bytes = bytes.len() as u64;
    if bytes > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge {
            bytes,
            limit: MANIFEST_BYTES_MAX,
        });
    }
    Ok(())
}
