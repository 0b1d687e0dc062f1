//! What becomes of a session between its calls: it is saved, rests, is put back, and ends.

use spore_bundle::image::Image;
use spore_bundle::{Bundle, BundleId};
use spore_transport::RefusalCode;
use spore_transport::message::Refused;

use super::{Alive, Charged, Kept, Saved, Session, State, Turn};
use crate::code::chain;
use crate::scheduler::lock;
use crate::snapshot::{self, Around};

impl Session {
    /// The image of what the session is now. Takes one if a call has run since the last.
    async fn image(&self, kept: &mut Kept) -> Result<Image, Refused> {
        let Kept {
            state,
            image,
            changed,
            ..
        } = kept;
        let alive = match state {
            State::Live(alive) => alive,
            State::Resting => {
                let image = image.as_ref().expect("a session rests as its image");
                return Ok(image.image.clone());
            }
            State::Poisoned(why) => {
                return Err(Refused::new(RefusalCode::SessionPoisoned, why.clone()));
            }
            State::Closed => {
                return Err(Refused::new(
                    RefusalCode::UnknownSession,
                    self.id.to_string(),
                ));
            }
        };
        if let (Some(image), false) = (&*image, *changed) {
            return Ok(image.image.clone());
        }
        let left_open = alive.store.data_mut().files_left_open();
        if left_open > 0 {
            let what = format!("the guest has {left_open} files open between calls");
            return Err(Refused::new(RefusalCode::NoImage, what));
        }
        let around = Around {
            bound: alive.bound.into_iter().collect(),
            run: None,
            directories: alive.store.data().directories(),
        };
        let last = image.as_ref().map(|it| &it.image);
        let Alive {
            store,
            instance,
            memory,
            ..
        } = &mut **alive;
        let taken = snapshot::take(store, *instance, *memory, self.code(), around, last).await;
        let taken = taken.map_err(|error| Refused::new(RefusalCode::NoImage, chain(&error)))?;
        // Both are there for a moment; the room is that of the new one.
        *image = None;
        *image = Some(Charged::take(&self.key, taken.clone())?);
        *changed = false;
        Ok(taken)
    }
}

/// Saves a session.
pub(crate) async fn save(turn: Turn) -> Result<Saved, Refused> {
    let (session, mut kept, _busy) = turn.taken().await;
    let image = session.image(&mut kept).await?;
    let known: std::collections::HashSet<_> = kept
        .saved
        .iter()
        .filter_map(Bundle::image)
        .flat_map(|image| image.index().ids.iter().copied())
        .collect();
    let new = image.distinct().into_iter();
    let blocks_new = new.filter(|(id, _)| !known.contains(id)).count() as u64;
    let bundle = session.bundle.with_image(image).map_err(|error| {
        let what = chain(&error);
        Refused::new(RefusalCode::NoImage, what)
    })?;
    kept.saved = Some(bundle.clone());
    session.note(&kept);
    Ok(Saved { bundle, blocks_new })
}

/// Keeps the instance as its image from now on, if it may.
pub(crate) async fn rest(turn: Turn) {
    let (session, mut kept, busy) = turn.taken().await;
    if matches!(kept.state, State::Live(_)) {
        match session.image(&mut kept).await {
            Ok(_) => kept.state = State::Resting,
            // It stays as it is: for want of room, or with a file open.
            Err(refused) => tracing::debug!(session = %session.id, %refused, "not at rest"),
        }
        session.note(&kept);
    }
    // Its own look at the session is no use of it.
    let used = lock(&session.notes).used;
    drop((kept, busy));
    lock(&session.notes).used = used;
}

/// Puts a session back to what it was last saved as.
pub(crate) async fn restore(turn: Turn) -> Result<(), Refused> {
    let (session, mut kept, _busy) = turn.taken().await;
    if matches!(kept.state, State::Closed) {
        let id = session.id.to_string();
        return Err(Refused::new(RefusalCode::UnknownSession, id));
    }
    let Some(saved) = kept.saved.as_ref().and_then(Bundle::image).cloned() else {
        let what = "it was never saved, so that there is nothing to restore";
        return Err(Refused::new(RefusalCode::NoImage, what));
    };
    kept.image = None;
    kept.image = Some(Charged::take(&session.key, saved)?);
    kept.state = State::Resting;
    kept.from_outside = true;
    kept.changed = false;
    session.note(&kept);
    Ok(())
}

/// Ends a session; with `expected`, only while its state is still that of this saved bundle.
pub(crate) async fn close(turn: Turn, expected: Option<BundleId>) -> Result<(), Refused> {
    let (session, mut kept, _busy) = turn.taken().await;
    if matches!(kept.state, State::Closed) {
        let id = session.id.to_string();
        return Err(Refused::new(RefusalCode::UnknownSession, id));
    }
    if let Some(expected) = expected {
        let saved = kept.saved.as_ref().filter(|saved| saved.id() == expected);
        let same = |saved: &Bundle| {
            let (saved, last) = (saved.image(), kept.image.as_ref().map(|it| &it.image));
            saved.map(Image::index_bytes) == last.map(Image::index_bytes)
        };
        if kept.changed || !saved.is_some_and(same) {
            return Err(Refused::new(RefusalCode::SessionChanged, ""));
        }
    }
    kept.state = State::Closed;
    kept.image = None;
    Ok(())
}
