//! How a request comes to its bundle: from memory, from the store, or from the client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::{
    Bundle, BundleId, CodeId, Limits as BundleLimits, Manifest, PartsError, StateKind,
};
use spore_transport::exchange::HostEvent;
use spore_transport::message::{BlobKind, Message, Missing, MissingBlob, Refused};
use spore_transport::{BlobId, RefusalCode};

use super::blobs::Reception;
use super::stream::{Arrived, End, Serving};
use crate::bundles::Loaded;
use crate::code::chain;
use crate::store::{StoreError, Verified};

impl Serving {
    /// The bundle, compiled: kept from another call, from the store, or from the client.
    pub(super) async fn loaded(&mut self, id: BlobId) -> Result<(Arc<Loaded>, Duration), End> {
        if let Some(loaded) = self.kept(id)? {
            return Ok((loaded, Duration::ZERO));
        }
        let began = Instant::now();
        let _turn = self.turn_to_load().await?;
        if let Some(loaded) = self.kept(id)? {
            self.arrived.transfer += began.elapsed();
            return Ok((loaded, Duration::ZERO));
        }
        let named = self.manifest(id).await?;
        self.obtain(&named.parts).await?;
        let bundle = self.assemble(&named, self.known_code(&named)).await?;
        self.arrived.transfer += began.elapsed();
        self.load(bundle).await
    }

    /// The bundle as it is in memory, if the key may use all of it.
    fn kept(&self, id: BlobId) -> Result<Option<Arc<Loaded>>, Refused> {
        let bundle = BundleId::from(id.0);
        if let Some(loaded) = self.peer.host.held(&self.peer.caller, bundle) {
            return Ok(Some(loaded));
        }
        let has = |id: &BlobId| self.peer.blobs.has(&self.peer.key, id);
        if !has(&id) {
            return Ok(None);
        }
        let loaded = self.peer.host.loaded(&self.peer.caller, bundle)?;
        Ok(loaded.filter(|loaded| {
            let parts = parts(loaded.bundle().manifest());
            parts.iter().all(|(part, _)| has(part))
        }))
    }

    /// What the manifest names, which is checked against what this host accepts.
    pub(super) async fn manifest(&mut self, id: BlobId) -> Result<Named, End> {
        self.obtain(&[(id, BlobKind::Manifest)]).await?;
        let Some(blob) = self.read(id).await? else {
            return Err(Refused::new(RefusalCode::UnknownBundle, id.to_string()).into());
        };
        let limits = self.bundle_limits();
        // A manifest is many times larger once it is decoded, and never comes to this thread.
        let looked_at = move || {
            let manifest = Manifest::decode(blob.bytes())?;
            limits.admit(&manifest)?;
            Ok(Named::of(id, &manifest))
        };
        let named = self.beside(looked_at).await?;
        Ok(named.map_err(|error: PartsError| refuse_parts(&error))?)
    }

    pub(super) fn bundle_limits(&self) -> BundleLimits {
        let limits = self.peer.host.limits();
        BundleLimits {
            code_bytes_max: limits.code,
            state_bytes_max: limits.state,
        }
    }

    /// The code of a bundle as another that is in memory has it, if the key may use it.
    pub(super) fn known_code(&self, named: &Named) -> Option<Bytes> {
        let is_code = |(_, kind): &&(BlobId, BlobKind)| *kind == BlobKind::Code;
        let (id, _) = named.parts.iter().find(is_code)?;
        let has = self.peer.blobs.has(&self.peer.key, id);
        has.then(|| self.peer.host.wasm(&CodeId::from(id.0)))?
    }

    pub(super) async fn read(&self, id: BlobId) -> Result<Option<Verified>, End> {
        if let Some(blob) = self.arrived.blobs.get(&id) {
            return Ok(Some(blob.clone()));
        }
        let (blobs, key) = (self.peer.blobs.clone(), self.peer.key);
        let error = match self.beside(move || blobs.read(&key, &id)).await? {
            Ok(blob) => return Ok(blob),
            Err(error) => error,
        };
        tracing::error!(error = chain(&error), "a blob was not read");
        match error {
            // It is gone, and asked for by the next request.
            StoreError::Damaged { .. } => Ok(None),
            _ => {
                let what = format!("the stored blob {id} could not be read");
                Err(Refused::new(RefusalCode::Internal, what).into())
            }
        }
    }

