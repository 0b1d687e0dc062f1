//! The bundle: code, state and manifest that belong together.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use spore_abi::{ABI_VERSION, Description, export};

use crate::ids::{BundleId, CodeId, StateId};
use crate::image::{self, Image, ImageError};
use crate::manifest::v1::Code;
use crate::manifest::{Callable, Manifest, ManifestError, State, StateKind};
use crate::module::{AbiError, Interface, ModuleError, ModuleLimits};
use crate::sections::{self, SectionError};

mod callables;
mod difference;
mod file;
mod parts;

pub use callables::CallableError;
pub use difference::{DIFFERENCE_BYTES_MAX, Difference, DifferenceError, DifferenceReader};
pub use file::{BLOCKS_SECTION, DecodeError, MANIFEST_SECTION, RESERVED_PREFIX, STATE_SECTION};
pub use parts::{PartsError, Unsupported};

/// Code, the state that was captured with it, and what they are.
///
/// Whoever holds one holds parts that fit: the manifest is sound, code and state are those that it
/// names, and nothing in it is reserved for later. That the code is valid and follows the ABI is
/// not part of this, except for a bundle fresh from [`pack`](Self::pack): see [`Interface`].
///
/// A clone shares all parts.
#[derive(Clone)]
pub struct Bundle {
    id: BundleId,
    manifest: Arc<Manifest>,
    manifest_bytes: Bytes,
    code: Bytes,
    state: Option<Bytes>,
    /// When the state is the index of one.
    image: Option<Image>,
}

impl Bundle {
    /// Makes a bundle without state of code as the compiler made it, and of what it says of its
    /// callables, in any order.
    ///
    /// What runs once for all instances, and when one is restored, is what the code exports as that.
    ///
    /// # Errors
    ///
    /// Refuses code that is not a module, that goes beyond the default [`ModuleLimits`], that lacks
    /// the ABI, or that has one of Spore's sections; and descriptions that make no sound manifest.
    pub fn pack(
        code: impl Into<Bytes>,
        name: &str,
        version: &str,
        descriptions: Vec<Description>,
    ) -> Result<Self, PackError> {
        Self::pack_within(&ModuleLimits::default(), code, name, version, descriptions)
    }

    /// As [`pack`](Self::pack), within limits of the caller's: those of the hosts that the code is
    /// for.
    ///
    /// # Errors
    ///
    /// As [`pack`](Self::pack).
    pub fn pack_within(
        limits: &ModuleLimits,
        code: impl Into<Bytes>,
        name: &str,
        version: &str,
        descriptions: Vec<Description>,
    ) -> Result<Self, PackError> {
        let code = code.into();
        if let Some(name) = file::reserved_section(&code)? {
            return Err(PackError::ReservedSection { name });
        }
        let interface = Interface::read(&code, limits)?;

        let mut callables: Vec<Callable> = descriptions.into_iter().map(Callable::from).collect();
        // A linker may order exports as it likes, and the order is part of the bundle's id.
        callables.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            abi: ABI_VERSION,
            name: name.to_owned(),
            version: version.to_owned(),
            code: Code {
                id: CodeId::of(&code),
                bytes: code.len() as u64,
                kind: sections::code_kind(&code)?,
            },
            state: None,
            init: hook(&interface, export::INIT)?,
            restored: hook(&interface, export::RESTORED)?,
            callables,
        };
        let manifest_bytes = manifest.encode()?;
        interface.check_abi(&manifest)?;
        Ok(Self::assemble(manifest, manifest_bytes, code, None, None))
    }

    /// The same code with these captures, the values one after the other, bound to the callable of
    /// this index. Any state there was is left behind.
    ///
    /// That the bytes are values of the right types is for the caller to see to; a guest that is
    /// given others says so when the bundle is run.
    ///
    /// # Errors
    ///
    /// Refuses an index that no callable has, and a callable that captures nothing.
    pub fn with_captures(
        &self,
        callable: u32,
        captures: impl Into<Bytes>,
    ) -> Result<Self, CaptureError> {
        let captures = captures.into();
        let state = State {
            id: StateId::of(&captures),
            bytes: captures.len() as u64,
            kind: StateKind::Captures { callable },
        };
        let manifest = Manifest {
            state: Some(state),
            ..(*self.manifest).clone()
        };
        let manifest_bytes = manifest.encode()?;
        Ok(Self::assemble(
            manifest,
            manifest_bytes,
            self.code.clone(),
            Some(captures),
            None,
        ))
    }

    /// The same code with this image of one of its instances. Any state there was is left behind.
    ///
    /// That the image fits the code is for the caller to see to:
    /// [`Interior::check`](crate::module::Interior::check).
    ///
    /// # Errors
    ///
    /// Refuses an image that refers to callables which the manifest does not have, or which use
    /// their captures up.
    pub fn with_image(&self, image: Image) -> Result<Self, ImageStateError> {
        let index = image.index_bytes().clone();
        let state = State {
            id: image.id(),
            bytes: index.len() as u64,
            kind: StateKind::Image {
                layout: image::LAYOUT,
                job: image.index().run.map(|run| run.callable),
            },
        };
        let manifest = Manifest {
            state: Some(state),
            ..(*self.manifest).clone()
        };
        let manifest_bytes = manifest.encode()?;
        image.index().check_manifest(&manifest)?;
        let code = self.code.clone();
        Ok(Self::assemble(
            manifest,
            manifest_bytes,
            code,
            Some(index),
            Some(image),
        ))
    }

    /// The same code without state.
    pub fn without_state(&self) -> Self {
        if self.state.is_none() {
            return self.clone();
        }
        let manifest = Manifest {
            state: None,
            ..(*self.manifest).clone()
        };
        let manifest_bytes = manifest
            .encode()
            .expect("a sound manifest stays sound and shrinks without its state");
        Self::assemble(manifest, manifest_bytes, self.code.clone(), None, None)
    }

    /// Puts parts together that are known to fit.
    fn assemble(
        manifest: Manifest,
        manifest_bytes: impl Into<Bytes>,
        code: Bytes,
        state: Option<Bytes>,
        image: Option<Image>,
    ) -> Self {
        let manifest_bytes = manifest_bytes.into();
        let id = BundleId::of(&manifest_bytes);
        Self {
            id,
            manifest: Arc::new(manifest),
            manifest_bytes,
            code,
            state,
            image,
        }
    }

    /// The id of the bundle.
    pub fn id(&self) -> BundleId {
        self.id
    }

    /// The id of the code.
    pub fn code_id(&self) -> CodeId {
        self.manifest.code.id
    }

    /// The id of the state, if there is one.
    pub fn state_id(&self) -> Option<StateId> {
        self.manifest.state.map(|state| state.id)
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as it is encoded: what the id of the bundle is the hash of.
    pub fn manifest_bytes(&self) -> &Bytes {
        &self.manifest_bytes
    }

    /// The code, byte for byte as the compiler made it.
    pub fn code(&self) -> &Bytes {
        &self.code
    }

    /// The state, uncompressed, if there is one. Of an image this is the index.
    pub fn state(&self) -> Option<&Bytes> {
        self.state.as_ref()
    }

    /// The captures and the index of the callable that they are bound to, if the state is captures.
    pub fn captures(&self) -> Option<(u32, &Bytes)> {
        match (self.manifest.state.map(|state| state.kind), &self.state) {
            (Some(StateKind::Captures { callable }), Some(captures)) => Some((callable, captures)),
            _ => None,
        }
    }

    /// The image, if the state is one.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }
}

