//! Blobs on their way from callers to the store.
//!
//! A blob may be used as soon as it is verified; that it is on disk is waited for only where the
//! caller was promised so. Until then it waits here, within the budget of uploads.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use spore_transport::message::{Blob, Refused};
use spore_transport::{BlobId, PublicKey, RefusalCode};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::collector::Collector;
use crate::callers::KeyState;
use crate::code::chain;
use crate::room::{Budget, Room};
use crate::scheduler::lock;
use crate::store::{Store, StoreError, Verified};

/// Bytes of an upload that are passed on together to be hashed. A piece is one datagram's worth at
/// most, and waking the other thread for each cost more than the hash.
const BATCH_BYTES: usize = 256 << 10;

/// Pieces that are passed on together: a peer may send single bytes.
const BATCH_PIECES: usize = 4096;

/// Time that an upload waits for room before it is refused.
const ROOM_WAIT: Duration = Duration::from_secs(60);

/// The store, and what is on its way there.
pub(crate) struct Blobs {
    pub(crate) store: Arc<Store>,
    pending: Mutex<HashMap<BlobId, Pending>>,
    budget: Budget,
    budget_bytes: u64,
    flights: Mutex<HashMap<(PublicKey, BlobId), watch::Receiver<()>>>,
    background: Handle,
}

struct Pending {
    blob: Verified,
    /// Writes under way: for whom, and how many.
    owners: HashMap<PublicKey, usize>,
}

impl Blobs {
    pub(crate) fn new(store: Arc<Store>, uploads_bytes: u64, background: Handle) -> Arc<Blobs> {
        Arc::new(Blobs {
            store,
            pending: Mutex::default(),
            budget: Budget::new(uploads_bytes),
            budget_bytes: uploads_bytes,
            flights: Mutex::default(),
            background,
        })
    }

    /// Whether the key may use the blob, and it is here.
    pub(crate) fn has(&self, key: &PublicKey, id: &BlobId) -> bool {
        lock(&self.pending)
            .get(id)
            .is_some_and(|pending| pending.owners.contains_key(key))
            || self.store.may_use(key, id)
    }

    /// Reads a blob that the key may use. Blocks.
    pub(crate) fn read(
        &self,
        key: &PublicKey,
        id: &BlobId,
    ) -> Result<Option<Verified>, StoreError> {
        let waiting = lock(&self.pending)
            .get(id)
            .filter(|pending| pending.owners.contains_key(key))
            .map(|pending| pending.blob.clone());
        match waiting {
            Some(blob) => Ok(Some(blob)),
            None => self.store.read(key, id),
        }
    }

    /// Lets the key use the blob from now on, and writes it to disk. The handle yields once it is
    /// durable.
    pub(crate) fn put(
        self: &Arc<Self>,
        key: PublicKey,
        blob: Verified,
        room: Option<UploadRoom>,
    ) -> tokio::task::JoinHandle<Result<(), StoreError>> {
        let id = blob.id();
        *lock(&self.pending)
            .entry(id)
            .or_insert_with(|| Pending {
                blob: blob.clone(),
                owners: HashMap::new(),
            })
            .owners
            .entry(key)
            .or_default() += 1;
        let this = self.clone();
        self.background.spawn_blocking(move || {
            let written = this.store.write(&key, &blob);
            if let Err(error) = &written {
                tracing::error!(blob = %id, error = chain(error), "a blob was not stored");
            }
            let mut pending = lock(&this.pending);
            if let Some(waiting) = pending.get_mut(&id) {
                if let Some(writes) = waiting.owners.get_mut(&key) {
                    *writes -= 1;
                    if *writes == 0 {
                        waiting.owners.remove(&key);
                    }
                }
                if waiting.owners.is_empty() {
                    pending.remove(&id);
                }
            }
            drop(room);
            written
        })
    }

    /// Sorts missing blobs into those that this request is to ask for, and those that another
    /// request of the same key has asked for already.
    pub(crate) fn claim(self: &Arc<Self>, key: PublicKey, missing: &[BlobId]) -> Claims {
        let mut flights = lock(&self.flights);
        let mut claims = Claims {
            mine: Vec::new(),
            others: Vec::new(),
        };
        for id in missing.iter().copied().collect::<HashSet<_>>() {
            match flights.get(&(key, id)) {
                Some(flight) => claims.others.push(flight.clone()),
                None => {
                    let (landed, flight) = watch::channel(());
                    flights.insert((key, id), flight);
                    claims.mine.push(Claim {
                        blobs: self.clone(),
                        key,
                        id,
                        _landed: landed,
                    });
                }
            }
        }
        claims
    }

