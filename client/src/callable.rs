//! Callables of a bundle: typed by a guest crate, or dynamic with JSON.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as JsonValue;
use spore_bundle::image::BLOCK_BYTES;
use spore_bundle::{BundleId, CallableError, CaptureError, Manifest, StateKind};
use spore_guest::{Handle, NoCaptures, Plain, Resumable, Streaming};
use spore_value::codec::{self, DecodeError, EncodeError};
use spore_value::json::{self, JsonError};
use spore_value::{Difference, Limits, Signature, Value, signature_difference};

use crate::bundle::Bundle;

/// A callable whose types the compiler knows.
///
/// `C` is what it captures and has not captured yet; with [`NoCaptures`] it can be called. The other
/// parameters are those of [`Handle`].
pub struct Callable<C, A, R, E, K = Plain> {
    bundle: spore_bundle::Bundle,
    index: u32,
    types: PhantomData<Function<C, A, R, E, K>>,
}

/// A callable is one of a function, so that it can be shared between threads whatever the types.
type Function<C, A, R, E, K> = fn(C, A, K) -> Result<R, E>;

/// A callable whose types the bundle alone knows; its values are JSON.
///
/// The forms of values in JSON are those of `docs/FORMAT.md`.
#[derive(Clone, Debug)]
pub struct Dynamic {
    parcel: Parcel,
    index: u32,
}

/// What a call refers to: a bundle, or one that only the host has.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Parcel {
    pub(crate) id: BundleId,
    held: Held,
    /// What goes along with a job that moves, besides its bundle.
    pub(crate) items: Option<Bytes>,
    /// Whether images are to be taken of what it is opened as: code that has none is not sent.
    pub(crate) imaged: bool,
}

/// What this program has of a bundle.
#[derive(Clone, Debug)]
enum Held {
    Whole(spore_bundle::Bundle),
    Manifest(Arc<Manifest>),
}

impl Parcel {
    /// A bundle that only the host has.
    pub(crate) fn shipped(id: BundleId, manifest: Manifest) -> Parcel {
        let held = Held::Manifest(Arc::new(manifest));
        Parcel {
            id,
            held,
            items: None,
            imaged: false,
        }
    }