/// Why [`Bundle::with_image`] made no bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageStateError {
    /// The manifest would not be sound.
    #[error("the image cannot be described")]
    Manifest(#[from] ManifestError),
    /// The image does not belong to the bundle.
    #[error("the image does not belong to the bundle")]
    Image(#[from] ImageError),
}

/// The one export whose name begins with this, if there is any.
fn hook(interface: &Interface, prefix: &str) -> Result<Option<String>, PackError> {
    let names = interface.exports().iter().map(|export| &export.name);
    let mut found = names.filter(|name| name.starts_with(prefix)).cloned();
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(PackError::Twice { first, second }),
        (one, _) => Ok(one),
    }
}

/// Bundles are equal when their ids are.
impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("id", &self.id)
            .field("name", &self.manifest.name)
            .field("code", &self.manifest.code)
            .field("state", &self.manifest.state)
            .finish_non_exhaustive()
    }
}

/// Name, version and the short id.
impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})",
            self.manifest.name,
            self.manifest.version,
            self.id.short()
        )
    }
}

/// Why [`Bundle::pack`] made no bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The code is not a sequence of sections.
    #[error("the code cannot be read")]
    Sections(#[from] SectionError),
    /// The code has a section whose name is reserved for Spore. It may be a bundle already.
    #[error("the code has a section {name}: names that begin with `spore.` are reserved")]
    ReservedSection {
        /// The name of the section
        name: String,
    },
    /// The code cannot be used.
    #[error("the code cannot be used")]
    Module(#[from] ModuleError),
    /// The code does not follow the ABI.
    #[error("the code does not follow the ABI")]
    Abi(#[from] AbiError),
    /// The code has two exports of which a guest has one. They may come from different crates.
    #[error(
        "the code exports both {first} and {second}, and a guest has one of the kind: call one \
         function from the other"
    )]
    Twice {
        /// One of them
        first: String,
        /// Another
        second: String,
    },
    /// Name, version and descriptions make no sound manifest.
    #[error("the callables cannot be described")]
    Manifest(#[from] ManifestError),
}

/// Why [`Bundle::with_captures`] made no bundle.
#[derive(Debug, thiserror::Error)]
#[error("the captures cannot be bound")]
pub struct CaptureError(#[from] ManifestError);
