//! Bundles as programs hold them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use spore_bundle::{BundleId, DecodeError, Limits};

use crate::callable::{Find, FindError};

/// What a Wasm binary begins with.
const MAGIC: &[u8] = b"\0asm";

/// Most bytes of a file beside code and state: the manifest, and what frames the parts.
const FILE_REST_BYTES_MAX: u64 = spore_bundle::limits::MANIFEST_BYTES_MAX + (1 << 20);

/// Code and what it captured, ready to be called.
///
/// A clone shares all parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    inner: spore_bundle::Bundle,
}

/// Why a bundle could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file
        path: PathBuf,
        /// What the system says
        #[source]
        source: std::io::Error,
    },
    /// The file is no bundle, or is damaged.
    #[error("{path} is not a bundle that can be used")]
    Decode {
        /// The file
        path: PathBuf,
        /// What is wrong
        #[source]
        source: DecodeError,
    },
}

impl Bundle {
    /// Reads a `.spore` file, of code and state within the default [`Limits`]. Runs nothing of it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not a whole and sound bundle.
    pub fn open(path: impl AsRef<Path>) -> Result<Bundle, OpenError> {
        Bundle::open_with(path, &Limits::default())
    }

    /// As [`open`](Self::open), within limits of the caller's: those of a host that takes more.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<Bundle, OpenError> {
        let path = path.as_ref();
        let bytes = Bundle::read_file(path, limits)?;
        Bundle::from_bytes_with(bytes, limits).map_err(|source| OpenError::Decode {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads the bytes of a file that may be a bundle: no more than one within the limits can have,
    /// and only the first few of a file that is no Wasm binary.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is larger.
    pub fn read_file(path: impl AsRef<Path>, limits: &Limits) -> Result<Vec<u8>, OpenError> {
        let path = path.as_ref();
        let bytes_max = limits
            .code_bytes_max
            .saturating_add(limits.state_bytes_max)
            .saturating_add(FILE_REST_BYTES_MAX);
        read_up_to(path, bytes_max).map_err(|source| OpenError::Read {
            path: path.to_owned(),
            source,
        })
    }

    /// Takes the bytes of a `.spore` file, of code and state within the default [`Limits`].
    ///
    /// # Errors
    ///
    /// When they are not a whole and sound bundle.
    pub fn from_bytes(bytes: impl Into<bytes::Bytes>) -> Result<Bundle, DecodeError> {
        Bundle::from_bytes_with(bytes, &Limits::default())
    }

    /// As [`from_bytes`](Self::from_bytes), within limits of the caller's.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_with(
        bytes: impl Into<bytes::Bytes>,
        limits: &Limits,
    ) -> Result<Bundle, DecodeError> {
        let inner = spore_bundle::Bundle::decode(bytes, limits)?;
        Ok(Bundle { inner })
    }

    /// Takes the bytes that [`embedded_bundle!`](crate::embedded_bundle) includes.
    #[doc(hidden)]
    pub fn from_static(bytes: &'static [u8]) -> Bundle {
        // They are the program's own.
        let limits = Limits {
            code_bytes_max: u64::MAX,
            state_bytes_max: u64::MAX,
        };
        Bundle::from_bytes_with(bytes, &limits).expect("the build script wrote a bundle")
    }

    /// The callable of a typed handle, or of a name, in full or its last segment.
    ///
    /// # Errors
    ///
    /// When the bundle has no such callable, or has one of other types than the handle's.
    pub fn callable<F: Find>(&self, which: F) -> Result<F::Found, FindError> {
        which.find(self)
    }

    /// The id: equal ids mean the same code, state and description.
    pub fn id(&self) -> BundleId {
        self.inner.id()
    }

    /// The parts of the bundle and what they say of themselves.
    pub fn inner(&self) -> &spore_bundle::Bundle {
        &self.inner
    }
}

fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut bytes)?;
    if bytes != MAGIC {
        return Ok(bytes);
    }
    file.take(bytes_max).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let what = format!("more than {bytes_max} bytes, the most that a bundle may have here");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

impl From<spore_bundle::Bundle> for Bundle {
    fn from(inner: spore_bundle::Bundle) -> Bundle {
        Bundle { inner }
    }
}