    /// Begins to receive a blob: waits for room in the budget of the key, and in that of all.
    pub(crate) async fn receive(
        &self,
        key: &Arc<KeyState>,
        blob: Blob,
    ) -> Result<Reception, Refused> {
        let room = async {
            UploadRoom {
                _of_key: key.uploads.take(blob.raw_bytes).await,
                _of_all: self.budget.take(blob.raw_bytes).await,
                _key: key.clone(),
            }
        };
        let Ok(room) = tokio::time::timeout(ROOM_WAIT, room).await else {
            let refused = Refused::new(RefusalCode::QueueFull, "bytes of uploads under way");
            return Err(refused.past(self.budget_bytes, None));
        };
        Ok(Reception {
            stage: Stage::Here(Box::new(Collector::new(blob)?)),
            batch: Vec::new(),
            batch_bytes: 0,
            background: self.background.clone(),
            room,
        })
    }
}

/// Room for an upload, until it is on disk. Keeps the key known meanwhile: one that went away and
/// came back would get a new budget.
pub(crate) struct UploadRoom {
    _of_key: Room,
    _of_all: Room,
    _key: Arc<KeyState>,
}

/// See [`Blobs::claim`].
pub(crate) struct Claims {
    pub(crate) mine: Vec<Claim>,
    pub(crate) others: Vec<watch::Receiver<()>>,
}

/// The right to ask for a blob. Whoever waits for it looks again when this goes, whether the blob
/// came or not.
pub(crate) struct Claim {
    blobs: Arc<Blobs>,
    key: PublicKey,
    id: BlobId,
    _landed: watch::Sender<()>,
}

impl Claim {
    pub(crate) fn id(&self) -> BlobId {
        self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.blobs.flights).remove(&(self.key, self.id));
    }
}

/// A blob that arrives. Its bytes are decompressed and hashed beside the I/O thread, batch by
/// batch: a thread that waited for the next piece would be lost to others while a peer is slow.
pub(crate) struct Reception {
    stage: Stage,
    batch: Vec<Bytes>,
    batch_bytes: usize,
    background: Handle,
    room: UploadRoom,
}

/// Where the part is that has arrived.
enum Stage {
    Here(Box<Collector>),
    /// With the thread that takes a batch.
    There(tokio::task::JoinHandle<Result<Box<Collector>, Refused>>),
    Refused,
}

impl Stage {
    async fn settle(&mut self) -> Result<Box<Collector>, Refused> {
        match std::mem::replace(self, Stage::Refused) {
            Stage::Here(collector) => Ok(collector),
            Stage::There(taking) => taking.await.unwrap_or_else(|_| Err(failed())),
            Stage::Refused => Err(failed()),
        }
    }
}

fn failed() -> Refused {
    Refused::new(RefusalCode::Internal, "an upload failed")
}

impl Reception {
    /// Takes a piece; waits when the hash is behind.
    pub(crate) async fn push(&mut self, piece: Bytes) -> Result<(), Refused> {
        self.batch_bytes += piece.len();
        self.batch.push(piece);
        if self.batch_bytes < BATCH_BYTES && self.batch.len() < BATCH_PIECES {
            return Ok(());
        }
        let mut collector = self.stage.settle().await?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.stage = Stage::There(self.background.spawn_blocking(move || {
            collector.push(batch)?;
            Ok(collector)
        }));
        Ok(())
    }

    /// Ends what arrives and gives its bytes, which are to be checked part by part.
    pub(crate) async fn finish_unchecked(mut self) -> Result<(Bytes, UploadRoom), Refused> {
        let mut collector = self.stage.settle().await?;
        let batch = self.batch;
        let whole = self.background.spawn_blocking(move || {
            collector.push(batch)?;
            collector.finish_unchecked()
        });
        Ok((whole.await.unwrap_or_else(|_| Err(failed()))?, self.room))
    }

    /// Ends the blob and gives it with its room in the budgets.
    pub(crate) async fn finish(mut self) -> Result<(Verified, UploadRoom), Refused> {
        let mut collector = self.stage.settle().await?;
        let batch = self.batch;
        let checked = self.background.spawn_blocking(move || {
            collector.push(batch)?;
            collector.finish()
        });
        Ok((checked.await.unwrap_or_else(|_| Err(failed()))?, self.room))
    }
}
