//! What decoding may cost.

/// Longest input that [`Limits::default`] accepts, in bytes: the largest state that a host accepts
/// unless configured otherwise.
pub const BYTES_MAX_DEFAULT: u64 = 256 << 20;

/// Most elements of lists, sets and maps together that [`Limits::default`] accepts.
///
/// Covers a full input of `f32`. It is lower than [`BYTES_MAX_DEFAULT`] because an element of one
/// byte, `None` for instance, may take hundreds of bytes once decoded.
pub const ELEMENTS_MAX_DEFAULT: u64 = 1 << 26;

/// Most work that [`Limits::default`] accepts, in values visited.
///
/// Four times the elements: a full list of records of three fields each.
pub const WORK_MAX_DEFAULT: u64 = 1 << 28;

/// Deepest nesting that [`Limits::default`] accepts, and the deepest that can be encoded at all.
///
/// `tests/depth.rs` measures what a level takes of the stack: for records of 200 bytes up to 3 KiB
/// without optimisation, half of that with. So the deepest value takes 384 KiB of the 1 MiB that a
/// guest has.
pub const DEPTH_MAX_DEFAULT: u32 = 128;

/// Bytes of text or of `Vec<u8>` that cost as much work as one value.
pub const BYTES_PER_WORK: u64 = 64;

/// What one decoding may cost; past any of these it ends in a
/// [`DecodeError`](crate::codec::DecodeError) that carries the number.
///
/// The bytes of the input alone do not bound a decoder: five bytes can claim thousands of millions
/// of units, a few kilobytes of nesting can overflow a stack.
///
/// ```
/// use spore_value::{Limits, codec};
///
/// let limits = Limits::default().with_elements(3);
/// let bytes = codec::encode(&vec![1u8 as u16; 4]).unwrap();
/// assert!(codec::decode::<Vec<u16>>(&bytes, &limits).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest input, in bytes.
    pub bytes: u64,
    /// Most elements of lists, sets and maps together. A length is held against what is left before
    /// anything is allocated for it, and elements that take no bytes count too. An entry of a map is
    /// one element. Arrays and tuples have the length of their type and count as work only.
    pub elements: u64,
    /// Most values visited. Each value costs 1, containers included, and text and bytes cost 1 more
    /// for every full [`BYTES_PER_WORK`].
    pub work: u64,
    /// Deepest nesting. Lists, sets, maps, arrays, tuples, structs, enums, `Result`, `Duration` and
    /// `Some` count one level each; boxes and unit structs count none.
    pub depth: u32,
}

impl Limits {
    /// The same, with inputs of at most `bytes`.
    #[must_use]
    pub const fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// The same, with at most `elements`.
    #[must_use]
    pub const fn with_elements(self, elements: u64) -> Self {
        Self { elements, ..self }
    }

    /// The same, with at most `work`.
    #[must_use]
    pub const fn with_work(self, work: u64) -> Self {
        Self { work, ..self }
    }

    /// The same, with at most `depth` levels.
    ///
    /// More than [`DEPTH_MAX_DEFAULT`] gains nothing, since nothing deeper can be encoded, and is
    /// taken as that.
    #[must_use]
    pub const fn with_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }
}

impl Default for Limits {
    /// [`BYTES_MAX_DEFAULT`], [`ELEMENTS_MAX_DEFAULT`], [`WORK_MAX_DEFAULT`] and
    /// [`DEPTH_MAX_DEFAULT`].
    fn default() -> Self {
        Self {
            bytes: BYTES_MAX_DEFAULT,
            elements: ELEMENTS_MAX_DEFAULT,
            work: WORK_MAX_DEFAULT,
            depth: DEPTH_MAX_DEFAULT,
        }
    }
}
