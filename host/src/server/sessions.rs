//! Requests about sessions, and blobs and blocks that are fetched.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use spore_bundle::image::{BLOCK_BYTES, Image, ImageError, Partial};
use spore_bundle::{Bundle, BundleId, Manifest, PartsError};
use spore_transport::exchange::HostEvent;
use spore_transport::message::{Blob, Encoding, Message, Refused, Timing};
use spore_transport::packing;
use spore_transport::session::{
    BlockSet, BlocksMissing, Fetch, FetchBlocks, Fetched, Origin, SessionCall, SessionClose,
    SessionClosed, SessionGiveUp, SessionOpen, SessionOpened, SessionRestore, SessionSave,
    SessionSaved, SessionTakeOver, Sessions,
};
use spore_transport::{BlobId, RefusalCode, SessionId, StreamError};

use super::blobs::UploadRoom;
use super::loading::refuse_parts;
use super::stream::{End, Serving};
use crate::background::FreedBeside;
use crate::events::Outcome;
use crate::limits::nanos;
use crate::session::SessionRequest;
use crate::store::Verified;

impl Serving {
    /// Opens a session; one that comes from another host is kept there and held.
    pub(super) async fn session_open(
        &mut self,
        open: SessionOpen,
        from: Option<Origin>,
    ) -> Result<(), End> {
        let began = Instant::now();
        let bundle = {
            let _turn = self.turn_to_load().await?;
            let named = self.manifest(open.bundle).await?;
            self.obtain(&named.parts).await?;
            self.assemble(&named, self.known_code(&named)).await?
        };
        let timing = Timing {
            transfer_ns: nanos(began.elapsed()),
            ..Timing::default()
        };
        let idle = open.idle_ms.map(Duration::from_millis);
        let peer = self.peer.clone();
        let bundle = FreedBeside::new(bundle, peer.host.background());
        let opening = async move {
            let opening =
                peer.host
                    .open_session(&peer.caller, &bundle, &open.limits, idle, from, timing);
            opening.await
        };
        let (session, mut running) = self.wait_for(opening).await??;
        self.forget_arrived();
        // A session that did not come about is none: its id was told to nobody.
        let ended = self.follow(&mut running).await;
        if let Ok(finished) = &ended
            && matches!(finished.outcome, Outcome::Value(_))
        {
            if from.is_some() {
                self.keep_arrived(session).await?;
            }
            let opened = Message::SessionOpened(SessionOpened { session });
            return self.answer(opened).await;
        }
        self.peer.host.forget_session(session);
        self.outcome(ended?).await
    }

    /// Has a session that arrived be on the disk.
    async fn keep_arrived(&mut self, session: SessionId) -> Result<(), End> {
        let peer = self.peer.clone();
        let saving = async move { peer.host.save_session(&peer.caller, session).await };
        match self.wait_for(saving).await {
            Ok(Ok(_)) => Ok(()),
            // Its client can ask for it again: nobody knows of this one.
            Ok(Err(refused)) => {
                let peer = self.peer.clone();
                let closing =
                    async move { peer.host.close_session(&peer.caller, session, None).await };
                // If it cannot be removed from the disk either, its owner sees it there.
                let _ = self.wait_for(closing).await?;
                Err(refused.into())
            }
            Err(end) => Err(end),
        }
    }

    pub(super) async fn session_call(&mut self, call: SessionCall, items: bool) -> Result<(), End> {
        let began = Instant::now();
        // In line from now on: requests of a session come one after the other.
        let place = self
            .peer
            .host
            .session_place(&self.peer.caller, call.session)?;
        let key = self.peer.caller.state.clone();
        let room = key.arguments.take(call.args_bytes);
        let room = self.wait_unread(room).await?;
        let arguments = self.arguments(call.args_bytes).await?;
        let request = SessionRequest {
            callable: call.callable,
            arguments,
            limits: call.limits,
            seed: call.seed,
            items,
            timing: Timing {
                transfer_ns: nanos(began.elapsed()),
                ..Timing::default()
            },
        };
        let host = &self.peer.host;
        let mut running = host.call_in_place(&self.peer.caller, place, request);
        let followed = self.follow(&mut running).await;
        if matches!(&followed, Err(End::Gone(StreamError::Connection(error))) if error.is_lost()) {
            // Its session is kept beyond the connection: it need not be stopped half-way.
            running.see_off(room);
        }
        self.outcome(followed?).await
    }