    /// What the request has brought along is not needed any more.
    pub(super) fn forget_arrived(&mut self) {
        self.arrived = Arrived::default();
    }

    /// Puts a bundle together of blobs that the key has here; of its code, if `code` is that already.
    pub(super) async fn assemble(
        &mut self,
        named: &Named,
        mut code: Option<Bytes>,
    ) -> Result<Bundle, End> {
        let gone = || Refused::new(RefusalCode::UnknownBundle, "a part was evicted meanwhile");
        let manifest = self.read(named.id).await?.ok_or_else(gone)?;
        let mut state = None;
        for (part, kind) in &named.parts {
            if *kind == BlobKind::Code && code.is_some() {
                continue;
            }
            let blob = self.read(*part).await?.ok_or_else(gone)?;
            match kind {
                // They are no part of a bundle.
                BlobKind::Manifest | BlobKind::Items => {}
                BlobKind::Code => code = Some(blob.bytes().clone()),
                BlobKind::State => state = Some(blob),
            }
        }
        let code = code.ok_or_else(gone)?;
        if named.has_image {
            let index = state.ok_or_else(gone)?;
            let manifest = manifest.bytes().clone();
            let image = self.image(manifest.clone(), index).await?;
            let checked = move || Bundle::dangerous_from_checked_image(manifest, code, image);
            let assembled = self.beside(checked).await?;
            return assembled.map_err(|error| refuse_parts(&error).into());
        }
        // Each part is `Verified` against the id that this very manifest names.
        let checked = move || {
            Bundle::dangerous_from_checked_parts(
                manifest.bytes().clone(),
                code,
                state.map(|state| state.bytes().clone()),
            )
        };
        let assembled = self.beside(checked).await?;
        assembled.map_err(|error| refuse_parts(&error).into())
    }

