//! What becomes of a session between its calls: it is saved, rests, is put back, and ends.

use std::sync::Arc;
use std::time::Instant;

use spore_bundle::BundleId;
use spore_transport::RefusalCode;
use spore_transport::message::Refused;
use spore_transport::session::Origin;
use tokio::sync::OwnedMutexGuard;

use super::{Alive, Busy, Charged, Kept, Saved, SavedAs, Session, State, Turn};
use crate::code::chain;
use crate::keep::{GaveUp, SessionRecord};
use crate::scheduler::lock;
use crate::snapshot::{self, Around};

impl Session {
    /// The image of what the session is now. Takes one if a call has run since the last.
    async fn image(&self, kept: &mut Kept) -> Result<Arc<Charged>, Refused> {
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
                return Ok(image.clone());
            }
            State::Poisoned(why) => {
                return Err(Refused::new(RefusalCode::SessionPoisoned, why.clone()));
            }
            State::GaveUp(gone) => return Err(gone.refusal()),
            State::Closed => {
                return Err(Refused::new(
                    RefusalCode::UnknownSession,
                    self.id.to_string(),
                ));
            }
        };
        if let (Some(image), false) = (&*image, *changed) {
            return Ok(image.clone());
        }
        if let Some(what) = alive.store.data_mut().changed_files() {
            let what = format!("the guest {what} between calls");
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
        // Both are there for a moment; the room is that of the new one, unless the other was saved.
        *image = None;
        let charged = Charged::take(&self.key, taken)?;
        *image = Some(charged.clone());
        *changed = false;
        Ok(charged)
    }
}

/// The turn to write a session down. They come in the order in which what is to be written was seen.
pub(crate) type DiskTurn = OwnedMutexGuard<()>;

/// A save that is to be written down.
pub(crate) struct ToWrite {
    pub(crate) saved: Saved,
    /// Which of the saves of the session it is.
    pub(crate) number: u64,
    pub(crate) as_saved: SavedAs,
    pub(crate) disk: DiskTurn,
    /// It is in use until it is written: who comes from elsewhere must not end meanwhile.
    pub(crate) busy: Busy,
}

/// Saves a session, but for writing it down.
pub(crate) async fn save(turn: Turn) -> Result<ToWrite, Refused> {
    let (session, mut kept, busy) = turn.taken().await;
    let image = session.image(&mut kept).await?;
    let saved = SavedAs::within(session.key.state_max, &session.bundle, image)?;
    let (bundle, blocks_new) = (saved.bundle.clone(), saved.blocks_new(kept.saved.as_ref()));
    kept.saves += 1;
    let number = kept.saves;
    kept.saved = Some(saved.clone());
    session.note(&kept);
    let disk = session.disk.clone().lock_owned().await;
    Ok(ToWrite {
        saved: Saved { bundle, blocks_new },
        number,
        as_saved: saved,
        disk,
        busy,
    })
}

/// Takes a save back that could not be written down, unless there was another since: the session was
/// saved as what was written last. Whoever calls does not have the turn at the disk, which the next save
/// waits for.
pub(crate) async fn unsave(turn: Turn, number: u64, failed: SavedAs) {
    let (session, mut kept, _busy) = turn.taken().await;
    let is_over = matches!(kept.state, State::GaveUp(_) | State::Closed);
    if kept.saves != number || is_over {
        return;
    }
    let written = lock(&session.written).clone();
    let is_it = |image: &Arc<Charged>| Arc::ptr_eq(image, &failed.charged);
    // It was put back to it meanwhile, and nothing has run since.
    if let (Some(written), true) = (&written, kept.from_outside)
        && matches!(kept.state, State::Resting)
        && kept.image.as_ref().is_some_and(is_it)
    {
        kept.image = Some(written.charged.clone());
    }
    kept.saved = written;
    session.note(&kept);
}

