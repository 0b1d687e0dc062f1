//! Sessions in the folder of the user's data, between one command and the next.
//!
//! ```text
//! sessions/use/ID   locked by the command that uses the session
//! sessions/…        the shelf: see `spore_host::Shelf`
//! ```
//!
//! The shelf is open for moments only. A command that is killed leaves a session as it was before.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use spore_client::{Bundle, Home, Origin, RefusalCode, SessionId, SessionInfo, SessionState};
use spore_host::{HeldFrom, Shelf, ShelfError, Shelved};
use spore_transport::BlobId;
use spore_transport::message::CallLimits;

use crate::exit::{self, Exit, Failure, OrExit};
use crate::{output, refusal};

/// Images of all sessions here together.
const BYTES_MAX: u64 = 64 << 30;

/// A session that this command alone uses until it is dropped.
pub(super) struct LocalSession {
    home: Home,
    id: SessionId,
    _lock: File,
}

impl LocalSession {
    /// Keeps a new session; one that comes from a host is held.
    pub(super) fn create(
        home: &Home,
        id: SessionId,
        bundle: &Bundle,
        held: Option<HeldFrom>,
    ) -> Result<(), Failure> {
        let kept = shelf(home)?.keep(id, bundle.inner(), held);
        kept.map_err(|error| failure(&error, id))
    }

    /// The session of this id. Waits while another command uses it.
    pub(super) fn find(home: &Home, id: SessionId) -> Result<LocalSession, Failure> {
        // Nothing is made for one that is not there.
        if !LocalSession::exists(home, id)? {
            return Err(failure(&ShelfError::Unknown, id));
        }
        let session = LocalSession {
            _lock: lock(home, id)?,
            home: home.clone(),
            id,
        };
        // It may have been closed meanwhile.
        if LocalSession::exists(home, id)? {
            return Ok(session);
        }
        session.unlock();
        Err(failure(&ShelfError::Unknown, id))
    }

    /// What is known of it.
    pub(super) fn shelved(&self) -> Result<Shelved, Failure> {
        self.on_shelf(|shelf| shelf.find(self.id))
    }