    pub(super) async fn session_save(&mut self, save: SessionSave) -> Result<(), End> {
        let peer = self.peer.clone();
        let saving = async move { peer.host.save_session(&peer.caller, save.session).await };
        let saved = self.wait_for(saving).await??;
        let blocks = saved
            .bundle
            .image()
            .map_or(0, |it| it.index().numbers.len());
        self.answer(Message::SessionSaved(SessionSaved {
            bundle: BlobId(*saved.bundle.id().as_bytes()),
            blocks: blocks as u64,
            blocks_new: saved.blocks_new,
        }))
        .await
    }

    pub(super) async fn session_restore(&mut self, restore: SessionRestore) -> Result<(), End> {
        let (peer, session) = (self.peer.clone(), restore.session);
        let restoring = async move { peer.host.restore_session(&peer.caller, session).await };
        self.wait_for(restoring).await??;
        self.answer(Message::SessionOpened(SessionOpened { session }))
            .await
    }

    pub(super) async fn session_give_up(&mut self, give: SessionGiveUp) -> Result<(), End> {
        let (peer, session) = (self.peer.clone(), give.session);
        let giving = async move {
            let expected = BundleId::from(give.expected.0);
            peer.host
                .give_up_session(&peer.caller, session, expected, give.to)
                .await
        };
        self.wait_for(giving).await??;
        self.answer(Message::SessionClosed(SessionClosed { session }))
            .await
    }

    pub(super) async fn session_take_over(&mut self, take: SessionTakeOver) -> Result<(), End> {
        let (peer, session) = (self.peer.clone(), take.session);
        let taking = async move { peer.host.take_over_session(&peer.caller, session).await };
        self.wait_for(taking).await??;
        self.answer(Message::SessionOpened(SessionOpened { session }))
            .await
    }

    pub(super) async fn session_close(&mut self, close: SessionClose) -> Result<(), End> {
        let (peer, session) = (self.peer.clone(), close.session);
        let expected = close.expected.map(|id| BundleId::from(id.0));
        let closing = async move {
            peer.host
                .close_session(&peer.caller, session, expected)
                .await
        };
        self.wait_for(closing).await??;
        self.answer(Message::SessionClosed(SessionClosed { session }))
            .await
    }

    pub(super) async fn session_list(&mut self) -> Result<(), End> {
        let sessions = self.peer.host.sessions(&self.peer.caller);
        self.answer(Message::Sessions(Sessions { sessions }.cut()))
            .await
    }

    /// Sends back a blob: one that the key has uploaded, or a part of what a session of its was
    /// saved as.
    pub(super) async fn fetch(&mut self, fetch: Fetch) -> Result<(), End> {
        let _turn = self.turn_to_load().await?;
        let (host, caller) = (&self.peer.host, &self.peer.caller);
        let saved = self
            .saved_part(fetch.blob)
            .or_else(|| host.held_items(caller, fetch.blob));
        let bytes = match saved {
            Some(bytes) => bytes,
            None => match self.read(fetch.blob).await? {
                Some(blob) => blob.bytes().clone(),
                None => {
                    let id = fetch.blob.to_string();
                    return Err(Refused::new(RefusalCode::UnknownBundle, id).into());
                }
            },
        };
        self.fetched(bytes).await
    }

    /// Sends back blocks of an image that a session of the key's was saved as.
    pub(super) async fn fetch_blocks(&mut self, fetch: FetchBlocks) -> Result<(), End> {
        let _turn = self.turn_to_load().await?;
        let Some(image) = self.saved_image(fetch.index) else {
            let id = fetch.index.to_string();
            return Err(Refused::new(RefusalCode::UnknownBundle, id).into());
        };
        let blocks = self
            .beside(move || some_blocks(&image, &fetch.wanted))
            .await?;
        let Some(bytes) = blocks else {
            let what = "a block that the index does not name";
            return Err(Refused::new(RefusalCode::Malformed, what).into());
        };
        self.fetched(bytes).await
    }

    async fn fetched(&mut self, bytes: Bytes) -> Result<(), End> {
        let raw_bytes = bytes.len() as u64;
        let (encoding, payload) = match self.peer.near {
            true => (Encoding::Raw, bytes),
            false => self.beside(move || packing::pack(bytes)).await?,
        };
        self.queue(&Message::Fetched(Fetched {
            encoding,
            raw_bytes,
            wire_bytes: payload.len() as u64,
        }));
        self.payload(payload).await
    }

    /// A part of a bundle that a session of the key's was saved as.
    fn saved_part(&self, id: BlobId) -> Option<Bytes> {
        self.saved().into_iter().find_map(|bundle| {
            let state = bundle.state_id().map(|id| *id.as_bytes());
            if *bundle.id().as_bytes() == id.0 {
                Some(bundle.manifest_bytes().clone())
            } else if *bundle.code_id().as_bytes() == id.0 {
                Some(bundle.code().clone())
            } else if state == Some(id.0) {
                bundle.state().cloned()
            } else {
                None
            }
        })
    }

