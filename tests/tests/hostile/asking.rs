//! Requests by hand, and bundles with images whose parts are whatever a test says they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use spore_bundle::image::{BLOCK_BYTES, Block, Index};
use spore_bundle::{BlockId, Manifest};
use spore_client::{Bundle, RefusalCode, Refused};
use spore_tests::peer::{Peer, id_of};
use spore_transport::message::{BlobKind, Encoding, Message, Missing, MissingBlob, Received};
use spore_transport::session::{Blocks, BlocksMissing};
use spore_transport::{BlobId, Connection};

/// What comes for a block that nobody has.
static ZEROS: Block = [0; BLOCK_BYTES];

/// The parts of a bundle with an image.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) manifest: Manifest,
    pub(crate) code: Bytes,
    /// The index of the image, which is the bundle's state.
    pub(crate) index: Vec<u8>,
    /// What comes for each block that is asked for. Others come as zeros.
    pub(crate) blocks: HashMap<BlockId, Arc<Block>>,
    /// What comes when items are asked for.
    pub(crate) items: Bytes,
}

impl Parts {
    /// Those of a bundle, as they are.
    pub(crate) fn of(bundle: &Bundle) -> Parts {
        let bundle = bundle.inner();
        let image = bundle.image().expect("it has an image");
        let blocks = image.distinct();
        Parts {
            manifest: bundle.manifest().clone(),
            code: bundle.code().clone(),
            index: image.index_bytes().to_vec(),
            blocks: blocks.map(|(id, block)| (id, block.clone())).collect(),
            items: Bytes::new(),
        }
    }

    /// The bundle's id.
    pub(crate) fn id(&self) -> BlobId {
        id_of(&self.part(BlobKind::Manifest))
    }

    /// The part of this kind.
    pub(crate) fn part(&self, kind: BlobKind) -> Bytes {
        match kind {
            BlobKind::Manifest => self.manifest.encode().expect("sound in itself").into(),
            BlobKind::Code => self.code.clone(),
            BlobKind::State => self.index.clone().into(),
            BlobKind::Items => self.items.clone(),
        }
    }

    /// The blocks that are asked for, one after the other.
    pub(crate) fn wanted(&self, missing: &BlocksMissing) -> Vec<u8> {
        let index = Index::decode(&self.index).expect("the host has read it");
        let mut seen = HashSet::new();
        let ids = index.ids.into_iter();
        let distinct: Vec<BlockId> = ids.filter(|id| seen.insert(*id)).collect();
        let mut bytes = Vec::new();
        for place in missing.missing.places() {
            let block = self.blocks.get(&distinct[place]);
            bytes.extend_from_slice(block.map_or(&ZEROS[..], |block| &block[..]));
        }
        bytes
    }

    /// Brings the blocks that are asked for.
    pub(crate) async fn bring_blocks(&self, peer: &mut Peer, missing: &BlocksMissing) {
        let wanted = self.wanted(missing);
        let bytes = wanted.len() as u64;
        peer.say(&Message::Blocks(Blocks {
            index: missing.index,
            encoding: Encoding::Raw,
            raw_bytes: bytes,
            wire_bytes: bytes,
        }))
        .await;
        peer.pour(wanted).await;
    }

    /// Asks for something about the bundle, and brings every part that the host asks for. Gives what
    /// the request comes to, and how many blocks were asked for.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        request: &Message,
    ) -> (Message, u64) {
        let mut peer = Peer::open(connection).await;
        peer.say(request).await;
        self.answer_on(&mut peer).await
    }

    /// The same for a request that was made on a stream of the test's own.
    pub(crate) async fn answer_on(&self, peer: &mut Peer) -> (Message, u64) {
        let mut asked = 0;
        loop {
            match peer.message().await {
                Message::Missing(Missing { blobs }) => {
                    for MissingBlob { kind, .. } in blobs {
                        peer.honest_blob(&self.part(kind)).await;
                    }
                }
                Message::BlocksMissing(missing) => {
                    asked += missing.missing.len();
                    self.bring_blocks(peer, &missing).await;
                }
                Message::Output(_) | Message::Progress(_) => {}
                outcome => return (outcome, asked),
            }
        }
    }
}

/// Asks for something that brings nothing along, and gives what it comes to.
pub(crate) async fn ask(connection: &Connection, request: &Message) -> Message {
    let mut peer = Peer::open(connection).await;
    peer.say(request).await;
    outcome(&mut peer).await
}

/// What a request comes to. What is said before it, and its payload, are passed over.
pub(crate) async fn outcome(peer: &mut Peer) -> Message {
    let mut found = None;
    loop {
        match (peer.hear().await, found.is_some()) {
            (Ok(Received::Message(Message::Output(_) | Message::Progress(_))), false) => {}
            (Ok(Received::Message(message)), false) => found = Some(message),
            (Ok(Received::Data(_)), true) => {}
            (Ok(Received::End), true) => return found.expect("it has come"),
            (other, _) => panic!("expected one outcome, got {other:?} with {found:?}"),
        }
    }
}

/// The refusal that a request has come to.
#[track_caller]
pub(crate) fn refused(message: Message, code: RefusalCode, what: &str) -> Refused {
    match message {
        Message::Refused(refused) if refused.code == code => refused,
        other => panic!(
            "{what}: expected the refusal {}, got {other:?}",
            code.name()
        ),
    }
}
