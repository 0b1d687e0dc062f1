//! Sessions of a host at the other end, and what is fetched from there.

use bytes::Bytes;
use spore_bundle::image::{BLOCK_BYTES, Image, ImageError, Partial};
use spore_bundle::{Bundle, BundleId, CodeId, Manifest, StateId};
use spore_transport::exchange::{ProtocolError, RESULT_BYTES_MAX_DEFAULT};
use spore_transport::message::{Message, Refused};
use spore_transport::session::{
    BlockSet, Blocks, BlocksMissing, Fetch, FetchBlocks, Origin, SessionArrive, SessionCall,
    SessionClose, SessionGiveUp, SessionInfo, SessionOpen, SessionRestore, SessionSave,
    SessionTakeOver,
};
use spore_transport::{BlobId, RefusalCode, SessionId};

use super::conversation::{Answer, Conversation};
use super::{Remote, call_of, parts_refused, refusal_of};
use crate::call::{Broken, Finished, Request, Sink};
use crate::callable::Parcel;
use crate::session::{OpenRequest, SessionError};

impl Remote {
    pub(crate) async fn open_session(
        &self,
        parcel: &Parcel,
        request: OpenRequest,
        sink: &mut Sink,
    ) -> Result<SessionId, SessionError> {
        let idle = request.idle.map(|idle| idle.as_millis());
        let open = SessionOpen {
            bundle: BlobId(*parcel.id.as_bytes()),
            limits: request.limits.asked(),
            idle_ms: idle.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        };
        let open = match request.from {
            None => Message::SessionOpen(open),
            Some(from) => Message::SessionArrive(SessionArrive { open, from }),
        };
        match self
            .ask_hearing(open, Bytes::new(), Some(&parcel.imaged()), sink)
            .await?
        {
            Answer::SessionOpened(session) => Ok(session),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn run_session(
        &self,
        session: SessionId,
        parcel: &Parcel,
        request: Request,
        sink: &mut Sink,
    ) -> Result<Finished, Broken> {
        let (_, limits) = call_of(parcel, &request);
        let mut conversation = self.conversation(limits).await?;
        let call = Message::SessionCall(session_call_of(session, &request));
        let called = conversation
            .call(&call, request.arguments, parcel, sink)
            .await;
        called.or_else(|broken| match refusal_of(&broken) {
            Some(refused) => Ok(Finished::refused(refused)),
            None => Err(broken),
        })
    }

    /// Saves a session, and brings the bundle here: what `parcel` and `last` do not have of it.
    pub(crate) async fn save_session(
        &self,
        session: SessionId,
        parcel: &Parcel,
        last: Option<&Bundle>,
    ) -> Result<Bundle, SessionError> {
        let save = Message::SessionSave(SessionSave { session });
        let saved = match self.ask(save, None).await? {
            Answer::SessionSaved(saved) => saved,
            other => return Err(other.unexpected()),
        };
        self.fetch_saved(saved.bundle, parcel, last).await
    }

    /// Brings what was saved here: what `parcel` and `last` do not have of it.
    pub(super) async fn fetch_saved(
        &self,
        saved: BlobId,
        parcel: &Parcel,
        last: Option<&Bundle>,
    ) -> Result<Bundle, SessionError> {
        let id = BundleId::from(saved.0);
        if let Some(last) = last.filter(|last| last.id() == id) {
            return Ok(last.clone());
        }
        let manifest_bytes = self.fetch(saved).await?;
        if BundleId::of(&manifest_bytes) != id {
            return Err(lie(format!("another manifest than that of {id}")));
        }
        let manifest = Manifest::decode(&manifest_bytes).map_err(|error| lie(error.to_string()))?;
        let mut here = parcel.whole().into_iter().chain(last);
        let code = match here.find(|it| it.code_id() == manifest.code.id) {
            Some(bundle) => bundle.code().clone(),
            None => {
                let code = self.fetch(BlobId(*manifest.code.id.as_bytes())).await?;
                if CodeId::of(&code) != manifest.code.id {
                    return Err(lie(format!("other code than {}", manifest.code.id)));
                }
                code
            }
        };
        let Some(state) = manifest.state else {
            return Err(lie("a saved bundle without an image".to_owned()));
        };
        let index_id = BlobId(*state.id.as_bytes());
        let index_bytes = self.fetch(index_id).await?;
        if StateId::of(&index_bytes) != state.id {
            return Err(lie(format!("another index than {}", state.id)));
        }
        let image = self.fetch_image(index_id, index_bytes, last).await?;
        Bundle::dangerous_from_checked_image(manifest_bytes, code, image)
            .map_err(|error| parts_refused(&error))
    }

    async fn fetch_image(
        &self,
        index_id: BlobId,
        index_bytes: Bytes,
        last: Option<&Bundle>,
    ) -> Result<Image, SessionError> {
        let known = last.and_then(Bundle::image);
        let partial = Partial::new(index_bytes, known);
        let partial = partial.map_err(|error| parts_refused(&error.into()))?;
        let mut bytes = Bytes::new();
        if !partial.missing().is_empty() {
            let places = partial.missing().iter().map(|missing| missing.place);
            let wanted = BlockSet::new(places);
            let fetch = Message::FetchBlocks(FetchBlocks {
                index: index_id,
                wanted,
            });
            bytes = match self.ask(fetch, None).await? {
                Answer::Fetched(bytes) => bytes,
                other => return Err(other.unexpected()),
            };
        }
        let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
        partial.complete(blocks).map_err(|error| match error {
            ImageError::BlockId { .. } => lie(error.to_string()),
            error => parts_refused(&error.into()),
        })
    }

    pub(super) async fn fetch(&self, blob: BlobId) -> Result<Bytes, SessionError> {
        match self.ask(Message::Fetch(Fetch { blob }), None).await? {
            Answer::Fetched(bytes) => Ok(bytes),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn restore_session(&self, session: SessionId) -> Result<(), SessionError> {
        let restore = Message::SessionRestore(SessionRestore { session });
        match self.ask(restore, None).await? {
            Answer::SessionOpened(_) => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn give_up_session(
        &self,
        session: SessionId,
        expected: BlobId,
        to: Origin,
    ) -> Result<(), SessionError> {
        let give = Message::SessionGiveUp(SessionGiveUp {
            session,
            expected,
            to,
        });
        match self.ask(give, None).await? {
            Answer::SessionClosed => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn take_over_session(&self, session: SessionId) -> Result<(), SessionError> {
        let take = Message::SessionTakeOver(SessionTakeOver { session });
        match self.ask(take, None).await? {
            Answer::SessionOpened(_) => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn close_session(
        &self,
        session: SessionId,
        expected: Option<BlobId>,
    ) -> Result<(), SessionError> {
        let close = Message::SessionClose(SessionClose { session, expected });
        match self.ask(close, None).await? {
            Answer::SessionClosed => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) async fn sessions(&self) -> Result<Vec<SessionInfo>, SessionError> {
        match self.ask(Message::SessionList, None).await? {
            Answer::Sessions(sessions) => Ok(sessions.sessions),
            other => Err(other.unexpected()),
        }
    }
}

/// The call of a session that a request asks for.
pub(super) fn session_call_of(session: SessionId, request: &Request) -> SessionCall {
    let mut limits = request.limits.asked();
    limits.result_bytes.get_or_insert(RESULT_BYTES_MAX_DEFAULT);
    SessionCall {
        session,
        callable: request.callable,
        limits,
        seed: request.seed,
        args_bytes: request.arguments.len() as u64,
    }
}

impl Conversation {
    /// Sends the blocks that the host lacks of the parcel's image.
    pub(super) async fn upload_blocks(
        &mut self,
        missing: &BlocksMissing,
        parcel: Option<&Parcel>,
    ) -> Result<(), Broken> {
        let unexpected = || {
            Broken::Protocol(ProtocolError::Unexpected {
                received: "BlocksMissing",
                state: "sending no such image",
            })
        };
        let bundle = parcel.and_then(Parcel::whole);
        let bytes = blocks_of(missing, bundle).ok_or_else(unexpected)?;
        let raw_bytes = bytes.len() as u64;
        let (encoding, payload) = self.pack(bytes).await;
        let blocks = Blocks {
            index: missing.index,
            encoding,
            raw_bytes,
            wire_bytes: payload.len() as u64,
        };
        self.queue(&Message::Blocks(blocks), payload);
        self.flush().await
    }
}

/// The blocks that a host lacks of the image of a bundle; nothing when they are not of that.
fn blocks_of(missing: &BlocksMissing, bundle: Option<&Bundle>) -> Option<Bytes> {
    let is_it =
        |bundle: &&Bundle| bundle.state_id().map(|id| *id.as_bytes()) == Some(missing.index.0);
    let image = bundle.filter(is_it)?.image()?;
    let blocks = missing.missing.places().take(image.distinct().len());
    let mut bytes = Vec::with_capacity(blocks.count() * BLOCK_BYTES);
    for place in missing.missing.places() {
        bytes.extend_from_slice(&image.distinct_at(place)?[..]);
    }
    Some(bytes.into())
}

pub(super) fn lie(what: String) -> SessionError {
    let what = format!("the host sent {what}");
    SessionError::Refused(Refused::new(RefusalCode::BlobMismatch, what))
}
