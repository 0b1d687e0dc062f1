//! What travels: code, state and manifest in one Wasm binary.
//!
//! A [`Bundle`] is the code of a guest, the state that was captured with it, if any, and a
//! [`Manifest`] that names both by their hashes and describes the callables. `docs/FORMAT.md`
//! specifies its bytes.
//!
//! Bytes in, values out: nothing here does I/O, waits, or runs a guest. All input is taken as
//! hostile, and bounded by [`Limits`].
//!
//! ```
//! # fn example(code: Vec<u8>, described: Vec<spore_abi::Description>) -> Result<(), Box<dyn std::error::Error>> {
//! use spore_bundle::{Bundle, Limits};
//!
//! let bundle = Bundle::pack(code, "closure", "0.1.0", described)?;
//! let (index, callable) = bundle.callable("add")?;
//! assert_eq!(callable.name, "closure::add");
//!
//! let bound = bundle.with_captures(index, vec![7])?;
//! let again = Bundle::decode(bound.encode(), &Limits::default())?;
//! assert_eq!(again.id(), bound.id());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod bundle;
pub mod ids;
pub mod image;
pub mod limits;
pub mod manifest;
pub mod module;
pub mod sections;
pub mod state;

pub use bundle::{
    Bundle, CallableError, CaptureError, DIFFERENCE_BYTES_MAX, DecodeError, Difference,
    DifferenceError, DifferenceReader, ImageStateError, PackError, PartsError, Unsupported,
};
pub use ids::{BlockId, BundleId, CodeId, ParseIdError, StateId};
pub use image::{Image, ImageError};
pub use limits::Limits;
pub use manifest::{
    Callable, CodeKind, Grant, Manifest, ManifestError, State, StateKind, is_hidden, is_plain_name,
};
pub use module::{AbiError, Interface, ModuleError, ModuleLimits};
pub use sections::{Section, SectionError};
pub use state::StateError;
