//! Blobs: asked for, sent, stored and described.

use serde::{Deserialize, Serialize};

use crate::BlobId;

/// Most blobs that one message, or one request, may ask for.
///
/// A bundle is three blobs; the rest is room for images.
pub const MISSING_MAX: usize = 64;

/// Asks the host to store a bundle, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ship {
    /// The bundle
    pub bundle: BlobId,
}

/// Asks for the manifest of a bundle that the key may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Describe {
    /// The bundle
    pub bundle: BlobId,
}

/// How a blob's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// As they are
    Raw,
    /// One zstd frame
    Zstd,
}

/// Announces a blob that the host asked for. Its bytes follow as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The blob
    pub id: BlobId,
    /// How its bytes travel
    pub encoding: Encoding,
    /// Length of the blob
    pub raw_bytes: u64,
    /// Length of the payload: `raw_bytes` when raw, and not more when compressed
    pub wire_bytes: u64,
}

/// Says that the client does not have a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The blob
    pub id: BlobId,
}

/// What a blob is to its bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BlobKind {
    /// The manifest, whose id is the bundle's
    Manifest,
    /// The module
    Code,
    /// Captures or an image
    State,
    /// Items that a job has emitted and nobody has taken, which move with it
    Items,
}

/// One blob that the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingBlob {
    /// The blob
    pub id: BlobId,
    /// What it is
    pub kind: BlobKind,
}

/// Asks the client for blobs, each answered by one `Blob` or `Absent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// At least one and at most [`MISSING_MAX`], each once
    pub blobs: Vec<MissingBlob>,
}

/// The bundle is stored: it survives a crash and power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The bundle
    pub bundle: BlobId,
}

/// The manifest that was asked for; its bytes follow as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Length of the manifest that follows
    pub manifest_bytes: u64,
}