    /// What sessions and jobs of the key were last saved as.
    fn saved(&self) -> Vec<Bundle> {
        let mut saved = self.peer.host.saved_sessions(&self.peer.caller);
        saved.extend(self.peer.host.saved_jobs(&self.peer.caller));
        saved.extend(self.peer.host.offered_jobs(&self.peer.caller));
        saved
    }

    fn saved_image(&self, index: BlobId) -> Option<Image> {
        let saved = self.saved();
        let is_it = |bundle: &Bundle| bundle.state_id().map(|id| *id.as_bytes()) == Some(index.0);
        saved.iter().find(|bundle| is_it(bundle))?.image().cloned()
    }

    /// The image of a bundle whose index is here: its blocks from the key's sessions, and from the
    /// client.
    pub(super) async fn image(&mut self, manifest: Bytes, index: Verified) -> Result<Image, End> {
        let limits = self.bundle_limits();
        let (index_id, index_bytes) = (index.id(), index.bytes().clone());
        let saved = self.saved();
        let read = move || {
            let manifest = Manifest::decode(&manifest)?;
            let bytes = index_bytes.len() as u64;
            let known = saved.iter().filter_map(Bundle::image);
            let partial = Partial::of_bundle(index_bytes, &manifest, known)?;
            limits.admit_image(bytes, partial.distinct_blocks())?;
            Ok(partial)
        };
        let partial = self.beside(read).await?;
        let partial = partial.map_err(|error: PartsError| refuse_parts(&error))?;
        let missing = partial.missing().iter().map(|missing| missing.place);
        let (blocks, _room) = match partial.missing().is_empty() {
            true => (Bytes::new(), None),
            false => {
                let (blocks, room) = self.blocks(index_id, BlockSet::new(missing)).await?;
                (blocks, Some(room))
            }
        };
        let image = move || {
            let (blocks, _) = blocks.as_chunks::<BLOCK_BYTES>();
            partial.complete(blocks)
        };
        let image = self.beside(image).await?;
        Ok(image.map_err(|error| match error {
            ImageError::BlockId { .. } => {
                Refused::new(RefusalCode::BlobMismatch, error.to_string())
            }
            error => refuse_parts(&error.into()),
        })?)
    }

    /// Asks the client for blocks, which are not checked here.
    async fn blocks(
        &mut self,
        index: BlobId,
        missing: BlockSet,
    ) -> Result<(Bytes, UploadRoom), End> {
        self.send(Message::BlocksMissing(BlocksMissing { index, missing }))
            .await?;
        let mut arriving = None;
        loop {
            match self.event().await? {
                HostEvent::Blocks(blocks) => {
                    // What holds for blobs holds for blocks: room first, one frame, exact length.
                    let blob = Blob {
                        id: index,
                        encoding: blocks.encoding,
                        raw_bytes: blocks.raw_bytes,
                        wire_bytes: blocks.wire_bytes,
                    };
                    let peer = self.peer.clone();
                    let room = peer.blobs.receive(&peer.caller.state, blob);
                    arriving = Some(self.wait_unread(room).await??);
                    if blocks.wire_bytes == 0 {
                        // None follow; that they are too few is found below.
                        break;
                    }
                    self.expect_bytes(blocks.wire_bytes);
                }
                HostEvent::BlocksBytes { bytes, last } => {
                    let reception = arriving.as_mut().expect("announced before its bytes");
                    reception.push(bytes).await?;
                    if last {
                        break;
                    }
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => {}
            }
        }
        self.due = None;
        let reception = arriving.expect("the loop ends with it");
        Ok(reception.finish_unchecked().await?)
    }

    pub(super) async fn answer(&mut self, message: Message) -> Result<(), End> {
        self.send(message).await?;
        self.sender.finish().await?;
        Ok(())
    }
}

/// The blocks at these places, one after the other; nothing when a place is none.
fn some_blocks(image: &Image, wanted: &BlockSet) -> Option<Bytes> {
    let most = image.distinct_ids().len();
    let count = usize::try_from(wanted.len()).map_or(most, |count| count.min(most));
    let mut bytes = BytesMut::with_capacity(count * BLOCK_BYTES);
    for place in wanted.places() {
        bytes.extend_from_slice(&image.distinct_at(place)?[..]);
    }
    Some(bytes.freeze())
}
