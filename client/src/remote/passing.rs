//! What lies at one host and is passed on to another, unread: this program need not put an image together
//! to carry it over.

use std::fmt;

use bytes::Bytes;
use spore_bundle::{Bundle, Manifest};
use spore_transport::BlobId;
use spore_transport::exchange::ClientLimits;
use spore_transport::message::{BlobKind, Message};
use spore_transport::session::{BlocksMissing, FetchBlocks};

use super::Remote;
use super::conversation::{Answer, blob_id};
use crate::call::{Broken, Sink};

/// A job that has left a host: its bundle, and the items that go along.
pub(crate) struct Passing {
    /// Where its blocks are.
    pub(super) source: Remote,
    pub(super) manifest: Manifest,
    pub(super) manifest_bytes: Bytes,
    /// The index of the image, which the manifest names.
    pub(super) index_bytes: Bytes,
    /// What came ahead of it, which is of the same code.
    pub(super) ahead: Bundle,
    pub(super) items: Option<Bytes>,
}

impl Passing {
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the other host asks for, if it is part of this and asked for as that: it learns nothing else.
    pub(super) fn part(&self, id: BlobId, kind: BlobKind) -> Option<Bytes> {
        let of = |bytes: &Bytes| (blob_id(bytes) == id).then(|| bytes.clone());
        match kind {
            BlobKind::Manifest => of(&self.manifest_bytes),
            BlobKind::Code => {
                let code = self.ahead.code_id();
                (id.0 == *code.as_bytes()).then(|| self.ahead.code().clone())
            }
            BlobKind::State => (self.index() == Some(id)).then(|| self.index_bytes.clone()),
            BlobKind::Items => self.items.as_ref().and_then(of),
        }
    }

    fn index(&self) -> Option<BlobId> {
        let state = self.manifest.state?;
        Some(BlobId(*state.id.as_bytes()))
    }

    /// The blocks that the other host lacks, as they come from where they are: it checks each. Nothing
    /// when it asks for those of another image.
    pub(super) async fn blocks(&self, missing: &BlocksMissing) -> Result<Option<Bytes>, Broken> {
        if self.index() != Some(missing.index) {
            return Ok(None);
        }
        let fetch = Message::FetchBlocks(FetchBlocks {
            index: missing.index,
            wanted: missing.missing.clone(),
        });
        let mut conversation = self.source.conversation(ClientLimits::default()).await?;
        let mut sink = Sink::default();
        // Boxed: it could ask for blocks in turn, which it is not given.
        let asked = Box::pin(conversation.ask(fetch, Bytes::new(), None, &mut sink));
        match asked.await? {
            Answer::Fetched(bytes) => Ok(Some(bytes)),
            Answer::Refused(refused) => Err(Broken::Source(refused)),
            _ => unreachable!("the exchange takes only the answer to its request"),
        }
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passing")
            .field("index", &self.index())
            .finish_non_exhaustive()
    }
}
