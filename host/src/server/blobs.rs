//! Blobs on their way from callers to the store.
//!
//! A blob may be used as soon as it is verified; that it is on disk is waited for only where the
//! caller was promised so. Until then it waits here, within the budget of uploads.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use spore_transport::message::{Blob, Encoding, Refused};
use spore_transport::{BlobId, PublicKey, RefusalCode};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::code::chain;
use crate::scheduler::lock;
use crate::store::{Collecting, NotTheBlob, Store, StoreError, Verified};

/// Unit of the budget of uploads, in bytes: a semaphore counts 32 bits.
const BUDGET_UNIT: u64 = 1024;

/// Pieces of an upload that wait to be hashed. Each is at most one datagram's worth, so this
/// bounds what a fast peer makes wait.
const PIECES_WAITING: usize = 64;

/// Largest window of a zstd frame that is accepted, as a power of two: 32 MiB. A frame may demand
/// its window as memory before it yields a byte.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// The store, and what is on its way there.
pub(crate) struct Blobs {
    pub(crate) store: Arc<Store>,
    pending: Mutex<HashMap<BlobId, Pending>>,
    budget: Arc<Semaphore>,
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
        let units = usize::try_from(uploads_bytes / BUDGET_UNIT).unwrap_or(usize::MAX);
        Arc::new(Blobs {
            store,
            pending: Mutex::default(),
            budget: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
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
        room: Option<OwnedSemaphorePermit>,
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

    /// Begins to receive a blob: waits for room in the budget of uploads.
    pub(crate) async fn receive(&self, blob: Blob) -> Result<Reception, Refused> {
        let units = u32::try_from(blob.raw_bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let room = self.budget.clone().acquire_many_owned(units).await;
        let room = room.expect("the semaphore is never closed");
        let (pieces, arriving) = mpsc::channel(PIECES_WAITING);
        let collected = self
            .background
            .spawn_blocking(move || collect(blob, arriving));
        Ok(Reception {
            pieces: Some(pieces),
            collected,
            room,
        })
    }
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

/// A blob that arrives. Its bytes are decompressed and hashed beside the I/O thread.
pub(crate) struct Reception {
    pieces: Option<mpsc::Sender<Bytes>>,
    collected: tokio::task::JoinHandle<Result<Verified, Refused>>,
    room: OwnedSemaphorePermit,
}

impl Reception {
    /// Takes a piece; waits when the hash is behind.
    pub(crate) async fn push(&mut self, piece: Bytes) {
        if let Some(pieces) = &self.pieces {
            // A collector that refused has gone; `finish` says why.
            let _ = pieces.send(piece).await;
        }
    }

    /// Ends the blob and gives it with its room in the budget.
    pub(crate) async fn finish(mut self) -> Result<(Verified, OwnedSemaphorePermit), Refused> {
        self.pieces = None;
        let collected = self.collected.await;
        let blob =
            collected.map_err(|_| Refused::new(RefusalCode::Internal, "an upload failed"))??;
        Ok((blob, self.room))
    }
}

/// Takes the pieces of a blob until the last. Blocks.
fn collect(blob: Blob, mut pieces: mpsc::Receiver<Bytes>) -> Result<Verified, Refused> {
    let refuse = |what: NotTheBlob| match what {
        NotTheBlob::Length(actual) => Refused::new(RefusalCode::BlobEncoding, blob.id.to_string())
            .past(blob.raw_bytes, actual),
        NotTheBlob::Id(found) => Refused::new(
            RefusalCode::BlobMismatch,
            format!("{} came as {found}", blob.id),
        ),
    };
    let mut collecting = Collecting::new(blob.raw_bytes);
    match blob.encoding {
        Encoding::Raw => {
            while let Some(piece) = pieces.blocking_recv() {
                collecting.push(&piece).map_err(refuse)?;
            }
        }
        Encoding::Zstd => {
            let broken = |error: std::io::Error| {
                Refused::new(RefusalCode::BlobEncoding, format!("{}: {error}", blob.id))
            };
            let source = Pieces {
                pieces,
                piece: Bytes::new(),
            };
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(broken)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(broken)?;
            let mut decoder = decoder.single_frame();
            let mut buffer = vec![0; 64 << 10];
            loop {
                match std::io::Read::read(&mut decoder, &mut buffer).map_err(broken)? {
                    0 => break,
                    read => collecting.push(&buffer[..read]).map_err(refuse)?,
                }
            }
            let mut rest = decoder.finish();
            if std::io::BufRead::fill_buf(&mut rest).is_ok_and(|rest| !rest.is_empty()) {
                return Err(Refused::new(
                    RefusalCode::BlobEncoding,
                    format!("{}: bytes after the end", blob.id),
                ));
            }
        }
    }
    collecting.finish(blob.id).map_err(refuse)
}

/// Arriving pieces as a reader.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl std::io::BufRead for Pieces {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        bytes::Buf::advance(&mut self.piece, amount);
    }
}

impl std::io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = std::io::BufRead::fill_buf(self)?;
        let amount = piece.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&piece[..amount]);
        std::io::BufRead::consume(self, amount);
        Ok(amount)
    }
}