/// Keeps the instance as its image from now on, if it may.
pub(crate) async fn rest(turn: Turn) {
    let (session, mut kept, busy) = turn.taken().await;
    if matches!(kept.state, State::Live(_)) {
        match session.image(&mut kept).await {
            Ok(_) => kept.state = State::Resting,
            // It stays as it is: for want of room, or with a file open.
            Err(refused) => {
                tracing::debug!(session = %session.id, %refused, "not at rest");
                lock(&session.notes).restless = Some(Instant::now());
            }
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
    if let State::GaveUp(gone) = &kept.state {
        return Err(gone.refusal());
    }
    let Some(saved) = kept.saved.as_ref().map(|saved| saved.charged.clone()) else {
        let what = "the session was never saved, so that there is nothing to restore";
        return Err(Refused::new(RefusalCode::NoImage, what));
    };
    kept.image = Some(saved);
    kept.state = State::Resting;
    kept.from_outside = true;
    kept.changed = false;
    session.note(&kept);
    Ok(())
}

impl GaveUp {
    pub(super) fn refusal(&self) -> Refused {
        Refused::new(RefusalCode::SessionElsewhere, self.to.to_string())
    }
}

impl Kept {
    /// Whether the session is still what was saved as this bundle.
    fn is_still(&self, expected: BundleId) -> bool {
        let saved = self.saved.as_ref();
        let saved = saved.filter(|saved| saved.bundle.id() == expected);
        let same = |saved: &SavedAs| {
            let last = self.image.as_ref().map(|it| it.image.index_bytes());
            Some(saved.charged.image.index_bytes()) == last
        };
        !self.changed && saved.is_some_and(same)
    }
}

/// What came of giving a session up, once it is written down.
pub(crate) struct Giving {
    pub(crate) outcome: Result<(), Refused>,
    /// How the session is noted from now on.
    pub(crate) record: SessionRecord,
    pub(crate) disk: DiskTurn,
}

/// Gives a session up, but for writing that down: nothing runs in it from now on. If it stays, or was
/// given up to another copy, it is not given up to this copy whatever becomes of it: who hears why may be
/// about to close the copy.
pub(crate) async fn give_up(turn: Turn, expected: BundleId, to: Origin) -> Result<Giving, Refused> {
    let (session, mut kept, _busy) = turn.taken().await;
    let gave_up = GaveUp { expected, to };
    let outcome = match &kept.state {
        // It is written once more: the last time may have failed.
        State::GaveUp(gone) if *gone == gave_up => Ok(()),
        State::GaveUp(gone) => Err(gone.refusal()),
        State::Closed => {
            let id = session.id.to_string();
            return Err(Refused::new(RefusalCode::UnknownSession, id));
        }
        State::Live(_) | State::Resting | State::Poisoned(_) => {
            let changed = || Refused::new(RefusalCode::SessionChanged, "");
            let is_live = !matches!(kept.state, State::Poisoned(_));
            let is_it = is_live && kept.is_still(expected) && !session.has_refused(&to);
            session
                .check_not_held()
                .and_then(|()| is_it.then_some(()).ok_or_else(changed))
        }
    };
    if outcome.is_err() && !session.has_refused(&to) {
        session.note_refused(to);
    }
    if outcome.is_ok() {
        kept.state = State::GaveUp(gave_up);
        kept.image = None;
        kept.saved = None;
        session.note(&kept);
    }
    let disk = session.disk.clone().lock_owned().await;
    let record = match &kept.state {
        State::GaveUp(gone) => {
            // Nothing that is written before this is what it is put back to, nor takes room.
            *lock(&session.written) = None;
            session.gave_up_record(gone.expected, gone.to)
        }
        _ => session.record(session.held()),
    };
    Ok(Giving {
        outcome,
        record,
        disk,
    })
}

/// When a session is to end.
pub(crate) enum Close {
    /// However it is.
    Always,
    /// While its state is still that of this saved bundle.
    Unchanged(BundleId),
    /// If nobody has used it for as long as it may wait.
    Unused,
}

/// Ends a session, if it is to.
pub(crate) async fn close(turn: Turn, when: Close) -> Result<DiskTurn, Refused> {
    let (session, mut kept, _busy) = turn.taken().await;
    // One that was closed and is still there could not be removed from the disk.
    if matches!((&kept.state, &when), (State::Closed, Close::Unchanged(_))) {
        let id = session.id.to_string();
        return Err(Refused::new(RefusalCode::UnknownSession, id));
    }
    if let Close::Unused = when
        && (lock(&session.notes).used.elapsed() < session.idle || session.waits_for_owner())
    {
        return Err(Refused::new(RefusalCode::SessionChanged, "it is used"));
    }
    match (&kept.state, when) {
        (State::GaveUp(gone), Close::Unchanged(_)) => return Err(gone.refusal()),
        (_, Close::Unchanged(expected)) if !kept.is_still(expected) => {
            return Err(Refused::new(RefusalCode::SessionChanged, ""));
        }
        _ => {}
    }
    kept.state = State::Closed;
    kept.image = None;
    Ok(session.disk.clone().lock_owned().await)
}