    /// Notes that it was given up to a copy of it elsewhere.
    pub(super) fn give_up(&self, to: Origin) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.give_up(self.id, to))
    }

    /// Whether there is a session of this id.
    pub(super) fn exists(home: &Home, id: SessionId) -> Result<bool, Failure> {
        if !home.sessions_path().exists() {
            return Ok(false);
        }
        match shelf(home)?.find(id) {
            Err(ShelfError::Unknown) => Ok(false),
            // One that cannot be read is there.
            _ => Ok(true),
        }
    }

    /// Lets a session be called that was held.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.take_over(self.id))
    }

    /// What the session is now.
    ///
    /// # Errors
    ///
    /// When it is held or poisoned, or cannot be read.
    pub(super) fn bundle(&self) -> Result<Bundle, Failure> {
        self.check()?;
        let bundle = self.on_shelf(|shelf| shelf.bundle(self.id))?;
        Ok(bundle.into())
    }

    /// Reads all that the session is now, whether it can be called or not.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn check_readable(&self) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.bundle(self.id)).map(drop)
    }

    fn check(&self) -> Result<(), Failure> {
        let Shelved {
            held,
            poisoned,
            gave_up,
            ..
        } = self.shelved()?;
        if let Some(held) = held {
            return Err(refusal::of_move(RefusalCode::SessionHeld, held.origin()));
        }
        if let Some(to) = gave_up {
            return Err(refusal::of_move(RefusalCode::SessionElsewhere, to));
        }
        let Some(why) = poisoned else {
            return Ok(());
        };
        let message = format!(
            "the session was stopped within a call: {}",
            output::plain(&why)
        );
        Err(Failure::new(Exit::Refused, message).help(format!(
            "spore session restore {0}, if it was saved, or spore session close {0}",
            self.id
        )))
    }

    /// Keeps what the session is now.
    pub(super) fn keep(&self, bundle: &Bundle) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.keep(self.id, bundle.inner(), None))
    }

    /// Notes that a call did not come to its end.
    pub(super) fn poison(&self, why: &str) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.poison(self.id, why))
    }

    /// Notes what the session is now as what it is put back to.
    pub(super) fn save(&self) -> Result<Bundle, Failure> {
        self.check()?;
        let bundle = self.on_shelf(|shelf| shelf.save(self.id))?;
        Ok(bundle.into())
    }

    /// Puts the session back to what it was last saved as.
    pub(super) fn restore(&self) -> Result<(), Failure> {
        let shelved = self.shelved()?;
        if let Some(to) = shelved.gave_up {
            return Err(refusal::of_move(RefusalCode::SessionElsewhere, to));
        }
        let saved = self.on_shelf(|shelf| shelf.saved(self.id));
        let saved = saved.map_err(|failure| match self.check_readable() {
            Ok(()) => {
                let what = format!("what the session was saved as: {}", failure.message());
                Failure::new(Exit::Local, what).help(format!(
                    "the session is as it was, and can be saved anew: spore session save {}",
                    self.id
                ))
            }
            Err(_) => failure,
        })?;
        let Some(saved) = saved else {
            let message = format!("session {} was never saved", self.id);
            let failure = Failure::new(Exit::Refused, message);
            return Err(match shelved.poisoned {
                Some(_) => failure.help(format!("spore session close {}", self.id)),
                None => failure.help("it is as its last call has left it"),
            });
        };
        self.on_shelf(|shelf| shelf.keep(self.id, &saved, None))
    }

    /// Ends the session.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.on_shelf(|shelf| shelf.remove(self.id))?;
        self.unlock();
        Ok(())
    }

    /// Removes the lock of a session that is not there any more. Who waits for it finds that out.
    fn unlock(&self) {
        // One that is left says nothing.
        let _ = fs::remove_file(lock_path(&self.home, self.id));
    }

    fn on_shelf<T>(&self, ask: impl FnOnce(&Shelf) -> Result<T, ShelfError>) -> Result<T, Failure> {
        ask(&shelf(&self.home)?).map_err(|error| failure(&error, self.id))
    }

    /// Every session, in the order of their ids.
    pub(super) fn list(home: &Home) -> Result<Vec<SessionInfo>, Failure> {
        if !home.sessions_path().exists() {
            return Ok(Vec::new());
        }
        let listed = shelf(home)?.list().or_exit(Exit::Local)?.into_iter();
        Ok(listed
            .map(|(id, shelved)| match shelved {
                Ok(shelved) => info(id, shelved),
                // One that cannot be read is listed too: it can be closed.
                Err(error) => {
                    let damaged = RefusalCode::StoreDamaged;
                    SessionInfo::unavailable(id, damaged, exit::chain(&error))
                }
            })
            .collect())
    }
}

fn shelf(home: &Home) -> Result<Shelf, Failure> {
    Shelf::open(&home.sessions_path(), BYTES_MAX).or_exit(Exit::Local)
}

fn failure(error: &ShelfError, id: SessionId) -> Failure {
    match error {
        ShelfError::Unknown => {
            Failure::new(Exit::Refused, format!("there is no session {id} here"))
                .help("spore session ls lists them; one on a host needs --on HOST")
        }
        ShelfError::Damaged(_) => {
            Failure::of(Exit::Local, error).help(format!("spore session close {id}"))
        }
        error => Failure::of(Exit::Local, error),
    }
}

fn info(id: SessionId, shelved: Shelved) -> SessionInfo {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    SessionInfo {
        session: id,
        bundle: BlobId(*shelved.bundle.as_bytes()),
        name: shelved.name,
        state: match shelved.poisoned {
            Some(_) => SessionState::Poisoned,
            None => SessionState::Resting,
        },
        why: shelved.poisoned.unwrap_or_default(),
        memory_bytes: shelved.memory_bytes,
        calls: 0,
        idle_ms: now.saturating_sub(shelved.used_ms),
        idle_max_ms: None,
        idle_asked_ms: None,
        asked: CallLimits::default(),
        unavailable: None,
        saved: shelved.saved.map(|saved| BlobId(*saved.as_bytes())),
        held: shelved.held.map(|held| held.origin()),
        gave_up: shelved.gave_up,
    }
}

fn lock_path(home: &Home, id: SessionId) -> PathBuf {
    home.sessions_path().join("use").join(id.to_string())
}

/// Waits until no other command uses the session.
fn lock(home: &Home, id: SessionId) -> Result<File, Failure> {
    let path = lock_path(home, id);
    let folder = path.parent().expect("it lies in a folder");
    fs::create_dir_all(folder).or_exit(Exit::Local)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_exit(Exit::Local)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error).or_exit(Exit::Local),
    }
    output::to_stderr(b"waiting for another command that uses the session\n");
    file.lock().or_exit(Exit::Local)?;
    Ok(file)
}