    /// The same for what is kept: images are to be taken of it.
    pub(crate) fn imaged(&self) -> Parcel {
        Parcel {
            imaged: true,
            ..self.clone()
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        match &self.held {
            Held::Whole(bundle) => bundle.manifest(),
            Held::Manifest(manifest) => manifest,
        }
    }

    /// Bytes of its state, as far as they are known here: an image's blocks with its index, and of
    /// one that only the host has the index.
    pub(crate) fn state_bytes(&self) -> u64 {
        let state = self.manifest().state.map_or(0, |state| state.bytes);
        let image = self.whole().and_then(|bundle| bundle.image());
        let blocks = image.map_or(0, |image| image.distinct().len() * BLOCK_BYTES);
        state.saturating_add(blocks as u64)
    }

    /// The bundle, if it is here.
    pub(crate) fn whole(&self) -> Option<&spore_bundle::Bundle> {
        match &self.held {
            Held::Whole(bundle) => Some(bundle),
            Held::Manifest(_) => None,
        }
    }
}

/// Each call makes one, so that nothing is copied here.
impl From<spore_bundle::Bundle> for Parcel {
    fn from(bundle: spore_bundle::Bundle) -> Parcel {
        Parcel {
            id: bundle.id(),
            held: Held::Whole(bundle),
            items: None,
            imaged: false,
        }
    }
}

/// A bundle that a host has and this program has not.
#[derive(Clone, Debug)]
pub struct Shipped {
    pub(crate) parcel: Parcel,
}

impl Shipped {
    /// The callable of this name, in full or its last segment.
    ///
    /// # Errors
    ///
    /// When the bundle has no such callable, or more than one.
    pub fn callable(&self, name: &str) -> Result<Dynamic, FindError> {
        let (index, _) = self.parcel.manifest().callable(name)?;
        Ok(Dynamic {
            parcel: self.parcel.clone(),
            index,
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        self.parcel.manifest()
    }
}

/// Why a bundle gave no callable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// There is none of the name, or more than one.
    #[error(transparent)]
    Name(#[from] CallableError),
    /// The bundle was made of another version of the guest than this program was compiled with.
    #[error("{callable} has other types in this bundle than in this program: {difference}")]
    Types {
        /// The callable
        callable: String,
        /// Where they differ
        difference: Difference,
    },
    /// The same, of how it runs: one is resumable or emits items, and the other not.
    #[error("{callable} runs in another way in this bundle than in this program")]
    Kind {
        /// The callable
        callable: String,
    },
}

/// Why nothing was captured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A value cannot be encoded.
    #[error("the captures cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The JSON does not fit the callable's captures.
    #[error("the captures do not fit")]
    Json(#[from] JsonError),
    /// The callable takes no captures.
    #[error(transparent)]
    Bundle(#[from] CaptureError),
    /// Only the host has the code, so that nothing new can be bound to it here.
    #[error("to capture, the bundle's file is needed: this program has only its id")]
    NotHere,
    /// The bundle has an image, in whose place the captures would be.
    #[error(
        "the bundle has an image, which captures would take the place of: capture first, and save then"
    )]
    HasImage,
    /// The bundle's captures are those of another callable, or it has none.
    #[error("the bundle has no captures bound to {callable}")]
    NotBound {
        /// The callable
        callable: String,
    },
}

/// What names a callable: a [`Handle`], or its name.
pub trait Find: sealed::Sealed {
    /// What it finds.
    type Found;
    #[doc(hidden)]
    fn find(self, bundle: &Bundle) -> Result<Self::Found, FindError>;
}

/// A callable of which everything that it captures is bound.
pub trait Bound: sealed::Sealed {
    /// What it takes: a tuple, or a JSON array.
    type Arguments;
    /// What it returns; of a stream, its items.
    type Output;
    /// Its own error.
    type Error: fmt::Debug;
    #[doc(hidden)]
    fn parcel(&self) -> Parcel;
    #[doc(hidden)]
    fn index(&self) -> u32;
    #[doc(hidden)]
    fn encode(&self, arguments: &Self::Arguments) -> Result<Vec<u8>, ArgumentsError>;
    #[doc(hidden)]
    fn decode(&self) -> Decode<Self::Output, Self::Error>;
}

/// A callable that can be [called](crate::Host::call): it returns one value.
///
/// Of a [`Dynamic`] one the host knows whether it does.
pub trait Callee: Bound {}

/// A callable that emits items, to be taken as a [stream](crate::Host::stream).
pub trait Streams: Bound {}

/// A callable whose run can be stopped and go on, so that it can be [started](crate::Host::start) as
/// a job. Of a [`Dynamic`] one the host knows whether it can.
pub trait Resumes: Bound {
    /// What a run of it ends with, unless with an error: its value, or `()` of a stream.
    type Ending;
    /// What it emits; nothing can be an [`Infallible`].
    type Item;
    #[doc(hidden)]
    fn decode_job(&self) -> JobDecode<Self::Ending, Self::Error, Self::Item>;
}

/// A kind of callables that return one value.
pub trait ValueKind: sealed::Kind {}
impl ValueKind for Plain {}
impl ValueKind for Resumable {}

/// A kind of callables whose runs can be jobs. `R` is as in [`Handle`].
pub trait JobKind: sealed::Kind {
    /// As [`Resumes::Ending`].
    type Ending<R>;
    /// As [`Resumes::Item`].
    type Item<R>;
    #[doc(hidden)]
    fn decode<R: Value + 'static, E: Value + 'static>()
    -> JobDecode<Self::Ending<R>, E, Self::Item<R>>;
}

impl JobKind for Resumable {
    type Ending<R> = R;
    type Item<R> = Infallible;

    fn decode<R: Value + 'static, E: Value + 'static>() -> JobDecode<R, E, Infallible> {
        JobDecode {
            value: decode_value(),
            error: decode_value(),
            item: Box::new(|_| Err(ResultError::NoItems)),
            streams: false,
        }
    }
}

impl JobKind for Streaming {
    type Ending<R> = ();
    type Item<R> = R;

