//! Typed handles: what `#[callable]` gives a native program.

use core::fmt;
use core::marker::PhantomData;
use spore_abi::Description;

/// A callable of a guest crate, with its types, for a native program to call by.
///
/// `#[callable] pub fn scale(…)` in the crate `closure` gives `closure::scale::HANDLE`.
///
/// | parameter | what it is |
/// | --- | --- |
/// | `C` | [`NoCaptures`]; for one capture its type; for more the tuple of their types |
/// | `A` | the tuple of the parameters' types: `()`, `(A1,)`, `(A1, A2)`, … |
/// | `R` | the type returned; of a `Result`, the `Ok` part; of a stream, the type of the items |
/// | `E` | the `Err` part, or [`Infallible`](core::convert::Infallible) |
/// | `K` | how it runs: [`Plain`], [`Resumable`] or [`Streaming`] |
///
/// Types are those of values: a parameter `&T` counts as `T`, `&str` as `String`, `&[T]` as
/// `Vec<T>`. A `C` other than [`NoCaptures`], and an `A`, are values; their encoding is the
/// concatenation that the ABI asks for. Where there are more than 32, the tuple is one of tuples of
/// 32 and of the rest: `((A1, …, A32), (A33, …))`.
///
/// A handle is a name and a description. It holds no code: that is in the guest's bundle.
pub struct Handle<C, A, R, E, K = Plain> {
    name: &'static str,
    describe: fn() -> Description,
    types: PhantomData<Call<C, A, R, E, K>>,
}

/// A handle is one of the function, so that it can be shared between threads whatever the types.
type Call<C, A, R, E, K> = fn(C, A, K) -> Result<R, E>;

impl<C, A, R, E, K> Handle<C, A, R, E, K> {
    /// Called by what `#[callable]` expands to, which alone knows that the types are right.
    #[doc(hidden)]
    pub const fn new(name: &'static str, describe: fn() -> Description) -> Self {
        Self {
            name,
            describe,
            types: PhantomData,
        }
    }

    /// The callable's name as manifests have it, such as `closure::scale`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What the guest crate that this program was compiled with says of the callable.
    ///
    /// Made anew each time. A bundle was compiled from the same source when its manifest says
    /// the same; a client compares the two before it calls by the handle.
    pub fn description(&self) -> Description {
        (self.describe)()
    }
}

impl<C, A, R, E, K> Clone for Handle<C, A, R, E, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, A, R, E, K> Copy for Handle<C, A, R, E, K> {}

impl<C, A, R, E, K> fmt::Debug for Handle<C, A, R, E, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.name).finish()
    }
}

/// Stands for the captures of a callable that has none.
///
/// No value of it exists, so that nothing can be bound by mistake.
#[derive(Clone, Copy, Debug)]
pub enum NoCaptures {}

/// A callable that runs from beginning to end: an ordinary `fn`.
#[derive(Clone, Copy, Debug)]
pub enum Plain {}

/// A callable whose run can be stopped, saved and continued: an `async fn`.
#[derive(Clone, Copy, Debug)]
pub enum Resumable {}

/// A callable that emits items, whose run can be stopped between them too.
#[derive(Clone, Copy, Debug)]
pub enum Streaming {}