    /// Sees to it that the key has these blobs here, from the client if need be. Two requests of
    /// one key that miss the same blob wait for one upload.
    pub(super) async fn obtain(&mut self, wanted: &[(BlobId, BlobKind)]) -> Result<(), End> {
        loop {
            let (blobs, key) = (self.peer.blobs.clone(), self.peer.key);
            let missing =
                |id: &BlobId| !self.arrived.blobs.contains_key(id) && !blobs.has(&key, id);
            let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).filter(missing).collect();
            if ids.is_empty() {
                return Ok(());
            }
            let claims = blobs.claim(key, &ids);
            if !claims.mine.is_empty() {
                let kind = |id: BlobId| wanted.iter().find(|(wanted, _)| *wanted == id);
                let asked = claims.mine.iter().filter_map(|claim| kind(claim.id()));
                let asked = asked
                    .map(|(id, kind)| MissingBlob {
                        id: *id,
                        kind: *kind,
                    })
                    .collect();
                self.upload(Missing { blobs: asked }).await?;
            }
            drop(claims.mine);
            for mut other in claims.others {
                // It ends when the claim goes, with the blob or without.
                self.wait_for(async move { while other.changed().await.is_ok() {} })
                    .await?;
            }
        }
    }

    async fn upload(&mut self, missing: Missing) -> Result<(), End> {
        let message = Message::Missing(missing);
        // A blob that was asked for on this stream and vanished again cannot be asked for twice.
        if self.exchange.send(&message).is_err() {
            return Err(
                Refused::new(RefusalCode::StoreFull, "a blob was evicted meanwhile").into(),
            );
        }
        self.sender.queue(&message);
        self.flush().await?;
        let mut arriving: Option<(Reception, BlobKind)> = None;
        while self.exchange.blobs_open() > 0 || arriving.is_some() {
            match self.event().await? {
                HostEvent::Blob { blob, kind } => {
                    if self.is_stored(kind) {
                        self.check_quota(blob.raw_bytes)?;
                    }
                    let peer = self.peer.clone();
                    let room = peer.blobs.receive(&peer.caller.state, blob);
                    let reception = self.wait_unread(room).await??;
                    self.expect_bytes(blob.wire_bytes);
                    match blob.wire_bytes {
                        0 => self.arrive(reception, kind).await?,
                        _ => arriving = Some((reception, kind)),
                    }
                }
                HostEvent::BlobBytes { bytes, last, .. } => {
                    let (reception, _) = arriving.as_mut().expect("announced before its bytes");
                    reception.push(bytes).await?;
                    if last {
                        let (reception, kind) = arriving.take().expect("it has just taken a piece");
                        self.arrive(reception, kind).await?;
                    }
                }
                HostEvent::Absent { id, kind } => {
                    let code = match kind {
                        BlobKind::Manifest => RefusalCode::UnknownBundle,
                        BlobKind::Code | BlobKind::State | BlobKind::Items => {
                            RefusalCode::BlobAbsent
                        }
                    };
                    return Err(Refused::new(code, id.to_string()).into());
                }
                HostEvent::Cancel => return Err(Refused::new(RefusalCode::Cancelled, "").into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether such a blob is to be among the blobs of the key.
    fn is_stored(&self, kind: BlobKind) -> bool {
        !self.keeps_code_alone || kind == BlobKind::Code
    }

    /// Refuses an upload that a key with a quota of its own has no room for. Uploads under way are
    /// not counted; the budget of uploads bounds by how much they may pass it.
    fn check_quota(&self, bytes: u64) -> Result<(), Refused> {
        let quota = self.peer.caller.limits.store;
        // Without a quota the whole store is the limit, and who holds most makes room.
        if quota >= self.peer.host.limits().store {
            return Ok(());
        }
        let stored = self.peer.blobs.store.owned_bytes(&self.peer.key) + bytes;
        if stored > quota {
            let refused = Refused::new(RefusalCode::StoreFull, "bytes stored by the key");
            return Err(refused.past(quota, stored));
        }
        Ok(())
    }

    async fn arrive(&mut self, reception: Reception, kind: BlobKind) -> Result<(), End> {
        self.due = None;
        let (blob, room) = reception.finish().await?;
        if self.is_stored(kind) {
            let write = self.peer.blobs.put(self.peer.key, blob.clone(), Some(room));
            self.arrived.writes.push(write);
        } else {
            self.arrived.rooms.push(room);
        }
        self.arrived.blobs.insert(blob.id(), blob);
        Ok(())
    }
}

/// What is to be known of a manifest to bring its bundle into memory.
pub(super) struct Named {
    id: BlobId,
    /// The blobs that it names.
    pub(super) parts: Vec<(BlobId, BlobKind)>,
    /// Whether the state is an image.
    has_image: bool,
}

impl Named {
    fn of(id: BlobId, manifest: &Manifest) -> Named {
        let kind = manifest.state.map(|state| state.kind);
        Named {
            id,
            parts: parts(manifest),
            has_image: matches!(kind, Some(StateKind::Image { .. })),
        }
    }
}

/// The blobs that a manifest names.
fn parts(manifest: &Manifest) -> Vec<(BlobId, BlobKind)> {
    let code = (BlobId(*manifest.code.id.as_bytes()), BlobKind::Code);
    let state = manifest
        .state
        .map(|state| (BlobId(*state.id.as_bytes()), BlobKind::State));
    std::iter::once(code).chain(state).collect()
}

pub(super) fn refuse_parts(error: &PartsError) -> Refused {
    match error {
        PartsError::CodeTooLarge { bytes, limit } => {
            Refused::new(RefusalCode::CodeTooLarge, "").past(*limit, *bytes)
        }
        PartsError::StateTooLarge { bytes, limit } => {
            Refused::new(RefusalCode::StateTooLarge, "").past(*limit, *bytes)
        }
        PartsError::Image(spore_bundle::ImageError::UnknownLayout { .. }) => {
            Refused::new(RefusalCode::UnsupportedVersion, chain(error))
        }
        PartsError::Image(_) => Refused::new(RefusalCode::ImageMisfit, chain(error)),
        PartsError::Unsupported(_) => Refused::new(RefusalCode::UnsupportedVersion, chain(error)),
        PartsError::Manifest(spore_bundle::ManifestError::UnknownVersion { .. })
        | PartsError::Manifest(spore_bundle::ManifestError::UnknownAbi { .. }) => {
            Refused::new(RefusalCode::UnsupportedVersion, chain(error))
        }
        PartsError::Manifest(_) | PartsError::StateSize { .. } => {
            Refused::new(RefusalCode::InvalidManifest, chain(error))
        }
        _ => Refused::new(RefusalCode::InvalidModule, chain(error)),
    }
}

pub(super) fn store_refusal(error: &StoreError) -> Refused {
    match error {
        StoreError::Full { bytes, limit } => {
            Refused::new(RefusalCode::StoreFull, "").past(*limit, *bytes)
        }
        _ => Refused::new(RefusalCode::Internal, "the blob could not be stored"),
    }
}