    fn decode<R: Value + 'static, E: Value + 'static>() -> JobDecode<(), E, R> {
        JobDecode {
            value: Box::new(end_of_stream),
            error: decode_value(),
            item: decode_value(),
            streams: true,
        }
    }
}

/// Reads what comes back, once it is there; holds nothing of the caller.
#[doc(hidden)]
pub struct Decode<R, E> {
    pub(crate) value: Read<R>,
    pub(crate) error: Read<E>,
}

/// Reads what comes of a job.
#[doc(hidden)]
pub struct JobDecode<R, E, I> {
    pub(crate) value: Read<R>,
    pub(crate) error: Read<E>,
    pub(crate) item: Read<I>,
    /// Whether it emits items.
    pub(crate) streams: bool,
}

/// Reads one value.
pub(crate) type Read<T> = Box<dyn Fn(&[u8]) -> Result<T, ResultError> + Send + Sync>;

fn decode_value<T: Value + 'static>() -> Read<T> {
    Box::new(|bytes| Ok(codec::decode(bytes, &Limits::default())?))
}

/// The end of a stream has no value.
pub(crate) fn end_of_stream(bytes: &[u8]) -> Result<(), ResultError> {
    match bytes.len() {
        0 => Ok(()),
        bytes => Err(ResultError::ValueAfterItems { bytes }),
    }
}

/// Why arguments could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentsError {
    /// A value cannot be encoded.
    #[error("an argument cannot be encoded")]
    Encode(#[from] EncodeError),
    /// The JSON does not fit the parameters.
    #[error("the arguments do not fit")]
    Json(#[from] JsonError),
}

/// Why what came back is not what the callable returns. The guest's fault, or the host's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The bytes are no value of the type.
    #[error("the result cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The bytes are no value of the bundle's type.
    #[error("the result cannot be shown as JSON")]
    Json(#[from] JsonError),
    /// The callable has no error type, and returned an error.
    #[error("an error came from a callable that returns none")]
    NoError,
    /// The callable emits nothing, and an item came.
    #[error("an item came from a callable that emits none")]
    NoItems,
    /// The items of a stream were over, and a value came.
    #[error("a value of {bytes} bytes came at the end of a stream")]
    ValueAfterItems {
        /// Its size
        bytes: usize,
    },
}

/// JSON as it is passed to and from dynamic callables.
pub type Json = JsonValue;

impl<C, A, R, E, K> Find for Handle<C, A, R, E, K> {
    type Found = Callable<C, A, R, E, K>;

    fn find(self, bundle: &Bundle) -> Result<Self::Found, FindError> {
        let index = index_of(&self, bundle.inner().manifest())?;
        Ok(Callable {
            bundle: bundle.inner().clone(),
            index,
            types: PhantomData,
        })
    }
}

/// The index of a handle's callable, once its types are found to be the same.
pub(crate) fn index_of<C, A, R, E, K>(
    handle: &Handle<C, A, R, E, K>,
    manifest: &Manifest,
) -> Result<u32, FindError> {
    let (index, found) = manifest.callable(handle.name())?;
    let expected = handle.description();
    if let Some(difference) = signature_difference(&expected.signature, &found.signature) {
        return Err(FindError::Types {
            callable: found.name.clone(),
            difference,
        });
    }
    if (expected.resumable, expected.streams) != (found.resumable, found.streams) {
        return Err(FindError::Kind {
            callable: found.name.clone(),
        });
    }
    Ok(index)
}

impl Find for &str {
    type Found = Dynamic;

    fn find(self, bundle: &Bundle) -> Result<Dynamic, FindError> {
        let (index, _) = bundle.inner().callable(self)?;
        Ok(Dynamic {
            parcel: bundle.inner().clone().into(),
            index,
        })
    }
}

impl Find for &String {
    type Found = Dynamic;

    fn find(self, bundle: &Bundle) -> Result<Dynamic, FindError> {
        Find::find(self.as_str(), bundle)
    }
}

impl<C: Value, A, R, E, K> Callable<C, A, R, E, K> {
    /// Binds what the callable captures: the value, or the tuple of values where there are more.
    ///
    /// # Errors
    ///
    /// When a value cannot be encoded.
    pub fn capture(&self, captures: &C) -> Result<Callable<NoCaptures, A, R, E, K>, BindError> {
        check_no_image(&self.bundle)?;
        let bundle = self
            .bundle
            .with_captures(self.index, codec::encode(captures)?)?;
        Ok(Callable {
            bundle,
            index: self.index,
            types: PhantomData,
        })
    }

    /// The callable with the captures that the bundle came with.
    ///
    /// # Errors
    ///
    /// When it came with none, or with those of another callable.
    pub fn bound(&self) -> Result<Callable<NoCaptures, A, R, E, K>, BindError> {
        check_bound(&self.bundle, self.index)?;
        Ok(Callable {
            bundle: self.bundle.clone(),
            index: self.index,
            types: PhantomData,
        })
    }
}

impl<R: Value + 'static, E: Value + 'static> Decode<R, E> {
    /// Reads values of types that the compiler knows.
    pub(crate) fn typed() -> Decode<R, E> {
        Decode {
            value: decode_value(),
            error: decode_value(),
        }
    }
}

impl<C, A, R, E, K> Callable<C, A, R, E, K> {
    /// The bundle that travels when this is called.
    pub fn bundle(&self) -> Bundle {
        self.bundle.clone().into()
    }
}

impl Dynamic {
    pub(crate) fn new(parcel: Parcel, index: u32) -> Dynamic {
        Dynamic { parcel, index }
    }

    /// Binds what the callable captures: a JSON object by the captures' names.
    ///
    /// # Errors
    ///
    /// Names the capture that is missing, unknown, or of another type.
    pub fn capture(&self, captures: &Json) -> Result<Dynamic, BindError> {
        let whole = self.parcel.whole().ok_or(BindError::NotHere)?;
        check_no_image(whole)?;
        let signature = self.signature();
        let bytes = json::captures_from_json_object(
            &signature.captures,
            &signature.definitions,
            captures,
            &Limits::default(),
        )?;
        let bundle = whole.with_captures(self.index, bytes)?;
        Ok(Dynamic {
            parcel: bundle.into(),
            index: self.index,
        })
    }

    /// Whether everything that it captures is bound. Of an image that only the host has, it is the
    /// host that knows.
    pub fn is_bound(&self) -> bool {
        if self.signature().captures.is_empty() {
            return true;
        }
        match (self.parcel.whole(), self.parcel.manifest().state) {
            (Some(bundle), _) => is_bound(bundle, self.index),
            (None, Some(state)) => match state.kind {
                StateKind::Captures { callable } => callable == self.index,
                StateKind::Image { .. } => true,
            },
            (None, None) => false,
        }
    }

    /// The bundle that travels when this is called, if it is here.
    pub fn bundle(&self) -> Option<Bundle> {
        self.parcel.whole().cloned().map(Bundle::from)
    }

    /// The name in full.
    pub fn name(&self) -> &str {
        &self.description().name
    }

    /// What it captures, takes and returns.
    pub fn signature(&self) -> &Signature {
        &self.description().signature
    }

    /// Whether it emits items: then it is no call, but a [stream](crate::Host::stream).
    pub fn emits_items(&self) -> bool {
        self.description().streams
    }

    /// Whether a run of it can be a [job](crate::Host::start).
    pub fn is_resumable(&self) -> bool {
        self.description().resumable || self.emits_items()
    }

    fn description(&self) -> &spore_bundle::manifest::Callable {
        &self.parcel.manifest().callables[self.index as usize]
    }
}

/// Whether a bundle has this callable's captures: beside its code, or bound in its image.
fn is_bound(bundle: &spore_bundle::Bundle, index: u32) -> bool {
    let captured = bundle.captures().map(|(callable, _)| callable) == Some(index);
    let image = bundle.image().map(|image| &image.index().bound);
    captured || image.is_some_and(|bound| bound.iter().any(|it| it.callable == index))
}

fn check_bound(bundle: &spore_bundle::Bundle, index: u32) -> Result<(), BindError> {
    if is_bound(bundle, index) {
        return Ok(());
    }
    let callable = bundle.manifest().callables[index as usize].name.clone();
    Err(BindError::NotBound { callable })
}

/// A bundle has one state: captures would take the place of the image.
fn check_no_image(bundle: &spore_bundle::Bundle) -> Result<(), BindError> {
    match bundle.image() {
        None => Ok(()),
        Some(_) => Err(BindError::HasImage),
    }
}

impl<A, R, E, K> Bound for Callable<NoCaptures, A, R, E, K>
where
    A: Value,
    R: Value + 'static,
    E: Value + fmt::Debug + 'static,
{
    type Arguments = A;
    type Output = R;
    type Error = E;

    fn parcel(&self) -> Parcel {
        self.bundle.clone().into()
    }

    fn index(&self) -> u32 {
        self.index
    }

    fn encode(&self, arguments: &A) -> Result<Vec<u8>, ArgumentsError> {
        Ok(codec::encode(arguments)?)
    }

    fn decode(&self) -> Decode<R, E> {
        Decode::typed()
    }
}

impl<A, R, E, K: ValueKind> Callee for Callable<NoCaptures, A, R, E, K>
where
    A: Value,
    R: Value + 'static,
    E: Value + fmt::Debug + 'static,
{
}

impl<A, R, E> Streams for Callable<NoCaptures, A, R, E, Streaming>
where
    A: Value,
    R: Value + 'static,
    E: Value + fmt::Debug + 'static,
{
}

impl<A, R, E, K: JobKind> Resumes for Callable<NoCaptures, A, R, E, K>
where
    A: Value,
    R: Value + 'static,
    E: Value + fmt::Debug + 'static,
{
    type Ending = K::Ending<R>;
    type Item = K::Item<R>;

    fn decode_job(&self) -> JobDecode<Self::Ending, E, Self::Item> {
        K::decode()
    }
}

impl Bound for Dynamic {
    type Arguments = Json;
    type Output = Json;
    type Error = Json;

    fn parcel(&self) -> Parcel {
        self.parcel.clone()
    }

    fn index(&self) -> u32 {
        self.index
    }

    fn encode(&self, arguments: &Json) -> Result<Vec<u8>, ArgumentsError> {
        let signature = self.signature();
        Ok(json::parameters_from_json_array(
            &signature.parameters,
            &signature.definitions,
            arguments,
            &Limits::default(),
        )?)
    }

    fn decode(&self) -> Decode<Json, Json> {
        Decode {
            value: self.decode_value(),
            error: self.decode_error(),
        }
    }
}

impl Callee for Dynamic {}
impl Streams for Dynamic {}

impl Resumes for Dynamic {
    type Ending = Json;
    type Item = Json;

    fn decode_job(&self) -> JobDecode<Json, Json, Json> {
        let error = self.decode_error();
        match self.emits_items() {
            true => JobDecode {
                value: Box::new(|bytes| end_of_stream(bytes).map(|()| Json::Null)),
                error,
                item: self.decode_value(),
                streams: true,
            },
            false => JobDecode {
                value: self.decode_value(),
                error,
                item: Box::new(|_| Err(ResultError::NoItems)),
                streams: false,
            },
        }
    }
}

impl Dynamic {
    fn decode_value(&self) -> Read<Json> {
        let callee = self.clone();
        Box::new(move |bytes| {
            let signature = callee.signature();
            let (ty, table) = (&signature.returns, &signature.definitions);
            Ok(json::to_json(ty, table, bytes, &Limits::default())?)
        })
    }

    fn decode_error(&self) -> Read<Json> {
        let callee = self.clone();
        Box::new(move |bytes| {
            let signature = callee.signature();
            let ty = signature.error.as_ref().ok_or(ResultError::NoError)?;
            let table = &signature.definitions;
            Ok(json::to_json(ty, table, bytes, &Limits::default())?)
        })
    }
}

impl<C, A, R, E, K> Clone for Callable<C, A, R, E, K> {
    fn clone(&self) -> Self {
        Callable {
            bundle: self.bundle.clone(),
            index: self.index,
            types: PhantomData,
        }
    }
}

impl<C, A, R, E, K> fmt::Debug for Callable<C, A, R, E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.bundle.manifest().callables[self.index as usize].name;
        f.debug_struct("Callable")
            .field("name", name)
            .field("bundle", &self.bundle)
            .finish()
    }
}

pub(crate) use sealed::Sealed;

mod sealed {
    use super::{Callable, Dynamic, Handle, Plain, Resumable, Streaming};

    pub trait Sealed {}
    impl<C, A, R, E, K> Sealed for Handle<C, A, R, E, K> {}
    impl<C, A, R, E, K> Sealed for Callable<C, A, R, E, K> {}
    impl Sealed for Dynamic {}
    impl Sealed for &str {}
    impl Sealed for &String {}

    pub trait Kind {}
    impl Kind for Plain {}
    impl Kind for Resumable {}
    impl Kind for Streaming {}
}
