//! Version 1 of the manifest. Frozen: a field more or less is another version.
//!
//! The order of fields and variants is the order of their bytes. `docs/FORMAT.md` has them one by
//! one, and a test holds an example of every byte. The types of values are those of
//! `spore_value::types`, and grants those of the ABI; their encoding is frozen with this version.

use std::fmt;

use serde::{Deserialize, Serialize};
use spore_abi::Description;
pub use spore_abi::Grant;
use spore_value::{Signature, codec};

use crate::ids::{CodeId, StateId};

/// The version that this module is.
pub(super) const VERSION: u16 = 1;

/// What a bundle is: its code, its state, and its callables.
///
/// A value of this type says nothing of its soundness; [`Manifest::decode`](super::Manifest::decode)
/// gives only sound ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the ABI that the code follows.
    pub abi: u32,
    /// Name of the guest: a plain name, see [`is_plain_name`](super::is_plain_name).
    pub name: String,
    /// Version of the guest, as its author gave it: letters, digits, `_`, `-`, `.` and `+`.
    pub version: String,
    /// The code.
    pub code: Code,
    /// The state, if the bundle carries any.
    pub state: Option<State>,
    /// An export `() → ()` to run after `_initialize` and before the first bind. What it leaves in
    /// memory may be kept and used for other instances of the same code.
    pub init: Option<String>,
    /// An export `() → ()` to run when an instance was restored from an image, before anything
    /// else.
    pub restored: Option<String>,
    /// The callables, in ascending order of the bytes of their names, each name once.
    pub callables: Vec<Callable>,
}

/// The code of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its id.
    pub id: CodeId,
    /// Its size in bytes, without Spore's sections.
    pub bytes: u64,
    /// What it is.
    pub kind: CodeKind,
}

/// What code is. The preamble of the binary says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeKind {
    /// A core module.
    Module,
    /// A component. Reserved: no bundle has one so far.
    Component,
}

impl fmt::Display for CodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "a core module",
            Self::Component => "a component",
        })
    }
}

/// The state of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its id.
    pub id: StateId,
    /// Its size in bytes, uncompressed.
    pub bytes: u64,
    /// What it is.
    pub kind: StateKind,
}

/// What a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateKind {
    /// The captures of one callable: their values, one after the other.
    Captures {
        /// Index of the callable that they are bound to.
        callable: u32,
    },
    /// An image of an instance. Reserved: no bundle has one so far.
    Image {
        /// Version of the layout of the image.
        layout: u16,
        /// Index of the callable whose run the image holds, when it is that of a job.
        job: Option<u32>,
    },
}

impl StateKind {
    /// Index of the callable that the state belongs to, if it belongs to one.
    pub fn callable(&self) -> Option<u32> {
        match self {
            Self::Captures { callable } => Some(*callable),
            Self::Image { job, .. } => *job,
        }
    }
}

/// A callable of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callable {
    /// As in the exports: plain names joined by `::`.
    pub name: String,
    /// The documentation comment, or empty.
    pub docs: String,
    /// The codec of its captures, arguments and results.
    pub codec: u8,
    /// Types of captures, parameters and results.
    pub signature: Signature,
    /// Whether a run uses its captures up, so that a bind serves one start.
    pub consumes_captures: bool,
    /// Whether polls may yield.
    pub resumable: bool,
    /// Whether it emits items of the `returns` type before it ends.
    pub streams: bool,
    /// What it asks a host to let it touch, each once.
    pub grants: Vec<Grant>,
}

impl Callable {
    /// The last segment of the name.
    pub fn short_name(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// Names of the directories that it asks for.
    pub fn directories(&self) -> impl Iterator<Item = &str> {
        self.grants.iter().filter_map(|grant| match grant {
            Grant::Directory(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl From<Description> for Callable {
    fn from(description: Description) -> Self {
        Self {
            name: description.name,
            docs: description.docs,
            codec: codec::CODEC,
            signature: description.signature,
            consumes_captures: description.consumes_captures,
            resumable: description.resumable,
            streams: description.streams,
            grants: description.grants,
        }
    }
}
