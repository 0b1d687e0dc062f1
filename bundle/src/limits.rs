//! What bounds the parts of a bundle.

/// Largest manifest, in bytes.
///
/// Part of the format: it bounds what a reader holds before it knows anything of a bundle.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Largest code accepted unless set otherwise, in bytes.
///
/// Bounds what a host compiles at once. Guests in Rust are a few tens of KiB to a few MiB.
pub const CODE_BYTES_MAX_DEFAULT: u64 = 64 << 20;

/// Largest uncompressed state accepted unless set otherwise, in bytes.
///
/// Room for an image of a guest that has changed all of the memory that it has by default, 256 MiB,
/// with its index.
pub const STATE_BYTES_MAX_DEFAULT: u64 = 264 << 20;

/// Most callables in a manifest.
///
/// Part of the format: it bounds the tables that hosts and programs build from a manifest.
pub const CALLABLES_MAX: usize = 1024;

/// Longest name of a callable, of a guest, or of an export that the manifest names, in bytes.
///
/// Part of the format: names appear in messages, logs and tables.
pub const NAME_BYTES_MAX: usize = 256;

/// Most grants that one callable may ask for.
///
/// Part of the format: it bounds what a host looks up for each call.
pub const GRANTS_MAX: usize = 64;

/// What a reader of bundles accepts. Checked against announced sizes, before anything is
/// decompressed or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest code, in bytes. [`CODE_BYTES_MAX_DEFAULT`] by default.
    pub code_bytes_max: u64,
    /// Largest uncompressed state, in bytes. [`STATE_BYTES_MAX_DEFAULT`] by default.
    pub state_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes_max: CODE_BYTES_MAX_DEFAULT,
            state_bytes_max: STATE_BYTES_MAX_DEFAULT,
        }
    }
}
